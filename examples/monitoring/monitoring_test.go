// Package monitoring has only tests: the rules of the example are those that a real Prometheus fires.
package monitoring

import (
	"bytes"
	"context"
	"encoding/json"
	"fmt"
	"net"
	"net/http"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"slices"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/sidecert/sidecert/internal/acmetest"
	"github.com/sidecert/sidecert/internal/docker/dockertest"
)

// tool skips visibly where a program is not installed, and fails in the gate.
func tool(t *testing.T, name string) string {
	t.Helper()
	path, err := exec.LookPath(name)
	if err != nil {
		if os.Getenv("CI") != "" {
			t.Fatalf("%s is missing: apt-get install prometheus", name)
		}
		t.Skipf("there is no %s: apt-get install prometheus", name)
	}
	return path
}

func TestEachAlertFiresWhenItShouldAndNotBefore(t *testing.T) {
	promtool := tool(t, "promtool")
	for _, args := range [][]string{{"check", "config", "prometheus.yaml"}, {"test", "rules", "alerts_test.yaml"}} {
		if out, err := exec.Command(promtool, args...).CombinedOutput(); err != nil {
			t.Errorf("promtool %v: %v\n%s", args, err, out)
		}
	}
	rules, err := os.ReadFile("alerts.yaml")
	if err != nil {
		t.Fatal(err)
	}
	tests, err := os.ReadFile("alerts_test.yaml")
	if err != nil {
		t.Fatal(err)
	}
	alerts := regexp.MustCompile(`- alert: (\w+)`).FindAllSubmatch(rules, -1)
	if len(alerts) == 0 {
		t.Error("there are no alerts")
	}
	for _, m := range alerts {
		if !bytes.Contains(tests, fmt.Appendf(nil, "alertname: %s\n        exp_alerts:", m[1])) {
			t.Errorf("no test fires %s", m[1])
		}
	}
}

// monitoring.yaml is laid over a project's own file; both Compose 1.29 and 2 must take it. The image is not pulled.
func TestComposeTakesTheFile(t *testing.T) {
	command := strings.Fields(os.Getenv("COMPOSE"))
	if len(command) == 0 {
		command = []string{"docker-compose"}
	}
	if _, err := exec.LookPath(command[0]); err != nil {
		t.Skipf("there is no %s", command[0])
	}
	cmd := exec.Command(command[0], append(command[1:], "-f", "../../compose/nginx.yaml", "-f", "monitoring.yaml", "config")...)
	cmd.Env = append(os.Environ(), "DOMAIN=example.org")
	out, err := cmd.CombinedOutput()
	if err != nil || !bytes.Contains(out, []byte("LISTEN: :9180")) || !bytes.Contains(out, []byte("DOMAINS: example.org")) {
		t.Errorf("%v config: %v\n%s", command, err, out)
	}
}

// A failing order, its recovery and the end of the daemon, as a real Prometheus sees them in a real sidecert.
func TestRealPrometheusFiresAndEndsTheAlerts(t *testing.T) {
	prometheus := tool(t, "prometheus")
	dir := t.TempDir()
	binary := filepath.Join(dir, "sidecert")
	if out, err := exec.Command("go", "build", "-o", binary, "../../cmd/sidecert").CombinedOutput(); err != nil {
		t.Fatalf("go build: %v\n%s", err, out)
	}
	ca, err := acmetest.Start(acmetest.Config{})
	if err != nil {
		t.Fatal(err)
	}
	defer ca.Close()
	const site = "example.test"
	page := freePort(t)
	environ := []string{"PATH=" + os.Getenv("PATH"), "DOMAINS=" + site, "RELOAD=off", "VERIFY=off", "PREFLIGHT=off", "ACME_CA=" + ca.Directory,
		"DOCKER_HOST=unix://" + filepath.Join(dir, "no.sock"), "LISTEN=" + page}
	for variable, name := range map[string]string{"CERT_DIR": "certs", "STATE_DIR": "state", "WEBROOT": "webroot"} {
		if err := os.Mkdir(filepath.Join(dir, name), 0o755); err != nil {
			t.Fatal(err)
		}
		environ = append(environ, variable+"="+filepath.Join(dir, name))
	}
	write(t, filepath.Join(dir, "ca.pem"), ca.HTTPRoots)
	environ = append(environ, "ACME_CA_BUNDLE="+filepath.Join(dir, "ca.pem"))
	daemon := start(t, environ, binary, "run")

	web := freePort(t)
	write(t, filepath.Join(dir, "alerts.yaml"), regexp.MustCompile(`for: \w+`).ReplaceAllString(read(t, "alerts.yaml"), "for: 0s"))
	config := strings.NewReplacer("sidecert:9180", page, "30s", "1s").Replace(read(t, "prometheus.yaml"))
	write(t, filepath.Join(dir, "prometheus.yaml"), config)
	start(t, os.Environ(), prometheus, "--config.file="+filepath.Join(dir, "prometheus.yaml"), "--storage.tsdb.path="+filepath.Join(dir, "tsdb"),
		"--web.listen-address="+web, "--log.level=error")

	awaitAlerts(t, web, []string{"SidecertCertificateMissing example.test", "SidecertRenewalFails example.test"})
	server, err := dockertest.StartWeb(filepath.Join(dir, "certs", "live", site), filepath.Join(dir, "webroot"), ca.HTTPPort)
	if err != nil {
		t.Fatal(err)
	}
	defer server.Close()
	renew := exec.Command(binary, "renew", site)
	renew.Env = environ
	if out, err := renew.CombinedOutput(); err != nil {
		t.Fatalf("sidecert renew: %v\n%s", err, out)
	}
	awaitAlerts(t, web, nil)
	daemon()
	awaitAlerts(t, web, []string{"SidecertDown "})
}

// start runs a program until the test or what it returns ends it.
func start(t *testing.T, environ []string, program string, args ...string) (end func()) {
	t.Helper()
	log, err := os.Create(filepath.Join(t.TempDir(), "log"))
	if err != nil {
		t.Fatal(err)
	}
	cmd := exec.Command(program, args...)
	cmd.Env, cmd.Stdout, cmd.Stderr = environ, log, log
	if err := cmd.Start(); err != nil {
		t.Fatal(err)
	}
	ended := false
	end = func() {
		if !ended {
			ended = true
			cmd.Process.Signal(syscall.SIGTERM)
			cmd.Wait()
			if t.Failed() {
				t.Logf("%s said\n%s", filepath.Base(program), read(t, log.Name()))
			}
			log.Close()
		}
	}
	t.Cleanup(end)
	return end
}

// awaitAlerts waits until exactly these fire, each with the name of its certificate.
func awaitAlerts(t *testing.T, prometheus string, want []string) {
	t.Helper()
	ctx, cancel := context.WithTimeout(t.Context(), 2*time.Minute)
	defer cancel()
	var got []string
	var err error
	for tick := time.NewTicker(200 * time.Millisecond); ; {
		if got, err = firing(ctx, prometheus); err == nil && slices.Equal(got, want) {
			return
		}
		select {
		case <-ctx.Done():
			t.Fatalf("what fires is %q (%v), want %q", got, err, want)
		case <-tick.C:
		}
	}
}

func firing(ctx context.Context, prometheus string) ([]string, error) {
	req, err := http.NewRequestWithContext(ctx, http.MethodGet, "http://"+prometheus+"/api/v1/alerts", nil)
	if err != nil {
		return nil, err
	}
	resp, err := http.DefaultClient.Do(req)
	if err != nil {
		return nil, err
	}
	defer resp.Body.Close()
	var answer struct {
		Data struct {
			Alerts []struct {
				State  string
				Labels map[string]string
			}
		}
	}
	if err := json.NewDecoder(resp.Body).Decode(&answer); err != nil {
		return nil, err
	}
	var names []string
	for _, a := range answer.Data.Alerts {
		if a.State == "firing" {
			names = append(names, a.Labels["alertname"]+" "+a.Labels["cert"])
		}
	}
	slices.Sort(names)
	return slices.Compact(names), nil
}

func freePort(t *testing.T) string {
	t.Helper()
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	defer l.Close()
	return l.Addr().String()
}

func read(t *testing.T, path string) string {
	t.Helper()
	data, err := os.ReadFile(path)
	if err != nil {
		t.Fatal(err)
	}
	return string(data)
}

func write(t *testing.T, path, text string) {
	t.Helper()
	if err := os.WriteFile(path, []byte(text), 0o644); err != nil {
		t.Fatal(err)
	}
}
