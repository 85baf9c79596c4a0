package acme

import (
	"context"
	"maps"
	"net/http"
	"strings"
	"sync"
	"sync/atomic"
	"testing"

	"github.com/sidecert/sidecert/internal/acmetest"
	"github.com/sidecert/sidecert/internal/cert"
)

// authorizations are those of the site's account by status.
func (s *site) authorizations(t *testing.T) map[string]int {
	t.Helper()
	byStatus, err := s.Authorizations(s.accounts.accounts[s.ca().ID()].Key.Public())
	if err != nil {
		t.Fatal(err)
	}
	return byStatus
}

func TestRehearsalValidatesEveryNameAndLeavesNothing(t *testing.T) {
	s := newSite(t, acmetest.Config{AuthzReuse: 100})
	s.obtain(t, "a.test", "b.test") // their authorizations are valid, and used again
	before := s.Requests()["challenge"]
	if err := s.issuer.Rehearse(t.Context(), s.spec("a.test", "b.test", "c.test")); err != nil {
		t.Fatal(err)
	}
	if n := s.Requests()["challenge"] - before; n != 3 {
		t.Errorf("%d challenges were answered, want one for each name", n)
	}
	if got := s.authorizations(t); got["pending"] != 0 || got["valid"] != 0 {
		t.Errorf("authorizations at the CA: %v, want all of them deactivated", got)
	}
	if got := s.leftovers(t); len(got) != 0 {
		t.Errorf("the webroot still has %v", got)
	}
	if len(s.accounts.saves) != 2 {
		t.Errorf("the account was saved %d times, want 2 (its key, its URI)", len(s.accounts.saves))
	}
}

func TestFailedRehearsalLeavesNothingPending(t *testing.T) {
	s := newSite(t, acmetest.Config{})
	s.SetDNS("bad.test", "")
	err := s.issuer.Rehearse(t.Context(), s.spec("good.test", "bad.test", "fine.test"))
	if e := failed(t, err); e.Op != "authorization" || e.Name != "bad.test" || !strings.Contains(e.Hint, "NXDOMAIN") {
		t.Errorf("op %q name %q hint %q (%v), want an error as Obtain's", e.Op, e.Name, e.Hint, err)
	}
	if got := s.authorizations(t); got["pending"] != 0 || got["valid"] != 0 {
		t.Errorf("authorizations at the CA: %v, want none pending or valid", got)
	}
}

// No challenge reaches Pebble after the interruption: an authorization that is deactivated while Pebble validates it stays locked there.
func TestInterruptedRehearsalLeavesNothingPending(t *testing.T) {
	for _, kind := range []string{"challenge", "finalize", "authorization"} {
		t.Run(kind, func(t *testing.T) {
			ctx, cancel := context.WithCancel(t.Context())
			var seen atomic.Int64
			s := newSite(t, acmetest.Config{Wrap: func(next http.Handler) http.Handler {
				return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
					if acmetest.Kind(r.URL.Path) == kind && (seen.Add(1) == 1 || kind == "challenge") {
						cancel()
						<-r.Context().Done()
						cut()
					}
					next.ServeHTTP(w, r)
				})
			}})
			err := s.issuer.Rehearse(ctx, s.spec("a.test", "b.test"))
			if e := failed(t, err); e.Kind != cert.KindInterrupted {
				t.Errorf("kind %q (%v), want interrupted", e.Kind, err)
			}
			if got := s.authorizations(t); got["pending"] != 0 || got["valid"] != 0 {
				t.Errorf("authorizations at the CA: %v, want none pending or valid", got)
			}
		})
	}
}

// A CA that never lets go of its authorizations must not be asked for orders without end.
func TestRehearsalGivesUpWhereNothingIsValidatedAnew(t *testing.T) {
	s := newSite(t, acmetest.Config{Wrap: answer("authorization", func(w http.ResponseWriter, r *http.Request) {
		w.Header().Set("Content-Type", "application/json")
		w.Write([]byte(`{"status":"valid","identifier":{"type":"dns","value":"example.test"}}`))
	})})
	err := s.issuer.Rehearse(t.Context(), s.spec("example.test"))
	if failed(t, err); !strings.Contains(err.Error(), "earlier authorizations") {
		t.Errorf("error %v, want it said that nothing was validated", err)
	}
	if n := s.Requests()["newOrder"]; n != rehearsalOrders {
		t.Errorf("%d orders, want %d", n, rehearsalOrders)
	}
}

// The rehearsal deactivates the authorization that the order beside it stands on, at the worst moment.
func TestRehearsalDoesNotDisturbAnObtainBesideIt(t *testing.T) {
	var s *site
	var seen atomic.Int64
	s = newSite(t, acmetest.Config{AuthzReuse: 100, Wrap: func(next http.Handler) http.Handler {
		return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
			if acmetest.Kind(r.URL.Path) == "finalize" && seen.Add(1) == 1 {
				if err := s.issuer.Rehearse(t.Context(), s.spec("example.test")); err != nil {
					t.Errorf("Rehearse: %v", err)
				}
			}
			next.ServeHTTP(w, r)
		})
	}})
	req, kept := s.request("example.test")
	must(t, s.issuer, req)
	if len(kept.history) != 5 || kept.history[2] != "-" {
		t.Errorf("saved orders %q, want one that lapsed and another", kept.history)
	}
}

func TestRehearsalsAndObtainsRunTogether(t *testing.T) {
	s := newSite(t, acmetest.Config{})
	var all sync.WaitGroup
	for _, name := range []string{"a.test", "b.test", "c.test"} {
		all.Go(func() {
			if err := s.issuer.Rehearse(t.Context(), s.spec("dry."+name)); err != nil {
				t.Errorf("Rehearse: %v", err)
			}
		})
		all.Go(func() {
			req, _ := s.request(name)
			if _, err := s.issuer.Obtain(t.Context(), req); err != nil {
				t.Errorf("Obtain: %v", err)
			}
		})
	}
	all.Wait()
	if got, want := s.authorizations(t), map[string]int{"deactivated": 3, "valid": 3}; !maps.Equal(got, want) {
		t.Errorf("authorizations %v, want %v: each took care of its own", got, want)
	}
}

func TestLapsedOrderIsMadeOnceMoreOnly(t *testing.T) {
	s := newSite(t, acmetest.Config{Wrap: answer("authorization", func(w http.ResponseWriter, r *http.Request) {
		w.Header().Set("Content-Type", "application/json")
		w.Write([]byte(`{"status":"expired","identifier":{"type":"dns","value":"example.test"}}`))
	})})
	req, _ := s.request("example.test")
	_, err := s.issuer.Obtain(t.Context(), req)
	if e := failed(t, err); len(e.Failed) != 0 {
		t.Errorf("%q count as refused, want none: the CA has refused nothing", e.Failed)
	}
	if n := s.Requests()["newOrder"]; n != 2 {
		t.Errorf("%d orders, want 2", n)
	}
}
