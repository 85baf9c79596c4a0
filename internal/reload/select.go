package reload

import (
	"cmp"
	"context"
	"errors"
	"slices"
	"strings"

	"github.com/sidecert/sidecert/internal/cert"
	"github.com/sidecert/sidecert/internal/docker"
)

// Select returns the containers that targets name and those that labels of ours mark, in the order of their names, and our own. It is
// for the socket proxy: the containers that can be told of anything. Our own is left out there, and is the zero value where it is not
// known. A target that names nothing is no error; an engine that does not answer is one.
func (r *Reloader) Select(ctx context.Context, targets []cert.Target) (own docker.Container, all []docker.Container, err error) {
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
	marked, err := f.labelled(ctx, r.hears)
	if err != nil {
		return own, nil, err
	}
	marked = slices.DeleteFunc(marked, func(c docker.Container) bool {
		reload, told := c.Labels[cert.LabelReload]
		_, asks := c.Labels[cert.LabelDomains]
		return !told && !asks || strings.EqualFold(strings.TrimSpace(reload), "off")
	})
	some, err := f.inspected(ctx, marked)
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
