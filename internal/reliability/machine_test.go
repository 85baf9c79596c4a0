package reliability

import (
	"context"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"math"
	"net/http"
	"os"
	"sync/atomic"
	"testing"
	"time"

	"github.com/sidecert/sidecert/internal/acme"
	"github.com/sidecert/sidecert/internal/acmetest"
	"github.com/sidecert/sidecert/internal/cert"
	"github.com/sidecert/sidecert/internal/renewal"
	"github.com/sidecert/sidecert/internal/store"
	"github.com/sidecert/sidecert/internal/store/storetest"
)

// machine is a host in a synctest bubble: two volumes that outlive processes, a clock, a webroot, and a CA that it can reach. What runs
// on it is sidecert as cmd/sidecert wires it, but for the web containers.
type machine struct {
	t            *testing.T
	ca           *acmetest.Fake
	certs, state store.FS
	webroot      string
	begin        time.Time
	ahead        atomic.Int64 // how far the wall clock has jumped, in nanoseconds
	specs        []cert.Spec
	haproxy      bool // EXTRA_FILES=haproxy
	log          io.Writer
}

// newMachine has an empty one; the CA's clock is always right.
func newMachine(t *testing.T, config acmetest.FakeConfig, specs ...cert.Spec) *machine {
	t.Helper()
	m := &machine{t: t, begin: time.Now(), log: io.Discard, webroot: memoryDir(t)}
	if config.Now == nil {
		config.Now = m.right
	}
	m.ca = acmetest.NewFake(config)
	m.certs, m.state = storetest.NewMemory(m.now), storetest.NewMemory(m.now)
	for _, s := range specs {
		if s.CA.Directory == "" {
			s.CA = cert.CA{Directory: m.ca.Directory(), AgreeTOS: true}
		}
		s.Webroot = m.webroot
		m.specs = append(m.specs, s)
	}
	return m
}

// memoryDir is a folder in memory where there is such a thing.
func memoryDir(t *testing.T) string {
	t.Helper()
	dir, err := os.MkdirTemp("/dev/shm", "sidecert")
	if err != nil {
		return t.TempDir()
	}
	t.Cleanup(func() { os.RemoveAll(dir) })
	return dir
}

// named are specs of one name each.
func named(names ...string) []cert.Spec {
	var specs []cert.Spec
	for _, name := range names {
		specs = append(specs, cert.Spec{Name: name, Names: []string{name}})
	}
	return specs
}

func many(n int) []cert.Spec {
	var names []string
	for i := range n {
		names = append(names, fmt.Sprintf("site%d.example.org", i))
	}
	return named(names...)
}

// right is the true time: a bubble's begins in 2000, ours in 2027.
func (m *machine) right() time.Time {
	return time.Date(2027, 1, 1, 0, 0, 0, 0, time.UTC).Add(time.Since(m.begin))
}

// now is the machine's clock.
func (m *machine) now() time.Time { return m.right().Add(time.Duration(m.ahead.Load())) }

// process is one run of sidecert.
type process struct {
	*renewal.Manager
	issuer *acme.Issuer
	// dead cuts its connections, as a kill does. lives is how many requests it makes until then.
	dead  atomic.Bool
	lives atomic.Int64
}

var errDead = errors.New("the process is dead")

// start makes a process, whose operations on the volumes happen through faults; nil for none.
func (m *machine) start(faults *storetest.Faults) *process {
	m.t.Helper()
	certs, state := m.certs, m.state
	if faults != nil {
		certs, state = faults.Wrap(certs), faults.Wrap(state)
	}
	log := slog.New(slog.NewTextHandler(m.log, nil))
	s := store.New(certs, state, store.Options{CertDir: "/etc/letsencrypt", StateDir: "/var/lib/sidecert", Haproxy: m.haproxy, Now: m.now})
	p := &process{}
	p.lives.Store(math.MaxInt64)
	p.issuer = acme.New(acme.Config{Accounts: s, Preflight: acme.PreflightOff, Now: m.now, Log: log, UserAgent: "sidecert-test",
		Transport: carrier(func(req *http.Request) (*http.Response, error) {
			if p.dead.Load() || p.lives.Add(-1) < 0 {
				return nil, errDead
			}
			return m.ca.RoundTrip(req)
		})})
	p.Manager = renewal.New(renewal.Config{Wishes: cert.Wishes{Specs: m.specs}, Store: s, Issuer: p.issuer, Reloader: noWebServers{}, Now: m.now, Log: log})
	return p
}

// once is a process that does one pass.
func (m *machine) once() renewal.Result { return m.start(nil).Once(m.t.Context(), renewal.Ask{}) }

// lineages are what is stored, by name.
func (m *machine) lineages() map[string]cert.Lineage {
	m.t.Helper()
	s := store.New(m.certs, m.state, store.Options{CertDir: "/etc/letsencrypt", Now: m.now})
	all, bad := s.Lineages()
	for name, err := range bad {
		m.t.Errorf("lineage %s: %v", name, err)
	}
	byName := map[string]cert.Lineage{}
	for _, l := range all {
		byName[l.Name] = l
	}
	return byName
}

type carrier func(*http.Request) (*http.Response, error)

func (c carrier) RoundTrip(req *http.Request) (*http.Response, error) { return c(req) }

// noWebServers is a Reloader for machines without any.
type noWebServers struct{}

func (noWebServers) Look(context.Context, []cert.Kept) cert.Look { return cert.Look{} }
func (noWebServers) Show(context.Context, []cert.Kept) cert.Look { return cert.Look{} }
