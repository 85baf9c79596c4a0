package renewal

import (
	"context"
	"errors"
	"math/rand/v2"
	"sync"
	"time"

	"github.com/sidecert/sidecert/internal/cert"
)

const (
	// consultTime is for all questions of one pass together. Whoever is not asked in it is asked in the next.
	consultTime = 20 * time.Second
	// consultAgain is when a CA that gave no answer is asked again: not to be asked twice by two processes of which the first was
	// killed, it is on disk before the question.
	consultAgain = time.Hour
	// skewToTell is how far the clock of this machine may be from a CA's until a person hears of it.
	skewToTell = 10 * time.Minute
)

// consult asks the CAs when they want certificates renewed whose time for that has come, RFC 9773 §4.3. What they say is on disk
// afterwards. A CA that does not answer is asked no more in this pass.
func (m *Manager) consult(ctx context.Context, works []*work) {
	ctx, cancel := context.WithTimeout(ctx, consultTime)
	defer cancel()
	var (
		questions []*question
		silent    = &silence{of: map[string]bool{}}
		slots     = make(chan struct{}, 2*workers)
		all       sync.WaitGroup
	)
	for _, w := range works {
		if q := m.question(w); q != nil {
			questions = append(questions, q)
		}
	}
	for _, q := range questions {
		slots <- struct{}{}
		all.Go(func() {
			defer func() { <-slots }()
			if ctx.Err() != nil || silent.is(q.w.spec.CA) {
				return
			}
			q.err = m.guarded("question", q.w.name, func() error { return m.put(ctx, q) })
			if e, ok := errors.AsType[*cert.Error](q.err); ok && (e.Kind == cert.KindUnreachable || e.Kind == cert.KindBusy) {
				silent.note(q.w.spec.CA)
			}
		})
	}
	all.Wait()
	for _, q := range questions {
		if q.answered {
			m.tellAnswer(q)
		}
	}
}

// question is one to a CA, about one certificate.
type question struct {
	w        *work
	attempts cert.Attempts
	// answered says that the CA has said something, though it may be of no use.
	answered bool
	heard    cert.Heard
	err      error
}

// silence is which CAs gave no answer.
type silence struct {
	mu sync.Mutex
	of map[string]bool
}

func (s *silence) is(ca cert.CA) bool {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.of[ca.ID()]
}

func (s *silence) note(ca cert.CA) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.of[ca.ID()] = true
}

// question returns the one that is to be put about a certificate now, nil if none is. "Clients MUST NOT check a certificate's
// RenewalInfo after the certificate has expired", RFC 9773 §4.3.2.
func (m *Manager) question(w *work) *question {
	now, l := m.Now(), w.lineage
	if w.result.Err != nil || !l.Issued() || l.Conf.Server != w.spec.CA.Directory || !now.Before(l.Leaf().NotAfter) || now.Before(minSane) {
		return nil
	}
	a, err := m.loadAttempts(w.name, now)
	if err != nil {
		return nil // which is told where it is read to order
	}
	if s := a.Suggestion; s != nil && s.Of == l.Fingerprint() && now.Before(s.Next) {
		return nil
	}
	hold, err := m.Store.Hold(w.spec.CA)
	if err != nil || now.Before(hold.Next) || now.Before(hold.NotBefore) {
		return nil
	}
	return &question{w: w, attempts: a}
}

// put has the question on disk as asked, asks it, and has the answer on disk.
func (m *Manager) put(ctx context.Context, q *question) error {
	of := q.w.lineage.Fingerprint()
	earlier := q.attempts.Suggestion
	if earlier == nil || earlier.Of != of {
		earlier = &cert.Suggestion{Of: of}
	}
	asked := *earlier
	asked.Next = m.Now().Add(consultAgain).UTC()
	q.attempts.Suggestion = &asked
	if err := m.Store.SaveAttempts(q.w.name, q.attempts); err != nil {
		return err // what cannot be remembered is not asked, or it would be asked without end
	}
	heard, err := m.Issuer.Suggest(ctx, q.w.spec.CA, q.w.lineage.Leaf())
	e, _ := errors.AsType[*cert.Error](err)
	if ctx.Err() != nil || e != nil && (e.Kind == cert.KindUnreachable || e.Kind == cert.KindBusy) {
		m.Log.Debug("CA not asked when to renew", cert.AttrCert, q.w.name, cert.AttrErr, err)
		if e != nil && e.Kind == cert.KindBusy {
			asked.Next = later(asked.Next, heard.Next)
			err = errors.Join(err, m.Store.SaveAttempts(q.w.name, q.attempts))
		}
		return err // what it said before stands
	}
	heard.Choose(earlier, rand.Float64())
	q.answered, q.heard, q.attempts.Suggestion = true, heard, &heard.Suggestion
	return errors.Join(err, m.Store.SaveAttempts(q.w.name, q.attempts))
}

func (m *Manager) tellAnswer(q *question) {
	ca := q.w.spec.CA
	msg, text := "", ""
	if q.err != nil {
		msg = "CA's suggestion when to renew is of no use, the lifetime decides"
		text, _ = ErrorText(q.err)
	}
	m.warnOnce("suggestion "+ca.ID(), msg, cert.AttrCert, q.w.name, cert.AttrCA, ca.Directory, cert.AttrErr, text)
	if q.heard.Date.IsZero() {
		return
	}
	msg = ""
	off := m.Now().Sub(q.heard.Date).Round(time.Minute)
	switch {
	case off > skewToTell:
		msg = "clock of this machine is ahead of the CA's: certificates may be renewed early"
	case off < -skewToTell:
		msg = "clock of this machine is behind the CA's: certificates may be renewed late"
	}
	m.warnOnce("skew "+ca.ID(), msg, "off", off, cert.AttrCA, ca.Directory, cert.AttrHint, "set the clock of this machine and have it kept right (NTP)")
}
