package docker

import (
	"cmp"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net/http"
	"net/url"
	"strings"
	"time"

	"github.com/containerd/errdefs"
	"github.com/containerd/errdefs/pkg/errhttp"
	"github.com/docker/docker/api/types/container"
	"github.com/docker/docker/client"
)

const (
	// execTimeout is how long a command may run in a container before we stop waiting for its exit code.
	execTimeout = time.Minute
	// lastWords is what the output of a command that has ended gets to come through.
	lastWords = time.Second
)

// Ended is how a command in a container ended.
type Ended struct {
	ExitCode int
	// Output is the end of what it printed, 4 KiB at most.
	Output string
}

// Exec runs a command in a container and waits for its end, a minute at most.
func (e *Engine) Exec(ctx context.Context, nameOrID string, command []string) (Ended, error) {
	id, err := e.ExecCreate(ctx, nameOrID, command)
	if err != nil {
		return Ended{}, err
	}
	ctx, cancel := context.WithTimeout(ctx, execTimeout)
	defer cancel()
	var output string
	var startErr error
	streamed := make(chan struct{})
	go func() {
		defer close(streamed)
		output, startErr = e.ExecStart(ctx, id)
	}()
	over := streamed
	for wait := 50 * time.Millisecond; ; wait = min(2*wait, time.Second) {
		select {
		case <-over:
			if startErr != nil {
				return Ended{}, startErr
			}
			over = nil // what is left to learn is the exit code
		case <-time.After(wait):
		}
		code, ended, err := e.ExecInspect(ctx, id)
		switch {
		case ctx.Err() != nil:
			return Ended{}, fmt.Errorf("wait for the command's end: %w", ctx.Err())
		case errors.Is(err, ErrForbidden) && over == nil: // it has run, and what came of it is seen otherwise
			return Ended{0, output}, nil
		case errors.Is(err, ErrForbidden):
			continue
		case err != nil:
			return Ended{}, err
		case !ended:
			continue
		}
		// The command's end counts, and not that of its output, which a child of it may hold open.
		select {
		case <-streamed:
		case <-time.After(lastWords):
			cancel()
			<-streamed
		}
		return Ended{code, output}, nil
	}
}

// ExecCreate prepares a command in a container and returns the ID that it is started by.
func (e *Engine) ExecCreate(ctx context.Context, nameOrID string, command []string) (id string, err error) {
	err = e.call(ctx, callTimeout, "POST /containers/{id}/exec", func(ctx context.Context, api *client.Client) error {
		created, err := api.ContainerExecCreate(ctx, nameOrID, container.ExecOptions{Cmd: command, AttachStdout: true, AttachStderr: true})
		if id = created.ID; err == nil && id == "" {
			return errNoID
		}
		return err
	})
	return id, err
}

// ExecStart starts a command and returns the end of what it printed, once nobody holds its output open. It asks for no upgrade of the
// connection, as the library would: HAProxy, which many socket proxies are, breaks those, and passes a plain stream on.
func (e *Engine) ExecStart(ctx context.Context, id string) (output string, err error) {
	err = e.call(ctx, execTimeout, "POST /exec/{id}/start", func(ctx context.Context, api *client.Client) error {
		resp, err := e.plain(ctx, api, http.MethodPost, "/exec/"+id+"/start", nil, `{"Detach":false,"Tty":false}`)
		if err != nil {
			return err
		}
		defer resp.Body.Close()
		// A stream that is cut has told what it has told; how the command ended is ExecInspect's.
		output, _ = wordsOf(resp.Body)
		return nil
	})
	return output, err
}

// ExecInspect tells whether a command has ended, and how.
func (e *Engine) ExecInspect(ctx context.Context, id string) (exitCode int, ended bool, err error) {
	var seen struct {
		Running  bool
		ExitCode *int // none before the start, which the library does not tell from 0
	}
	err = e.call(ctx, callTimeout, "GET /exec/{id}/json", func(ctx context.Context, api *client.Client) error {
		resp, err := e.plain(ctx, api, http.MethodGet, "/exec/"+id+"/json", nil, "")
		if err != nil {
			return err
		}
		defer resp.Body.Close()
		return json.NewDecoder(resp.Body).Decode(&seen)
	})
	if err != nil || seen.Running || seen.ExitCode == nil {
		return 0, false, err
	}
	return *seen.ExitCode, true, nil
}

// ExecInVain makes the calls that Exec makes after its first for a command that there is none of, which does nothing. ErrNotFound is
// the engine's own answer, so that all of them are let through.
func (e *Engine) ExecInVain(ctx context.Context, id string) error {
	if _, err := e.ExecStart(ctx, id); !errors.Is(err, ErrNotFound) {
		return err
	}
	_, _, err := e.ExecInspect(ctx, id)
	return err
}

// NoCommand reports whether an exit code means that the command is not there or cannot be run.
func NoCommand(exitCode int) bool { return exitCode == 126 || exitCode == 127 }

// plain makes a call that the library has not, or not as we need it, with its errors.
func (e *Engine) plain(ctx context.Context, api *client.Client, method, path string, query url.Values, body string) (*http.Response, error) {
	to := e.base.JoinPath("v"+api.ClientVersion(), path)
	to.RawQuery = query.Encode()
	req, err := http.NewRequestWithContext(ctx, method, to.String(), strings.NewReader(body))
	if err != nil {
		return nil, err
	}
	if body != "" {
		req.Header.Set("Content-Type", "application/json")
	}
	resp, err := api.HTTPClient().Do(req)
	if err != nil && ctx.Err() != nil {
		return nil, err
	}
	if err != nil {
		return nil, fmt.Errorf("%w: %w", errdefs.ErrUnavailable, err)
	}
	if resp.StatusCode < http.StatusBadRequest {
		return resp, nil
	}
	defer resp.Body.Close()
	var said struct{ Message string }
	data, _ := io.ReadAll(io.LimitReader(resp.Body, maxWords))
	if json.Unmarshal(data, &said) != nil {
		said.Message = resp.Status
	}
	return nil, fmt.Errorf("%s: %w", cmp.Or(said.Message, resp.Status), errhttp.ToNative(resp.StatusCode))
}
