package reload

import (
	"context"
	"errors"
	"slices"
	"strings"

	"github.com/sidecert/sidecert/internal/cert"
	"github.com/sidecert/sidecert/internal/docker"
)

// Labelled returns the containers, running or not, that bear labels of ours and are heard: those of our own project, or of all. Where
// nobody may be asked, or our own project is not known, there are none; an error means that the engine does not answer.
func (r *Reloader) Labelled(ctx context.Context) ([]cert.Labelled, error) {
	if r.engine == nil || r.hears == HearNobody {
		return nil, nil
	}
	filters := []docker.Filter{{Label: cert.LabelReload}, {Label: cert.LabelDomains}}
	if r.hears != HearAll {
		finder, err := r.finder(ctx)
		if err != nil {
			return nil, err
		}
		if finder.project == "" {
			return nil, nil
		}
		for i := range filters {
			filters[i].Project = finder.project
		}
	}
	var all []cert.Labelled
	for _, filter := range filters {
		list, err := r.engine.List(ctx, filter)
		if errors.Is(err, docker.ErrForbidden) {
			r.log.Debug("labels of containers not read", cert.AttrErr, err)
			return nil, nil
		}
		if err != nil {
			return nil, err
		}
		for _, c := range list {
			if !slices.ContainsFunc(all, func(l cert.Labelled) bool { return l.Container == c.Name }) {
				all = append(all, cert.Labelled{Container: c.Name, Project: c.Project, Service: c.Service, Labels: c.Labels})
			}
		}
	}
	slices.SortFunc(all, func(a, b cert.Labelled) int { return strings.Compare(a.Container, b.Container) })
	return all, nil
}
