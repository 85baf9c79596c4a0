package acme

import (
	"bytes"
	"context"
	"crypto/rand"
	"crypto/rsa"
	"crypto/x509"
	"fmt"
	"log/slog"
	"net/http"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/sidecert/sidecert/internal/acmetest"
	"github.com/sidecert/sidecert/internal/cert"
)

func TestFirstCertificateVerifiesAndLeavesNothingBehind(t *testing.T) {
	s := newSite(t, acmetest.Config{})
	req, kept := s.request("example.test", "www.example.test")
	bundle := must(t, s.issuer, req)

	for _, name := range req.Spec.Names {
		if _, err := bundle.Chain[0].Verify(verifyOptions(s, bundle, name)); err != nil {
			t.Errorf("the certificate does not verify for %s: %v", name, err)
		}
	}
	if got := s.leftovers(t); len(got) != 0 {
		t.Errorf("the webroot still has %v", got)
	}
	if len(s.accounts.saves) != 2 || s.accounts.saves[0] != "" || s.accounts.saves[1] == "" {
		t.Errorf("account saved with URIs %q, want none before the registration and one after", s.accounts.saves)
	}
	if len(kept.history) != 2 || kept.history[0] != "" || kept.history[1] == "" {
		t.Errorf("order saved with URLs %q, want none before the CA hears of it and one after", kept.history)
	}
	if kept.order.Expires.IsZero() {
		t.Error("the saved order has no expiry")
	}
}

func verifyOptions(s *site, bundle cert.Bundle, name string) x509.VerifyOptions {
	options := x509.VerifyOptions{DNSName: name, Roots: s.Roots(), Intermediates: x509.NewCertPool()}
	for _, c := range bundle.Chain[1:] {
		options.Intermediates.AddCert(c)
	}
	return options
}

func TestRequestBudget(t *testing.T) {
	s := newSite(t, acmetest.Config{})
	s.obtain(t, "account.test")
	// On a busy machine a poll may come too early and cost one more; the best of three is what we do by ourselves.
	cold, warm := 1000, 1000
	for n := range 3 {
		s.restart()
		s.issuer.pace = func(d time.Duration) time.Duration { return d }
		before := s.Total()
		s.obtain(t, fmt.Sprintf("cold%d.test", n))
		between := s.Total()
		s.obtain(t, fmt.Sprintf("warm%d.test", n))
		cold, warm = min(cold, between-before), min(warm, s.Total()-between)
	}
	if cold > 9 {
		t.Errorf("a certificate from a fresh process costs %d requests, want at most 9: %v", cold, s.Requests())
	}
	if warm > 8 {
		t.Errorf("a further certificate costs %d requests, want at most 8: %v", warm, s.Requests())
	}
}

func TestValidAuthorizationsAreNotProvedAgain(t *testing.T) {
	s := newSite(t, acmetest.Config{AuthzReuse: 100})
	s.obtain(t, "example.test")
	before := s.Requests()["challenge"]
	s.obtain(t, "example.test")
	if n := s.Requests()["challenge"] - before; n != 0 {
		t.Errorf("a renewal with a valid authorization answered %d challenges, want 0", n)
	}
}

func TestEveryKeyType(t *testing.T) {
	s := newSite(t, acmetest.Config{})
	for _, kind := range cert.KeyTypes {
		req, _ := s.request("example.test")
		req.Spec.KeyType = kind
		if got := cert.KeyTypeOf(must(t, s.issuer, req).Key.Public()); got != kind {
			t.Errorf("KeyType %s gave a key of type %q", kind, got)
		}
	}
}

func TestRenewalKeepsTheKeyOrOnlyItsType(t *testing.T) {
	s := newSite(t, acmetest.Config{})
	req, _ := s.request("example.test")
	req.Spec.KeyType = cert.EC384
	first := must(t, s.issuer, req)
	req.Stored = cert.Lineage{Chain: first.Chain, Key: first.Key}
	req.Spec.KeyType = ""

	second := must(t, s.issuer, req)
	if reused(first, second) {
		t.Error("a renewal without REUSE_KEY has the same key")
	}
	if got := cert.KeyTypeOf(second.Key.Public()); got != cert.EC384 {
		t.Errorf("a renewal where nobody set KEY_TYPE has a key of type %s, want the stored one's ec-384", got)
	}
	req.Spec.ReuseKey = true
	if !reused(first, must(t, s.issuer, req)) {
		t.Error("a renewal with REUSE_KEY has another key")
	}
	req.Spec.KeyType = cert.EC256
	if reused(first, must(t, s.issuer, req)) {
		t.Error("REUSE_KEY kept a key of another type than KEY_TYPE")
	}
}

func TestConfOfCertbotAsksForAType(t *testing.T) {
	req := cert.Request{Stored: cert.Lineage{Conf: cert.Conf{Certbot: true, KeyType: cert.RSA3072}}}
	if got := wantedType(req); got != cert.RSA3072 {
		t.Errorf("type %s, want the conf's rsa-3072", got)
	}
	req.Spec.KeyType = cert.EC384
	if got := wantedType(req); got != cert.EC384 {
		t.Errorf("type %s, want ec-384: the environment beats the conf", got)
	}
	req.Spec.KeyType, req.Stored.Conf.Certbot = "", false
	if got := wantedType(req); got != cert.DefaultKeyType {
		t.Errorf("type %s, want the default: our own conf is a record, not a wish", got)
	}
}

func TestKeyOfAnOddSizeIsReusedUnlessAnotherTypeIsAskedFor(t *testing.T) {
	s := newSite(t, acmetest.Config{})
	odd, err := rsa.GenerateKey(rand.Reader, 2056)
	if err != nil {
		t.Fatal(err)
	}
	req, kept := s.request("example.test")
	req.Spec.ReuseKey = true
	req.Stored.Key = odd
	first := must(t, s.issuer, req)
	if !sameKey(first.Key.Public(), odd.Public()) {
		t.Error("the certificate has another key than the stored one")
	}
	req.Order = kept.order
	if again := must(t, s.issuer, req); !bytes.Equal(again.Chain[0].Raw, first.Chain[0].Raw) {
		t.Error("its order was not resumed")
	}
	req.Order, req.Spec.KeyType = nil, cert.RSA2048
	if got := cert.KeyTypeOf(must(t, s.issuer, req).Key.Public()); got != cert.RSA2048 {
		t.Errorf("type %q, want the rsa-2048 that was asked for", got)
	}
}

func TestFreshKeyIsNeverTheStoredOne(t *testing.T) {
	s := newSite(t, acmetest.Config{})
	req, kept := s.request("example.test")
	first := must(t, s.issuer, req)
	req.Stored, req.Order = cert.Lineage{Chain: first.Chain, Key: first.Key}, kept.order
	req.Spec.ReuseKey, req.FreshKey = true, true
	second := must(t, s.issuer, req)
	if reused(first, second) {
		t.Error("the order under way for the stored key was resumed, or the key used again")
	}
	req.Order = kept.order
	if third := must(t, s.issuer, req); !bytes.Equal(second.Chain[0].Raw, third.Chain[0].Raw) {
		t.Error("an order under way for the fresh key was not resumed")
	}
}

func reused(a, b cert.Bundle) bool { return sameKey(a.Key.Public(), b.Key.Public()) }

func TestHundredNamesInOneCertificate(t *testing.T) {
	s := newSite(t, acmetest.Config{})
	var names []string
	for n := range 100 {
		names = append(names, fmt.Sprintf("n%d.example.test", n))
	}
	if got := len(s.obtain(t, names...).Chain[0].DNSNames); got != 100 {
		t.Errorf("the certificate has %d names, want 100", got)
	}
}

func TestCertificateForAnAddress(t *testing.T) {
	s := newSite(t, acmetest.Config{})
	if got := len(s.obtain(t, "127.0.0.1").Chain[0].IPAddresses); got != 1 {
		t.Errorf("the certificate has %d addresses, want 1", got)
	}
}

func TestConcurrentCertificatesShareOneAccount(t *testing.T) {
	s := newSite(t, acmetest.Config{NonceReject: 10})
	var all sync.WaitGroup
	for n := range 10 {
		all.Go(func() {
			req, _ := s.request(fmt.Sprintf("n%d.test", n))
			if _, err := s.issuer.Obtain(context.Background(), req); err != nil {
				t.Errorf("Obtain: %v", err)
			}
		})
	}
	all.Wait()
	if n := len(s.accounts.saves); n != 2 {
		t.Errorf("the account was saved %d times, want 2 (its key, its URI)", n)
	}
	if n := s.Requests()["directory"]; n != 1 {
		t.Errorf("the directory was read %d times, want once", n)
	}
}

func TestProfileIsAskedForAndItsAbsenceExplained(t *testing.T) {
	s := newSite(t, acmetest.Config{Profiles: map[string]time.Duration{"classic": 90 * 24 * time.Hour, "shortlived": 160 * time.Hour}})
	req, _ := s.request("example.test")
	req.Spec.Profile = "shortlived"
	if got := cert.Lifetime(must(t, s.issuer, req).Chain[0]); got > 161*time.Hour {
		t.Errorf("profile shortlived gave a certificate for %s, want 160h", got)
	}

	req.Spec.Profile = "longlived"
	before := s.Requests()["newOrder"]
	_, err := s.issuer.Obtain(context.Background(), req)
	e := failed(t, err)
	if e.Kind != cert.KindPerson || e.Hint != "this CA has the profiles classic, shortlived" {
		t.Errorf("unknown profile: kind %q, hint %q", e.Kind, e.Hint)
	}
	if s.Requests()["newOrder"] != before {
		t.Error("an order was made for a profile that the directory does not have")
	}
}

func TestProfileThatIsOnlyWishedForIsDoneWithout(t *testing.T) {
	for _, offered := range []map[string]time.Duration{nil, {"classic": 90 * 24 * time.Hour}} {
		s := newSite(t, acmetest.Config{Profiles: offered})
		var log bytes.Buffer
		s.issuer.config.Log = slog.New(slog.NewTextHandler(&log, nil))
		req, kept := s.request("example.test")
		req.Spec.Profile, req.Spec.ProfileOptional = "longlived", true
		must(t, s.issuer, req)
		req.Order = kept.order
		must(t, s.issuer, req)
		if n := s.Requests()["newOrder"]; n != 1 {
			t.Errorf("%d orders were made, want one that is resumed", n)
		}
		if n := strings.Count(log.String(), "level=WARN"); n != 1 || !strings.Contains(log.String(), "longlived") {
			t.Errorf("%d warnings, want one that names the profile:\n%s", n, &log)
		}
		if kept.order == nil || kept.order.Profile != "" {
			t.Errorf("the order was kept as %+v, want one without a profile, which can be resumed", kept.order)
		}
	}
	s := newSite(t, acmetest.Config{Profiles: map[string]time.Duration{"classic": 90 * 24 * time.Hour, "shortlived": 160 * time.Hour}})
	req, _ := s.request("example.test")
	req.Spec.Profile, req.Spec.ProfileOptional = "shortlived", true
	if got := cert.Lifetime(must(t, s.issuer, req).Chain[0]); got > 161*time.Hour {
		t.Errorf("a wish that can be met gave a certificate for %s, want 160h", got)
	}
}

func TestPreferredChain(t *testing.T) {
	s := newSite(t, acmetest.Config{AlternateRoots: 3, ChainLength: 2})
	req, _ := s.request("example.test")
	first := must(t, s.issuer, req)
	for n, root := range s.RootsPEM() {
		chain, err := cert.ParseChain([]byte(root))
		if err != nil {
			t.Fatal(err)
		}
		req.Spec.PreferredChain = chain[0].Subject.CommonName
		if got := topIssuer(must(t, s.issuer, req).Chain); got != req.Spec.PreferredChain {
			t.Errorf("chain %d: topmost issuer %q, want %q", n, got, req.Spec.PreferredChain)
		}
	}
	req.Spec.PreferredChain = "A root of nobody"
	if got := topIssuer(must(t, s.issuer, req).Chain); got != topIssuer(first.Chain) {
		t.Errorf("a chain that is not offered gave %q, want the default one", got)
	}
}

func TestBrokenAlternateChainIsNoReasonToGoWithout(t *testing.T) {
	s := newSite(t, acmetest.Config{AlternateRoots: 1, Wrap: func(next http.Handler) http.Handler {
		return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
			if strings.Contains(r.URL.Path, "/alternate/") {
				problem(w, http.StatusNotFound, "malformed", "no such chain")
				return
			}
			next.ServeHTTP(w, r)
		})
	}})
	req, _ := s.request("example.test")
	req.Spec.PreferredChain = "A root of nobody"
	must(t, s.issuer, req)
}

func TestShortCertificateOfADemo(t *testing.T) {
	s := newSite(t, acmetest.Config{Lifetime: 2 * time.Minute})
	if got := cert.Lifetime(s.obtain(t, "example.test").Chain[0]); got > 2*time.Minute {
		t.Errorf("lifetime %s, want 2m", got)
	}
}

func BenchmarkIssuance(b *testing.B) {
	b.Run("cold", func(b *testing.B) { benchmarkIssuance(b, true) })
	b.Run("warm", func(b *testing.B) { benchmarkIssuance(b, false) })
}

// benchmarkIssuance has the account already. Most of the time are the first polls' two pauses of 100 ms.
func benchmarkIssuance(b *testing.B, cold bool) {
	s := newSite(b, acmetest.Config{})
	s.obtain(b, "account.test")
	s.issuer.pace = func(d time.Duration) time.Duration { return d }
	s.obtain(b, "warm.test")
	before, n := s.Total(), 0
	for b.Loop() {
		if cold {
			s.restart()
			s.issuer.pace = func(d time.Duration) time.Duration { return d }
		}
		s.obtain(b, fmt.Sprintf("n%d.test", n))
		n++
	}
	b.ReportMetric(float64(b.Elapsed().Milliseconds())/float64(n), "ms/op")
	b.ReportMetric(float64(s.Total()-before)/float64(n), "requests/op")
}
