package renewal

import (
	"bytes"
	"context"
	"crypto/x509"
	"errors"
	"fmt"
	"log/slog"
	"slices"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"

	"github.com/sidecert/sidecert/internal/cert"
	"github.com/sidecert/sidecert/internal/cert/certtest"
	"github.com/sidecert/sidecert/internal/store"
)

var testCA = certtest.New()

// world is a bubble's: volumes that outlive managers, a wall clock that can jump, a CA and web containers.
type world struct {
	t                 *testing.T
	certDir, stateDir string
	begin             time.Time
	offset            atomic.Int64 // how far the wall clock has jumped, in nanoseconds
	specs             []cert.Spec
	issuer            *fakeIssuer
	reloader          *fakeReloader
	enforce           bool
	log               *bytes.Buffer
	// adopt takes certbot's lineages over; hooks note what they were called for.
	adopt bool
	hooks *fakeHooks
}

func newWorld(t *testing.T, names ...string) *world {
	w := &world{t: t, certDir: t.TempDir(), stateDir: t.TempDir(), begin: time.Now(), log: new(bytes.Buffer), reloader: &fakeReloader{}}
	w.issuer = &fakeIssuer{now: w.now, life: 90 * 24 * time.Hour, fail: map[string]error{}}
	for _, name := range names {
		w.specs = append(w.specs, cert.Spec{Name: name, Names: []string{name}, CA: cert.CA{Directory: "https://ca.example/dir"}})
	}
	return w
}

// now is the wall clock: a bubble's begins in 2000, ours in 2027.
func (w *world) now() time.Time {
	return time.Date(2027, 1, 1, 0, 0, 0, 0, time.UTC).Add(time.Since(w.begin) + time.Duration(w.offset.Load()))
}

// manager is what a start of sidecert makes.
func (w *world) manager() *Manager {
	w.t.Helper()
	s, err := store.Open(store.Options{CertDir: w.certDir, StateDir: w.stateDir, FilesPerms: 0o600, FoldersPerms: 0o755, Now: w.now})
	if err != nil {
		w.t.Fatal(err)
	}
	c := Config{Store: s, Issuer: w.issuer, Reloader: w.reloader, EnforcePreflight: w.enforce, Now: w.now,
		Log: slog.New(slog.NewTextHandler(&lockedWriter{w: w.log}, nil))}
	if w.hooks != nil {
		c.Hooks = w.hooks
	}
	c.Wishes = cert.Wishes{Specs: w.specs, Adopt: w.adopt,
		General: func(string) cert.Spec {
			return cert.Spec{CA: cert.CA{Directory: "https://ca.example/dir"}, Webroot: "/var/www/certbot", Open: cert.Open{CA: true, Webroot: true, ReuseKey: true}}
		},
		Mounted: func(path string) bool { return path == "/srv/www" }}
	return New(c)
}

// once is a start, one pass and an end.
func (w *world) once(a Ask) Result { return w.manager().Once(w.t.Context(), a) }

func (w *world) lineage(name string) cert.Lineage {
	w.t.Helper()
	l, err := w.manager().Store.Lineage(name)
	if err != nil {
		w.t.Fatal(err)
	}
	return l
}

// run runs a manager until the returned function is called.
func (w *world) run() (m *Manager, stop func()) {
	m = w.manager()
	return m, w.keep(m)
}

type lockedWriter struct {
	mu sync.Mutex
	w  *bytes.Buffer
}

func (l *lockedWriter) Write(p []byte) (int, error) {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.w.Write(p)
}

// fakeIssuer is a CA as the manager sees it.
type fakeIssuer struct {
	now  func() time.Time
	life time.Duration

	mu        sync.Mutex
	fail      map[string]error // by first name
	panics    map[string]bool
	took      map[string]time.Duration
	preflight error
	waits     time.Duration // of Preflight
	orders    []time.Time   // new ones
	requests  []cert.Request
	rehearsed []cert.Spec
	revoked   []cert.Revocation
	refuse    error         // of revocations
	away      error         // of Reach
	slow      time.Duration // of Rehearse
	// suggest, if set, is what the CA says about renewing; asked is when it was asked.
	suggest func(leaf *x509.Certificate) (cert.Heard, error)
	asked   []time.Time
	// inside, if set, stands in for everything after the order is on disk.
	inside func(ctx context.Context, req cert.Request) (cert.Bundle, error)
}

func (f *fakeIssuer) Preflight(ctx context.Context, _ cert.Spec, _ []string) error {
	select {
	case <-time.After(f.waits):
	case <-ctx.Done():
		return ctx.Err()
	}
	return f.preflight
}

func (f *fakeIssuer) Obtain(ctx context.Context, req cert.Request) (cert.Bundle, error) {
	name := req.Spec.Names[0]
	f.mu.Lock()
	f.requests = append(f.requests, req)
	err, panics, took := f.fail[name], f.panics[name], f.took[name]
	f.mu.Unlock()
	if e, ok := errors.AsType[*cert.Error](err); ok && e.Kind == cert.KindUnreachable {
		return cert.Bundle{}, err
	}
	if req.Order == nil {
		f.mu.Lock()
		f.orders = append(f.orders, f.now())
		f.mu.Unlock()
		if err := req.Save(&cert.Order{Names: req.Spec.Names}); err != nil {
			return cert.Bundle{}, err
		}
		if err := req.Save(&cert.Order{Names: req.Spec.Names, URL: "https://ca.example/order/1"}); err != nil {
			return cert.Bundle{}, err
		}
	}
	if panics {
		panic("a fault of ours")
	}
	f.mu.Lock()
	inside := f.inside
	f.mu.Unlock()
	if inside != nil {
		return inside(ctx, req)
	}
	select {
	case <-time.After(took):
	case <-ctx.Done():
		return cert.Bundle{}, &cert.Error{Op: "order", Kind: cert.KindInterrupted, Err: ctx.Err()}
	}
	if err != nil {
		req.Save(nil)
		return cert.Bundle{}, err
	}
	return testCA.Issue(f.now().Truncate(time.Second), f.life, req.Spec.Names...), nil
}

func (f *fakeIssuer) Suggest(_ context.Context, _ cert.CA, leaf *x509.Certificate) (cert.Heard, error) {
	f.mu.Lock()
	defer f.mu.Unlock()
	f.asked = append(f.asked, f.now())
	if f.suggest == nil {
		return cert.Heard{Suggestion: cert.Suggestion{Of: cert.Fingerprint(leaf), Next: f.now().Add(24 * time.Hour)}}, nil
	}
	h, err := f.suggest(leaf)
	h.Of = cert.Fingerprint(leaf)
	return h, err
}

func (f *fakeIssuer) Reach(context.Context, cert.CA) error {
	f.mu.Lock()
	defer f.mu.Unlock()
	return f.away
}

// change is for while a manager runs.
func (f *fakeIssuer) change(to func(*fakeIssuer)) {
	f.mu.Lock()
	defer f.mu.Unlock()
	to(f)
}

func (f *fakeIssuer) Rehearse(ctx context.Context, spec cert.Spec) error {
	select {
	case <-time.After(f.slow):
	case <-ctx.Done():
		return &cert.Error{Op: "order", Kind: cert.KindInterrupted, Err: ctx.Err()}
	}
	f.mu.Lock()
	defer f.mu.Unlock()
	f.rehearsed = append(f.rehearsed, spec)
	return f.fail[spec.Names[0]]
}

func (f *fakeIssuer) Revoke(_ context.Context, r cert.Revocation) error {
	f.mu.Lock()
	defer f.mu.Unlock()
	if f.refuse != nil {
		return f.refuse
	}
	f.revoked = append(f.revoked, r)
	return nil
}

// fakeHooks notes what it was called for.
type fakeHooks struct {
	mu    sync.Mutex
	calls []string
}

func (f *fakeHooks) note(format string, args ...any) {
	f.mu.Lock()
	defer f.mu.Unlock()
	f.calls = append(f.calls, fmt.Sprintf(format, args...))
}

// all are the calls until now.
func (f *fakeHooks) all() []string {
	f.mu.Lock()
	defer f.mu.Unlock()
	return slices.Clone(f.calls)
}

func (f *fakeHooks) Pre(_ context.Context, commands []string) { f.note("pre %q", commands) }
func (f *fakeHooks) Deploy(_ context.Context, l cert.Lineage) {
	f.note("deploy %s %d", l.Name, l.Number)
}
func (f *fakeHooks) Post(_ context.Context, commands, renewed, failed []string) {
	f.note("post %q renewed %v failed %v", commands, renewed, failed)
}

// fakeReloader remembers what it was shown.
type fakeReloader struct {
	mu    sync.Mutex
	looks [][]string // the lineages of each, with their versions
	at    []time.Time
	next  time.Time
	soon  func() time.Time // in place of next
	// outcomes are told of every look, lookErr of every Look and err of every Show.
	outcomes     []cert.Outcome
	lookErr, err error
	shown        []cert.Kept
}

func (f *fakeReloader) Look(_ context.Context, kept []cert.Kept) cert.Look {
	f.mu.Lock()
	defer f.mu.Unlock()
	var seen []string
	for _, k := range kept {
		seen = append(seen, fmt.Sprintf("%s %d", k.Lineage.Name, k.Lineage.Number))
	}
	f.looks, f.at = append(f.looks, seen), append(f.at, time.Now())
	if f.soon != nil {
		return cert.Look{Next: f.soon(), Outcomes: f.outcomes, Err: f.lookErr}
	}
	return cert.Look{Next: f.next, Outcomes: f.outcomes, Err: f.lookErr}
}

func (f *fakeReloader) Show(_ context.Context, kept []cert.Kept) cert.Look {
	f.mu.Lock()
	defer f.mu.Unlock()
	f.shown = append(f.shown, kept...)
	return cert.Look{Outcomes: f.outcomes, Err: f.err}
}

func (f *fakeReloader) count() int {
	f.mu.Lock()
	defer f.mu.Unlock()
	return len(f.looks)
}

// count is the number of new orders.
func (f *fakeIssuer) count() int {
	f.mu.Lock()
	defer f.mu.Unlock()
	return len(f.orders)
}

func bubble(t *testing.T, f func(t *testing.T)) {
	t.Helper()
	synctest.Test(t, f)
}

func TestPassStoresPlaceholderThenCertificate(t *testing.T) {
	bubble(t, func(t *testing.T) {
		w := newWorld(t, "a.example")
		var missing []string
		w.issuer.inside = func(_ context.Context, req cert.Request) (cert.Bundle, error) {
			if !w.lineage("a.example").Placeholder {
				missing = append(missing, "a.example")
			}
			return testCA.Issue(w.now(), w.issuer.life, "a.example"), nil
		}
		r := w.once(Ask{})
		if len(missing) > 0 {
			t.Error("no placeholder was there when the CA was asked")
		}
		l := w.lineage("a.example")
		if !l.Issued() || l.Number != 1 || !r.Certs[0].Obtained {
			t.Errorf("after the pass version %d, issued %v, result %+v", l.Number, l.Issued(), r.Certs[0])
		}
		if want := w.now().Add(60 * 24 * time.Hour); r.Certs[0].Next.Sub(want).Abs() > time.Minute {
			t.Errorf("next renewal at %v, want %v (a third of 90 days is left)", r.Certs[0].Next, want)
		}
		if len(w.reloader.looks) != 1 {
			t.Errorf("%d looks at the web containers, want 1", len(w.reloader.looks))
		}
		w.once(Ask{})
		if len(w.issuer.orders) != 1 {
			t.Errorf("%d orders after a second start, want 1", len(w.issuer.orders))
		}
	})
}

func TestOneFailingCertificateHoldsUpNoOther(t *testing.T) {
	bubble(t, func(t *testing.T) {
		w := newWorld(t, "a.example", "bad.example", "c.example", "panic.example")
		w.issuer.fail["bad.example"] = &cert.Error{Op: "authorization", Name: "bad.example", Err: errors.New("404"), Hint: "mount the webroot"}
		w.issuer.panics = map[string]bool{"panic.example": true}
		w.issuer.took = map[string]time.Duration{"bad.example": 10 * time.Minute}
		begin := time.Now()
		r := w.once(Ask{})
		for _, c := range r.Certs {
			good := c.Cert == "a.example" || c.Cert == "c.example"
			if c.Obtained != good {
				t.Errorf("%s: obtained %v, want %v", c.Cert, c.Obtained, good)
			}
		}
		// The good ones are served long before the bad one has failed.
		if waited := w.reloader.at[0].Sub(begin); waited > time.Minute || len(w.reloader.looks[0]) != 2 {
			t.Errorf("web containers were told of %v after %v", w.reloader.looks[0], waited)
		}
		for _, want := range []string{`msg="certificate not obtained" cert=bad.example`, `hint="mount the webroot"`, `msg="attempt panicked`} {
			if !strings.Contains(w.log.String(), want) {
				t.Errorf("the log lacks %s:\n%s", want, w.log)
			}
		}
	})
}

func TestOneLookServesAllThatChangedTogether(t *testing.T) {
	bubble(t, func(t *testing.T) {
		w := newWorld(t, "a.example", "b.example", "c.example", "d.example", "e.example", "f.example")
		w.issuer.took = map[string]time.Duration{"a.example": time.Second, "f.example": time.Second}
		w.once(Ask{})
		if len(w.reloader.looks) != 1 || len(w.reloader.looks[0]) != 6 {
			t.Errorf("looks %v, want one at all six", w.reloader.looks)
		}
	})
}

func TestRestartsInALoopMakeNoMoreOrdersThanOneThatStaysUp(t *testing.T) {
	bubble(t, func(t *testing.T) {
		w := newWorld(t, "a.example")
		w.issuer.fail["a.example"] = &cert.Error{Op: "authorization", Name: "a.example", Err: errors.New("connection refused")}
		for range 1000 {
			w.once(Ask{})
			time.Sleep(3 * time.Hour / 1000)
		}
		if n := len(w.issuer.orders); n < 3 || n > 4 {
			t.Errorf("%d orders in 3 h of restarts, want 3 or 4 (at 0, 1, 11 and 111 min)", n)
		}
	})
}

func TestKilledAttemptsCountAsFailures(t *testing.T) {
	bubble(t, func(t *testing.T) {
		w := newWorld(t, "a.example")
		type killed struct{}
		w.issuer.inside = func(context.Context, cert.Request) (cert.Bundle, error) { panic(killed{}) }
		for range 1000 {
			m := w.manager()
			// What a kill leaves on disk: an attempt that began.
			works, _ := m.survey(t.Context())
			if m.decide(works[0], false) {
				works[0].attempts.Begun = w.now()
				m.saveOrder(works[0], &cert.Order{Names: works[0].spec.Names})
			}
			time.Sleep(3 * time.Hour / 1000)
		}
		g, err := w.manager().Store.Guard()
		if n := len(g.Ordered["a.example"]); err != nil || n < 3 || n > 4 {
			t.Errorf("%d orders in 3 h of kills, want 3 or 4", n)
		}
	})
}

func TestInterruptedOrderIsResumedAtOnceAndCostsNothing(t *testing.T) {
	bubble(t, func(t *testing.T) {
		w := newWorld(t, "a.example")
		w.issuer.took = map[string]time.Duration{"a.example": time.Hour}
		_, stop := w.run()
		synctest.Wait()
		stop()
		a, err := w.manager().Store.Attempts("a.example")
		if err != nil || a.Failures != 0 || a.Order == nil || a.Order.URL == "" || !a.Begun.IsZero() {
			t.Fatalf("after SIGTERM the state is %+v, %v; want an order to resume and no failure", a, err)
		}
		w.issuer.took = nil
		w.once(Ask{})
		if req := w.issuer.requests[1]; req.Order == nil || req.Order.URL != "https://ca.example/order/1" {
			t.Errorf("the next start asked for a new order: %+v", req.Order)
		}
		if !w.lineage("a.example").Issued() || len(w.issuer.orders) != 1 {
			t.Errorf("%d orders, want the one resumed", len(w.issuer.orders))
		}
		if a, _ := w.manager().Store.Attempts("a.example"); a.Order != nil {
			t.Error("the finished order is still on disk")
		}
	})
}

func TestUnreachableCACostsNoAttemptAndIsAskedSoon(t *testing.T) {
	bubble(t, func(t *testing.T) {
		w := newWorld(t, "a.example", "b.example")
		for _, name := range []string{"a.example", "b.example"} {
			w.issuer.fail[name] = &cert.Error{Op: "directory", Kind: cert.KindUnreachable, Err: errors.New("connection refused")}
		}
		_, stop := w.run()
		time.Sleep(10 * time.Minute)
		w.issuer.mu.Lock()
		asked := len(w.issuer.requests)
		w.issuer.mu.Unlock()
		if asked < 10 || asked > 40 {
			t.Errorf("CA asked %d times in 10 min for two certificates, want about once a minute each", asked)
		}
		w.issuer.mu.Lock()
		clear(w.issuer.fail)
		w.issuer.mu.Unlock()
		time.Sleep(2 * time.Minute)
		stop()
		for _, name := range []string{"a.example", "b.example"} {
			if a, _ := w.manager().Store.Attempts(name); a.Failures != 0 || !w.lineage(name).Issued() {
				t.Errorf("%s: %d failures, issued %v; want 0 and issued within 2 min of the CA's return", name, a.Failures, w.lineage(name).Issued())
			}
		}
		if n := strings.Count(w.log.String(), "CA does not serve us now"); n != 1 {
			t.Errorf("the outage was logged %d times, want once", n)
		}
	})
}

func TestBusyCAHoldsBackAllItsCertificates(t *testing.T) {
	bubble(t, func(t *testing.T) {
		w := newWorld(t, "a.example", "b.example")
		w.issuer.fail["a.example"] = &cert.Error{Op: "order", Kind: cert.KindBusy, Err: errors.New("503"), NotBefore: w.now().Add(time.Hour)}
		w.issuer.fail["b.example"] = w.issuer.fail["a.example"]
		w.once(Ask{})
		before := len(w.issuer.requests)
		clear(w.issuer.fail)
		time.Sleep(30 * time.Minute)
		w.once(Ask{Names: []string{"a.example"}, Force: true})
		if got := len(w.issuer.requests); got != before {
			t.Error("Retry-After was passed over by hand")
		}
		time.Sleep(31 * time.Minute)
		w.once(Ask{})
		if !w.lineage("a.example").Issued() || !w.lineage("b.example").Issued() {
			t.Error("not obtained after Retry-After")
		}
	})
}

func TestNameByHandPassesOverBackoffNotOverRetryAfter(t *testing.T) {
	bubble(t, func(t *testing.T) {
		w := newWorld(t, "a.example", "b.example")
		w.issuer.fail["a.example"] = errors.New("no")
		w.issuer.fail["b.example"] = &cert.Error{Op: "order", Err: errors.New("429"), NotBefore: w.now().Add(24 * time.Hour)}
		w.once(Ask{})
		clear(w.issuer.fail)
		if r := w.once(Ask{Names: []string{"a.example", "typo.example"}}); len(r.Certs) != 1 || r.Certs[0].Err == nil || len(w.issuer.requests) != 2 {
			t.Errorf("with a name that nobody knows: %+v; want its error, and nothing done", r.Certs)
		}
		r := w.once(Ask{Names: []string{"a.example", "b.example"}})
		if !r.Certs[0].Obtained {
			t.Errorf("a.example, asked for by hand, was %+v", r.Certs[0])
		}
		if r.Certs[1].Obtained || !strings.Contains(r.Certs[1].Held, "the CA asked to wait") {
			t.Errorf("b.example was %+v, want held by the CA's Retry-After", r.Certs[1])
		}
	})
}

func TestGuardHoldsWhateverTheReason(t *testing.T) {
	bubble(t, func(t *testing.T) {
		w := newWorld(t, "a.example")
		w.issuer.life = time.Hour * 24 * 90
		for range 40 {
			// A fault that loses the store after each issue, but not the state.
			w.certDir = t.TempDir()
			w.once(Ask{})
			time.Sleep(time.Hour)
		}
		if n := len(w.issuer.orders); n != 4 {
			t.Errorf("%d certificates in 40 h, want 4 (Let's Encrypt allows 5 in 7 days)", n)
		}
		if !strings.Contains(w.log.String(), "order held by the guard") {
			t.Error("the log does not tell of the guard")
		}
		if r := w.once(Ask{Force: true}); !r.Certs[0].Obtained {
			t.Errorf("a person's --force was held: %+v", r.Certs[0])
		}
	})
}

func TestRenewalComesInTimeOverYears(t *testing.T) {
	bubble(t, func(t *testing.T) {
		w := newWorld(t, "a.example")
		w.issuer.life = 45 * 24 * time.Hour
		worst := w.issuer.life
		for range 2 * 365 {
			w.once(Ask{}) // a start each day: the schedule is on disk
			worst = min(worst, w.lineage("a.example").Leaf().NotAfter.Sub(w.now()))
			time.Sleep(24 * time.Hour)
		}
		if n := len(w.issuer.orders); n < 24 || n > 25 {
			t.Errorf("%d orders in two years of 45-day certificates, want one each 30 days", n)
		}
		if worst < 13*24*time.Hour {
			t.Errorf("a certificate came to %v before its expiry", worst)
		}
	})
}

func TestJumpOfTheWallClockIsNoticed(t *testing.T) {
	bubble(t, func(t *testing.T) {
		w := newWorld(t, "a.example")
		_, stop := w.run()
		time.Sleep(time.Minute)
		w.offset.Store(int64(61 * 24 * time.Hour))
		time.Sleep(time.Minute)
		if n := w.issuer.count(); n != 2 {
			t.Errorf("%d orders a minute after the clock jumped past the renewal, want 2", n)
		}
		w.offset.Store(int64(-20 * 365 * 24 * time.Hour))
		time.Sleep(2 * time.Hour)
		if n := w.issuer.count(); n != 2 {
			t.Errorf("%d orders by a clock that shows 2007, want none more", n)
		}
		stop()
	})
}

func TestLookIsRepeatedWhenSomethingIsPending(t *testing.T) {
	bubble(t, func(t *testing.T) {
		w := newWorld(t, "a.example")
		m, stop := w.run()
		time.Sleep(time.Second)
		w.reloader.mu.Lock()
		w.reloader.next = w.now().Add(20 * time.Second)
		w.reloader.mu.Unlock()
		m.Look(t.Context())
		time.Sleep(15 * time.Second)
		before := w.reloader.count()
		time.Sleep(10 * time.Second)
		if w.reloader.count() <= before {
			t.Error("the web containers were not looked at again when they wanted to")
		}
		stop()
	})
}

// TestWhoIsToBeToldIsLookedForBeforeThereIsACertificate has the very first order fail.
func TestWhoIsToBeToldIsLookedForBeforeThereIsACertificate(t *testing.T) {
	bubble(t, func(t *testing.T) {
		w := newWorld(t, "a.example")
		w.specs[0].Reload.Targets = []cert.Target{{Word: "webb"}}
		w.issuer.fail["a.example"] = errors.New("404")
		w.reloader.lookErr = errors.New("no engine")
		w.reloader.outcomes = []cert.Outcome{{Cert: "a.example", Container: "webb", Class: cert.Unseen, Missing: true, Changed: true, Err: errors.New("no such service"), Hint: "did you mean web?"}}
		m := w.manager()
		var news []cert.News
		m.Tell = func(n cert.News) { news = append(news, n) }
		m.Once(t.Context(), Ask{})
		for _, want := range []string{
			`level=WARN msg="web containers not reached, reloading is off" err="no engine"`,
			`level=WARN msg="web container that is to be told not found" cert=a.example container=webb action="" err="no such service" hint="did you mean web?"`,
		} {
			if n := strings.Count(w.log.String(), want); n != 1 {
				t.Errorf("%q stands %d times in the log, want once:\n%s", want, n, w.log)
			}
		}
		if len(news) != 1 || !slices.ContainsFunc(news[0].Conditions, func(c cert.Condition) bool { return c.Kind == cert.ConditionNoEngine }) {
			t.Errorf("news = %+v, want that there is no engine", news)
		}
		w.reloader.lookErr, w.reloader.outcomes = nil, nil
		if m.glance(t.Context(), w.now()); len(w.reloader.looks) != 2 {
			t.Errorf("%d looks after a glance, want 2", len(w.reloader.looks))
		}
	})
}

func TestStagingNeverReplacesProduction(t *testing.T) {
	bubble(t, func(t *testing.T) {
		w := newWorld(t, "a.example")
		w.once(Ask{})
		production := w.lineage("a.example").Fingerprint()
		w.specs[0].CA.Directory = cert.LetsEncryptStaging
		for range 100 {
			time.Sleep(24 * time.Hour)
			w.once(Ask{Force: true})
		}
		if w.lineage("a.example").Fingerprint() != production {
			t.Error("a staging certificate has replaced the production one")
		}
	})
}

func TestStagingIsReplacedAtOnceAfterTheSwitch(t *testing.T) {
	bubble(t, func(t *testing.T) {
		w := newWorld(t, "a.example")
		w.specs[0].CA.Directory = cert.LetsEncryptStaging
		w.once(Ask{})
		w.specs[0].CA.Directory = cert.LetsEncrypt
		if r := w.once(Ask{}); !r.Certs[0].Obtained || w.lineage("a.example").Conf.Server != cert.LetsEncrypt {
			t.Errorf("after the switch the certificate comes from %s", w.lineage("a.example").Conf.Server)
		}
	})
}

func TestPreflightHoldsOnlyWhenEnforced(t *testing.T) {
	for _, enforce := range []bool{false, true} {
		bubble(t, func(t *testing.T) {
			w := newWorld(t, "a.example")
			w.enforce = enforce
			w.issuer.preflight = &cert.Error{Op: "preflight", Name: "a.example", Err: errors.New("404"), Hint: "mount the webroot"}
			w.once(Ask{})
			if ordered := len(w.issuer.orders) > 0; ordered == enforce {
				t.Errorf("PREFLIGHT enforced %v: ordered %v", enforce, ordered)
			}
			if told := strings.Contains(w.log.String(), "mount the webroot"); told != enforce { // else the CA's refusal says it
				t.Errorf("PREFLIGHT enforced %v: the hint is in the log: %v\n%s", enforce, told, w.log)
			}
		})
	}
}

func TestChangedNamesReissueTheSameLineage(t *testing.T) {
	bubble(t, func(t *testing.T) {
		w := newWorld(t, "a.example")
		w.once(Ask{})
		w.specs[0].Names = []string{"a.example", "b.example"}
		w.once(Ask{})
		l := w.lineage("a.example")
		if l.Number != 2 || !cert.SameNames(l.Names(), w.specs[0].Names) {
			t.Errorf("after a name was added: version %d for %v", l.Number, l.Names())
		}
		slices.Reverse(w.specs[0].Names)
		w.once(Ask{})
		if w.lineage("a.example").Number != 2 {
			t.Error("another order of names was taken for other names")
		}
	})
}

func TestNothingIsOrderedWhenStorageFails(t *testing.T) {
	bubble(t, func(t *testing.T) {
		w := newWorld(t, "a.example")
		m := w.manager()
		m.Store = store.New(noSpace{}, noSpace{}, m.Store.Options)
		r := m.Once(t.Context(), Ask{})
		if len(w.issuer.requests) > 0 {
			t.Error("the CA was asked although nothing can be stored")
		}
		if r.Certs[0].Err == nil || r.Next.After(w.now().Add(2*time.Minute)) {
			t.Errorf("result %+v, next pass %v; want an error and another try soon", r.Certs[0], r.Next)
		}
	})
}
