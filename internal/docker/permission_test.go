package docker_test

import (
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"syscall"
	"testing"

	"github.com/sidecert/sidecert/internal/docker"
	"github.com/sidecert/sidecert/internal/docker/dockertest"
)

// TestSocketOfAnotherGroupIsNamedWithItsNumber runs itself as somebody who may not use the socket.
func TestSocketOfAnotherGroupIsNamedWithItsNumber(t *testing.T) {
	const variable = "SIDECERT_TEST_SOCKET"
	if host := os.Getenv(variable); host != "" {
		wantAdvice(t, docker.Config{Host: host}, `belongs to group 12345, which sidecert is not in: add group_add: ["12345"]`)
		return
	}
	if os.Getuid() != 0 {
		t.Skip("only root can give a socket to another group")
	}
	dir, err := os.MkdirTemp("", "socket") // which everybody may enter, as a test's own may not
	if err != nil {
		t.Fatal(err)
	}
	defer os.RemoveAll(dir)
	socket := filepath.Join(dir, "docker.sock")
	f, err := dockertest.Start(socket)
	if err != nil {
		t.Fatal(err)
	}
	defer f.Close()
	program, err := os.ReadFile(os.Args[0])
	if err != nil {
		t.Fatal(err)
	}
	copied := filepath.Join(dir, "test")
	if err := os.WriteFile(copied, program, 0o755); err != nil {
		t.Fatal(err)
	}
	for _, err := range []error{os.Chmod(dir, 0o755), os.Chmod(copied, 0o755), os.Chown(socket, 0, 12345), os.Chmod(socket, 0o660)} {
		if err != nil {
			t.Fatal(err)
		}
	}
	cmd := exec.Command(copied, "-test.run=^"+t.Name()+"$", "-test.v")
	cmd.Dir, cmd.Env = dir, append(os.Environ(), variable+"="+f.Host())
	cmd.SysProcAttr = &syscall.SysProcAttr{Credential: &syscall.Credential{Uid: 65534, Gid: 65534}}
	if out, err := cmd.CombinedOutput(); err != nil || !strings.Contains(string(out), "--- PASS") {
		t.Errorf("%v\n%s", err, out)
	}
}
