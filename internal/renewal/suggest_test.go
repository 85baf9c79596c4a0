package renewal

import (
	"crypto/x509"
	"errors"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"github.com/sidecert/sidecert/internal/cert"
)

const day = 24 * time.Hour

// suggests makes a CA's answer.
func suggests(start, end time.Time, next time.Time) cert.Heard {
	return cert.Heard{Suggestion: cert.Suggestion{Start: start, End: end, Next: next, Explanation: "https://ca.example/why"}}
}

// TestCertificateIsRenewedInTheCAsWindow runs a year with a CA that wants certificates renewed after 40 of 90 days.
func TestCertificateIsRenewedInTheCAsWindow(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		w := newWorld(t, "a.example")
		w.specs[0].CA.Directory = "https://ca.example/dir"
		w.issuer.suggest = func(leaf *x509.Certificate) (cert.Heard, error) {
			at := leaf.NotBefore.Add(40 * day)
			return suggests(at, at.Add(2*time.Hour), w.now().Add(6*time.Hour)), nil
		}
		_, stop := w.run()
		time.Sleep(125 * day)
		stop()
		if len(w.issuer.orders) != 4 {
			t.Fatalf("%d orders in 125 days, want one every 40 days", len(w.issuer.orders))
		}
		for i, at := range w.issuer.orders[1:] {
			if since := at.Sub(w.issuer.orders[i]); since < 40*day-time.Minute || since > 40*day+2*time.Hour+time.Minute {
				t.Errorf("order %d came %v after the last, want within the window of 2 h after 40 d", i+2, since)
			}
		}
		if asked := len(w.issuer.asked); asked > 125*4+20 {
			t.Errorf("the CA was asked %d times in 125 days, want every 6 h as it said", asked)
		}
		if !strings.Contains(w.log.String(), "its CA suggests it, see https://ca.example/why") {
			t.Error("the log does not say why the certificate was renewed early")
		}
	})
}

// TestStaleSuggestionBurnsNoLimit has a CA that always says "now", as one with a stale cache does.
func TestStaleSuggestionBurnsNoLimit(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		w := newWorld(t, "a.example")
		w.specs[0].CA.Directory = "https://ca.example/dir"
		w.issuer.suggest = func(leaf *x509.Certificate) (cert.Heard, error) {
			return suggests(w.now().Add(-day), w.now().Add(-day/2), w.now().Add(time.Hour)), nil
		}
		_, stop := w.run()
		time.Sleep(10 * time.Hour)
		if orders := len(w.issuer.orders); orders != 2 {
			t.Errorf("%d orders in the first 10 h, want the first and one that was suggested", orders)
		}
		time.Sleep(15*day - 10*time.Hour)
		stop()
		if orders := len(w.issuer.orders); orders > 12 || orders < 4 {
			t.Errorf("%d orders in 15 days, want some, and at most 4 in each 7 days", orders)
		}
		if asked := len(w.issuer.asked); asked > 15*24+20 {
			t.Errorf("the CA was asked %d times in 15 days, want every hour as it said", asked)
		}
	})
}

// TestSuggestionOutlivesRestarts restarts again and again: the CA is not asked again, and the moment that was drawn stands.
func TestSuggestionOutlivesRestarts(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		w := newWorld(t, "a.example")
		w.specs[0].CA.Directory = "https://ca.example/dir"
		w.issuer.suggest = func(leaf *x509.Certificate) (cert.Heard, error) {
			return suggests(leaf.NotBefore.Add(30*day), leaf.NotBefore.Add(50*day), w.now().Add(6*time.Hour)), nil
		}
		w.once(Ask{})
		first := w.once(Ask{}).Certs[0].Next
		if first.Before(w.now().Add(29*day)) || first.After(w.now().Add(51*day)) {
			t.Fatalf("renewal at %v, want within the window", first)
		}
		for range 100 {
			if next := w.once(Ask{}).Certs[0].Next; !next.Equal(first) {
				t.Fatalf("after a restart the renewal is at %v, want %v", next, first)
			}
		}
		time.Sleep(7 * time.Hour)
		if next := w.once(Ask{}).Certs[0].Next; !next.Equal(first) {
			t.Errorf("asked again, the CA says the same, and the renewal is at %v, want %v", next, first)
		}
		if len(w.issuer.asked) != 2 {
			t.Errorf("the CA was asked %d times, want twice", len(w.issuer.asked))
		}
	})
}

// TestNoUsableSuggestion has CAs that answer with errors or not at all: the lifetime decides, and nothing is ordered for it.
func TestNoUsableSuggestion(t *testing.T) {
	for name, err := range map[string]error{
		"garbage":   &cert.Error{Op: "renewalInfo", Err: errors.New("not JSON")},
		"no answer": &cert.Error{Op: "renewalInfo", Kind: cert.KindUnreachable, Err: errors.New("timeout")},
		"busy":      &cert.Error{Op: "renewalInfo", Kind: cert.KindBusy, Err: errors.New("429")},
	} {
		t.Run(name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				w := newWorld(t, "a.example", "b.example", "c.example")
				for i := range w.specs {
					w.specs[i].CA.Directory = "https://ca.example/dir"
				}
				w.issuer.suggest = func(*x509.Certificate) (cert.Heard, error) {
					return cert.Heard{Suggestion: cert.Suggestion{Next: w.now().Add(6 * time.Hour)}}, err
				}
				_, stop := w.run()
				time.Sleep(65 * day)
				stop()
				if orders := len(w.issuer.orders); orders != 6 {
					t.Errorf("%d orders in 65 days, want two for each of three certificates", orders)
				}
				if asked := len(w.issuer.asked); asked > 65*24*3+10 {
					t.Errorf("asked %d times, want at most every hour", asked)
				}
				if got := strings.Count(w.log.String(), "of no use"); name == "garbage" && got != 1 || name != "garbage" && got != 0 {
					t.Errorf("%d lines about it, want one for an answer of no use", got)
				}
			})
		})
	}
}

func TestSkewedClockIsTold(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		w := newWorld(t, "a.example")
		w.specs[0].CA.Directory = "https://ca.example/dir"
		w.issuer.suggest = func(leaf *x509.Certificate) (cert.Heard, error) {
			h := suggests(leaf.NotAfter.Add(-30*day), leaf.NotAfter.Add(-29*day), w.now().Add(6*time.Hour))
			h.Date = w.now().Add(20 * day)
			return h, nil
		}
		_, stop := w.run()
		time.Sleep(2 * day)
		stop()
		if got := strings.Count(w.log.String(), "clock of this machine is behind the CA's"); got != 1 {
			t.Errorf("%d warnings of the clock, want one\n%s", got, w.log)
		}
	})
}

// TestWrongClockCountsNoAttempt has an issuer that finds the clock wrong.
func TestWrongClockCountsNoAttempt(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		w := newWorld(t, "a.example")
		w.issuer.fail["a.example"] = &cert.Error{Op: "order", Kind: cert.KindClock, Err: errors.New("the clock is 9000h ahead")}
		_, stop := w.run()
		time.Sleep(5 * time.Hour)
		w.issuer.change(func(f *fakeIssuer) { delete(f.fail, "a.example") })
		time.Sleep(11 * time.Minute)
		stop()
		if l := w.lineage("a.example"); !l.Issued() {
			t.Errorf("the certificate was not obtained once the clock was right\n%s", w.log)
		}
		if got := strings.Count(w.log.String(), "clock is wrong"); got != 1 {
			t.Errorf("%d lines about the clock, want one", got)
		}
	})
}
