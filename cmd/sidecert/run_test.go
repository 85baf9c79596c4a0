package main

import (
	"bytes"
	"context"
	"log/slog"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"github.com/sidecert/sidecert/internal/docker"
	"github.com/sidecert/sidecert/internal/reload"
)

// mute is an engine behind a socket proxy that refuses its events.
type mute struct {
	reload.Engine
	asked []time.Time
}

func (e *mute) Events(context.Context, time.Time, []string, func(), func(docker.Event)) error {
	e.asked = append(e.asked, time.Now())
	return docker.ErrForbidden
}

func TestRefusedEventsAreAskedForAgainEveryHour(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		engine, log := new(mute), new(bytes.Buffer)
		p := &parts{web: reload.New(reload.Config{Engine: engine}), log: slog.New(slog.NewTextHandler(log, nil))}
		ctx, cancel := context.WithTimeout(t.Context(), 150*time.Minute)
		defer cancel()
		begin := time.Now()
		p.lookOnEvents(ctx)
		if n := len(engine.asked); n != 3 || engine.asked[2].Sub(begin) != 2*time.Hour {
			t.Errorf("asked at %v, want three times in two hours and a half", engine.asked)
		}
		if n := strings.Count(log.String(), "not noticed at once"); n != 1 {
			t.Errorf("told %d times, want once:\n%s", n, log)
		}
	})
}
