package report

import (
	"os"
	"os/exec"
	"strings"
	"testing"
	"time"

	"github.com/sidecert/sidecert/internal/cert"
)

func busy(s *Server) *Server {
	m := s.Metrics
	m.Obtained()
	m.Failed(cert.KindPassing)
	m.Failed(cert.KindUnreachable)
	m.Looked(cert.Look{Outcomes: []cert.Outcome{
		{Cert: "a", Container: "web-1", Action: "HUP", Class: cert.Current},
		{Cert: "b", Container: "web-1", Action: "HUP", Class: cert.Stale}, // the same signal
		{Cert: "a", Container: "web-2", Action: "HUP", Class: cert.Current},
		{Cert: "a", Container: "httpd-1", Action: "exec httpd -k graceful", Class: cert.Current},
		{Cert: "a", Container: "other-1", Action: "exec sh -c 'echo canary'", Class: cert.Unseen},
		{Cert: "a", Container: "quiet-1", Class: cert.Current}, // told nothing
	}})
	m.Asked("https://acme.example/directory?canary", "POST", 201, 120*time.Millisecond, noon, noon.Add(-90*time.Second))
	m.Asked("https://acme.example/directory?canary", "GET", 0, 10*time.Second, time.Time{}, noon)
	m.Passed(noon)
	return s
}

func TestMetricsTellWhatHappened(t *testing.T) {
	got := ask(busy(newTestServer(t, samples()["failures"])), "GET", "/metrics").Body.String()
	for _, want := range []string{
		`sidecert_attempts_total{kind="none",result="obtained"} 1`,
		`sidecert_attempts_total{kind="passing",result="failed"} 1`,
		`sidecert_attempts_total{kind="unreachable",result="failed"} 1`,
		`sidecert_attempts_total{kind="person",result="failed"} 0`,
		`sidecert_reloads_total{action="HUP",result="current"} 1`,
		`sidecert_reloads_total{action="HUP",result="stale"} 1`,
		`sidecert_reloads_total{action="exec",result="current"} 1`,
		`sidecert_reloads_total{action="exec",result="unseen"} 1`,
		`sidecert_acme_request_duration_seconds_count{ca="acme.example",method="POST",status="201"} 1`,
		`sidecert_acme_request_duration_seconds_sum{ca="acme.example",method="GET",status="none"} 10`,
		`sidecert_clock_skew_seconds{ca="acme.example"} -90`,
		`sidecert_last_pass_timestamp_seconds 1.7958672e+09`,
		`sidecert_build_info{goversion="go1`,
		`sidecert_certificate_not_after_timestamp_seconds{cert="example.net"} 1.7982e+09`,
		`sidecert_certificate_not_before_timestamp_seconds{cert="example.net"} 1.790424e+09`,
		`sidecert_certificate_renewal_due_timestamp_seconds{cert="example.net"} 1.795608e+09`,
		`sidecert_certificate_next_attempt_timestamp_seconds{cert="example.net"} 1.79586846e+09`,
		`sidecert_certificate_consecutive_failures{cert="example.net"} 3`,
		`sidecert_certificate_consecutive_failures{cert="example.org"} 0`,
		`sidecert_certificate_stored{cert="example.net"} 1`,
		`sidecert_certificate_stored{cert="new.example.org"} 0`,
		`sidecert_certificate_not_after_timestamp_seconds{cert="old.example.org"}`,
		`sidecert_certificate_served{cert="shop.example.com",class="stale",container="shop-proxy-1"} 1`,
		`sidecert_certificate_served{cert="shop.example.com",class="current",container="shop-proxy-1"} 0`,
		`sidecert_certificate_served{cert="shop.example.com",class="current",container="shop-web-1"} 1`,
	} {
		if !strings.Contains(got, "\n"+want) {
			t.Errorf("the metrics lack %s", want)
		}
	}
	for _, never := range []string{"canary", `not_after_timestamp_seconds{cert="new.example.org"}`, `renewal_due_timestamp_seconds{cert="old.example.org"`, `stored{cert="old.example.org"`, "go_goroutines", "quiet-1"} {
		if strings.Contains(got, never) {
			t.Errorf("the metrics have %s", never)
		}
	}
	if t.Failed() {
		t.Log(got)
	}
}

func TestMetricsAreAsPrometheusWantsThem(t *testing.T) {
	if _, err := exec.LookPath("promtool"); err != nil {
		if os.Getenv("CI") != "" {
			t.Fatal("promtool is missing: apt-get install prometheus")
		}
		t.Skip("there is no promtool: apt-get install prometheus")
	}
	for name, standing := range samples() {
		cmd := exec.Command("promtool", "check", "metrics")
		cmd.Stdin = ask(busy(newTestServer(t, standing)), "GET", "/metrics").Body
		if out, err := cmd.CombinedOutput(); err != nil || len(out) > 0 {
			t.Errorf("promtool check metrics of %s: %v\n%s", name, err, out)
		}
	}
}

func TestHostileNamesAreLabels(t *testing.T) {
	for _, text := range hostile {
		standing, _ := hostileStanding(text)
		w := ask(newServerOf(ServerConfig{Standing: func() (Standing, error) { return standing, nil }}), "GET", "/metrics")
		body := w.Body.String()
		if w.Code != 200 || !strings.Contains(body, "sidecert_certificate_stored{") || !strings.Contains(body, "sidecert_attempts_total{") {
			t.Errorf("the metrics of a certificate called %q are %d:\n%.1500s", text, w.Code, body)
		}
		for line := range strings.Lines(body) {
			if !strings.HasPrefix(line, "# ") && !strings.HasPrefix(line, "sidecert_") {
				t.Errorf("a certificate called %q makes the line %q", text, line)
			}
		}
	}
}
