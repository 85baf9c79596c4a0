package acme

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"syscall"
	"testing"
	"time"

	xacme "golang.org/x/crypto/acme"
	"golang.org/x/sys/unix"

	"github.com/sidecert/sidecert/internal/acmetest"
)

const token = "LoqXcYV8q5ONbJQxbmR7SCTNo3tiAXDfowyjxAjEuX0"

// attack is what whoever has taken the web container over can lay into the webroot.
type attack struct {
	name string
	trap func(t *testing.T, webroot, outside string)
	// works says that the challenge file gets written all the same.
	works bool
}

var attacks = []attack{
	{"link for .well-known", func(t *testing.T, webroot, outside string) {
		link(t, outside, filepath.Join(webroot, wellKnown))
	}, false},
	{"relative link for .well-known", func(t *testing.T, webroot, outside string) {
		link(t, "../"+filepath.Base(outside), filepath.Join(webroot, wellKnown))
	}, false},
	{"link for acme-challenge", func(t *testing.T, webroot, outside string) {
		mkdir(t, filepath.Join(webroot, wellKnown))
		link(t, outside, filepath.Join(webroot, challengePath))
	}, false},
	{"relative link for acme-challenge", func(t *testing.T, webroot, outside string) {
		mkdir(t, filepath.Join(webroot, wellKnown))
		link(t, "../../"+filepath.Base(outside), filepath.Join(webroot, challengePath))
	}, false},
	{"link to a link that leads out", func(t *testing.T, webroot, outside string) {
		mkdir(t, filepath.Join(webroot, wellKnown))
		link(t, outside, filepath.Join(webroot, "way"))
		link(t, "../way", filepath.Join(webroot, challengePath))
	}, false},
	{"links in a circle", func(t *testing.T, webroot, outside string) {
		mkdir(t, filepath.Join(webroot, wellKnown))
		link(t, "acme-challenge", filepath.Join(webroot, challengePath))
	}, false},
	{"dangling link for .well-known", func(t *testing.T, webroot, outside string) {
		link(t, filepath.Join(outside, "new"), filepath.Join(webroot, wellKnown))
	}, false},
	{"link within for acme-challenge", func(t *testing.T, webroot, outside string) {
		mkdir(t, filepath.Join(webroot, wellKnown))
		mkdir(t, filepath.Join(webroot, "elsewhere"))
		link(t, "../elsewhere", filepath.Join(webroot, challengePath))
	}, true},
	{"link for the token", func(t *testing.T, webroot, outside string) {
		mkdir(t, filepath.Join(webroot, challengePath))
		link(t, filepath.Join(outside, "secret"), filepath.Join(webroot, challengePath, token))
	}, true},
	{"dangling link for the token", func(t *testing.T, webroot, outside string) {
		mkdir(t, filepath.Join(webroot, challengePath))
		link(t, filepath.Join(outside, "new"), filepath.Join(webroot, challengePath, token))
	}, true},
	{"hard link for the token", func(t *testing.T, webroot, outside string) {
		mkdir(t, filepath.Join(webroot, challengePath))
		if err := os.Link(filepath.Join(outside, "secret"), filepath.Join(webroot, challengePath, token)); err != nil {
			t.Skip(err)
		}
	}, true},
	{"hard link for another token", func(t *testing.T, webroot, outside string) {
		mkdir(t, filepath.Join(webroot, challengePath))
		if err := os.Link(filepath.Join(outside, "secret"), filepath.Join(webroot, challengePath, strings.Repeat("h", 43))); err != nil {
			t.Skip(err)
		}
	}, true},
	{"pipe for the token", func(t *testing.T, webroot, outside string) {
		mkdir(t, filepath.Join(webroot, challengePath))
		fifo(t, filepath.Join(webroot, challengePath, token))
	}, true},
	{"pipe for acme-challenge", func(t *testing.T, webroot, outside string) {
		mkdir(t, filepath.Join(webroot, wellKnown))
		fifo(t, filepath.Join(webroot, challengePath))
	}, false},
	{"device for the token", func(t *testing.T, webroot, outside string) {
		mkdir(t, filepath.Join(webroot, challengePath))
		const full = 1<<8 | 7 // /dev/full
		if err := syscall.Mknod(filepath.Join(webroot, challengePath, token), syscall.S_IFCHR|0o666, full); err != nil {
			t.Skip(err)
		}
	}, true},
	{"socket for the token", func(t *testing.T, webroot, outside string) {
		mkdir(t, filepath.Join(webroot, challengePath))
		if err := syscall.Mknod(filepath.Join(webroot, challengePath, token), syscall.S_IFSOCK|0o666, 0); err != nil {
			t.Skip(err)
		}
	}, true},
	{"empty folder for the token", func(t *testing.T, webroot, outside string) {
		mkdir(t, filepath.Join(webroot, challengePath, token))
	}, true},
	{"full folder for the token", func(t *testing.T, webroot, outside string) {
		mkdir(t, filepath.Join(webroot, challengePath, token, "full"))
	}, false},
	{"file for .well-known", func(t *testing.T, webroot, outside string) {
		writeFile(t, filepath.Join(webroot, wellKnown), "no folder")
	}, false},
	{"folder that nobody may change", func(t *testing.T, webroot, outside string) {
		mkdir(t, filepath.Join(webroot, challengePath))
		immutable(t, filepath.Join(webroot, challengePath))
	}, false},
	{"10,000 files", func(t *testing.T, webroot, outside string) {
		mkdir(t, filepath.Join(webroot, challengePath))
		for i := range 10_000 {
			link(t, filepath.Join(outside, "secret"), filepath.Join(webroot, challengePath, fmt.Sprintf("%043d", i)))
		}
	}, true},
	{"names as long as can be", func(t *testing.T, webroot, outside string) {
		for _, letter := range []string{"a", "-", "\x01", "\xff", " ", "\n"} {
			writeFile(t, filepath.Join(webroot, challengePath, strings.Repeat(letter, 255)), "the key")
		}
	}, true},
	{"link for the webroot", func(t *testing.T, webroot, outside string) {
		if err := os.Remove(webroot); err != nil {
			t.Fatal(err)
		}
		link(t, outside, webroot)
	}, false},
	{"nothing there", func(t *testing.T, webroot, outside string) {}, true},
	{"no webroot yet", func(t *testing.T, webroot, outside string) {
		if err := os.Remove(webroot); err != nil {
			t.Fatal(err)
		}
	}, true},
}

func TestHostileWebrootChangesNothingOutside(t *testing.T) {
	tried := 0
	for _, a := range attacks {
		t.Run(a.name, func(t *testing.T) {
			base := t.TempDir()
			webroot, outside := filepath.Join(base, "webroot"), filepath.Join(base, "outside")
			mkdir(t, webroot)
			writeFile(t, filepath.Join(outside, "secret"), "the key")
			a.trap(t, webroot, outside)
			tried++
			before := snapshot(t, outside)

			err := putAndSweep(webroot)
			if (err == nil) != a.works {
				t.Errorf("put: %v, want success %t", err, a.works)
			}
			if a.works {
				checkFile(t, filepath.Join(webroot, challengePath, token), "answer")
			}
			if w, err := openWebroot(webroot); err == nil {
				w.remove(token)
				w.close()
			}
			if after := snapshot(t, outside); after != before {
				t.Errorf("outside is\n%s\nwas\n%s", after, before)
			}
		})
	}
	if !t.Failed() {
		t.Logf("%d shapes, 0 outside", tried)
	}
}

// putAndSweep takes everything for ours that it may.
func putAndSweep(webroot string) error {
	w, err := openWebroot(webroot)
	if err != nil {
		return err
	}
	defer w.close()
	err = w.put(token, "answer")
	w.sweep(func(string) []string { return []string{"the key", ""} }, time.Now().Add(time.Hour))
	return err
}

// immutable needs root and a file system with the flag of chattr(1).
func immutable(t *testing.T, path string) {
	t.Helper()
	f, err := os.Open(path)
	if err != nil {
		t.Fatal(err)
	}
	set := func(flags uint32) error {
		return unix.IoctlSetPointerInt(int(f.Fd()), unix.FS_IOC_SETFLAGS, int(flags))
	}
	t.Cleanup(func() {
		set(0)
		f.Close()
	})
	if err := set(unix.STATX_ATTR_IMMUTABLE); err != nil { // the bit is the same as that of chattr(1)
		t.Skip(err)
	}
}

func checkFile(t *testing.T, path, want string) {
	t.Helper()
	got, err := os.ReadFile(path)
	if err != nil || string(got) != want {
		t.Errorf("%s has %q (%v), want %q", path, got, err, want)
	}
}

// snapshot is what a folder holds: names, modes, owners and contents.
func snapshot(t *testing.T, dir string) string {
	t.Helper()
	var b strings.Builder
	err := filepath.WalkDir(dir, func(path string, entry fs.DirEntry, err error) error {
		if err != nil {
			return err
		}
		info, err := entry.Info()
		if err != nil {
			return err
		}
		stat := info.Sys().(*syscall.Stat_t)
		fmt.Fprintf(&b, "%s %v %d:%d", path, info.Mode(), stat.Uid, stat.Gid)
		if info.Mode().IsRegular() {
			data, err := os.ReadFile(path)
			if err != nil {
				return err
			}
			fmt.Fprintf(&b, " %q", data)
		}
		b.WriteByte('\n')
		return nil
	})
	if err != nil {
		t.Fatal(err)
	}
	return b.String()
}

// The web container swaps the folder for a link while challenges are written, removed and swept.
func TestRacingLinksLetNothingOutside(t *testing.T) {
	base := t.TempDir()
	webroot, outside := filepath.Join(base, "webroot"), filepath.Join(base, "outside")
	mkdir(t, filepath.Join(webroot, challengePath))
	writeFile(t, filepath.Join(outside, "secret"), "the key")
	// What is removed and swept by name is there, and the folder may have its mode put right.
	writeFile(t, filepath.Join(outside, "acme-challenge", token), "the key")
	if err := os.Chmod(filepath.Join(outside, "acme-challenge"), 0o700); err != nil {
		t.Fatal(err)
	}
	before := snapshot(t, outside)
	done := make(chan struct{})
	var attacker sync.WaitGroup
	folder, trap := filepath.Join(webroot, wellKnown), filepath.Join(webroot, "trap")
	link(t, outside, trap)
	swap := func() error { return unix.Renameat2(unix.AT_FDCWD, folder, unix.AT_FDCWD, trap, unix.RENAME_EXCHANGE) }
	if err := swap(); err != nil {
		t.Skip(err)
	}
	attacker.Go(func() {
		for {
			select {
			case <-done:
				return
			default:
				swap()
			}
		}
	})
	tries, put := 0, 0
	for end := time.Now().Add(2 * time.Second); time.Now().Before(end); tries++ {
		if putAndSweep(webroot) == nil {
			put++
		}
		if w, err := openWebroot(webroot); err == nil {
			w.remove(token)
			w.close()
		}
	}
	close(done)
	attacker.Wait()
	if after := snapshot(t, outside); after != before {
		t.Errorf("after %d tries outside is\n%s\nwas\n%s", tries, after, before)
	}
	if put == 0 || put == tries {
		t.Errorf("%d of %d tries found the folder: there was no race", put, tries)
	}
	t.Logf("%d race tries, %d of them met the folder", tries, put)
}

func TestVolumeThatKnowsNoModesIsEnough(t *testing.T) {
	for _, refused := range []error{syscall.EPERM, syscall.ENOTSUP, syscall.EINVAL, syscall.ENOSYS} {
		if err := tolerated(&fs.PathError{Op: "chmod", Path: "x", Err: refused}); err != nil {
			t.Errorf("%v: %v, want none", refused, err)
		}
	}
	if err := tolerated(&fs.PathError{Op: "chmod", Path: "x", Err: syscall.EIO}); !errors.Is(err, syscall.EIO) {
		t.Errorf("EIO: %v, want it", err)
	}
}

func TestWebrootThatWasEmptiedIsFilledAgain(t *testing.T) {
	webroot := t.TempDir()
	w, err := openWebroot(webroot)
	if err != nil {
		t.Fatal(err)
	}
	defer w.close()
	for range 2 {
		if err := w.put(token, "answer"); err != nil {
			t.Fatal(err)
		}
		checkFile(t, filepath.Join(webroot, challengePath, token), "answer")
		if err := os.RemoveAll(filepath.Join(webroot, wellKnown)); err != nil { // as when the web container is made anew
			t.Fatal(err)
		}
	}
}

func TestTokenIsCheckedBeforeItBecomesAFileName(t *testing.T) {
	w, err := openWebroot(t.TempDir())
	if err != nil {
		t.Fatal(err)
	}
	defer w.close()
	for _, bad := range []string{"", "short", "../../../../etc/passwd", "aaaaaaaaaaaaaaaa/b", "aaaaaaaaaaaaaaaa\x00", "aaaaaaaaaaaaaaaa\n", "aaaaaaaaaaaaaaa=", "aaaaaaaaaaaaaaa.html", strings.Repeat("a", 513)} {
		if err := w.put(bad, "x"); err == nil {
			t.Errorf("token %q was accepted", bad)
		}
	}
	if _, err := w.root.Lstat(wellKnown); !errors.Is(err, fs.ErrNotExist) {
		t.Error("a refused token left a folder behind")
	}
}

func TestUmaskDoesNotHideChallenges(t *testing.T) {
	old := syscall.Umask(0o077)
	defer syscall.Umask(old)
	webroot := filepath.Join(t.TempDir(), "webroot")
	if err := putAndSweep(webroot); err != nil {
		t.Fatal(err)
	}
	for path, want := range map[string]fs.FileMode{"": 0o755, wellKnown: 0o755, challengePath: 0o755, filepath.Join(challengePath, token): 0o644} {
		info, err := os.Stat(filepath.Join(webroot, path))
		if err != nil {
			t.Fatal(err)
		}
		if got := info.Mode().Perm(); got != want {
			t.Errorf("%s has mode %o, want %o", path, got, want)
		}
	}
}

// A process that a kill has ended between making a folder and its mode, under a strict umask.
func TestFolderThatAKillLeftClosedIsOpened(t *testing.T) {
	for made, names := range map[string][]string{"the webroot": {""}, wellKnown: {"", wellKnown}, challengePath: {"", wellKnown, challengePath}} {
		webroot := filepath.Join(t.TempDir(), "webroot")
		for i, name := range names {
			mode := fs.FileMode(0o755)
			if i == len(names)-1 {
				mode = 0o700
			}
			if err := os.Mkdir(filepath.Join(webroot, name), mode); err != nil {
				t.Fatal(err)
			}
		}
		if err := putAndSweep(webroot); err != nil {
			t.Fatal(err)
		}
		for _, name := range []string{"", wellKnown, challengePath} {
			if info, err := os.Stat(filepath.Join(webroot, name)); err != nil || info.Mode().Perm() != 0o755 {
				t.Errorf("killed at %s: %q has mode %v (%v), want 755", made, name, info.Mode(), err)
			}
		}
	}
}

func TestFolderThatWasThereKeepsItsMode(t *testing.T) {
	webroot := t.TempDir()
	mkdir(t, filepath.Join(webroot, challengePath))
	if err := os.Chmod(filepath.Join(webroot, wellKnown), 0o711); err != nil {
		t.Fatal(err)
	}
	if err := putAndSweep(webroot); err != nil {
		t.Fatal(err)
	}
	if info, _ := os.Stat(filepath.Join(webroot, wellKnown)); info.Mode().Perm() != 0o711 {
		t.Errorf("mode %o, want 711 as it was", info.Mode().Perm())
	}
}

func TestLeftoversOfACrashAreSweptAndNothingElse(t *testing.T) {
	s := newSite(t, acmetest.Config{})
	s.obtain(t, "first.test")
	thumbprint, err := xacme.JWKThumbprint(s.accounts.accounts[s.ca().ID()].Key.Public())
	if err != nil {
		t.Fatal(err)
	}
	old := time.Now().Add(-2 * time.Hour)
	ours, probe := strings.Repeat("o", 43), strings.Repeat("p", 43)
	young, foreign := strings.Repeat("y", 43), strings.Repeat("f", 43)
	for name, content := range map[string]string{
		ours: ours + "." + thumbprint, probe: probeContent(probe), young: young + "." + thumbprint, foreign: foreign + ".of-another-client",
	} {
		path := filepath.Join(s.webroot, challengePath, name)
		writeFile(t, path, content)
		if name != young {
			if err := os.Chtimes(path, old, old); err != nil {
				t.Fatal(err)
			}
		}
	}
	fifo(t, filepath.Join(s.webroot, challengePath, strings.Repeat("q", 43)))
	s.obtain(t, "second.test")
	for name, want := range map[string]bool{ours: false, probe: false, young: true, foreign: true} {
		if _, err := os.Lstat(filepath.Join(s.webroot, challengePath, name)); (err == nil) != want {
			t.Errorf("%.1s… is there: %t, want %t", name, err == nil, want)
		}
	}
}

func TestWebrootThatCannotBeWrittenIsExplained(t *testing.T) {
	s := newSite(t, acmetest.Config{})
	req, kept := s.request("example.test")
	req.Spec.Webroot = filepath.Join(s.webroot, "not", "mounted")
	_, err := s.issuer.Obtain(context.Background(), req)
	if e := failed(t, err); e.Op != "webroot" || e.Hint != "mount the webroot volume at "+req.Spec.Webroot {
		t.Errorf("op %q hint %q (%v)", e.Op, e.Hint, err)
	}
	if kept.order == nil {
		t.Fatal("the order was dropped although nothing is wrong with it")
	}
	req.Order, req.Spec.Webroot = kept.order, s.webroot
	must(t, s.issuer, req)
	if n := s.Requests()["newOrder"]; n != 1 {
		t.Errorf("%d orders, want the first one to be used", n)
	}
}

func link(t *testing.T, to, at string) {
	t.Helper()
	if err := os.Symlink(to, at); err != nil {
		t.Fatal(err)
	}
}

func mkdir(t *testing.T, path string) {
	t.Helper()
	if err := os.MkdirAll(path, 0o755); err != nil {
		t.Fatal(err)
	}
}

func fifo(t *testing.T, path string) {
	t.Helper()
	if err := syscall.Mkfifo(path, 0o666); err != nil {
		t.Fatal(err)
	}
}

func FuzzToken(f *testing.F) {
	for _, seed := range []string{token, "../x", "a/b", "\x00", strings.Repeat("a", 600)} {
		f.Add(seed)
	}
	base := f.TempDir()
	webroot := filepath.Join(base, "webroot")
	f.Fuzz(func(t *testing.T, token string) {
		w, err := openWebroot(webroot)
		if err != nil {
			t.Fatal(err)
		}
		defer w.close()
		if w.put(token, "x") == nil {
			w.remove(token)
		}
		if entries, _ := os.ReadDir(base); len(entries) != 1 {
			t.Errorf("token %q left %v beside the webroot", token, entries)
		}
	})
}
