package docker

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"syscall"

	"github.com/containerd/errdefs"
	"github.com/docker/docker/client"
)

// What went wrong with a call, for errors.Is.
var (
	ErrNotFound = errors.New("no such container")
	// ErrForbidden is a socket proxy's 403.
	ErrForbidden = errors.New("refused by the socket proxy")
	// ErrNotRunning is the engine's 409 to what only a running container can be told.
	ErrNotRunning = errors.New("container is not running")
	// ErrUnavailable: nobody answers, or not in time.
	ErrUnavailable = errors.New("docker engine does not answer")
)

// refine names the call and what its error means. An end of ctx that the caller brought about stays what it is.
func refine(ctx context.Context, call string, err error) error {
	meaning := meaningOf(err)
	switch {
	case err == nil:
		return nil
	case errors.Is(ctx.Err(), context.Canceled):
		return fmt.Errorf("%s: %w", call, ctx.Err())
	case meaning == nil:
		return fmt.Errorf("%s: %w", call, err)
	case errors.Is(meaning, ErrForbidden):
		return fmt.Errorf("%s: %w", call, meaning) // the proxy's own words are a web page at best
	}
	return fmt.Errorf("%s: %w: %w", call, meaning, err)
}

func meaningOf(err error) error {
	switch {
	case errdefs.IsNotFound(err):
		return ErrNotFound
	case errdefs.IsPermissionDenied(err):
		return ErrForbidden
	case errdefs.IsConflict(err):
		return ErrNotRunning
	case client.IsErrConnectionFailed(err), errdefs.IsUnavailable(err), errors.Is(err, context.DeadlineExceeded):
		return ErrUnavailable
	}
	return nil
}

// Advice says what a person can do about an engine that does not answer; "" where we do not know better than the error.
func (e *Engine) Advice(err error) string {
	if !errors.Is(err, ErrUnavailable) {
		return ""
	}
	socket := e.socket()
	if socket == "" {
		return fmt.Sprintf("nothing answers at %s: see that the socket proxy runs and shares a network with sidecert, or correct DOCKER_HOST", e.host)
	}
	info, statErr := os.Stat(socket)
	switch {
	case errors.Is(statErr, fs.ErrNotExist):
		return fmt.Sprintf("there is no %s here: mount it (volumes: [%s:%s]), or set DOCKER_HOST to a socket proxy", socket, socket, socket)
	case statErr != nil:
		return fmt.Sprintf("%s cannot be reached: %v", socket, statErr)
	case info.Mode()&fs.ModeSocket == 0:
		return fmt.Sprintf("%s is no socket: Docker makes a folder of a mounted path that does not exist on the host; correct the left side of the mount", socket)
	case errors.Is(err, fs.ErrPermission):
		return fmt.Sprintf("%s belongs to group %d, which sidecert is not in: add group_add: [\"%d\"] to its service", socket, info.Sys().(*syscall.Stat_t).Gid, info.Sys().(*syscall.Stat_t).Gid)
	}
	return fmt.Sprintf("%s is there but nobody answers: see that the Docker engine runs", socket)
}
