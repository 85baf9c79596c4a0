package acme

import (
	"context"
	"fmt"
	"io"
	"log/slog"
	"net"
	"net/http"
	"net/http/httptest"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/sidecert/sidecert/internal/cert"
)

// web is a web container that a probe meets: handler is asked under any name.
type web struct {
	webroot string
	server  *httptest.Server
	issuer  *Issuer
	// public is where names lead; "" for nowhere.
	public string
}

func newWeb(t *testing.T, handler func(files http.Handler) http.Handler) *web {
	t.Helper()
	w := &web{webroot: t.TempDir()}
	w.server = httptest.NewServer(handler(http.FileServer(http.Dir(w.webroot))))
	t.Cleanup(w.server.Close)
	w.issuer = New(Config{
		Log:       slog.New(slog.NewTextHandler(io.Discard, nil)),
		Upstreams: func(context.Context, cert.Spec) []string { return []string{w.server.Listener.Addr().String()} },
		Managed:   func(name string) bool { return name == "www.example.test" },
	})
	w.issuer.pace = func(d time.Duration) time.Duration { return d / 200 }
	w.issuer.dial = func(ctx context.Context, network, address string) (net.Conn, error) {
		if w.public == "" {
			return nil, &net.DNSError{Err: "no such host", Name: address, IsNotFound: true}
		}
		return new(net.Dialer).DialContext(ctx, network, w.public)
	}
	return w
}

func (w *web) preflight(names ...string) error {
	return w.issuer.Preflight(context.Background(), cert.Spec{Name: names[0], Names: names, Webroot: w.webroot}, names)
}

func always(h http.HandlerFunc) func(http.Handler) http.Handler {
	return func(http.Handler) http.Handler { return h }
}

func plain(files http.Handler) http.Handler { return files }

func TestServedWebrootPassesAndIsLeftClean(t *testing.T) {
	w := newWeb(t, plain)
	if err := w.preflight("example.test", "www.example.test"); err != nil {
		t.Fatal(err)
	}
	if files, _ := filepath.Glob(filepath.Join(w.webroot, challengePath, "*")); len(files) != 0 {
		t.Errorf("the webroot still has %v", files)
	}
}

func TestPublicNameIsEnough(t *testing.T) {
	w := newWeb(t, plain)
	w.public = w.server.Listener.Addr().String()
	w.issuer.config.Upstreams = nil
	if err := w.preflight("example.test"); err != nil {
		t.Error(err)
	}
}

func TestProbeAsksUnderTheNameAsTheCAWould(t *testing.T) {
	w := newWeb(t, func(files http.Handler) http.Handler {
		return http.HandlerFunc(func(rw http.ResponseWriter, r *http.Request) {
			if r.Host != "example.test" || r.Method != http.MethodGet {
				http.NotFound(rw, r)
				return
			}
			files.ServeHTTP(rw, r)
		})
	})
	if err := w.preflight("example.test"); err != nil {
		t.Error(err)
	}
}

func TestSpaceAtTheEndIsForgivenAndNothingElse(t *testing.T) {
	for addition, want := range map[string]bool{"": true, "\r\n": true, " \t\n": true, "x": false} {
		w := newWeb(t, func(files http.Handler) http.Handler {
			return http.HandlerFunc(func(rw http.ResponseWriter, r *http.Request) {
				rec := httptest.NewRecorder()
				files.ServeHTTP(rec, r)
				rw.Write(append(rec.Body.Bytes(), addition...))
			})
		})
		if err := w.preflight("example.test"); (err == nil) != want {
			t.Errorf("answer with %q at its end: %v", addition, err)
		}
	}
}

func TestPreflightWaitsForALateWebServer(t *testing.T) {
	var asked atomic.Int64
	w := newWeb(t, func(files http.Handler) http.Handler {
		return http.HandlerFunc(func(rw http.ResponseWriter, r *http.Request) {
			if asked.Add(1) < 4 {
				http.Error(rw, "starting", http.StatusServiceUnavailable)
				return
			}
			files.ServeHTTP(rw, r)
		})
	})
	if err := w.preflight("example.test"); err != nil {
		t.Error(err)
	}
}

func TestPreflightSaysWhatCameBackAndWhatToDo(t *testing.T) {
	status := func(code int, body string) func(http.Handler) http.Handler {
		return always(func(w http.ResponseWriter, r *http.Request) {
			w.Header().Set("Server", "nginx/1.29")
			w.WriteHeader(code)
			io.WriteString(w, body)
		})
	}
	to := func(url string) func(http.Handler) http.Handler {
		return always(func(w http.ResponseWriter, r *http.Request) { http.Redirect(w, r, url, http.StatusFound) })
	}
	rows := []struct {
		name      string
		handler   func(http.Handler) http.Handler
		err, hint string
	}{
		{"not found", status(404, "<h1>Not\x1b Found"), `answered 404 (Server: nginx/1.29), beginning "<h1>Not Found"`, "mount the webroot volume in the web container too"},
		{"wrong content", status(200, "welcome"), `answered 200 (Server: nginx/1.29), beginning "welcome"`, "another server block"},
		{"password", status(401, ""), "answered 401", "password"},
		{"forbidden", status(403, ""), "answered 403", "let the web server read"},
		{"application away", status(502, ""), "answered 502", "passes the path on"},
		{"endless body", always(func(w http.ResponseWriter, r *http.Request) {
			for {
				if _, err := w.Write(make([]byte, 4096)); err != nil {
					return
				}
			}
		}), "answered 200", "another server block"},
		{"redirect to a stranger", to("http://login.elsewhere.test/"), "redirects to http://login.elsewhere.test/, which is not followed from here", "before any redirect"},
		{"redirect to the metadata service", to("http://169.254.169.254/latest/"), "not followed from here", "before any redirect"},
		{"redirect to the Docker API", to("http://example.test:2375/"), "redirects to port 2375", "before any redirect"},
		{"redirect to ftp", to("ftp://example.test/"), "redirects to ftp://example.test/, which the CA does not follow", "before any redirect"},
		{"redirects in a circle", to("/again"), "redirects more than 10 times", "before any redirect"},
	}
	for _, row := range rows {
		t.Run(row.name, func(t *testing.T) {
			t.Parallel()
			w := newWeb(t, row.handler)
			e := failed(t, w.preflight("example.test"))
			if e.Op != "preflight" || e.Name != "example.test" || !strings.Contains(e.Err.Error(), row.err) || !strings.Contains(e.Hint, row.hint) {
				t.Errorf("op %q name %q\nerr  %q, want %q in it\nhint %q, want %q in it", e.Op, e.Name, e.Err, row.err, e.Hint, row.hint)
			}
			if strings.ContainsAny(e.Err.Error()+e.Hint, "\x1b\r\n") {
				t.Errorf("control characters in %q or %q", e.Err, e.Hint)
			}
		})
	}
}

func TestRedirectsAmongOurNamesAreFollowed(t *testing.T) {
	w := newWeb(t, func(files http.Handler) http.Handler {
		return http.HandlerFunc(func(rw http.ResponseWriter, r *http.Request) {
			if r.Host == "example.test" {
				http.Redirect(rw, r, "http://www.example.test"+r.URL.Path, http.StatusMovedPermanently)
				return
			}
			files.ServeHTTP(rw, r)
		})
	})
	if err := w.preflight("example.test"); err != nil {
		t.Error(err)
	}
}

func TestRedirectToHTTPSWithAnyCertificateIsFollowed(t *testing.T) {
	w := newWeb(t, plain)
	secure := httptest.NewTLSServer(http.FileServer(http.Dir(w.webroot)))
	defer secure.Close()
	redirect := httptest.NewServer(http.HandlerFunc(func(rw http.ResponseWriter, r *http.Request) {
		http.Redirect(rw, r, "https://"+r.Host+r.URL.Path, http.StatusMovedPermanently)
	}))
	defer redirect.Close()
	w.issuer.config.Upstreams = nil
	w.issuer.dial = func(ctx context.Context, network, address string) (net.Conn, error) {
		to := redirect.Listener.Addr().String()
		if strings.HasSuffix(address, ":443") {
			to = secure.Listener.Addr().String()
		}
		return new(net.Dialer).DialContext(ctx, network, to)
	}
	if err := w.preflight("example.test"); err != nil {
		t.Error(err)
	}
}

func TestUpstreamsHTTPSIsDialledAtItsPort443(t *testing.T) {
	_, err := towards("127.0.0.1:8080")(t.Context(), "tcp", "example.test:443")
	if err == nil || !strings.Contains(err.Error(), "127.0.0.1:443") {
		t.Skipf("something listens on port 443 here: %v", err)
	}
}

func TestNobodyThereIsExplained(t *testing.T) {
	w := newWeb(t, plain)
	w.server.Close()
	if e := failed(t, w.preflight("example.test")); !strings.Contains(e.Hint, "is the web container running") {
		t.Errorf("hint %q (%v)", e.Hint, e)
	}
	w.issuer.config.Upstreams = nil
	if e := failed(t, w.preflight("example.test")); !strings.Contains(e.Hint, "A and AAAA records") {
		t.Errorf("hint %q (%v)", e.Hint, e)
	}
}

func TestEveryUnservedNameIsNamed(t *testing.T) {
	w := newWeb(t, func(files http.Handler) http.Handler {
		return http.HandlerFunc(func(rw http.ResponseWriter, r *http.Request) {
			if strings.HasPrefix(r.Host, "bad") {
				http.NotFound(rw, r)
				return
			}
			files.ServeHTTP(rw, r)
		})
	})
	err := w.preflight("good.test", "bad1.test", "bad2.test")
	if e := failed(t, err); e.Name != "bad1.test" || !strings.Contains(err.Error(), "also not served: bad2.test") || strings.Contains(err.Error(), "good") {
		t.Errorf("error %q of name %q", err, e.Name)
	}
}

func TestPreflightEndsWithItsContext(t *testing.T) {
	ctx, cancel := context.WithCancel(context.Background())
	w := newWeb(t, always(func(rw http.ResponseWriter, r *http.Request) {
		cancel()
		<-r.Context().Done()
	}))
	w.issuer.pace = func(d time.Duration) time.Duration { return d }
	begun := time.Now()
	err := w.issuer.Preflight(ctx, cert.Spec{Name: "example.test", Webroot: w.webroot}, []string{"example.test"})
	if e := failed(t, err); e.Kind != cert.KindInterrupted {
		t.Errorf("kind %q, want interrupted", e.Kind)
	}
	if took := time.Since(begun); took > 2*time.Second {
		t.Errorf("ended after %s, want at once", took)
	}
}

func TestPreflightOffTouchesNothing(t *testing.T) {
	w := newWeb(t, plain)
	w.issuer.config.Preflight = PreflightOff
	w.webroot = filepath.Join(w.webroot, "none")
	if err := w.preflight("example.test"); err != nil {
		t.Error(err)
	}
	if _, err := os.Stat(w.webroot); err == nil {
		t.Error("the webroot was made")
	}
}

func TestMetadataServicesAreNotDialled(t *testing.T) {
	for address, want := range map[string]bool{
		"169.254.169.254:80": false, "[fe80::1%eth0]:80": false, "[fd00:ec2::254]:80": false, "100.100.100.200:80": false,
		"[::ffff:169.254.169.254]:80": false, "168.63.129.16:80": false, "[fd20:ce::254]:80": false,
		"[64:ff9b::a9fe:a9fe]:80": false, "[64:ff9b::168.63.129.16]:80": false, "[64:ff9b::203.0.113.7]:80": true, "[64:ff9b:1::a9fe:a9fe]:80": true, "0.0.0.0:80": false, "224.0.0.1:80": false, "nonsense": false,
		"203.0.113.7:80": true, "10.0.0.5:443": true, "[2001:db8::1]:80": true, "127.0.0.1:80": true,
	} {
		if err := checkAddress(address); (err == nil) != want {
			t.Errorf("checkAddress(%s) = %v, want dialled %t", address, err, want)
		}
	}
	if _, err := publicDialer()(t.Context(), "tcp", "169.254.169.254:80"); err == nil || !strings.Contains(err.Error(), "not asked") {
		t.Errorf("dial of the metadata service: %v, want it refused by us", err)
	}
}

func TestManyNamesShareOneMinute(t *testing.T) {
	w := newWeb(t, always(http.NotFound))
	var names []string
	for n := range 100 {
		names = append(names, fmt.Sprintf("n%d.test", n))
	}
	begun := time.Now()
	if err := w.preflight(names...); err == nil {
		t.Error("nothing is served and preflight passed")
	}
	if took := time.Since(begun); took > 10*time.Second {
		t.Errorf("took %s, want the limit of one name", took)
	}
}

func TestByteOrderMarkBeforeTheFileIsTold(t *testing.T) {
	w := newWeb(t, func(files http.Handler) http.Handler {
		return http.HandlerFunc(func(rw http.ResponseWriter, r *http.Request) {
			io.WriteString(rw, "\ufeff")
			files.ServeHTTP(rw, r)
		})
	})
	e := failed(t, w.preflight("example.test"))
	if !strings.Contains(e.Err.Error(), "is served, but with a byte order mark before it") || !strings.Contains(e.Hint, "send the files of the webroot volume as they are") {
		t.Errorf("err  %q, want the byte order mark told\nhint %q, want to have it sent as it is", e.Err, e.Hint)
	}
}

// A cache in front of the web server remembers for good what it was told of a path, as some do with a 404 for minutes.
func TestCacheThatRemembersAnAnswerDisturbsNoLaterProbe(t *testing.T) {
	var away atomic.Bool
	var remembered sync.Map
	w := newWeb(t, func(files http.Handler) http.Handler {
		return http.HandlerFunc(func(rw http.ResponseWriter, r *http.Request) {
			if _, known := remembered.Load(r.URL.Path); known || away.Load() {
				remembered.Store(r.URL.Path, true)
				http.NotFound(rw, r)
				return
			}
			files.ServeHTTP(rw, r)
		})
	})
	away.Store(true)
	if e := failed(t, w.preflight("example.test")); !strings.Contains(e.Err.Error(), "answered 404") {
		t.Fatalf("while the files are away: %v, want the 404", e)
	}
	away.Store(false)
	if err := w.preflight("example.test"); err != nil {
		t.Errorf("once the files are there: %v, want a probe by a name that no cache knows", err)
	}
}
