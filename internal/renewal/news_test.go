package renewal

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/sidecert/sidecert/internal/cert"
)

// newsOf is what one pass, and a glance after it, tell: each condition as a line.
func (w *world) newsOf(prepare ...func(*Manager)) (pass, glance []string) {
	w.t.Helper()
	m := w.manager()
	m.ExpiryWarning = 20 * 24 * time.Hour
	for _, p := range prepare {
		p(m)
	}
	var told *[]string
	m.Tell = func(n cert.News) {
		for _, c := range n.Conditions {
			line := strings.TrimSpace(fmt.Sprintf("%s %s %s", c.Kind, c.Cert, c.Container))
			if c.Extends {
				line += " extends"
			}
			if !c.Until.IsZero() {
				line += fmt.Sprintf(" until %.0f d", c.Until.Sub(w.now()).Hours()/24)
			}
			*told = append(*told, strings.TrimSpace(strings.TrimSpace(line)+": "+c.Err))
		}
		for _, kind := range n.Unknown {
			*told = append(*told, "unknown "+string(kind))
		}
		for _, r := range n.Renewed {
			*told = append(*told, "renewed "+r.Cert)
		}
	}
	told = &pass
	m.Once(w.t.Context(), Ask{})
	told = &glance
	m.glance(w.t.Context(), w.now().Add(time.Hour))
	return pass, glance
}

func sameLines(a, b []string) bool {
	return slices.Equal(slices.Sorted(slices.Values(a)), slices.Sorted(slices.Values(b)))
}

func TestNewsAreWhatAilsAndNothingElse(t *testing.T) {
	const days = 24 * time.Hour
	refused := &cert.Error{Op: "order", Name: "a.example", Err: errors.New("404")}
	fails := func(w *world) { w.issuer.fail["a.example"] = refused }
	served := func(class cert.Class, err error) func(*world) {
		return func(w *world) {
			w.specs[0].Reload.Targets = []cert.Target{{Word: "web"}}
			w.reloader.outcomes = []cert.Outcome{{Cert: "a.example", Container: "web", Class: class, Err: err}}
		}
	}
	for _, test := range []struct {
		name string
		// age is how long ago the first certificate was obtained; 0 is never.
		age    time.Duration
		ails   func(*world)
		pass   []string
		glance []string
	}{
		{"a first certificate", 0, func(*world) {}, []string{"renewed a.example"}, nil},
		{"all is well", 10 * days, func(*world) {}, nil, nil},
		{"a first certificate that does not come", 0, fails, []string{"failing a.example: order a.example: 404"}, []string{"failing a.example: order a.example: 404"}},
		{"a renewal that fails", 61 * days, fails, []string{"failing a.example until 29 d: order a.example: 404"}, []string{"failing a.example until 29 d: order a.example: 404"}},
		{"it would fail and is not due", 10 * days, fails, nil, nil},
		{"a CA that is away", 61 * days, func(w *world) {
			w.issuer.fail["a.example"] = &cert.Error{Op: "order", Kind: cert.KindUnreachable, Err: errors.New("refused")}
		}, []string{"failing a.example until 29 d: order: refused"}, []string{"failing a.example until 29 d: order: refused"}},
		{"a name that is to be added fails", 10 * days, func(w *world) {
			w.specs[0].Names = append(w.specs[0].Names, "b.example")
			fails(w)
		}, []string{"failing a.example extends until 80 d: order a.example: 404"}, []string{"failing a.example extends until 80 d: order a.example: 404"}},
		{"an old certificate is served", 61 * days, served(cert.Stale, nil), []string{"renewed a.example", "stale a.example web until 29 d:"}, []string{"stale a.example web until 29 d:"}},
		{"nobody is seen to serve it", 10 * days, served(cert.Unseen, errors.New("connection refused")), []string{"unverified a.example until 80 d: web: connection refused"},
			[]string{"unverified a.example until 80 d: web: connection refused"}},
		{"it is served", 10 * days, served(cert.Current, nil), nil, nil},
		{"a server that reloads itself has its time", 10 * days, func(w *world) {
			served(cert.Stale, nil)(w)
			w.specs[0].Reload = cert.Reload{Off: true}
			w.specs[0].Verify.Endpoints = []string{"web:443"}
		}, nil, nil},
		{"no engine", 10 * days, func(w *world) {
			served(cert.Current, nil)(w)
			w.reloader.lookErr = errors.New("no engine")
		}, []string{"unknown stale", "unknown unverified", "no engine: no engine"}, []string{"unknown stale", "unknown unverified", "no engine: no engine"}},
		{"dropped, and still served", 10 * days, func(w *world) {
			served(cert.Current, nil)(w)
			w.specs = nil
		}, []string{"unkept a.example web until 80 d:"}, []string{"unkept a.example web until 80 d:"}},
		{"dropped, and served no more", 10 * days, func(w *world) {
			served(cert.Foreign, nil)(w)
			w.specs = nil
		}, nil, nil},
		{"dropped, and nobody knows", 10 * days, func(w *world) {
			w.reloader.err = errors.New("no engine")
			w.specs = nil
		}, []string{"unknown unkept"}, []string{"unknown unkept"}},
	} {
		t.Run(test.name, func(t *testing.T) {
			bubble(t, func(t *testing.T) {
				w := newWorld(t, "a.example")
				if test.age > 0 {
					w.once(Ask{})
					time.Sleep(test.age)
				}
				test.ails(w)
				pass, glance := w.newsOf()
				if !sameLines(pass, test.pass) || !sameLines(glance, test.glance) {
					t.Errorf("a pass told\n%q\nand a glance\n%q\nwant\n%q\nand\n%q", pass, glance, test.pass, test.glance)
				}
			})
		})
	}
}

// A wish that fails goes on failing while the stored names are renewed in its place: people are not told that it is well again.
func TestAWishThatFailsIsNotWellWhenTheStoredNamesAreRenewed(t *testing.T) {
	bubble(t, func(t *testing.T) {
		w := newWorld(t, "a.example")
		w.once(Ask{})
		w.specs[0].Names = []string{"a.example", "bad.example"}
		w.issuer.inside = func(_ context.Context, req cert.Request) (cert.Bundle, error) {
			if len(req.Spec.Names) > 1 {
				req.Save(nil)
				return cert.Bundle{}, &cert.Error{Op: "authorization", Name: "bad.example", Err: errors.New("404")}
			}
			return testCA.Issue(w.now(), w.issuer.life, req.Spec.Names...), nil
		}
		m := w.manager()
		told := 0
		m.Tell = func(n cert.News) {
			if told++; len(n.Conditions) != 1 || n.Conditions[0].Key() != "failing a.example " || !n.Conditions[0].Extends || !strings.Contains(n.Conditions[0].Err, "bad.example: 404") {
				t.Errorf("after %v: %+v, want one that is failing", w.now(), n.Conditions)
			}
		}
		for range 90 {
			m.Once(t.Context(), Ask{})
			time.Sleep(24 * time.Hour)
		}
		if l := w.lineage("a.example"); l.Number < 2 || told != 90 {
			t.Errorf("%d looks, and version %d is live: this was no such case", told, l.Number)
		}
	})
}
