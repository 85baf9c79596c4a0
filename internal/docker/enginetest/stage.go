// Package enginetest puts real containers into a real Docker engine, for tests: each has a Compose project of its own, which is taken down with
// it. Without an engine or an image a test is skipped, unless CI=true or SIDECERT_REQUIRE_DOCKER=1 says that there has to be one.
package enginetest

import (
	"context"
	"crypto/rand"
	"fmt"
	"net"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/sidecert/sidecert/internal/cert"
	"github.com/sidecert/sidecert/internal/docker"
)

// Stage is a Compose project in a real engine, with a folder that its containers have as /tls.
type Stage struct {
	Engine  *docker.Engine
	Project string
	TLS     string
}

// New returns a stage where nothing runs yet.
func New(t *testing.T, images ...string) *Stage {
	t.Helper()
	absent := t.Skipf
	if os.Getenv("CI") == "true" || os.Getenv("SIDECERT_REQUIRE_DOCKER") == "1" {
		absent = t.Fatalf
	}
	engine, err := docker.New(docker.Config{Host: os.Getenv("DOCKER_HOST")})
	if err != nil {
		t.Fatal(err)
	}
	if _, err := engine.Ping(t.Context()); err != nil {
		absent("no Docker engine to test with: %v", err)
	}
	for _, image := range images {
		if err := exec.Command("docker", "image", "inspect", image).Run(); err != nil {
			absent("no image %s to test with: docker pull %s", image, image)
		}
	}
	return &Stage{engine, "sidecert-test-" + strings.ToLower(rand.Text()[:8]), t.TempDir()}
}

// Name is what Run calls a container.
func (s *Stage) Name(service string, number int) string {
	return fmt.Sprintf("%s-%s-%d", s.Project, service, number)
}

// Run starts a container of a service; before are flags of docker run, after the image and the command.
func (s *Stage) Run(t *testing.T, service string, number int, before []string, after ...string) (name string) {
	t.Helper()
	name = s.Name(service, number)
	args := []string{
		"run", "--detach", "--name", name, "--label", "sidecert-test", "--label", "com.docker.compose.project=" + s.Project,
		"--label", "com.docker.compose.service=" + service, "--volume", s.TLS + ":/tls:ro",
	}
	t.Cleanup(func() { exec.Command("docker", "rm", "--force", "--volumes", name).Run() })
	s.Docker(t, append(append(args, before...), after...)...)
	return name
}

// Docker runs the docker command and returns what it printed.
func (s *Stage) Docker(t *testing.T, args ...string) string {
	t.Helper()
	out, err := exec.Command("docker", args...).CombinedOutput()
	if err != nil {
		t.Fatalf("docker %s: %v\n%s", strings.Join(args, " "), err, out)
	}
	return strings.TrimSpace(string(out))
}

// File writes one for a mount, readable by every user.
func (s *Stage) File(t *testing.T, name, text string) (path string) {
	t.Helper()
	path = filepath.Join(s.TLS, name)
	if err := os.WriteFile(path, []byte(text), 0o644); err != nil {
		t.Fatal(err)
	}
	return path
}

// Store puts a version where the web servers read it.
func (s *Stage) Store(t *testing.T, b cert.Bundle) {
	t.Helper()
	pem, err := b.PEM()
	if err != nil {
		t.Fatal(err)
	}
	s.File(t, "fullchain.pem", string(pem[cert.FullchainPEM]))
	s.File(t, "privkey.pem", string(pem[cert.PrivkeyPEM]))
	s.File(t, "haproxy.pem", string(pem[cert.FullchainPEM])+string(pem[cert.PrivkeyPEM]))
}

// Signals are the kills that the engine was asked for since the beginning.
func (s *Stage) Signals(t *testing.T, name string) string {
	t.Helper()
	return s.Docker(t, "events", "--since", "10m", "--until", "0s", "--filter", "container="+name, "--filter", "event=kill")
}

// Published is where a port of a container is reached on the host.
func (s *Stage) Published(t *testing.T, name, port string) string {
	t.Helper()
	return strings.Fields(s.Docker(t, "port", name, port))[0]
}

// Reach waits until an engine answers by another way than the stage's own.
func (s *Stage) Reach(t *testing.T, c docker.Config) *docker.Engine {
	t.Helper()
	engine, err := docker.New(c)
	if err != nil {
		t.Fatal(err)
	}
	Until(t, "an engine answers at "+c.Host, func() error {
		ctx, cancel := context.WithTimeout(t.Context(), time.Second)
		defer cancel()
		_, err := engine.Ping(ctx)
		return err
	})
	return engine
}

// Until waits until something is so, a minute at most; is tells what is missing.
func Until(t *testing.T, what string, is func() error) {
	t.Helper()
	for end := time.Now().Add(time.Minute); ; {
		err := is()
		if err == nil {
			return
		}
		if time.Now().After(end) {
			t.Fatalf("waited in vain until %s: %v", what, err)
		}
		select {
		case <-t.Context().Done():
			t.Fatal(t.Context().Err())
		case <-time.After(50 * time.Millisecond):
		}
	}
}

// Serve runs a server until the test ends, or it is stopped before.
func Serve(t *testing.T, s interface {
	Serve(context.Context, net.Listener) error
}, l net.Listener) (stop func()) {
	ctx, cancel := context.WithCancel(context.Background())
	done := make(chan error, 1)
	go func() {
		defer close(done)
		done <- s.Serve(ctx, l)
	}()
	stop = func() {
		cancel()
		if err := <-done; err != nil {
			t.Errorf("Serve() = %v", err)
		}
	}
	t.Cleanup(stop)
	return stop
}
