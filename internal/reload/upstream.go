package reload

import (
	"context"
	"slices"

	"github.com/sidecert/sidecert/internal/cert"
)

// Upstreams returns HOST:PORT addresses where the spec's web containers answer plain HTTP, one per container that runs: on the
// port that it publishes as 80, else on 80. Where nobody accepts a connection the first address stands, so that a probe can say
// what is wrong with it. Without an engine there are none.
func (r *Reloader) Upstreams(ctx context.Context, spec cert.Spec) []string {
	if r.engine == nil {
		return nil
	}
	finder, err := r.finder(ctx)
	if err != nil {
		r.log.Debug("web containers not found", cert.AttrErr, err)
		return nil
	}
	var out []string
	for _, t := range spec.Reload.Targets {
		all, err := finder.find(ctx, t)
		if err != nil {
			r.log.Debug("web containers not found", cert.AttrErr, err)
		}
		for _, f := range all {
			if f.State.Status != "" && !f.State.Running() {
				continue
			}
			for _, p := range places(finder.self, f, 80) {
				out = append(out, r.answering(ctx, p))
			}
		}
	}
	slices.Sort(out)
	return slices.Compact(out)
}

func (r *Reloader) answering(ctx context.Context, p place) string {
	for _, addr := range p {
		if conn, err := r.connect(ctx, place{addr}); err == nil {
			conn.Close()
			return addr
		}
	}
	return p[0]
}
