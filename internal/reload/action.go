package reload

import (
	"context"
	"errors"
	"fmt"
	"slices"

	"github.com/sidecert/sidecert/internal/cert"
	"github.com/sidecert/sidecert/internal/docker"
)

// deed is an action that was tried.
type deed struct {
	cert.Action
	// hint is what a person should know about the action even if it went well.
	hint string
	err  error
}

var restart = cert.Action{Kind: cert.ActionRestart}

// plan lists what may be done for an action, in the order to be tried, without what this container's image did not survive.
func plan(f found, a cert.Action, unsafe map[string]string) []cert.Action {
	all := []cert.Action{a}
	if a.Kind == cert.ActionAuto {
		all = serverIn(f.Container).actions(f.Container)
	}
	all = slices.DeleteFunc(all, func(a cert.Action) bool { return unsafe[unsafeKey(f, a)] != "" })
	if len(all) == 0 {
		return []cert.Action{restart}
	}
	return all
}

// unsafeKey has the image in it, so that another one is tried afresh.
func unsafeKey(f found, a cert.Action) string { return a.String() + " " + f.Image }

// do tries what was planned until something could be done.
func (r *Reloader) do(ctx context.Context, f found, actions []cert.Action) deed {
	var d deed
	var refused error // why the action before could not be done
	for i, a := range actions {
		refused, d = d.err, deed{Action: a}
		var possible bool
		possible, d.err = r.try(ctx, f, a)
		r.log.Debug("container told", cert.AttrContainer, f.Name, cert.AttrAction, a.String(), cert.AttrErr, d.err)
		if possible {
			break
		}
		if i == len(actions)-1 {
			break
		}
	}
	d.hint = hintOfAction(f, d.Action, len(actions) > 1, refused)
	switch {
	case errors.Is(d.err, docker.ErrUnavailable):
		d.hint = r.engine.Advice(d.err)
	case d.err != nil:
		d.hint = hintOfFailure(f, d)
	}
	return d
}

// try does one action. It is not possible where a command cannot be run at all.
func (r *Reloader) try(ctx context.Context, f found, a cert.Action) (possible bool, err error) {
	switch a.Kind {
	case cert.ActionSignal:
		return true, r.engine.Kill(ctx, f.ref(), a.Signal)
	case cert.ActionExec:
		return r.exec(ctx, f, a.Command)
	case cert.ActionRestart:
		if err := r.test(ctx, f); err != nil {
			return true, err
		}
		return true, r.engine.Restart(ctx, f.ref())
	}
	return true, fmt.Errorf("nothing is known of the action %q", a)
}

func (r *Reloader) exec(ctx context.Context, f found, command []string) (possible bool, err error) {
	ended, err := r.engine.Exec(ctx, f.ref(), command)
	switch {
	case err != nil:
		return !errors.Is(err, docker.ErrForbidden), err
	case docker.NoCommand(ended.ExitCode):
		return false, fmt.Errorf("%s: exit code %d: there is no such command in the container", command[0], ended.ExitCode)
	case ended.ExitCode != 0:
		return true, fmt.Errorf("%s: exit code %d%s", cert.Action{Kind: cert.ActionExec, Command: command}, ended.ExitCode, said(ended.Output))
	}
	return true, nil
}

// test keeps a server that runs from being restarted into a configuration that it would not start with.
func (r *Reloader) test(ctx context.Context, f found) error {
	s := serverIn(f.Container)
	if f.blind || s.test == nil {
		return nil
	}
	if possible, err := r.exec(ctx, f, s.test); possible && err != nil {
		return fmt.Errorf("not restarted: it would not start again: %w", err)
	}
	return nil
}

// rescue starts a container that an action has ended, and remembers that it did.
func (r *Reloader) rescue(ctx context.Context, f found, ended docker.State, a cert.Action, state *cert.TargetState) error {
	what := fmt.Sprintf("%s ended the container%s", a, exitCode(ended))
	if state.Unsafe == nil {
		state.Unsafe = map[string]string{}
	}
	state.Unsafe[unsafeKey(f, a)] = what
	if ended.Running() { // its restart policy was there first
		return nil
	}
	if err := r.engine.Restart(ctx, f.ref()); err != nil { // which starts it, and needs no other permission than an action may
		return fmt.Errorf("%s, and it could not be started again: %w", what, err)
	}
	return nil
}

// exitCode is that of a container that ended, to go on from what is said of it; "" where its policy has started it since, when the engine
// has none any more.
func exitCode(s docker.State) string {
	if s.Running() {
		return ""
	}
	return fmt.Sprintf(" (exit code %d)", s.ExitCode)
}
