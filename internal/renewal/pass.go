package renewal

import (
	"context"
	"errors"
	"fmt"
	"runtime/debug"
	"slices"
	"strings"
	"time"

	"github.com/sidecert/sidecert/internal/cert"
)

// Result is what became of every certificate in one pass.
type Result struct {
	Certs []CertResult
	// Next is when the next pass is due.
	Next time.Time
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
}

// gather is how long a new version waits for others before the web containers are told, so that one reload serves all that
// changed; a certificate that is slow to come holds up the others no longer than this.
const gather = 5 * time.Second

// minSane is a time that is past. A clock that is behind it is wrong, and nothing is ordered by it.
var minSane = time.Date(2026, 11, 1, 0, 0, 0, 0, time.UTC)

// pass brings everything up to date once: files first, so that web servers can start, then the CA, then the web containers.
func (m *Manager) pass(ctx context.Context, a Ask) Result {
	works, left := m.survey(ctx)
	m.beat(m.healthOf(works))
	m.consult(ctx, works)
	if bad := unknown(works, left, a); len(bad) > 0 { // a slip of the hand; the next pass is for all that is due
		return Result{Certs: bad, Next: m.Now().Add(time.Second)}
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
	if len(a.Names) > 0 { // a person hears of what he asked for
		r.Certs = slices.DeleteFunc(r.Certs, func(c CertResult) bool {
			return !slices.ContainsFunc(meant, func(w *work) bool { return w.name == c.Cert })
		})
	}
	return r
}

// tellUndecided warns of a certificate that is held because nobody knows what holds it back: what was tried cannot be read.
func (m *Manager) tellUndecided(w *work) {
	if w.result.Err == nil {
		m.warnOnce("decide "+w.name, "")
		return
	}
	text, hint := ErrorText(w.result.Err)
	m.warnOnce("decide "+w.name, "certificate held: what was tried for it cannot be read or written", cert.AttrCert, w.name, cert.AttrErr, text, cert.AttrHint, hint)
}

// pace leaves to later passes what an account's pace has no room for now: those that expire first go first. What is resumed is no
// further order.
func (m *Manager) pace(wanted []*work) []*work {
	if len(wanted) == 0 {
		return nil
	}
	m.books.Lock()
	defer m.books.Unlock()
	now := m.Now()
	g, err := m.loadGuard(now)
	if err != nil {
		return wanted // which is told where each of them enters
	}
	ordered, held := map[string]int{}, map[string]int{}
	wanted = slices.DeleteFunc(wanted, func(w *work) bool {
		id := w.spec.CA.ID()
		if w.force || !cert.Public(w.spec.CA.Directory) || w.attempts.Order != nil && w.attempts.Order.URL != "" {
			return false
		}
		ordered[id]++
		if ordered[id]+len(within(g.Orders[id], accountWindow, now)) <= accountOrders {
			return false
		}
		held[w.spec.CA.Directory]++
		w.result.Next = later(freeAt(g.Orders[id], accountOrders, accountWindow, now), now.Add(time.Minute))
		w.result.Held = fmt.Sprintf("%d orders are made at this CA in 3 hours, and others expire earlier", accountOrders)
		return true
	})
	for ca, n := range held {
		m.warnOnce("pace "+ca, "more certificates are due than one account may order: those that expire first come first", cert.AttrCA, ca, "waiting", n,
			cert.AttrHint, "this protects the CA's limit of orders for an account; the others follow within hours")
	}
	if len(held) == 0 {
		m.warnPaced(wanted)
	}
	return wanted
}

// warnPaced takes back the warning that certificates wait for others.
func (m *Manager) warnPaced(wanted []*work) {
	for _, w := range wanted {
		m.warnOnce("pace "+w.spec.CA.Directory, "")
	}
}

// expiry is when what is served expires: nothing, or a placeholder, has expired already.
func (w *work) expiry() time.Time {
	if !w.lineage.Issued() {
		return time.Time{}
	}
	return w.lineage.Leaf().NotAfter
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

// reason is why a certificate is to be ordered now; "" if it is not.
func (m *Manager) reason(w *work, now time.Time) cert.Why {
	if how, reason := w.attempts.Condemned(w.lineage.Fingerprint()); how != "" {
		w.condemned, w.freshKey = cert.Why(how), reason == cert.KeyCompromise
	}
	why := cert.Wanted(w.spec, w.lineage, w.suggestion(now), now)
	w.due, w.hastened = time.Time{}, false
	if why != "" && w.condemned == "" && cert.Differs(w.spec, w.lineage) == "" {
		w.due = m.due(w, now)
		w.hastened = now.Before(cert.DueAt(w.lineage.Leaf(), w.spec.RenewBefore))
	}
	switch {
	case w.condemned != "":
		return w.condemned
	case why == "" && w.force:
		return ByHand
	}
	return why
}

// due is when a stored certificate is to be renewed.
func (m *Manager) due(w *work, now time.Time) time.Time {
	return cert.Due(w.lineage.Leaf(), w.spec.RenewBefore, w.suggestion(now))
}

// barred says why a certificate is not ordered as long as the settings are what they are; "" if nothing is against it.
func (m *Manager) barred(w *work, now time.Time) string {
	if lost := wildcardsLost(w, now); lost != "" {
		m.warnOnce("barred "+w.name, "certificate with a wildcard name is not replaced by one without", cert.AttrCert, w.name, cert.AttrErr, lost,
			cert.AttrHint, "give the one of DOMAINS another name (site="+w.spec.Names[0]+"), or this one's explicitly ("+w.name+"="+w.spec.Names[0]+") if the wildcard may go")
		return lost
	}
	if from := w.lineage.Conf.Server; w.lineage.Issued() && from != "" && !cert.Staging(from) && cert.Staging(w.spec.CA.Directory) {
		m.warnOnce("barred "+w.name, "certificate of a production CA is not replaced by a staging one", cert.AttrCert, w.name,
			cert.AttrHint, "unset STAGING, or give the rehearsal another name (test=example.org in DOMAINS)")
		return "a staging CA never replaces a production certificate"
	}
	return ""
}

// ByHand is why a certificate is ordered that is not due.
const ByHand = "it was asked for by hand"

// decide reports whether a certificate is to be ordered now. Otherwise the result says why not, or that it is not due.
func (m *Manager) decide(w *work, force bool) bool {
	w.force = force
	now := m.Now()
	if now.Before(minSane) {
		m.warnOnce("clock", "clock is wrong: nothing is ordered until it is right", "now", now)
		w.result.Held, w.result.Next = "the clock is wrong", now.Add(time.Minute)
		return false
	}
	m.warnOnce("clock", "")
	if w.attempts, w.result.Err = m.loadAttempts(w.book, now); w.result.Err != nil {
		return false
	}
	m.settleStored(w)
	why := m.reason(w, now)
	w.result.Why = why
	m.dropUseless(w)
	m.settleKilled(w)
	m.forgive(w)
	if why == "" {
		m.warnOnce("clock of "+w.name, "")
		w.result.Next = m.due(w, now)
		return false
	}
	if barred := m.barred(w, now); barred != "" {
		w.result.Held, w.result.Next = barred, now.Add(longest)
		return false
	}
	waits, err := m.lockedWaits(w, force, now)
	if err != nil {
		w.result.Err = err
		return false
	}
	m.warnOfGuard(w, waits, now)
	at, held := waits.Until(w.spec.Names, now)
	if until := m.preflightHeld(w); until.After(at) {
		at, held = until, "the challenge path is not served"
	}
	if at.After(now) && m.fallBack(w, at) {
		return m.decide(w, false)
	}
	w.result.Next, w.result.Held = at, held
	if own := later(w.attempts.Next, w.attempts.NotBefore); own.After(now) && at.After(now) { // a hold of the CA and the guard are told elsewhere
		m.warnOnce("waits "+w.name, "certificate waits after a failure", cert.AttrCert, w.name, cert.AttrNext, at, cert.AttrErr, held,
			cert.AttrHint, "when the cause is gone, `sidecert renew "+w.name+"` tries at once, unless the CA asked to wait")
	}
	return !at.After(now)
}

// fallBack makes the work one for the stored names, where other names are wanted that do not come and the stored certificate is due: it
// is still renewed in time. It is tried by a schedule of its own. at is when the wanted names are tried again.
func (m *Manager) fallBack(w *work, at time.Time) bool {
	if !w.again.IsZero() || !m.hasFallback(w) {
		return false
	}
	stored := w.lineage.Names()
	m.warnOnce("fall back "+w.name, "certificate is due and the names that it is to have do not come: the names that it has are renewed", cert.AttrCert, w.name,
		cert.AttrNames, stored, "wanted", w.spec.Names, cert.AttrHint, "mend or take out what fails, see `sidecert doctor`")
	w.spec.Names, w.book, w.again = stored, w.name+storedBook, at
	return true
}

// hasFallback reports whether the stored names are to be renewed, and other names are wanted.
func (m *Manager) hasFallback(w *work) bool {
	if !w.lineage.Issued() || cert.SameNames(w.lineage.Names(), w.spec.Names) {
		return false
	}
	return w.condemned != "" || !m.Now().Before(cert.DueAt(w.lineage.Leaf(), w.spec.RenewBefore))
}

// storedBook marks the attempts for the stored names: it is in no lineage's name.
const storedBook = "~stored"

// wildcardsLost says which wildcard names a certificate of certbot's would lose, where a person has not named the lineage. An expired
// one has nothing to lose.
func wildcardsLost(w *work, now time.Time) string {
	if w.spec.Named || !w.lineage.Issued() || !now.Before(w.lineage.Leaf().NotAfter) {
		return ""
	}
	for _, name := range w.lineage.Names() {
		if strings.HasPrefix(name, "*.") {
			return "it would lose " + name + ", which HTTP-01 cannot prove"
		}
	}
	return ""
}

// loadAttempts reads what was tried, with times that can be.
func (m *Manager) loadAttempts(book string, now time.Time) (cert.Attempts, error) {
	a, err := m.Store.Attempts(book)
	if err != nil {
		return a, err
	}
	did := bringBack(&a.Next, now.Add(farthestNext))
	did = bringBack(&a.NotBefore, now.Add(farthestNotBefore)) || did
	did = bringBack(&a.Begun, now) || did
	did = bringBack(&a.Hastened, now) || did
	if a.Suggestion != nil {
		did = bringBack(&a.Suggestion.Next, now.Add(farthestQuestion)) || did
	}
	if did {
		err = m.Store.SaveAttempts(book, a)
	}
	return a, err
}

func (m *Manager) warnOfGuard(w *work, waits Waits, now time.Time) {
	free, why := waits.guard(w.spec.Names, now)
	switch {
	case !free.After(now):
		m.warnOnce("guard "+w.name, "")
		return
	case waits.Force:
		m.Log.Warn("guard passed over by force", cert.AttrCert, w.name, cert.AttrErr, why,
			cert.AttrHint, "Let's Encrypt gives 5 certificates for the same names in 7 days, and then none until one is 7 days old")
		return
	}
	m.warnOnce("guard "+w.name, "order held by the guard", cert.AttrCert, w.name, cert.AttrErr, why, cert.AttrNext, free,
		cert.AttrHint, "this protects the CA's weekly limit; find out why so many were made")
}

// settleStored ends an order whose certificate is stored although nobody came to say so.
func (m *Manager) settleStored(w *work) {
	a := &w.attempts
	if a.Order == nil || a.Order.Begun.IsZero() || !w.lineage.Issued() {
		return
	}
	key, err := cert.ParseKey(a.Order.Key)
	since := a.Order.Begun.Add(-2 * time.Hour) // CAs backdate by an hour
	if err != nil || !w.lineage.Leaf().NotBefore.After(since) || !cert.Fits(key, w.lineage.Leaf()) {
		return
	}
	if a.Order.Account == w.spec.CA.ID() { // else a person has changed the CA since, and the conf must not name that one
		m.recordConf(w)
	}
	m.issued(w, a.Order.Begun)
}

func (m *Manager) recordConf(w *work) {
	ctx, cancel := context.WithTimeout(context.Background(), confTime)
	defer cancel()
	l, err := m.Store.RecordConf(ctx, w.name, w.spec)
	if err != nil {
		text, hint := ErrorText(err)
		m.Log.Warn("settings of a stored certificate not written", cert.AttrCert, w.name, cert.AttrErr, text, cert.AttrHint, hint)
		return
	}
	w.lineage = l
}

// confTime is how long a certbot at work is waited for to write a conf.
const confTime = 5 * time.Second

// dropUseless drops an order that nobody wants any more. One of the last hour stays: a person may have asked for it who asks again, and
// the CA may have given its certificate.
func (m *Manager) dropUseless(w *work) {
	o := w.attempts.Order
	if w.result.Why == "" && o != nil && !o.Begun.IsZero() && m.Now().Sub(o.Begun).Abs() > orderWindow {
		w.attempts.Order = nil
		m.saveAttempts(w)
	}
}

// forgive drops our own backoff where a person has changed what is wanted since the failure: it was of something else. What the CA
// asked for, the failures by name and the guard stand.
func (m *Manager) forgive(w *work) {
	a := &w.attempts
	if a.Failures == 0 || a.Tried == "" || a.Tried == w.spec.Digest() {
		return
	}
	m.Log.Info("settings have changed since the last failure, trying at once", cert.AttrCert, w.name)
	a.Failures, a.Next, a.Err, a.Hint, a.Tried = 0, time.Time{}, "", "", ""
	m.saveAttempts(w)
}

// settleKilled counts an attempt that a killed process left behind as a failure, from when it began: a container that is killed
// in a loop makes no more orders than one that stays up.
func (m *Manager) settleKilled(w *work) {
	a := &w.attempts
	if a.Begun.IsZero() {
		return
	}
	m.fail(w, &cert.Error{Op: "attempt", Name: w.name, Err: errKilled}, a.Begun)
	m.Log.Warn("attempt was interrupted by a kill", cert.AttrCert, w.name, cert.AttrNext, w.result.Next)
	w.result.Err = nil
}

func (m *Manager) lifetime(w *work) time.Duration {
	if w.lineage.Issued() {
		return cert.Lifetime(w.lineage.Leaf())
	}
	return 0 // not known
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
		if w.lineage.Issued() {
			kept[w] = cert.Kept{Spec: w.spec, Lineage: w.lineage}
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
				kept[w] = cert.Kept{Spec: w.spec, Lineage: w.lineage}
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
		if w.result.Unserved != "" {
			sooner(now.Add(time.Minute)) // whoever mends a web server by hand is noticed soon
		}
		sooner(w.result.Next)
		if w.soon {
			sooner(now)
		}
		r.Certs = append(r.Certs, w.result)
	}
	sooner(look.Next)
	// Whatever says "now" again and again must not become a hot loop.
	if floor := now.Add(100 * time.Millisecond); r.Next.Before(floor) {
		r.Next = floor
	}
	return r
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
