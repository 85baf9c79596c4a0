package renewal

import (
	"context"
	"errors"
	"fmt"
	"runtime/debug"
	"slices"
	"time"

	"github.com/sidecert/sidecert/internal/cert"
)

// Result is what became of every certificate in one pass.
type Result struct {
	Certs []CertResult
	// Next is when the next pass is due.
	Next time.Time
	// look is when the web containers are looked at again before that.
	look time.Time
}

// CertResult is what became of one certificate.
type CertResult struct {
	Cert string
	// CA is where a rehearsal was made; "" for all else.
	CA string
	// Obtained says that a new version was stored.
	Obtained bool
	// Why the certificate was or is to be ordered; "" if it is not due.
	Why cert.Why
	// Held says why it was not ordered although it is wanted.
	Held string
	// Next is when it is looked at for renewal again.
	Next time.Time
	Err  error
	// Unserved says why no web container was seen to serve it, "" if one was or none is to.
	Unserved, UnservedHint string
}

// work is one certificate in one pass. The goroutine that obtains it owns it while it does.
type work struct {
	spec    cert.Spec
	name    string
	lineage cert.Lineage
	// adopted says that certbot made it and nobody has configured it.
	adopted bool
	// book is what the attempts are kept under: the lineage's name, but see fallBack.
	book     string
	attempts cert.Attempts
	byHand   bool
	freshKey bool
	// due is when the stored version is to be renewed, where nothing but the time calls for it; hastened says that it would not be due
	// yet but for the CA.
	due      time.Time
	hastened bool
	// condemned says that what is live was revoked or is to be; "" if not.
	condemned cert.Why
	// attempted says that the CA was or will be asked in this pass, and hooks run for it.
	attempted bool
	// force passes over the guard; soon says that the next pass is due at once, for the stored names.
	force, soon bool
	// again is when the wish itself is tried again after a fallBack; zero without.
	again  time.Time
	result CertResult
	// lacking is the wish that a fallBack has put off: its names, and why they do not come.
	lacking struct {
		Names     []string
		Err, Hint string
	}
	// paced says that it only waits for its turn.
	paced bool
}

// looked reports whether the web containers are looked at for a certificate: it is stored, or somebody will be told of it who may not be
// there.
func (w *work) looked() bool { return w.lineage.Issued() || w.spec.Told() }

// kept is the certificate as a look sees it. A placeholder is nothing that anybody is told of.
func (w *work) kept() cert.Kept {
	if !w.lineage.Issued() {
		return cert.Kept{Spec: w.spec, Lineage: cert.Lineage{Name: w.name}}
	}
	return cert.Kept{Spec: w.spec, Lineage: w.lineage}
}

// gather is how long a new version waits for others before the web containers are told, so that one reload serves all that
// changed; a certificate that is slow to come holds up the others no longer than this.
const gather = 5 * time.Second

// minSane is a time that is past. A clock that is behind it is wrong, and nothing is ordered by it.
var minSane = time.Date(2026, 11, 1, 0, 0, 0, 0, time.UTC)

// pass brings everything up to date once: files first, so that web servers can start, then the CA, then the web containers.
func (m *Manager) pass(ctx context.Context, a Ask) Result {
	m.discover(ctx)
	works, left := m.survey(ctx)
	m.beat(m.healthOf(works))
	m.consult(ctx, works)
	if bad := unknown(works, left, a); len(bad) > 0 { // a slip of the hand; the next pass is for all that is due
		return Result{Certs: bad, Next: m.Now().Add(time.Second), look: m.Now().Add(glance)}
	}
	var wanted []*work
	meant := meantBy(works, a)
	for _, w := range works {
		w.byHand = slices.Contains(meant, w)
		force := a.Force && (w.byHand || len(a.Names) == 0)
		if w.result.Err == nil {
			w.result.Err = m.guarded("decision", w.name, func() error {
				if m.decide(w, force) {
					wanted = append(wanted, w)
				}
				return w.result.Err
			})
			m.tellUndecided(w)
		}
	}
	slices.SortStableFunc(wanted, func(a, b *work) int { return a.expiry().Compare(b.expiry()) })
	wanted = m.pace(wanted)
	if len(wanted) > 0 {
		if err := m.Store.Try(); err != nil {
			wanted = m.holdAll(wanted, err)
		} else {
			m.warnOnce("storage", "")
		}
	}
	look := m.carryOut(ctx, works, wanted)
	r := m.conclude(works, look)
	m.kept = nil
	for _, w := range works {
		if w.looked() {
			m.kept = append(m.kept, w.kept())
		}
	}
	if ctx.Err() == nil {
		m.Passed(r)
	}
	if m.Tell != nil && ctx.Err() == nil {
		m.Tell(m.news(ctx, works, left, look))
	}
	if len(a.Names) > 0 { // a person hears of what he asked for
		r.Certs = slices.DeleteFunc(r.Certs, func(c CertResult) bool {
			return !slices.ContainsFunc(meant, func(w *work) bool { return w.name == c.Cert })
		})
	}
	return r
}

// guarded runs what is done for one certificate. A panic in it is an error of that certificate alone.
func (m *Manager) guarded(op, name string, do func() error) (err error) {
	defer m.step()
	defer func() {
		if p := recover(); p != nil {
			if _, told := m.panics.LoadOrStore(fmt.Sprint(op, name, p), true); !told {
				m.Log.Error(op+" panicked: please report this", cert.AttrCert, name, cert.AttrErr, fmt.Sprint(p), "stack", string(debug.Stack()))
			}
			err = &cert.Error{Op: op, Name: name, Err: fmt.Errorf("panic: %v", p), Hint: "this is a fault of sidecert: please report it with the log"}
		}
	}()
	return do()
}

// called reports whether a person means this certificate by a name.
func (w *work) called(name string) bool {
	return name == w.name || name == w.spec.Name || slices.Contains(w.spec.Names, name)
}

// meantBy are the certificates that a person names: each by its lineage, or where none is called so, by one of its names.
func meantBy(works []*work, a Ask) (meant []*work) {
	for _, name := range a.Names {
		i := slices.IndexFunc(works, func(w *work) bool { return w.name == name })
		for n, w := range works {
			if n == i || i < 0 && !a.exact && w.called(name) {
				meant = append(meant, w)
			}
		}
	}
	return meant
}

// unknown are the results for what a person asked for and nobody configured, or what is left to certbot.
func unknown(works []*work, left map[string]string, a Ask) []CertResult {
	var results []CertResult
	for _, name := range a.Names {
		if why := left[name]; why != "" {
			results = append(results, CertResult{Cert: name, Err: &cert.Error{Op: "renew", Name: name, Err: errors.New("it is left to certbot: " + why)}})
		} else if !slices.ContainsFunc(works, func(w *work) bool { return w.called(name) }) {
			results = append(results, CertResult{Cert: name, Err: &cert.Error{Op: "renew", Name: name,
				Err: errors.New("it is not configured"), Hint: "`sidecert certificates` lists what is; DOMAINS says what is kept"}})
		}
	}
	return results
}

func (m *Manager) holdAll(wanted []*work, err error) []*work {
	text, hint := ErrorText(err)
	m.warnOnce("storage", "nothing is ordered: storage failed", cert.AttrErr, text, cert.AttrHint, hint)
	for _, w := range wanted {
		w.result.Held, w.result.Next, w.result.Err = "storage failed", m.Now().Add(time.Minute), err
	}
	return nil
}

// carryOut obtains what is wanted, side by side, and compares what is stored with what is served: at once for what was stored
// before, and again for what is new. It returns the last look.
func (m *Manager) carryOut(ctx context.Context, works, wanted []*work) cert.Look {
	var (
		finished = make(chan *work)
		looked   = make(chan cert.Look, 1)
		slots    = make(chan struct{}, workers)
		last     cert.Look
		looking  bool
		dirty    bool
		gathered = true // what is stored already waits for nobody
		timer    = time.NewTimer(gather)
	)
	defer timer.Stop()
	kept := map[*work]cert.Kept{}
	for _, w := range works {
		if w.looked() {
			kept[w] = w.kept()
		}
	}
	dirty = len(kept) > 0
	hooks := m.hooksFor(wanted)
	for _, w := range wanted {
		go func() {
			m.obtain(ctx, w, slots, hooks)
			hooks.end(ctx, w)
			finished <- w
		}()
	}
	for under := len(wanted); under > 0 || looking || dirty; {
		if dirty && !looking && (gathered || under == 0) {
			dirty, looking = false, true
			go func(now []cert.Kept) { looked <- m.look(ctx, now) }(inOrder(works, kept))
		}
		select {
		case w := <-finished:
			under--
			m.report(ctx, w)
			if w.result.Obtained {
				kept[w] = w.kept()
				if !dirty {
					dirty, gathered = true, false
					timer.Reset(gather)
				}
			}
		case last = <-looked:
			looking = false
			m.reportLook(ctx, last)
		case <-timer.C:
			gathered = true
		case <-m.stirred:
			m.prepare(ctx, works)
		}
	}
	return last
}

// look is the Reloader's. Whatever goes wrong in it is no reason not to renew.
func (m *Manager) look(ctx context.Context, kept []cert.Kept) (l cert.Look) {
	err := m.guarded("look", "", func() error {
		l = m.Reloader.Look(ctx, kept)
		return nil
	})
	if err != nil {
		return cert.Look{Err: err}
	}
	return l
}

func inOrder(works []*work, kept map[*work]cert.Kept) []cert.Kept {
	var list []cert.Kept
	for _, w := range works {
		if k, ok := kept[w]; ok {
			list = append(list, k)
		}
	}
	return list
}

// conclude gathers the results and says when the next pass is due.
func (m *Manager) conclude(works []*work, look cert.Look) Result {
	now := m.Now()
	r := Result{Next: now.Add(longest)}
	sooner := func(t time.Time) {
		if !t.IsZero() && t.Before(r.Next) {
			r.Next = t
		}
	}
	for _, w := range works {
		if w.result.Err != nil && w.result.Next.IsZero() {
			w.result.Next = now.Add(time.Minute)
		}
		if w.lineage.Issued() && w.spec.ToBeServed() {
			w.result.Unserved, w.result.UnservedHint = unserved(w.name, look)
		}
		sooner(w.result.Next)
		if w.soon {
			sooner(now)
		}
		r.Certs = append(r.Certs, w.result)
	}
	r.look = nextLook(now, look)
	// Whatever says "now" again and again must not become a hot loop.
	if floor := now.Add(100 * time.Millisecond); r.Next.Before(floor) {
		r.Next = floor
	}
	return r
}

// nextLook is when the web containers are looked at again: after a glance's time, or sooner if something is pending.
func nextLook(now time.Time, l cert.Look) time.Time {
	next := now.Add(glance)
	if !l.Next.IsZero() && l.Next.Before(next) {
		next = l.Next
	}
	if floor := now.Add(100 * time.Millisecond); next.Before(floor) {
		next = floor
	}
	return next
}

// glance looks at the web containers alone, by what the last pass has read. What containers ask for now is worth a whole pass.
func (m *Manager) glance(ctx context.Context, next time.Time) Result {
	if m.discover(ctx) {
		return m.pass(ctx, Ask{})
	}
	if len(m.kept) == 0 {
		m.tellGlimpse(ctx, cert.Look{})
		return Result{Next: next, look: m.Now().Add(glance)}
	}
	l := m.look(ctx, m.kept)
	m.reportLook(ctx, l)
	m.tellGlimpse(ctx, l)
	return Result{Next: next, look: nextLook(m.Now(), l)}
}

// unserved says why a certificate was seen served by nobody in a look, or not by all: "" if it was, or if nobody was to be seen.
func unserved(name string, look cert.Look) (why, hint string) {
	for _, o := range look.Outcomes {
		if o.Cert == name && o.Class == cert.Stale {
			return "an older one is served by " + o.Container, o.Hint
		}
	}
	if look.Err != nil {
		why, hint = look.Err.Error(), look.Hint
	}
	for _, o := range look.Outcomes {
		switch {
		case o.Cert != name:
		case o.Class == cert.Current:
			return "", ""
		case o.Err != nil:
			why, hint = o.Container+": "+o.Err.Error(), o.Hint
		case why == "":
			why, hint = o.Container+" does not serve it", o.Hint
		}
	}
	return why, hint
}
