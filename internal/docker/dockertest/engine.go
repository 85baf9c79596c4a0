// Package dockertest is a Docker engine in process, on a real unix socket, for what a real engine cannot be made to do and for the
// demo. It speaks the few calls of the API that sidecert makes, and runs nothing: a container is what it was declared to be.
package dockertest

import (
	"crypto/sha256"
	"fmt"
	"maps"
	"net"
	"net/http"
	"slices"
	"strings"
	"sync"
	"time"
)

// Container is one that the engine claims to have.
type Container struct {
	// ID is made from Name where it is empty.
	ID, Name         string
	Image            string
	Command          []string
	Env              []string // NAME=value
	Project, Service string
	Labels           map[string]string // besides Compose's
	RestartPolicy    string
	NetworkMode      string
	// StopSignal is SIGTERM where it is empty, and none where it is "none".
	StopSignal string
	// Networks are its addresses by network; nil is 127.0.0.1 in "default", where a server of this process can be found.
	Networks map[string]string
	// Gateway is that of all Networks.
	Gateway string
	// Ports are as the API has them: {"38291/tcp": {{HostPort: "443"}}}.
	Ports  map[string][]Port
	Mounts []Mount
	// Status is "running" where it is empty; StartedAt an hour ago.
	Status                string
	StartedAt, FinishedAt time.Time
	ExitCode              int
	// Health is that of its health check; "" is none.
	Health string
}

// Port is where a port is published on the host.
type Port struct {
	HostIP   string `json:"HostIp"`
	HostPort string
}

// Mount is a volume or a folder of the host in a container, as the API has it.
type Mount struct {
	Type, Name, Source, Destination string
	RW                              bool
}

// Engine is the fake. Its methods may be called at any time by any goroutine.
type Engine struct {
	server   *http.Server
	listener net.Listener

	mu         sync.Mutex
	containers map[string]*Container // by ID
	execs      map[string]exec       // by ID
	forbidden  []string
	deeds      []string
	min, max   string
	onKill     func(id, signal string)
	onRestart  func(id string)
	words      string
	listeners  []chan map[string]any
	since      []string
	onExec     func(id string, command []string) (exitCode int)
}

type exec struct {
	container string
	command   []string
	started   bool
	exitCode  int
}

// Start serves an engine without containers on a socket at a path, which must not exist yet.
func Start(socketPath string) (*Engine, error) {
	l, err := net.Listen("unix", socketPath)
	if err != nil {
		return nil, fmt.Errorf("start fake engine: %w", err)
	}
	e := &Engine{listener: l, containers: map[string]*Container{}, execs: map[string]exec{}, min: "1.12", max: "1.41"}
	e.server = &http.Server{Handler: e, ReadHeaderTimeout: 10 * time.Second}
	go e.server.Serve(l)
	return e, nil
}

// Close ends the engine and removes its socket.
func (e *Engine) Close() error { return e.server.Close() }

// Host is the engine's address as DOCKER_HOST spells it.
func (e *Engine) Host() string { return "unix://" + e.listener.Addr().String() }

// Add declares a container, in place of the one with the same ID if there is one, and returns its ID.
func (e *Engine) Add(c Container) string {
	e.mu.Lock()
	defer e.mu.Unlock()
	if c.ID == "" {
		c.ID = fmt.Sprintf("%x", sha256.Sum256([]byte(c.Name)))
	}
	if c.Status == "" {
		c.Status = "running"
	}
	if c.StartedAt.IsZero() {
		c.StartedAt = time.Now().Add(-time.Hour)
	}
	switch c.StopSignal {
	case "":
		c.StopSignal = "SIGTERM"
	case "none":
		c.StopSignal = ""
	}
	if c.Networks == nil {
		c.Networks = map[string]string{"default": "127.0.0.1"}
	}
	c.Labels = maps.Clone(c.Labels)
	if c.Labels == nil {
		c.Labels = map[string]string{}
	}
	if c.Project != "" {
		c.Labels["com.docker.compose.project"] = c.Project
	}
	if c.Service != "" {
		c.Labels["com.docker.compose.service"] = c.Service
	}
	e.containers[c.ID] = &c
	return c.ID
}

// Remove forgets a container.
func (e *Engine) Remove(id string) {
	e.mu.Lock()
	defer e.mu.Unlock()
	delete(e.containers, id)
}

// Ail sets a container's health.
func (e *Engine) Ail(id, health string) {
	e.mu.Lock()
	defer e.mu.Unlock()
	if c := e.containers[id]; c != nil {
		c.Health = health
	}
}

// Stop makes a container one that has ended by itself.
func (e *Engine) Stop(id string, exitCode int) {
	e.mu.Lock()
	defer e.mu.Unlock()
	if c := e.containers[id]; c != nil {
		c.Status, c.ExitCode, c.FinishedAt = "exited", exitCode, time.Now()
	}
}

// Forbid makes the engine answer a call with 403, as a socket proxy does. The call is spelled as in errors:
// "POST /containers/{id}/kill".
func (e *Engine) Forbid(calls ...string) {
	e.mu.Lock()
	defer e.mu.Unlock()
	e.forbidden = append(e.forbidden, calls...)
}

// Versions sets the API versions that are spoken; 1.12 to 1.41 unless told.
func (e *Engine) Versions(min, max string) {
	e.mu.Lock()
	defer e.mu.Unlock()
	e.min, e.max = min, max
}

// OnKill, OnRestart and OnExec set what happens in a container, by its ID, before the call is answered. Without them
// nothing does, and a command's exit code is 0.
func (e *Engine) OnKill(f func(id, signal string)) { e.mu.Lock(); defer e.mu.Unlock(); e.onKill = f }

func (e *Engine) OnRestart(f func(id string)) { e.mu.Lock(); defer e.mu.Unlock(); e.onRestart = f }

func (e *Engine) OnExec(f func(id string, command []string) (exitCode int)) {
	e.mu.Lock()
	defer e.mu.Unlock()
	e.onExec = f
}

// Say is what every command prints and every container's log holds from now on.
func (e *Engine) Say(words string) { e.mu.Lock(); defer e.mu.Unlock(); e.words = words }

// Tell tells all who listen of an event of a container.
func (e *Engine) Tell(action, name string) {
	e.mu.Lock()
	defer e.mu.Unlock()
	event := map[string]any{"Type": "container", "Action": action, "timeNano": time.Now().UnixNano()}
	attributes := map[string]string{"name": name}
	if c := e.find(name); c != nil {
		maps.Copy(attributes, c.Labels)
		event["Actor"] = map[string]any{"ID": c.ID, "Attributes": attributes}
	}
	for _, l := range e.listeners {
		l <- event
	}
}

// CutEvents ends all streams of events, as an engine does that is restarted.
func (e *Engine) CutEvents() {
	e.mu.Lock()
	defer e.mu.Unlock()
	for _, l := range e.listeners {
		close(l)
	}
	e.listeners = nil
}

// Listened are the times since which events were asked for, in order, "" for those to come.
func (e *Engine) Listened() []string {
	e.mu.Lock()
	defer e.mu.Unlock()
	return slices.Clone(e.since)
}

// Deeds are what was done to containers so far, by their names: "kill web HUP", "restart web", "exec web nginx -s reload".
// Refused ones are not among them.
func (e *Engine) Deeds() []string {
	e.mu.Lock()
	defer e.mu.Unlock()
	return slices.Clone(e.deeds)
}

// find takes a name, an ID or the beginning of one, as the engine does. The lock is held.
func (e *Engine) find(nameOrID string) *Container {
	for _, c := range e.containers {
		if c.ID == nameOrID || c.Name == nameOrID {
			return c
		}
	}
	for _, c := range e.containers {
		if strings.HasPrefix(c.ID, nameOrID) {
			return c
		}
	}
	return nil
}
