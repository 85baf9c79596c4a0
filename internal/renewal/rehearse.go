package renewal

import (
	"context"
	"errors"
	"sync"

	"github.com/sidecert/sidecert/internal/cert"
)

// Rehearse makes a whole order for each certificate, or for those named, at a CA where that costs nothing, and keeps nothing of it. The
// hooks before and after a pass run as they would; no web container is told anything. It may be called beside a running manager.
func (m *Manager) Rehearse(ctx context.Context, names []string) Result {
	works, left, lineages := m.plan()
	if bad := unknown(works, left, Ask{Names: names}); len(bad) > 0 {
		return Result{Certs: bad}
	}
	meant := works
	if len(names) > 0 {
		meant = meantBy(works, Ask{Names: names})
	}
	for _, w := range meant {
		for _, l := range lineages {
			if l.Name == w.name {
				w.lineage = l
			}
		}
	}
	hooks := m.hooksFor(meant)
	if err := hooks.begin(ctx); err != nil {
		return Result{}
	}
	defer hooks.after(ctx)
	slots := make(chan struct{}, workers)
	var all sync.WaitGroup
	for _, w := range meant {
		slots <- struct{}{}
		all.Go(func() {
			defer func() { <-slots }()
			m.rehearse(ctx, w)
		})
	}
	all.Wait()
	var r Result
	for _, w := range meant {
		r.Certs = append(r.Certs, w.result)
	}
	return r
}

// rehearse heeds what the rehearsal's CA has asked for, as an attempt would.
func (m *Manager) rehearse(ctx context.Context, w *work) {
	real := w.spec.CA.ID()
	w.spec.CA = w.spec.CA.Rehearsal()
	w.result.CA = w.spec.CA.Directory
	now := m.Now()
	m.books.Lock()
	hold, err := m.loadHold(w.spec.CA, now)
	m.books.Unlock()
	if err != nil {
		w.result.Err = err
		return
	}
	if until := later(hold.Next, hold.NotBefore); until.After(now) {
		w.result.Held, w.result.Next = "the CA asked to wait or did not answer: "+hold.Err, until
		return
	}
	w.attempted = true
	w.result.Err = m.Issuer.Rehearse(ctx, w.spec)
	e, _ := errors.AsType[*cert.Error](w.result.Err)
	switch {
	case e == nil:
	case e.Kind == cert.KindUnreachable || e.Kind == cert.KindBusy:
		w.result.Next = m.hold(w.spec.CA, e, m.Now())
	case w.spec.CA.ID() == real:
		m.countFailures(e.Failed, m.Now())
	}
}
