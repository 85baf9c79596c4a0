package reload

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"os"
	"path"
	"slices"
	"strings"

	"github.com/sidecert/sidecert/internal/cert"
	"github.com/sidecert/sidecert/internal/docker"
)

// found is a container that a target names.
type found struct {
	docker.Container
	// blind says that the engine does not let it be inspected. Without an ID not even that it exists is known.
	blind bool
	// port is where it serves TLS inside; 0 where nobody has said.
	port int
}

// ref is how calls name it. The ID is never taken where there is none to be sure of.
func (f found) ref() string { return cmp.Or(f.ID, f.Name) }

// finder resolves targets during one look. Nothing is remembered between looks: containers are recreated and scaled.
type finder struct {
	engine  Engine
	project string // our own; empty if it is not known
	all     bool   // labels are looked for in all projects
	// self is our own container, or one that shares its network with ours. Its zero value means not known.
	self docker.Container
}

// finder returns an error only if the engine does not answer.
func (r *Reloader) finder(ctx context.Context) (*finder, error) {
	f := &finder{engine: r.engine, project: r.project, all: r.hears == DiscoverAll}
	self, err := r.engine.Self(ctx)
	switch {
	case err == nil:
		f.self, f.project = self, cmp.Or(self.Project, r.project)
		r.know(f.project)
	case errors.Is(err, docker.ErrUnavailable), ctx.Err() != nil:
		return nil, err
	default: // not in a container, or a socket proxy that lets nothing be inspected
		r.log.Debug("own container not found", cert.AttrErr, err)
	}
	return f, nil
}

// find returns the containers that a target names, or an error that says why there are none.
func (f *finder) find(ctx context.Context, t cert.Target) ([]found, error) {
	filter := docker.Filter{Project: f.project, Service: t.Word}
	switch {
	case t.Label != "" && f.all:
		filter = docker.Filter{Label: t.Label}
	case t.Label != "":
		filter = docker.Filter{Project: f.project, Label: t.Label}
	case t.Project != "":
		filter.Project = t.Project
	}
	if filter.Project == "" && !(t.Label != "" && f.all) {
		// Without a project a service of the same name in somebody else's would match.
		if t.Label != "" {
			return nil, &cert.Error{Op: "find", Name: t.String(), Err: errors.New("our own Compose project is not known"), Hint: hintNoProject}
		}
		return f.named(ctx, t)
	}
	list, err := f.engine.List(ctx, filter)
	if errors.Is(err, docker.ErrForbidden) && t.Label == "" && t.Project == "" {
		return f.named(ctx, t)
	}
	if err != nil {
		return nil, &cert.Error{Op: "find", Name: t.String(), Err: err, Hint: hintOf(err)}
	}
	all, err := f.inspected(ctx, list)
	if err != nil || len(all) > 0 {
		return all, err
	}
	if t.Label != "" || t.Project != "" {
		return nil, f.nothing(ctx, t)
	}
	return f.named(ctx, t)
}

// inspected completes what a list told. One that has gone meanwhile is left out, and our own container always.
func (f *finder) inspected(ctx context.Context, list []docker.Container) ([]found, error) {
	var all []found
	for _, c := range list {
		full, err := f.engine.Inspect(ctx, c.ID)
		switch {
		case errors.Is(err, docker.ErrNotFound):
		case errors.Is(err, docker.ErrForbidden):
			all = append(all, found{Container: c, blind: true})
		case err != nil:
			return nil, err
		case !f.ours(full):
			all = append(all, found{Container: f.withNetworks(ctx, full)})
		}
	}
	return all, nil
}

// named takes the target's word for an exact container name.
func (f *finder) named(ctx context.Context, t cert.Target) ([]found, error) {
	c, err := f.engine.Inspect(ctx, t.Word)
	switch {
	case errors.Is(err, docker.ErrForbidden) && t.Action.Kind != cert.ActionAuto:
		return []found{{Container: docker.Container{Name: t.Word}, blind: true}}, nil
	case errors.Is(err, docker.ErrForbidden):
		return nil, &cert.Error{Op: "find", Name: t.String(), Err: err, Hint: fmt.Sprintf("allow GET /containers/json and GET /containers/{id}/json in the socket proxy, or name container and action so that nothing need be looked up: RELOAD=%s:HUP", t.Word)}
	case errors.Is(err, docker.ErrNotFound):
		return nil, f.nothing(ctx, t)
	case err != nil:
		return nil, err
	case c.Name != t.Word, f.ours(c): // the engine takes the beginning of an ID too
		return nil, f.nothing(ctx, t)
	}
	return []found{{Container: f.withNetworks(ctx, c)}}, nil
}

// ours asks for the program too: in another container's network Self is that container, most likely the web server itself.
func (f *finder) ours(c docker.Container) bool {
	program := path.Base(os.Args[0])
	return c.ID == f.self.ID && slices.ContainsFunc(c.Command, func(word string) bool { return path.Base(word) == program })
}

// withNetworks gives a container that uses another one's network the other's addresses.
func (f *finder) withNetworks(ctx context.Context, c docker.Container) docker.Container {
	if c.NetworkOf == "" {
		return c
	}
	if other, err := f.engine.Inspect(ctx, c.NetworkOf); err == nil {
		c.Networks, c.Ports, c.HostNetwork = other.Networks, other.Ports, other.HostNetwork
	}
	return c
}

// There is nobody whom a target could mean.
var (
	errNobody     = errors.New("no such service or container")
	errUnlabelled = errors.New("no container bears that label")
)

// nothing says that a target matches no container, and what there is in its place.
func (f *finder) nothing(ctx context.Context, t cert.Target) error {
	failure := &cert.Error{Op: "find", Name: t.String(), Err: errNobody}
	if t.Label != "" {
		failure.Err = errUnlabelled
	}
	project := cmp.Or(t.Project, f.project)
	if project == "" {
		failure.Hint = hintNoProject
		return failure
	}
	services, err := f.services(ctx, project)
	failure.Hint = fmt.Sprintf("project %s has no container yet", project)
	switch {
	case errors.Is(err, docker.ErrForbidden):
		failure.Hint = "only exact container names are found: " + hintOf(err) + " too, so that services are"
	case len(services) > 0:
		failure.Hint = fmt.Sprintf("%sproject %s has the services %s: put RELOAD right, or start what it names", meant(t, services), project, strings.Join(services, ", "))
	}
	return failure
}

// meant asks whether a target is a slip for one of a project's services. Of short words two edits make any other.
func meant(t cert.Target, services []string) string {
	near, edits := cert.Nearest(t.Word, services)
	slip := edits == 1 || edits == 2 && len(near) > 5
	if !slip || t.Label != "" {
		return ""
	}
	if t.Project != "" {
		near = t.Project + "/" + near
	}
	return fmt.Sprintf("did you mean %s? ", near)
}

// services are the names of a project's services that have a container, but for ours.
func (f *finder) services(ctx context.Context, project string) ([]string, error) {
	list, err := f.engine.List(ctx, docker.Filter{Project: project})
	if err != nil {
		return nil, err
	}
	var names []string
	for _, c := range list {
		if c.Service != "" && !(c.ID == f.self.ID && f.ours(f.self)) {
			names = append(names, c.Service)
		}
	}
	slices.Sort(names)
	return slices.Compact(names), nil
}
