package reload

import (
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/tls"
	"crypto/x509"
	"crypto/x509/pkix"
	"encoding/json"
	"math/big"
	"net"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/sidecert/sidecert/internal/cert"
	"github.com/sidecert/sidecert/internal/docker"
	"github.com/sidecert/sidecert/internal/docker/dockertest"
)

// issue makes a certificate of a CA that is thrown away.
func issue(t *testing.T, names ...string) cert.Bundle {
	t.Helper()
	ca := &x509.Certificate{
		SerialNumber: big.NewInt(1), Subject: pkix.Name{CommonName: "Test CA"}, NotAfter: time.Now().Add(time.Hour),
		IsCA: true, BasicConstraintsValid: true, KeyUsage: x509.KeyUsageCertSign,
	}
	leaf := &x509.Certificate{SerialNumber: big.NewInt(2), NotAfter: time.Now().Add(time.Hour), ExtKeyUsage: []x509.ExtKeyUsage{x509.ExtKeyUsageServerAuth}}
	for _, name := range names {
		if ip := net.ParseIP(name); ip != nil {
			leaf.IPAddresses = append(leaf.IPAddresses, ip)
		} else {
			leaf.DNSNames = append(leaf.DNSNames, name)
		}
	}
	caKey, key := newKey(t), newKey(t)
	caDER := sign(t, ca, ca, caKey, caKey)
	return cert.Bundle{Key: key, Chain: []*x509.Certificate{sign(t, leaf, caDER, key, caKey), caDER}}
}

func newKey(t *testing.T) *ecdsa.PrivateKey {
	t.Helper()
	key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		t.Fatal(err)
	}
	return key
}

func sign(t *testing.T, c, parent *x509.Certificate, key, by *ecdsa.PrivateKey) *x509.Certificate {
	t.Helper()
	der, err := x509.CreateCertificate(rand.Reader, c, parent, key.Public(), by)
	if err != nil {
		t.Fatal(err)
	}
	parsed, err := x509.ParseCertificate(der)
	if err != nil {
		t.Fatal(err)
	}
	return parsed
}

// keep is a stored certificate with the given versions, the last one live, and the containers that are to use it.
func keep(name string, versions []cert.Bundle, targets ...cert.Target) cert.Kept {
	live := versions[len(versions)-1]
	l := cert.Lineage{Name: name, Number: len(versions), Chain: live.Chain, Key: live.Key, Placeholder: cert.IsPlaceholder(live.Chain[0])}
	for _, b := range versions[:len(versions)-1] {
		l.Older = append(l.Older, cert.Fingerprint(b.Chain[0]))
	}
	return cert.Kept{
		Spec:    cert.Spec{Name: name, Names: cert.NamesOf(live.Chain[0]), Reload: cert.Reload{Targets: targets}},
		Lineage: l,
	}
}

func auto(word string) cert.Target {
	return cert.Target{Word: word, Action: cert.Action{Kind: cert.ActionAuto}}
}

func signal(word, name string) cert.Target {
	return cert.Target{Word: word, Action: cert.Action{Kind: cert.ActionSignal, Signal: name}}
}

// site is a TLS server of this process on a random port; by SNI it serves what it was told to.
type site struct {
	port string

	mu    sync.Mutex
	serve map[string]cert.Bundle // by name; "" for all others
}

func newSite(t *testing.T, b cert.Bundle) *site {
	t.Helper()
	s := &site{serve: map[string]cert.Bundle{"": b}}
	l, err := tls.Listen("tcp", "127.0.0.1:0", &tls.Config{GetCertificate: s.certificate})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { l.Close() })
	_, s.port, _ = net.SplitHostPort(l.Addr().String())
	go func() {
		for {
			conn, err := l.Accept()
			if err != nil {
				return
			}
			go func() {
				defer conn.Close()
				conn.(*tls.Conn).Handshake()
			}()
		}
	}()
	return s
}

func (s *site) certificate(hello *tls.ClientHelloInfo) (*tls.Certificate, error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	b, ok := s.serve[hello.ServerName]
	if !ok {
		b = s.serve[""]
	}
	if len(b.Chain) == 0 {
		return nil, nil // answered by the alert unrecognized_name
	}
	c := &tls.Certificate{PrivateKey: b.Key}
	for _, x := range b.Chain {
		c.Certificate = append(c.Certificate, x.Raw)
	}
	return c, nil
}

// set changes what is served for a name, "" for all that were not set.
func (s *site) set(name string, b cert.Bundle) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.serve[name] = b
}

func (s *site) ports() map[string][]dockertest.Port {
	return map[string][]dockertest.Port{s.port + "/tcp": {{HostPort: "443"}}}
}

// nginx declares a container that seems to be nginx and answers where the site does.
func (s *site) nginx(name string) dockertest.Container {
	return dockertest.Container{
		Name: "p-" + name + "-1", Project: "p", Service: name, Image: "nginx:1", Command: []string{"/docker-entrypoint.sh", "nginx", "-g", "daemon off;"},
		RestartPolicy: "always", Ports: s.ports(),
	}
}

func (s *site) httpd(name string) dockertest.Container {
	c := s.nginx(name)
	c.Image, c.Command = "httpd:2.4", []string{"httpd-foreground"}
	return c
}

// memory is a Memory that keeps what a disk would: text.
type memory struct {
	mu    sync.Mutex
	files map[string][]byte
	sets  int
	err   error
}

func (m *memory) Target(name string) (cert.TargetState, error) {
	m.mu.Lock()
	defer m.mu.Unlock()
	var s cert.TargetState
	if m.files[name] == nil {
		return s, m.err
	}
	if err := json.Unmarshal(m.files[name], &s); err != nil {
		return s, err
	}
	return s, m.err
}

func (m *memory) SetTarget(name string, s cert.TargetState) error {
	m.mu.Lock()
	defer m.mu.Unlock()
	if m.err != nil {
		return m.err
	}
	data, err := json.Marshal(s)
	m.sets++
	m.files[name] = data
	return err
}

func (m *memory) Targets() (map[string]cert.TargetState, error) {
	all, err := map[string]cert.TargetState{}, error(nil)
	for name := range m.files {
		if all[name], err = m.Target(name); err != nil {
			return nil, err
		}
	}
	return all, nil
}

func (m *memory) ForgetTarget(name string) error {
	m.mu.Lock()
	defer m.mu.Unlock()
	delete(m.files, name)
	return m.err
}

// bench is a Reloader before a fake engine, with a clock that stands still unless it is moved.
type bench struct {
	*Reloader
	engine *dockertest.Engine
	memory *memory
	clock  time.Time
	settle time.Duration
}

func newBench(t *testing.T) *bench {
	t.Helper()
	engine, err := dockertest.Start(filepath.Join(t.TempDir(), "docker.sock"))
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { engine.Close() })
	b := &bench{engine: engine, memory: &memory{files: map[string][]byte{}}, clock: time.Now(), settle: 10 * time.Second}
	b.restartSidecert(t)
	return b
}

// restartSidecert begins anew with what is on disk.
func (b *bench) restartSidecert(t *testing.T) {
	t.Helper()
	client, err := docker.New(docker.Config{Host: b.engine.Host()})
	if err != nil {
		t.Fatal(err)
	}
	b.Reloader = New(Config{Engine: client, Project: "p", Memory: b.memory, Now: func() time.Time { return b.clock }})
	b.pace = pace{handshake: 2 * time.Second, settle: b.settle, poll: 5 * time.Millisecond, boot: 2 * b.settle, grace: 10 * time.Millisecond, calm: 10 * time.Second}
}

// hopeless keeps a test from waiting long for a certificate that does not come.
func (b *bench) hopeless() {
	b.settle = 100 * time.Millisecond
	b.pace.settle = b.settle
}

// onSignal makes a signal do what nginx does with it.
func (b *bench) onSignal(f func()) { b.engine.OnKill(func(string, string) { f() }) }

// told are the deeds but for tests of a configuration, which are no news to anybody.
func (b *bench) told() []string {
	return slices.DeleteFunc(b.engine.Deeds(), func(deed string) bool { return strings.HasSuffix(deed, " -t") })
}

// wantDeeds compares all that was done to containers so far.
func (b *bench) wantDeeds(t *testing.T, want ...string) {
	t.Helper()
	if got := b.engine.Deeds(); strings.Join(got, "\n") != strings.Join(want, "\n") {
		t.Errorf("deeds = %q, want %q", got, want)
	}
}

// one returns the outcome of a certificate in a container.
func one(t *testing.T, l cert.Look, certName, container string) cert.Outcome {
	t.Helper()
	for _, o := range l.Outcomes {
		if o.Cert == certName && o.Container == container {
			return o
		}
	}
	t.Fatalf("no outcome of %s in %s among %+v (Look.Err %v)", certName, container, l.Outcomes, l.Err)
	return cert.Outcome{}
}

func wantClass(t *testing.T, o cert.Outcome, want cert.Class) {
	t.Helper()
	if o.Class != want {
		t.Errorf("%s in %s is %s (%v), want %s", o.Cert, o.Container, o.Class, o.Err, want)
	}
}
