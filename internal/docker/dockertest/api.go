package dockertest

import (
	"encoding/json"
	"fmt"
	"net/http"
	"net/netip"
	"regexp"
	"slices"
	"strconv"
	"strings"
	"time"

	"github.com/docker/docker/pkg/stdcopy"
)

var (
	versioned = regexp.MustCompile(`^/v(\d+)\.(\d+)(/.*)$`)
	withID    = regexp.MustCompile(`^/(containers|exec)/([^/]+)/(json|kill|restart|start|exec|logs)$`)
)

// ServeHTTP is the API itself, for a listener of one's own.
func (e *Engine) ServeHTTP(w http.ResponseWriter, r *http.Request) {
	path, id := r.URL.Path, ""
	version := versioned.FindStringSubmatch(path)
	if version != nil {
		path = version[3]
	}
	if m := withID.FindStringSubmatch(path); m != nil {
		path, id = "/"+m[1]+"/{id}/"+m[3], m[2]
	}
	call := r.Method + " " + path
	if e.forbids(call) {
		http.Error(w, "<html>403 Forbidden</html>", http.StatusForbidden)
		return
	}
	if version != nil {
		if words := e.refuses(version[1] + "." + version[2]); words != "" {
			fail(w, http.StatusBadRequest, words)
			return
		}
	}
	e.mu.Lock()
	w.Header().Set("Api-Version", e.max)
	e.mu.Unlock()
	switch call {
	case "HEAD /_ping", "GET /_ping":
		w.Header().Set("Ostype", "linux")
		w.WriteHeader(http.StatusOK)
	case "GET /version":
		answer(w, http.StatusOK, map[string]any{"Version": "20.10.24"})
	case "GET /containers/json":
		e.list(w, r)
	case "GET /containers/{id}/json":
		e.inspect(w, id)
	case "POST /containers/{id}/kill":
		e.kill(w, id, r.URL.Query().Get("signal"))
	case "POST /containers/{id}/restart":
		e.restart(w, id)
	case "GET /containers/{id}/logs":
		e.logs(w, id)
	case "GET /events":
		e.stream(w, r)
	case "POST /containers/{id}/exec":
		e.execCreate(w, r, id)
	case "POST /exec/{id}/start":
		e.execStart(w, id)
	case "GET /exec/{id}/json":
		e.execInspect(w, id)
	default:
		fail(w, http.StatusNotFound, "page not found")
	}
}

func (e *Engine) forbids(call string) bool {
	e.mu.Lock()
	defer e.mu.Unlock()
	return slices.Contains(e.forbidden, call)
}

// refuses answers in the words of a real engine, which clients parse for want of anything better.
func (e *Engine) refuses(version string) string {
	e.mu.Lock()
	defer e.mu.Unlock()
	if minor(version) > minor(e.max) {
		return fmt.Sprintf("client version %s is too new. Maximum supported API version is %s", version, e.max)
	}
	if minor(version) < minor(e.min) {
		return fmt.Sprintf("client version %s is too old. Minimum supported API version is %s, please upgrade your client to a newer version", version, e.min)
	}
	return ""
}

func minor(version string) int {
	_, m, _ := strings.Cut(version, ".")
	n, _ := strconv.Atoi(m)
	return n
}

func (e *Engine) list(w http.ResponseWriter, r *http.Request) {
	var filters struct{ Label map[string]bool }
	if text := r.URL.Query().Get("filters"); text != "" {
		if err := json.Unmarshal([]byte(text), &filters); err != nil {
			fail(w, http.StatusBadRequest, err.Error())
			return
		}
	}
	e.mu.Lock()
	defer e.mu.Unlock()
	list := []any{}
	for _, c := range e.containers {
		if r.URL.Query().Get("all") != "1" && c.Status != "running" {
			continue
		}
		if !c.has(filters.Label) {
			continue
		}
		list = append(list, c.summary())
	}
	answer(w, http.StatusOK, list)
}

func (c *Container) has(labels map[string]bool) bool {
	for label := range labels {
		key, want, valued := strings.Cut(label, "=")
		got, ok := c.Labels[key]
		if !ok || valued && got != want {
			return false
		}
	}
	return true
}

func (c *Container) summary() map[string]any {
	var ports []map[string]any
	for inside, bindings := range c.Ports {
		port, proto, _ := strings.Cut(inside, "/")
		for _, b := range bindings {
			private, _ := strconv.Atoi(port)
			public, _ := strconv.Atoi(b.HostPort)
			ports = append(ports, map[string]any{"IP": b.HostIP, "PrivatePort": private, "PublicPort": public, "Type": proto})
		}
	}
	return map[string]any{
		"Id": c.ID, "Names": []string{"/" + c.Name}, "Image": c.Image, "State": c.Status, "Labels": c.Labels, "Ports": ports,
		"HostConfig":      map[string]any{"NetworkMode": c.NetworkMode},
		"NetworkSettings": map[string]any{"Networks": c.networks()},
	}
}

func (c *Container) networks() map[string]any {
	out := map[string]any{}
	for name, text := range c.Networks {
		endpoint := map[string]any{"Gateway": c.Gateway}
		if addr, err := netip.ParseAddr(text); err == nil && c.Status == "running" {
			if addr.Is6() {
				endpoint["GlobalIPv6Address"] = text
			} else {
				endpoint["IPAddress"] = text
			}
		}
		out[name] = endpoint
	}
	return out
}

func (e *Engine) inspect(w http.ResponseWriter, id string) {
	e.mu.Lock()
	defer e.mu.Unlock()
	c := e.find(id)
	if c == nil {
		missing(w, id)
		return
	}
	path, args := "", c.Command
	if len(args) > 0 {
		path, args = args[0], args[1:]
	}
	state := map[string]any{
		"Status": c.Status, "Running": c.Status == "running", "ExitCode": c.ExitCode,
		"StartedAt": c.StartedAt.UTC().Format(time.RFC3339Nano), "FinishedAt": c.FinishedAt.UTC().Format(time.RFC3339Nano),
	}
	if c.Health != "" {
		state["Health"] = map[string]any{"Status": c.Health}
	}
	answer(w, http.StatusOK, map[string]any{
		"Id": c.ID, "Name": "/" + c.Name, "Path": path, "Args": args, "State": state,
		"HostConfig":      map[string]any{"NetworkMode": c.NetworkMode, "RestartPolicy": map[string]any{"Name": c.RestartPolicy}},
		"Config":          map[string]any{"Image": c.Image, "Labels": c.Labels, "Env": c.Env, "StopSignal": c.StopSignal},
		"NetworkSettings": map[string]any{"Networks": c.networks(), "Ports": c.Ports},
		"Mounts":          c.Mounts,
	})
}

func (e *Engine) kill(w http.ResponseWriter, id, signal string) {
	c, ok := e.told(w, id, "kill", signal)
	if !ok {
		return
	}
	e.mu.Lock()
	hook := e.onKill
	e.mu.Unlock()
	if hook != nil {
		hook(c.ID, signal)
	}
	w.WriteHeader(http.StatusNoContent)
}

// told looks up a running container and remembers the deed; where it cannot be done it answers itself.
func (e *Engine) told(w http.ResponseWriter, id string, deed ...string) (Container, bool) {
	e.mu.Lock()
	defer e.mu.Unlock()
	c := e.find(id)
	if c == nil {
		missing(w, id)
		return Container{}, false
	}
	if c.Status != "running" {
		fail(w, http.StatusConflict, fmt.Sprintf("Container %s is not running", c.ID))
		return Container{}, false
	}
	e.deeds = append(e.deeds, strings.Join(slices.Insert(deed, 1, c.Name), " "))
	return *c, true
}

func (e *Engine) restart(w http.ResponseWriter, id string) {
	e.mu.Lock()
	hook := e.onRestart
	e.mu.Unlock()
	e.run(w, id, "restart", hook)
}

func (e *Engine) run(w http.ResponseWriter, id, deed string, hook func(id string)) {
	e.mu.Lock()
	c := e.find(id)
	if c == nil {
		e.mu.Unlock()
		missing(w, id)
		return
	}
	c.Status, c.ExitCode, c.StartedAt = "running", 0, time.Now()
	e.deeds = append(e.deeds, deed+" "+c.Name)
	full := c.ID
	e.mu.Unlock()
	if hook != nil {
		hook(full)
	}
	w.WriteHeader(http.StatusNoContent)
}

func (e *Engine) execCreate(w http.ResponseWriter, r *http.Request, id string) {
	var asked struct{ Cmd []string }
	if err := json.NewDecoder(r.Body).Decode(&asked); err != nil || len(asked.Cmd) == 0 {
		fail(w, http.StatusBadRequest, "No exec command specified")
		return
	}
	c, ok := e.told(w, id, append([]string{"exec"}, asked.Cmd...)...)
	if !ok {
		return
	}
	e.mu.Lock()
	defer e.mu.Unlock()
	execID := fmt.Sprintf("%064x", len(e.execs)+1)
	e.execs[execID] = exec{container: c.ID, command: asked.Cmd}
	answer(w, http.StatusCreated, map[string]any{"Id": execID})
}

func (e *Engine) execStart(w http.ResponseWriter, id string) {
	e.mu.Lock()
	x, ok := e.execs[id]
	hook := e.onExec
	e.mu.Unlock()
	if !ok {
		fail(w, http.StatusNotFound, "No such exec instance: "+id)
		return
	}
	x.started = true
	if hook != nil {
		x.exitCode = hook(x.container, x.command)
	}
	e.mu.Lock()
	defer e.mu.Unlock()
	e.execs[id] = x
	w.Header().Set("Content-Type", "application/vnd.docker.raw-stream")
	w.WriteHeader(http.StatusOK)
	stdcopy.NewStdWriter(w, stdcopy.Stderr).Write([]byte(e.words))
}

func (e *Engine) logs(w http.ResponseWriter, id string) {
	e.mu.Lock()
	defer e.mu.Unlock()
	if e.find(id) == nil {
		missing(w, id)
		return
	}
	w.Header().Set("Content-Type", "application/vnd.docker.raw-stream")
	w.WriteHeader(http.StatusOK)
	stdcopy.NewStdWriter(w, stdcopy.Stderr).Write([]byte(e.words))
}

// stream tells events as they come, until the client goes or CutEvents. What came before is told to nobody.
func (e *Engine) stream(w http.ResponseWriter, r *http.Request) {
	listener := make(chan map[string]any, 100)
	e.mu.Lock()
	e.listeners = append(e.listeners, listener)
	e.since = append(e.since, r.URL.Query().Get("since"))
	e.mu.Unlock()
	flush := http.NewResponseController(w)
	w.Header().Set("Content-Type", "application/json")
	w.WriteHeader(http.StatusOK)
	flush.Flush()
	out := json.NewEncoder(w)
	for {
		select {
		case <-r.Context().Done():
			return
		case event, ok := <-listener:
			if !ok || out.Encode(event) != nil {
				return
			}
			flush.Flush()
		}
	}
}

func (e *Engine) execInspect(w http.ResponseWriter, id string) {
	e.mu.Lock()
	defer e.mu.Unlock()
	x, ok := e.execs[id]
	if !ok {
		fail(w, http.StatusNotFound, "No such exec instance: "+id)
		return
	}
	seen := map[string]any{"ID": id, "Running": false, "ExitCode": nil, "ContainerID": x.container}
	if x.started {
		seen["ExitCode"] = x.exitCode
	}
	answer(w, http.StatusOK, seen)
}

func missing(w http.ResponseWriter, id string) {
	fail(w, http.StatusNotFound, "No such container: "+id)
}

func fail(w http.ResponseWriter, status int, message string) {
	answer(w, status, map[string]any{"message": message})
}

func answer(w http.ResponseWriter, status int, v any) {
	w.Header().Set("Content-Type", "application/json")
	w.WriteHeader(status)
	json.NewEncoder(w).Encode(v)
}
