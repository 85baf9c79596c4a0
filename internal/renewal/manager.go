// Package renewal keeps every lineage fresh. It compares what is wanted with what is stored, and what is stored with what is
// served, and does what is missing; whatever a crash interrupts, the next pass repairs. How a certificate is obtained and how a
// web server is told are others' work.
package renewal

import (
	"context"
	"crypto/x509"
	"errors"
	"log/slog"
	"runtime"
	"slices"
	"sync"
	"sync/atomic"
	"time"

	"github.com/sidecert/sidecert/internal/cert"
	"github.com/sidecert/sidecert/internal/store"
)

// Issuer obtains certificates from a CA.
type Issuer interface {
	// Preflight waits until the challenge path of the names is served, and says why if it is not.
	Preflight(ctx context.Context, spec cert.Spec, names []string) error
	// Obtain ends by itself in bounded time, whatever the CA does.
	Obtain(ctx context.Context, req cert.Request) (cert.Bundle, error)
	// Reach sees that the CA answers, and registers the account if there is none yet.
	Reach(ctx context.Context, ca cert.CA) error
	// Suggest asks the CA when it wants a certificate renewed.
	Suggest(ctx context.Context, ca cert.CA, leaf *x509.Certificate) (cert.Heard, error)
	// Rehearse makes a whole order at the spec's CA and leaves nothing behind, there or here.
	Rehearse(ctx context.Context, spec cert.Spec) error
	// Revoke takes a certificate that is revoked already for done.
	Revoke(ctx context.Context, r cert.Revocation) error
}

// Reloader makes web servers use what is stored.
type Reloader interface {
	Look(ctx context.Context, kept []cert.Kept) cert.Look
	// Show looks as Look does, and tells nobody anything.
	Show(ctx context.Context, kept []cert.Kept) cert.Look
}

// Hooks runs the commands that a person wants around renewals. That one of them fails is told by it and changes nothing here.
type Hooks interface {
	// Pre and Post get the commands of the confs of all lineages that are due; Post the names that were renewed and those that were not.
	Pre(ctx context.Context, commands []string)
	Deploy(ctx context.Context, l cert.Lineage)
	Post(ctx context.Context, commands, renewed, failed []string)
}

// Config is what a Manager works with.
type Config struct {
	cert.Wishes
	Store    *store.Store
	Issuer   Issuer
	Reloader Reloader
	Hooks    Hooks
	// Discover asks which containers bear labels of ours; nil where nobody is heard. An error means that it is not known.
	Discover func(ctx context.Context) ([]cert.Labelled, error)
	// EnforcePreflight holds an order whose challenge path is not served, in place of a warning.
	EnforcePreflight bool
	// Beat is called when a pass has put files in the place of every certificate, and while the loop is alive.
	Beat func(Health)
	// Tell gets what each look has found that a person should hear of. It must not wait for anything; nil where nobody is told.
	Tell func(cert.News)
	// ExpiryWarning is how long before its expiry a certificate that nobody renews is told of; 0 is never.
	ExpiryWarning time.Duration
	// Tried hears what became of each attempt, Looked of each look at the web containers, Passed of each pass: for whoever counts them. Each may
	// be nil, and must not block.
	Tried  func(CertResult)
	Looked func(cert.Look)
	Passed func(Result)
	Now    func() time.Time
	Log    *slog.Logger
}

// Health is what the manager says of itself.
type Health struct {
	// Missing are the certificates that have no files to serve, not even a placeholder.
	Missing []string
	// Ready is false until the first pass has looked at every certificate.
	Ready bool
}

// Manager keeps the certificates of one configuration.
type Manager struct {
	Config
	asks chan ask
	// beats carries Health from the pass under way to the loop, which owns the last one.
	beats chan Health
	// stirred tells the pass under way that the loop was woken meanwhile.
	stirred chan struct{}
	// warned are the messages that stand, owned by the pass: each is logged when it begins, not at every pass.
	warned map[string]string
	// books is held while what several certificates share is read and written, see books.go; underWay are the attempts by name.
	books    sync.Mutex
	underWay map[string]int
	// alive is when the pass or deed under way last came further, in nanoseconds since the manager was born, by the monotonic clock.
	alive atomic.Int64
	born  time.Time
	// panics are those that were logged.
	panics sync.Map
	// hooking is held from Pre to Post.
	hooking chan struct{}
	// stopped is closed when Run has ended: nobody is answered any more.
	stopped chan struct{}
	// heldUntil are the specs whose challenge path is not served, by digest.
	heldUntil map[string]time.Time
	// waitedFor are the specs whose challenge path was waited for.
	waitedFor map[string]bool
	// kept are the certificates of the last pass, for the glances until the next one; of one that has not come yet the lineage has its
	// name only.
	kept []cert.Kept
	// unheard is why the labels of containers are not known now; nil if they are.
	unheard error
	// troubles are the conditions of the last pass, and unknown what it could not see, for the glances likewise; unkept are the
	// certificates that are stored and not kept.
	troubles []cert.Condition
	unknown  []cert.ConditionKind
	unkept   []cert.Lineage
}

// New makes a manager; Run starts it.
func New(c Config) *Manager {
	if c.Beat == nil {
		c.Beat = func(Health) {}
	}
	if c.Tried == nil {
		c.Tried = func(CertResult) {}
	}
	if c.Looked == nil {
		c.Looked = func(cert.Look) {}
	}
	if c.Passed == nil {
		c.Passed = func(Result) {}
	}
	return &Manager{Config: c, born: time.Now(), asks: make(chan ask), beats: make(chan Health, 1), stirred: make(chan struct{}, 1), warned: map[string]string{}, underWay: map[string]int{}, waitedFor: map[string]bool{}, heldUntil: map[string]time.Time{},
		hooking: make(chan struct{}, 1), stopped: make(chan struct{})}
}

// Ask is what a person wants of one pass.
type Ask struct {
	// Names are the certificates asked for by hand; our own backoff does not hold them back. Empty means all that are due.
	Names []string
	// Force orders them whether they are due or not, and passes over the guard.
	Force bool
	// exact takes Names for lineages' own; otherwise each is also one of a certificate's names.
	exact bool
}

type ask struct {
	Ask
	by   context.Context       // whoever asks; one who has gone is not served any more
	do   func(context.Context) // done in place of a pass
	done chan Result           // nil: nobody waits, and one pass serves all of those
	// begun is closed when do begins; nil of a pass.
	begun chan struct{}
	// glance is when the next pass is due where this is none, but a look at the web containers alone.
	glance time.Time
}

const (
	// tick is how often the loop shows that it is alive and compares the wall clock with what is due. Timers stop while a host
	// sleeps and a wall clock jumps, so neither is trusted for longer.
	tick = 10 * time.Second
	// longest is the most that passes between two passes.
	longest = time.Hour
	// glance is the most that passes between two looks at the web containers. What became stale just after it was dialled is to be
	// reported within a minute, although a look in which somebody is told in vain takes 10 s, and the one before may have too.
	glance = 30 * time.Second
	// stuck is how long nothing may come further: above the longest that any one step takes, an attempt with its 15 minutes.
	stuck = time.Hour
	// workers is how many certificates are worked on side by side.
	workers = 4
)

// Look makes a running manager look at everything now.
func (m *Manager) Look(ctx context.Context) {
	select {
	case m.asks <- ask{}:
	case <-ctx.Done():
	}
}

// Renew makes a running manager do a pass with a person's wishes, and returns its result.
func (m *Manager) Renew(ctx context.Context, a Ask) (Result, error) {
	return m.ask(ctx, ask{Ask: a})
}

// Between has a running manager do something while no pass is under way, and then a pass, which takes up what it changed. What has
// begun is waited for, also when the manager is told to stop; do gets a context that ends then. After an error do was not called.
func (m *Manager) Between(ctx context.Context, do func(context.Context)) error {
	begun := make(chan struct{})
	_, err := m.ask(ctx, ask{do: func(ctx context.Context) {
		close(begun)
		do(ctx)
	}, begun: begun})
	return err
}

var errStopping = errors.New("sidecert is stopping")

func (m *Manager) ask(ctx context.Context, a ask) (Result, error) {
	done := make(chan Result, 1)
	a.done, a.by = done, ctx
	select {
	case m.asks <- a:
	case <-ctx.Done():
		return Result{}, ctx.Err()
	case <-m.stopped:
		return Result{}, errStopping
	}
	select {
	case r := <-done:
		return r, nil
	case <-m.stopped:
	case <-ctx.Done():
	}
	select { // what has begun is heard of, unless it is a pass, which goes on by itself
	case r := <-done:
		return r, nil
	case <-a.begun:
		return <-done, nil
	default:
	}
	if ctx.Err() != nil {
		return Result{}, ctx.Err()
	}
	return Result{}, errStopping
}

// Once does a single pass, for a command that runs without a daemon.
func (m *Manager) Once(ctx context.Context, a Ask) Result {
	return m.pass(ctx, a)
}

// ErrStuck is how Run ends when something does not come to its end and would hold up all that comes after it for ever.
var ErrStuck = errors.New("nothing came further for an hour")

// Run does passes until ctx ends, and then waits for the one under way. It ends by ErrStuck too: what is stored and remembered is as
// after a kill, so that another start takes it up.
func (m *Manager) Run(ctx context.Context) error {
	var (
		ticker  = time.NewTicker(tick)
		wake    = time.NewTimer(0)
		running chan Result // nil: no pass under way
		serves  ask         // whom the pass under way is for
		waiting = []ask{{}} // whom the next ones are for
		next    = m.Now()   // when the next one is due
		look    = next      // when the web containers are looked at again
		health  Health
	)
	defer ticker.Stop()
	defer close(m.stopped)
	for {
		bringBack(&next, m.Now().Add(longest)) // a clock that was ahead has set it
		bringBack(&look, m.Now().Add(glance))
		waiting = slices.DeleteFunc(waiting, func(a ask) bool { return a.by != nil && a.by.Err() != nil })
		if running == nil && len(waiting) == 0 && !m.Now().Before(next) {
			waiting = append(waiting, ask{})
		}
		if running == nil && len(waiting) == 0 && !m.Now().Before(look) {
			waiting = append(waiting, ask{glance: next})
		}
		if running == nil && len(waiting) > 0 {
			serves, waiting = waiting[0], waiting[1:]
			running = make(chan Result, 1)
			m.step()
			go func(done chan<- Result, a ask) { done <- m.answer(ctx, a) }(running, serves)
		}
		if running == nil {
			wake.Reset(min(next.Sub(m.Now()), look.Sub(m.Now())))
		}
		select {
		case <-ctx.Done():
			if running != nil {
				serves.tell(<-running)
			}
			return ctx.Err()
		case r := <-running:
			running, next, look = nil, r.Next, r.look
			serves.tell(r)
		case a := <-m.asks:
			if a.done == nil && running != nil {
				select {
				case m.stirred <- struct{}{}:
				default: // it is told already
				}
			}
			if a.done != nil || !slices.ContainsFunc(waiting, func(w ask) bool { return w.done == nil }) {
				waiting = append(waiting, a)
			}
		case health = <-m.beats:
			m.Beat(health)
		case <-ticker.C:
			if running != nil && m.stands() {
				m.tellStuck()
				return ErrStuck
			}
			m.Beat(health)
		case <-wake.C:
		}
	}
}

func (a ask) tell(r Result) {
	if a.done != nil {
		a.done <- r
	}
}

func (m *Manager) answer(ctx context.Context, a ask) Result {
	switch {
	case a.do != nil:
		a.do(ctx)
		return Result{Next: m.Now(), look: m.Now().Add(glance)}
	case !a.glance.IsZero():
		return m.glance(ctx, a.glance)
	}
	return m.pass(ctx, a.Ask)
}

// beat tells the loop, if there is one, what the pass has found.
func (m *Manager) beat(h Health) {
	select {
	case <-m.beats: // an older one that nobody has taken
	default:
	}
	m.beats <- h
}

// step notes that the pass or deed under way comes further.
func (m *Manager) step() { m.alive.Store(int64(time.Since(m.born))) }

// stands reports whether nothing has come further for too long.
func (m *Manager) stands() bool { return time.Since(m.born)-time.Duration(m.alive.Load()) > stuck }

// tellStuck logs where everything stands, for whoever mends it.
func (m *Manager) tellStuck() {
	stacks := make([]byte, 64<<10)
	stacks = stacks[:runtime.Stack(stacks, true)]
	m.Log.Error("sidecert is stuck and ends, to be started anew", cert.AttrErr, ErrStuck, cert.AttrHint, "this is a fault of sidecert: please report it with the log", "stack", string(stacks))
}

// warnOnce logs a standing condition when it begins or changes, and reports that it did; with an empty message it is over.
func (m *Manager) warnOnce(key, msg string, args ...any) bool {
	if m.warned[key] == msg {
		return false
	}
	m.warned[key] = msg
	if msg == "" {
		return false
	}
	m.Log.Warn(msg, args...)
	return true
}

// journal appends an event; the journal is for people, so that it cannot be written is no reason to stop.
func (m *Manager) journal(e cert.Event) {
	e.Time = m.Now().UTC()
	if err := m.Store.Append(e); err != nil {
		m.warnOnce("journal", "journal not written", cert.AttrErr, err)
	}
}

// ErrorText is an error in words, and the hint that goes with it.
func ErrorText(err error) (text, hint string) {
	if e, ok := errors.AsType[*cert.Error](err); ok {
		hint = e.Hint
	}
	return err.Error(), hint
}
