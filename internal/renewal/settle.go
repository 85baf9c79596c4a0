package renewal

import (
	"context"
	"time"

	"github.com/sidecert/sidecert/internal/cert"
)

// What an earlier process, or an earlier configuration, has left in the book of a certificate is settled before it is decided on.

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
