package config

import (
	"os"
	"path/filepath"
	"strings"
	"syscall"
	"testing"

	"github.com/sidecert/sidecert/internal/cert"
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

func TestWhatCertbotMadeIsFound(t *testing.T) {
	const certbots = "# renew_before_expiry = 30 days\nversion = 2.0.0\n"
	const ourOwn = "version = 2.0.0\n" + cert.ConfMark + ". Its settings are elsewhere.\n"
	for _, test := range []struct {
		name string
		// files are those in renewal/.
		files map[string]string
		want  bool
	}{
		{"certbot's conf", map[string]string{"a.conf": certbots}, true},
		{"certbot's among ours", map[string]string{"a.conf": ourOwn, "b.conf": certbots, "c.conf": ourOwn}, true},
		{"an empty one, which its adoption will tell of", map[string]string{"a.conf": ""}, true},
		{"our own", map[string]string{"a.conf": ourOwn}, false},
		{"our own, which certbot has written once", map[string]string{"a.conf": certbots + ourOwn}, false},
		{"certbot's with our name in it", map[string]string{"a.conf": certbots + "pre_hook = echo " + cert.ConfMark + "\n"}, true},
		{"nothing that certbot would read", map[string]string{"README": certbots, "a.conf.bak": certbots, ".a.conf": certbots, ".conf": certbots}, false},
		{"nothing", nil, false},
	} {
		t.Run(test.name, func(t *testing.T) {
			dir := t.TempDir()
			for name, text := range test.files {
				write(t, filepath.Join(dir, "renewal", name), text)
			}
			if got := HostWorld().Adoptable(dir); got != test.want {
				t.Errorf("Adoptable() = %v, want %v", got, test.want)
			}
		})
	}
}

func TestWhatIsNoConfIsNotOpened(t *testing.T) {
	dir := t.TempDir()
	renewal := filepath.Join(dir, "renewal")
	if err := os.MkdirAll(filepath.Join(renewal, "folder.conf"), 0o755); err != nil {
		t.Fatal(err)
	}
	if err := syscall.Mkfifo(filepath.Join(renewal, "pipe.conf"), 0o600); err != nil {
		t.Fatal(err)
	}
	if err := os.Symlink("gone", filepath.Join(renewal, "dangling.conf")); err != nil {
		t.Fatal(err)
	}
	if HostWorld().Adoptable(dir) {
		t.Error("a folder, a pipe or a dangling link is taken for a conf")
	}
	if HostWorld().Adoptable(filepath.Join(dir, "none")) {
		t.Error("a CERT_DIR that is not there is taken for certbot's")
	}
}

func write(t *testing.T, path, text string) {
	t.Helper()
	if err := os.MkdirAll(filepath.Dir(path), 0o755); err != nil {
		t.Fatal(err)
	}
	if err := os.WriteFile(path, []byte(text), 0o600); err != nil {
		t.Fatal(err)
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
