package renewal

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/sidecert/sidecert/internal/cert"
)

// revokedVersions are the fingerprints that the CA has revoked.
func (w *world) revokedVersions() []string {
	w.issuer.mu.Lock()
	defer w.issuer.mu.Unlock()
	var all []string
	for _, r := range w.issuer.revoked {
		all = append(all, cert.Fingerprint(r.Certificate))
	}
	return all
}

func TestKeptCertificateIsReplacedBeforeItIsRevoked(t *testing.T) {
	bubble(t, func(t *testing.T) {
		w := newWorld(t, "a.example")
		w.specs[0].ReuseKey = true
		w.once(Ask{})
		old := w.lineage("a.example")
		did, err := w.manager().Revoke(t.Context(), Revoke{Name: "a.example", Reason: cert.KeyCompromise})
		if err != nil {
			t.Fatal(err)
		}
		if len(w.issuer.revoked) != 1 || !w.issuer.revoked[0].Certificate.Equal(old.Leaf()) || w.issuer.revoked[0].Key == nil {
			t.Errorf("revoked %v, want the old certificate, signed by its own key", w.issuer.revoked)
		}
		if l := w.lineage("a.example"); l.Number != 2 {
			t.Errorf("version %d is live, want 2: a successor", l.Number)
		}
		if last := w.issuer.requests[len(w.issuer.requests)-1]; !last.FreshKey {
			t.Error("the successor of a compromised key may reuse it")
		}
		if len(did) != 2 || !strings.Contains(did[1], "version 1") {
			t.Errorf("told %q, want that there is a successor and what was revoked", did)
		}
		if r := w.once(Ask{}); r.Certs[0].Obtained {
			t.Error("the successor is taken for revoked too")
		}
	})
}

// What was meant is revoked in the end, however often something failed before, and nothing else; and no order is made in vain.
func TestRevocationGivenAgainGoesOnWithTheSameVersion(t *testing.T) {
	for name, failing := range map[string]struct {
		spoil, mend func(w *world)
		orders      int
	}{
		"no successor is obtained": {
			func(w *world) { w.issuer.fail["a.example"] = errors.New("the CA says no") },
			func(w *world) { delete(w.issuer.fail, "a.example") }, 4,
		},
		"the successor is not served": {
			func(w *world) {
				w.specs[0].Verify.Endpoints = []string{"web:443"}
				w.reloader.outcomes = []cert.Outcome{{Cert: "a.example", Container: "web", Class: cert.Unseen, Err: errors.New("no answer")}}
			},
			func(w *world) { w.reloader.outcomes = nil }, 2,
		},
		"one of two servers shows the old one": {
			func(w *world) {
				w.specs[0].Verify.Endpoints = []string{"web:443"}
				w.reloader.outcomes = []cert.Outcome{{Cert: "a.example", Container: "web-1", Class: cert.Current}, {Cert: "a.example", Container: "web-2", Class: cert.Stale}}
			},
			func(w *world) { w.reloader.outcomes = w.reloader.outcomes[:1] }, 2,
		},
		"the CA does not revoke": {
			func(w *world) { w.issuer.refuse = errors.New("503") },
			func(w *world) { w.issuer.refuse = nil }, 2,
		},
	} {
		for _, force := range []bool{false, true} {
			t.Run(fmt.Sprintf("%s, force %v", name, force), func(t *testing.T) {
				bubble(t, func(t *testing.T) {
					w := newWorld(t, "a.example")
					w.once(Ask{})
					meant := w.lineage("a.example").Fingerprint()
					failing.spoil(w)
					for range 2 {
						_, err := w.manager().Revoke(t.Context(), Revoke{Name: "a.example", Reason: cert.KeyCompromise})
						if err == nil || len(w.issuer.revoked) > 0 {
							t.Fatalf("Revoke() = %v with %d revoked, want an error and none", err, len(w.issuer.revoked))
						}
					}
					if force && w.issuer.refuse == nil {
						if _, err := w.manager().Revoke(t.Context(), Revoke{Name: "a.example", Reason: cert.KeyCompromise, Force: true}); err != nil {
							t.Fatal(err)
						}
					}
					failing.mend(w)
					time.Sleep(time.Hour)
					if !force || w.revokedVersions() == nil {
						if _, err := w.manager().Revoke(t.Context(), Revoke{Name: "a.example", Reason: cert.KeyCompromise}); err != nil {
							t.Fatal(err)
						}
					}
					w.once(Ask{})
					if got := w.revokedVersions(); !slices.Equal(got, []string{meant}) {
						t.Errorf("revoked %v, want %v alone, which was live when it was asked for", got, meant)
					}
					if w.lineage("a.example").Fingerprint() == meant {
						t.Error("the revoked certificate is live still")
					}
					if got := w.issuer.count(); got != failing.orders {
						t.Errorf("%d orders, want %d", got, failing.orders)
					}
				})
			})
		}
	}
}

func TestRevocationLeavesOtherCertificatesWithTheNameAlone(t *testing.T) {
	bubble(t, func(t *testing.T) {
		w := newWorld(t, "a.example")
		w.specs = append(w.specs, cert.Spec{Name: "shop", Named: true, Names: []string{"shop.example", "a.example"}, CA: w.specs[0].CA})
		w.once(Ask{})
		if _, err := w.manager().Revoke(t.Context(), Revoke{Name: "a.example", Reason: cert.KeyCompromise}); err != nil {
			t.Fatal(err)
		}
		if l := w.lineage("shop"); l.Number != 1 {
			t.Errorf("shop is at version %d, want 1", l.Number)
		}
	})
}

func TestRevokedCertificateThatIsLiveIsReplaced(t *testing.T) {
	bubble(t, func(t *testing.T) {
		w := newWorld(t, "a.example")
		w.once(Ask{})
		if _, err := w.manager().Revoke(t.Context(), Revoke{Name: "a.example", Reason: cert.KeyCompromise, Force: true}); err != nil {
			t.Fatal(err)
		}
		r := w.once(Ask{})
		if !r.Certs[0].Obtained || !w.issuer.requests[len(w.issuer.requests)-1].FreshKey {
			t.Errorf("after the revocation: %+v, want a new certificate with a new key", r.Certs[0])
		}
		if r := w.once(Ask{}); r.Certs[0].Obtained {
			t.Error("the successor is taken for revoked too")
		}
	})
}

func TestAllVersionsWithACompromisedKeyAreRevoked(t *testing.T) {
	bubble(t, func(t *testing.T) {
		w := newWorld(t, "a.example")
		m := w.manager()
		key, err := cert.NewKey(cert.EC256)
		if err != nil {
			t.Fatal(err)
		}
		for range 2 { // two versions with one key, as REUSE_KEY makes them
			b := testCA.IssueFor(key, w.now(), w.issuer.life, "a.example")
			if _, err := m.Store.Save(t.Context(), "a.example", w.specs[0], b); err != nil {
				t.Fatal(err)
			}
			time.Sleep(time.Hour)
		}
		if _, err := m.Revoke(t.Context(), Revoke{Name: "a.example", Reason: cert.KeyCompromise}); err != nil {
			t.Fatal(err)
		}
		if len(w.issuer.revoked) != 2 {
			t.Errorf("%d revoked, want both that have the key", len(w.issuer.revoked))
		}
	})
}

func TestDeleteRefusesWhatIsConfiguredOrServed(t *testing.T) {
	bubble(t, func(t *testing.T) {
		w := newWorld(t, "a.example")
		w.once(Ask{})
		if _, err := w.manager().Delete(t.Context(), "a.example", false); err == nil || !strings.Contains(err.Error(), "it is configured") {
			t.Errorf("Delete() of a configured one = %v", err)
		}
		w.specs = nil
		w.reloader.outcomes = []cert.Outcome{{Cert: "a.example", Container: "web", Class: cert.Stale}}
		if _, err := w.manager().Delete(t.Context(), "a.example", false); err == nil || !strings.Contains(err.Error(), "served by web") {
			t.Errorf("Delete() of a served one = %v", err)
		}
		w.reloader.outcomes, w.reloader.err = nil, errors.New("no engine")
		if _, err := w.manager().Delete(t.Context(), "a.example", false); err == nil || !strings.Contains(err.Error(), "cannot be seen") {
			t.Errorf("Delete() of one that nobody can look at = %v", err)
		}
		w.reloader.outcomes, w.reloader.err = []cert.Outcome{{Cert: "a.example", Container: "web", Class: cert.Unseen}}, nil
		if _, err := w.manager().Delete(t.Context(), "a.example", false); err == nil || !strings.Contains(err.Error(), "whether web serves it cannot be seen") {
			t.Errorf("Delete() of one that a stopped container may serve = %v", err)
		}
		w.reloader.outcomes = nil
		if _, err := w.manager().Delete(t.Context(), "a.example", false); err != nil {
			t.Fatal(err)
		}
		for _, gone := range []string{"live/a.example", "archive/a.example", "renewal/a.example.conf"} {
			if _, err := os.Stat(filepath.Join(w.certDir, gone)); !errors.Is(err, fs.ErrNotExist) {
				t.Errorf("%s is still there: %v", gone, err)
			}
		}
		if _, err := w.manager().Delete(t.Context(), "a.example", false); !errors.Is(err, fs.ErrNotExist) {
			t.Errorf("a second Delete() = %v, want that there is none", err)
		}
	})
}

func TestDeletingDoesNotEmptyTheGuardsBook(t *testing.T) {
	bubble(t, func(t *testing.T) {
		w := newWorld(t, "a.example")
		for range 6 {
			w.once(Ask{})
			if _, err := w.manager().Delete(t.Context(), "a.example", true); err != nil {
				t.Fatal(err)
			}
			time.Sleep(2 * time.Hour)
		}
		if got := w.issuer.count(); got != 4 {
			t.Errorf("%d orders while it was deleted again and again, want 4 (the guard's week)", got)
		}
	})
}

func TestRehearsalGoesToTheStagingCAAndKeepsNothing(t *testing.T) {
	bubble(t, func(t *testing.T) {
		w := newWorld(t, "a.example", "b.example")
		w.hooks = &fakeHooks{}
		w.specs[0].CA = cert.CA{Directory: cert.LetsEncrypt, Email: "me@a.example"}
		w.issuer.fail["b.example"] = &cert.Error{Op: "authorization", Name: "b.example", Err: errors.New("404"), Failed: []string{"b.example"}}
		r := w.manager().Rehearse(t.Context(), nil)
		if r.Certs[0].Err != nil || r.Certs[1].Err == nil {
			t.Errorf("results %+v, want a.example good and b.example failed", r.Certs)
		}
		where := map[string]string{}
		for _, s := range w.issuer.rehearsed {
			where[s.Names[0]] = s.CA.Directory
		}
		if where["a.example"] != cert.LetsEncryptStaging || where["b.example"] != "https://ca.example/dir" {
			t.Errorf("rehearsed at %v, want staging for a public CA and the CA itself for a private one", where)
		}
		if entries, _ := os.ReadDir(w.certDir); len(entries) > 0 {
			t.Errorf("CERT_DIR holds %v after a rehearsal", entries)
		}
		if len(w.hooks.all()) != 2 || !strings.HasPrefix(w.hooks.all()[0], "pre") || w.hooks.all()[1] != "post [] renewed [a.example] failed [b.example]" {
			t.Errorf("hooks %q, want pre and post once and no deploy", w.hooks.all())
		}
	})
}

func TestRehearsalHeedsTheCAsRetryAfter(t *testing.T) {
	bubble(t, func(t *testing.T) {
		w := newWorld(t, "a.example")
		w.issuer.fail["a.example"] = &cert.Error{Op: "order", Kind: cert.KindBusy, Err: errors.New("busy"), NotBefore: w.now().Add(time.Hour)}
		w.manager().Rehearse(t.Context(), nil)
		r := w.manager().Rehearse(t.Context(), nil)
		if r.Certs[0].Held == "" || len(w.issuer.rehearsed) != 1 {
			t.Errorf("after Retry-After: %+v with %d rehearsals, want it held and 1", r.Certs[0], len(w.issuer.rehearsed))
		}
	})
}

func TestPostRunsWhenARehearsalIsBrokenOff(t *testing.T) {
	bubble(t, func(t *testing.T) {
		w := newWorld(t, "a.example")
		w.hooks = &fakeHooks{}
		w.issuer.slow = time.Hour
		ctx, cancel := context.WithTimeout(t.Context(), time.Minute)
		defer cancel()
		w.manager().Rehearse(ctx, nil)
		if len(w.hooks.all()) != 2 || !strings.HasPrefix(w.hooks.all()[1], "post") {
			t.Errorf("hooks %q, want pre and post: what pre has stopped must be started again", w.hooks.all())
		}
	})
}

func TestRehearsalAndPassDoNotRunHooksInTurn(t *testing.T) {
	bubble(t, func(t *testing.T) {
		w := newWorld(t, "a.example")
		w.hooks = &fakeHooks{}
		w.issuer.slow = time.Minute
		w.issuer.took = map[string]time.Duration{"a.example": time.Minute}
		m := w.manager()
		go m.Rehearse(t.Context(), nil)
		m.Once(t.Context(), Ask{})
		time.Sleep(10 * time.Minute)
		var order []string
		for _, call := range w.hooks.all() {
			word, _, _ := strings.Cut(call, " ")
			order = append(order, word)
		}
		if got := strings.Join(order, " "); got != "pre post pre deploy post" && got != "pre deploy post pre post" {
			t.Errorf("hooks ran %q: one's post in the midst of the other", got)
		}
	})
}
