package renewal

import (
	"context"
	"errors"
	"strings"
	"time"

	"github.com/sidecert/sidecert/internal/cert"
)

// report logs and journals what became of one certificate.
func (m *Manager) report(ctx context.Context, w *work) {
	err := w.result.Err
	if ctx.Err() == nil || w.result.Obtained {
		m.Tried(w.result)
	}
	if w.result.Obtained {
		m.warnOnce("ca "+w.spec.CA.ID(), "")
		m.warnOnce("clock of "+w.name, "")
		m.warnOnce("waits "+w.name, "")
		m.noteKept(w)
		leaf := w.lineage.Leaf()
		m.journal(cert.Event{Kind: cert.EventObtained, Cert: w.name, Names: w.lineage.Names(), Version: w.lineage.Number,
			NotAfter: leaf.NotAfter, CA: w.lineage.Conf.Server, Next: w.result.Next})
		return
	}
	if err == nil || ctx.Err() != nil {
		return
	}
	text, hint := ErrorText(err)
	e, _ := errors.AsType[*cert.Error](err)
	if e != nil && (e.Kind == cert.KindUnreachable || e.Kind == cert.KindBusy) {
		if m.warnOnce("ca "+w.spec.CA.ID(), "CA does not serve us now, trying again", cert.AttrCA, w.spec.CA.Directory, cert.AttrNext, w.result.Next, cert.AttrErr, text, cert.AttrHint, hint) {
			m.journal(cert.Event{Kind: cert.EventFailed, Cert: w.name, CA: w.spec.CA.Directory, Next: w.result.Next, Err: text, Hint: hint})
		}
		return
	}
	if e != nil && e.Kind == cert.KindClock {
		m.warnOnce("clock of "+w.name, "clock is wrong: nothing is ordered until it is right", cert.AttrCert, w.name, cert.AttrErr, text, cert.AttrHint, hint)
		return
	}
	if w.result.Held != "" || e != nil && e.Kind == cert.KindInterrupted { // another has interrupted it; it goes on in the next pass
		m.warnOnce("held "+w.name, "order held", cert.AttrCert, w.name, cert.AttrErr, text, cert.AttrHint, hint)
		return
	}
	m.warned["waits "+w.name] = "certificate waits after a failure" // which the line below says
	msg := "certificate not obtained"
	if w.lineage.Issued() {
		msg = "renewal failed"
	}
	args := []any{cert.AttrCert, w.name, cert.AttrAttempt, w.attempts.Failures}
	next := w.result.Next
	if w.result.Why == ByHand { // it is not due, and not tried again by itself
		next = time.Time{}
	} else {
		args = append(args, cert.AttrNext, next)
	}
	if w.lineage.Issued() {
		args = append(args, cert.AttrNotAfter, w.lineage.Leaf().NotAfter)
	}
	advice := hint
	if e != nil && (len(e.Failed) > 0 || e.Kind == cert.KindPerson) { // what a person can mend
		advice = m.withShortcut(hint, w)
	}
	args = append(args, cert.AttrErr, text, cert.AttrHint, advice)
	if e != nil && e.Kind == cert.KindPerson {
		m.Log.Error(msg, args...)
	} else {
		m.Log.Warn(msg, args...)
	}
	m.journal(cert.Event{Kind: cert.EventFailed, Cert: w.name, Names: w.spec.Names, CA: w.spec.CA.Directory,
		Attempt: w.attempts.Failures, Next: next, Err: text, Hint: hint})
}

// withShortcut adds to what is to be done after a failure that nobody need wait then, as far as that is true.
func (m *Manager) withShortcut(hint string, w *work) string {
	now := m.Now()
	waits, err := m.lockedWaits(w, false, now)
	waits.ByHand = true
	if at, _ := waits.Until(w.spec.Names, now); err != nil || at.After(now) || w.result.Why == ByHand {
		return hint
	}
	return strings.TrimPrefix(hint+"; once mended, `sidecert renew "+w.name+"` tries at once", "; ")
}

// reportLook logs and journals what has changed in the web containers.
func (m *Manager) reportLook(ctx context.Context, look cert.Look) {
	if ctx.Err() != nil {
		return // what was seen of a look that was broken off says nothing
	}
	m.Looked(look)
	if look.Err != nil {
		m.warnOnce("engine", "web containers not reached, reloading is off", cert.AttrErr, look.Err, cert.AttrHint, look.Hint)
	} else {
		m.warnOnce("engine", "")
	}
	for _, o := range look.Outcomes {
		if !o.Changed {
			continue
		}
		m.logOutcome(o)
		e := cert.Event{Kind: cert.EventServed, Cert: o.Cert, Version: o.Version, Container: o.Container, Action: o.Action, Class: o.Class, Hint: o.Hint}
		if o.Err != nil {
			e.Err = o.Err.Error()
		}
		m.journal(e)
	}
}

func (m *Manager) logOutcome(o cert.Outcome) {
	args := []any{cert.AttrCert, o.Cert}
	if o.Class != cert.Stale && !o.Missing { // the one serves another version, the other nothing
		args = append(args, cert.AttrVersion, o.Version)
	}
	args = append(args, cert.AttrContainer, o.Container, cert.AttrAction, o.Action)
	if o.Err != nil {
		args = append(args, cert.AttrErr, o.Err)
	}
	if o.Class == cert.Current {
		m.Log.Info("certificate served", args...)
		bare := ""
		if o.Bare {
			bare = "web server sends the certificate without those between it and the root"
		}
		m.warnOnce("bare "+o.Container+" "+o.Cert, bare, cert.AttrCert, o.Cert, cert.AttrContainer, o.Container, cert.AttrHint, "let it use fullchain.pem in place of cert.pem")
		m.warnOnce("attend "+o.Container, attend(o.Hint), cert.AttrContainer, o.Container, cert.AttrHint, o.Hint)
		return
	}
	args = append(args, cert.AttrHint, o.Hint)
	switch {
	case o.Missing:
		m.Log.Warn("web container that is to be told not found", args...)
	case o.Class == cert.Stale:
		m.Log.Warn("old certificate still served", args...)
	case o.Err != nil:
		m.Log.Warn("reload not verified", append(args, "served", o.Class)...)
	default:
		m.Log.Info("certificate not served here", append(args, "served", o.Class)...)
	}
}

// attend is the message for a container that serves as it should and could do so more safely.
func attend(hint string) string {
	if hint == "" {
		return ""
	}
	return "web container could be reloaded more safely"
}
