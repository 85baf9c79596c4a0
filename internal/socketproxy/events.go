package socketproxy

import (
	"context"
	"encoding/json"
	"errors"
	"net/http"
	"time"

	"github.com/sidecert/sidecert/internal/cert"
	"github.com/sidecert/sidecert/internal/docker"
)

// maxKnown is how many containers a stream of events remembers to be allowed or not.
const maxKnown = 1000

// events tells what befalls the containers that may be told something, until ctx or the engine's stream ends.
func (p *Proxy) events(ctx context.Context, w http.ResponseWriter, c call) error {
	select {
	case p.streams <- struct{}{}:
		defer func() { <-p.streams }()
	default:
		return errBusy
	}
	wanted := c.filters["event"]
	if len(wanted) == 0 {
		wanted = actions
	}
	ctx, cancel := context.WithCancelCause(ctx)
	defer cancel(nil)
	s := stream{p: p, w: w, labels: c.filters["label"], known: map[string]bool{}}
	after := c.since
	if !after.IsZero() {
		after = after.Add(-1) // "since" includes its own moment
	}
	opened := false
	err := p.engine.Events(ctx, after, wanted, func() {
		opened = true
		w.Header().Set("Content-Type", "application/json")
		w.WriteHeader(http.StatusOK)
		http.NewResponseController(w).Flush()
	}, func(e docker.Event) {
		if err := s.tell(ctx, e); err != nil {
			cancel(err)
		}
	})
	if opened { // the client sees the end of the stream, as it would of the engine's
		p.log.Debug("stream of events ended", cert.AttrErr, errors.Join(err, context.Cause(ctx)))
		return nil
	}
	return err
}

// stream is one client's.
type stream struct {
	p      *Proxy
	w      http.ResponseWriter
	labels []string
	// known says of containers, by their IDs, whether they may be told something. Names can change, labels cannot.
	known map[string]bool
}

func (s *stream) tell(ctx context.Context, e docker.Event) error {
	if e.Action == "rename" || len(s.known) >= maxKnown {
		clear(s.known)
	}
	may, known := s.known[e.ID]
	if !known {
		scope, err := s.p.scope(ctx)
		if err != nil {
			return err
		}
		_, may = find(scope.allowed, e.ID)
		s.known[e.ID] = may
	}
	if !may {
		return nil
	}
	for _, label := range s.labels {
		if !bearsOwn(docker.Container{Project: e.Project, Service: e.Service, Labels: e.Labels}, label) {
			return nil
		}
	}
	data, err := json.Marshal(messageOf(e))
	if err != nil {
		return err
	}
	control := http.NewResponseController(s.w)
	control.SetWriteDeadline(time.Now().Add(writeLimit))
	if _, err := s.w.Write(append(data, '\n')); err != nil {
		return err
	}
	return control.Flush()
}
