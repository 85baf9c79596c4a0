package acme

import (
	"bytes"
	"context"
	"crypto/x509"
	"encoding/pem"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"math/rand/v2"
	"net"
	"net/http"
	"path/filepath"
	"strings"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"github.com/sidecert/sidecert/internal/acmetest"
	"github.com/sidecert/sidecert/internal/cert"
)

// stand is an issuer with its stores and a Fake, whose answers of one kind a test spoils.
type stand struct {
	*acmetest.Fake
	issuer  *Issuer
	webroot string
	// spoil by kind of answer.
	spoil map[string]spoiler

	mu       sync.Mutex
	requests map[string]int // by kind
}

// spoiler changes the nth answer of a kind, or loses it.
type spoiler func(n int, resp *http.Response) error

// newStand spoils the answers of one kind; for others, see spoil.
func newStand(t *testing.T, kind string, spoil spoiler) *stand {
	t.Helper()
	s := &stand{webroot: t.TempDir(), spoil: map[string]spoiler{kind: spoil}, requests: map[string]int{}}
	s.Fake = acmetest.NewFake(acmetest.FakeConfig{After: func(r *http.Request, resp *http.Response) (*http.Response, error) {
		kind := acmetest.FakeKind(r)
		s.mu.Lock()
		defer s.mu.Unlock()
		s.requests[kind]++
		if spoil := s.spoil[kind]; spoil != nil {
			return resp, spoil(s.requests[kind], resp)
		}
		return resp, nil
	}})
	s.issuer = New(Config{Accounts: &memory{}, Transport: s.Fake, Log: slog.New(slog.DiscardHandler), UserAgent: "sidecert-test"})
	s.issuer.dial = func(context.Context, string, string) (net.Conn, error) { return nil, errors.New("no network") }
	s.issuer.resolver.servers = []string{}
	return s
}

func (s *stand) request(names ...string) (cert.Request, *saved) {
	kept := &saved{}
	ca := cert.CA{Directory: s.Directory(), AgreeTOS: true, Email: "admin@sidecert.test"}
	return cert.Request{Spec: cert.Spec{Name: names[0], Names: names, CA: ca, Webroot: s.webroot}, Save: kept.save}, kept
}

func (s *stand) obtain(names ...string) (*saved, error) {
	req, kept := s.request(names...)
	_, err := s.issuer.Obtain(context.Background(), req)
	return kept, err
}

// say gives an answer another status and body.
func say(resp *http.Response, status int, contentType, body string) {
	resp.StatusCode, resp.Status = status, fmt.Sprintf("%d %s", status, http.StatusText(status))
	resp.Header.Set("Content-Type", contentType)
	resp.Body = io.NopCloser(strings.NewReader(body))
}

func sayProblem(resp *http.Response, status int, kind, detail string) {
	say(resp, status, "application/problem+json", string(mustJSON(map[string]any{"type": "urn:ietf:params:acme:error:" + kind, "detail": detail})))
}

// alter changes one text in an answer.
func alter(resp *http.Response, old, new string) error {
	body, err := io.ReadAll(resp.Body)
	resp.Body = io.NopCloser(bytes.NewReader(bytes.ReplaceAll(body, []byte(old), []byte(new))))
	return err
}

func TestServerErrorEndsTheAttemptAfterThreeRepetitions(t *testing.T) {
	for _, status := range []int{500, 502, 503, 504} {
		t.Run(fmt.Sprint(status), func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				s := newStand(t, "newOrder", func(_ int, resp *http.Response) error {
					sayProblem(resp, status, "serverInternal", "sorry")
					return nil
				})
				begun := time.Now()
				_, err := s.obtain("example.test")
				failed(t, err)
				if elapsed := time.Since(begun); s.requests["newOrder"] != 4 || elapsed < 7*time.Second || elapsed > 10*time.Second {
					t.Errorf("%d requests in %s, want 4 with pauses of 1, 2 and 4 s", s.requests["newOrder"], elapsed)
				}
			})
		})
	}
}

func TestLongRetryAfterIsNotWaitedForInsideAnAttempt(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		s := newStand(t, "newOrder", func(_ int, resp *http.Response) error {
			sayProblem(resp, 503, "rateLimited", "Service busy; retry later.")
			resp.Header.Set("Retry-After", "3600")
			return nil
		})
		begun := time.Now()
		_, err := s.obtain("example.test")
		e := failed(t, err)
		if time.Since(begun) > 0 || s.requests["newOrder"] != 1 || !e.NotBefore.Equal(begun.Add(time.Hour)) || e.Kind != cert.KindBusy {
			t.Errorf("%d requests in %s, then %s after %s, want one and at once, then busy for an hour", s.requests["newOrder"], time.Since(begun), e.Kind, e.NotBefore)
		}
	})
}

func TestTimeInTheWordsOfACAIsNotTakenForRetryAfter(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		s := newStand(t, "newOrder", func(_ int, resp *http.Response) error {
			sayProblem(resp, 429, "rateLimited", "retry after 2026-11-23 00:00:00 UTC")
			return nil
		})
		_, err := s.obtain("example.test")
		if e := failed(t, err); !e.NotBefore.IsZero() || !strings.Contains(err.Error(), "retry after 2026-11-23") {
			t.Errorf("not before %s (%v), want none, and the CA's words", e.NotBefore, err)
		}
	})
}

func TestOrderThatIsProcessedForLongIsWaitedForByTheNextAttempt(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		begun := time.Now()
		processing := func(_ int, resp *http.Response) error {
			if time.Since(begun) < 30*time.Minute {
				return alter(resp, `"status":"valid"`, `"status":"processing"`)
			}
			return nil
		}
		s := newStand(t, "order", processing)
		s.spoil["finalize"] = processing
		req, kept := s.request("example.test")
		for attempt := 1; ; attempt++ {
			_, err := s.issuer.Obtain(context.Background(), req)
			if err == nil {
				break
			}
			if attempt > 4 || kept.order == nil {
				t.Fatalf("attempt %d: %v; order %v", attempt, err, kept.order)
			}
			req.Order = kept.order
			time.Sleep(time.Minute)
		}
		if counts := s.Counts(); len(counts.Orders) != 1 || len(counts.Certificates) != 1 {
			t.Errorf("%d orders and %d certificates, want one of each", len(counts.Orders), len(counts.Certificates))
		}
	})
}

func TestChallengeFilesOfADeadOrderAreWithdrawn(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		s := newStand(t, "challenge", func(_ int, resp *http.Response) error {
			sayProblem(resp, 500, "serverInternal", "nobody knows what became of it")
			return nil
		})
		s.spoil["authorization"] = func(_ int, resp *http.Response) error {
			body, err := io.ReadAll(resp.Body)
			if resp.Body = io.NopCloser(bytes.NewReader(body)); bytes.Contains(body, []byte("a.test")) {
				sayProblem(resp, 404, "malformed", "no such authorization")
			}
			return err
		}
		kept, err := s.obtain("a.test", "b.test")
		failed(t, err)
		if kept.order != nil {
			t.Fatalf("the order lives on: %v", err)
		}
		if files, err := filepath.Glob(filepath.Join(s.webroot, challengePath, "*")); len(files) > 0 || err != nil {
			t.Errorf("the order is dead and %q are left (%v)", files, err)
		}
	})
}

func TestAuthorizationThatEndedWithoutARefusalCostsOneMoreOrder(t *testing.T) {
	for _, status := range []string{"expired", "deactivated", "revoked", "never heard of"} {
		t.Run(status, func(t *testing.T) {
			for times, want := range map[int]int{1: 1, 9: 0} {
				synctest.Test(t, func(t *testing.T) {
					s := newStand(t, "", nil)
					s.issuer.config.Transport = &statusOf{s.Fake, "authorization", times, status}
					_, err := s.obtain("example.test")
					if counts := s.Counts(); len(counts.Orders) != 2 || len(counts.Certificates) != want {
						t.Errorf("said %d times: %d orders and %d certificates (%v), want 2 and %d", times, len(counts.Orders), len(counts.Certificates), err, want)
					}
				})
			}
		})
	}
}

// statusOf gives the first objects of a kind another status.
type statusOf struct {
	next   http.RoundTripper
	kind   string
	times  int
	status string
}

func (s *statusOf) RoundTrip(r *http.Request) (*http.Response, error) {
	resp, err := s.next.RoundTrip(r)
	if err != nil || acmetest.FakeKind(r) != s.kind || s.times == 0 {
		return resp, err
	}
	s.times--
	a := &answered{resp: resp}
	if a.body, err = io.ReadAll(resp.Body); err != nil {
		return nil, err
	}
	a.edit(func(v map[string]any) { v["status"] = s.status })
	resp.Body = io.NopCloser(bytes.NewReader(a.body))
	return resp, nil
}

// The types of RFC 8555 §6.7, and those of profiles and RFC 9773.
func TestEveryProblemTypeHasItsKindAtNewOrder(t *testing.T) {
	kinds := map[string]cert.Kind{
		"alreadyRevoked": cert.KindPassing, "badCSR": cert.KindPerson, "badNonce": cert.KindPassing, "badPublicKey": cert.KindPerson,
		"badRevocationReason": cert.KindPassing, "badSignatureAlgorithm": cert.KindPerson, "caa": cert.KindPerson, "compound": cert.KindPassing,
		"connection": cert.KindPassing, "dns": cert.KindPassing, "externalAccountRequired": cert.KindPerson, "incorrectResponse": cert.KindPassing,
		"invalidContact": cert.KindPerson, "malformed": cert.KindPerson, "orderNotReady": cert.KindPassing, "rateLimited": cert.KindPassing,
		"rejectedIdentifier": cert.KindPerson, "serverInternal": cert.KindPassing, "tls": cert.KindPassing, "unauthorized": cert.KindPerson,
		"unsupportedContact": cert.KindPerson, "unsupportedIdentifier": cert.KindPerson, "userActionRequired": cert.KindPerson,
		"accountDoesNotExist": cert.KindPassing, "invalidProfile": cert.KindPerson, "neverHeardOf": cert.KindPassing,
	}
	for kind, want := range kinds {
		t.Run(kind, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				s := newStand(t, "newOrder", func(_ int, resp *http.Response) error {
					sayProblem(resp, 400, kind, "no")
					return nil
				})
				_, err := s.obtain("example.test")
				if e := failed(t, err); e.Kind != want || e.Op != "order" {
					t.Errorf("op %q, kind %q, want %q: %v", e.Op, e.Kind, want, err)
				}
				if n := s.requests["newOrder"]; n > 9 || n > 2 && kind != "badNonce" {
					t.Errorf("%d requests for an order", n)
				}
			})
		})
	}
}

func TestNewTermsAreNamedWithTheirURL(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		s := newStand(t, "newOrder", func(_ int, resp *http.Response) error {
			say(resp, 403, "application/problem+json", `{"type":"urn:ietf:params:acme:error:userActionRequired","detail":"new terms","instance":"https://ca.fake.example/agree"}`)
			return nil
		})
		_, err := s.obtain("example.test")
		if e := failed(t, err); !strings.Contains(e.Hint, "https://ca.fake.example/agree") {
			t.Errorf("hint %q, want the page of the terms in it", e.Hint)
		}
	})
}

func TestCertificateThatIsNotWhatWasOrderedIsRefused(t *testing.T) {
	leafOf := func(change func(*x509.Certificate)) func(*answered) {
		return forged(func(_ *answered, leaf *x509.Certificate) any { change(leaf); return nil })
	}
	chainOf := func(change func(leaf, next *x509.Certificate) []*x509.Certificate) func(*answered) {
		return func(a *answered) {
			chain, err := cert.ParseChain(a.body)
			if err != nil {
				a.err = err
				return
			}
			a.body = cert.EncodeChain(change(chain[0], chain[1]))
		}
	}
	type certs = []*x509.Certificate
	rows := []struct {
		name  string
		spoil func(*answered)
		want  string
	}{
		{"another key", forged(func(*answered, *x509.Certificate) any { return newTestKey().Public() }), "another key"},
		{"a name less", leafOf(func(c *x509.Certificate) { c.DNSNames = c.DNSNames[:1] }), "the certificate is for a.test, want"},
		{"a name more", leafOf(func(c *x509.Certificate) { c.DNSNames = append(c.DNSNames, "evil.test") }), "evil.test"},
		{"expired", leafOf(func(c *x509.Certificate) { c.NotAfter = time.Now() }), "expired"},
		{"not yet valid", leafOf(func(c *x509.Certificate) { c.NotBefore = time.Now().Add(61 * time.Minute) }), "not valid before"},
		{"a CA", leafOf(func(c *x509.Certificate) { c.IsCA, c.BasicConstraintsValid = true, true }), "CA's own"},
		{"MD5 or SHA-1", weak, "insecure algorithm"},
		{"leaf alone", chainOf(func(leaf, next *x509.Certificate) certs { return certs{leaf} }), "chain is missing"},
		{"wrong order", chainOf(func(leaf, next *x509.Certificate) certs { return certs{next, leaf} }), "another key"},
		{"leaf twice", chainOf(func(leaf, next *x509.Certificate) certs { return certs{leaf, leaf, next} }), "not signed by the next"},
		{"too many", func(a *answered) { a.body = append(a.body, bytes.Repeat(a.body, 49)...) }, "too long"},
		{"no PEM", func(a *answered) { a.body = []byte("hello") }, "chain is empty"},
		{"private key inside", func(a *answered) {
			a.body = append(pem.EncodeToMemory(&pem.Block{Type: "PRIVATE KEY", Bytes: []byte("secret")}), a.body...)
		}, "invalid PEM"},
	}
	for _, row := range rows {
		t.Run(row.name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				s := newStand(t, "certificate", func(_ int, resp *http.Response) (err error) {
					a := &answered{rand: rand.New(rand.NewPCG(1, 1)), resp: resp}
					if a.body, err = io.ReadAll(resp.Body); err != nil {
						return err
					}
					row.spoil(a)
					resp.Body = io.NopCloser(bytes.NewReader(a.body))
					return a.err
				})
				_, err := s.obtain("a.test", "b.test")
				if failed(t, err); !strings.Contains(err.Error(), row.want) {
					t.Errorf("error %q, want %q in it", err, row.want)
				}
				if n := len(s.Counts().Certificates); n != 1 {
					t.Errorf("%d certificates, want 1: the next try is the schedule's", n)
				}
			})
		})
	}
}

func TestRootAtTheEndOfTheChainDoesNoHarm(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		var s *stand
		s = newStand(t, "certificate", func(_ int, resp *http.Response) error {
			body, err := io.ReadAll(resp.Body)
			resp.Body = io.NopCloser(bytes.NewReader(append(body, cert.EncodeChain(s.Roots())...)))
			return err
		})
		if _, err := s.obtain("example.test"); err != nil {
			t.Error(err)
		}
	})
}

func TestAtMostFourAlternatesAreFetched(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		s := newStand(t, "certificate", func(n int, resp *http.Response) error {
			for range 1000 {
				resp.Header.Add("Link", `</certificate/000004>;rel="alternate"`)
			}
			return nil
		})
		req, _ := s.request("example.test")
		req.Spec.PreferredChain = "another root"
		if _, err := s.issuer.Obtain(context.Background(), req); err != nil {
			t.Error(err)
		}
		if n := s.requests["certificate"]; n > 2+maxAlternates {
			t.Errorf("%d requests for certificates, want at most %d: the chain, its links, and %d alternates", n, 2+maxAlternates, maxAlternates)
		}
	})
}

func TestCertificateCutInItsMiddleIsFetchedAgain(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		s := newStand(t, "certificate", func(n int, resp *http.Response) error {
			if n < maxLost {
				resp.Body = io.NopCloser(io.MultiReader(io.LimitReader(resp.Body, 500), cutOff{}))
			}
			return nil
		})
		if _, err := s.obtain("example.test"); err != nil {
			t.Error(err)
		}
		if counts := s.Counts(); len(counts.Certificates) != 1 || s.requests["certificate"] != maxLost {
			t.Errorf("%d certificates with %d requests, want 1 with %d", len(counts.Certificates), s.requests["certificate"], maxLost)
		}
	})
}

func TestAnswersInGzipAreNotUnpacked(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		var asked string
		s := newStand(t, "", nil)
		s.issuer.config.Transport = roundTrip(func(r *http.Request) (*http.Response, error) {
			asked = r.Header.Get("Accept-Encoding")
			return s.Fake.RoundTrip(r)
		})
		if _, err := s.obtain("example.test"); err != nil || asked != "identity" {
			t.Errorf("Accept-Encoding %q (%v), want identity", asked, err)
		}
	})
}

type roundTrip func(*http.Request) (*http.Response, error)

func (f roundTrip) RoundTrip(r *http.Request) (*http.Response, error) { return f(r) }
