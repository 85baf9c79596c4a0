package docker

import (
	"bufio"
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"mime"
	"net/http"
	"strings"

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

// wantsTLSError is an HTTPS port's answer to plain HTTP.
type wantsTLSError struct{}

func (*wantsTLSError) Error() string        { return "it speaks TLS only" }
func (*wantsTLSError) Is(target error) bool { return target == ErrUnavailable }

// behindError is what a socket proxy answers for an engine that it does not reach.
type behindError struct{ status string }

func (e *behindError) Error() string {
	return fmt.Sprintf("the socket proxy does not reach the engine: it says %.60q", e.status)
}
func (e *behindError) Is(target error) bool { return target == ErrUnavailable }

// versionError is an engine's refusal of the version of its API that it was spoken to in.
type versionError struct {
	spoken, wanted string
	err            error
}

func (e *versionError) Error() string {
	return fmt.Sprintf("the engine refuses version %s of its API: %v", e.spoken, e.err)
}
func (e *versionError) Unwrap() error        { return e.err }
func (e *versionError) Is(target error) bool { return target == ErrUnavailable }

// errNoID is for an answer in JSON that has nothing of what was asked for.
var errNoID = &strangerError{"its answer has no ID"}

// stranger tells an answer that no engine gives, or nil. An engine's own answers name its API version (tried with 20.10) and are no
// text but the ping's; what a socket proxy refuses, or answers for an engine that is away, may be any text.
func stranger(resp *http.Response) error {
	kind, _, _ := mime.ParseMediaType(resp.Header.Get("Content-Type"))
	switch resp.StatusCode {
	case http.StatusBadGateway, http.StatusServiceUnavailable, http.StatusGatewayTimeout:
		if resp.Header.Get("Api-Version") == "" {
			return &behindError{resp.Status}
		}
	case http.StatusBadRequest:
		if resp.Header.Get("Api-Version") == "" && resp.Request.URL.Scheme == "http" && mentionsHTTPS(resp) {
			return &wantsTLSError{}
		}
	}
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

// mentionsHTTPS recognizes what Go's server (dockerd's too), nginx and httpd say of plain HTTP at their HTTPS port.
func mentionsHTTPS(resp *http.Response) bool {
	body := bufio.NewReader(resp.Body)
	resp.Body = struct {
		io.Reader
		io.Closer
	}{body, resp.Body}
	words, _ := body.Peek(maxWords)
	return bytes.Contains(words, []byte("HTTPS")) || bytes.Contains(words, []byte("SSL-enabled"))
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
	var behind *behindError
	var tlsOnly *wantsTLSError
	var version *versionError
	switch {
	case err == nil:
		return nil
	case errors.Is(ctx.Err(), context.Canceled):
		return fmt.Errorf("%s: %w", call, ctx.Err())
	case isStrange:
		return fmt.Errorf("%s: %w", call, strange)
	case errors.As(err, &behind):
		return fmt.Errorf("%s: %w", call, behind)
	case errors.As(err, &tlsOnly), err != nil && strings.Contains(err.Error(), `malformed HTTP response "\x15`): // a TLS alert
		return fmt.Errorf("%s: %w", call, tlsOnly)
	case unreadable(err):
		return fmt.Errorf("%s: %w", call, &strangerError{"its answer cannot be read"})
	case meaning == nil, errors.As(err, &version):
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
