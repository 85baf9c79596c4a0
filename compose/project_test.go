package compose_test

import (
	"bytes"
	"context"
	"crypto/rand"
	"crypto/tls"
	"crypto/x509"
	"encoding/hex"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"
)

// composeCommand is what runs compose files: COMPOSE, else whatever is there.
func composeCommand() []string {
	if words := strings.Fields(os.Getenv("COMPOSE")); len(words) > 0 {
		return words
	}
	if _, err := exec.LookPath("docker-compose"); err == nil {
		return []string{"docker-compose"}
	}
	return []string{"docker", "compose"}
}

// requireDocker skips a test where there is no engine or no compose.
func requireDocker(t *testing.T) {
	t.Helper()
	for _, command := range [][]string{{"docker", "version"}, append(composeCommand(), "version")} {
		_, err := run(t.Context(), nil, command...)
		require(t, err)
	}
}

// require skips a test for which something is missing on this machine; in CI, or with SIDECERT_REQUIRE_DOCKER=1, that is a failure.
func require(t *testing.T, err error) {
	t.Helper()
	switch {
	case err == nil:
	case os.Getenv("CI") == "true" || os.Getenv("SIDECERT_REQUIRE_DOCKER") == "1":
		t.Fatal(err)
	default:
		t.Skip(err)
	}
}

// images are built once, and from the sources as they are: a stale image would test something else.
var images = sync.OnceValue(func() error {
	ctx := context.Background()
	if _, err := run(ctx, nil, "../docker/test-images"); err != nil {
		return err
	}
	_, err := run(ctx, nil, append(composeCommand(), "-f", "demo.yaml", "build")...)
	return err
})

func run(ctx context.Context, environ []string, command ...string) (string, error) {
	cmd := exec.CommandContext(ctx, command[0], command[1:]...)
	cmd.Env = append(os.Environ(), environ...)
	var stdout, stderr bytes.Buffer
	cmd.Stdout, cmd.Stderr = &stdout, &stderr
	if err := cmd.Run(); err != nil {
		return stdout.String(), fmt.Errorf("%s: %w\n%s%s", strings.Join(command, " "), err, stdout.String(), stderr.String())
	}
	return stdout.String(), nil
}

// project is one compose project of a test, with a name of its own.
type project struct {
	t       *testing.T
	name    string
	files   []string
	domain  string
	environ []string
}

// newProject starts nothing yet. What it has started by the end of the test is removed with its volumes.
func newProject(t *testing.T, domain string, files ...string) *project {
	t.Helper()
	requireDocker(t)
	if err := images(); err != nil {
		t.Fatalf("build images: %v", err)
	}
	testdata, err := filepath.Abs("testdata") // relative paths in a compose file begin at the first one's folder
	if err != nil {
		t.Fatal(err)
	}
	random := make([]byte, 4)
	rand.Read(random)
	p := &project{
		t: t, name: "sidecert-test-" + hex.EncodeToString(random), files: files, domain: domain,
		environ: []string{"DOMAIN=" + domain, "EMAIL=", "HTTP_PORT=0", "HTTPS_PORT=0", "PEBBLE_PORT=0", "TESTDATA=" + testdata}, // 0: any free port
	}
	t.Cleanup(func() {
		ctx := context.WithoutCancel(t.Context())
		if t.Failed() {
			logs, _ := run(ctx, p.environ, p.command("logs", "--no-color")...)
			t.Logf("logs of %v:\n%s", files, logs)
		}
		if _, err := run(ctx, p.environ, p.command("down", "--volumes", "--remove-orphans", "--timeout", "2")...); err != nil {
			t.Errorf("clean up: %v", err)
		}
	})
	return p
}

func (p *project) command(args ...string) []string {
	command := append(composeCommand(), "--project-name", p.name)
	for _, file := range p.files {
		command = append(command, "--file", file)
	}
	return append(command, args...)
}

func (p *project) compose(args ...string) string {
	p.t.Helper()
	out, err := run(p.t.Context(), p.environ, p.command(args...)...)
	if err != nil {
		p.t.Fatal(err)
	}
	return out
}

func (p *project) docker(args ...string) (string, error) {
	return run(p.t.Context(), nil, append([]string{"docker"}, args...)...)
}

// logs are those of one service, without the prefix of compose, which the two composes write differently.
func (p *project) logs(service string) string {
	p.t.Helper()
	c, err := p.inspect(service)
	if err != nil {
		p.t.Fatal(err)
	}
	out, err := run(p.t.Context(), nil, "sh", "-c", `exec docker logs "$0" 2>&1`, c.ID)
	if err != nil {
		p.t.Fatal(err)
	}
	return out
}

// container is what `docker inspect` tells of one.
type container struct {
	ID, Name string
	Config   struct {
		Image, User string
		Labels      map[string]string
	}
	State struct {
		Status    string
		StartedAt time.Time
		Health    struct{ Status string }
	}
	HostConfig struct {
		ReadonlyRootfs bool
		NetworkMode    string
		CapAdd         []string
		RestartPolicy  struct{ Name string }
	}
	Mounts []struct {
		Destination, Name, Source string
		RW                        bool
	}
	NetworkSettings struct {
		Ports    map[string][]struct{ HostIP, HostPort string }
		Networks map[string]struct{ GlobalIPv6Address string }
	}
}

func (c container) mount(destination string) (volume string, writable, found bool) {
	for _, m := range c.Mounts {
		if m.Destination == destination {
			return m.Name, m.RW, true
		}
	}
	return "", false, false
}

// containers are those of a service, or all of the project's where it is "".
func (p *project) containers(service string) ([]container, error) {
	args := []string{"ps", "--all", "--quiet", "--no-trunc", "--filter", "label=com.docker.compose.project=" + p.name}
	if service != "" {
		args = append(args, "--filter", "label=com.docker.compose.service="+service)
	}
	ids, err := p.docker(args...)
	if err != nil || strings.TrimSpace(ids) == "" {
		return nil, err
	}
	out, err := p.docker(append([]string{"inspect"}, strings.Fields(ids)...)...)
	if err != nil {
		return nil, err
	}
	var all []container
	return all, json.Unmarshal([]byte(out), &all)
}

func (p *project) inspect(service string) (container, error) {
	all, err := p.containers(service)
	if err != nil {
		return container{}, err
	}
	if len(all) != 1 {
		return container{}, fmt.Errorf("service %s has %d containers, want 1", service, len(all))
	}
	return all[0], nil
}

func (p *project) mustInspect(service string) container {
	p.t.Helper()
	c, err := p.inspect(service)
	if err != nil {
		p.t.Fatal(err)
	}
	return c
}

// address is where a service's port is published now: it changes with each start.
func (p *project) address(service, port string) (string, error) {
	c, err := p.inspect(service)
	if err != nil {
		return "", err
	}
	published := c.NetworkSettings.Ports[port+"/tcp"]
	if high := map[string]string{"80": "8080", "443": "8443"}[port]; len(published) == 0 && high != "" { // of one that is not root
		published = c.NetworkSettings.Ports[high+"/tcp"]
	}
	if len(published) == 0 {
		return "", fmt.Errorf("%s does not publish port %s: it is %s", service, port, c.State.Status)
	}
	host := published[0].HostIP
	if ip := net.ParseIP(host); ip == nil || ip.IsUnspecified() {
		host = "127.0.0.1"
	}
	return net.JoinHostPort(host, published[0].HostPort), nil
}

// served is the chain that web shows for the domain.
func (p *project) served() ([]*x509.Certificate, error) { return p.servedBy("web", p.domain) }

func (p *project) servedBy(service, domain string) ([]*x509.Certificate, error) {
	addr, err := p.address(service, "443")
	if err != nil {
		return nil, err
	}
	return servedAt(p.t.Context(), addr, domain)
}

// servedAt is the chain that is shown for a domain at an address.
func servedAt(ctx context.Context, addr, domain string) ([]*x509.Certificate, error) {
	dialer := tls.Dialer{NetDialer: &net.Dialer{Timeout: 5 * time.Second}, Config: &tls.Config{ServerName: domain, InsecureSkipVerify: true}}
	conn, err := dialer.DialContext(ctx, "tcp", addr)
	if err != nil {
		return nil, err
	}
	defer conn.Close()
	return conn.(*tls.Conn).ConnectionState().PeerCertificates, nil
}

func isPlaceholder(c *x509.Certificate) bool {
	return slices.Contains(c.Issuer.Organization, "sidecert placeholder")
}

// trusted verifies a chain for the domain by the root that Pebble made at its start.
func (p *project) trusted(chain []*x509.Certificate) error { return p.trustedFor(p.domain, chain) }

func (p *project) trustedFor(domain string, chain []*x509.Certificate) error {
	addr, err := p.address("pebble", "15000")
	if err != nil {
		return err
	}
	client := &http.Client{Transport: &http.Transport{TLSClientConfig: &tls.Config{InsecureSkipVerify: true}, DisableKeepAlives: true}}
	resp, err := client.Get("https://" + addr + "/roots/0")
	if err != nil {
		return err
	}
	defer resp.Body.Close()
	root, err := io.ReadAll(resp.Body)
	if err != nil {
		return err
	}
	options := x509.VerifyOptions{DNSName: domain, Roots: x509.NewCertPool(), Intermediates: x509.NewCertPool()}
	if !options.Roots.AppendCertsFromPEM(root) {
		return fmt.Errorf("Pebble's root is none: %q", root)
	}
	for _, c := range chain[1:] {
		options.Intermediates.AddCert(c)
	}
	_, err = chain[0].Verify(options)
	return err
}

// awaitCertificate waits until web serves a certificate of Pebble's. Until then it may refuse connections or show the
// placeholder, and nothing else.
func (p *project) awaitCertificate(within time.Duration) *x509.Certificate {
	p.t.Helper()
	var leaf *x509.Certificate
	p.eventually(within, func() error {
		chain, err := p.served()
		if err != nil {
			return err
		}
		if isPlaceholder(chain[0]) {
			return errors.New("the placeholder is served")
		}
		leaf = chain[0]
		if err := p.trusted(chain); err != nil {
			p.t.Fatalf("web serves a certificate that is not Pebble's: issuer %s: %v", leaf.Issuer, err)
		}
		return nil
	})
	return leaf
}

// eventually asks again and again until there is no error.
func (p *project) eventually(within time.Duration, ask func() error) {
	p.t.Helper()
	deadline := time.Now().Add(within)
	for {
		err := ask()
		if err == nil {
			return
		}
		if time.Now().After(deadline) {
			p.t.Fatalf("still after %v: %v", within, err)
		}
		time.Sleep(100 * time.Millisecond)
	}
}

// get fetches a path from web by http (port 80) or https (port 443), following no redirect.
func (p *project) get(scheme, path string) (status int, body, location string) {
	p.t.Helper()
	return p.getFrom("web", scheme, path)
}

func (p *project) getFrom(service, scheme, path string) (status int, body, location string) {
	p.t.Helper()
	addr, err := p.address(service, map[string]string{"http": "80", "https": "443"}[scheme])
	if err != nil {
		p.t.Fatal(err)
	}
	client := &http.Client{
		Timeout: 10 * time.Second,
		Transport: &http.Transport{
			DialContext: func(ctx context.Context, network, _ string) (net.Conn, error) {
				return (&net.Dialer{}).DialContext(ctx, network, addr)
			},
			TLSClientConfig:   &tls.Config{InsecureSkipVerify: true}, // awaitCertificate has verified it
			DisableKeepAlives: true,
		},
		CheckRedirect: func(*http.Request, []*http.Request) error { return http.ErrUseLastResponse },
	}
	resp, err := client.Get(scheme + "://" + p.domain + path)
	if err != nil {
		p.t.Fatal(err)
	}
	defer resp.Body.Close()
	data, err := io.ReadAll(resp.Body)
	if err != nil {
		p.t.Fatal(err)
	}
	return resp.StatusCode, string(data), resp.Header.Get("Location")
}
