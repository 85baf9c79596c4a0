package acme

import (
	"bytes"
	"context"
	"encoding/base64"
	"encoding/json"
	"fmt"
	"io"
	"net/http"
	"net/http/httptest"
	"os"
	"path/filepath"
	"strings"
	"sync/atomic"
	"testing"
	"time"

	"github.com/sidecert/sidecert/internal/acmetest"
	"github.com/sidecert/sidecert/internal/cert"
)

func TestOneBadNameAmongGoodOnesIsNamed(t *testing.T) {
	s := newSite(t, acmetest.Config{})
	s.SetDNS("bad.example.test", "")
	req, kept := s.request("good.example.test", "bad.example.test", "www.example.test")
	_, err := s.issuer.Obtain(context.Background(), req)
	e := failed(t, err)
	if e.Op != "authorization" || e.Name != "bad.example.test" || e.Kind != cert.KindPassing {
		t.Errorf("op %q name %q kind %q, want a passing authorization failure of bad.example.test", e.Op, e.Name, e.Kind)
	}
	if !strings.Contains(err.Error(), `could not resolve URL`) || e.Hint == "" {
		t.Errorf("error %q, hint %q: want the CA's own words and something to do", err, e.Hint)
	}
	if kept.order != nil {
		t.Error("the dead order was kept")
	}
	if got := s.leftovers(t); len(got) != 0 {
		t.Errorf("the webroot still has %v", got)
	}
}

func TestAllBadNamesAreNamed(t *testing.T) {
	s := newSite(t, acmetest.Config{})
	s.SetDNS("bad1.test", "")
	s.SetDNS("bad2.test", "127.0.0.9") // nothing listens there
	req, _ := s.request("good.test", "bad1.test", "bad2.test")
	_, err := s.issuer.Obtain(context.Background(), req)
	for _, name := range []string{"bad1.test", "bad2.test"} {
		if !strings.Contains(err.Error(), name) {
			t.Errorf("error %q does not name %s", err, name)
		}
	}
	if strings.Contains(err.Error(), "good.test") {
		t.Errorf("error %q names good.test", err)
	}
}

func TestWrongContentIsExplained(t *testing.T) {
	s := newSite(t, acmetest.Config{})
	req, _ := s.request("example.test")
	req.Spec.Webroot = t.TempDir() // not the one that is served
	_, err := s.issuer.Obtain(context.Background(), req)
	e := failed(t, err)
	if !strings.HasPrefix(e.Hint, "mount the webroot volume in the web container too") || !strings.Contains(e.Hint, "; seen from here: http://example.test/.well-known/acme-challenge/…") {
		t.Errorf("hint %q, want what is seen from here, and what to do", e.Hint)
	}
}

func TestRejectedNameNeedsAPerson(t *testing.T) {
	s := newSite(t, acmetest.Config{})
	if err := s.Block("blocked.test"); err != nil {
		t.Fatal(err)
	}
	req, kept := s.request("example.test", "www.blocked.test")
	_, err := s.issuer.Obtain(context.Background(), req)
	e := failed(t, err)
	if e.Kind != cert.KindPerson || !strings.Contains(err.Error(), "www.blocked.test") {
		t.Errorf("error %v of kind %q, want one for a person that names www.blocked.test", err, e.Kind)
	}
	if kept.order == nil || kept.order.URL != "" {
		t.Error("want the order saved without URL: the CA made none")
	}
}

// payload is what a signed request says; "" is a POST-as-GET.
func payload(t *testing.T, r *http.Request) string {
	t.Helper()
	data, err := io.ReadAll(r.Body)
	if err != nil {
		t.Error(err)
	}
	r.Body = io.NopCloser(bytes.NewReader(data))
	var jws struct{ Payload string }
	if err := json.Unmarshal(data, &jws); err != nil {
		t.Error(err)
	}
	said, err := base64.RawURLEncoding.DecodeString(jws.Payload)
	if err != nil {
		t.Error(err)
	}
	return string(said)
}

// The authorization that could not be tried, because its webroot is broken, is given back when another one is dead.
func TestPendingAuthorizationsOfADeadOrderAreDeactivated(t *testing.T) {
	var given atomic.Int64
	s := newSite(t, acmetest.Config{Wrap: func(next http.Handler) http.Handler {
		return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
			if acmetest.Kind(r.URL.Path) == "authorization" && payload(t, r) == `{"status":"deactivated"}` {
				given.Add(1)
			}
			next.ServeHTTP(w, r)
		})
	}})
	s.SetDNS("bad.test", "")
	req, _ := s.request("bad.test", "good.test")
	blocked := filepath.Join(t.TempDir(), "file")
	writeFile(t, blocked, "")
	req.Spec.Webroots = map[string]string{"good.test": filepath.Join(blocked, "no", "folder")}
	if _, err := s.issuer.Obtain(context.Background(), req); err == nil {
		t.Fatal("Obtain succeeded")
	}
	if n := given.Load(); n != 1 {
		t.Errorf("%d authorizations were deactivated, want the one that was pending", n)
	}
}

func TestProblemsByTypeAndStatus(t *testing.T) {
	rows := []struct {
		name               string
		kind, typ, detail  string
		status             int
		retryAfter         string
		wantKind           cert.Kind
		wantWait           time.Duration
		wantHint, wantText string
	}{
		{"busy with seconds", "newOrder", "rateLimited", "Service busy; retry later.", 503, "3600", cert.KindBusy, time.Hour, "", ""},
		{"too many orders of the account", "newOrder", "rateLimited", "too many new orders (300) from this account in the last 3h0m0s", 429, "90", cert.KindBusy, 90 * time.Second, "wait", "too many new orders"},
		{"too many certificates for the set", "newOrder", "rateLimited", "too many certificates (5) already issued for this exact set of identifiers", 429, "7200", cert.KindPassing, 2 * time.Hour, "wait", ""},
		{"failed authorizations of a name", "newOrder", "rateLimited", "too many failed authorizations (5) for example.test", 429, "720", cert.KindPassing, 12 * time.Minute, "wait", ""},
		{"paused", "newOrder", "rateLimited", "Your account is temporarily prevented from requesting certificates for example.test and possibly others. Please visit: https://portal.ca.test/sfe/v1/unpause?jwt=" + strings.Repeat("a", 700), 429, "", cert.KindPerson, 0, "https://portal.ca.test/sfe/v1/unpause?jwt=" + strings.Repeat("a", 700), ""},
		{"a year to wait", "newOrder", "rateLimited", "no", 429, "31536000", cert.KindBusy, maxRetryAfter, "", ""},
		{"garbage to wait", "newOrder", "serverInternal", "no", 500, "soon", cert.KindPassing, 0, "CA's own", ""},
		{"no certificate for the name", "newOrder", "rejectedIdentifier", "policy", 400, "", cert.KindPerson, 0, "example.test", "policy (rejectedIdentifier)"},
		{"CAA", "finalize", "caa", "CAA forbids", 403, "", cert.KindPerson, 0, "CAA record of example.test", ""},
		{"terms", "newOrder", "userActionRequired", "new terms", 403, "", cert.KindPerson, 0, "terms", ""},
		{"contact", "newAccount", "unsupportedContact", "no such domain", 400, "", cert.KindPerson, 0, "EMAIL", ""},
		{"bad CSR", "finalize", "badCSR", "weak key", 400, "", cert.KindPerson, 0, "KEY_TYPE", ""},
		{"malformed", "newOrder", "malformed", "what", 400, "", cert.KindPerson, 0, "", ""},
		{"down at newOrder", "newOrder", "serverInternal", "oops", 500, "", cert.KindPassing, 0, "", ""},
		{"down at the account", "newAccount", "", "", 502, "", cert.KindUnreachable, 0, "", "Bad Gateway"},
		{"busy at the nonce", "newNonce", "", "", 503, "60", cert.KindBusy, time.Minute, "", ""},
		{"no directory there", "directory", "", "404 page not found", 404, "", cert.KindPassing, 0, "ACME_CA", ""},
		{"control characters", "newOrder", "malformed", `\u001b[31mred\r\nlevel=ERROR msg=fake`, 400, "", cert.KindPerson, 0, "", "[31mred level=ERROR msg=fake (malformed)"},
	}
	for _, row := range rows {
		t.Run(row.name, func(t *testing.T) {
			t.Parallel()
			s := newSite(t, acmetest.Config{Wrap: answer(row.kind, func(w http.ResponseWriter, r *http.Request) {
				if row.retryAfter != "" {
					w.Header().Set("Retry-After", row.retryAfter)
				}
				if row.typ == "" {
					http.Error(w, row.detail, row.status)
					return
				}
				problem(w, row.status, row.typ, row.detail)
			})})
			now := time.Now()
			s.issuer.config.Now = func() time.Time { return now }
			req, _ := s.request("example.test")
			_, err := s.issuer.Obtain(context.Background(), req)
			e := failed(t, err)
			if e.Kind != row.wantKind {
				t.Errorf("kind %q, want %q (%v)", e.Kind, row.wantKind, err)
			}
			if row.wantWait == 0 && !e.NotBefore.IsZero() || row.wantWait != 0 && !e.NotBefore.Equal(now.Add(row.wantWait)) {
				t.Errorf("NotBefore %v, want %s from %v", e.NotBefore, row.wantWait, now)
			}
			if !strings.Contains(e.Hint, row.wantHint) {
				t.Errorf("hint %q, want %q in it", e.Hint, row.wantHint)
			}
			if !strings.Contains(e.Err.Error(), row.wantText) {
				t.Errorf("error %q, want %q in it", e.Err, row.wantText)
			}
			if n := s.Requests()[row.kind]; n > 4 {
				t.Errorf("%d requests of kind %s, want at most 4", n, row.kind)
			}
		})
	}
}

func TestServerErrorOnceIsRepeated(t *testing.T) {
	for _, kind := range []string{"directory", "newAccount", "newOrder", "authorization", "challenge", "finalize", "order", "certificate"} {
		t.Run(kind, func(t *testing.T) {
			t.Parallel()
			var seen atomic.Int64
			s := newSite(t, acmetest.Config{Wrap: answerFirst(kind, &seen, func(w http.ResponseWriter, r *http.Request) {
				w.Header().Set("Retry-After", "1")
				http.Error(w, "upstream", http.StatusBadGateway)
			})})
			s.obtain(t, "example.test")
		})
	}
}

func TestCAThatIsAwayIsUnreachable(t *testing.T) {
	s := newSite(t, acmetest.Config{})
	req, _ := s.request("example.test")
	s.CA.Close()
	_, err := s.issuer.Obtain(context.Background(), req)
	if e := failed(t, err); e.Kind != cert.KindUnreachable || !strings.Contains(e.Hint, "cannot reach the CA") {
		t.Errorf("kind %q, hint %q (%v)", e.Kind, e.Hint, err)
	}
}

func TestUnknownRootNamesItsIssuer(t *testing.T) {
	s := newSite(t, acmetest.Config{})
	req, _ := s.request("example.test")
	req.Spec.CA.Roots = ""
	_, err := s.issuer.Obtain(context.Background(), req)
	if e := failed(t, err); e.Kind != cert.KindUnreachable || !strings.Contains(e.Hint, "placeholder CA") || !strings.Contains(e.Hint, "ACME_CA_BUNDLE") {
		t.Errorf("kind %q, hint %q (%v)", e.Kind, e.Hint, err)
	}
	req.Spec.CA.Roots, req.Spec.CA.EABKID = "no PEM", "another account"
	if _, err = s.issuer.Obtain(context.Background(), req); failed(t, err).Kind != cert.KindPerson {
		t.Errorf("roots without a certificate gave %v", err)
	}
}

func TestBadNonceStormEnds(t *testing.T) {
	t.Run("half of them", func(t *testing.T) {
		s := newSite(t, acmetest.Config{NonceReject: 50})
		req, kept := s.request("example.test")
		for range 5 { // a request is refused nine times in a row once in 512 times; the order goes on then
			req.Order = kept.order
			if _, err := s.issuer.Obtain(context.Background(), req); err == nil {
				break
			}
		}
		if s.Issued() != 1 {
			t.Errorf("%d certificates, want 1", s.Issued())
		}
		if n := s.Total(); n > 60 {
			t.Errorf("%d requests, want at most 60", n)
		}
	})
	t.Run("all of them", func(t *testing.T) {
		s := newSite(t, acmetest.Config{NonceReject: 100})
		req, _ := s.request("example.test")
		_, err := s.issuer.Obtain(context.Background(), req)
		if !isProblem(err, "badNonce") || failed(t, err).Hint == "" {
			t.Errorf("error %v, want the CA's bad nonce and a hint", err)
		}
		if n := s.Total(); n > 12 {
			t.Errorf("%d requests, want at most 12", n)
		}
	})
}

func TestHostileAnswersAreRefused(t *testing.T) {
	const directory = `{"newNonce":"%s/n","newAccount":"%s/a","newOrder":"%s/o"}`
	page := func(kind, body string) http.HandlerFunc {
		return func(w http.ResponseWriter, r *http.Request) {
			w.Header().Set("Content-Type", kind)
			fmt.Fprint(w, body)
		}
	}
	elsewhere := func(url string) string { return strings.ReplaceAll(directory, "%s", url) }
	rows := []struct {
		name, kind string
		answer     http.HandlerFunc
		want       string
	}{
		{"endless body", "newOrder", func(w http.ResponseWriter, r *http.Request) {
			for range 2000 {
				if _, err := w.Write(make([]byte, 1<<10)); err != nil {
					return
				}
			}
		}, "more than 1048576 bytes"},
		{"portal", "directory", page("text/html", "<html>Log in</html>"), "web page"},
		{"http in the directory", "directory", page("application/json", elsewhere("http://127.0.0.1:1")), "not https"},
		{"file in the directory", "directory", page("application/json", elsewhere("file:///etc")), "not https"},
		{"no newOrder", "directory", page("application/json", `{}`), "RFC 8555"},
		{"no newNonce", "directory", page("application/json", `{"newOrder":"https://127.0.0.1:1/"}`), "lacks newNonce"},
		{"null order", "newOrder", func(w http.ResponseWriter, r *http.Request) { w.WriteHeader(201); fmt.Fprint(w, "null") }, "no URL"},
		{"order of nonsense", "newOrder", func(w http.ResponseWriter, r *http.Request) { w.WriteHeader(201); fmt.Fprint(w, "[[[[") }, "cannot be read"},
		{"order with too many authorizations", "newOrder", func(w http.ResponseWriter, r *http.Request) {
			w.Header().Set("Location", "https://127.0.0.1:1/")
			w.WriteHeader(201)
			fmt.Fprint(w, `{"status":"pending","authorizations":["x"`+strings.Repeat(`,"x"`, 300)+`]}`)
		}, "301 authorizations"},
		{"redirected POST", "newOrder", func(w http.ResponseWriter, r *http.Request) {
			http.Redirect(w, r, "https://127.0.0.1:1/", http.StatusTemporaryRedirect)
		}, "redirects POST"},
		{"no nonce", "newNonce", func(w http.ResponseWriter, r *http.Request) {}, "nonce"},
		{"authorization for another name", "authorization", page("application/json", `{"status":"pending","identifier":{"type":"dns","value":"other.test"}}`), "not ordered"},
		{"hostile token", "authorization", page("application/json", `{"status":"pending","identifier":{"type":"dns","value":"example.test"},"challenges":[{"type":"http-01","url":"https://127.0.0.1:1/","token":"../../../../tmp/sidecert-escaped"}]}`), "token"},
		{"no http-01", "authorization", page("application/json", `{"status":"pending","identifier":{"type":"dns","value":"example.test"},"challenges":[{"type":"dns-01"}]}`), "no http-01"},
		{"unknown status of an authorization", "authorization", page("application/json", `{"status":"asleep","identifier":{"type":"dns","value":"example.test"}}`), `status "asleep"`},
		{"deactivated authorization", "authorization", page("application/json", `{"status":"deactivated","identifier":{"type":"dns","value":"example.test"}}`), `status "deactivated"`},
		{"unknown status of an order", "order", page("application/json", `{"status":"asleep"}`), `status "asleep"`},
		{"invalid order", "order", page("application/json", `{"status":"invalid","error":{"type":"urn:ietf:params:acme:error:caa","detail":"late CAA"}}`), "late CAA"},
		{"no certificate", "certificate", page("application/pem-certificate-chain", "hello"), "chain is empty"},
	}
	for _, row := range rows {
		t.Run(row.name, func(t *testing.T) {
			t.Parallel()
			s := newSite(t, acmetest.Config{Wrap: answer(row.kind, row.answer)})
			req, _ := s.request("example.test")
			_, err := s.issuer.Obtain(context.Background(), req)
			if failed(t, err); !strings.Contains(err.Error(), row.want) {
				t.Errorf("error %q, want %q in it", err, row.want)
			}
			if n := len(err.Error()); n > 700 || strings.ContainsAny(err.Error(), "\n\r\x1b") {
				t.Errorf("error of %d bytes or with control characters: %q", n, err)
			}
			if _, err := os.Lstat("/tmp/sidecert-escaped"); err == nil {
				t.Error("a token wrote outside of the webroot")
			}
		})
	}
}

func TestDirectoryMayBeRedirected(t *testing.T) {
	s := newSite(t, acmetest.Config{Wrap: func(next http.Handler) http.Handler {
		return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
			if r.URL.Path == "/old" {
				http.Redirect(w, r, "/dir", http.StatusMovedPermanently)
				return
			}
			next.ServeHTTP(w, r)
		})
	}})
	req, _ := s.request("example.test")
	req.Spec.CA.Directory = strings.TrimSuffix(s.Directory, "/dir") + "/old"
	must(t, s.issuer, req)
}

// certificateFor has the CA hand out another certificate than the one it issued.
func certificateFor(bundle *cert.Bundle) func(http.Handler) http.Handler {
	return func(next http.Handler) http.Handler {
		return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
			if acmetest.Kind(r.URL.Path) != "certificate" {
				next.ServeHTTP(w, r)
				return
			}
			rec := httptest.NewRecorder()
			next.ServeHTTP(rec, r)
			if bundle.Chain == nil {
				w.Write(rec.Body.Bytes())
				return
			}
			w.Write(cert.EncodeChain(bundle.Chain))
		})
	}
}

func TestForeignCertificateIsRefusedAndItsOrderDropped(t *testing.T) {
	other, err := cert.Placeholder("x", []string{"example.test"}, time.Now())
	if err != nil {
		t.Fatal(err)
	}
	alone := cert.Bundle{Chain: other.Chain[:1]}
	for name, bundle := range map[string]cert.Bundle{"another key": other, "no chain": alone} {
		t.Run(name, func(t *testing.T) {
			s := newSite(t, acmetest.Config{Wrap: certificateFor(&bundle)})
			req, kept := s.request("example.test")
			_, err := s.issuer.Obtain(context.Background(), req)
			if e := failed(t, err); e.Op != "download" || e.Kind != cert.KindPerson {
				t.Errorf("op %q kind %q (%v)", e.Op, e.Kind, err)
			}
			if kept.order != nil {
				t.Error("the order was kept: its certificate would be refused for ever")
			}
		})
	}
}

func TestWrongClockKeepsTheCertificateForLater(t *testing.T) {
	s := newSite(t, acmetest.Config{})
	req, kept := s.request("example.test")
	s.issuer.config.Now = func() time.Time {
		if kept.order != nil && kept.order.URL != "" { // it goes wrong under way
			return time.Now().Add(-48 * time.Hour)
		}
		return time.Now()
	}
	_, err := s.issuer.Obtain(context.Background(), req)
	if e := failed(t, err); e.Hint != "set the clock of this machine" {
		t.Errorf("hint %q (%v)", e.Hint, err)
	}
	s.restart()
	req.Order = kept.order
	must(t, s.issuer, req)
	if n := s.Issued(); n != 1 {
		t.Errorf("%d certificates, want 1: the order's, once the clock was right", n)
	}
}
