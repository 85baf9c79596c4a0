package reload

import (
	"context"
	"fmt"
	"slices"
	"strings"

	"github.com/sidecert/sidecert/internal/cert"
	"github.com/sidecert/sidecert/internal/docker"
)

// Upstreams returns HOST:PORT addresses where the spec's web containers answer plain HTTP, one per container that runs: on the
// port that it publishes as 80, else on 80. Where nobody accepts a connection the first address stands, so that a probe can say
// what is wrong with it. Without an engine there are none.
func (r *Reloader) Upstreams(ctx context.Context, spec cert.Spec) []string {
	self, all := r.running(ctx, spec)
	var out []string
	for _, f := range all {
		for _, p := range places(self, f, httpPort) {
			out = append(out, r.answering(ctx, p))
		}
	}
	slices.Sort(out)
	return slices.Compact(out)
}

// Misplaced says which of the spec's web containers publish their plain HTTP, and as what, where none of them publishes anything as port
// 80: "web publishes its port 80 as 8080". It is "" where there is nothing to say.
func (r *Reloader) Misplaced(ctx context.Context, spec cert.Spec) string {
	var words []string
	_, all := r.running(ctx, spec)
	for _, f := range all {
		for _, p := range f.Ports {
			switch {
			case p.Host == httpPort:
				return ""
			case p.Container == httpPort:
				words = append(words, fmt.Sprintf("%s publishes its port 80 as %d", target(f), p.Host))
			}
		}
	}
	slices.Sort(words)
	return strings.Join(slices.Compact(words), ", ")
}

// running are the spec's web containers that run, and our own container. Without an engine there are none.
func (r *Reloader) running(ctx context.Context, spec cert.Spec) (self docker.Container, out []found) {
	if r.engine == nil {
		return self, nil
	}
	finder, err := r.finder(ctx)
	if err != nil {
		r.log.Debug("web containers not found", cert.AttrErr, err)
		return self, nil
	}
	for _, t := range spec.Reload.Targets {
		all, err := finder.find(ctx, t)
		if err != nil {
			r.log.Debug("web containers not found", cert.AttrErr, err)
		}
		for _, f := range all {
			if f.State.Status == "" || f.State.Running() {
				out = append(out, f)
			}
		}
	}
	return finder.self, out
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
