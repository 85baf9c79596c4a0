// Package compose_test runs the compose files as a user would: a real engine, the real web servers, and Pebble as the CA.
package compose_test

import (
	"errors"
	"fmt"
	"strings"
	"testing"
	"time"
)

const domain = "site.example.test"

// servers are the files to be copied. Each runs as it is written; testdata/pebble.yaml only adds the CA and the domain.
var servers = []server{
	{"nginx", "cannot load certificate", "(SIGHUP) received, reconfiguring", "web", nil},
	{"httpd", "does not exist or is empty", "SIGUSR1 received.  Doing graceful restart", "web", nil},
	{"socket-proxy", "cannot load certificate", "(SIGHUP) received, reconfiguring", "web", nil},
	{"haproxy", "unable to stat SSL certificate", "Reloading HAProxy", "files", []string{"<BADREQ>", "SSL handshake"}},
}

type server struct {
	name string
	// What the server logs when it starts without a certificate, and at each reload.
	missing, reloaded string
	// challenges is the service that has the challenge files: haproxy serves none.
	challenges string
	// noise is what it would log of connections that ask for nothing.
	noise []string
}

func TestDomainIsAskedFor(t *testing.T) {
	requireDocker(t)
	for _, server := range servers {
		_, err := run(t.Context(), []string{"DOMAIN="}, append(composeCommand(), "--file", server.name+".yaml", "config")...)
		if err == nil || !strings.Contains(err.Error(), "DOMAIN=www.example.org") {
			t.Errorf("%s.yaml without DOMAIN: %v, want an error that says what to write", server.name, err)
		}
	}
}

func TestSiteIsServedAfterFirstStart(t *testing.T) {
	t.Parallel()
	for _, server := range servers {
		t.Run(server.name, func(t *testing.T) {
			t.Parallel()
			p := newProject(t, domain, server.name+".yaml", "testdata/pebble.yaml")
			p.compose("up", "--detach")
			leaf := p.awaitCertificate(30 * time.Second)

			took := p.said("certificate served").Sub(p.mustInspect("sidecert").State.StartedAt)
			t.Logf("served %v after sidecert's start", took.Round(time.Millisecond)) // said, not judged: machines differ
			checkRedirect(t, p)
			checkChallengePath(t, p, server)
			checkHardening(t, p)
			checkWeb(t, p, server)
			if server.name == "socket-proxy" {
				checkSocketProxy(t, p)
			}
			checkRestarts(t, p, server)
			if chain, err := p.served(); err != nil || !chain[0].Equal(leaf) {
				t.Errorf("after all this another certificate is served (%v)", err)
			}
		})
	}
}

// said is when the daemon first logged a message, by the engine's clock.
func (p *project) said(message string) time.Time {
	p.t.Helper()
	var at time.Time
	p.eventually(10*time.Second, func() (err error) {
		out, err := run(p.t.Context(), nil, "sh", "-c", `exec docker logs --timestamps "$0" 2>&1`, p.mustInspect("sidecert").ID)
		if err != nil {
			return err
		}
		for line := range strings.Lines(out) {
			if stamp, rest, _ := strings.Cut(line, " "); strings.Contains(rest, `msg="`+message) {
				at, err = time.Parse(time.RFC3339Nano, stamp)
				return err
			}
		}
		return fmt.Errorf("sidecert has not logged %q", message)
	})
	return at
}

func checkRedirect(t *testing.T, p *project) {
	t.Helper()
	status, _, location := p.get("http", "/a/b?c=d")
	if want := "https://" + p.domain + "/a/b?c=d"; status != 301 || location != want {
		t.Errorf("http answers %d with Location %q, want 301 with %q", status, location, want)
	}
	if status, body, _ := p.get("https", "/"); status != 200 || body == "" {
		t.Errorf("https answers %d, want the site", status)
	}
}

const challengePath = "/.well-known/acme-challenge/"

func checkChallengePath(t *testing.T, p *project, server server) {
	t.Helper()
	webroot, _, _ := p.mustInspect(server.challenges).mount("/var/www/certbot")
	_, err := p.docker("run", "--rm", "--network=none", "--volume="+webroot+":/w", "nginx:1",
		"sh", "-c", "umask 022; mkdir -p /w"+challengePath+"; echo token.thumbprint >/w"+challengePath+"token; echo secret >/w/secret")
	if err != nil {
		t.Fatal(err)
	}
	_, site, _ := p.get("https", "/")
	for _, scheme := range []string{"http", "https"} {
		if status, body, _ := p.get(scheme, challengePath+"token"); status != 200 || body != "token.thumbprint\n" {
			t.Errorf("%s: the challenge is answered with %d %q", scheme, status, body)
		}
		for _, path := range []string{challengePath, challengePath + "index.html", challengePath + "absent"} {
			if status, body, _ := p.get(scheme, path); status < 400 || body == site {
				t.Errorf("%s: %s is answered with %d %q, want nothing of the site there", scheme, path, status, body)
			}
		}
	}
	if status, body, _ := p.get("https", "/secret"); status != 404 {
		t.Errorf("the webroot is served as part of the site: %d %q", status, body)
	}
}

// checkWeb is for the files to be copied: what else is hardened there than checkHardening asks of every file.
func checkWeb(t *testing.T, p *project, server server) {
	t.Helper()
	sidecert, challenges := p.mustInspect("sidecert"), p.mustInspect(server.challenges)
	for _, c := range []container{p.mustInspect("web"), sidecert, challenges} {
		if !c.HostConfig.ReadonlyRootfs {
			t.Errorf("%s: the root file system is writable", c.Name)
		}
		if policy := c.HostConfig.RestartPolicy.Name; policy != "always" {
			t.Errorf("%s: restart is %q, want always", c.Name, policy)
		}
	}
	if _, writable, found := challenges.mount("/var/www/certbot"); !found || writable {
		t.Errorf("%s: the webroot is mounted: %v, writable: %v; want it read-only", challenges.Name, found, writable)
	}
	if server.challenges == "web" {
		return // checkHardening has looked at it
	}
	for _, m := range challenges.Mounts {
		if m.Source == sidecert.source("/etc/letsencrypt") || m.Source == sidecert.source("/var/lib/sidecert") {
			t.Errorf("%s has what it does not need: %s", challenges.Name, m.Destination)
		}
	}
}

// checkSocketProxy looks at who has the engine's socket, and at what is left of it for sidecert.
func checkSocketProxy(t *testing.T, p *project) {
	t.Helper()
	proxy, sidecert := p.mustInspect("socket-proxy"), p.mustInspect("sidecert")
	if _, _, found := proxy.mount("/var/run/docker.sock"); !found || proxy.HostConfig.NetworkMode != "none" {
		t.Errorf("the proxy is %+v, want the socket, and nothing else", proxy)
	}
	for _, m := range sidecert.Mounts {
		if strings.Contains(m.Destination, "docker.sock") || m.Destination == "/run/sidecert" && m.RW {
			t.Errorf("sidecert mounts %+v, want the proxy's socket only, read-only", m)
		}
	}
	// Its findings about DNS and the CA are the test's network's; those about the engine are the proxy's.
	found, _ := run(t.Context(), p.environ, p.command("exec", "-T", "sidecert", "sidecert", "doctor")...)
	for _, want := range []string{"A socket proxy answers", "POST /containers/{id}/exec", "mounts what it should"} {
		if !strings.Contains(found, want) {
			t.Errorf("doctor does not say %q through the proxy:\n%s", want, found)
		}
	}
	if _, err := p.docker("kill", proxy.ID); err != nil { // its socket stays behind
		t.Fatal(err)
	}
	if _, err := p.docker("start", proxy.ID); err != nil {
		t.Fatal(err)
	}
	p.eventually(30*time.Second, func() error {
		if health := p.mustInspect("socket-proxy").State.Health.Status; health != "healthy" {
			return fmt.Errorf("the proxy is %s after it was killed and started", health)
		}
		return nil
	})
	if log := p.logs("socket-proxy"); strings.Contains(log, "level=WARN") || strings.Contains(log, "level=ERROR") || !strings.Contains(log, `msg="container told"`) {
		t.Errorf("the proxy's log has warnings, or no reload:\n%s", log)
	}
}

// checkRestarts starts sidecert anew ten times with its volumes: that costs the CA nothing, and disturbs no web server.
func checkRestarts(t *testing.T, p *project, server server) {
	t.Helper()
	if orders := p.orders(); orders != 1 {
		t.Errorf("%d orders for the first certificate, want 1", orders)
	}
	started := p.mustInspect("web").State.StartedAt
	for i := range 10 {
		if i%2 == 0 {
			p.compose("restart", "--timeout", "5", "sidecert")
		} else {
			p.compose("up", "--detach", "--no-deps", "--force-recreate", "sidecert")
		}
		// It returns when the daemon has looked at everything.
		if out := p.compose("exec", "-T", "sidecert", "sidecert", "renew"); !strings.Contains(out, "not due") {
			t.Errorf("sidecert renew said %q, want it not due", out)
		}
	}
	if orders := p.orders(); orders != 1 {
		t.Errorf("%d orders after ten restarts, want 1", orders)
	}
	log := p.logs("web")
	if reloads := strings.Count(log, server.reloaded); reloads != 1 {
		t.Errorf("web was reloaded %d times for one certificate", reloads)
	}
	for _, noise := range server.noise {
		if strings.Contains(log, noise) {
			t.Errorf("our handshakes fill the log of web:\n%s", log)
		}
	}
	if !p.mustInspect("web").State.StartedAt.Equal(started) {
		t.Error("web was restarted")
	}
}

// orders is how many Pebble has taken. Requests for them are more: it rejects every twentieth nonce, as a real CA may.
func (p *project) orders() int {
	p.t.Helper()
	return strings.Count(p.logs("pebble"), `Added order "`)
}

func TestWebMayStartFirst(t *testing.T) {
	t.Parallel()
	for _, server := range servers {
		t.Run(server.name, func(t *testing.T) {
			t.Parallel()
			p := newProject(t, domain, server.name+".yaml", "testdata/pebble.yaml")
			p.compose("up", "--detach", "--no-deps", "web")
			p.eventually(20*time.Second, func() error {
				if !strings.Contains(p.logs("web"), server.missing) {
					return errors.New("web did not miss its certificate")
				}
				return nil
			})
			p.compose("up", "--detach")
			p.awaitCertificate(60 * time.Second)
		})
	}
}

func TestWebMayStopDuringIssue(t *testing.T) {
	t.Parallel()
	p := newProject(t, domain, "nginx.yaml", "testdata/pebble.yaml")
	p.compose("up", "--no-start")
	p.compose("up", "--detach", "--no-deps", "web", "sidecert")
	p.eventually(30*time.Second, func() error {
		chain, err := p.served()
		if err == nil && !isPlaceholder(chain[0]) {
			err = fmt.Errorf("%s is served, want the placeholder while there is no CA", chain[0].Issuer)
		}
		return err
	})
	p.compose("stop", "web")
	p.compose("start", "pebble")
	p.eventually(30*time.Second, func() error {
		if !strings.Contains(p.logs("pebble"), "Listening") {
			return errors.New("Pebble does not listen")
		}
		return nil
	})
	p.compose("start", "web")
	p.awaitCertificate(120 * time.Second) // an attempt that came while web was away is repeated after a minute
}

func TestDemoRenewsBeforeYourEyes(t *testing.T) {
	t.Parallel()
	p := newProject(t, "demo.example.test", "demo.yaml")
	p.compose("up", "--detach")
	first := p.awaitCertificate(30 * time.Second)
	checkHardening(t, p)
	p.eventually(90*time.Second, func() error {
		chain, err := p.served()
		switch {
		case err != nil:
			t.Fatalf("web stopped answering: %v", err)
		case time.Now().After(chain[0].NotAfter):
			t.Fatalf("an expired certificate is served")
		case chain[0].Equal(first):
			return errors.New("the first certificate is still served")
		}
		return p.trusted(chain)
	})

	p.eventually(10*time.Second, func() error {
		if !strings.Contains(p.logs("sidecert"), "version=2") || strings.Count(p.logs("sidecert"), "certificate served") < 2 {
			return errors.New("the renewal is not in the log")
		}
		return nil
	})
	log := p.logs("sidecert")
	if lines := strings.Count(log, "\n"); lines > 12 || strings.Contains(log, "level=WARN") {
		t.Errorf("sidecert's log has %d lines, want about ten and no warning:\n%s", lines, log)
	}
	rest := log
	for _, told := range []string{
		"sidecert started", "placeholder stored", "account registered",
		"certificate ordered", "certificate obtained", "certificate served",
		"certificate ordered", "certificate obtained", "certificate served",
	} {
		_, after, found := strings.Cut(rest, `msg="`+told)
		if !found {
			t.Fatalf("sidecert's log does not tell %q in its place:\n%s", told, log)
		}
		rest = after
	}
}
