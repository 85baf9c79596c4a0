package docker

import (
	"context"
	"errors"
	"fmt"
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

// Restart stops and starts a container. No error means that it was started, not that it still runs.
func (e *Engine) Restart(ctx context.Context, nameOrID string) error {
	seconds := int(stopTimeout / time.Second)
	return e.call(ctx, stopTimeout+30*time.Second, "POST /containers/{id}/restart", func(ctx context.Context, api *client.Client) error {
		return api.ContainerRestart(ctx, nameOrID, container.StopOptions{Timeout: &seconds})
	})
}

// Start starts a container that is stopped; one that runs is left as it is.
func (e *Engine) Start(ctx context.Context, nameOrID string) error {
	return e.call(ctx, callTimeout, "POST /containers/{id}/start", func(ctx context.Context, api *client.Client) error {
		return api.ContainerStart(ctx, nameOrID, container.StartOptions{})
	})
}

// Exec runs a command in a container and waits for its end, a minute at most. It is started detached and asked after, since
// HAProxy, which many socket proxies are, breaks the connection of an attached one. What it prints is not seen.
func (e *Engine) Exec(ctx context.Context, nameOrID string, command []string) (exitCode int, err error) {
	var id string
	err = e.call(ctx, callTimeout, "POST /containers/{id}/exec", func(ctx context.Context, api *client.Client) error {
		created, err := api.ContainerExecCreate(ctx, nameOrID, container.ExecOptions{Cmd: command})
		id = created.ID
		return err
	})
	if err != nil {
		return 0, err
	}
	err = e.call(ctx, callTimeout, "POST /exec/{id}/start", func(ctx context.Context, api *client.Client) error {
		return api.ContainerExecStart(ctx, id, container.ExecStartOptions{Detach: true})
	})
	if err == nil {
		return e.execEnd(ctx, id)
	}
	// A command that is not there is answered with 400 and the runtime's words; its exit code is a shell's.
	if code, endErr := e.execEnd(ctx, id); endErr == nil && NoCommand(code) {
		return code, nil
	}
	return 0, err
}

// ExecInVain makes the calls that Exec makes after its first for a command that there is none of, which does nothing. ErrNotFound is
// the engine's own answer, so that all of them are let through.
func (e *Engine) ExecInVain(ctx context.Context, id string) error {
	err := e.call(ctx, callTimeout, "POST /exec/{id}/start", func(ctx context.Context, api *client.Client) error {
		return api.ContainerExecStart(ctx, id, container.ExecStartOptions{Detach: true})
	})
	if !errors.Is(err, ErrNotFound) {
		return err
	}
	return e.call(ctx, callTimeout, "GET /exec/{id}/json", func(ctx context.Context, api *client.Client) error {
		_, err := api.ContainerExecInspect(ctx, id)
		return err
	})
}

// NoCommand reports whether an exit code means that the command is not there or cannot be run.
func NoCommand(exitCode int) bool { return exitCode == 126 || exitCode == 127 }

func (e *Engine) execEnd(ctx context.Context, id string) (exitCode int, err error) {
	ctx, cancel := context.WithTimeout(ctx, execTimeout)
	defer cancel()
	for wait := 50 * time.Millisecond; ; wait = min(2*wait, time.Second) {
		var seen container.ExecInspect
		err := e.call(ctx, callTimeout, "GET /exec/{id}/json", func(ctx context.Context, api *client.Client) (err error) {
			seen, err = api.ContainerExecInspect(ctx, id)
			return err
		})
		if err != nil {
			return 0, err
		}
		if !seen.Running {
			return seen.ExitCode, nil
		}
		select {
		case <-ctx.Done():
			return 0, fmt.Errorf("wait for the command's end: %w", ctx.Err())
		case <-time.After(wait):
		}
	}
}
