package docker

import (
	"context"
	"errors"
	"time"

	"github.com/docker/docker/api/types/container"
	"github.com/docker/docker/client"
)

// Kill sends a signal. The engine (tried with 20.10) takes any signal for the beginning of a stop by hand: with "restart:
// unless-stopped" the container is not started after a reboot, and where StopSignal is empty or the very signal, no policy
// starts it when it ends, be it by the signal or by a crash much later. Its next start puts both right.
func (e *Engine) Kill(ctx context.Context, nameOrID, signal string) error {
	if signal == "" {
		return errors.New("no signal named: the engine would take that for KILL")
	}
	return e.call(ctx, callTimeout, "POST /containers/{id}/kill", func(ctx context.Context, api *client.Client) error {
		return api.ContainerKill(ctx, nameOrID, signal)
	})
}

// Restart stops and starts a container, or starts one that is stopped. No error means that it was started, not that it still runs.
func (e *Engine) Restart(ctx context.Context, nameOrID string) error {
	return e.RestartWithin(ctx, nameOrID, stopTimeout)
}

// RestartWithin is Restart with a time of one's own, in whole seconds, for the container to end by itself.
func (e *Engine) RestartWithin(ctx context.Context, nameOrID string, limit time.Duration) error {
	seconds := int(limit / time.Second)
	return e.call(ctx, limit+30*time.Second, "POST /containers/{id}/restart", func(ctx context.Context, api *client.Client) error {
		return api.ContainerRestart(ctx, nameOrID, container.StopOptions{Timeout: &seconds})
	})
}
