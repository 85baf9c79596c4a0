package docker

import (
	"context"
	"encoding/json"
	"fmt"
	"net/http"
	"net/url"
	"time"

	"github.com/docker/docker/api/types/events"
	"github.com/docker/docker/api/types/filters"
)

// Event is something that befell a container.
type Event struct {
	// Action is "start", "unpause", "rename" … as the engine calls it.
	Action string
	// ID and Name are the container's; Labels are its own and its image's, as far as Container has them.
	ID, Name         string
	Project, Service string
	Labels           map[string]string
	At               time.Time
}

// Events calls heard for every event of the given actions that came after a time, in the order of the engine, until ctx ends or the
// stream does, which it does whenever the engine is restarted. opened is called once the engine tells events.
func (e *Engine) Events(ctx context.Context, after time.Time, actions []string, opened func(), heard func(Event)) error {
	const what = "GET /events"
	api, err := e.client(ctx)
	if err != nil {
		return err
	}
	args := filters.NewArgs(filters.Arg("type", string(events.ContainerEventType)))
	for _, action := range actions {
		args.Add("event", action)
	}
	filter, err := filters.ToJSON(args)
	if err != nil {
		return err
	}
	query := url.Values{"filters": {filter}}
	if !after.IsZero() {
		query.Set("since", fmt.Sprintf("%d.%09d", after.Unix(), after.Nanosecond()))
	}
	ctx, cancel := context.WithCancel(ctx)
	defer cancel()
	resp, err := e.plain(ctx, api, http.MethodGet, "/events", query, "")
	if again := e.agreeAfter(err); again != nil {
		resp, err = e.plain(ctx, again, http.MethodGet, "/events", query, "")
	}
	if err != nil {
		return refine(ctx, what, err)
	}
	defer resp.Body.Close()
	opened()
	for stream := json.NewDecoder(resp.Body); ; {
		var m events.Message
		if err := stream.Decode(&m); err != nil {
			return refine(ctx, what, err)
		}
		at := time.Unix(0, m.TimeNano)
		if m.TimeNano == 0 || at.After(after) { // "since" includes its own moment
			heard(eventOf(m, at))
		}
	}
}

func eventOf(m events.Message, at time.Time) Event {
	of := m.Actor.Attributes
	return Event{
		Action: string(m.Action), ID: m.Actor.ID, Name: of["name"], At: at,
		Project: of[LabelProject], Service: of[LabelService], Labels: ownLabels(of),
	}
}
