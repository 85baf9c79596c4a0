package socketproxy

import (
	"bufio"
	"context"
	"fmt"
	"io"
	"log/slog"
	"net"
	"net/http"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/sidecert/sidecert/internal/cert"
	"github.com/sidecert/sidecert/internal/docker"
	"github.com/sidecert/sidecert/internal/docker/enginetest"
	"github.com/sidecert/sidecert/internal/reload"
)

// canary is in every container's environment, and in a label that is not for us.
const canary = "canary-4711"

// stage is two Compose projects in a real engine, and a proxy before it that stands in the first.
type stage struct {
	*enginetest.Stage
	socket  string
	log     *lines
	started string // the engine's clock at the beginning
	mu      sync.Mutex
	heard   []byte // all that the proxy has ever answered
}

// lines is a log.
type lines struct {
	mu   sync.Mutex
	text strings.Builder
}

func (l *lines) Write(p []byte) (int, error) {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.text.Write(p)
}

func (l *lines) String() string {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.text.String()
}

func newStage(t *testing.T, images ...string) *stage {
	t.Helper()
	return &stage{Stage: enginetest.New(t, images...), log: &lines{}, started: fmt.Sprint(time.Now().Unix())}
}

// run starts a container and returns its ID. It is called PROJECT-SERVICE-1.
func (s *stage) run(t *testing.T, project, service, image string, more ...string) string {
	t.Helper()
	name := project + "-" + service + "-1"
	args := []string{"run", "--detach", "--name", name, "--label", "sidecert-test", "--label", "com.docker.compose.project=" + project,
		"--label", "com.docker.compose.service=" + service, "--label", "foreign=" + canary, "--env", "PASSWORD=" + canary}
	t.Cleanup(func() { exec.Command("docker", "rm", "--force", "--volumes", name).Run() })
	at := slices.IndexFunc(more, func(word string) bool { return word == "--" })
	if at < 0 {
		return s.Docker(t, append(append(args, more...), image)...)
	}
	return s.Docker(t, append(append(append(args, more[:at]...), image), more[at+1:]...)...)
}

// housed is the engine as seen from a container of the stage, in which our program runs.
type housed struct {
	*docker.Engine
	in string
}

func (h housed) Self(ctx context.Context) (docker.Container, error) {
	c, err := h.Inspect(ctx, h.in)
	c.Command = append(c.Command, os.Args[0])
	return c, err
}

// proxy starts one that seems to run in a container.
func (s *stage) proxy(t *testing.T, in string, discover reload.Discover, targets ...cert.Target) {
	t.Helper()
	s.socket = filepath.Join(t.TempDir(), "run", "docker.sock")
	l, err := Listen(&net.UnixAddr{Name: s.socket, Net: "unix"})
	if err != nil {
		t.Fatal(err)
	}
	log := slog.New(slog.NewTextHandler(s.log, nil))
	web := reload.New(reload.Config{Engine: housed{s.Engine, in}, Discover: discover, Log: log})
	var labels []string
	for _, target := range targets {
		if target.Label != "" {
			labels = append(labels, target.Label)
		}
	}
	p := New(Config{Engine: s.Engine, Labels: labels, Log: log, Select: func(ctx context.Context) (docker.Container, []docker.Container, error) {
		return web.Select(ctx, targets)
	}})
	enginetest.Serve(t, p, l)
}

// through is an engine for a client of the proxy.
func (s *stage) through(t *testing.T) *docker.Engine {
	t.Helper()
	e, err := docker.New(docker.Config{Host: "unix://" + s.socket})
	if err != nil {
		t.Fatal(err)
	}
	return e
}

// last asks for a ping and the end of the connection: what the proxy has left unread before it shows by the answer that is missing.
const last = "GET /_ping HTTP/1.1\r\nHost: x\r\nConnection: close\r\n\r\n"

// ask writes bytes to the proxy, so many at a time, and returns the status of every answer that comes. Its own last ping, where it is
// answered, is left out.
func (s *stage) ask(t *testing.T, raw string, step int) []int {
	t.Helper()
	conn, err := net.Dial("unix", s.socket)
	if err != nil {
		t.Fatal(err)
	}
	defer conn.Close()
	conn.SetDeadline(time.Now().Add(30 * time.Second))
	go func() { // the proxy may have closed the connection when half of it is written
		for rest := raw + last; rest != ""; {
			n := min(step, len(rest))
			if _, err := io.WriteString(conn, rest[:n]); err != nil {
				return
			}
			rest = rest[n:]
		}
	}()
	method, _, _ := strings.Cut(raw, " ")
	var statuses []int
	var heard strings.Builder
	r := bufio.NewReader(io.TeeReader(conn, &heard))
	closed := false
	for !closed {
		resp, err := http.ReadResponse(r, &http.Request{Method: method})
		if err != nil {
			break
		}
		body, _ := io.ReadAll(resp.Body)
		statuses = append(statuses, resp.StatusCode)
		closed = resp.Close
		if closed && string(body) == "OK" || closed && method == "HEAD" && resp.StatusCode == http.StatusOK {
			statuses = statuses[:len(statuses)-1]
		}
		method = "GET"
	}
	s.mu.Lock()
	s.heard = append(s.heard, heard.String()...)
	s.mu.Unlock()
	return statuses
}
