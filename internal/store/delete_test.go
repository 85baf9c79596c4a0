package store

import (
	"errors"
	"io/fs"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/sidecert/sidecert/internal/cert"
)

func TestDeleteForgetsALineageAndNothingElse(t *testing.T) {
	certDir, stateDir := t.TempDir(), t.TempDir()
	s := open(t, certDir, stateDir)
	save(t, s, bundle())
	if _, err := s.Save(t.Context(), "other.example", spec, bundle()); err != nil {
		t.Fatal(err)
	}
	write(t, filepath.Join(certDir, "archive/example.org/.broken-20260101T000000Z/privkey1.pem"), "key")
	for _, name := range []string{"example.org", "example.org~stored", "other.example"} {
		if err := s.SaveAttempts(name, cert.Attempts{Failures: 1}); err != nil {
			t.Fatal(err)
		}
	}
	if err := s.SetTarget("web", cert.TargetState{Certs: map[string]cert.Served{"example.org": {Told: "a"}, "other.example": {Told: "b"}}}); err != nil {
		t.Fatal(err)
	}
	if err := s.Delete(t.Context(), "example.org"); err != nil {
		t.Fatal(err)
	}
	for _, root := range []string{certDir, stateDir} {
		filepath.WalkDir(root, func(at string, _ fs.DirEntry, err error) error {
			if err != nil || strings.Contains(filepath.Base(at), "example.org") {
				t.Errorf("there is still %s, %v", at, err)
			}
			return nil
		})
	}
	target, err := s.Target("web")
	if _, still := target.Certs["example.org"]; err != nil || still || target.Certs["other.example"].Told != "b" {
		t.Errorf("web is remembered as %+v, %v; want other.example alone", target, err)
	}
	if a, err := s.Attempts("other.example"); err != nil || a.Failures != 1 {
		t.Errorf("the attempts of the other lineage are %+v, %v", a, err)
	}
	if l, err := s.Lineage("other.example"); err != nil || !l.Issued() {
		t.Errorf("the other lineage: %v", err)
	}
}

func TestDeleteOfWhatIsNoLineageIsRefused(t *testing.T) {
	dir := t.TempDir()
	s := open(t, dir, t.TempDir())
	save(t, s, bundle())
	for _, name := range []string{"unknown.example", "", ".", "..", "../live", "live/example.org", ".example.org"} {
		if err := s.Delete(t.Context(), name); !errors.Is(err, fs.ErrNotExist) || hintOf(err) == "" {
			t.Errorf("Delete(%q) = %v, want fs.ErrNotExist with a hint", name, err)
		}
	}
	files, err := bundle().PEM()
	if err != nil {
		t.Fatal(err)
	}
	for file, data := range files {
		write(t, filepath.Join(dir, "live/mine", file+".pem"), string(data))
	}
	if err := s.Delete(t.Context(), "mine"); !errors.Is(err, ErrForeign) || hintOf(err) == "" {
		t.Errorf("Delete() of a person's own certificate = %v, want a refusal", err)
	}
	if _, err := os.Stat(filepath.Join(dir, "live/mine/privkey.pem")); err != nil {
		t.Error(err)
	}
	if l, err := s.Lineage("example.org"); err != nil || !l.Issued() {
		t.Errorf("the lineage that was not meant: %v", err)
	}
}

func TestDeleteNeverFollowsALink(t *testing.T) {
	dir, outside := t.TempDir(), t.TempDir()
	s := open(t, dir, t.TempDir())
	save(t, s, bundle())
	write(t, filepath.Join(outside, "kept"), "kept")
	for _, folder := range []string{"archive/example.org/out", "live/example.org/out", "archive/linked", "live/linked"} {
		if err := os.Symlink(outside, filepath.Join(dir, folder)); err != nil {
			t.Fatal(err)
		}
	}
	for _, name := range []string{"example.org", "linked"} {
		if err := s.Delete(t.Context(), name); err != nil {
			t.Errorf("Delete(%s) = %v", name, err)
		}
	}
	if _, err := os.Stat(filepath.Join(outside, "kept")); err != nil {
		t.Errorf("Delete() went out of the volume: %v", err)
	}
	for _, folder := range []string{"live", "archive"} {
		if entries, _ := os.ReadDir(filepath.Join(dir, folder)); len(entries) > 0 {
			t.Errorf("%s/ still holds %v", folder, entries)
		}
	}
}

func TestWhatAnInterruptedDeleteHasLeftIsSeen(t *testing.T) {
	dir := t.TempDir()
	s := open(t, dir, t.TempDir())
	save(t, s, bundle())
	for _, gone := range []string{"renewal/example.org.conf", "live/example.org"} {
		if err := os.RemoveAll(filepath.Join(dir, gone)); err != nil {
			t.Fatal(err)
		}
	}
	if _, errs := s.Lineages(); !errors.Is(errs["example.org"], ErrLeftover) {
		t.Errorf("Lineages() has %v, want that versions with keys are left", errs)
	}
	if err := s.Delete(t.Context(), "example.org"); err != nil {
		t.Fatal(err)
	}
	if all, errs := s.Lineages(); len(all)+len(errs) > 0 {
		t.Errorf("after another Delete() there are %v, %v", all, errs)
	}
}

// TestWhatAKilledDeleteHasLeftIsSeen: at every operation what is left is seen as long as there is a private key, is a whole lineage or none, and goes with
// the next Delete.
func TestWhatAKilledDeleteHasLeftIsSeen(t *testing.T) {
	points := 0
	for n := 1; ; n++ {
		dir, stateDir := memoryDir(t), memoryDir(t)
		s := open(t, dir, stateDir)
		save(t, s, bundle())
		save(t, s, bundle())
		write(t, filepath.Join(dir, "archive/example.org/.broken-20260101T000000Z/privkey.pem"), "key")
		write(t, filepath.Join(dir, "live/example.org/notes"), "mine")
		if err := volume(t, dir, stateDir, nil, n).Delete(t.Context(), "example.org"); err == nil {
			break
		}
		points++
		keys := 0
		filepath.WalkDir(filepath.Join(dir, "archive"), func(at string, _ fs.DirEntry, err error) error {
			if err == nil && strings.HasPrefix(filepath.Base(at), "privkey") {
				keys++
			}
			return nil
		})
		all, errs := s.Lineages()
		if seen := len(all) + len(errs); keys > 0 && seen != 1 {
			t.Errorf("killed at operation %d: %d keys are left, and Lineages() has %v, %v", n, keys, all, errs)
		}
		if err := errs["example.org"]; err != nil && (!errors.Is(err, ErrLeftover) || !strings.Contains(hintOf(err), "sidecert delete example.org")) {
			t.Errorf("killed at operation %d: Lineages() has %v with the hint %q, want a leftover and how to end it", n, err, hintOf(err))
		}
		if err := s.Delete(t.Context(), "example.org"); err != nil && !errors.Is(err, fs.ErrNotExist) {
			t.Errorf("killed at operation %d: another Delete() = %v", n, err)
		}
		filepath.WalkDir(dir, func(at string, _ fs.DirEntry, err error) error {
			if err != nil || strings.Contains(filepath.Base(at), "example.org") {
				t.Errorf("killed at operation %d: after another Delete() there is %s, %v", n, at, err)
			}
			return nil
		})
	}
	if points < 15 {
		t.Errorf("only %d points were tried", points)
	}
}

func TestKeysThatWereSetAsideAreSeenWhenNothingElseIsLeft(t *testing.T) {
	dir := t.TempDir()
	s := open(t, dir, t.TempDir())
	write(t, filepath.Join(dir, "archive/example.org/.broken-20260101T000000Z/privkey1.pem"), "key")
	if _, errs := s.Lineages(); !errors.Is(errs["example.org"], ErrLeftover) {
		t.Errorf("Lineages() has %v, want that keys are left", errs)
	}
}
