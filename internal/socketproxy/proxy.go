// Package socketproxy stands between sidecert and the Docker engine and lets through what a reload of certain web containers takes, and
// nothing else. It passes no bytes on: a request is read, decided upon, and done by calls of the proxy's own with the full ID of a
// container; what comes back is told again in as few words as docker.Container has. It decides nothing about certificates.
//
// request.go is what a request must look like, proxy.go what is done about it, answer.go what is told.
package socketproxy

import (
	"context"
	"encoding/json"
	"errors"
	"io"
	"log/slog"
	"net"
	"net/http"
	"slices"
	"strings"
	"time"

	"github.com/sidecert/sidecert/internal/cert"
	"github.com/sidecert/sidecert/internal/docker"
)

// Engine is what is needed of *docker.Engine.
type Engine interface {
	Ping(ctx context.Context) (apiVersion string, err error)
	List(ctx context.Context, f docker.Filter) ([]docker.Container, error)
	Inspect(ctx context.Context, nameOrID string) (docker.Container, error)
	Kill(ctx context.Context, nameOrID, signal string) error
	RestartWithin(ctx context.Context, nameOrID string, limit time.Duration) error
	Exec(ctx context.Context, nameOrID string, command []string) (docker.Ended, error)
	Events(ctx context.Context, after time.Time, actions []string, opened func(), heard func(docker.Event)) error
}

// Config is what a Proxy works with.
type Config struct {
	Engine Engine
	// Select returns our own container, whose zero value means not known, and those that may be told something. It is asked for every
	// request, since containers are recreated and scaled.
	Select func(ctx context.Context) (own docker.Container, allowed []docker.Container, err error)
	// Labels, KEY or KEY=VALUE, are those besides Compose's and sidecert's that a list may be asked to be narrowed by: with any label
	// the values of all could be guessed.
	Labels []string
	Log    *slog.Logger
}

// Proxy answers a part of the engine's API. It may be used by many goroutines.
type Proxy struct {
	engine   Engine
	choose   func(ctx context.Context) (own docker.Container, allowed []docker.Container, err error)
	labels   []string
	log      *slog.Logger
	commands commands
	said     once
	streams  chan struct{} // one for each stream of events
}

const (
	// maxConns is how many connections there may be, and maxStreams how many of them may follow events: sidecert needs two and one.
	maxConns, maxStreams = 64, 8
	// maxHeader is the longest head of a request, in bytes; net/http adds 4 KiB of its own.
	maxHeader = 8 << 10
	// maxBody is the longest body, in bytes: a command has a few words.
	maxBody = 4 << 10
	// readLimit is how long a request may take to come, and writeLimit how long an answer may take to go.
	readLimit, writeLimit = 5 * time.Second, 10 * time.Second
	// idleLimit is how long a connection is kept that asks nothing.
	idleLimit = time.Minute
	// answerLimit is how long the engine may take to answer a ping, or to tell which containers there are.
	answerLimit = 5 * time.Second
)

// New returns a Proxy. It touches nothing.
func New(c Config) *Proxy {
	if c.Log == nil {
		c.Log = slog.New(slog.DiscardHandler)
	}
	return &Proxy{engine: c.Engine, choose: c.Select, labels: c.Labels, log: c.Log, streams: make(chan struct{}, maxStreams)}
}

// Serve answers what comes from l until ctx ends, and closes it.
func (p *Proxy) Serve(ctx context.Context, l net.Listener) error {
	var protocols http.Protocols
	protocols.SetHTTP1(true)
	s := &http.Server{
		Handler: p, ReadHeaderTimeout: readLimit, IdleTimeout: idleLimit, MaxHeaderBytes: maxHeader, Protocols: &protocols,
		DisableGeneralOptionsHandler: true, ErrorLog: slog.NewLogLogger(p.log.Handler(), slog.LevelDebug),
		BaseContext: func(net.Listener) context.Context { return ctx },
	}
	stop := context.AfterFunc(ctx, func() { s.Close() })
	defer stop()
	if err := s.Serve(atMost(l, maxConns)); ctx.Err() == nil {
		return err
	}
	return nil
}

// ServeHTTP answers one request.
func (p *Proxy) ServeHTTP(w http.ResponseWriter, r *http.Request) {
	control := http.NewResponseController(w)
	control.SetReadDeadline(time.Now().Add(readLimit))
	asked := request{
		method: r.Method, target: r.RequestURI, proto: r.Proto, header: r.Header, length: r.ContentLength,
		encoded: len(r.TransferEncoding) > 0 || len(r.Trailer) > 0,
	}
	var err error
	if takesBody(asked) {
		if asked.body, err = io.ReadAll(io.LimitReader(r.Body, maxBody+1)); err != nil {
			w.Header().Set("Connection", "close")
			tell(w, http.StatusBadRequest, "the body cannot be read")
			return
		}
	}
	c, refusal := decide(asked)
	if refusal != nil {
		p.refuse(w, refusal)
		return
	}
	control.SetReadDeadline(time.Time{}) // else its end would end what is done for the request
	ctx := r.Context()
	switch c.what {
	case callPing:
		err = p.ping(ctx, w, r.Method)
	case callList:
		err = p.list(ctx, w, c)
	case callInspect:
		err = p.inspect(ctx, w, c)
	case callEvents:
		err = p.events(ctx, w, c)
	case callKill, callRestart, callExecCreate:
		err = p.act(ctx, w, c)
	case callExecStart:
		err = p.execStart(ctx, w, c)
	case callExecInspect:
		err = p.execInspect(w, c)
	}
	if err != nil && ctx.Err() == nil {
		p.fail(w, c, err)
	}
}

// refuse answers what is not let through. The connection ends, so that nothing that came with it is read as a request.
func (p *Proxy) refuse(w http.ResponseWriter, r *refusal) {
	level := slog.LevelDebug
	if p.said.first(r.Error()) {
		level = slog.LevelInfo
	}
	p.log.Log(context.Background(), level, "call refused", "call", r.what, "why", r.why)
	w.Header().Set("Connection", "close")
	tell(w, http.StatusForbidden, r.Error())
}

// errAbsent is for a container that there is none of, or none for who asks: the two are not told apart.
var errAbsent = errors.New("no such container among those that the socket proxy's RELOAD names")

// errNoCommand is for the ID of a command that was not prepared here, or too long ago.
var errNoCommand = errors.New("no such exec")

var errBusy = errors.New("the socket proxy has too much to do; ask again")

func (p *Proxy) fail(w http.ResponseWriter, c call, err error) {
	status := http.StatusInternalServerError
	switch {
	case errors.Is(err, errAbsent), errors.Is(err, errNoCommand), errors.Is(err, docker.ErrNotFound):
		status = http.StatusNotFound
	case errors.Is(err, docker.ErrForbidden):
		status = http.StatusForbidden
	case errors.Is(err, docker.ErrNotRunning), errors.Is(err, errStarted):
		status = http.StatusConflict
	case errors.Is(err, docker.ErrUnavailable), errors.Is(err, errBusy):
		status = http.StatusServiceUnavailable
	}
	p.log.Debug("call failed", "call", c.what, "status", status, cert.AttrErr, err)
	tell(w, status, c.what+": "+clean(err.Error()))
}

// scope is what there is for one request.
type scope struct {
	own     docker.Container
	allowed []docker.Container
}

func (p *Proxy) scope(ctx context.Context) (scope, error) {
	ctx, cancel := context.WithTimeout(ctx, answerLimit)
	defer cancel()
	own, allowed, err := p.choose(ctx)
	return scope{own, allowed}, err
}

// find returns the one that a request means. A name counts before the beginning of an ID, of which a dozen digits are needed.
func find(all []docker.Container, ref string) (docker.Container, bool) {
	for _, is := range []func(docker.Container) bool{
		func(c docker.Container) bool { return c.ID == ref || c.Name == ref },
		func(c docker.Container) bool { return len(ref) >= shortID && strings.HasPrefix(c.ID, ref) },
	} {
		if i := slices.IndexFunc(all, is); i >= 0 {
			return all[i], true
		}
	}
	return docker.Container{}, false
}

// shortID is how much of an ID is a container's hostname, and what docker ps shows.
const shortID = 12

// visible reports whether a container may be looked at though nothing may be done with it: sidecert itself must be, to know its own
// project and networks, and it is the same image as we are.
func (s scope) visible(c docker.Container) bool {
	same := c.ImageID != "" && c.ImageID == s.own.ImageID || c.Image != "" && c.Image == s.own.Image
	return s.own.ID != "" && s.own.Project != "" && c.Project == s.own.Project && same
}

// meant returns the container that may be told something.
func (p *Proxy) meant(ctx context.Context, c call) (docker.Container, error) {
	s, err := p.scope(ctx)
	if err != nil {
		return docker.Container{}, err
	}
	if found, ok := find(s.allowed, c.id); ok {
		return found, nil
	}
	if there, err := p.engine.Inspect(ctx, c.id); err == nil {
		p.absent(c, there)
	}
	return docker.Container{}, errAbsent
}

// absent tells the proxy's owner, and not who asks, that there is such a container.
func (p *Proxy) absent(c call, there docker.Container) {
	level := slog.LevelDebug
	if p.said.first(c.what + " " + there.ID) {
		level = slog.LevelInfo
	}
	p.log.Log(context.Background(), level, "call refused", "call", c.what, cert.AttrContainer, there.Name, "why", "RELOAD does not name this container, nor does a label mark it")
}

func (p *Proxy) ping(ctx context.Context, w http.ResponseWriter, method string) error {
	ctx, cancel := context.WithTimeout(ctx, answerLimit)
	defer cancel()
	version, err := p.engine.Ping(ctx)
	if err != nil {
		return err
	}
	h := w.Header()
	h.Set("Api-Version", version)
	h.Set("Ostype", "linux")
	h.Set("Docker-Experimental", "false")
	h.Set("Cache-Control", "no-cache, no-store, must-revalidate")
	h.Set("Content-Type", "text/plain; charset=utf-8")
	if method == http.MethodGet {
		io.WriteString(w, "OK")
	}
	return nil
}

// up are the states of the containers that a list has without being asked for all.
var up = []string{"running", "paused", "restarting"}

func (p *Proxy) list(ctx context.Context, w http.ResponseWriter, c call) error {
	s, err := p.scope(ctx)
	if err != nil {
		return err
	}
	all := slices.Clone(s.allowed)
	if s.own.Project != "" {
		project, err := p.engine.List(ctx, docker.Filter{Project: s.own.Project})
		if err != nil {
			return err
		}
		for _, other := range project {
			if _, known := find(all, other.ID); !known && s.visible(other) {
				all = append(all, other)
			}
		}
	}
	labelled, err := p.labelled(ctx, c.filters["label"])
	if err != nil {
		return err
	}
	summaries := []summary{}
	for _, found := range all {
		wanted := c.all || len(c.filters["status"]) > 0 || slices.Contains(up, found.State.Status)
		if wanted && !found.OneOff && labelled(found) && c.filters.matches(found) {
			summaries = append(summaries, summaryOf(found))
		}
	}
	return tellJSON(w, http.StatusOK, summaries)
}

// labelled returns whether a container bears labels. Of those that are neither Compose's nor ours it knows nothing by itself: the engine
// is asked about the ones that RELOAD names, and nobody bears any other.
func (p *Proxy) labelled(ctx context.Context, labels []string) (func(docker.Container) bool, error) {
	bearers := map[string][]docker.Container{}
	for _, label := range labels {
		if slices.Contains(p.labels, label) {
			list, err := p.engine.List(ctx, docker.Filter{Label: label})
			if err != nil {
				return nil, err
			}
			bearers[label] = list
		}
	}
	return func(c docker.Container) bool {
		for _, label := range labels {
			if _, bears := find(bearers[label], c.ID); !bears && !bearsOwn(c, label) {
				return false
			}
		}
		return true
	}, nil
}

// bearsOwn looks among the labels that are told.
func bearsOwn(c docker.Container, label string) bool {
	key, want, valued := strings.Cut(label, "=")
	value, bears := labelsOf(c.Project, c.Service, c.OneOff, c.Labels)[key]
	return bears && (!valued || value == want)
}

func (p *Proxy) inspect(ctx context.Context, w http.ResponseWriter, c call) error {
	s, err := p.scope(ctx)
	if err != nil {
		return err
	}
	if found, ok := find(s.allowed, c.id); ok {
		return tellJSON(w, http.StatusOK, inspectionOf(found))
	}
	there, err := p.engine.Inspect(ctx, c.id)
	if errors.Is(err, docker.ErrUnavailable) {
		return err
	}
	if err != nil { // another one tells of other containers: that the beginning of an ID is that of two
		return errAbsent
	}
	if _, meant := find([]docker.Container{there}, c.id); !meant || !s.visible(there) {
		p.absent(c, there)
		return errAbsent
	}
	return tellJSON(w, http.StatusOK, inspectionOf(there))
}

// act does what changes something.
func (p *Proxy) act(ctx context.Context, w http.ResponseWriter, c call) error {
	to, err := p.meant(ctx, c)
	if err != nil {
		return err
	}
	switch c.what {
	case callKill:
		err = p.engine.Kill(ctx, to.ID, c.signal)
		p.acted(to, c.signal, err)
	case callRestart:
		err = p.engine.RestartWithin(ctx, to.ID, c.wait)
		p.acted(to, "restart", err)
	case callExecCreate:
		if !to.State.Running() {
			return docker.ErrNotRunning
		}
		return tellJSON(w, http.StatusCreated, map[string]string{"Id": p.commands.add(to, c.command, time.Now())})
	}
	if err == nil {
		w.WriteHeader(http.StatusNoContent)
	}
	return err
}

// acted tells the log what was done with a container.
func (p *Proxy) acted(to docker.Container, action string, err error) {
	if err != nil {
		p.log.Warn("container not told", cert.AttrContainer, to.Name, cert.AttrAction, action, cert.AttrErr, clean(err.Error()))
		return
	}
	p.log.Info("container told", cert.AttrContainer, to.Name, cert.AttrAction, action)
}

// tell answers with a message as the engine does.
func tell(w http.ResponseWriter, status int, message string) {
	tellJSON(w, status, map[string]string{"message": message})
}

func tellJSON(w http.ResponseWriter, status int, v any) error {
	data, err := json.Marshal(v)
	if err != nil {
		return err
	}
	http.NewResponseController(w).SetWriteDeadline(time.Now().Add(writeLimit))
	w.Header().Set("Content-Type", "application/json")
	w.WriteHeader(status)
	w.Write(data)
	return nil
}
