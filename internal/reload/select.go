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

// labelsOfOurs mark a web container by themselves.
var labelsOfOurs = []string{"sidecert.reload", "sidecert.domains"}

// Select returns the containers that targets name and those that labels of ours mark, in the order of their names, and our own. It is
// for the socket proxy: the containers that can be told of anything. Our own is left out there, and is the zero value where it is not
// known. A target that names nothing is no error; an engine that does not answer is one.
func (r *Reloader) Select(ctx context.Context, targets []cert.Target, labelled Discover) (own docker.Container, all []docker.Container, err error) {
	f, err := r.finder(ctx)
	if err != nil {
		return docker.Container{}, nil, err
	}
	if f.ours(f.self) {
		own = f.self
	}
	var selected []found
	for _, t := range targets {
		some, err := f.find(ctx, t)
		switch {
		case errors.Is(err, docker.ErrUnavailable), ctx.Err() != nil:
			return own, nil, cmp.Or(err, ctx.Err())
		case err != nil:
			r.log.Debug("target names no container", "target", t.String(), cert.AttrErr, err)
		}
		selected = append(selected, some...)
	}
	some, err := f.labelled(ctx, labelled)
	if err != nil {
		return own, nil, err
	}
	for _, s := range append(selected, some...) {
		if s.ID != "" && !slices.ContainsFunc(all, func(c docker.Container) bool { return c.ID == s.ID }) {
			all = append(all, s.Container)
		}
	}
	slices.SortFunc(all, func(a, b docker.Container) int { return cmp.Compare(a.Name, b.Name) })
	return own, all, nil
}

// labelled returns the containers that labels of ours mark. Where our own project is not known, only "all" finds any.
func (f *finder) labelled(ctx context.Context, d Discover) ([]found, error) {
	if d == DiscoverOff || d == DiscoverProject && f.project == "" {
		return nil, nil
	}
	filter := docker.Filter{Project: f.project}
	if d == DiscoverAll {
		filter.Project = ""
	}
	var all []found
	for _, filter.Label = range labelsOfOurs {
		list, err := f.engine.List(ctx, filter)
		if err != nil {
			return nil, err
		}
		some, err := f.inspected(ctx, list)
		if err != nil {
			return nil, err
		}
		all = append(all, some...)
	}
	return all, nil
}
