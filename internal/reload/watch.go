package reload

import (
	"cmp"
	"context"
	"errors"
	"slices"
	"sync"
	"time"

	"github.com/sidecert/sidecert/internal/cert"
	"github.com/sidecert/sidecert/internal/docker"
)

// awaited are the events after which a container may serve something else, or ask for something, and the stop by hand, which is no
// death by a signal of ours.
var awaited = []string{"start", "unpause", "rename", "destroy", eventStop}

const eventStop = "stop"

const (
	// gather is how long events are gathered before somebody is called: a project that comes up starts many containers.
	gather = 500 * time.Millisecond
	// The waits for an engine that tells no events double from the first to the second.
	reopenSoon, reopenLate = time.Second, time.Minute
	// steady is how long a stream must last to have been a good one.
	steady = time.Minute
)

// Watch calls changed whenever something has befallen a container that is, or may be, a target or bears labels of ours, and when the
// engine is back after it was away. It goes by the engine's events, opened again where they broke off, until ctx ends. What it misses is
// found by the next look all the same. Where events are forbidden it ends by docker.ErrForbidden.
func (r *Reloader) Watch(ctx context.Context, changed func()) error {
	if r.engine == nil {
		<-ctx.Done()
		return ctx.Err()
	}
	bell := make(chan struct{}, 1)
	ring := func() {
		select {
		case bell <- struct{}{}:
		default:
		}
	}
	ctx, cancel := context.WithCancel(ctx)
	var caller sync.WaitGroup
	defer caller.Wait()
	defer cancel()
	caller.Go(func() {
		for {
			select {
			case <-ctx.Done():
				return
			case <-bell:
			}
			select {
			case <-ctx.Done():
				return
			case <-time.After(gather):
			}
			select { // what came meanwhile is looked at too
			case <-bell:
			default:
			}
			changed()
		}
	})
	var last time.Time // of the event heard last, or when we began to listen, by the engine's clock as far as we know it
	for wait, first := reopenSoon, true; ; {
		opened := time.Time{}
		err := r.engine.Events(ctx, last, awaited, func() {
			opened = time.Now()
			if !first {
				ring() // an engine that was started anew has forgotten what it has not told
			}
			first = false
		}, func(e docker.Event) {
			last = e.At
			r.noteStop(e)
			if e.Action != eventStop && r.concerns(e) {
				ring()
			}
		})
		if ctx.Err() != nil {
			return ctx.Err()
		}
		r.log.Debug("events of the engine broke off", cert.AttrErr, err)
		switch {
		case errors.Is(err, docker.ErrForbidden):
			return err // as long as a person does not change the socket proxy's rules
		case !opened.IsZero() && time.Since(opened) > steady:
			wait = reopenSoon
		}
		first = false
		select {
		case <-ctx.Done():
			return ctx.Err()
		case <-time.After(wait):
		}
		wait = min(2*wait, reopenLate)
	}
}

// maxStops bounds what is remembered of other people's stops.
const maxStops = 1000

func (r *Reloader) noteStop(e docker.Event) {
	r.mu.Lock()
	defer r.mu.Unlock()
	if e.Action != eventStop {
		return
	}
	if len(r.stops) >= maxStops {
		clear(r.stops)
	}
	r.stops[e.ID] = e.At
}

// stoppedByHand reports whether somebody has told the engine to stop a container, or to restart it, since a time, as far as events are
// heard.
func (r *Reloader) stoppedByHand(id string, since time.Time) bool {
	r.mu.Lock()
	defer r.mu.Unlock()
	return r.stops[id].After(since)
}

// concerns reports whether an event may be about a target, or about labels that are heard.
func (r *Reloader) concerns(e docker.Event) bool {
	r.mu.Lock()
	defer r.mu.Unlock()
	own := r.own != "" && e.Project == r.own
	if own || e.Labels != nil && r.hears == DiscoverAll {
		return true
	}
	return slices.ContainsFunc(r.targets, func(t cert.Target) bool {
		switch {
		case t.Label != "":
			return r.hears == DiscoverAll
		case t.Project != "":
			return t.Project == e.Project && t.Word == e.Service
		}
		return t.Word == e.Name || r.own == "" && t.Word == e.Service
	})
}

// know remembers our own project, for Watch.
func (r *Reloader) know(own string) {
	r.mu.Lock()
	defer r.mu.Unlock()
	r.own = cmp.Or(own, r.own)
}

// attend remembers whom a look was about, for Watch.
func (r *Reloader) attend(kept []cert.Kept) {
	var targets []cert.Target
	for _, k := range kept {
		for _, t := range k.Spec.Reload.Targets {
			if !slices.ContainsFunc(targets, func(o cert.Target) bool { return o.String() == t.String() }) {
				targets = append(targets, t)
			}
		}
	}
	r.mu.Lock()
	defer r.mu.Unlock()
	r.targets = targets
}
