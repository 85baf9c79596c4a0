package reload

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"slices"
	"time"

	"github.com/sidecert/sidecert/internal/cert"
	"github.com/sidecert/sidecert/internal/docker"
)

// atOnce is how many containers are looked at and told at the same time.
const atOnce = 32

// Look compares what is stored with what is served for every kept certificate, tells the containers that need telling (one
// action per container for all that changed), and looks again until the new certificate is seen or time is up. What is pending
// is derived anew each time from the disk and the wire; Look.Next is when the next look is due for it. For a certificate that has
// nothing stored yet it only looks whether those are there who will be told of it.
func (r *Reloader) Look(ctx context.Context, kept []cert.Kept) cert.Look {
	l := &look{r: r, memory: r.memory, kept: stored(kept), awaited: slices.DeleteFunc(slices.Clone(kept), isStored), patience: r.patience()}
	l.survey(ctx)
	each(atOnce, l.tasks, func(t *task) {
		t.mend(ctx)
		t.tell(ctx)
	})
	if ctx.Err() != nil {
		return l.abandon(ctx)
	}
	l.conclude(ctx)
	l.sortOut(ctx)
	r.keep(l.patience)
	return l.result
}

// Show looks as Look does, but tells nobody anything, remembers nothing and asks for no other look.
func (r *Reloader) Show(ctx context.Context, kept []cert.Kept) cert.Look {
	l := r.show(ctx, stored(kept))
	l.conclude(ctx)
	if ctx.Err() != nil {
		return cert.Look{Err: ctx.Err()}
	}
	l.result.Next = time.Time{}
	return l.result
}

// reader is a Memory that is only read.
type reader struct{ Memory }

func (reader) SetTarget(string, cert.TargetState) error { return nil }

// stored leaves out what has nothing yet that could be served.
func stored(kept []cert.Kept) []cert.Kept {
	return slices.DeleteFunc(slices.Clone(kept), func(k cert.Kept) bool { return !isStored(k) })
}

func isStored(k cert.Kept) bool { return k.Lineage.Leaf() != nil }

// show looks without leave to change anything.
func (r *Reloader) show(ctx context.Context, kept []cert.Kept) *look {
	l := &look{r: r, memory: reader{r.memory}, kept: kept, patience: r.patience()}
	l.survey(ctx)
	return l
}

// survey finds the containers and looks at what they serve.
func (l *look) survey(ctx context.Context) {
	l.find(ctx)
	each(atOnce, l.tasks, func(t *task) { t.begin(ctx) })
	l.spare()
}

// conclude puts together what became of everything, and remembers it.
func (l *look) conclude(ctx context.Context) {
	for _, t := range l.tasks {
		outcomes, next := t.end()
		l.result.Outcomes = append(l.result.Outcomes, outcomes...)
		l.result.Next = earliest(l.result.Next, next)
	}
	l.lookAtEndpoints(ctx)
}

// abandon is the end of a look that was told to stop: what it saw last is not worth remembering, only what did harm is.
func (l *look) abandon(ctx context.Context) cert.Look {
	for _, t := range l.tasks {
		if !t.unsafe {
			continue
		}
		if err := l.memory.SetTarget(t.Name, t.state); err != nil {
			l.r.log.Debug("unsafe action not remembered", cert.AttrContainer, t.Name, cert.AttrErr, err)
		}
	}
	return cert.Look{Err: ctx.Err()}
}

// look is one pass of Look.
type look struct {
	r        *Reloader
	memory   Memory
	kept     []cert.Kept
	awaited  []cert.Kept // what has nothing stored yet: only missed targets matter
	patience *patience
	self     docker.Container
	own      docker.Container // ours for certain, with our mounts; its zero value means not known
	tasks    []*task          // one per container
	result   cert.Look
}

// find makes a task of every container that a target names.
func (l *look) find(ctx context.Context) {
	all := slices.Concat(l.kept, l.awaited)
	if !targeted(all) {
		return
	}
	if l.r.engine == nil {
		l.unreachable(errors.New("there is no Docker engine"), hintNoEngine)
		return
	}
	finder, err := l.r.finder(ctx)
	if err != nil {
		l.unreachable(err, l.r.engine.Advice(err))
		return
	}
	l.self = finder.self
	if finder.ours(finder.self) {
		l.own = finder.self
	}
	l.r.attend(all)
	type answer struct {
		all []found
		err error
	}
	known := map[string]answer{} // many certificates have the same target
	missed := map[string]bool{}
	for i, k := range all {
		awaited := i >= len(l.kept)
		if k.Spec.Reload.Off {
			continue
		}
		for _, t := range k.Spec.Reload.Targets {
			if t.Action.Kind == cert.ActionNone {
				t.Action.Kind = cert.ActionAuto
			}
			key := t.String() + ":" + t.Action.String()
			a, ok := known[key]
			if !ok {
				a.all, a.err = finder.find(ctx, t)
				known[key] = a
			}
			if errors.Is(a.err, docker.ErrUnavailable) || ctx.Err() != nil {
				l.unreachable(a.err, l.r.engine.Advice(a.err))
				return
			}
			switch {
			case awaited && (a.err == nil || missed[t.String()]): // once for all of them, who have nothing to tell yet
				continue
			case a.err != nil && !(t.Labelled && errors.Is(a.err, errNobody)):
				missed[t.String()] = true
				l.missing(k, t, a.err, awaited)
			}
			for _, f := range a.all {
				labelled, _ := cert.VerifyPort(f.Labels) // what is no port is told where labels are read
				f.port = cmp.Or(t.Port, labelled)
				l.add(f, k, t)
			}
		}
	}
}

// targeted reports whether any container is named at all.
func targeted(kept []cert.Kept) bool {
	return slices.ContainsFunc(kept, func(k cert.Kept) bool { return k.Spec.Told() })
}

func (l *look) unreachable(err error, hint string) {
	l.tasks = nil
	l.result.Err, l.result.Hint = err, hint
	l.result.Next, _ = l.patience.wait("engine", engineSoon, engLate)
}

// missing notes a target that matches no container. Where it is to be told already, that is news at once; where it is awaited, when
// whoever brings it up has had his time.
func (l *look) missing(k cert.Kept, t cert.Target, err error, awaited bool) {
	what := fmt.Sprintf("target %s %s %d", t, k.Lineage.Name, k.Lineage.Number) // anew with each version, of which nobody is told
	if awaited {
		what = "awaited target " + t.String()
	}
	next, isNew := l.patience.wait(what, soon, later)
	if awaited {
		isNew = false
		if l.patience.age(what) >= bringUp {
			_, isNew = l.patience.wait("missed "+what, soon, later)
		}
	}
	l.result.Next = earliest(l.result.Next, next)
	o := cert.Outcome{Cert: k.Lineage.Name, Container: t.String(), Class: cert.Unseen, Missing: true, Changed: isNew, Err: err}
	if e, ok := errors.AsType[*cert.Error](err); ok {
		o.Hint = e.Hint
	}
	l.result.Outcomes = append(l.result.Outcomes, o)
}

// add gives a container one more certificate. The first target that names it says what is done with it, unless that is "auto".
func (l *look) add(f found, k cert.Kept, by cert.Target) {
	i := slices.IndexFunc(l.tasks, func(t *task) bool { return t.ref() == f.ref() })
	if i < 0 {
		i = len(l.tasks)
		l.tasks = append(l.tasks, &task{look: l, found: f, action: by.Action})
	}
	t := l.tasks[i]
	t.port = cmp.Or(t.port, f.port)
	if slices.ContainsFunc(t.views, func(v *view) bool { return v.kept.Lineage.Name == k.Lineage.Name }) {
		return
	}
	if t.action.Kind == cert.ActionAuto {
		t.action = by.Action
	}
	if t.fallback.Kind == cert.ActionNone {
		t.fallback = k.Spec.Reload.Fallback
	}
	t.views = append(t.views, &view{kept: k})
}

// spare leaves alone the containers that serve another certificate of ours in place of one that is served elsewhere.
func (l *look) spare() {
	served := map[string]bool{}
	for _, t := range l.tasks {
		for _, v := range t.views {
			if v.class == cert.Current || v.class == cert.Stale {
				served[v.kept.Lineage.Name] = true
			}
		}
	}
	for _, t := range l.tasks {
		for _, v := range t.views {
			v.spared = v.class == cert.Foreign && v.other && served[v.kept.Lineage.Name]
		}
	}
}

// lookAtEndpoints reports each endpoint by itself too: it is what a person asked to be looked at, and all there is to see
// without an engine.
func (l *look) lookAtEndpoints(ctx context.Context) {
	for _, k := range l.kept {
		if k.Spec.Verify.Off {
			continue
		}
		for _, endpoint := range k.Spec.Verify.Endpoints {
			l.result.Outcomes = append(l.result.Outcomes, l.lookAtEndpoint(ctx, k, endpoint))
		}
	}
}

func (l *look) lookAtEndpoint(ctx context.Context, k cert.Kept, endpoint string) cert.Outcome {
	v := &view{kept: k}
	state, err := l.memory.Target(endpoint)
	v.was = state.Certs[k.Lineage.Name]
	v.sight = l.r.see(ctx, k, []place{{endpoint}}, l.kept)
	news := l.await(v)
	o := v.outcome(found{Container: docker.Container{Name: endpoint}, blind: true})
	switch v.class {
	case cert.Stale:
		o.Hint = ""
		if !k.Spec.Told() {
			o.Hint, o.Changed = hintSelfReload, news
		}
	case cert.Foreign:
		o.Hint = "see that VERIFY names the server of this certificate"
	}
	if err == nil {
		err = l.remember(endpoint, &state, []*view{v}, news)
	}
	if err != nil {
		l.r.log.Debug("memory of an endpoint failed", cert.AttrContainer, endpoint, cert.AttrErr, err)
	}
	return o
}

// await gives a web server that nobody tells the time to read its files again by itself. When that is over, what is stale is an error,
// and news once.
func (l *look) await(v *view) (news bool) {
	if v.class != cert.Stale || v.kept.Spec.Told() {
		return false
	}
	since := v.was.Since
	if v.was.Seen != cert.Stale || v.was.Stored != v.kept.Lineage.Fingerprint() || since.IsZero() {
		since, v.was.Err = l.r.now(), ""
	}
	patience := min(selfReload, cert.Lifetime(v.kept.Lineage.Leaf())/10)
	if l.r.now().Before(since.Add(patience)) {
		return false
	}
	v.err = fmt.Errorf("an older certificate is served %v after the new one was stored", patience.Round(time.Second))
	news, v.was.Err = v.was.Err == "", v.err.Error()
	return news
}

// selfReload is what a web server that reloads itself gets before that is called a failure: once a day is usual.
const selfReload = 25 * time.Hour

// remember writes a target's state if it is known to differ from what is on disk, or does so by more than when it was last seen.
func (l *look) remember(name string, state *cert.TargetState, views []*view, changed bool) error {
	for _, v := range views {
		is := v.served(l.r.now())
		if !sameServed(state.Certs[v.kept.Lineage.Name], is) {
			changed = true
		}
		if state.Certs == nil {
			state.Certs = map[string]cert.Served{}
		}
		is.SeenAt = l.r.now()
		state.Certs[v.kept.Lineage.Name] = is
	}
	if !changed && state.GoneSince.IsZero() {
		return nil
	}
	state.GoneSince = time.Time{}
	return l.memory.SetTarget(name, *state)
}

func sameServed(a, b cert.Served) bool {
	same := a.At.Equal(b.At) && a.Next.Equal(b.Next) && a.Since.Equal(b.Since)
	a.At, a.Next, a.SeenAt, a.Since = b.At, b.Next, b.SeenAt, b.Since
	return same && a == b
}
