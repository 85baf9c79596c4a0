package acme

import (
	"context"
	"errors"
	"io/fs"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"syscall"
	"testing"
	"time"

	xacme "golang.org/x/crypto/acme"

	"github.com/sidecert/sidecert/internal/acmetest"
)

const token = "LoqXcYV8q5ONbJQxbmR7SCTNo3tiAXDfowyjxAjEuX0"

func TestHostileWebrootWritesNothingOutside(t *testing.T) {
	rows := []struct {
		name string
		// trap is laid by whoever has taken the web container over.
		trap func(t *testing.T, webroot, outside string)
		// works says that the challenge file gets written all the same.
		works bool
	}{
		{"link for .well-known", func(t *testing.T, webroot, outside string) {
			link(t, outside, filepath.Join(webroot, ".well-known"))
		}, false},
		{"relative link for .well-known", func(t *testing.T, webroot, outside string) {
			link(t, "../"+filepath.Base(outside), filepath.Join(webroot, ".well-known"))
		}, false},
		{"link for acme-challenge", func(t *testing.T, webroot, outside string) {
			mkdir(t, filepath.Join(webroot, ".well-known"))
			link(t, outside, filepath.Join(webroot, challengePath))
		}, false},
		{"link for the token", func(t *testing.T, webroot, outside string) {
			mkdir(t, filepath.Join(webroot, challengePath))
			link(t, filepath.Join(outside, "secret"), filepath.Join(webroot, challengePath, token))
		}, true},
		{"hard link for the token", func(t *testing.T, webroot, outside string) {
			mkdir(t, filepath.Join(webroot, challengePath))
			if err := os.Link(filepath.Join(outside, "secret"), filepath.Join(webroot, challengePath, token)); err != nil {
				t.Skip(err)
			}
		}, true},
		{"pipe for the token", func(t *testing.T, webroot, outside string) {
			mkdir(t, filepath.Join(webroot, challengePath))
			fifo(t, filepath.Join(webroot, challengePath, token))
		}, true},
		{"pipe for acme-challenge", func(t *testing.T, webroot, outside string) {
			mkdir(t, filepath.Join(webroot, ".well-known"))
			fifo(t, filepath.Join(webroot, challengePath))
		}, false},
		{"full folder for the token", func(t *testing.T, webroot, outside string) {
			mkdir(t, filepath.Join(webroot, challengePath, token, "full"))
		}, false},
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
	for _, row := range rows {
		t.Run(row.name, func(t *testing.T) {
			base := t.TempDir()
			webroot, outside := filepath.Join(base, "webroot"), filepath.Join(base, "outside")
			mkdir(t, webroot)
			writeFile(t, filepath.Join(outside, "secret"), "the key")
			row.trap(t, webroot, outside)

			err := putAndSweep(webroot)
			if (err == nil) != row.works {
				t.Errorf("put: %v, want success %t", err, row.works)
			}
			if row.works {
				checkFile(t, filepath.Join(webroot, challengePath, token), "answer")
			}
			checkOutside(t, outside)
		})
	}
}

func putAndSweep(webroot string) error {
	w, err := openWebroot(webroot)
	if err != nil {
		return err
	}
	defer w.close()
	err = w.put(token, "answer")
	w.sweep(func(string) []string { return []string{"the key"} }, time.Now().Add(time.Hour))
	return err
}

func checkFile(t *testing.T, path, want string) {
	t.Helper()
	got, err := os.ReadFile(path)
	if err != nil || string(got) != want {
		t.Errorf("%s has %q (%v), want %q", path, got, err, want)
	}
}

// checkOutside wants the folder as it was: one file with its content and mode.
func checkOutside(t *testing.T, outside string) {
	t.Helper()
	entries, err := os.ReadDir(outside)
	if err != nil || len(entries) != 1 {
		t.Fatalf("outside has %v (%v), want the secret alone", entries, err)
	}
	checkFile(t, filepath.Join(outside, "secret"), "the key")
}

// The web container swaps the folder for a link while challenges are written.
func TestRacingLinksLetNothingOutside(t *testing.T) {
	base := t.TempDir()
	webroot, outside := filepath.Join(base, "webroot"), filepath.Join(base, "outside")
	mkdir(t, filepath.Join(webroot, challengePath))
	writeFile(t, filepath.Join(outside, "secret"), "the key")
	done := make(chan struct{})
	var attacker sync.WaitGroup
	attacker.Go(func() {
		folder, aside, trap := filepath.Join(webroot, ".well-known"), filepath.Join(webroot, "aside"), filepath.Join(webroot, "trap")
		os.Symlink(outside, trap)
		for {
			select {
			case <-done:
				return
			default:
			}
			os.Rename(folder, aside)
			os.Rename(trap, folder)
			os.Rename(folder, trap)
			os.Rename(aside, folder)
		}
	})
	for range 3000 {
		if w, err := openWebroot(webroot); err == nil {
			w.put(token, "answer")
			w.remove(token)
			w.close()
		}
	}
	close(done)
	attacker.Wait()
	checkOutside(t, outside)
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
