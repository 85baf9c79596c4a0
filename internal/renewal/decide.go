package renewal

import (
	"strings"
	"time"

	"github.com/sidecert/sidecert/internal/cert"
)

// reason is why a certificate is to be ordered now; "" if it is not.
func (m *Manager) reason(w *work, now time.Time) cert.Why {
	if how, reason := w.attempts.Condemned(w.lineage.Fingerprint()); how != "" {
		w.condemned, w.freshKey = cert.Why(how), reason == cert.KeyCompromise
	}
	why := cert.Wanted(w.spec, w.lineage, w.attempts.Heeded(w.lineage, now), now)
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
	return cert.Due(w.lineage.Leaf(), w.spec.RenewBefore, w.attempts.Heeded(w.lineage, now))
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
	if at.After(now) && m.fallBack(w, at, held) {
		return m.decide(w, false)
	}
	w.result.Next, w.result.Held = at, held
	own := later(w.attempts.Next, w.attempts.NotBefore)
	failed, _ := waits.failed(w.spec.Names, now)
	own = later(own, failed)
	guarded, _ := waits.guard(w.spec.Names, now)
	if own.After(now) && at.After(now) && !at.Equal(guarded) { // a hold of the CA and the guard are told elsewhere
		m.warnOnce("waits "+w.name, "certificate waits after a failure", cert.AttrCert, w.name, cert.AttrNext, at, cert.AttrErr, held,
			cert.AttrHint, m.withShortcut(w.attempts.Hint, w))
	}
	return !at.After(now)
}

// fallBack makes the work one for the stored names, where other names are wanted that do not come and the stored certificate is due: it
// is still renewed in time. It is tried by a schedule of its own. at is when the wanted names are tried again, and
// held what keeps them waiting.
func (m *Manager) fallBack(w *work, at time.Time, held string) bool {
	if !w.again.IsZero() || !m.hasFallback(w) {
		return false
	}
	stored := w.lineage.Names()
	m.warnOnce("fall back "+w.name, "certificate is due and the names that it is to have do not come: the names that it has are renewed", cert.AttrCert, w.name,
		cert.AttrNames, stored, "wanted", w.spec.Names, cert.AttrHint, "mend or take out what fails, see `sidecert doctor`")
	w.lacking.Names, w.lacking.Err, w.lacking.Hint = w.spec.Names, w.attempts.Err, w.attempts.Hint
	if w.lacking.Err == "" {
		w.lacking.Err = held
	}
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
		cert.AttrHint, "this protects the limits of the CA; find out why so many were made")
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
