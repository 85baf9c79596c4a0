package acme

import (
	"context"
	"io"
	"io/fs"
	"log/slog"
	"net"
	"net/http"
	"net/http/httptest"
	"os"
	"path/filepath"
	"strconv"
	"sync"
	"testing"
	"time"

	"github.com/sidecert/sidecert/internal/acmetest"
	"github.com/sidecert/sidecert/internal/cert"
)

// site is a web server with a webroot, a CA that validates there, and an issuer with its stores.
type site struct {
	*acmetest.CA
	webroot  string
	accounts *memory
	issuer   *Issuer
	log      *slog.Logger
}

func newSite(t testing.TB, config acmetest.Config) *site {
	t.Helper()
	webroot := t.TempDir()
	web := httptest.NewServer(http.FileServer(http.Dir(webroot)))
	t.Cleanup(web.Close)
	config.HTTPPort = web.Listener.Addr().(*net.TCPAddr).Port
	ca, err := acmetest.Start(config)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { ca.Close() })
	s := &site{CA: ca, webroot: webroot, accounts: &memory{}, log: slog.New(slog.NewTextHandler(io.Discard, nil))}
	s.restart()
	return s
}

// restart is a new process with the same stores.
func (s *site) restart() {
	s.issuer = New(Config{Accounts: s.accounts, Log: s.log, UserAgent: "sidecert-test"})
	s.issuer.pace = func(d time.Duration) time.Duration { return d / 50 }
	s.issuer.resolver.servers = []string{s.Nameserver}
	s.issuer.dial = func(ctx context.Context, network, address string) (net.Conn, error) {
		if address == "127.0.0.1:80" {
			address = net.JoinHostPort("127.0.0.1", strconv.Itoa(s.HTTPPort))
		}
		return publicDialer()(ctx, network, address)
	}
}

func (s *site) ca() cert.CA {
	return cert.CA{Directory: s.Directory, Roots: s.HTTPRoots, AgreeTOS: true, Email: "admin@sidecert.test"}
}

func (s *site) spec(names ...string) cert.Spec {
	return cert.Spec{Name: names[0], Names: names, CA: s.ca(), Webroot: s.webroot}
}

// request is one whose order the test can look at.
func (s *site) request(names ...string) (cert.Request, *saved) {
	kept := &saved{}
	return cert.Request{Spec: s.spec(names...), Save: kept.save}, kept
}

func (s *site) obtain(t testing.TB, names ...string) cert.Bundle {
	t.Helper()
	req, _ := s.request(names...)
	return must(t, s.issuer, req)
}

func must(t testing.TB, issuer *Issuer, req cert.Request) cert.Bundle {
	t.Helper()
	bundle, err := issuer.Obtain(context.Background(), req)
	if err != nil {
		t.Fatalf("Obtain(%v): %v", req.Spec.Names, err)
	}
	return bundle
}

// leftovers are the files under the challenge path.
func (s *site) leftovers(t *testing.T) []string {
	t.Helper()
	files, err := filepath.Glob(filepath.Join(s.webroot, challengePath, "*"))
	if err != nil {
		t.Fatal(err)
	}
	return files
}

// memory is an Accounts.
type memory struct {
	mu       sync.Mutex
	accounts map[string]cert.Account
	// saves are the URIs in the order they were saved.
	saves []string
	err   error
}

func (m *memory) Account(ca cert.CA) (cert.Account, error) {
	m.mu.Lock()
	defer m.mu.Unlock()
	if m.err != nil {
		return cert.Account{}, m.err
	}
	account, ok := m.accounts[ca.ID()]
	if !ok {
		return cert.Account{}, fs.ErrNotExist
	}
	return account, nil
}

func (m *memory) SaveAccount(ca cert.CA, account cert.Account) error {
	m.mu.Lock()
	defer m.mu.Unlock()
	if m.accounts == nil {
		m.accounts = map[string]cert.Account{}
	}
	m.accounts[ca.ID()] = account
	m.saves = append(m.saves, account.URI)
	return nil
}

// saved is the order as the disk has it.
type saved struct {
	order *cert.Order
	// history has the URL of each order that was saved, "-" for nil.
	history []string
	err     error
}

func (s *saved) save(order *cert.Order) error {
	if s.err != nil {
		return s.err
	}
	s.order = order
	if order == nil {
		s.history = append(s.history, "-")
	} else {
		s.history = append(s.history, order.URL)
	}
	return nil
}

// failed is the *cert.Error that every failure must be.
func failed(t *testing.T, err error) *cert.Error {
	t.Helper()
	e, ok := err.(*cert.Error)
	if !ok {
		t.Fatalf("error is %T (%v), want a *cert.Error", err, err)
	}
	return e
}

// cut breaks the connection in place of an answer.
func cut() { panic(http.ErrAbortHandler) }

// answer has the CA answer requests of one kind itself.
func answer(kind string, h http.HandlerFunc) func(http.Handler) http.Handler {
	return func(next http.Handler) http.Handler {
		return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
			if acmetest.Kind(r.URL.Path) == kind {
				h(w, r)
				return
			}
			next.ServeHTTP(w, r)
		})
	}
}

// problem answers with a problem document of RFC 8555 §6.7.
func problem(w http.ResponseWriter, status int, kind, detail string) {
	w.Header().Set("Content-Type", "application/problem+json")
	w.WriteHeader(status)
	io.WriteString(w, `{"type":"urn:ietf:params:acme:error:`+kind+`","detail":"`+detail+`"}`)
}

func writeFile(t *testing.T, path, content string) {
	t.Helper()
	if err := os.MkdirAll(filepath.Dir(path), 0o755); err != nil {
		t.Fatal(err)
	}
	if err := os.WriteFile(path, []byte(content), 0o644); err != nil {
		t.Fatal(err)
	}
}
