package store

import (
	"errors"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

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

// A volume that gives every file its own mode, as SMB and 9p do.
func TestKeyOnAVolumeThatRefusesModesIsOpen(t *testing.T) {
	dir := t.TempDir()
	s := volume(t, dir, t.TempDir(), map[string]error{"chmod": unix.EPERM}, 0)
	if err := os.Chmod(dir, 0o755); err != nil {
		t.Fatal(err)
	}
	save(t, s, bundle())
	if s.KeyIsOpen("example.org", 1) {
		t.Error("a key of 600 is open")
	}
	if err := os.Chmod(filepath.Join(dir, "archive/example.org/privkey1.pem"), 0o777); err != nil { // as such a mount shows it
		t.Fatal(err)
	}
	if !s.KeyIsOpen("example.org", 1) || len(found(s.Examine(), "keys", cert.Doubtful)) != 1 {
		t.Error("a key that everybody may read is not told")
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
		bad := found(s.Examine(), "volume", cert.Unknown)
		if len(bad) == 0 || !strings.Contains(bad[0].Text, "CERT_DIR cannot be written") {
			t.Errorf("read-only: findings are %+v, want one that says so", bad)
		}
		for _, f := range bad {
			if strings.Contains(f.Text, "links") {
				t.Errorf("read-only: found %q, want nothing said of links where none can be tried", f.Text)
			}
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

func TestDoctorDoesNotDisturbTheDaemon(t *testing.T) {
	certDir, stateDir := t.TempDir(), t.TempDir()
	daemon, doctor := open(t, certDir, stateDir), open(t, certDir, stateDir)
	done := make(chan struct{})
	var beside sync.WaitGroup
	beside.Go(func() {
		for {
			select {
			case <-done:
				return
			default:
			}
			for _, f := range doctor.Examine() {
				if f.Level != cert.Fine {
					t.Errorf("beside the daemon doctor found %+v", f)
				}
			}
		}
	})
	for range 200 {
		if err := daemon.Try(); err != nil {
			t.Errorf("beside doctor Try() = %v", err)
		}
		daemon.links = nil
		if !daemon.canLink() {
			t.Error("beside doctor the daemon finds that CERT_DIR has no links")
		}
	}
	close(done)
	beside.Wait()
}

func TestWhatAKilledTryHasLeftIsRemovedOnceItIsOld(t *testing.T) {
	dir := t.TempDir()
	s := open(t, dir, t.TempDir())
	for name, age := range map[string]time.Duration{
		".sidecert.try": 2 * time.Hour, "..sidecert.try-OLD.new": 2 * time.Hour, ".sidecert.try-OLD.a/": 2 * time.Hour,
		".sidecert.try-NEW": time.Minute, ".sidecert.lock": 2 * time.Hour, "sidecert.try": 2 * time.Hour,
	} {
		file := filepath.Join(dir, name)
		var err error
		if strings.HasSuffix(name, "/") {
			err = os.Mkdir(file, 0o700)
		} else {
			err = os.WriteFile(file, nil, 0o600)
		}
		if then := time.Now().Add(-age); err != nil || os.Chtimes(file, then, then) != nil {
			t.Fatal(name, err)
		}
	}
	if err := s.Try(); err != nil {
		t.Fatal(err)
	}
	var left []string
	entries, _ := os.ReadDir(dir)
	for _, e := range entries {
		left = append(left, e.Name())
	}
	if want := []string{".sidecert.lock", ".sidecert.try-NEW", "sidecert.try"}; !slices.Equal(left, want) {
		t.Errorf("Try() left %v, want %v", left, want)
	}
}

// A try that fails is made again every minute.
func TestTryThatFailsLeavesNothingBehind(t *testing.T) {
	for _, op := range []string{"write", "sync", "rename", "syncdir", "symlink"} {
		dir := t.TempDir()
		reached := false
		f := &faulty{fail: func(o string) error {
			if o == op {
				reached = true
				return errors.New("no space left on device")
			}
			return nil
		}}
		err := faultyStore(t, dir, t.TempDir(), f).Try()
		entries, _ := os.ReadDir(dir)
		if !reached || err == nil || len(entries) > 0 {
			t.Errorf("%s fails: reached %t, Try() = %v, left %v", op, reached, err, entries)
		}
	}
}
