package main

import (
	"bytes"
	"context"
	"net"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/sidecert/sidecert/internal/docker/dockertest"
)

// shared is a buffer that a command writes to while the test reads.
type shared struct {
	mu sync.Mutex
	b  bytes.Buffer
}

func (s *shared) Write(p []byte) (int, error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.b.Write(p)
}

func (s *shared) String() string {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.b.String()
}

func TestSocketProxyStaysUpWithoutAnEngineAndIsHealthyWithOne(t *testing.T) {
	dir := t.TempDir()
	socket, engine := filepath.Join(dir, "run", "docker.sock"), filepath.Join(dir, "engine.sock")
	environ := []string{
		"SOCKET_PROXY_LISTEN=unix://" + socket, "DOCKER_HOST=unix://" + engine, "DOMAINS=a.example",
		"RELOAD=web:exec=/reload.sh;app:exec=nginx -s reload",
	}
	ctx, stop := context.WithCancel(t.Context())
	defer stop()
	var log shared
	ended := make(chan int)
	go func() {
		ended <- run(ctx, &invocation{args: []string{"socket-proxy"}, environ: environ, stderr: &log})
	}()
	until := func(what string, is func() bool) {
		t.Helper()
		for end := time.Now().Add(10 * time.Second); !is(); time.Sleep(10 * time.Millisecond) {
			if time.Now().After(end) {
				t.Fatalf("not in time: %s\n%s", what, log.String())
			}
		}
	}
	until("it listens", func() bool {
		conn, err := net.Dial("unix", socket)
		if err == nil {
			conn.Close()
		}
		return err == nil
	})
	var out bytes.Buffer
	if err := checkProxy(ctx, &invocation{environ: environ, stdout: &out}); err == nil || out.Len() > 0 {
		t.Errorf("without an engine it is healthy: %q", out.String())
	}
	fake, err := dockertest.Start(engine)
	if err != nil {
		t.Fatal(err)
	}
	defer fake.Close()
	if err := checkProxy(ctx, &invocation{environ: environ, stdout: &out}); err != nil || out.String() != "healthy\n" {
		t.Errorf("with an engine: %q, %v", out.String(), err)
	}
	until("it has said all", func() bool { return strings.Contains(log.String(), "engine does not answer yet") })
	for _, want := range []string{
		`level=INFO msg="socket proxy started"`, `reload="[web app]" discover=project`, `level=WARN msg="DOMAINS does nothing for the socket proxy"`,
		`level=WARN msg="command is not let through" target=web action="exec /reload.sh"`,
	} {
		if strings.Count(log.String(), want) != 1 {
			t.Errorf("the log has not once %s:\n%s", want, log.String())
		}
	}
	if strings.Contains(log.String(), "target=app") {
		t.Errorf("a command that is let through is warned of:\n%s", log.String())
	}
	stop()
	if status := <-ended; status != exitDone {
		t.Errorf("exit status %d after being told to stop, want 0", status)
	}
	if _, err := os.Lstat(socket); err == nil {
		t.Error("the socket stays behind")
	}
}

func TestSocketProxysMistakesEndItWithStatus2(t *testing.T) {
	var stderr bytes.Buffer
	status := run(t.Context(), &invocation{args: []string{"socket-proxy"}, environ: []string{"RELOAD=web:KILL", "DISCOVER=x"}, stderr: &stderr})
	if status != exitUsage || strings.Count(stderr.String(), "sidecert: error: ") != 2 {
		t.Errorf("exit status %d with\n%s\nwant 2 and both mistakes", status, &stderr)
	}
}

func TestHealthcheckKnowsTheContainerOfASocketProxy(t *testing.T) {
	for cmdline, want := range map[string]bool{
		"sidecert\x00socket-proxy\x00":                                           true,
		"/usr/local/bin/sidecert\x00socket-proxy\x00":                            true,
		"/sbin/docker-init\x00--\x00/usr/local/bin/sidecert\x00socket-proxy\x00": true,
		"sidecert\x00run\x00":                                                    false,
		"socket-proxy\x00":                                                       false,
		"other\x00socket-proxy\x00-x\x00":                                        false,
		"":                                                                       false,
	} {
		if got := runsProxy(cmdline); got != want {
			t.Errorf("runsProxy(%q) = %v, want %v", cmdline, got, want)
		}
	}
}
