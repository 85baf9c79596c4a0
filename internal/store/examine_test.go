package store

import (
	"os"
	"path/filepath"
	"strings"
	"testing"

	"golang.org/x/sys/unix"

	"github.com/sidecert/sidecert/internal/cert"
)

// found returns the findings of a topic that are at least so bad.
func found(all []cert.Finding, topic string, level cert.Level) (out []cert.Finding) {
	for _, f := range all {
		if f.Topic == topic && f.Level >= level {
			out = append(out, f)
		}
	}
	return out
}

func TestHealthyVolumesHaveFewAndGoodFindings(t *testing.T) {
	certDir, stateDir := t.TempDir(), t.TempDir()
	s := open(t, certDir, stateDir)
	save(t, s, bundle())
	all := s.Examine()
	for _, f := range all {
		if f.Level != cert.Fine || f.Hint != "" || f.Text == "" {
			t.Errorf("a healthy volume has the finding %+v", f)
		}
	}
	if len(all) > 8 || len(found(all, "backup", cert.Fine)) != 1 || len(found(all, "keys", cert.Fine)) != 1 {
		t.Errorf("there are %d findings, want a few: %+v", len(all), all)
	}
	for _, dir := range []string{certDir, stateDir} {
		if left, _ := filepath.Glob(filepath.Join(dir, ".sidecert.[tl]*")); len(left) > 0 {
			t.Errorf("Examine() left %v behind", left)
		}
	}
}

func TestKeysThatOthersMayReadAreFound(t *testing.T) {
	dir := t.TempDir()
	if err := os.Chmod(dir, 0o755); err != nil {
		t.Fatal(err)
	}
	s := open(t, dir, t.TempDir())
	save(t, s, bundle())
	certbotAccountAt(t, dir, leFolder, "aaaa", 1)
	key, account := filepath.Join(dir, "archive/example.org/privkey1.pem"), filepath.Join(dir, leFolder, "aaaa", keyJSON)
	for _, file := range []string{key, account} {
		if err := os.Chmod(file, 0o644); err != nil {
			t.Fatal(err)
		}
	}
	bad := found(s.Examine(), "keys", cert.Doubtful)
	if len(bad) != 2 || !strings.Contains(bad[0].Hint, "chmod o-rwx "+key) || !strings.Contains(bad[1].Hint, "chmod go-rwx "+account) {
		t.Errorf("findings are %+v, want both with the chmod line", bad)
	}
	if err := os.Chmod(filepath.Join(dir, "archive"), 0o700); err != nil {
		t.Fatal(err)
	}
	if bad := found(s.Examine(), "keys", cert.Doubtful); len(bad) != 1 {
		t.Errorf("behind a folder of 700 findings are %+v, want the account's alone", bad)
	}
}

func TestVolumesThatAreFullOrReadOnlyAreFound(t *testing.T) {
	for options, want := range map[string]string{"size=512k": "KiB free", "size=8m": "MiB free", "size=80m,nr_inodes=50": "room for"} {
		dir := t.TempDir()
		if err := unix.Mount("tmpfs", dir, "tmpfs", 0, options); err != nil {
			t.Skipf("mounting needs root: %v", err)
		}
		t.Cleanup(func() { unix.Unmount(dir, unix.MNT_DETACH) })
		s := open(t, dir, t.TempDir())
		if bad := found(s.Examine(), "volume", cert.Doubtful); len(bad) != 1 || !strings.Contains(bad[0].Text, want) || !strings.Contains(bad[0].Hint, dir) {
			t.Errorf("%s: findings are %+v, want one that says %q", options, bad, want)
		}
		if err := unix.Mount("", dir, "", unix.MS_REMOUNT|unix.MS_RDONLY, ""); err != nil {
			t.Fatal(err)
		}
		if bad := found(s.Examine(), "volume", cert.Bad); len(bad) == 0 || !strings.Contains(bad[0].Text, "CERT_DIR cannot be written") {
			t.Errorf("read-only: findings are %+v, want one that says so", bad)
		}
	}
}

func TestVolumeWithoutLinksOrExchangeIsDoubtful(t *testing.T) {
	for name, errs := range volumes {
		s := volume(t, t.TempDir(), t.TempDir(), errs, 0)
		if bad := found(s.Examine(), "volume", cert.Doubtful); (len(bad) == 1) != (errs != nil) {
			t.Errorf("%s: findings are %+v", name, bad)
		}
	}
}
