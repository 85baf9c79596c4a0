package reload

import (
	"context"
	"errors"
	"slices"
	"strings"
	"time"

	"github.com/sidecert/sidecert/internal/cert"
	"github.com/sidecert/sidecert/internal/docker"
)

const (
	// remembered is how long a container is that the engine does not know any more: its project may be down for a while.
	remembered = 30 * 24 * time.Hour
	// sortEvery is how often it is asked who is gone.
	sortEvery = 24 * time.Hour
)

// sortOut forgets the containers that are gone for long: replicas that are no more, and what was given another name. An engine that does
// not answer, or does not let us ask, says nothing about anybody.
func (l *look) sortOut(ctx context.Context) {
	now := l.r.now()
	if age := now.Sub(l.r.sorted); l.r.engine == nil || l.result.Err != nil || age >= 0 && age < sortEvery {
		return
	}
	l.r.sorted = now
	all, err := l.memory.Targets()
	if err != nil {
		return // whoever lists them tells
	}
	for name, state := range all {
		seen := func(t *task) bool { return t.Name == name && t.ID != "" }
		if strings.Contains(name, ":") || slices.ContainsFunc(l.tasks, seen) { // with a port it is an endpoint, which no engine knows
			continue
		}
		err := l.noteGone(ctx, name, state)
		if errors.Is(err, docker.ErrUnavailable) || ctx.Err() != nil {
			return
		}
		if err != nil {
			l.r.log.Debug("container that is gone not forgotten", cert.AttrContainer, name, cert.AttrErr, err)
		}
	}
}

// noteGone asks the engine for one container.
func (l *look) noteGone(ctx context.Context, name string, state cert.TargetState) error {
	c, err := l.r.engine.Inspect(ctx, name)
	gone := errors.Is(err, docker.ErrNotFound) || err == nil && c.Name != name // the engine takes the beginning of an ID too
	since := state.GoneSince
	now := l.r.now()
	switch {
	case err != nil && !gone:
		return err
	case !gone:
		state.GoneSince = time.Time{}
	case since.IsZero(), since.After(now):
		state.GoneSince = now
	case now.Sub(since) >= remembered:
		return l.memory.ForgetTarget(name)
	}
	if state.GoneSince.Equal(since) {
		return nil
	}
	return l.memory.SetTarget(name, state)
}
