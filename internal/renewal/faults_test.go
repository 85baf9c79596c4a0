package renewal

import (
	"context"
	"crypto/x509"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"strings"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"

	"github.com/sidecert/sidecert/internal/cert"
	"github.com/sidecert/sidecert/internal/store"
	"github.com/sidecert/sidecert/internal/store/storetest"
)

// cursed is a volume on which one operation on the files of a name panics, as a fault of ours would, until it is lifted.
type cursed struct {
	store.FS
	op, name string
	lifted   *atomic.Bool
}

func (c cursed) strike(op, path string) {
	if !c.lifted.Load() && op == c.op && strings.Contains(path, c.name) {
		panic("a fault of ours")
	}
}

func (c cursed) Mkdir(name string, perm fs.FileMode) error {
	c.strike("mkdir", name)
	return c.FS.Mkdir(name, perm)
}

func (c cursed) ReadFile(name string) ([]byte, error) {
	c.strike("read", name)
	return c.FS.ReadFile(name)
}

// on gives a manager other volumes.
func on(m *Manager, certs, state store.FS) *Manager {
	m.Store = store.New(certs, state, m.Store.Options)
	return m
}

// keep runs a manager until the returned function is called.
func (w *world) keep(m *Manager) (stop func()) {
	ctx, cancel := context.WithCancel(w.t.Context())
	done := make(chan error, 1)
	go func() { done <- m.Run(ctx) }()
	return func() {
		cancel()
		if err := <-done; !errors.Is(err, context.Canceled) {
			w.t.Errorf("Run() = %v, want the context's end", err)
		}
	}
}

func (w *world) wantPanicToldOnce(op string) {
	w.t.Helper()
	var lines []string
	for line := range strings.Lines(w.log.String()) {
		if strings.Contains(line, op+" panicked") {
			lines = append(lines, line)
		}
	}
	if len(lines) != 1 || !strings.Contains(lines[0], "level=ERROR") || !strings.Contains(lines[0], "goroutine ") {
		w.t.Errorf("the panic was told %d times, want one ERROR with the stack:\n%s", len(lines), strings.Join(lines, ""))
	}
}

func TestPanicOverOneCertificateHoldsUpNoOther(t *testing.T) {
	for op, at := range map[string]struct{ op, name string }{
		"files":    {"mkdir", "bad.example"}, // in a placeholder's making
		"decision": {"read", "attempts/bad.example"},
	} {
		t.Run(op, func(t *testing.T) {
			bubble(t, func(t *testing.T) {
				w := newWorld(t, "a.example", "bad.example", "c.example")
				lifted := new(atomic.Bool)
				m := on(w.manager(), cursed{storetest.NewMemory(w.now), at.op, at.name, lifted}, cursed{storetest.NewMemory(w.now), at.op, at.name, lifted})
				stop := w.keep(m)
				defer stop()
				time.Sleep(3 * time.Hour)
				for _, name := range []string{"a.example", "c.example"} {
					if l, err := m.Store.Lineage(name); err != nil || !l.Issued() {
						t.Errorf("%s is not obtained: %v", name, err)
					}
				}
				w.wantPanicToldOnce(op)

				lifted.Store(true)
				time.Sleep(2 * time.Minute)
				if l, err := m.Store.Lineage("bad.example"); err != nil || !l.Issued() {
					t.Errorf("bad.example is not obtained 2 min after the fault has gone: %v", err)
				}
			})
		})
	}
}

func TestPanicInAnAttemptIsCountedAndBacksOff(t *testing.T) {
	bubble(t, func(t *testing.T) {
		w := newWorld(t, "a.example", "bad.example")
		w.issuer.panics = map[string]bool{"bad.example": true}
		m, stop := w.run()
		defer stop()
		time.Sleep(3 * time.Hour)
		a, err := m.Store.Attempts("bad.example")
		if err != nil || a.Failures != 4 || !a.Begun.IsZero() || !strings.Contains(a.Err, "panic: a fault of ours") {
			t.Errorf("after 3 h of panics the state is %+v, %v; want 4 failures (at 0, 1, 11 and 111 min) and none under way", a, err)
		}
		if !w.lineage("a.example").Issued() {
			t.Error("a.example is not obtained")
		}
		w.wantPanicToldOnce("attempt")
	})
}

// rash is an Issuer that panics in a probe.
type rash struct{ *fakeIssuer }

func (rash) Preflight(_ context.Context, spec cert.Spec, _ []string) error {
	if spec.Name == "bad.example" {
		panic("a fault of ours")
	}
	return nil
}

func TestPanicInAProbeHoldsUpNoOther(t *testing.T) {
	bubble(t, func(t *testing.T) {
		w := newWorld(t, "a.example", "bad.example")
		m := w.manager()
		m.Issuer = rash{w.issuer}
		stop := w.keep(m)
		defer stop()
		time.Sleep(time.Hour)
		if !w.lineage("a.example").Issued() {
			t.Error("a.example is not obtained")
		}
		w.wantPanicToldOnce("preflight")
	})
}

// shaken is a Reloader that panics until it is calmed.
type shaken struct {
	*fakeReloader
	calm atomic.Bool
}

func (s *shaken) Look(ctx context.Context, kept []cert.Kept) cert.Look {
	if !s.calm.Load() {
		panic("a fault of ours")
	}
	return s.fakeReloader.Look(ctx, kept)
}

func TestPanicInALookIsNoReasonNotToRenew(t *testing.T) {
	bubble(t, func(t *testing.T) {
		w := newWorld(t, "a.example")
		m := w.manager()
		reloader := &shaken{fakeReloader: w.reloader}
		m.Reloader = reloader
		stop := w.keep(m)
		defer stop()
		time.Sleep(61 * 24 * time.Hour)
		if l := w.lineage("a.example"); l.Number != 2 {
			t.Errorf("version %d after 61 days, want 2", l.Number)
		}
		w.wantPanicToldOnce("look")

		reloader.calm.Store(true)
		time.Sleep(longest + time.Minute)
		if w.reloader.count() == 0 {
			t.Error("the web containers are not looked at after the fault has gone")
		}
	})
}

// TestWhatNeverEndsEndsTheProcess has a CA, and then an engine, whose answer is waited for without heed of any context.
func TestWhatNeverEndsEndsTheProcess(t *testing.T) {
	for _, where := range []string{"order", "look"} {
		t.Run(where, func(t *testing.T) {
			bubble(t, func(t *testing.T) {
				w := newWorld(t, "a.example")
				release := make(chan struct{})
				defer synctest.Wait() // the bubble ends with all in it
				defer close(release)
				m := w.manager()
				if where == "order" {
					w.issuer.inside = func(context.Context, cert.Request) (cert.Bundle, error) {
						<-release
						return cert.Bundle{}, errors.New("too late")
					}
				} else {
					m.Reloader = standing{w.reloader, release}
				}
				done, heard := make(chan error, 1), make(chan error, 1)
				begun := time.Now()
				go func() { done <- m.Run(t.Context()) }()
				synctest.Wait()
				go func() {
					_, err := m.Renew(t.Context(), Ask{})
					heard <- err
				}()
				if err := <-done; !errors.Is(err, ErrStuck) {
					t.Errorf("Run() = %v, want ErrStuck", err)
				}
				if took := time.Since(begun); took < stuck || took > stuck+time.Minute {
					t.Errorf("ended after %v, want %v", took, stuck)
				}
				if err := <-heard; err == nil {
					t.Error("Renew() of somebody who waited has succeeded, want an error")
				}
				if log := w.log.String(); strings.Count(log, "sidecert is stuck") != 1 || !strings.Contains(log, "goroutine ") {
					t.Errorf("the log does not tell once, with stacks, that it is stuck:\n%s", log)
				}
			})
		})
	}
}

// standing is a Reloader that does not come back until it is released.
type standing struct {
	*fakeReloader
	release chan struct{}
}

func (s standing) Look(context.Context, []cert.Kept) cert.Look {
	<-s.release
	return cert.Look{}
}

func TestLongPassThatComesFurtherIsNotStuck(t *testing.T) {
	bubble(t, func(t *testing.T) {
		var names []string
		took := map[string]time.Duration{}
		for i := range 3 * workers {
			names = append(names, fmt.Sprintf("site%d.example", i))
			took[names[i]] = stuck - 5*time.Minute
		}
		w := newWorld(t, names...)
		w.issuer.took = took
		_, stop := w.run()
		defer stop()
		time.Sleep(3 * stuck)
		for _, name := range names {
			if !w.lineage(name).Issued() {
				t.Errorf("%s is not obtained in a pass of 165 min", name)
			}
		}
	})
}

// manyDue is a manager with certificates that are all due and were issued minutes apart, those that expire first last in the configuration.
func manyDue(w *world, n int, directory string) *Manager {
	w.t.Helper()
	certs, state := storetest.NewMemory(w.now), storetest.NewMemory(w.now)
	for i := range n {
		name := fmt.Sprintf("site%d.example", i)
		w.specs = append(w.specs, cert.Spec{Name: name, Names: []string{name}, CA: cert.CA{Directory: directory}})
	}
	m := on(w.manager(), certs, state)
	for i, spec := range w.specs {
		b := testCA.Issue(w.now().Add(-70*24*time.Hour-time.Duration(i)*time.Minute), 90*24*time.Hour, spec.Names...)
		if _, err := m.Store.Save(w.t.Context(), spec.Name, spec, b); err != nil {
			w.t.Fatal(err)
		}
	}
	return m
}

func TestPublicCAIsNotAskedForAllThatIsDueAtOnce(t *testing.T) {
	if testing.Short() {
		t.Skip("600 certificates take some seconds")
	}
	t.Parallel()
	bubble(t, func(t *testing.T) {
		const n = 600
		w := newWorld(t)
		m := manyDue(w, n, cert.LetsEncrypt)
		stop := w.keep(m)
		time.Sleep(8 * time.Hour)
		stop()
		if got := w.issuer.count(); got != n {
			t.Errorf("%d orders in 8 h, want %d: one for each that was due", got, n)
		}
		for i, at := range w.issuer.orders[min(accountOrders, len(w.issuer.orders)):] {
			if within := at.Sub(w.issuer.orders[i]); within < accountWindow {
				t.Fatalf("%d orders within %v, want at most %d in %v", accountOrders+1, within, accountOrders, accountWindow)
			}
		}
		first := map[string]bool{}
		for _, req := range w.issuer.requests[:accountOrders] {
			first[req.Spec.Name] = true
		}
		passed := 0
		for _, spec := range w.specs[n-accountOrders:] {
			if !first[spec.Name] {
				passed++
			}
		}
		if passed > 0 {
			t.Errorf("%d of the %d that expire first are not among the first %d orders", passed, accountOrders, accountOrders)
		}
	})
}

func TestPrivateCAIsAskedForAllThatIsDueAtOnce(t *testing.T) {
	t.Parallel()
	bubble(t, func(t *testing.T) {
		const n = accountOrders + 50
		w := newWorld(t)
		m := manyDue(w, n, "https://ca.example/dir")
		m.Once(t.Context(), Ask{})
		if got := w.issuer.count(); got != n {
			t.Errorf("%d orders in one pass, want all %d", got, n)
		}
	})
}

const lost = "stored certificate is not there any more and ordered anew"

func TestLostVolumeIsToldOnceForEachCertificate(t *testing.T) {
	bubble(t, func(t *testing.T) {
		w := newWorld(t, "a.example", "b.example", "never.example")
		w.issuer.fail["never.example"] = &cert.Error{Op: "authorization", Name: "never.example", Err: errors.New("404")}
		w.once(Ask{})
		w.certDir = t.TempDir()
		for range 3 {
			w.once(Ask{})
		}
		for name, want := range map[string]int{"a.example": 1, "b.example": 1, "never.example": 0} {
			if got := strings.Count(w.log.String(), fmt.Sprintf("level=WARN msg=%q cert=%s", lost, name)); got != want {
				t.Errorf("the loss of %s is told %d times, want %d:\n%s", name, got, want, w.log)
			}
		}
		for _, name := range []string{"a.example", "b.example"} {
			if !w.lineage(name).Issued() {
				t.Errorf("%s is not obtained anew", name)
			}
		}
	})
}

func TestVolumeThatIsLostAtEachStartBurnsNoLimit(t *testing.T) {
	bubble(t, func(t *testing.T) {
		w := newWorld(t, "a.example")
		for range 20 {
			w.certDir = t.TempDir()
			w.once(Ask{})
			time.Sleep(time.Hour / 21)
		}
		if got := w.issuer.count(); got != 3 {
			t.Errorf("%d orders in an hour of 20 starts, want 3 (the guard's hour)", got)
		}
	})
}

func TestDeletedCertificateIsNotMissed(t *testing.T) {
	bubble(t, func(t *testing.T) {
		w := newWorld(t, "a.example")
		w.once(Ask{})
		if _, err := w.manager().Delete(t.Context(), "a.example", true); err != nil {
			t.Fatal(err)
		}
		w.once(Ask{})
		if !w.lineage("a.example").Issued() || strings.Contains(w.log.String(), lost) {
			t.Errorf("after Delete issued %v; want it, and no word of a loss:\n%s", w.lineage("a.example").Issued(), w.log)
		}
	})
}

func TestForcedOrderIsResumedWithinTheHourOnly(t *testing.T) {
	for _, row := range []struct {
		pause  time.Duration
		resume bool
	}{{time.Minute, true}, {50 * time.Minute, true}, {2 * time.Hour, false}} {
		t.Run(row.pause.String(), func(t *testing.T) {
			bubble(t, func(t *testing.T) {
				w := newWorld(t, "a.example")
				w.once(Ask{})
				const url = "https://ca.example/order/forced"
				w.issuer.inside = func(_ context.Context, req cert.Request) (cert.Bundle, error) {
					if err := req.Save(&cert.Order{Names: req.Spec.Names, URL: url, Begun: w.now()}); err != nil {
						return cert.Bundle{}, err
					}
					return cert.Bundle{}, &cert.Error{Op: "order", Kind: cert.KindInterrupted, Err: context.Canceled}
				}
				w.once(Ask{Force: true})
				w.issuer.inside = nil

				time.Sleep(row.pause)
				if r := w.once(Ask{}); r.Certs[0].Obtained {
					t.Fatal("a pass that finds nothing due has ordered")
				}
				r := w.once(Ask{Force: true})
				order := w.issuer.requests[len(w.issuer.requests)-1].Order
				if resumed := order != nil && order.URL == url; resumed != row.resume || !r.Certs[0].Obtained {
					t.Errorf("order of %v ago resumed %v, want %v; result %+v", row.pause, resumed, row.resume, r.Certs[0])
				}
			})
		})
	}
}

// TestDamagedVersionThatIsStillServedIsOrderedAnew has a fullchain that web servers take and no client does: its second certificate is
// another's.
func TestDamagedVersionThatIsStillServedIsOrderedAnew(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		w := newWorld(t, "a.example")
		w.once(Ask{})
		full := filepath.Join(w.certDir, "archive/a.example/fullchain1.pem")
		old, err := os.ReadFile(full)
		if err != nil {
			t.Fatal(err)
		}
		const end = "-----END CERTIFICATE-----\n"
		leaf, _, _ := strings.Cut(string(old), end)
		other := cert.EncodeChain(testCA.Issue(w.now(), day, "x.example").Chain[:1])
		if err := os.WriteFile(full, append([]byte(leaf+end), other...), 0o644); err != nil {
			t.Fatal(err)
		}
		_, stop := w.run()
		time.Sleep(time.Hour)
		stop()
		if n := w.issuer.count(); n != 2 {
			t.Errorf("%d orders, want the first and one for the damaged version\n%s", n, w.log)
		}
	})
}

// TestBookThatCannotBeReadIsTold has a guard's book that is none: nothing is ordered without it, and a person hears of it once.
func TestBookThatCannotBeReadIsTold(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		w := newWorld(t, "a.example")
		book := filepath.Join(w.stateDir, "guard.json")
		if err := os.WriteFile(book, make([]byte, store.MaxFile+1), 0o600); err != nil {
			t.Fatal(err)
		}
		_, stop := w.run()
		time.Sleep(3 * time.Hour)
		if n, told := w.issuer.count(), strings.Count(w.log.String(), "certificate held: what was tried for it"); n != 0 || told != 1 {
			t.Errorf("%d orders, told %d times; want none, and once\n%s", n, told, w.log)
		}
		if err := os.Remove(book); err != nil {
			t.Fatal(err)
		}
		time.Sleep(2 * time.Minute)
		stop()
		if n := w.issuer.count(); n != 1 {
			t.Errorf("%d orders once the book was gone, want one", n)
		}
	})
}

// TestBooksOfManyNamesStaySmall has 400 certificates of 100 names: a book over store.MaxFile could not be read again.
func TestBooksOfManyNamesStaySmall(t *testing.T) {
	now := time.Now()
	guard := cert.Guard{Ordered: map[string][]time.Time{}, Issued: map[string][]time.Time{}}
	for i := range 400 {
		var names []string
		for j := range 100 {
			names = append(names, fmt.Sprintf("www.customer-%03d-%03d.some-hoster.example", i, j))
		}
		guard.Ordered[setOf(names)], guard.Issued[setOf(names)] = []time.Time{now, now, now}, []time.Time{now, now, now, now}
	}
	w := newWorld(t)
	s := w.manager().Store
	if err := s.SaveGuard(guard); err != nil {
		t.Fatal(err)
	}
	if back, err := s.Guard(); err != nil || len(back.Ordered) != 400 {
		t.Errorf("%d sets were read back, %v; want 400", len(back.Ordered), err)
	}
}

// TestLineageLeftToCertbotHasNotVanished has one that was adopted and is then none of ours, and is there all the same.
func TestLineageLeftToCertbotHasNotVanished(t *testing.T) {
	w := newWorld(t, "new.example")
	w.adopt = true
	w.certbots("old.example", []string{"old.example"}, "server = https://ca.example/dir", "authenticator = webroot")
	w.once(Ask{})
	w.certbots("old.example", []string{"old.example"}, "server = https://ca.example/dir", "authenticator = webroot", "autorenew = False")
	w.once(Ask{})
	if strings.Contains(w.log.String(), "is not there any more") {
		t.Errorf("a lineage that is there was told to be gone\n%s", w.log)
	}
}

// TestBusyCAIsAskedWhenItSaid has a CA that asks for a day's rest when it is asked about a certificate.
func TestBusyCAIsAskedWhenItSaid(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		w := newWorld(t, "a.example")
		w.specs[0].CA.Directory = "https://ca.example/dir"
		w.issuer.suggest = func(*x509.Certificate) (cert.Heard, error) {
			return cert.Heard{Suggestion: cert.Suggestion{Next: w.now().Add(day)}}, &cert.Error{Op: "renewalInfo", Kind: cert.KindBusy, Err: errors.New("429")}
		}
		_, stop := w.run()
		time.Sleep(3*day - time.Hour)
		stop()
		if asked := len(w.issuer.asked); asked != 3 {
			t.Errorf("asked %d times in three days, want once a day", asked)
		}
	})
}
