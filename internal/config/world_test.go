package config

import (
	"os"
	"path/filepath"
	"strings"
	"syscall"
	"testing"
)

func TestMountsAreFoundInTheKernelsList(t *testing.T) {
	const mountinfo = `1023 988 0:120 / / rw,relatime master:442 - overlay overlay rw
1024 1023 0:123 / /proc rw,nosuid - proc proc rw
1030 1023 8:1 /volumes/certs/_data /etc/letsencrypt rw - ext4 /dev/sda1 rw
1031 1023 8:1 /with\040space /var/my\040www ro - ext4 /dev/sda1 rw
broken line
`
	for path, want := range map[string]bool{
		"/etc/letsencrypt":      true,
		"/etc/letsencrypt/live": true,
		"/etc/letsencrypt2":     false,
		"/etc":                  false,
		"/":                     false,
		"/var/my www/a":         true,
		"/var/lib/sidecert":     false,
	} {
		if got := mounted(mountinfo, path); got != want {
			t.Errorf("mounted(%q) = %v, want %v", path, got, want)
		}
	}
}

func TestHostWorldLooksAtThisMachine(t *testing.T) {
	world := HostWorld()
	if !world.Mounted("/proc/self") {
		t.Error("/proc/self is not on a mount, want /proc to be one")
	}
	if world.Mounted("/") {
		t.Error("/ is on a mount other than the root's")
	}

	dir := t.TempDir()
	file := filepath.Join(dir, "file")
	if err := os.WriteFile(file, []byte("text"), 0o600); err != nil {
		t.Fatal(err)
	}
	if got, err := world.ReadFile(file); string(got) != "text" || err != nil {
		t.Errorf("ReadFile() = %q, %v, want the text", got, err)
	}
}

func TestFilesThatCannotBeValuesAreNotRead(t *testing.T) {
	dir := t.TempDir()
	pipe := filepath.Join(dir, "pipe")
	if err := syscall.Mkfifo(pipe, 0o600); err != nil {
		t.Fatal(err)
	}
	huge := filepath.Join(dir, "huge")
	if err := os.WriteFile(huge, []byte(strings.Repeat("x", maxFile+1)), 0o600); err != nil {
		t.Fatal(err)
	}
	for path, want := range map[string]string{
		pipe:                       "it is no regular file",
		dir:                        "it is no regular file",
		huge:                       "it is longer than 1048576 bytes",
		filepath.Join(dir, "none"): "no such file or directory",
	} {
		if _, err := HostWorld().ReadFile(path); err == nil || cause(err).Error() != want {
			t.Errorf("ReadFile(%s) = %v, want %q", filepath.Base(path), err, want)
		}
	}
}

func TestOnlyWhatTheEngineStartedMustHaveVolumes(t *testing.T) {
	cases := []struct {
		name        string
		pid, parent int
		want        bool
	}{
		{"the container's first process", 1, 0, true},
		{"below an init", 7, 1, true},
		{"by exec", 20, 0, true},
		{"from a developer's shell in a container", 412, 300, false},
	}
	for _, c := range cases {
		if got := byEngine(c.pid, c.parent); got != c.want {
			t.Errorf("%s: byEngine(%d, %d) = %v, want %v", c.name, c.pid, c.parent, got, c.want)
		}
	}
}
