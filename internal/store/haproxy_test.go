package store

import (
	"bytes"
	"crypto/tls"
	"errors"
	"io/fs"
	"os"
	"path/filepath"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/sidecert/sidecert/internal/cert"
)

func openHaproxy(t *testing.T, certDir string, change func(o *Options)) *Store {
	t.Helper()
	o := options(certDir, t.TempDir())
	o.Haproxy = true
	if change != nil {
		change(&o)
	}
	s, err := Open(o)
	if err != nil {
		t.Fatal(err)
	}
	return s
}

func wantHaproxyOfLive(t *testing.T, when string, s *Store) {
	t.Helper()
	if err := s.HaproxyIsOfLive("example.org"); err != nil {
		t.Errorf("%s: %v", when, err)
	}
}

func mendHaproxy(t *testing.T, s *Store) string {
	t.Helper()
	did, err := s.Mend(t.Context(), "example.org")
	if err != nil {
		t.Fatal(err)
	}
	return did
}

func TestHaproxyFileIsOfWhatIsLiveFromThePlaceholderOn(t *testing.T) {
	dir := t.TempDir()
	s := openHaproxy(t, dir, nil)
	if _, err := s.Placeholder(t.Context(), "example.org", names); err != nil {
		t.Fatal(err)
	}
	wantHaproxyOfLive(t, "placeholder", s)
	for range 2 {
		save(t, s, bundle())
		wantHaproxyOfLive(t, "saved", s)
	}
	file := filepath.Join(dir, "live/example.org/haproxy.pem")
	pair, err := tls.LoadX509KeyPair(file, file)
	if l, errLineage := s.Lineage("example.org"); err != nil || errLineage != nil || !pair.Leaf.Equal(l.Leaf()) || len(pair.Certificate) != len(l.Chain) {
		t.Errorf("haproxy.pem is no pair of the live version: %v, %v", err, errLineage)
	}
	if info, err := os.Lstat(file); err != nil || info.Mode() != 0o600 {
		t.Errorf("haproxy.pem is %v, %v; want a file of 600", info.Mode(), err)
	}
	if did := mendHaproxy(t, s); did != "" {
		t.Errorf("Mend() = %q, want nothing to do", did)
	}
	if left, _ := filepath.Glob(filepath.Join(dir, "archive/example.org/*haproxy*")); len(left) > 0 {
		t.Errorf("archive/ holds %v", left)
	}
}

func TestHaproxyFileIsMadeForWhatIsStoredAlready(t *testing.T) {
	for name, prepare := range map[string]func(t *testing.T, s *Store){
		"a certificate": func(t *testing.T, s *Store) { save(t, s, bundle()) },
		"a placeholder": func(t *testing.T, s *Store) {
			if _, err := s.Placeholder(t.Context(), "example.org", names); err != nil {
				t.Fatal(err)
			}
		},
	} {
		for kind, errs := range volumes {
			t.Run(name+" on "+kind, func(t *testing.T) {
				dir, stateDir := t.TempDir(), t.TempDir()
				s := volume(t, dir, stateDir, errs, 0)
				prepare(t, s)
				if exists(s.certs, haproxyName("example.org")) || !s.Ready("example.org") || mendHaproxy(t, s) != "" {
					t.Error("without EXTRA_FILES there is a haproxy.pem, or one is missed")
				}
				s.Haproxy = true
				if s.Ready("example.org") {
					t.Error("Ready() before there is a haproxy.pem")
				}
				if did := mendHaproxy(t, s); !strings.Contains(did, "made live/example.org/haproxy.pem") {
					t.Errorf("Mend() = %q, want that it was made", did)
				}
				wantHaproxyOfLive(t, "mended", s)
				if did := mendHaproxy(t, s); did != "" || !s.Ready("example.org") {
					t.Errorf("a second Mend() = %q, want nothing to do", did)
				}
			})
		}
	}
}

// ours makes a haproxy.pem of a bundle.
func ours(t *testing.T, b cert.Bundle) []byte {
	t.Helper()
	data, err := haproxyOf(b)
	if err != nil {
		t.Fatal(err)
	}
	return data
}

func TestHaproxyFileOfOursIsMended(t *testing.T) {
	first, second := ca.Issue(time.Now().Add(-2*time.Hour), life, names...), bundle()
	placeholder, err := cert.Placeholder("example.org", names, time.Now())
	if err != nil {
		t.Fatal(err)
	}
	now := ours(t, second)
	for name, data := range map[string][]byte{
		"of the version before": ours(t, first), "of a placeholder": ours(t, placeholder),
		"empty": nil, "half": now[:len(now)/2], "without the key": now[:bytes.Index(now, []byte("-----BEGIN PRIVATE"))],
		"without its end": now[:len(now)-20], "half of the version before": ours(t, first)[:600], "zeros": append(bytes.Clone(now[:100]), 0, 0, 0),
	} {
		t.Run(name, func(t *testing.T) {
			dir := t.TempDir()
			s := openHaproxy(t, dir, nil)
			save(t, s, first)
			save(t, s, second)
			write(t, filepath.Join(dir, "live/example.org/haproxy.pem"), string(data))
			if did := mendHaproxy(t, s); !strings.Contains(did, "haproxy.pem of version 2") || s.HaproxyIsForeign("example.org") {
				t.Errorf("Mend() = %q, want haproxy.pem made", did)
			}
			wantHaproxyOfLive(t, "mended", s)
		})
	}
}

// A version whose files are damaged is still known by its key.
func TestHaproxyFileOfAVersionThatIsBrokenIsReplaced(t *testing.T) {
	dir := t.TempDir()
	s := openHaproxy(t, dir, nil)
	save(t, s, bundle())
	write(t, filepath.Join(dir, "archive/example.org/fullchain1.pem"), "damaged")
	save(t, s, bundle())
	wantHaproxyOfLive(t, "saved", s)
}

func TestHaproxyFileOfAPersonIsNeverTouched(t *testing.T) {
	first, second, theirs := ca.Issue(time.Now().Add(-2*time.Hour), life, names...), bundle(), ca.Issue(time.Now(), life, "example.org")
	files, err := first.PEM()
	if err != nil {
		t.Fatal(err)
	}
	for name, data := range map[string][]byte{
		"text": []byte("mine\n"), "another certificate's": ours(t, theirs), "key first": append(bytes.Clone(files["privkey"]), files["fullchain"]...),
		"more than ours": append(ours(t, first), "-----BEGIN DH PARAMETERS-----\nMAYCAQUCAQI=\n-----END DH PARAMETERS-----\n"...),
	} {
		for kind, errs := range volumes {
			t.Run(name+" on "+kind, func(t *testing.T) {
				dir, stateDir := t.TempDir(), t.TempDir()
				s := volume(t, dir, stateDir, errs, 0)
				s.Haproxy = true
				save(t, s, first)
				file := filepath.Join(dir, "live/example.org/haproxy.pem")
				write(t, file, string(data))
				if did := mendHaproxy(t, s); did != "" {
					t.Errorf("Mend() = %q, want nothing done", did)
				}
				save(t, s, second)
				if got, err := os.ReadFile(file); err != nil || !bytes.Equal(got, data) {
					t.Errorf("it became %.60q, %v", got, err)
				}
				if !s.HaproxyIsForeign("example.org") || len(found(s.Examine(), "files", cert.Doubtful)) != 1 || !s.Ready("example.org") {
					t.Error("it is not told, or holds up a web server that may do with it")
				}
			})
		}
	}
	t.Run("a link", func(t *testing.T) {
		dir := t.TempDir()
		s := openHaproxy(t, dir, nil)
		write(t, filepath.Join(dir, "live/example.org/haproxy.pem"), "")
		write(t, filepath.Join(dir, "mine.pem"), "")
		file := filepath.Join(dir, "live/example.org/haproxy.pem")
		if err := errors.Join(os.Remove(file), os.Symlink("../../mine.pem", file)); err != nil {
			t.Fatal(err)
		}
		save(t, s, first)
		save(t, s, second)
		if target, err := os.Readlink(file); target != "../../mine.pem" {
			t.Errorf("the link leads to %q, %v", target, err)
		}
		if data, err := os.ReadFile(filepath.Join(dir, "mine.pem")); len(data) > 0 || err != nil {
			t.Errorf("where it leads there are %d bytes, %v", len(data), err)
		}
	})
	t.Run("beside a person's own certificate", func(t *testing.T) {
		dir := t.TempDir()
		s := openHaproxy(t, dir, nil)
		for file, data := range files {
			write(t, filepath.Join(dir, "live/example.org", file+".pem"), string(data))
		}
		if did := mendHaproxy(t, s); did != "" || exists(s.certs, haproxyName("example.org")) || !s.Ready("example.org") {
			t.Errorf("Mend() = %q, want nothing done, nor missed", did)
		}
	})
}

// It is the certificate that visitors see: an old one that nobody follows up would expire in silence.
func TestHaproxyFileThatStandsIsKeptUpWhenNoNewOnesAreWanted(t *testing.T) {
	dir := t.TempDir()
	save(t, openHaproxy(t, dir, nil), ca.Issue(time.Now().Add(-2*time.Hour), life, names...))
	s := open(t, dir, t.TempDir())
	l := save(t, s, bundle())
	wantHaproxyOfLive(t, "saved", s)
	older, err := s.version("example.org", l.Number-1)
	if err != nil {
		t.Fatal(err)
	}
	file := filepath.Join(dir, "live/example.org/haproxy.pem")
	write(t, file, string(ours(t, older)))
	mendHaproxy(t, s)
	wantHaproxyOfLive(t, "mended", s)

	write(t, file, "") // is no longer known for ours, and nobody has asked for one
	if did := mendHaproxy(t, s); did != "" {
		t.Errorf("Mend() = %q of an empty file, want nothing done", did)
	}
	if err := os.Remove(file); err != nil {
		t.Fatal(err)
	}
	mendHaproxy(t, s)
	save(t, s, bundle())
	if exists(s.certs, haproxyName("example.org")) {
		t.Error("one that was removed by hand has come back")
	}
}

func TestHaproxyFileHasTheRightsOfPrivateKeys(t *testing.T) {
	if os.Getuid() != 0 {
		t.Skip("giving files to a group needs root")
	}
	rights := func(dir string) (perm fs.FileMode, gid uint32) {
		t.Helper()
		info, err := os.Lstat(filepath.Join(dir, "live/example.org/haproxy.pem"))
		if err != nil {
			t.Fatal(err)
		}
		return info.Mode().Perm(), info.Sys().(*syscall.Stat_t).Gid
	}
	for name, test := range map[string]struct {
		change func(o *Options)
		after  func(dir string) error // the first version, without a haproxy.pem
		then   func(dir string) error // the first haproxy.pem
		perm   fs.FileMode
		gid    uint32
	}{
		"configured":       {change: func(o *Options) { o.GID, o.FilesPerms = 101, 0o640 }, perm: 0o640, gid: 101},
		"nothing said":     {change: func(o *Options) { o.FilesPerms = 0 }, perm: 0o600},
		"wider before":     {then: func(dir string) error { return os.Chmod(filepath.Join(dir, "live/example.org/haproxy.pem"), 0o664) }, perm: 0o600},
		"those of the key": {change: func(o *Options) { o.FilesPerms = 0 }, after: giveKey, perm: 0o640, gid: 101},
		"given by hand": {change: func(o *Options) { o.FilesPerms = 0 }, then: func(dir string) error {
			file := filepath.Join(dir, "live/example.org/haproxy.pem")
			return errors.Join(os.Chown(file, 0, 102), os.Chmod(file, 0o640))
		}, perm: 0o640, gid: 102},
	} {
		t.Run(name, func(t *testing.T) {
			dir := t.TempDir()
			s := openHaproxy(t, dir, test.change)
			s.Haproxy = false
			save(t, s, bundle())
			if test.after != nil {
				if err := test.after(dir); err != nil {
					t.Fatal(err)
				}
			}
			s.Haproxy = true
			mendHaproxy(t, s)
			if test.then != nil {
				if err := test.then(dir); err != nil {
					t.Fatal(err)
				}
			}
			for range 2 {
				save(t, s, bundle())
				if perm, gid := rights(dir); perm != test.perm || gid != test.gid {
					t.Errorf("haproxy.pem has mode %o and group %d, want %o and %d", perm, gid, test.perm, test.gid)
				}
			}
		})
	}
}

func giveKey(dir string) error {
	file := filepath.Join(dir, "archive/example.org/privkey1.pem")
	return errors.Join(os.Chown(file, 0, 101), os.Chmod(file, 0o640))
}

func TestHaproxyFileThatOthersMayReadIsFound(t *testing.T) {
	dir := t.TempDir()
	if err := os.Chmod(dir, 0o755); err != nil {
		t.Fatal(err)
	}
	s := openHaproxy(t, dir, nil)
	save(t, s, bundle())
	file := filepath.Join(dir, "live/example.org/haproxy.pem")
	if bad := found(s.Examine(), "keys", cert.Doubtful); len(bad) > 0 || s.HaproxyIsOpen("example.org") {
		t.Errorf("of 600 findings are %+v", bad)
	}
	if err := os.Chmod(file, 0o644); err != nil {
		t.Fatal(err)
	}
	if bad := found(s.Examine(), "keys", cert.Doubtful); len(bad) != 1 || !strings.Contains(bad[0].Hint, "chmod o-rwx "+file) || !s.HaproxyIsOpen("example.org") {
		t.Errorf("findings are %+v, want one with the chmod line", bad)
	}
}

func TestHaproxyFileGoesWithItsLineage(t *testing.T) {
	dir := t.TempDir()
	s := openHaproxy(t, dir, nil)
	save(t, s, bundle())
	if err := s.Delete(t.Context(), "example.org"); err != nil {
		t.Fatal(err)
	}
	if s.knows("example.org") {
		t.Error("something is left")
	}
}

func TestWatchCallsForAHaproxyFileOnceAndNotForItsMending(t *testing.T) {
	dir := t.TempDir()
	s := openHaproxy(t, dir, nil)
	save(t, s, bundle())
	calls := make(chan struct{}, 10)
	go s.Watch(t.Context(), func() { calls <- struct{}{} })
	file := filepath.Join(dir, "live/example.org/haproxy.pem")
	deadline := time.After(20 * time.Second)
	for woken := false; !woken; { // again and again, until the watch stands
		write(t, file, "")
		select {
		case <-calls:
			woken = true
		case <-time.After(2 * settle):
			mendHaproxy(t, s)
		case <-deadline:
			t.Fatal("not woken by what another did to haproxy.pem")
		}
	}
	if did := mendHaproxy(t, s); did == "" {
		t.Error("Mend() had nothing to do")
	}
	select {
	case <-calls:
		t.Error("woken by the mending")
	case <-time.After(2 * settle):
	}
}

func TestCertbotIsNotDisturbedByAHaproxyFile(t *testing.T) {
	t.Parallel()
	b := newCertbot(t)
	b.obtain("example.org", names)
	s := openHaproxy(t, b.dir, nil)
	if did := mendHaproxy(t, s); !strings.Contains(did, "haproxy.pem of version 1") {
		t.Fatalf("Mend() = %q, want haproxy.pem made", did)
	}
	if listed := b.run("certificates"); !strings.Contains(listed, "Certificate Name: example.org\n") || strings.Contains(listed, "haproxy") {
		t.Errorf("certbot lists\n%s", listed)
	}
	b.renew()
	if l := b.lineages(s)["example.org"]; l.Number != 2 {
		t.Errorf("after certbot's renewal it is version %d, want 2", l.Number)
	}
	if did := mendHaproxy(t, s); !strings.Contains(did, "haproxy.pem of version 2") {
		t.Errorf("after certbot's renewal Mend() = %q, want haproxy.pem made", did)
	}
	wantHaproxyOfLive(t, "after certbot's renewal", s)
	b.run("delete", "--cert-name", "example.org")
	if left, _ := filepath.Glob(filepath.Join(b.dir, "*/example.org*/*")); len(left) != 1 || filepath.Base(left[0]) != haproxyPEM {
		t.Errorf("certbot's delete has left %v, want haproxy.pem alone", left)
	}
	if err := s.Delete(t.Context(), "example.org"); err != nil || s.knows("example.org") {
		t.Errorf("Delete() of what certbot has left = %v", err)
	}
}
