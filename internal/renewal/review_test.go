package renewal

import (
	"context"
	"errors"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/sidecert/sidecert/internal/cert"
)

func TestClockThatWasAheadHoldsNothingForLong(t *testing.T) {
	bubble(t, func(t *testing.T) {
		w := newWorld(t, "a.example")
		s := w.manager().Store
		far := w.now().AddDate(10, 0, 0)
		ca := w.specs[0].CA
		err := errors.Join(
			s.SaveHold(ca, cert.Hold{Tries: 9, Next: far}),
			s.SaveFailures(map[string][]time.Time{"a.example": {far, far, far, far}}),
			s.SaveGuard(cert.Guard{Ordered: map[string][]time.Time{"a.example": {far, far, far}}}),
			s.SaveAttempts("a.example", cert.Attempts{Failures: 4, Next: far}))
		if err != nil {
			t.Fatal(err)
		}
		for range 31 {
			w.once(Ask{})
			time.Sleep(time.Hour)
		}
		if !w.lineage("a.example").Issued() {
			t.Error("31 h after the clock was put right nothing is obtained")
		}
	})
}

func TestClockBehindForgetsNothing(t *testing.T) {
	bubble(t, func(t *testing.T) {
		w := newWorld(t, "a.example")
		w.once(Ask{})
		before, _ := w.manager().Store.Guard()
		w.offset.Store(int64(-50 * 365 * 24 * time.Hour))
		w.once(Ask{Force: true})
		after, _ := w.manager().Store.Guard()
		if len(after.Issued["a.example"]) != 1 || !after.Issued["a.example"][0].Equal(before.Issued["a.example"][0]) {
			t.Errorf("a start in 1977 has changed the guard's book from %v to %v", before.Issued, after.Issued)
		}
	})
}

func TestRetryAfterForAllSurvivesSuccessLostAnswersAndKills(t *testing.T) {
	bubble(t, func(t *testing.T) {
		w := newWorld(t, "a.example", "b.example")
		until := w.now().Add(72 * time.Hour)
		w.issuer.fail["a.example"] = &cert.Error{Op: "order", Kind: cert.KindBusy, Err: errors.New("429"), NotBefore: until}
		w.issuer.took = map[string]time.Duration{"b.example": 2 * time.Second}
		w.once(Ask{}) // b.example succeeds after a.example was told to wait
		m := w.manager()
		m.hold(w.specs[0].CA, &cert.Error{Kind: cert.KindUnreachable, Err: errors.New("reset")}, w.now())
		works, _ := m.survey(t.Context())
		m.decide(works[0], false)
		works[0].attempts.Begun = w.now()
		if err := m.Store.SaveAttempts("a.example", works[0].attempts); err != nil {
			t.Fatal(err)
		}
		clear(w.issuer.fail)
		orders := len(w.issuer.requests)
		for range 71 {
			time.Sleep(time.Hour)
			w.once(Ask{Names: []string{"a.example"}, Force: true})
		}
		if got := len(w.issuer.requests); got != orders {
			t.Errorf("%d requests before the CA's Retry-After was over", got-orders)
		}
		time.Sleep(2 * time.Hour)
		w.once(Ask{})
		if !w.lineage("a.example").Issued() {
			t.Error("not obtained after Retry-After")
		}
	})
}

func TestNameFailsAtMostFourTimesAnHourOverAllCertificates(t *testing.T) {
	bubble(t, func(t *testing.T) {
		w := newWorld(t, "a.example", "b.example", "c.example", "d.example", "e.example", "f.example")
		for i := range w.specs {
			w.specs[i].Names = append(w.specs[i].Names, "bad.example")
			w.issuer.fail[w.specs[i].Name] = &cert.Error{Op: "authorization", Name: "bad.example", Failed: []string{"bad.example"}, Err: errors.New("404")}
			w.issuer.took = map[string]time.Duration{w.specs[i].Name: time.Second}
		}
		var times []time.Time
		for range 240 {
			before := len(w.issuer.requests)
			w.once(Ask{Names: []string{"bad.example"}, Force: true})
			for range len(w.issuer.requests) - before {
				times = append(times, w.now())
			}
			time.Sleep(time.Minute)
		}
		for i := range times {
			if i >= 4 && times[i].Sub(times[i-4]) < time.Hour-time.Minute {
				t.Fatalf("five validations of one name within %v", times[i].Sub(times[i-4]))
			}
		}
		if len(times) < 12 {
			t.Errorf("%d attempts in 4 h, want about 4 an hour", len(times))
		}
	})
}

func TestKillAfterTheCertificateWasStoredIsNoFailure(t *testing.T) {
	bubble(t, func(t *testing.T) {
		w := newWorld(t, "a.example")
		m := w.manager()
		b := testCA.Issue(w.now(), w.issuer.life, "a.example")
		key, err := cert.EncodeKey(b.Key)
		if err != nil {
			t.Fatal(err)
		}
		// What a kill leaves between storing the certificate and writing that down.
		if _, err := m.Store.Save(t.Context(), "a.example", w.specs[0], b); err != nil {
			t.Fatal(err)
		}
		err = m.Store.SaveAttempts("a.example", cert.Attempts{Begun: w.now(), Order: &cert.Order{Key: key, URL: "https://ca.example/order/1", Begun: w.now()}})
		if err != nil {
			t.Fatal(err)
		}
		r := w.once(Ask{})
		a, err := w.manager().Store.Attempts("a.example")
		g, errGuard := w.manager().Store.Guard()
		if err = errors.Join(err, errGuard); err != nil || r.Certs[0].Err != nil || a.Failures != 0 || a.Order != nil || !a.Begun.IsZero() || len(g.Issued["a.example"]) != 1 {
			t.Errorf("result %+v, state %+v and %+v, %v; want no failure and one certificate in the guard's book", r.Certs[0], a, g, err)
		}
		if len(w.issuer.requests) > 0 {
			t.Error("the CA was asked again")
		}
	})
}

func TestDamagedSoleVersionIsMendedOrOrderedAnewWhileItIsServed(t *testing.T) {
	for file, want := range map[string]string{"cert1.pem": "files mended", "privkey1.pem": "stored files are damaged"} {
		t.Run(file, func(t *testing.T) {
			bubble(t, func(t *testing.T) {
				w := newWorld(t, "a.example")
				w.once(Ask{})
				if err := os.Truncate(filepath.Join(w.certDir, "archive/a.example", file), 0); err != nil {
					t.Fatal(err)
				}
				if h := w.manager().Health(); file == "cert1.pem" && len(h.Missing) > 0 {
					t.Errorf("health misses %v although nginx can start with it", h.Missing)
				}
				w.once(Ask{})
				if l := w.lineage("a.example"); !l.Issued() || l.Number != 2 {
					t.Errorf("version %d is live, want 2", l.Number)
				}
				if !strings.Contains(w.log.String(), want) {
					t.Errorf("the log lacks %q:\n%s", want, w.log)
				}
				if orders := map[string]int{"cert1.pem": 1, "privkey1.pem": 2}[file]; w.issuer.count() != orders {
					t.Errorf("%d orders, want %d: what can be mended is not ordered", w.issuer.count(), orders)
				}
			})
		})
	}
}

func TestHealthMissesOnlyWhatAWebServerCannotStartWith(t *testing.T) {
	bubble(t, func(t *testing.T) {
		w := newWorld(t, "a.example", "own.example")
		own, err := testCA.Issue(w.now(), w.issuer.life, "own.example").PEM()
		if err != nil {
			t.Fatal(err)
		}
		live := filepath.Join(w.certDir, "live/own.example")
		if err := os.MkdirAll(live, 0o755); err != nil {
			t.Fatal(err)
		}
		for file, data := range own {
			if err := os.WriteFile(filepath.Join(live, file+".pem"), data, 0o600); err != nil {
				t.Fatal(err)
			}
		}
		m := w.manager()
		if h := m.Health(); len(h.Missing) != 1 || h.Missing[0] != "a.example" {
			t.Errorf("before the first pass health misses %v, want a.example", h.Missing)
		}
		w.once(Ask{})
		if h := m.Health(); len(h.Missing) > 0 {
			t.Errorf("after it health misses %v", h.Missing)
		}
	})
}

func TestWhatAPersonPutsRightIsTriedAtOnce(t *testing.T) {
	bubble(t, func(t *testing.T) {
		w := newWorld(t, "a.example")
		w.specs[0].Profile = "clasic"
		w.issuer.fail["a.example"] = &cert.Error{Op: "order", Kind: cert.KindPerson, Err: errors.New("no such profile")}
		w.once(Ask{})
		w.once(Ask{}) // a restart alone changes nothing
		if n := len(w.issuer.requests); n != 1 {
			t.Errorf("%d attempts after a restart, want 1", n)
		}
		if !strings.Contains(w.log.String(), "certificate waits after a failure") || !strings.Contains(w.log.String(), "sidecert renew a.example") {
			t.Errorf("the log of the restart does not tell why nothing happens:\n%s", w.log)
		}
		w.specs[0].Profile = "classic"
		clear(w.issuer.fail)
		if r := w.once(Ask{}); !r.Certs[0].Obtained {
			t.Errorf("with the profile put right: %+v, want obtained", r.Certs[0])
		}
	})
}

// loud are the lines of the log that want a person.
func loud(w *world) (lines []string) {
	for line := range strings.Lines(w.log.String()) {
		if !strings.Contains(line, "level=INFO") {
			lines = append(lines, line)
		}
	}
	return lines
}

// TestFailureSaysHowItIsTriedAtOnceWhereThatIsTrue reads the one line of a failure.
func TestFailureSaysHowItIsTriedAtOnceWhereThatIsTrue(t *testing.T) {
	const shortcut, next = "mount the volume; once mended, `sidecert renew a.example` tries at once", " next=2027-"
	refused := &cert.Error{Op: "authorization", Err: errors.New("404"), Hint: "mount the volume", Failed: []string{"a.example"}}
	later := *refused
	later.NotBefore = time.Date(2027, 6, 1, 0, 0, 0, 0, time.UTC)
	for _, row := range []struct {
		name    string
		before  int // how often it has failed before
		err     *cert.Error
		obtain  bool // first
		wantAll []string
		wantNot string
	}{
		{"refused by the CA", 0, refused, false, []string{"attempt=1", next, shortcut}, "not_after"},
		{"of a kind for a person", 0, &cert.Error{Op: "order", Kind: cert.KindPerson, Err: errors.New("no"), Hint: "mount the volume"}, false, []string{"level=ERROR", next, shortcut}, "WARN"},
		{"the CA asked to wait", 0, &later, false, []string{next, `hint="mount the volume"`}, "at once"},
		{"the CA's own trouble", 0, &cert.Error{Op: "order", Err: errors.New("500"), Hint: "wait"}, false, []string{next, "hint=wait"}, "at once"},
		{"as often as the guard allows", 2, refused, false, []string{"attempt=3", next, `hint="mount the volume"`}, "at once"},
		{"not due", 0, refused, true, []string{`msg="renewal failed"`, "not_after=", `hint="mount the volume"`}, " next="},
	} {
		bubble(t, func(t *testing.T) {
			w := newWorld(t, "a.example")
			if row.obtain {
				w.once(Ask{})
			}
			w.issuer.fail["a.example"] = row.err
			for range row.before {
				w.once(Ask{Names: []string{"a.example"}})
			}
			w.log.Reset()
			w.once(Ask{Names: []string{"a.example"}, Force: row.obtain})
			told := loud(w)
			if len(told) != 1 {
				t.Fatalf("%s: %d lines, want one:\n%s", row.name, len(told), w.log)
			}
			w.log.Reset()
			w.once(Ask{Names: []string{"a.example"}}) // a start after it
			if again := loud(w); row.before > 0 && (len(again) != 1 || !strings.Contains(again[0], "order held by the guard")) {
				t.Errorf("%s: a start after it tells\n%swant the guard once", row.name, w.log)
			}
			for _, want := range row.wantAll {
				if !strings.Contains(told[0], want) {
					t.Errorf("%s: %swant %q in it", row.name, told[0], want)
				}
			}
			if strings.Contains(told[0], row.wantNot) {
				t.Errorf("%s: %swant no %q in it", row.name, told[0], row.wantNot)
			}
		})
	}
}

// TestNextTryAfterAFailureByHandIsThatOfTheBackoff holds for who asks for a certificate by its name too.
func TestNextTryAfterAFailureByHandIsThatOfTheBackoff(t *testing.T) {
	for _, names := range [][]string{nil, {"a.example"}} {
		bubble(t, func(t *testing.T) {
			w := newWorld(t, "a.example")
			w.issuer.fail["a.example"] = &cert.Error{Op: "authorization", Err: errors.New("404"), Failed: []string{"a.example"}}
			if next := w.once(Ask{Names: names}).Certs[0].Next; next.Before(w.now().Add(time.Minute)) {
				t.Errorf("asked for %q: the next try is in %v, want it in a minute or more", names, next.Sub(w.now()))
			}
		})
	}
}

func TestChallengePathIsWaitedForOnceWhileTheCAIsAway(t *testing.T) {
	bubble(t, func(t *testing.T) {
		w := newWorld(t, "a.example")
		w.issuer.preflight = errors.New("404")
		w.issuer.fail["a.example"] = &cert.Error{Op: "directory", Kind: cert.KindUnreachable, Err: errors.New("refused")}
		_, stop := w.run()
		time.Sleep(10 * time.Minute)
		stop()
		if n := strings.Count(w.log.String(), "challenge path not served"); n != 1 {
			t.Errorf("the challenge path was waited for %d times, want once", n)
		}
	})
}

func TestWhatIsNotServedIsSaid(t *testing.T) {
	bubble(t, func(t *testing.T) {
		w := newWorld(t, "a.example")
		w.specs[0].Reload.Targets = []cert.Target{{Word: "nosuch"}}
		w.reloader.outcomes = []cert.Outcome{{Cert: "a.example", Container: "nosuch", Class: cert.Unseen, Err: errors.New("there is no such container"), Hint: "set RELOAD"}}
		r := w.once(Ask{})
		if c := r.Certs[0]; !c.Obtained || !strings.Contains(c.Unserved, "no such container") || c.UnservedHint != "set RELOAD" {
			t.Errorf("result %+v, want obtained and not served", c)
		}
		if r.look.IsZero() || r.look.After(w.now().Add(time.Minute)) {
			t.Errorf("the next look is at %v, want within a minute", r.look)
		}
	})
}

func TestKillBeforeTheConfIsWrittenCostsNoOrder(t *testing.T) {
	bubble(t, func(t *testing.T) {
		w := newWorld(t, "a.example")
		w.once(Ask{})
		conf := filepath.Join(w.certDir, "renewal/a.example.conf")
		old, err := os.ReadFile(conf)
		if err != nil {
			t.Fatal(err)
		}
		w.specs[0].CA.Directory = "https://moved.example/dir"
		var key []byte
		w.issuer.inside = func(_ context.Context, req cert.Request) (cert.Bundle, error) {
			b := testCA.Issue(w.now(), w.issuer.life, "a.example")
			key, _ = cert.EncodeKey(b.Key)
			return b, nil
		}
		w.once(Ask{})
		// What a kill leaves after the links and before the conf.
		if err := os.WriteFile(conf, old, 0o644); err != nil {
			t.Fatal(err)
		}
		if err := w.manager().Store.SaveAttempts("a.example", cert.Attempts{Begun: w.now(), Order: &cert.Order{
			Account: w.specs[0].CA.ID(), Key: key, URL: "https://moved.example/order/1", Begun: w.now()}}); err != nil {
			t.Fatal(err)
		}
		w.once(Ask{})
		if got := w.issuer.count(); got != 2 {
			t.Errorf("%d orders, want 2: the certificate of the new CA is there", got)
		}
		if got := w.lineage("a.example").Conf.Server; got != "https://moved.example/dir" {
			t.Errorf("the conf names %s, want the CA that gave what is live", got)
		}
	})
}

func TestConfDoesNotNameACAThatDidNotGiveTheCertificate(t *testing.T) {
	bubble(t, func(t *testing.T) {
		w := newWorld(t, "a.example")
		account := w.specs[0].CA.ID()
		b := testCA.Issue(w.now(), w.issuer.life, "a.example")
		key, err := cert.EncodeKey(b.Key)
		if err != nil {
			t.Fatal(err)
		}
		m := w.manager()
		if _, err := m.Store.Save(t.Context(), "a.example", w.specs[0], b); err != nil {
			t.Fatal(err)
		}
		order := &cert.Order{Account: account, Key: key, URL: "https://ca.example/order/1", Begun: w.now()}
		if err := m.Store.SaveAttempts("a.example", cert.Attempts{Begun: w.now(), Order: order}); err != nil {
			t.Fatal(err)
		}
		w.specs[0].CA.Directory = "https://moved.example/dir" // changed between the kill and the next start
		w.once(Ask{})
		if got := w.issuer.count(); got != 1 {
			t.Errorf("%d orders after the CA was changed, want 1 at the new one", got)
		}
	})
}
