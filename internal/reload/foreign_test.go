package reload

import (
	"context"
	"crypto/ecdsa"
	"crypto/x509"
	"encoding/pem"
	"math/big"
	"net"
	"net/http"
	"net/http/httptest"
	"net/http/httputil"
	"net/url"
	"os"
	"path/filepath"
	"regexp"
	"strings"
	"testing"
	"time"

	"github.com/sidecert/sidecert/internal/cert"
	"github.com/sidecert/sidecert/internal/docker"
	"github.com/sidecert/sidecert/internal/docker/enginetest"
)

// The tests of this file have a socket proxy of another maker before a real engine, or an engine that is reached by TLS. The proxies
// themselves are stand-ins that have their rules: compose/testdata/socket-proxy.cfg in a real HAProxy is tecnativa/docker-socket-proxy's,
// and regexes that of wollomatic/socket-proxy.

// tecnativa puts the stand-in before the stage's engine, with its defaults but for the switches that are named.
func (s *stage) tecnativa(t *testing.T, switches ...string) (name string) {
	t.Helper()
	name, host := s.Tecnativa(t, switches...)
	s.through(t, docker.Config{Host: host})
	return name
}

// by makes the stage's Reloader, not the test itself, speak to the engine by another way.
func (s *stage) by(engine *docker.Engine) *docker.Engine {
	pace := s.pace
	s.Reloader = New(Config{Engine: engine, Project: s.Project, Memory: s.memory})
	s.pace = pace
	return engine
}

// through waits until that way is there.
func (s *stage) through(t *testing.T, c docker.Config) *docker.Engine {
	t.Helper()
	return s.by(s.Reach(t, c))
}

// wollomatic is a proxy that lets through what a whole path matches of its method's regex, as wollomatic/socket-proxy does.
func (s *stage) wollomatic(t *testing.T, rules map[string]string) {
	t.Helper()
	behind := &httputil.ReverseProxy{
		Rewrite:       func(r *httputil.ProxyRequest) { r.SetURL(&url.URL{Scheme: "http", Host: "docker"}) },
		FlushInterval: -1,
		Transport: &http.Transport{DialContext: func(ctx context.Context, _, _ string) (net.Conn, error) {
			return (&net.Dialer{}).DialContext(ctx, "unix", "/var/run/docker.sock")
		}},
	}
	srv := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		rule, ok := rules[r.Method]
		switch {
		case !ok:
			http.Error(w, "Method Not Allowed", http.StatusMethodNotAllowed)
		case !regexp.MustCompile("^(?:" + rule + ")$").MatchString(r.URL.Path):
			http.Error(w, "Forbidden", http.StatusForbidden)
		default:
			behind.ServeHTTP(w, r)
		}
	}))
	t.Cleanup(func() { srv.CloseClientConnections(); srv.Close() })
	engine, err := docker.New(docker.Config{Host: "tcp://" + srv.Listener.Addr().String()})
	if err != nil {
		t.Fatal(err)
	}
	s.by(engine)
}

// seenAt makes a certificate be looked at where a container answers: the test has no DNS that knows it.
func (s *stage) seenAt(t *testing.T, k cert.Kept, name string) cert.Kept {
	t.Helper()
	k.Spec.Verify.Endpoints = []string{s.Endpoint(t, name, 443)}
	return k
}

func TestRealProxyThatLetsNamesAloneBeToldIsEnoughForExplicitActions(t *testing.T) {
	for action, reload := range map[string]cert.Action{"HUP": signal("", "HUP").Action, "restart": restart} {
		t.Run(action, func(t *testing.T) {
			s := newStage(t, "nginx:1", "haproxy:lts-alpine")
			v1, v2 := issue(t, "a.test"), issue(t, "a.test")
			s.Store(t, v1)
			name := s.nginx(t, "web", 1)
			s.up(t, name, v1)
			s.Store(t, v2)
			s.tecnativa(t, "POST=1", "ALLOW_RESTARTS=1")
			k := s.seenAt(t, keep("a.test", []cert.Bundle{v1, v2}, cert.Target{Word: name, Action: reload}), name)
			wantFinding(t, s.Examine(t.Context(), []cert.Kept{k}), cert.Bad, "served", name, "a.test")
			o := one(t, s.Look(t.Context(), []cert.Kept{k}), "a.test", name)
			wantClass(t, o, cert.Current)
			if o.Action != action || o.Err != nil {
				t.Errorf("outcome %+v, want it told by %s", o, action)
			}
			all := s.Examine(t.Context(), []cert.Kept{k})
			wantNothingWorse(t, all, cert.Unknown) // least privilege is a choice, and nothing to be nagged about
			wantFinding(t, all, cert.Fine, "engine", "Docker engine", "answers")
			wantFinding(t, all, cert.Fine, "engine", "POST /containers/{id}/kill", "POST /containers/{id}/restart", "let through")
			wantFinding(t, all, cert.Fine, "served", name, "a.test")
		})
	}
}

func TestRealProxyThatLetsNamesAloneBeToldSaysWhatIsAmiss(t *testing.T) {
	s := newStage(t, "nginx:1", "haproxy:lts-alpine")
	s.pace.settle = time.Second
	v1, v2 := issue(t, "a.test"), issue(t, "a.test")
	s.Store(t, v1)
	name := s.nginx(t, "web", 1)
	s.up(t, name, v1)
	s.Store(t, v2)
	s.tecnativa(t, "POST=1", "ALLOW_RESTARTS=1")
	k := s.seenAt(t, keep("a.test", []cert.Bundle{v1, v2}, auto(name), signal("web", "HUP")), name)
	l := s.Look(t.Context(), []cert.Kept{k})
	if o := one(t, l, "a.test", name); o.Err == nil || !strings.Contains(o.Hint, "RELOAD="+name+":HUP") {
		t.Errorf("auto: outcome %+v, want the way out", o)
	}
	if o := one(t, l, "a.test", "web"); o.Err == nil || !strings.Contains(o.Hint, "container_name: web") || l.Next.IsZero() {
		t.Errorf("a service's name: outcome %+v, next %v; want that exact container names are needed, and another look", o, l.Next)
	}
	s.Docker(t, "stop", "--time", "1", name)
	s.memory.files = map[string][]byte{}
	k.Spec.Reload.Targets = []cert.Target{signal(name, "HUP")}
	l = s.Look(t.Context(), []cert.Kept{k})
	if o := one(t, l, "a.test", name); o.Class != cert.Unseen || o.Hint != hintStopped || l.Next.IsZero() {
		t.Errorf("stopped: outcome %+v, next %v; want that it does not run, and another look", o, l.Next)
	}
	k.Spec.Reload.Targets = []cert.Target{{Word: name, Action: restart}}
	s.memory.files = map[string][]byte{}
	s.Look(t.Context(), []cert.Kept{k})
	if c, err := s.Engine.Inspect(t.Context(), name); err != nil || !c.State.Running() {
		t.Errorf("after a restart the stopped container is %q, %v; want it running", c.State.Status, err)
	}
}

func TestRealProxyThatLetsCommandsThroughTellsTheirWords(t *testing.T) {
	s := newStage(t, "httpd:2.4", "haproxy:lts-alpine")
	v1, v2 := issue(t, "a.test"), issue(t, "a.test")
	s.Store(t, v1)
	name := s.httpd(t)
	s.up(t, name, v1)
	s.Store(t, v2)
	s.tecnativa(t, "CONTAINERS=1", "POST=1", "EXEC=1")
	k := keep("a.test", []cert.Bundle{v1, v2}, auto("web"))
	s.File(t, "httpd.conf", enginetest.HttpdConf+"Nonsense\n")
	o := one(t, s.Look(t.Context(), []cert.Kept{k}), "a.test", name)
	if o.Class != cert.Stale || o.Err == nil || !strings.Contains(o.Err.Error(), "exit code 1: ") || !strings.Contains(o.Err.Error(), "Invalid command 'Nonsense'") {
		t.Errorf("outcome %+v, want stale with the exit code and httpd's words", o)
	}
	s.File(t, "httpd.conf", enginetest.HttpdConf)
	s.memory.files = map[string][]byte{}
	o = one(t, s.Look(t.Context(), []cert.Kept{k}), "a.test", name)
	wantClass(t, o, cert.Current)
	if o.Action != "exec httpd -k graceful" || o.Err != nil {
		t.Errorf("outcome %+v, want httpd's own graceful restart", o)
	}
	all := s.Examine(t.Context(), []cert.Kept{k})
	wantFinding(t, all, cert.Fine, "engine", "let through", "POST /containers/{id}/exec", "GET /containers/json", "POST /containers/{id}/kill")
}

// TestRealProxyThatLetsCommandsThroughReloadsByThem has containers that are not to be signalled, since their policy is unless-stopped.
func TestRealProxyThatLetsCommandsThroughReloadsByThem(t *testing.T) {
	for image, action := range map[string]string{"nginx:1": "exec nginx -s reload", "haproxy:lts-alpine": "exec sh -c kill -HUP 1"} {
		t.Run(image, func(t *testing.T) {
			s := newStage(t, "nginx:1", "haproxy:lts-alpine")
			v1, v2 := issue(t, "a.test"), issue(t, "a.test")
			s.Store(t, v1)
			var name string
			if image == "nginx:1" {
				name = s.nginx(t, "web", 1, "--restart", "unless-stopped")
			} else {
				name = s.Start(t, enginetest.Haproxy, "web", 1, "--restart", "unless-stopped")
			}
			s.up(t, name, v1)
			s.tecnativa(t, "CONTAINERS=1", "POST=1", "EXEC=1") // which takes longer than a haproxy needs to heed HUP
			s.Store(t, v2)
			o := one(t, s.Look(t.Context(), []cert.Kept{keep("a.test", []cert.Bundle{v1, v2}, auto("web"))}), "a.test", name)
			wantClass(t, o, cert.Current)
			if o.Action != action {
				t.Errorf("action = %q, want %q", o.Action, action)
			}
		})
	}
}

func TestRealProxyThatOnlyReadsIsToldWhatToAllow(t *testing.T) {
	s := newStage(t, "nginx:1", "haproxy:lts-alpine")
	v1, v2 := issue(t, "a.test"), issue(t, "a.test")
	s.Store(t, v1)
	name := s.nginx(t, "web", 1)
	s.up(t, name, v1)
	s.Store(t, v2)
	s.tecnativa(t, "CONTAINERS=1", "ALLOW_RESTARTS=1") // which does nothing without POST=1
	k := keep("a.test", []cert.Bundle{v1, v2}, auto("web"))
	o := one(t, s.Look(t.Context(), []cert.Kept{k}), "a.test", name)
	if want := "allow POST /containers/{id}/kill in the socket proxy"; o.Class != cert.Stale || o.Err == nil || !strings.Contains(o.Hint, want) {
		t.Errorf("outcome %+v, want stale and %q", o, want)
	}
	wantFinding(t, s.Examine(t.Context(), []cert.Kept{k}), cert.Bad, "POST /containers/{id}/kill", name, "by nothing else")
}

func TestRealEventsGoOnThroughAProxyThatWasRestarted(t *testing.T) {
	s := newStage(t, "nginx:1", "haproxy:lts-alpine")
	s.Store(t, issue(t, "a.test"))
	name := s.nginx(t, "web", 1)
	proxy := s.tecnativa(t)
	address := s.Endpoint(t, proxy, 2375) // the container gets another one with each start
	engine := s.through(t, docker.Config{Host: "tcp://" + address})
	after := time.Now()
	listen := func() (starts chan docker.Event, ended chan error) {
		starts, ended = make(chan docker.Event, 10), make(chan error, 1)
		opened := make(chan struct{})
		go func() {
			ended <- engine.Events(t.Context(), after, []string{"start"}, func() { close(opened) }, func(e docker.Event) {
				if e.Name == name {
					starts <- e
				}
			})
		}()
		select {
		case <-opened:
		case err := <-ended:
			t.Fatal(err)
		}
		return starts, ended
	}
	starts, ended := listen()
	s.Docker(t, "restart", "--time", "0", name)
	first := <-starts
	after = first.At
	s.Docker(t, "kill", proxy)
	if err := <-ended; err == nil {
		t.Error("the stream ended without an error")
	}
	s.Docker(t, "restart", "--time", "0", name) // while nobody listens
	s.Docker(t, "start", proxy)
	s.through(t, docker.Config{Host: "tcp://" + address})
	starts, _ = listen()
	if second := <-starts; !second.At.After(first.At) || second.Project != s.Project || second.Service != "web" {
		t.Errorf("heard %+v after %+v, want the start that came in between", second, first)
	}
}

// The rules are those of examples/foreign-proxy.
func TestRealProxyWithRegexesLetsThroughWhatIsNeeded(t *testing.T) {
	s := newStage(t, "nginx:1")
	v1, v2 := issue(t, "a.test"), issue(t, "a.test")
	s.Store(t, v1)
	name := s.nginx(t, "web", 1)
	s.up(t, name, v1)
	s.Store(t, v2)
	s.wollomatic(t, exampleRules(t, "../../examples/foreign-proxy/regexes.yaml"))
	k := keep("a.test", []cert.Bundle{v1, v2}, auto("web"))
	o := one(t, s.Look(t.Context(), []cert.Kept{k}), "a.test", name)
	wantClass(t, o, cert.Current)
	all := s.Examine(t.Context(), []cert.Kept{k})
	wantFinding(t, all, cert.Fine, "engine", "let through", "GET /containers/json", "GET /containers/{id}/json", "POST /containers/{id}/kill", "POST /containers/{id}/restart")
	wantFinding(t, all, cert.Fine, "POST /containers/{id}/exec", "not needed")
}

// exampleRules are the regexes of a compose file's -allowMETHOD=… arguments, which stand in single quotes.
func exampleRules(t *testing.T, path string) map[string]string {
	t.Helper()
	data, err := os.ReadFile(path)
	if err != nil {
		t.Fatal(err)
	}
	rules := map[string]string{}
	for _, m := range regexp.MustCompile(`(?m)^ *- '-allow(GET|HEAD|POST)=(.*)'$`).FindAllStringSubmatch(string(data), -1) {
		rules[m[1]] = m[2]
	}
	if len(rules) == 0 {
		t.Fatalf("%s has no rules", path)
	}
	return rules
}

func TestRealProxyWithOneRegexLetsOneContainerBeTold(t *testing.T) {
	s := newStage(t, "nginx:1")
	v1, v2 := issue(t, "a.test"), issue(t, "a.test")
	s.Store(t, v1)
	name, other := s.nginx(t, "web", 1), s.nginx(t, "other", 1)
	s.up(t, name, v1)
	s.up(t, other, v1)
	s.Store(t, v2)
	rules := map[string]string{"POST": `/v1\..{1,2}/containers/` + name + `/kill`} // not even the ping
	s.wollomatic(t, rules)
	k := s.seenAt(t, keep("a.test", []cert.Bundle{v1, v2}, signal(name, "HUP")), name)
	wantClass(t, one(t, s.Look(t.Context(), []cert.Kept{k}), "a.test", name), cert.Current)
	rules["HEAD"] = "/_ping"
	k = s.seenAt(t, keep("a.test", []cert.Bundle{v1, v2}, signal(other, "HUP")), other)
	o := one(t, s.Look(t.Context(), []cert.Kept{k}), "a.test", other)
	if o.Class != cert.Stale || !strings.Contains(o.Hint, "allow POST /containers/{id}/kill") {
		t.Errorf("the other container: outcome %+v, want that its signal is refused", o)
	}
}

const tlsProxyConf = `defaults
	mode http
	timeout client 1m
	timeout connect 5s
	timeout server 1m
frontend engine
	bind :2376 ssl crt /tls/engine.pem ca-file /tls/ca.pem verify required
	default_backend engine
backend engine
	server engine unix@/var/run/docker.sock
`

func TestRealEngineBehindTLSTellsNginx(t *testing.T) {
	s := newStage(t, "nginx:1", "haproxy:lts-alpine")
	v1, v2 := issue(t, "a.test"), issue(t, "a.test")
	s.Store(t, v1)
	name := s.nginx(t, "web", 1)
	s.up(t, name, v1)
	s.Store(t, v2)
	dir := t.TempDir()
	key := newKey(t)
	template := &x509.Certificate{
		SerialNumber: big.NewInt(1), NotAfter: time.Now().Add(time.Hour), IPAddresses: []net.IP{net.IPv4(127, 0, 0, 1)},
		IsCA: true, BasicConstraintsValid: true, KeyUsage: x509.KeyUsageCertSign | x509.KeyUsageDigitalSignature,
		ExtKeyUsage: []x509.ExtKeyUsage{x509.ExtKeyUsageServerAuth, x509.ExtKeyUsageClientAuth},
	}
	both := sign(t, template, template, key, key)
	certPEM := string(pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE", Bytes: both.Raw}))
	keyPEM := string(pem.EncodeToMemory(&pem.Block{Type: "PRIVATE KEY", Bytes: pkcs8(t, key)}))
	for file, text := range map[string]string{"ca.pem": certPEM, "cert.pem": certPEM, "key.pem": keyPEM} {
		if err := os.WriteFile(filepath.Join(dir, file), []byte(text), 0o600); err != nil {
			t.Fatal(err)
		}
	}
	s.File(t, "engine.pem", certPEM+keyPEM)
	s.File(t, "ca.pem", certPEM)
	conf := s.File(t, "proxy.cfg", tlsProxyConf)
	proxy := s.Run(t, "engine", 1, []string{"--user", "0", "--publish", "127.0.0.1:0:2376", "--volume", "/var/run/docker.sock:/var/run/docker.sock",
		"--volume", conf + ":/usr/local/etc/haproxy/haproxy.cfg:ro"}, "haproxy:lts-alpine")
	host := "tcp://" + s.Published(t, proxy, "2376")
	s.through(t, docker.Config{Host: host, CertPath: dir, TLSVerify: true})
	o := one(t, s.Look(t.Context(), []cert.Kept{keep("a.test", []cert.Bundle{v1, v2}, auto("web"))}), "a.test", name)
	wantClass(t, o, cert.Current)

	plain, err := docker.New(docker.Config{Host: host})
	if err != nil {
		t.Fatal(err)
	}
	if _, err := plain.Ping(t.Context()); err == nil || !strings.Contains(plain.Advice(err), "DOCKER_TLS_VERIFY=1") {
		t.Errorf("without TLS: %v, advice %q; want the variables to set", err, plain.Advice(err))
	}
}

func pkcs8(t *testing.T, key *ecdsa.PrivateKey) []byte {
	t.Helper()
	der, err := x509.MarshalPKCS8PrivateKey(key)
	if err != nil {
		t.Fatal(err)
	}
	return der
}
