package reload

import (
	"cmp"
	"context"
	"errors"
	"slices"

	"github.com/sidecert/sidecert/internal/cert"
	"github.com/sidecert/sidecert/internal/docker"
)

// Discover says whose labels make a web container ours.
type Discover string

const (
	DiscoverProject Discover = "project"
	DiscoverAll     Discover = "all"
	DiscoverOff     Discover = "off"
)

// errUnheard says that labels cannot be heard, which is something else than that there are none.
var errUnheard = errors.New("our own Compose project is not known")

// Labelled returns the containers, running or not, that bear labels of ours and are heard: those of our own project, or of all. An error
// means that it is not known which those are: the engine does not answer, a socket proxy lists none, or our own project is not known.
func (r *Reloader) Labelled(ctx context.Context) ([]cert.Labelled, error) {
	if r.engine == nil || r.hears == DiscoverOff {
		return nil, nil
	}
	failed := func(err error, hint string) error {
		return &cert.Error{Op: "read labels of containers", Err: err, Hint: hint}
	}
	finder, err := r.finder(ctx)
	if err != nil {
		return nil, failed(err, r.engine.Advice(err))
	}
	if r.hears == DiscoverProject && finder.project == "" {
		return nil, failed(errUnheard, "set COMPOSE_PROJECT_NAME to the own project, or DISCOVER=off where no labels are used")
	}
	list, err := finder.labelled(ctx, r.hears)
	if err != nil {
		return nil, failed(err, cmp.Or(hintOf(err), r.engine.Advice(err)))
	}
	var all []cert.Labelled
	for _, c := range list {
		all = append(all, cert.Labelled{Container: c.Name, Project: c.Project, Service: c.Service, Labels: c.Labels})
	}
	return all, nil
}

// labelled returns the containers that bear labels of ours, in the order of their names. Where our own project is not known, only "all"
// finds any.
func (f *finder) labelled(ctx context.Context, d Discover) ([]docker.Container, error) {
	if d == DiscoverOff || d == DiscoverProject && f.project == "" {
		return nil, nil
	}
	filter := docker.Filter{Project: f.project}
	if d == DiscoverAll {
		filter.Project = ""
	}
	list, err := f.engine.List(ctx, filter)
	return slices.DeleteFunc(list, func(c docker.Container) bool { return len(c.Labels) == 0 }), err
}
