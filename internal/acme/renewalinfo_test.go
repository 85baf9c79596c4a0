package acme

import (
	"crypto/x509"
	"encoding/hex"
	"fmt"
	"log/slog"
	"math/big"
	"net/http"
	"net/http/httptest"
	"slices"
	"strings"
	"sync/atomic"
	"testing"
	"time"

	"github.com/sidecert/sidecert/internal/acmetest"
	"github.com/sidecert/sidecert/internal/cert"
)

// TestCertIDIsTheRFCs takes the example of RFC 9773 §4.1, whose serial begins with a bit that is set.
func TestCertIDIsTheRFCs(t *testing.T) {
	aki, _ := hex.DecodeString("69885b6b87464041e1b37b847ba0ae2cde01c8d4")
	leaf := &x509.Certificate{AuthorityKeyId: aki, SerialNumber: big.NewInt(0x87654321)}
	if got, want := certID(leaf), "aYhba4dGQEHhs3uEe6CuLN4ByNQ.AIdlQyE"; got != want {
		t.Errorf("certID() = %q, want %q", got, want)
	}
	if got := certID(&x509.Certificate{SerialNumber: big.NewInt(1)}); got != "" {
		t.Errorf("certID() of a certificate that does not name its issuer's key = %q, want none", got)
	}
}

func TestWindowsThatCannotBeUsed(t *testing.T) {
	window := func(start, end string) string {
		return fmt.Sprintf(`{"suggestedWindow":{"start":%q,"end":%q},"explanationURL":"javascript:alert(1)"}`, start, end)
	}
	for _, body := range []string{
		"", "null", "[]", "{}", `{"suggestedWindow":null}`, `{"suggestedWindow":{"start":"2026-01-01T00:00:00Z"}}`,
		window("2026-01-02T00:00:00Z", "2026-01-02T00:00:00Z"), window("2026-01-02T00:00:00Z", "2026-01-01T00:00:00Z"), window("soon", "later"),
	} {
		if start, end, _, err := readWindow([]byte(body)); err == nil {
			t.Errorf("readWindow(%s) = %v, %v; want an error", body, start, end)
		}
	}
	if _, _, explanation, err := readWindow([]byte(window("2026-01-01T00:00:00Z", "9999-12-31T23:59:59Z"))); err != nil || explanation != "" {
		t.Errorf("readWindow() = %q, %v; want a window, and no link that is none", explanation, err)
	}
}

func TestSuggestionOfTheCA(t *testing.T) {
	s := newSite(t, acmetest.Config{})
	leaf := s.obtain(t, "example.test").Chain[0]
	s.restart()
	registered := len(s.accounts.saves)
	h, err := s.issuer.Suggest(t.Context(), s.ca(), leaf)
	if err != nil || h.Of != cert.Fingerprint(leaf) || !h.Start.Before(h.End) || h.Start.Before(leaf.NotBefore) || h.End.After(leaf.NotAfter) {
		t.Fatalf("Suggest() = %+v, %v; want a window in the lifetime", h, err)
	}
	if got := time.Until(h.Next); got > 6*time.Hour || got < 5*time.Hour {
		t.Errorf("the CA is asked again in %v, want 6 h as it said", got)
	}
	if off := time.Since(h.Date); off > time.Hour || off < -time.Hour {
		t.Errorf("the CA's clock is said to be %v off", off)
	}
	if len(s.accounts.saves) != registered {
		t.Error("an account was registered to ask what anybody may ask")
	}
	for answer, kind := range map[string]cert.Kind{"what?": cert.KindPassing, `{"suggestedWindow":{}}`: cert.KindPassing} {
		if err := s.CA.Suggest(leaf, answer); err != nil {
			t.Fatal(err)
		}
		h, err := s.issuer.Suggest(t.Context(), s.ca(), leaf)
		if e, ok := err.(*cert.Error); !ok || e.Kind != kind || !h.Start.IsZero() || h.Next.IsZero() {
			t.Errorf("to %q Suggest() = %+v, %v; want no window and an error that is no lack of an answer", answer, h, err)
		}
	}
}

// TestQuestionsComeAtSensibleIntervals has a CA that names all kinds of them.
func TestQuestionsComeAtSensibleIntervals(t *testing.T) {
	var said atomic.Value
	said.Store("")
	s := newSite(t, acmetest.Config{Wrap: func(api http.Handler) http.Handler {
		return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
			recorded := httptest.NewRecorder()
			api.ServeHTTP(recorded, r)
			for k, v := range recorded.Header() {
				w.Header()[k] = v
			}
			if strings.Contains(r.URL.Path, "enewal") {
				w.Header().Set("Retry-After", said.Load().(string))
			}
			w.WriteHeader(recorded.Code)
			_, _ = w.Write(recorded.Body.Bytes())
		})
	}})
	leaf := s.obtain(t, "example.test").Chain[0]
	now := time.Now()
	s.issuer.config.Now = func() time.Time { return now }
	for answer, want := range map[string]time.Duration{"0": time.Hour, "-5": time.Hour, "7200": 2 * time.Hour, "31536000": 24 * time.Hour, "99999999999999999999": 24 * time.Hour} {
		said.Store(answer)
		if h, err := s.issuer.Suggest(t.Context(), s.ca(), leaf); err != nil || !h.Next.Equal(now.Add(want)) {
			t.Errorf("Retry-After %s: asked again in %v, %v; want %v", answer, h.Next.Sub(now), err, want)
		}
	}
	said.Store("soon")
	h, err := s.issuer.Suggest(t.Context(), s.ca(), leaf)
	if wait := h.Next.Sub(now); err != nil || wait < 6*time.Hour || wait > 8*time.Hour {
		t.Errorf("without a Retry-After: asked again in %v, %v; want 6 h and some", wait, err)
	}
}

// TestRenewalReplaces sees that Pebble takes what a renewal says to replace: it makes no second order without.
func TestRenewalReplaces(t *testing.T) {
	var orders atomic.Int32
	s := newSite(t, acmetest.Config{Wrap: func(api http.Handler) http.Handler {
		return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
			if r.URL.Path == "/order-plz" {
				orders.Add(1)
			}
			api.ServeHTTP(w, r)
		})
	}})
	first := s.obtain(t, "example.test")
	for first.Chain[0].SerialNumber.Bytes()[0] >= 0x80 { // Pebble looks for such serials by another name than the RFC's
		first = s.obtain(t, "example.test")
	}
	before := orders.Load()
	req, _ := s.request("example.test")
	req.Stored = cert.Lineage{Name: "example.test", Number: 1, Chain: first.Chain, Key: first.Key, Conf: cert.Conf{Server: s.Directory}}
	must(t, s.issuer, req)
	if n := orders.Load() - before; n != 1 {
		t.Errorf("%d newOrder requests, want one", n)
	}
}

// TestRefusedReplacementIsOrderedWithout renews twice in the place of the same certificate, and once in the place of another CA's.
func TestRefusedReplacementIsOrderedWithout(t *testing.T) {
	fake := acmetest.NewFake(acmetest.FakeConfig{Window: func(leaf *x509.Certificate) (time.Time, time.Time) {
		return leaf.NotBefore, leaf.NotAfter
	}})
	issuer := New(Config{Accounts: &memory{}, Log: slog.New(slog.DiscardHandler), Transport: fake, UserAgent: "sidecert-test"})
	ca := cert.CA{Directory: fake.Directory(), AgreeTOS: true}
	request := func(stored cert.Lineage) cert.Request {
		return cert.Request{Spec: cert.Spec{Name: "example.test", Names: []string{"example.test"}, CA: ca, Webroot: t.TempDir()}, Stored: stored, Save: new(saved).save}
	}
	first := must(t, issuer, request(cert.Lineage{}))
	stored := cert.Lineage{Name: "example.test", Number: 1, Chain: first.Chain, Key: first.Key, Conf: cert.Conf{Server: ca.Directory}}
	must(t, issuer, request(stored))
	must(t, issuer, request(stored))
	stored.Conf.Server = "https://other.example/dir"
	must(t, issuer, request(stored))
	var replaced []string
	for _, order := range fake.Counts().Orders {
		replaced = append(replaced, order.Replaces)
	}
	if want := []string{"", certID(first.Chain[0]), "", ""}; !slices.Equal(replaced, want) {
		t.Errorf("the orders replace %q, want %q", replaced, want)
	}
}

// TestWrongClockOrdersNothing has clocks by which a certificate is due, and a CA by whose clock it is not; and clocks by which nothing
// that the CA issues is valid.
func TestWrongClockOrdersNothing(t *testing.T) {
	s := newSite(t, acmetest.Config{})
	s.obtain(t, "example.test")
	off := func(d time.Duration) func() time.Time { return func() time.Time { return time.Now().Add(d) } }
	cases := []struct {
		why  string
		now  func() time.Time
		due  time.Time
		want string
	}{
		{"the clock is right", time.Now, time.Now().Add(-time.Hour), ""},
		{"the clock is ahead, and it is due by both", off(3 * time.Hour), time.Now().Add(-time.Hour), ""},
		{"the clock is ahead and nothing but it calls for an order", off(3 * time.Hour), time.Now().Add(2 * time.Hour), "3h0m0s ahead of the CA's, by which the certificate is not due before"},
		{"the clock is ahead and more than the time calls for an order", off(3 * time.Hour), time.Time{}, ""},
		{"a few minutes are no matter", off(9 * time.Minute), time.Now().Add(5 * time.Minute), ""},
		{"a year ahead", off(365 * 24 * time.Hour), time.Time{}, "8760h0m0s ahead of the CA's"},
		{"a day behind", off(-24 * time.Hour), time.Time{}, "24h0m0s behind the CA's"},
	}
	for _, c := range cases {
		s.issuer.config.Now = c.now
		req, kept := s.request("example.test")
		req.Due = c.due
		_, err := s.issuer.Obtain(t.Context(), req)
		if c.want == "" && err == nil {
			continue
		}
		e, ok := err.(*cert.Error)
		if c.want == "" || !ok || e.Kind != cert.KindClock || !strings.Contains(err.Error(), c.want) || kept.order != nil {
			t.Errorf("%s: Obtain() = %v, order %v; want %q", c.why, err, kept.order != nil, c.want)
		}
	}
}

// TestSleepIsNoWrongClock has a machine whose timers stood still while it slept: what it remembers of the CA's clock is old.
func TestSleepIsNoWrongClock(t *testing.T) {
	s := newSite(t, acmetest.Config{})
	s.obtain(t, "example.test")
	c, err := s.issuer.client(t.Context(), s.ca(), nil)
	if err != nil {
		t.Fatal(err)
	}
	c.clock().set(time.Now().Add(-5 * time.Hour))
	req, _ := s.request("example.test")
	req.Due = time.Now().Add(-time.Hour)
	must(t, s.issuer, req)
}
