package renewal

import (
	"context"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"sync/atomic"
	"testing"
	"time"

	"github.com/sidecert/sidecert/internal/cert"
)

// certbots stores a lineage as certbot would have made it, with these lines in its conf.
func (w *world) certbots(name string, names []string, params ...string) {
	w.t.Helper()
	m := w.manager()
	spec := cert.Spec{Name: name, Names: names, CA: cert.CA{Directory: "https://ca.example/dir"}, Webroot: "/srv/www"}
	if _, err := m.Store.Save(w.t.Context(), name, spec, testCA.Issue(w.now(), w.issuer.life, names...)); err != nil {
		w.t.Fatal(err)
	}
	conf := "version = 2.1.0\n"
	for _, file := range cert.Files {
		conf += fmt.Sprintf("%s = /etc/letsencrypt/live/%s/%s.pem\n", file, name, file)
	}
	conf += fmt.Sprintf("archive_dir = /etc/letsencrypt/archive/%s\n[renewalparams]\n%s\n", name, strings.Join(params, "\n"))
	if err := os.WriteFile(filepath.Join(w.certDir, "renewal", name+".conf"), []byte(conf), 0o644); err != nil {
		w.t.Fatal(err)
	}
}

func TestCertbotsLineagesStayRenewedBesideConfiguredOnes(t *testing.T) {
	bubble(t, func(t *testing.T) {
		w := newWorld(t, "new.example")
		w.adopt = true
		w.certbots("old.example", []string{"old.example", "www.old.example"}, "server = https://other.example/dir", "authenticator = standalone", "account = 0123")
		w.certbots("old.example-0001", []string{"b.example"}, "server = https://ca.example/dir", "authenticator = webroot", "webroot_path = /nowhere,")
		w.certbots("wild", []string{"*.wild.example"}, "server = https://ca.example/dir", "authenticator = dns-route53")
		w.certbots("paused", []string{"paused.example"}, "server = https://ca.example/dir", "authenticator = webroot", "autorenew = False")
		r := w.once(Ask{})
		var kept []string
		for _, c := range r.Certs {
			kept = append(kept, c.Cert)
		}
		if want := []string{"new.example", "old.example", "old.example-0001"}; !slices.Equal(kept, want) {
			t.Fatalf("kept %v, want %v", kept, want)
		}
		if got := w.issuer.count(); got != 1 {
			t.Errorf("%d orders, want 1: the adopted ones are not due", got)
		}
		for _, want := range []string{
			`msg="certificate of certbot adopted" cert=old.example names="[old.example www.old.example]"`,
			`certbot proved its names by \"standalone\"`, `certbot's webroot /nowhere is not mounted here`,
			`msg="certificate is left to certbot" cert=wild`, `msg="certificate is left to certbot" cert=paused`,
		} {
			if !strings.Contains(w.log.String(), want) {
				t.Errorf("the log lacks %s:\n%s", want, w.log)
			}
		}

		time.Sleep(61 * 24 * time.Hour)
		w.once(Ask{})
		asked := map[string]cert.CA{}
		for _, req := range w.issuer.requests {
			asked[req.Stored.Name] = req.Spec.CA
		}
		if ca := asked["old.example"]; ca.Directory != "https://other.example/dir" || ca.Account != "0123" {
			t.Errorf("old.example was renewed at %+v, want the CA and account of its conf", ca)
		}
		if len(asked) != 3 {
			t.Errorf("renewed %v, want the three that are kept", asked)
		}
	})
}

func TestWithoutAdoptionCertbotsLineagesAreLeftAlone(t *testing.T) {
	bubble(t, func(t *testing.T) {
		w := newWorld(t, "new.example")
		w.certbots("old.example", []string{"old.example"}, "server = https://ca.example/dir", "authenticator = webroot")
		if r := w.once(Ask{}); len(r.Certs) != 1 {
			t.Errorf("kept %+v, want new.example alone", r.Certs)
		}
	})
}

func TestEnvironmentGoesBeforeTheConfAndTheConfBeforeTheDefault(t *testing.T) {
	bubble(t, func(t *testing.T) {
		w := newWorld(t, "a.example")
		w.certbots("a.example", []string{"a.example"}, "server = https://other.example/dir", "authenticator = webroot", "reuse_key = True",
			"preferred_chain = Conf Root", "[[webroot_map]]", "a.example = /srv/www")
		w.specs[0].Webroot, w.specs[0].Open = "/var/www/certbot", cert.Open{CA: true, Webroot: true, ReuseKey: true}
		w.once(Ask{Force: true})
		got := w.issuer.requests[0].Spec
		if got.CA.Directory != "https://other.example/dir" || got.WebrootOf("a.example") != "/srv/www" || !got.ReuseKey || got.PreferredChain != "Conf Root" {
			t.Errorf("with nothing in the environment it was ordered as %+v, want what the conf says", got)
		}
		w.specs[0].Open, w.specs[0].PreferredChain = cert.Open{}, "Env Root"
		w.once(Ask{Force: true})
		got = w.issuer.requests[1].Spec
		if got.CA.Directory != "https://ca.example/dir" || got.WebrootOf("a.example") != "/var/www/certbot" || got.ReuseKey || got.PreferredChain != "Env Root" {
			t.Errorf("with all of it in the environment it was ordered as %+v, want what that says", got)
		}
	})
}

func TestStoredNamesAreStillRenewedWhileANewOneFails(t *testing.T) {
	bubble(t, func(t *testing.T) {
		w := newWorld(t, "a.example")
		w.once(Ask{})
		w.specs[0].Names = []string{"a.example", "bad.example"}
		w.issuer.inside = func(_ context.Context, req cert.Request) (cert.Bundle, error) {
			if len(req.Spec.Names) > 1 {
				req.Save(nil)
				return cert.Bundle{}, &cert.Error{Op: "authorization", Name: "bad.example", Err: errors.New("404"), Failed: []string{"bad.example"}}
			}
			return testCA.Issue(w.now(), w.issuer.life, req.Spec.Names...), nil
		}
		_, stop := w.run()
		defer stop()
		for range 130 { // days, in which the stored names are due twice
			time.Sleep(24 * time.Hour)
			l := w.lineage("a.example")
			if left := l.Leaf().NotAfter.Sub(w.now()); left < 25*24*time.Hour {
				t.Fatalf("%v before expiry the stored names are not renewed", left)
			}
		}
		both := 0
		w.issuer.change(func(f *fakeIssuer) {
			for _, req := range f.requests {
				if len(req.Spec.Names) == 2 {
					both++
				}
			}
		})
		if both < 100 {
			t.Errorf("the wanted names were tried %d times in 130 days, want about once a day", both)
		}
		if n := w.lineage("a.example").Number; n > 4 {
			t.Errorf("%d versions in 130 days, want one in 60 days", n)
		}
		w.issuer.change(func(f *fakeIssuer) { f.inside = nil })
		time.Sleep(2 * 24 * time.Hour)
		if got := w.lineage("a.example").Names(); !cert.SameNames(got, w.specs[0].Names) {
			t.Errorf("names are %v after the cause was gone", got)
		}
	})
}

func TestHooksRunOnceAroundAPassAndDeployForEach(t *testing.T) {
	bubble(t, func(t *testing.T) {
		w := newWorld(t, "a.example", "bad.example")
		w.adopt, w.hooks = true, &fakeHooks{}
		w.certbots("old.example", []string{"old.example"}, "server = https://ca.example/dir", "authenticator = webroot", "pre_hook = stop", "post_hook = start", "renew_hook = copy")
		w.issuer.fail["bad.example"] = errors.New("no")
		w.once(Ask{})
		if want := []string{"pre []", "deploy a.example 1", "post [] renewed [a.example] failed [bad.example]"}; !slices.Equal(w.hooks.all(), want) {
			t.Errorf("hooks %q, want %q", w.hooks.all(), want)
		}
		w.hooks.calls = nil
		w.once(Ask{})
		if len(w.hooks.all()) > 0 {
			t.Errorf("hooks %q though nothing was due", w.hooks.all())
		}
		w.once(Ask{Names: []string{"old.example"}, Force: true})
		if want := []string{`pre ["stop"]`, "deploy old.example 2", `post ["start"] renewed [old.example] failed []`}; !slices.Equal(w.hooks.all(), want) {
			t.Errorf("hooks %q, want %q", w.hooks.all(), want)
		}
	})
}

func TestHooksDoNotRunWhileTheCAIsAway(t *testing.T) {
	bubble(t, func(t *testing.T) {
		w := newWorld(t, "a.example")
		w.hooks = &fakeHooks{}
		w.issuer.away = &cert.Error{Op: "directory", Kind: cert.KindUnreachable, Err: errors.New("no route")}
		_, stop := w.run()
		defer stop()
		time.Sleep(time.Hour)
		if len(w.hooks.all()) > 0 || w.issuer.count() > 0 {
			t.Errorf("hooks %q and %d orders while the CA is away", w.hooks.all(), w.issuer.count())
		}
		w.issuer.change(func(f *fakeIssuer) { f.away = nil })
		time.Sleep(5 * time.Minute)
		if len(w.hooks.all()) != 3 {
			t.Errorf("hooks %q once the CA is back, want pre, deploy and post", w.hooks.all())
		}
	})
}

func TestStoredNamesAreRenewedWhilePreflightHoldsANewOne(t *testing.T) {
	bubble(t, func(t *testing.T) {
		w := newWorld(t, "a.example")
		w.once(Ask{})
		w.enforce, w.hooks = true, &fakeHooks{}
		w.specs[0].Names = []string{"a.example", "bad.example"}
		w.issuer.preflight = errors.New("404")
		time.Sleep(59 * 24 * time.Hour)
		_, stop := w.run()
		defer stop()
		time.Sleep(12 * time.Hour)
		if len(w.hooks.all()) > 0 {
			t.Errorf("%d calls of hooks though nothing was attempted", len(w.hooks.all()))
		}
		time.Sleep(24 * time.Hour)
		if l := w.lineage("a.example"); l.Number != 2 {
			t.Errorf("version %d is live after 60 days of 90, want 2 with the stored names", l.Number)
		}
		if len(w.hooks.all()) != 3 {
			t.Errorf("hooks %q, want pre, deploy and post once", w.hooks.all())
		}
	})
}

func TestRevokedCertificateIsReplacedWhileANewNameFails(t *testing.T) {
	bubble(t, func(t *testing.T) {
		w := newWorld(t, "a.example")
		w.once(Ask{})
		if _, err := w.manager().Revoke(t.Context(), Revoke{Name: "a.example", Reason: cert.KeyCompromise, Force: true}); err != nil {
			t.Fatal(err)
		}
		w.specs[0].Names = []string{"bad.example", "a.example"}
		w.specs[0].Name, w.specs[0].Named = "a.example", true
		w.issuer.fail["bad.example"] = &cert.Error{Op: "authorization", Name: "bad.example", Err: errors.New("404")}
		_, stop := w.run()
		defer stop()
		time.Sleep(time.Hour)
		if l := w.lineage("a.example"); l.Number != 2 {
			t.Errorf("version %d is live an hour after its revocation, want 2", l.Number)
		}
		time.Sleep(10 * 24 * time.Hour)
		if l := w.lineage("a.example"); l.Number != 2 {
			t.Errorf("version %d is live, want 2: the successor is not revoked", l.Number)
		}
	})
}

func TestHooksOfCertbotsOwnServerDoNotRun(t *testing.T) {
	bubble(t, func(t *testing.T) {
		w := newWorld(t)
		w.adopt, w.hooks = true, &fakeHooks{}
		w.certbots("a.example", []string{"a.example"}, "server = https://ca.example/dir", "authenticator = standalone", "pre_hook = docker stop web", "post_hook = docker start web", "renew_hook = copy")
		w.once(Ask{Force: true})
		if want := []string{"pre []", "deploy a.example 2", "post [] renewed [a.example] failed []"}; !slices.Equal(w.hooks.all(), want) {
			t.Errorf("hooks %q, want %q: by webroot the web server must go on", w.hooks.all(), want)
		}
		w.hooks.calls = nil
		w.once(Ask{Force: true})
		if len(w.hooks.all()) == 0 || w.hooks.all()[0] != "pre []" {
			t.Errorf("at the second renewal hooks %q", w.hooks.all())
		}
	})
}

func TestGuardCountsSetsOfNamesAndNotLineages(t *testing.T) {
	bubble(t, func(t *testing.T) {
		w := newWorld(t)
		w.adopt = true
		w.issuer.life = 24 * time.Hour // so that all are due again and again; the guard allows 21 then
		w.certbots("a.example", []string{"a.example"}, "server = https://ca.example/dir", "authenticator = webroot")
		w.certbots("a.example-0001", []string{"a.example"}, "server = https://ca.example/dir", "authenticator = webroot")
		_, stop := w.run()
		defer stop()
		time.Sleep(7*24*time.Hour - time.Minute)
		if got := w.issuer.count(); got > 21 {
			t.Errorf("%d orders for one set of names in 7 days, want at most 21", got)
		}
	})
}

func TestWildcardIsNotLostUnasked(t *testing.T) {
	bubble(t, func(t *testing.T) {
		w := newWorld(t, "a.example")
		w.adopt = true
		w.certbots("a.example", []string{"a.example", "*.a.example"}, "server = https://ca.example/dir", "authenticator = dns-route53")
		r := w.once(Ask{})
		if w.issuer.count() > 0 || !strings.Contains(r.Certs[0].Held, "*.a.example") {
			t.Errorf("%d orders, held %q; want none and the wildcard named", w.issuer.count(), r.Certs[0].Held)
		}
		w.specs[0].Named = true
		if r := w.once(Ask{}); !r.Certs[0].Obtained {
			t.Errorf("with the lineage named by a person: %+v", r.Certs[0])
		}
	})
}

func TestAdoptedCertificateThatVanishesIsMissed(t *testing.T) {
	bubble(t, func(t *testing.T) {
		w := newWorld(t)
		w.adopt = true
		w.certbots("a.example", []string{"a.example"}, "server = https://ca.example/dir", "authenticator = webroot")
		w.once(Ask{})
		for _, dir := range []string{"live", "archive", "renewal"} {
			if err := os.RemoveAll(filepath.Join(w.certDir, dir)); err != nil {
				t.Fatal(err)
			}
		}
		for range 2 {
			w.once(Ask{})
		}
		if got := strings.Count(w.log.String(), "adopted certificate is not there any more"); got != 1 {
			t.Errorf("told %d times that it is missed, want once:\n%s", got, w.log)
		}
	})
}

func TestDeedOfSomebodyWhoHasGoneIsNotDone(t *testing.T) {
	bubble(t, func(t *testing.T) {
		w := newWorld(t, "a.example")
		w.issuer.took = map[string]time.Duration{"a.example": 10 * time.Minute}
		m, stop := w.run()
		time.Sleep(time.Minute)
		ctx, leave := context.WithCancel(t.Context())
		done := make(chan error, 1)
		var did atomic.Bool
		go func() { done <- m.Between(ctx, func(context.Context) { did.Store(true) }) }()
		time.Sleep(time.Minute)
		leave()
		if err := <-done; !errors.Is(err, context.Canceled) {
			t.Errorf("Between() = %v for one who left", err)
		}
		time.Sleep(time.Hour)
		if did.Load() {
			t.Error("it was done for somebody who had gone")
		}
		stop()
		if err := m.Between(t.Context(), func(context.Context) {}); !errors.Is(err, errStopping) {
			t.Errorf("Between() of a manager that has ended = %v", err)
		}
	})
}

func TestWhatCertbotDoesDuringAnOrderCounts(t *testing.T) {
	for name, test := range map[string]struct {
		does  func(w *world)
		names []string // of the lineage afterwards; nil if it is to be gone
	}{
		"other names": {func(w *world) {
			w.certbots("a.example", []string{"a.example", "new.example"}, "server = https://ca.example/dir", "authenticator = webroot")
		}, []string{"a.example", "new.example"}},
		"deleted": {func(w *world) {
			for _, dir := range []string{"live/a.example", "archive/a.example", "renewal/a.example.conf"} {
				os.RemoveAll(filepath.Join(w.certDir, dir))
			}
		}, nil},
	} {
		t.Run(name, func(t *testing.T) {
			bubble(t, func(t *testing.T) {
				w := newWorld(t)
				w.adopt = true
				w.certbots("a.example", []string{"a.example"}, "server = https://ca.example/dir", "authenticator = webroot")
				time.Sleep(61 * 24 * time.Hour)
				w.issuer.inside = func(_ context.Context, req cert.Request) (cert.Bundle, error) {
					test.does(w)
					time.Sleep(time.Minute)
					return testCA.Issue(w.now(), w.issuer.life, req.Spec.Names...), nil
				}
				w.once(Ask{})
				w.once(Ask{})
				if got := w.lineage("a.example").Names(); !cert.SameNames(got, test.names) {
					t.Errorf("the lineage has %v, want %v as certbot left it", got, test.names)
				}
				if a, err := w.manager().Store.Attempts("a.example"); err != nil || a.Failures > 0 {
					t.Errorf("it was counted as %d failures, %v", a.Failures, err)
				}
			})
		})
	}
}

func TestUnreadableLineageWithWantedNamesGetsNoSecondOne(t *testing.T) {
	for _, adopt := range []bool{false, true} {
		bubble(t, func(t *testing.T) {
			w := newWorld(t, "a.example")
			w.adopt = adopt
			w.certbots("shop", []string{"a.example"}, "server = https://ca.example/dir", "authenticator = webroot")
			if err := os.Truncate(filepath.Join(w.certDir, "archive/shop/privkey1.pem"), 10); err != nil {
				t.Fatal(err)
			}
			w.once(Ask{})
			if _, err := os.Stat(filepath.Join(w.certDir, "live/a.example")); err == nil {
				t.Errorf("adopt %v: a second lineage was made beside the one that web servers use:\n%s", adopt, w.log)
			}
			if l := w.lineage("shop"); !l.Issued() || l.Number != 2 {
				t.Errorf("adopt %v: shop is at version %d, want 2, ordered anew:\n%s", adopt, l.Number, w.log)
			}
		})
	}
}
