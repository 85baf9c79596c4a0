package renewal

import (
	"slices"
	"time"

	"github.com/sidecert/sidecert/internal/cert"
)

// The books are what several certificates share: the hold of each CA and the failures of each name. m.books is held while one of
// them is read and written.

// waits gathers what may hold a certificate back. The caller holds m.books.
func (m *Manager) waits(w *work, force bool, now time.Time) (Waits, error) {
	hold, err := m.loadHold(w.spec.CA, now)
	if err != nil {
		return Waits{}, err
	}
	failures, err := m.loadFailures(now)
	if err != nil {
		return Waits{}, err
	}
	guard, err := m.loadGuard(now)
	if err != nil {
		return Waits{}, err
	}
	return Waits{Attempts: w.attempts, Guard: guard, Hold: hold, Failures: failures, Lifetime: m.lifetime(w), CA: w.spec.CA, ByHand: w.byHand, Force: force}, nil
}

func (m *Manager) lockedWaits(w *work, force bool, now time.Time) (Waits, error) {
	m.books.Lock()
	defer m.books.Unlock()
	return m.waits(w, force, now)
}

func (m *Manager) loadHold(ca cert.CA, now time.Time) (cert.Hold, error) {
	h, err := m.Store.Hold(ca)
	if err != nil {
		return h, err
	}
	did := bringBack(&h.Next, now.Add(farthestHold))
	if bringBack(&h.NotBefore, now.Add(farthestNotBefore)) || did {
		err = m.Store.SaveHold(ca, h)
	}
	return h, err
}

// hold keeps every certificate of a CA waiting, and returns until when.
func (m *Manager) hold(ca cert.CA, e *cert.Error, now time.Time) time.Time {
	m.books.Lock()
	defer m.books.Unlock()
	h, _ := m.loadHold(ca, now) // what cannot be read is written anew
	h.NotBefore = later(h.NotBefore, e.NotBefore).UTC()
	if !now.Before(h.Next) { // else another certificate has met the same and counted it
		h.Tries++
		h.Next = now.Add(unreachable(h.Tries)).UTC()
	}
	h.Err = e.Error()
	if err := m.Store.SaveHold(ca, h); err != nil {
		m.Log.Warn("state not written", cert.AttrErr, err)
	}
	return later(h.Next, h.NotBefore)
}

// release is for a CA that has answered. What it has asked for stays.
func (m *Manager) release(ca cert.CA) {
	m.books.Lock()
	defer m.books.Unlock()
	h, err := m.Store.Hold(ca)
	if err != nil || h.Tries == 0 {
		return
	}
	if err := m.Store.SaveHold(ca, cert.Hold{NotBefore: h.NotBefore}); err != nil {
		m.Log.Warn("state not written", cert.AttrErr, err)
	}
}

func (m *Manager) loadGuard(now time.Time) (cert.Guard, error) {
	g, err := m.Store.Guard()
	if err != nil {
		return g, err
	}
	did := bringBackAll(g.Ordered, now)
	did = bringBackAll(g.Orders, now) || did
	if bringBackAll(g.Issued, now) || did {
		err = m.Store.SaveGuard(g)
	}
	return g, err
}

// countOrder has an order in the guard's book before the CA hears of it.
func (m *Manager) countOrder(names []string, ca cert.CA, now time.Time) error {
	m.books.Lock()
	defer m.books.Unlock()
	g, err := m.loadGuard(now)
	if err != nil {
		return err
	}
	g.Ordered = remember(g.Ordered, setOf(names), issueWindow, now.UTC())
	if cert.Public(ca.Directory) { // a CA of one's own has no limits that others set
		g.Orders = remember(g.Orders, ca.ID(), accountWindow, now.UTC())
	}
	return m.Store.SaveGuard(g)
}

func (m *Manager) countIssued(names []string, at time.Time) {
	m.books.Lock()
	defer m.books.Unlock()
	g, err := m.loadGuard(m.Now())
	if err == nil {
		g.Issued = remember(g.Issued, setOf(names), issueWindow, at.UTC())
		err = m.Store.SaveGuard(g)
	}
	if err != nil {
		m.Log.Warn("state not written", cert.AttrErr, err)
	}
}

// hasOrdered reports whether an order for the names was made in the last 7 days.
func (m *Manager) hasOrdered(names []string) bool {
	m.books.Lock()
	defer m.books.Unlock()
	g, err := m.loadGuard(m.Now())
	return err == nil && len(g.Ordered[setOf(names)]) > 0
}

// holdForPreflight keeps the names of a certificate waiting whose challenge path is not served, and returns when it is looked at again:
// at once where the stored names are to be renewed meanwhile.
func (m *Manager) holdForPreflight(w *work) time.Time {
	m.books.Lock()
	defer m.books.Unlock()
	now := m.Now()
	m.heldUntil[w.spec.Digest()] = now.Add(time.Minute)
	if w.again.IsZero() && m.hasFallback(w) {
		return now
	}
	return now.Add(time.Minute)
}

// preflightHeld is until when a certificate waits for its challenge path; a person does not.
func (m *Manager) preflightHeld(w *work) time.Time {
	m.books.Lock()
	defer m.books.Unlock()
	if w.byHand {
		return time.Time{}
	}
	until := m.heldUntil[w.spec.Digest()]
	if bringBack(&until, m.Now().Add(time.Minute)) {
		m.heldUntil[w.spec.Digest()] = until
	}
	return until
}

func (m *Manager) loadFailures(now time.Time) (map[string][]time.Time, error) {
	book, err := m.Store.Failures()
	if err == nil && bringBackAll(book, now) {
		err = m.Store.SaveFailures(book)
	}
	return book, err
}

func (m *Manager) countFailures(names []string, now time.Time) {
	if len(names) == 0 {
		return
	}
	m.books.Lock()
	defer m.books.Unlock()
	book, err := m.loadFailures(now)
	for _, name := range names {
		book = remember(book, name, failureWindow, now.UTC())
	}
	if err == nil {
		err = m.Store.SaveFailures(book)
	}
	if err != nil {
		m.Log.Warn("state not written", cert.AttrErr, err)
	}
}

// enter lets an attempt begin if nothing holds it back. Attempts under way count as failures of their names to come, so that those
// side by side do not exceed together what each may.
func (m *Manager) enter(w *work, now time.Time) (at time.Time, held string, err error) {
	m.books.Lock()
	defer m.books.Unlock()
	waits, err := m.waits(w, w.force, now)
	if err != nil {
		return at, "", err
	}
	for _, name := range w.spec.Names {
		for range m.underWay[name] {
			waits.Failures[name] = append(waits.Failures[name], now)
		}
	}
	set := setOf(w.spec.Names)
	for range m.underWay[underWaySet+set] { // and as orders and certificates of their set
		waits.Guard.Ordered, waits.Guard.Issued = remember(waits.Guard.Ordered, set, issueWindow, now), remember(waits.Guard.Issued, set, issueWindow, now)
	}
	id := w.spec.CA.ID()
	if cert.Public(w.spec.CA.Directory) { // and as orders of their account
		for range m.underWay[underWayCA+id] {
			waits.Guard.Orders = remember(waits.Guard.Orders, id, accountWindow, now)
		}
	}
	at, held = waits.Until(w.spec.Names, now)
	if at.After(now) {
		return at, held, nil
	}
	for _, name := range append(slices.Clone(w.spec.Names), underWaySet+set, underWayCA+id) {
		m.underWay[name]++
	}
	return now, "", nil
}

// underWaySet and underWayCA begin the keys of a whole set and of an account in underWay; no name begins so.
const (
	underWaySet = "set of "
	underWayCA  = "account at "
)

func (m *Manager) leave(w *work) {
	m.books.Lock()
	defer m.books.Unlock()
	for _, name := range append(slices.Clone(w.spec.Names), underWaySet+setOf(w.spec.Names), underWayCA+w.spec.CA.ID()) {
		if m.underWay[name]--; m.underWay[name] == 0 {
			delete(m.underWay, name)
		}
	}
}

// probed reports whether the challenge path of a spec was waited for by this process already, and remembers that it now is.
func (m *Manager) probed(s cert.Spec) bool {
	m.books.Lock()
	defer m.books.Unlock()
	was := m.waitedFor[s.Digest()]
	m.waitedFor[s.Digest()] = true
	return was
}
