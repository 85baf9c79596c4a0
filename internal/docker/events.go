package docker

import (
	"context"
	"fmt"
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
	options := events.ListOptions{Filters: args}
	if !after.IsZero() {
		options.Since = fmt.Sprintf("%d.%09d", after.Unix(), after.Nanosecond())
	}
	ctx, cancel := context.WithCancel(ctx)
	defer cancel()
	messages, errs := api.Events(ctx, options)
	select { // it returns when the engine has answered
	case err := <-errs:
		again := e.agreeAfter(err)
		if again == nil {
			return refine(ctx, what, err)
		}
		messages, errs = again.Events(ctx, options)
	default:
	}
	select {
	case err := <-errs:
		return refine(ctx, what, err)
	default:
		opened()
	}
	for {
		select {
		case err := <-errs:
			return refine(ctx, what, err)
		case m := <-messages:
			at := time.Unix(0, m.TimeNano)
			if m.TimeNano != 0 && !at.After(after) { // "since" includes its own moment
				continue
			}
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
