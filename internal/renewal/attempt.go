package renewal

import (
	"context"
	"errors"
	"math/rand/v2"
	"slices"
	"time"

	"github.com/sidecert/sidecert/internal/cert"
)

var errKilled = errors.New("sidecert was killed in the middle of it")

// obtain waits until the challenge path is served where that was never seen, and then makes one attempt. The outcome is in w
// and, as far as later attempts need it, on disk.
func (m *Manager) obtain(ctx context.Context, w *work, slots chan struct{}, hooks *hooks) {
	served := false
	if err := m.guarded("preflight", w.name, func() error {
		served = m.challengeServed(ctx, w)
		return nil
	}); err != nil {
		w.result.Err = err
	}
	if !served {
		return
	}
	select {
	case slots <- struct{}{}:
		defer func() { <-slots }()
	case <-ctx.Done():
		w.result.Err = &cert.Error{Op: "attempt", Name: w.name, Kind: cert.KindInterrupted, Err: ctx.Err()}
		return
	}
	// Another certificate may have found the CA busy or away, or a name to fail, since this one was decided on.
	begun := m.Now()
	at, held, err := m.enter(w, begun)
	if err != nil || at.After(begun) {
		w.result.Next, w.result.Held, w.result.Err = at, held, err
		return
	}
	defer m.leave(w)
	if err := m.guarded("attempt", w.name, func() error { return m.attempt(ctx, w, hooks) }); err != nil {
		m.fail(w, err, m.Now())
		return
	}
	m.succeed(w, begun)
}

// challengeServed holds the very first order of a name until its challenge path is served, or until that was waited for long
// enough. It never holds a renewal.
func (m *Manager) challengeServed(ctx context.Context, w *work) bool {
	var first []string
	for _, name := range w.spec.Names {
		if !w.lineage.Issued() || !slices.Contains(w.lineage.Names(), name) {
			first = append(first, name)
		}
	}
	if len(first) == 0 || m.hasOrdered(w.spec.Names) {
		return true
	}
	if m.probed(w.spec) && !m.EnforcePreflight {
		return true // it was waited for once; a CA that is away is no reason to wait again
	}
	err := m.Issuer.Preflight(ctx, w.spec, first)
	switch {
	case ctx.Err() != nil:
		w.result.Err = &cert.Error{Op: "preflight", Name: w.name, Kind: cert.KindInterrupted, Err: ctx.Err()}
		return false
	case err == nil:
		return true
	case m.EnforcePreflight:
		w.result.Err, w.result.Held, w.result.Next = err, "the challenge path is not served", m.holdForPreflight(w)
		return false
	}
	text, _ := ErrorText(err) // what to do stands in the next line if the CA refuses it too
	m.Log.Warn("challenge path not served, ordering all the same", cert.AttrCert, w.name, cert.AttrErr, text)
	return true
}

// attempt makes or resumes one order and stores the certificate. That it began is on disk before the first request.
func (m *Manager) attempt(ctx context.Context, w *work, hooks *hooks) (err error) {
	w.attempts.Begun = m.Now()
	if err := m.Store.SaveAttempts(w.book, w.attempts); err != nil {
		return err
	}
	if err := hooks.ready(ctx, w); err != nil {
		return err
	}
	bundle, err := m.Issuer.Obtain(ctx, cert.Request{
		Spec: w.spec, Stored: w.lineage, Due: w.due, FreshKey: w.freshKey, Order: w.attempts.Order,
		Save: func(o *cert.Order) error { return m.saveOrder(w, o) },
	})
	if err != nil {
		return err
	}
	l, err := m.save(ctx, w, bundle)
	if err != nil {
		return err
	}
	w.lineage = l
	return nil
}

// save heeds what certbot has done meanwhile to a lineage of its own: what was ordered is then not what is wanted any more.
func (m *Manager) save(ctx context.Context, w *work, b cert.Bundle) (cert.Lineage, error) {
	if w.adopted {
		return m.Store.SaveOver(ctx, w.lineage, w.spec, b)
	}
	return m.Store.Save(ctx, w.name, w.spec, b)
}

// saveOrder puts an order on disk. One that the CA has not heard of yet counts for the guard from here on, whatever becomes of it.
func (m *Manager) saveOrder(w *work, o *cert.Order) error {
	w.attempts.Order = o
	if o != nil && o.URL == "" {
		if err := m.countOrder(w.spec.Names, w.spec.CA, m.Now()); err != nil {
			return err
		}
		m.Log.Info("certificate ordered", cert.AttrCert, w.name, cert.AttrNames, w.spec.Names, "why", w.result.Why)
	}
	return m.Store.SaveAttempts(w.book, w.attempts)
}

func (m *Manager) succeed(w *work, begun time.Time) {
	now := m.Now()
	m.issued(w, now)
	m.release(w.spec.CA)
	leaf := w.lineage.Leaf()
	w.result = CertResult{Cert: w.name, Why: w.result.Why, Obtained: true, Next: cert.DueAt(leaf, w.spec.RenewBefore)}
	if !w.again.IsZero() {
		w.result.Next = w.again
	}
	m.Log.Info("certificate obtained", cert.AttrCert, w.name, cert.AttrNotAfter, leaf.NotAfter, cert.AttrVersion, w.lineage.Number,
		cert.AttrNext, w.result.Next.UTC().Truncate(time.Second), cert.AttrElapsed, now.Sub(begun).Round(time.Millisecond))
}

// issued clears what was tried, for it has led to a certificate, and counts that.
func (m *Manager) issued(w *work, at time.Time) {
	before := w.attempts
	w.attempts = cert.Attempts{Doomed: before.Doomed, Revoked: before.Revoked, Hastened: before.Hastened}
	if w.hastened {
		w.attempts.Hastened = at.UTC()
	}
	m.countIssued(w.spec.Names, at)
	m.saveAttempts(w)
}

// saveAttempts is for what can be found out again: that it cannot be written is no reason to stop.
func (m *Manager) saveAttempts(w *work) {
	if err := m.Store.SaveAttempts(w.book, w.attempts); err != nil {
		m.Log.Warn("state not written", cert.AttrCert, w.name, cert.AttrErr, err)
	}
}

// fail puts a failure and the time of the next try on disk.
func (m *Manager) fail(w *work, err error, now time.Time) {
	a := &w.attempts
	a.Begun = time.Time{}
	w.result.Err = err
	e, _ := errors.AsType[*cert.Error](err)
	if e == nil {
		e = &cert.Error{}
	}
	switch e.Kind {
	case cert.KindInterrupted:
	case cert.KindClock:
		w.result.Next = now.Add(clockAgain)
	case cert.KindUnreachable, cert.KindBusy:
		w.result.Next = m.hold(w.spec.CA, e, now)
	default:
		a.Failures++
		a.FailedAt, a.NotBefore = now.UTC(), e.NotBefore
		a.Err, a.Hint = ErrorText(err)
		a.Tried = w.spec.Digest()
		a.Next = now.Add(jitter(backoff(a.Failures, e.Kind, m.lifetime(w)), rand.Float64())).UTC()
		w.soon = w.again.IsZero() && m.hasFallback(w)
		m.countFailures(e.Failed, now)
		w.result.Next = later(a.Next, a.NotBefore)
		if waits, err := m.lockedWaits(w, false, now); err == nil { // where the limits keep it longer
			waits.ByHand = false // a person has asked for this attempt, not for the next one
			w.result.Next, _ = waits.Until(w.spec.Names, now)
		}
	}
	m.saveAttempts(w)
}

// clockAgain is when it is looked again whether the clock has been put right.
const clockAgain = 10 * time.Minute

func later(a, b time.Time) time.Time {
	if b.After(a) {
		return b
	}
	return a
}
