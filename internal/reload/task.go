package reload

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"time"

	"github.com/sidecert/sidecert/internal/cert"
	"github.com/sidecert/sidecert/internal/docker"
)

// task is one container with all the certificates that it is a target of, during one look.
type task struct {
	*look
	found
	action, fallback cert.Action
	views            []*view

	state cert.TargetState
	// forgot is why the state could not be read or written. Then nothing is told that only the state keeps from being told
	// again and again.
	forgot error
	// stopped says that the container does not run, or has gone.
	stopped bool
	// unsafe says that the state has learned of an unsafe action.
	unsafe bool
}

// view is one certificate in one container.
type view struct {
	kept cert.Kept
	was  cert.Served // as the last look left it
	sight
	// spared says that this container has nothing to do with the certificate.
	spared bool
	// told says that the container was told in this look, done how, err and hint what came of it; restarted that it has started
	// since, and so has read what is stored.
	told, restarted bool
	at, next        time.Time
	done            string
	err             error
	hint            string
}

// begin looks at what the container serves.
func (t *task) begin(ctx context.Context) {
	t.state, t.forgot = t.memory.Target(t.Name)
	for _, v := range t.views {
		v.was = t.state.Certs[v.kept.Lineage.Name]
		v.next = v.was.Next
		if v.was.Stored != v.kept.Lineage.Fingerprint() {
			v.next = time.Time{} // the backoff was another version's
		}
		if farthest := t.r.now().Add(backoff[len(backoff)-1]); v.next.After(farthest) {
			v.next = time.Time{} // from a clock that was ahead
		}
	}
	if t.State.Status != "" && !t.State.Running() {
		t.stop()
		return
	}
	t.dial(ctx, t.views)
}

// stop makes everything unseen.
func (t *task) stop() {
	t.stopped = true
	for _, v := range t.views {
		v.sight = sight{class: cert.Unseen}
	}
}

// mend starts a container that ended at our signal while we were not there to see it: the engine takes a signal for a stop by
// hand, so that nobody else starts it.
func (t *task) mend(ctx context.Context) {
	if !t.stopped {
		return
	}
	for _, v := range t.views {
		if t.r.stoppedByHand(t.ID, v.was.At) {
			continue
		}
		ended := t.State.FinishedAt.Sub(v.was.At)
		signalled := v.was.At.After(t.State.StartedAt) && ended >= 0 && ended <= t.r.pace.settle
		action := t.signal(v.was.Action)
		if t.State.Status != "exited" || !signalled || action.Kind == cert.ActionNone {
			continue
		}
		v.err = t.rescue(ctx, t.State, action)
		return
	}
}

// signal is the planned action of that name if it is a signal.
func (t *task) signal(name string) cert.Action {
	for _, a := range plan(t.found, t.action, nil) {
		if a.Kind == cert.ActionSignal && a.String() == name {
			return a
		}
	}
	return cert.Action{}
}

// dial looks at what is served for some of the certificates.
func (t *task) dial(ctx context.Context, views []*view) {
	each(parallel, views, func(v *view) {
		verify := v.kept.Spec.Verify
		switch {
		case verify.Off:
			v.sight = sight{class: cert.Unseen}
		case len(verify.Endpoints) > 0:
			v.sight = t.r.see(ctx, v.kept, endpoints(verify), t.kept)
		default:
			v.sight = t.r.see(ctx, v.kept, places(t.self, t.found, httpsPort), t.kept)
		}
	})
}

// tell tells the container of everything that it should be told of, by one action, and waits for what comes of it.
func (t *task) tell(ctx context.Context) {
	views := t.due()
	if len(views) == 0 || ctx.Err() != nil {
		return
	}
	actions := plan(t.found, t.action, t.state.Unsafe)
	t.intend(views, actions[0])
	if views = t.due(); len(views) == 0 { // nothing could be written down
		return
	}
	t.act(ctx, views, actions)
	stale := only(views, cert.Stale)
	if len(stale) == 0 || t.fallback.Kind == cert.ActionNone || t.stopped || stale[0].err != nil || ctx.Err() != nil {
		return
	}
	t.act(ctx, stale, plan(t.found, t.fallback, t.state.Unsafe))
}

// due are the certificates that the container is to be told of now.
func (t *task) due() []*view {
	if t.stopped {
		return nil
	}
	now := t.r.now()
	var due []*view
	for _, v := range t.views {
		fp := v.kept.Lineage.Fingerprint()
		switch {
		case !v.kept.Lineage.Issued(): // a placeholder is read at the web server's own start
		case v.class == cert.Current, v.spared, now.Before(v.next):
		case v.class == cert.Stale && t.forgot != nil && now.Sub(t.r.lastTold(t.Name)) < backoff[len(backoff)-1]: // only memory keeps it from a loop
		case v.class == cert.Stale:
			due = append(due, v)
		case v.was.Told == fp, t.young(now), t.forgot != nil:
		default:
			due = append(due, v)
		}
	}
	return due
}

// young says that the container may not listen yet; httpd -k graceful would start a second httpd then.
func (t *task) young(now time.Time) bool {
	age := now.Sub(t.State.StartedAt)
	return !t.State.StartedAt.IsZero() && age < t.r.pace.calm && age > -t.r.pace.calm
}

// intend writes down what is about to be done, so that a container that ends of it is known for that even if we end first.
func (t *task) intend(views []*view, a cert.Action) {
	now := t.r.now()
	state := t.state
	state.Certs = map[string]cert.Served{}
	for name, s := range t.state.Certs {
		state.Certs[name] = s
	}
	for _, v := range views {
		s := v.was
		s.At, s.Action = now, a.String()
		state.Certs[v.kept.Lineage.Name] = s
	}
	if err := t.memory.SetTarget(t.Name, state); err != nil {
		t.forgot = err
	}
}

// act does an action and looks until everything is current, the container has ended, or time is up.
func (t *task) act(ctx context.Context, views []*view, actions []cert.Action) {
	at := t.r.now()
	t.r.noteTold(t.Name, at)
	d := t.r.do(ctx, t.found, actions)
	if ctx.Err() != nil {
		return // not told for certain: the next look finds out
	}
	for _, v := range views {
		v.told, v.at, v.err, v.hint = true, at, d.err, d.hint
		if v.done != "" {
			v.done += ", "
		}
		v.done += d.Action.String()
	}
	switch {
	case errors.Is(d.err, docker.ErrNotFound) && t.ID == "": // its name was a person's, and may be a service's
	case errors.Is(d.err, docker.ErrNotFound), errors.Is(d.err, docker.ErrNotRunning):
		t.stop()
		for _, v := range views {
			v.told, v.done, v.err = false, "", nil
		}
	case d.err == nil:
		t.settle(ctx, views, d.Action)
	}
}

// settle waits for what comes of an action. A container that itself shows the new certificate has survived the action, so
// that the good ones are not held up.
func (t *task) settle(ctx context.Context, views []*view, a cert.Action) {
	started, err := t.started(ctx, a)
	if err != nil {
		return
	}
	up := time.NewTimer(t.r.pace.settle)
	defer up.Stop()
	late := max(0, t.r.pace.boot-t.r.pace.settle)
	for wait := t.r.pace.poll; ; wait = min(wait*3/2, time.Second) {
		select {
		case <-ctx.Done():
			return
		case <-up.C:
			if late > 0 && t.boots(views, a) {
				up.Reset(late)
				late = 0
				continue
			}
			t.endOfWatch(ctx, views, a)
			return
		case <-time.After(wait):
		}
		if ended, now := t.ended(ctx, started); ended {
			t.over(ctx, views, a, now)
			return
		}
		t.dial(ctx, views)
		if len(only(views, cert.Current)) == len(views) && (t.blind || seenInside(views)) {
			return
		}
	}
}

// boots reports whether a restarted container is on its way still.
func (t *task) boots(views []*view, a cert.Action) bool {
	if a.Kind != cert.ActionRestart || t.blind {
		return false
	}
	return t.State.Health == "starting" || t.State.Health == "" && len(only(views, cert.Unseen)) == len(views)
}

// started is since when the container runs, which a restart has changed.
func (t *task) started(ctx context.Context, a cert.Action) (time.Time, error) {
	if a.Kind != cert.ActionRestart || t.blind {
		return t.State.StartedAt, nil
	}
	c, err := t.r.engine.Inspect(ctx, t.ref())
	if err != nil {
		return time.Time{}, err
	}
	t.refresh(c)
	return c.State.StartedAt, nil
}

// refresh takes over what a restart changes: it may have got other addresses. One in another's network has that one's.
func (t *task) refresh(c docker.Container) {
	t.State = c.State
	if c.NetworkOf == "" {
		t.Networks, t.Ports = c.Networks, c.Ports
	}
}

// ended reports whether the container left "running" since it was told, even if something has started it again. One that
// has just stopped gets some grace: whoever stopped it may be about to start or to remove it.
func (t *task) ended(ctx context.Context, started time.Time) (bool, docker.State) {
	if t.blind {
		return false, docker.State{}
	}
	c, err := t.r.engine.Inspect(ctx, t.ref())
	if err == nil && !c.State.Running() {
		select {
		case <-ctx.Done():
			return false, docker.State{}
		case <-time.After(t.r.pace.grace):
		}
		c, err = t.r.engine.Inspect(ctx, t.ref())
	}
	switch {
	case errors.Is(err, docker.ErrNotFound):
		return true, docker.State{}
	case err != nil: // the engine is away: what is served still tells
		return false, docker.State{}
	}
	t.refresh(c)
	return !c.State.Running() || !c.State.StartedAt.Equal(started), c.State
}

// over deals with a container that ended during the watch.
func (t *task) over(ctx context.Context, views []*view, a cert.Action, now docker.State) {
	t.stop()
	switch {
	case now.Status == "", a.Kind != cert.ActionRestart && t.r.stoppedByHand(t.ID, views[0].at): // by somebody else: the next look finds what there is then
		for _, v := range views {
			v.told, v.err = false, nil
		}
	case a.Kind == cert.ActionRestart:
		for _, v := range views {
			v.err = fmt.Errorf("the container does not run after a restart%s%s", exitCode(now), said(t.r.logged(ctx, t.found, v.at)))
			v.hint = "see " + logs(t.found)
		}
	default:
		err := t.rescue(ctx, now, a)
		for _, v := range views {
			v.err, v.restarted = err, true
			v.hint = fmt.Sprintf("it was started again, and from now on it is restarted in place of %s: set RELOAD=%s:restart, or an action that it survives", a, target(t.found))
		}
	}
}

// rescue starts the container again and remembers what ended it.
func (t *task) rescue(ctx context.Context, ended docker.State, a cert.Action) error {
	t.unsafe = true
	if err := t.r.rescue(ctx, t.found, ended, a, &t.state); err != nil {
		return err
	}
	return errors.New(t.state.Unsafe[unsafeKey(t.found, a)])
}

// endOfWatch says of what is stale still why that is, or may be.
func (t *task) endOfWatch(ctx context.Context, views []*view, a cert.Action) {
	for _, v := range views {
		if a.Kind == cert.ActionRestart && v.class != cert.Current && t.State.Health == "unhealthy" {
			v.err = fmt.Errorf("the container is not healthy after a restart%s", said(t.r.logged(ctx, t.found, v.at)))
			v.hint = "see " + logs(t.found)
		}
	}
	stale := slices.DeleteFunc(only(views, cert.Stale), func(v *view) bool { return v.err != nil })
	if len(stale) == 0 {
		return
	}
	words := t.r.complaint(ctx, t.found, stale[0].at)
	for _, v := range stale {
		v.hint = hintOfStale(t.found, a.String())
		if words != "" {
			v.err = fmt.Errorf("an older certificate is still served: %s", words)
			v.hint = fmt.Sprintf("mend its configuration, which it does not take; what it serves now stays in service; see %s", check(t.found))
		}
	}
}

func only(views []*view, class cert.Class) []*view {
	var out []*view
	for _, v := range views {
		if v.class == class {
			out = append(out, v)
		}
	}
	return out
}

// seenInside says that the container itself was dialled, and not an endpoint that another one may answer.
func seenInside(views []*view) bool {
	for _, v := range views {
		if len(v.kept.Spec.Verify.Endpoints) > 0 {
			return false
		}
	}
	return true
}
