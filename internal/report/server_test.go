package report

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"net"
	"net/http"
	"net/http/httptest"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"

	"github.com/sidecert/sidecert/internal/cert"
)

func newTestServer(t *testing.T, s Standing) *Server {
	t.Helper()
	return newServerOf(ServerConfig{
		Standing: func() (Standing, error) { return s, nil },
		Journal:  func() ([]Entry, error) { return sampleJournal(s), nil },
	})
}

func newServerOf(c ServerConfig) *Server {
	c.Address, c.Metrics, c.Version = "127.0.0.1:0", NewMetrics("0.1.0"), "0.1.0"
	if c.Log == nil {
		c.Log = slog.New(slog.DiscardHandler)
	}
	if c.Health == nil {
		c.Health = func() ([]byte, error) { return Health{Ready: true, Beat: SinceBoot()}.Encode() }
	}
	if c.Journal == nil {
		c.Journal = func() ([]Entry, error) { return nil, nil }
	}
	return NewServer(c)
}

func ask(s *Server, method, path string) *httptest.ResponseRecorder {
	w := httptest.NewRecorder()
	s.handler.ServeHTTP(w, httptest.NewRequest(method, path, nil))
	return w
}

func TestEachPathAnswersReadersAlone(t *testing.T) {
	standing := samples()["failures"]
	standing.Listed = []byte("[\n]\n")
	s := newTestServer(t, standing)
	for _, test := range []struct {
		method, path string
		status       int
		kind, holds  string
	}{
		{"GET", "/", 200, "text/html; charset=utf-8", "<h1>Sidecert</h1>"},
		{"HEAD", "/", 200, "text/html; charset=utf-8", ""},
		{"GET", "/style.css", 200, "text/css; charset=utf-8", "prefers-color-scheme"},
		{"GET", "/icon.svg", 200, "image/svg+xml", "<svg"},
		{"GET", "/healthz", 200, "text/plain; charset=utf-8", "healthy\n"},
		{"GET", "/api/status", 200, "application/json", "[\n]\n"},
		{"GET", "/metrics", 200, "text/plain; version=0.0.4; charset=utf-8; escaping=underscores", "sidecert_build_info"},
		{"GET", "/index.html", 404, "", ""},
		{"GET", "/api/status/x", 404, "", ""},
		{"GET", "/debug/pprof/", 404, "", ""},
		{"POST", "/", 405, "", ""},
		{"PUT", "/api/status", 405, "", ""},
		{"DELETE", "/metrics", 405, "", ""},
		{"OPTIONS", "/healthz", 405, "", ""},
		{"TRACE", "/", 405, "", ""},
	} {
		w := ask(s, test.method, test.path)
		if w.Code != test.status {
			t.Errorf("%s %s is answered with %d, want %d", test.method, test.path, w.Code, test.status)
		}
		if got := w.Header().Get("Content-Type"); test.kind != "" && got != test.kind {
			t.Errorf("%s %s is %q, want %q", test.method, test.path, got, test.kind)
		}
		if !strings.Contains(w.Body.String(), test.holds) {
			t.Errorf("%s %s does not hold %q: %.300s", test.method, test.path, test.holds, w.Body)
		}
		for name, want := range map[string]string{
			"Content-Security-Policy": "default-src 'none'; style-src 'self'; img-src 'self'; base-uri 'none'; form-action 'none'; frame-ancestors 'none'",
			"X-Content-Type-Options":  "nosniff", "Referrer-Policy": "no-referrer", "Cross-Origin-Resource-Policy": "same-origin", "Cache-Control": "no-store",
		} {
			if got := w.Header().Get(name); got != want {
				t.Errorf("%s %s has %s: %q, want %q", test.method, test.path, name, got, want)
			}
		}
	}
}

func TestHealthzSaysWhatTheCommandSaysWithoutAName(t *testing.T) {
	healthOf := func(h Health) func() ([]byte, error) { return h.Encode }
	for _, test := range []struct {
		health func() ([]byte, error)
		status int
		text   string
	}{
		{healthOf(Health{Ready: true, Beat: SinceBoot()}), 200, "healthy\n"},
		{healthOf(Health{Beat: SinceBoot()}), 503, "the first pass is not over\n"},
		{healthOf(Health{Ready: true, Beat: SinceBoot(), Missing: []string{"example.org"}}), 503, "no files to serve for 1 certificate\n"},
		{healthOf(Health{Ready: true, Beat: SinceBoot(), Missing: []string{"example.org", "example.net"}}), 503, "no files to serve for 2 certificates\n"},
		{healthOf(Health{Ready: true, Beat: SinceBoot() - 2*time.Minute, Time: noon}), 503, "the daemon's last sign of life was at 2026-11-28T12:00:00Z\n"},
		{func() ([]byte, error) { return nil, errors.New("open /x/example.org: no such file") }, 503, "the daemon has given no sign of life yet\n"},
	} {
		s := newServerOf(ServerConfig{Health: test.health, Standing: func() (Standing, error) { return samples()["failures"], nil }})
		if w := ask(s, "GET", "/healthz"); w.Code != test.status || w.Body.String() != test.text {
			t.Errorf("/healthz is %d %q, want %d %q", w.Code, w.Body, test.status, test.text)
		}
	}
}

func TestWhatCannotBeReadIsSaid(t *testing.T) {
	s := newServerOf(ServerConfig{
		Standing: func() (Standing, error) { return Standing{}, errors.New("read state: input/output error") },
		Journal:  func() ([]Entry, error) { return nil, errors.New("read journal: input/output error") },
	})
	for _, path := range []string{"/", "/api/status"} {
		if w := ask(s, "GET", path); w.Code != 500 || !strings.Contains(w.Body.String(), "read state: input/output error") || w.Header().Get("Cache-Control") != "no-store" {
			t.Errorf("%s is %d %q with %v, want 500 with the reason", path, w.Code, w.Body, w.Header())
		}
	}
	if w := ask(s, "GET", "/metrics"); w.Code != 200 || !strings.Contains(w.Body.String(), "sidecert_attempts_total") || strings.Contains(w.Body.String(), "sidecert_certificate_") {
		t.Errorf("/metrics is %d, want what is counted without what cannot be read:\n%.2000s", w.Code, w.Body)
	}
	s = newServerOf(ServerConfig{
		Standing: func() (Standing, error) { return samples()["one"], nil }, Journal: func() ([]Entry, error) { return nil, errors.New("read journal: input/output error") },
	})
	if w := ask(s, "GET", "/"); w.Code != 200 || !strings.Contains(w.Body.String(), "read journal: input/output error") {
		t.Errorf("/ without a journal is %d, want 200 with the reason in the journal's place", w.Code)
	}
}

// Else a page that is asked for again and again keeps the disk busy, and the daemon with it.
func TestStandingIsReadOnceInTwoSecondsHoweverManyAsk(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		var read atomic.Int32
		s := newServerOf(ServerConfig{Standing: func() (Standing, error) {
			read.Add(1)
			return samples()["one"], nil
		}})
		storm := func() {
			var all sync.WaitGroup
			for i := range 90 {
				all.Go(func() { ask(s, "GET", []string{"/", "/api/status", "/metrics"}[i%3]) })
			}
			all.Wait()
		}
		storm()
		if n := read.Load(); n != 1 {
			t.Errorf("it was read %d times, want once", n)
		}
		time.Sleep(reuse)
		storm()
		if n := read.Load(); n != 2 {
			t.Errorf("it was read %d times after 2 s, want twice", n)
		}
	})
}

func TestAnswersHoldWhileTheDaemonCounts(t *testing.T) {
	s := newTestServer(t, samples()["failures"])
	var all sync.WaitGroup
	for i := range 8 {
		all.Go(func() {
			for range 50 {
				switch i {
				case 0:
					s.Metrics.Failed(cert.KindPerson)
					s.Metrics.Looked(cert.Look{Outcomes: []cert.Outcome{{Cert: "a", Container: "web", Action: "HUP", Class: cert.Current}}})
				case 1:
					s.Metrics.Asked("https://ca.example/dir", "POST", 201, time.Second, noon, noon)
					s.Metrics.Passed(noon)
				default:
					if w := ask(s, "GET", []string{"/", "/metrics", "/healthz"}[i%3]); w.Code != 200 && w.Code != 503 {
						t.Errorf("an answer is %d: %.200s", w.Code, w.Body)
					}
				}
			}
		})
	}
	all.Wait()
}

// started runs a server on a port of its own.
func started(t *testing.T, s *Server) string {
	t.Helper()
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	s.Address = l.Addr().String()
	l.Close()
	ctx, cancel := context.WithCancel(t.Context())
	var running sync.WaitGroup
	running.Go(func() { s.Run(ctx) })
	t.Cleanup(func() { cancel(); running.Wait() })
	awaitPort(t, s.Address)
	return s.Address
}

func awaitPort(t *testing.T, address string) {
	t.Helper()
	for end := time.Now().Add(20 * time.Second); ; time.Sleep(5 * time.Millisecond) {
		conn, err := net.Dial("tcp", address)
		if err == nil {
			conn.Close()
			return
		}
		if time.Now().After(end) {
			t.Fatalf("nobody listens: %v", err)
		}
	}
}

func TestLongHeadersAreRefused(t *testing.T) {
	address := started(t, newTestServer(t, samples()["one"]))
	for size, want := range map[int]int{4 << 10: 200, 16 << 10: 431} {
		req, err := http.NewRequest("GET", "http://"+address+"/healthz", nil)
		if err != nil {
			t.Fatal(err)
		}
		req.Header.Set("X-Long", strings.Repeat("a", size))
		resp, err := http.DefaultClient.Do(req)
		if err != nil {
			t.Fatalf("a header of %d bytes: %v", size, err)
		}
		resp.Body.Close()
		if resp.StatusCode != want {
			t.Errorf("a header of %d bytes is answered with %d, want %d", size, resp.StatusCode, want)
		}
	}
}

func TestMoreConnectionsThanMayBeWaitAndAreServedThen(t *testing.T) {
	address := started(t, newTestServer(t, samples()["one"]))
	var idle []net.Conn
	for range maxConns {
		conn, err := net.Dial("tcp", address)
		if err != nil {
			t.Fatal(err)
		}
		defer conn.Close()
		fmt.Fprintf(conn, "GET /healthz HTTP/1.1\r\nHost: x\r\n\r\n")
		if _, err := io.ReadFull(conn, make([]byte, 12)); err != nil {
			t.Fatalf("connection %d of %d is not answered: %v", len(idle)+1, maxConns, err)
		}
		idle = append(idle, conn)
	}
	one, err := net.Dial("tcp", address)
	if err != nil {
		t.Fatal(err)
	}
	defer one.Close()
	fmt.Fprintf(one, "GET /healthz HTTP/1.1\r\nHost: x\r\n\r\n")
	one.SetReadDeadline(time.Now().Add(200 * time.Millisecond))
	if n, err := one.Read(make([]byte, 12)); err == nil {
		t.Fatalf("one connection more than %d was answered with %d bytes", maxConns, n)
	}
	idle[0].Close()
	one.SetReadDeadline(time.Now().Add(20 * time.Second))
	if _, err := io.ReadFull(one, make([]byte, 12)); err != nil {
		t.Errorf("the one that waited is not answered when another has gone: %v", err)
	}
}

// safeBuffer is a log that is read while it is written.
type safeBuffer struct {
	mu sync.Mutex
	b  bytes.Buffer
}

func (s *safeBuffer) Write(p []byte) (int, error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.b.Write(p)
}

func (s *safeBuffer) String() string {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.b.String()
}

func TestPortInUseIsAWarningAndTakenWhenItIsFree(t *testing.T) {
	taken, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	log := &safeBuffer{}
	s := newServerOf(ServerConfig{Standing: func() (Standing, error) { return samples()["one"], nil }, Log: slog.New(slog.NewTextHandler(log, nil))})
	s.Address, s.relisten = taken.Addr().String(), 5*time.Millisecond
	ctx, cancel := context.WithCancel(t.Context())
	var running sync.WaitGroup
	running.Go(func() { s.Run(ctx) })
	await(t, log, "address already in use")
	time.Sleep(20 * s.relisten) // several more tries, which say nothing new
	taken.Close()
	await(t, log, "status page can be reached now")
	if resp, err := http.Get("http://" + s.Address + "/healthz"); err != nil || resp.StatusCode != 200 {
		t.Errorf("/healthz after the port was free: %v, %v", resp, err)
	}
	cancel()
	running.Wait()
	if n := strings.Count(log.String(), "\n"); n != 2 || !strings.Contains(log.String(), `level=WARN msg="status page and metrics cannot be reached" listen=`+s.Address) {
		t.Errorf("the log has %d lines, want a WARN and its end:\n%s", n, log)
	}
}

func await(t *testing.T, log *safeBuffer, text string) {
	t.Helper()
	for end := time.Now().Add(20 * time.Second); !strings.Contains(log.String(), text); time.Sleep(5 * time.Millisecond) {
		if time.Now().After(end) {
			t.Fatalf("the log does not say %q:\n%s", text, log)
		}
	}
}
