package renewal

import (
	"context"
	"errors"
	"slices"
	"sync"
	"time"

	"github.com/sidecert/sidecert/internal/cert"
)

// hooks are those of one pass: Pre before its first attempt, Deploy after each certificate, Post after its last attempt and before the
// web containers are told of all that is new.
type hooks struct {
	Hooks
	m         *Manager
	works     []*work // those that are due
	pre, post []string
	// one is held while a hook runs or work is counted off.
	one  sync.Mutex
	left int
}

func (m *Manager) hooksFor(wanted []*work) *hooks {
	h := &hooks{Hooks: m.Hooks, m: m, works: wanted, left: len(wanted)}
	for _, w := range wanted {
		conf := m.hooksOf(w.lineage)
		h.pre, h.post = appendNew(h.pre, conf.Pre), appendNew(h.post, conf.Post)
	}
	return h
}

// hooksOf are the commands in the conf of a lineage, if certbot made it and it is adopted.
func (m *Manager) hooksOf(l cert.Lineage) cert.Hooks {
	if !m.Adopt || !l.Conf.Certbot {
		return cert.Hooks{}
	}
	return l.Conf.Hooks
}

func appendNew(commands []string, command string) []string {
	if command == "" || slices.Contains(commands, command) {
		return commands
	}
	return append(commands, command)
}

func (h *hooks) begin(ctx context.Context) {
	if h.Hooks != nil && len(h.works) > 0 {
		h.Pre(ctx, h.pre)
	}
}

// end is called by each attempt when it is over; the last one has Post run.
func (h *hooks) end(ctx context.Context, w *work) {
	h.one.Lock()
	defer h.one.Unlock()
	if h.Hooks != nil && w.result.Obtained {
		l := w.lineage
		l.Conf.Hooks = h.m.hooksOf(l)
		h.Deploy(ctx, l)
	}
	if h.left--; h.left == 0 {
		h.after(ctx)
	}
}

// postTime is what Post has where we were told to stop: what Pre has stopped is to be started all the same.
const postTime = 4 * time.Second

func (h *hooks) after(ctx context.Context) {
	if h.Hooks == nil || len(h.works) == 0 {
		return
	}
	var renewed, failed []string
	for _, w := range h.works {
		if w.result.Err == nil && w.result.Held == "" {
			renewed = append(renewed, w.spec.Names...)
		} else {
			failed = append(failed, w.spec.Names...)
		}
	}
	if ctx.Err() != nil {
		last, cancel := context.WithTimeout(context.WithoutCancel(ctx), postTime)
		defer cancel()
		ctx = last
	}
	h.Post(ctx, h.post, renewed, failed)
}

// reach leaves out what comes from a CA that does not answer: hooks that stop something are not to run again at each of the many tries
// to reach it.
func (m *Manager) reach(ctx context.Context, wanted []*work) (reached []*work) {
	if m.Hooks == nil {
		return wanted
	}
	answers := map[string]error{}
	for _, w := range wanted {
		id := w.spec.CA.ID()
		if _, asked := answers[id]; !asked {
			answers[id] = m.Issuer.Reach(ctx, w.spec.CA)
		}
		e, _ := errors.AsType[*cert.Error](answers[id])
		if e == nil || e.Kind != cert.KindUnreachable && e.Kind != cert.KindBusy {
			reached = append(reached, w)
			continue
		}
		m.fail(w, answers[id], m.Now())
		m.report(ctx, w)
	}
	return reached
}
