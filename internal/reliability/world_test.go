package reliability

import (
	"net"
	"net/http"
	"os"
	"os/exec"
	"path/filepath"
	"runtime/debug"
	"slices"
	"sync/atomic"
	"testing"

	"github.com/sidecert/sidecert/internal/acmetest"
)

// underRace reports whether the race detector is at work: it makes time pass ten times as slowly, and sees nothing of other processes.
func underRace() bool {
	info, ok := debug.ReadBuildInfo()
	return ok && slices.Contains(info.Settings, debug.BuildSetting{Key: "-race", Value: "true"})
}

// need ends a test where a program is missing: in CI as a failure, elsewhere it is skipped.
func need(t *testing.T, programs ...string) {
	t.Helper()
	if underRace() {
		t.Skip("the race detector sees nothing of other processes: run it without")
	}
	for _, program := range programs {
		if _, err := exec.LookPath(program); err == nil {
			continue
		} else if os.Getenv("CI") == "true" {
			t.Fatalf("%s is needed and not there: %v", program, err)
		} else {
			t.Skipf("%s is needed and not there: %v", program, err)
		}
	}
}

// buildSidecert builds the binary as the Dockerfile does, whose flags these are.
func buildSidecert(t *testing.T) string {
	t.Helper()
	binary := filepath.Join(t.TempDir(), "sidecert")
	cmd := exec.CommandContext(t.Context(), "go", "build", "-race=false", "-trimpath", "-tags", "timetzdata", "-ldflags", "-s -w", "-o", binary,
		"github.com/sidecert/sidecert/cmd/sidecert")
	cmd.Env = append(os.Environ(), "CGO_ENABLED=0")
	if out, err := cmd.CombinedOutput(); err != nil {
		t.Fatalf("build sidecert: %v\n%s", err, out)
	}
	return binary
}

// authority is a CA and the web server from which it fetches challenges: that of NAME has the folder NAME/webroot below dir.
type authority struct {
	*acmetest.CA
	dir, roots string
	// accounts is how many accounts the CA has made; one that was there already is not made again.
	accounts atomic.Int64
}

func startAuthority(t *testing.T, config acmetest.Config) *authority {
	t.Helper()
	a := &authority{dir: t.TempDir()}
	listener, err := net.Listen("tcp", "127.0.0.1:0") // before the CA, which would only choose a port that nobody holds
	if err != nil {
		t.Fatal(err)
	}
	server := &http.Server{Handler: http.HandlerFunc(a.serveChallenge)}
	t.Cleanup(func() { server.Close() })
	go server.Serve(listener)
	config.HTTPPort, config.Wrap = listener.Addr().(*net.TCPAddr).Port, a.countAccounts
	if a.CA, err = acmetest.Start(config); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { a.Close() })
	a.roots = filepath.Join(a.dir, "ca.pem")
	if err := os.WriteFile(a.roots, []byte(a.HTTPRoots), 0o644); err != nil {
		t.Fatal(err)
	}
	return a
}

func (a *authority) serveChallenge(w http.ResponseWriter, r *http.Request) {
	name, _, _ := net.SplitHostPort(r.Host)
	http.FileServer(http.Dir(filepath.Join(a.dir, name, "webroot"))).ServeHTTP(w, r)
}

// "The server creates an account and stores the public key […] The server returns this account object in a 201 (Created) response",
// and a 200 for a key that it knows. RFC 8555 §7.3, §7.3.1
func (a *authority) countAccounts(next http.Handler) http.Handler {
	return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		if acmetest.Kind(r.URL.Path) == "newAccount" {
			w = &createdCounter{w, &a.accounts}
		}
		next.ServeHTTP(w, r)
	})
}

type createdCounter struct {
	http.ResponseWriter
	created *atomic.Int64
}

func (c *createdCounter) WriteHeader(status int) {
	if status == http.StatusCreated {
		c.created.Add(1)
	}
	c.ResponseWriter.WriteHeader(status)
}

// place is where a program keeps the certificate of one name.
type place struct{ name, dir string }

func (a *authority) place(t *testing.T, name string) place {
	t.Helper()
	p := place{name, filepath.Join(a.dir, name)}
	for _, folder := range []string{p.certs(), p.state(), p.webroot()} {
		if err := os.MkdirAll(folder, 0o755); err != nil {
			t.Fatal(err)
		}
	}
	return p
}

func (p place) certs() string   { return filepath.Join(p.dir, "certs") }
func (p place) state() string   { return filepath.Join(p.dir, "state") }
func (p place) webroot() string { return filepath.Join(p.dir, "webroot") }
func (p place) live(file string) string {
	return filepath.Join(p.certs(), "live", p.name, file+".pem")
}
