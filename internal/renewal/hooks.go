package renewal

import (
	"context"
	"slices"
	"sync"
	"time"

	"github.com/sidecert/sidecert/internal/cert"
)

// hooks are those of one pass or rehearsal: Pre before its first attempt, Deploy after each certificate, Post after its last attempt and
// before the web containers are told of all that is new. Where nothing is attempted none runs.
type hooks struct {
	Hooks
	m         *Manager
	works     []*work // those that are due
	pre, post []string

	once  sync.Once
	begun bool
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
	hooks := l.Conf.Hooks
	if a := l.Conf.Authenticator; a != "" && a != "webroot" {
		hooks.Pre, hooks.Post = "", "" // they made way for certbot's own server: by webroot, the one that they stop must answer
	}
	return hooks
}

func appendNew(commands []string, command string) []string {
	if command == "" || slices.Contains(commands, command) {
		return commands
	}
	return append(commands, command)
}

// begin has Pre run, for whoever comes first; the others wait for it. What Pre may have stopped is not stopped twice: another pass or
// rehearsal waits until Post is over. It returns an error only when told to stop.
func (h *hooks) begin(ctx context.Context) (err error) {
	if h.Hooks == nil {
		return nil
	}
	h.once.Do(func() {
		select {
		case h.m.hooking <- struct{}{}:
			h.begun = true
			h.Pre(ctx, h.pre)
		case <-ctx.Done():
		}
	})
	return ctx.Err()
}

// end is called by each work when it is over; the last one has Post run.
func (h *hooks) end(ctx context.Context, w *work) {
	h.one.Lock()
	defer h.one.Unlock()
	if h.Hooks != nil && w.result.Obtained {
		_ = h.m.guarded("hook", w.name, func() error { // which tells of a panic
			l := w.lineage
			l.Conf.Hooks = h.m.hooksOf(l)
			h.Deploy(ctx, l)
			return nil
		})
	}
	if h.left--; h.left == 0 {
		_ = h.m.guarded("hook", "", func() error {
			h.after(ctx)
			return nil
		})
	}
}

// postTime is what Post has where we were told to stop: what Pre has stopped is to be started all the same.
const postTime = 4 * time.Second

func (h *hooks) after(ctx context.Context) {
	h.once.Do(func() {}) // too late to begin
	if !h.begun {
		return
	}
	defer func() { <-h.m.hooking }()
	var renewed, failed []string
	for _, w := range h.works {
		switch {
		case !w.attempted:
		case w.result.Err == nil:
			renewed = append(renewed, w.spec.Names...)
		default:
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

// ready sees that the CA answers, and then has Pre run: hooks that stop something are not to run at each of the many tries to reach a CA
// that is away.
func (h *hooks) ready(ctx context.Context, w *work) error {
	if h.Hooks == nil {
		return nil
	}
	if err := h.m.Issuer.Reach(ctx, w.spec.CA); err != nil {
		return err
	}
	if err := h.begin(ctx); err != nil {
		return &cert.Error{Op: "attempt", Name: w.name, Kind: cert.KindInterrupted, Err: err}
	}
	w.attempted = true
	return nil
}
