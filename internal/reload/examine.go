package reload

import (
	"cmp"
	"context"
	"crypto/rand"
	"errors"
	"fmt"
	"slices"
	"strings"

	"github.com/sidecert/sidecert/internal/cert"
	"github.com/sidecert/sidecert/internal/docker"
)

// The topics of what Examine finds.
const (
	topicEngine    = "engine"
	topicContainer = "web container"
	topicServed    = "served"
)

// Examine looks for what keeps new certificates from being served, or will: at the engine and what it lets us do, at the web
// containers, and at what they serve. kept are all certificates; of one that has nothing stored yet the lineage has its name only.
// Nobody is told anything.
func (r *Reloader) Examine(ctx context.Context, kept []cert.Kept) []cert.Finding {
	l := r.show(ctx, kept)
	x := &examination{look: l, missing: slices.Clone(l.result.Outcomes)}
	l.result.Outcomes = nil
	l.conclude(ctx)
	if x.examineEngine(ctx) {
		x.examineCalls(ctx)
	}
	x.examineTargets()
	x.examineMounts(ctx)
	x.examineServed()
	return x.findings
}

// examination is what Examine makes of one look.
type examination struct {
	*look
	// missing are the targets that match no container, once for each certificate.
	missing  []cert.Outcome
	findings []cert.Finding
}

func (x *examination) add(f cert.Finding) { x.findings = append(x.findings, f) }

// about adds a finding about a container.
func (x *examination) about(f found, level cert.Level, text, hint string) {
	x.add(cert.Finding{Level: level, Topic: topicContainer, About: f.Name, Text: text, Hint: hint})
}

// examineEngine reports whether an engine, or a socket proxy, answers.
func (x *examination) examineEngine(ctx context.Context) bool {
	if len(x.kept) > 0 && !slices.ContainsFunc(x.kept, func(k cert.Kept) bool { return !k.Spec.Reload.Off }) {
		x.add(cert.Finding{Topic: topicEngine, Text: "No web container is told of a new certificate, by choice (RELOAD=off)."})
		return false
	}
	absent := cert.Finding{Level: cert.Doubtful, Topic: topicEngine}
	if targeted(x.kept) {
		absent.Level = cert.Bad
	}
	if x.r.engine == nil {
		absent.Text, absent.Hint = "There is no Docker engine, so that no web container is told of a new certificate.", hintNoEngine
		x.add(absent)
		return false
	}
	v, err := x.r.engine.Version(ctx)
	if err != nil {
		absent.About, absent.Text, absent.Hint = v.Host, fmt.Sprintf("No web container can be told of a new certificate: %v.", err), x.r.engine.Advice(err)
		x.add(absent)
		return false
	}
	is := "A socket proxy answers, and does not tell the engine's version"
	if v.Engine != "" {
		is = fmt.Sprintf("Docker engine %.50s answers", v.Engine)
	}
	x.add(cert.Finding{Topic: topicEngine, About: v.Host, Text: fmt.Sprintf("%s; it is spoken to in API version %s.", is, v.API)})
	if x.result.Err != nil {
		x.add(cert.Finding{Level: cert.Bad, Topic: topicEngine, About: v.Host, Text: fmt.Sprintf("The web containers could not be looked for: %v.", x.result.Err), Hint: x.result.Hint})
	}
	return true
}

// call is one that a socket proxy may refuse.
type call struct {
	what string // as a proxy's rule names it
	kind cert.ActionKind
	// err is what it was answered with in vain: ErrNotFound if it is let through.
	err error
}

// The calls besides those that do an action.
const (
	callList    = "GET /containers/json"
	callInspect = "GET /containers/{id}/json"
)

// examineCalls tries each call that we need: list and inspect by doing them, the others for a container that cannot exist, which has
// no effect.
func (x *examination) examineCalls(ctx context.Context) {
	nobody := "sidecert-doctor-" + strings.ToLower(rand.Text())
	_, listErr := x.r.engine.List(ctx, docker.Filter{Project: x.r.project, Label: nobody})
	_, inspectErr := x.r.engine.Inspect(ctx, nobody)
	byName := errors.Is(inspectErr, docker.ErrForbidden)
	if byName && x.seenAny() {
		inspectErr = docker.ErrNotFound
	}
	acts := x.acts(ctx, nobody)
	var through []string
	for _, c := range append([]call{{what: callList, err: listErr}, {what: callInspect, err: inspectErr}}, acts...) {
		switch refused := errors.Is(c.err, docker.ErrForbidden); {
		case c.err == nil, errors.Is(c.err, docker.ErrNotFound):
			through = append(through, c.what)
		case refused && strings.HasPrefix(c.what, "GET /containers/"):
			x.addUnlisted(c)
		case refused && !byName:
			x.addRefused(c, acts)
		case x.needs(c):
			x.add(cert.Finding{Level: cert.Unknown, Topic: topicEngine, About: c.what, Text: untried(c)})
		}
	}
	if len(through) > 0 {
		x.add(cert.Finding{Topic: topicEngine, Text: fmt.Sprintf("These calls are let through: %s.", strings.Join(through, ", "))})
	}
}

// seenAny reports whether any container was inspected.
func (x *examination) seenAny() bool {
	return x.self.ID != "" || slices.ContainsFunc(x.tasks, func(t *task) bool { return !t.blind })
}

func untried(c call) string {
	if errors.Is(c.err, docker.ErrForbidden) {
		return "Whether this call is allowed cannot be tried without effect: the socket proxy refuses everything about containers that it does not know by name."
	}
	return fmt.Sprintf("Whether this call is allowed is not known: %v.", c.err)
}

func (x *examination) acts(ctx context.Context, nobody string) []call {
	e := x.r.engine
	_, execErr := e.Exec(ctx, nobody, []string{"nginx", "-t"}) // a proxy may let a few commands through only
	if errors.Is(execErr, docker.ErrNotFound) {
		execErr = e.ExecInVain(ctx, nobody)
	}
	exec := call{what: "POST /containers/{id}/exec", kind: cert.ActionExec, err: execErr}
	if errors.Is(execErr, docker.ErrForbidden) {
		exec.what, _, _ = strings.Cut(execErr.Error(), ": ") // any of the three that it takes
	}
	return []call{
		{"POST /containers/{id}/kill", cert.ActionSignal, e.Kill(ctx, nobody, "HUP")},
		{"POST /containers/{id}/restart", cert.ActionRestart, e.Restart(ctx, nobody)},
		exec,
	}
}

// addUnlisted is for a proxy that does not let containers be looked up.
func (x *examination) addUnlisted(c call) {
	f := cert.Finding{Level: cert.Doubtful, Topic: topicEngine, About: c.what, Hint: "allow " + c.what + " in the socket proxy"}
	switch {
	case !targeted(x.kept):
		f.Level, f.Hint = cert.Fine, ""
		f.Text = "The socket proxy refuses this call, which is not needed."
	case len(x.missing) > 0:
		f.Level = cert.Bad
		f.Text = "The socket proxy refuses this call, so that not all web containers are found."
	case x.allBlind(): // as who lets nothing be looked up has chosen
		f.Level, f.Hint = cert.Fine, ""
		f.Text = "The socket proxy refuses this call, which is not needed: every web container is told by its exact name."
		if c.what == callInspect {
			f.Text = "The socket proxy refuses this call, so that web containers are told blind: nobody sees if one ends at a signal."
		}
	case c.what == callList:
		f.Text = "The socket proxy refuses this call, so that only exact container names are found, and services that are scaled are not."
	default:
		f.Text = "The socket proxy refuses this call, so that some web containers are told blind: nobody sees if one ends at a signal."
	}
	x.add(f)
}

// allBlind reports whether every web container is named, with what to do, so that nothing need be looked up.
func (x *examination) allBlind() bool {
	return !slices.ContainsFunc(x.tasks, func(t *task) bool { return !t.blind || t.ID != "" })
}

// addRefused is for a call that does an action.
func (x *examination) addRefused(c call, acts []call) {
	f := cert.Finding{Level: cert.Doubtful, Topic: topicEngine, About: c.what, Hint: "allow " + c.what + " in the socket proxy"}
	lost, worse := x.relyOn(c, acts)
	switch {
	case len(lost) > 0:
		f.Level = cert.Bad
		f.Text = fmt.Sprintf("The socket proxy refuses this call, and %s can be told of a new certificate by nothing else.", few(lost))
	case len(worse) > 0:
		f.Text = fmt.Sprintf("The socket proxy refuses this call, so that %s can be told of a new certificate by the second best way only.", few(worse))
	case x.needs(c):
		f.Text = "The socket proxy refuses this call, so that RELOAD_FALLBACK cannot be done."
	case c.kind == cert.ActionRestart && x.signalled():
		f.Text = "The socket proxy refuses this call, so that a web container that ends at a signal stays down."
	case len(x.missing) > 0:
		f.Level, f.Text, f.Hint = cert.Unknown, "The socket proxy refuses this call; whether it is needed is seen when all web containers are found.", ""
	default:
		f.Level, f.Text, f.Hint = cert.Fine, "The socket proxy refuses this call, which is not needed.", ""
	}
	x.add(f)
}

// relyOn are the containers that are lost without a call, and those that are told by it now and have another way.
func (x *examination) relyOn(c call, acts []call) (lost, worse []string) {
	for _, t := range x.tasks {
		ways := plan(t.found, t.action, t.state.Unsafe)
		by := func(a cert.Action) bool { return a.Kind == c.kind }
		other := func(a cert.Action) bool {
			return slices.ContainsFunc(acts, func(o call) bool { return o.kind == a.Kind && !errors.Is(o.err, docker.ErrForbidden) })
		}
		switch {
		case !slices.ContainsFunc(ways, by):
		case !slices.ContainsFunc(ways, other):
			lost = append(lost, t.Name)
		case by(ways[0]):
			worse = append(worse, t.Name)
		}
	}
	return lost, worse
}

// needs reports whether anybody is told by a call.
func (x *examination) needs(c call) bool {
	return slices.ContainsFunc(x.tasks, func(t *task) bool {
		return t.fallback.Kind != cert.ActionNone && t.fallback.Kind == c.kind || t.may(c.kind)
	})
}

// signalled reports whether anybody is told by a signal, after which a container may have to be started.
func (x *examination) signalled() bool {
	return slices.ContainsFunc(x.tasks, func(t *task) bool { return t.may(cert.ActionSignal) })
}

// may reports whether a container may be told by an action of that kind.
func (t *task) may(kind cert.ActionKind) bool {
	return slices.ContainsFunc(plan(t.found, t.action, t.state.Unsafe), func(a cert.Action) bool { return a.Kind == kind })
}

// examineTargets says of each target what it leads to.
func (x *examination) examineTargets() {
	for i, o := range x.missing {
		if slices.ContainsFunc(x.missing[:i], func(before cert.Outcome) bool { return before.Container == o.Container }) {
			continue // the same target of another certificate
		}
		why := o.Err
		if e, ok := errors.AsType[*cert.Error](why); ok {
			why = e.Err // the target's name stands before it
		}
		x.add(cert.Finding{Level: cert.Bad, Topic: topicContainer, About: o.Container, Text: fmt.Sprintf("It is not found: %v.", why), Hint: o.Hint})
	}
	for _, t := range x.tasks {
		x.examineState(t)
		x.examinePolicy(t)
	}
	var untold []string
	for _, k := range x.kept {
		if !k.Spec.Reload.Off && len(k.Spec.Reload.Targets) == 0 {
			untold = append(untold, k.Spec.Name)
		}
	}
	if len(untold) > 0 {
		x.add(cert.Finding{
			Level: cert.Doubtful, Topic: topicContainer,
			Text: fmt.Sprintf("No web container is told of a new certificate of %s.", few(untold)),
			Hint: "set RELOAD to the service of the web container, or to off where nobody is to be told",
		})
	}
}

// examineState says whether a container runs, and what is done with it.
func (x *examination) examineState(t *task) {
	ways := plan(t.found, t.action, t.state.Unsafe)
	best := plan(t.found, t.action, nil)
	told := fmt.Sprintf("It is told of a new certificate by %s, %s.", ways[0], why(t))
	harm := t.state.Unsafe[unsafeKey(t.found, best[0])]
	switch {
	case t.State.Status != "" && !t.State.Running():
		text := fmt.Sprintf("It does not run: its state is %q.", t.State.Status)
		x.about(t.found, cert.Bad, text, fmt.Sprintf("see %s, and start it", logs(t.found)))
	case t.blind:
		x.about(t.found, cert.Unknown, told+" More is not seen, since the socket proxy does not let it be inspected.", "")
	case harm != "":
		x.about(t.found, cert.Doubtful, fmt.Sprintf("It is told of a new certificate by %s, since once %s.", ways[0], harm),
			fmt.Sprintf("set RELOAD=%s:restart, or an action that it survives", target(t.found)))
	default:
		x.about(t.found, cert.Fine, told, "")
	}
}

// why says who has chosen an action.
func why(t *task) string {
	s := serverIn(t.Container)
	switch {
	case t.action.Kind != cert.ActionAuto:
		return "as its target says"
	case s.name == "":
		return `which "auto" does with what it does not know`
	}
	return fmt.Sprintf(`which "auto" does with %s`, s.name)
}

// examinePolicy says whether the container is there again after a reboot, and after a crash.
func (x *examination) examinePolicy(t *task) {
	way := plan(t.found, t.action, t.state.Unsafe)[0]
	signal := way.Signal
	if t.action.Kind == cert.ActionAuto && way.Kind == cert.ActionExec {
		signal = serverIn(t.Container).signal
	}
	switch {
	case t.blind:
	case t.RestartPolicy != "always" && t.RestartPolicy != "unless-stopped":
		x.about(t.found, cert.Doubtful, fmt.Sprintf("Its restart policy is %q: it is not started after a reboot.", cmp.Or(t.RestartPolicy, "no")), "set restart: always")
	case signal != "" && harmOfSignal(t.Container, signal) != "":
		harm, remedy, _ := strings.Cut(harmOfSignal(t.Container, signal), ": set ")
		yet := "but"
		if way.Kind == cert.ActionExec {
			yet = "since"
		}
		x.about(t.found, cert.Doubtful, fmt.Sprintf("It is told by %s, %s %s.", way, yet, harm), "set "+remedy)
	}
}

// examineServed says what each container shows of each certificate.
func (x *examination) examineServed() {
	for _, o := range x.result.Outcomes {
		i := slices.IndexFunc(x.kept, func(k cert.Kept) bool { return k.Lineage.Name == o.Cert })
		f := cert.Finding{Topic: topicServed, About: o.Container, Hint: o.Hint}
		switch l := x.kept[i].Lineage; {
		case l.Leaf() == nil, o.Hint == hintStopped, o.Class == cert.Foreign && o.Err == nil: // nothing to serve, or nothing to do with it
			continue
		case o.Class == cert.Current && l.Placeholder:
			f.Level, f.Text = cert.Doubtful, fmt.Sprintf("It serves the placeholder of %s, which has no certificate yet.", o.Cert)
		case o.Class == cert.Current && o.Bare:
			f.Level, f.Text = cert.Doubtful, fmt.Sprintf("It serves the certificate of %s without those between it and the root, so that many clients do not trust it.", o.Cert)
			f.Hint = "let it use fullchain.pem in place of cert.pem (httpd: or chain.pem beside it)"
		case o.Class == cert.Current:
			f.Text, f.Hint = fmt.Sprintf("It serves the stored certificate of %s.", o.Cert), ""
		case o.Class == cert.Stale:
			f.Level, f.Text = cert.Bad, fmt.Sprintf("It does not serve the stored certificate of %s: %v.", o.Cert, orElse(o.Err, "an older one is served"))
		case o.Class == cert.Foreign:
			f.Level, f.Text = cert.Bad, fmt.Sprintf("It does not serve the stored certificate of %s: %v.", o.Cert, o.Err)
		default:
			f.Level, f.Text = cert.Unknown, fmt.Sprintf("What it serves of %s is not seen: %v.", o.Cert, orElse(o.Err, x.whyUnseen(i)))
		}
		x.add(f)
	}
}

// whyUnseen is for what was not looked at, or did not say why it was not seen.
func (x *examination) whyUnseen(i int) string {
	if x.kept[i].Spec.Verify.Off {
		return "VERIFY=off"
	}
	return "no answer on port 443"
}

func orElse(err error, text string) error {
	if err == nil {
		return errors.New(text)
	}
	return err
}

// few names the first of many.
func few(names []string) string {
	const most = 5
	if len(names) <= most {
		return strings.Join(names, ", ")
	}
	return fmt.Sprintf("%s and %d others", strings.Join(names[:most], ", "), len(names)-most)
}
