package docker

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io/fs"
	"mime"
	"net/http"
	"os"
	"strings"
	"syscall"

	"github.com/containerd/errdefs"
	"github.com/docker/docker/client"
)

// What went wrong with a call, for errors.Is.
var (
	ErrNotFound = errors.New("no such container")
	// ErrForbidden is a socket proxy's 403, or the 405 of one that lets no call of that method through.
	ErrForbidden = errors.New("refused by the socket proxy")
	// ErrNotRunning is the engine's 409 to what only a running container can be told.
	ErrNotRunning = errors.New("container is not running")
	// ErrUnavailable: nobody answers, or not in time.
	ErrUnavailable = errors.New("docker engine does not answer")
)

// strangerError is an answer that no engine gives; for errors.Is it is ErrUnavailable.
type strangerError struct{ answer string }

func (e *strangerError) Error() string        { return "what answers is no Docker engine: " + e.answer }
func (e *strangerError) Is(target error) bool { return target == ErrUnavailable }

// stranger tells an answer that no engine gives, or nil. An engine's own answers name its API version (tried with 20.10) and are no
// text but the ping's; what a socket proxy refuses, or answers for an engine that is away, may be any text.
func stranger(resp *http.Response) error {
	kind, _, _ := mime.ParseMediaType(resp.Header.Get("Content-Type"))
	switch {
	case resp.Header.Get("Api-Version") != "" || !strings.HasPrefix(kind, "text/"):
		return nil
	case resp.StatusCode == http.StatusForbidden, resp.StatusCode >= http.StatusInternalServerError:
		return nil
	case resp.Request.Method == http.MethodHead && resp.StatusCode >= http.StatusBadRequest: // the library asks again by GET
		return nil
	}
	return &strangerError{fmt.Sprintf("it says %.60q with %.60q", resp.Status, kind)}
}

// unreadable reports an answer in JSON that is not what was asked for.
func unreadable(err error) bool {
	_, noJSON := errors.AsType[*json.SyntaxError](err)
	_, otherJSON := errors.AsType[*json.UnmarshalTypeError](err)
	return noJSON || otherJSON
}

// refine names the call and what its error means. An end of ctx that the caller brought about stays what it is.
func refine(ctx context.Context, call string, err error) error {
	meaning := meaningOf(err)
	strange, isStrange := errors.AsType[*strangerError](err)
	switch {
	case err == nil:
		return nil
	case errors.Is(ctx.Err(), context.Canceled):
		return fmt.Errorf("%s: %w", call, ctx.Err())
	case isStrange:
		return fmt.Errorf("%s: %w", call, strange)
	case unreadable(err):
		return fmt.Errorf("%s: %w", call, &strangerError{"its answer cannot be read"})
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
	if _, ok := errors.AsType[*strangerError](err); ok {
		return fmt.Sprintf("what answers at %s is no Docker engine, nor a socket proxy that lets this call through: correct DOCKER_HOST", e.host)
	}
	socket := e.socket()
	if socket == "" {
		return fmt.Sprintf("nothing answers at %s: see that the socket proxy runs and shares a network with sidecert, or correct DOCKER_HOST", e.host)
	}
	info, statErr := os.Stat(socket)
	switch {
	case errors.Is(statErr, fs.ErrNotExist) && e.host != client.DefaultDockerHost:
		return fmt.Sprintf("there is no %s here: mount it (volumes: [%s:%s]); if a socket proxy makes it, mount the volume of both and see that the proxy runs", socket, socket, socket)
	case errors.Is(statErr, fs.ErrNotExist):
		return fmt.Sprintf("there is no %s here: mount it (volumes: [%s:%s]), or set DOCKER_HOST to a socket proxy", socket, socket, socket)
	case statErr != nil:
		return fmt.Sprintf("%s cannot be reached: %v", socket, statErr)
	case info.Mode()&fs.ModeSocket == 0:
		return fmt.Sprintf("%s is no socket: Docker makes a folder of a mounted path that does not exist on the host; correct the left side of the mount", socket)
	case errors.Is(err, fs.ErrPermission):
		return fmt.Sprintf("%s belongs to group %d, which sidecert is not in: add group_add: [\"%d\"] to its service", socket, info.Sys().(*syscall.Stat_t).Gid, info.Sys().(*syscall.Stat_t).Gid)
	}
	return fmt.Sprintf("%s is there but nobody answers: see that the Docker engine runs, or the socket proxy whose it is", socket)
}
