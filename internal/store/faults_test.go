package store

import (
	"context"
	"errors"
	"io"
	"io/fs"
	"os"
	"path/filepath"
	"syscall"
	"testing"
	"time"

	"golang.org/x/sys/unix"

	"github.com/sidecert/sidecert/internal/cert"
)

// faulty is a volume on which some operations fail. It embeds the real one; what it overrides is what changes a volume.
type faulty struct {
	FS
	ops    int
	failAt int // the operation at and after which everything fails: a process that was killed, seen from the disk; 0: never
	// fail, if set, decides for each operation by its name.
	fail func(op string) error
}

var errDead = errors.New("killed")

func (f *faulty) step(op string) error {
	f.ops++
	if f.failAt > 0 && f.ops >= f.failAt {
		return errDead
	}
	if f.fail != nil {
		return f.fail(op)
	}
	return nil
}

func (f *faulty) Create(name string, perm fs.FileMode) (File, error) {
	if err := f.step("create"); err != nil {
		return nil, err
	}
	file, err := f.FS.Create(name, perm)
	if err != nil {
		return nil, err
	}
	return &faultyFile{file, f}, nil
}

func (f *faulty) Mkdir(name string, perm fs.FileMode) error {
	return errors.Join(f.step("mkdir"), f.unless(func() error { return f.FS.Mkdir(name, perm) }))
}

func (f *faulty) Chmod(name string, mode fs.FileMode) error {
	if err := f.step("chmod"); err != nil {
		return err
	}
	return f.FS.Chmod(name, mode)
}

func (f *faulty) Symlink(target, name string) error {
	if err := f.step("symlink"); err != nil {
		return err
	}
	return f.FS.Symlink(target, name)
}

func (f *faulty) Link(old, new string) error {
	if err := f.step("link"); err != nil {
		return err
	}
	return f.FS.Link(old, new)
}

func (f *faulty) Rename(old, new string) error {
	if err := f.step("rename"); err != nil {
		return err
	}
	return f.FS.Rename(old, new)
}

func (f *faulty) Exchange(a, b string) error {
	if err := f.step("exchange"); err != nil {
		return err
	}
	return f.FS.Exchange(a, b)
}

func (f *faulty) Remove(name string) error {
	if err := f.step("remove"); err != nil {
		return err
	}
	return f.FS.Remove(name)
}

func (f *faulty) SyncDir(name string) error {
	if err := f.step("syncdir"); err != nil {
		return err
	}
	return f.FS.SyncDir(name)
}

func (f *faulty) Lock(name string) (io.Closer, error) {
	if err := f.step("lock"); err != nil {
		return nil, err
	}
	return f.FS.Lock(name)
}

// unless runs op only while the process lives.
func (f *faulty) unless(op func() error) error {
	if f.failAt > 0 && f.ops >= f.failAt {
		return nil
	}
	return op()
}

type faultyFile struct {
	File
	f *faulty
}

// Write of a killed process leaves half of the data.
func (w *faultyFile) Write(p []byte) (int, error) {
	if err := w.f.step("write"); err != nil {
		n, _ := w.File.Write(p[:len(p)/2])
		return n, err
	}
	return w.File.Write(p)
}

func (w *faultyFile) Chown(uid, gid int) error {
	if err := w.f.step("chown"); err != nil {
		return err
	}
	return w.File.Chown(uid, gid)
}

func (w *faultyFile) Chmod(mode fs.FileMode) error {
	if err := w.f.step("chmod"); err != nil {
		return err
	}
	return w.File.Chmod(mode)
}

func (w *faultyFile) Sync() error {
	if err := w.f.step("sync"); err != nil {
		return err
	}
	return w.File.Sync()
}

// memoryDir is a folder in memory where there is such a thing: a sweep syncs thousands of times.
func memoryDir(t *testing.T) string {
	t.Helper()
	dir, err := os.MkdirTemp("/dev/shm", "sidecert")
	if err != nil {
		return t.TempDir()
	}
	t.Cleanup(func() { os.RemoveAll(dir) })
	return dir
}

// volume opens folders of which CERT_DIR is of a kind and dies at an operation; 0: never.
func volume(t *testing.T, certDir, stateDir string, errs map[string]error, failAt int) *Store {
	t.Helper()
	return faultyStore(t, certDir, stateDir, &faulty{failAt: failAt, fail: func(op string) error { return errs[op] }})
}

func faultyStore(t *testing.T, certDir, stateDir string, f *faulty) *Store {
	t.Helper()
	disk, err := OpenDisk(certDir)
	if err != nil {
		t.Fatal(err)
	}
	state, err := OpenDisk(stateDir)
	if err != nil {
		t.Fatal(err)
	}
	f.FS = disk
	return New(f, state, options(certDir, stateDir))
}

// volumes are the kinds of file systems that users have, by the operations that fail on them.
var volumes = map[string]map[string]error{
	"ext4":                       nil,
	"no symbolic links":          {"symlink": unix.EPERM, "link": unix.EPERM},
	"no exchange":                {"exchange": ErrNoExchange},
	"neither links nor exchange": {"symlink": unix.EOPNOTSUPP, "link": unix.EOPNOTSUPP, "exchange": ErrNoExchange},
}

// TestKilledAtEveryOperation kills a first issue and a renewal at each operation on the volume. At every point the live files are
// whole, as far as the file system can exchange; after one repair the lineage is the old or the new version, nothing is left over,
// and every key that was written is still there.
func TestKilledAtEveryOperation(t *testing.T) {
	first, second := ca.Issue(time.Now().Add(-2*time.Hour), life, names...), bundle()
	stories := map[string]struct {
		before []cert.Bundle
		now    cert.Bundle
	}{
		"first issue": {nil, first},
		"renewal":     {[]cert.Bundle{first}, second},
	}
	for kind, errs := range volumes {
		for name, story := range stories {
			t.Run(name+" on "+kind, func(t *testing.T) {
				t.Parallel()
				points := 0
				for n := 1; ; n++ {
					certDir, stateDir := memoryDir(t), memoryDir(t)
					volume := func(failAt int) *Store {
						return faultyStore(t, certDir, stateDir, &faulty{failAt: failAt, fail: func(op string) error { return errs[op] }})
					}
					if _, err := volume(0).Placeholder(t.Context(), "example.org", names); err != nil {
						t.Fatal(err)
					}
					for _, b := range story.before {
						save(t, volume(0), b)
					}
					_, err := volume(n).Save(t.Context(), "example.org", spec, story.now)
					if err == nil {
						break
					}
					if !errors.Is(err, errDead) {
						t.Fatalf("killed at operation %d: Save() = %v, want the kill", n, err)
					}
					points++
					_, err = volume(0).bundle(func(file string) string { return "live/example.org/" + file + ".pem" })
					if err != nil && errs["exchange"] == nil {
						t.Errorf("killed at operation %d: live files are not whole: %v", n, err)
					}
					afterRepair(t, n, volume(0), len(story.before))
				}
				if points < 20 {
					t.Errorf("only %d points were tried", points)
				}
				t.Logf("%d points", points)
			})
		}
	}
}

func afterRepair(t *testing.T, n int, s *Store, versions int) {
	t.Helper()
	if _, err := s.Mend(t.Context(), "example.org"); err != nil {
		t.Errorf("killed at operation %d: Mend() = %v", n, err)
	}
	l, err := s.Lineage("example.org")
	if err != nil || l.Number < versions {
		t.Errorf("killed at operation %d: after repair version %d, %v; want at least %d", n, l.Number, err, versions)
	}
	if numbers := s.numbers("example.org"); len(numbers) > 0 && numbers[0] != l.Number {
		t.Errorf("killed at operation %d: version %d stands in archive/, but version %d is live", n, numbers[0], l.Number)
	}
	entries, _ := os.ReadDir(filepath.Join(s.CertDir, "live"))
	if len(entries) != 1 {
		t.Errorf("killed at operation %d: live/ holds %v, want example.org alone", n, entries)
	}
	if left, _ := os.ReadDir(filepath.Join(s.CertDir, "live/example.org")); len(left) != 5 {
		t.Errorf("killed at operation %d: live/example.org holds %v, want four files and README", n, left)
	}
	if did, err := s.Mend(t.Context(), "example.org"); did != "" || err != nil {
		t.Errorf("killed at operation %d: a second Mend() = %q, %v; want nothing to do", n, did, err)
	}
	if l, err = s.Save(t.Context(), "example.org", spec, bundle()); err != nil {
		t.Errorf("killed at operation %d: the next Save() = %v", n, err)
	}
}

// TestAdoptionKilledAtEveryOperation kills the first Save into a lineage that certbot made, and the mending of one whose links became
// plain files, of a version that archive/ holds or of one that it has not got.
func TestAdoptionKilledAtEveryOperation(t *testing.T) {
	old, stray := ca.Issue(time.Now().Add(-24*time.Hour), life, names...), bundle()
	stories := map[string]struct {
		before func(t *testing.T, dir string)
		deed   func(s *Store) error
		key    cert.Bundle // that must be there in the end
	}{
		"first Save": {func(*testing.T, string) {}, func(s *Store) error {
			_, err := s.Save(context.Background(), "example.org", spec, stray)
			return err
		}, old},
		"copies of a version": {func(t *testing.T, dir string) { copied(t, dir, cert.Files...) }, func(s *Store) error {
			_, err := s.Mend(context.Background(), "example.org")
			return err
		}, old},
		"copies of no version": {func(t *testing.T, dir string) { put(t, dir, stray, cert.Files...) }, func(s *Store) error {
			_, err := s.Mend(context.Background(), "example.org")
			return err
		}, stray},
		"a key of no version": {func(t *testing.T, dir string) { put(t, dir, stray, cert.PrivkeyPEM) }, func(s *Store) error {
			_, err := s.Mend(context.Background(), "example.org")
			return err
		}, stray},
	}
	for kind, errs := range volumes {
		for name, story := range stories {
			t.Run(name+" on "+kind, func(t *testing.T) {
				t.Parallel()
				n := 1
				for ; ; n++ {
					certDir, stateDir := memoryDir(t), memoryDir(t)
					save(t, volume(t, certDir, stateDir, errs, 0), old)
					conf := filepath.Join(certDir, "renewal/example.org.conf")
					if err := os.WriteFile(conf, []byte(certbotsConf), 0o644); err != nil {
						t.Fatal(err)
					}
					story.before(t, certDir)
					err := story.deed(volume(t, certDir, stateDir, errs, n))
					if err != nil && !errors.Is(err, errDead) {
						t.Fatalf("killed at operation %d: %v, want the kill", n, err)
					}
					s := volume(t, certDir, stateDir, errs, 0)
					if c, err := s.readConf("example.org"); err != nil || c == nil || c.ours() || c.get(renewalParams, "must_staple") != "True" {
						t.Errorf("killed at operation %d: the conf has lost what it held, %v", n, err)
					}
					if !s.isStored("example.org", mustEncode(t, story.key)) && !s.holds("live/example.org/privkey.pem", mustEncode(t, story.key)) {
						t.Errorf("killed at operation %d: a key is lost", n)
					}
					afterRepair(t, n, s, 1)
					if !s.isStored("example.org", mustEncode(t, story.key)) {
						t.Errorf("killed at operation %d: a key is lost in the repair", n)
					}
					if err == nil && n > 3 { // the first three are the probe for links, whose failure is none of the deed's
						break
					}
				}
				t.Logf("%d points", n-1)
				if n < 10 && errs["symlink"] == nil {
					t.Errorf("only %d points were tried", n-1)
				}
			})
		}
	}
}

const certbotsConf = `version = 2.1.0
[renewalparams]
authenticator = nginx
must_staple = True # mine
server = https://ca.example/dir
`

// TestDeleteKilledAtEveryOperation: what is left of a lineage is deleted by the next try, and nothing else is.
func TestDeleteKilledAtEveryOperation(t *testing.T) {
	for kind, errs := range volumes {
		t.Run(kind, func(t *testing.T) {
			t.Parallel()
			n := 1
			for ; ; n++ {
				certDir, stateDir := memoryDir(t), memoryDir(t)
				s := volume(t, certDir, stateDir, errs, 0)
				save(t, s, bundle())
				save(t, s, bundle())
				if _, err := s.Save(t.Context(), "other.example", spec, bundle()); err != nil {
					t.Fatal(err)
				}
				err := volume(t, certDir, stateDir, errs, n).Delete(t.Context(), "example.org")
				if err != nil && !errors.Is(err, errDead) {
					t.Fatalf("killed at operation %d: Delete() = %v", n, err)
				}
				if err != nil {
					if err := s.Delete(t.Context(), "example.org"); err != nil && (s.knows("example.org") || !errors.Is(err, fs.ErrNotExist)) {
						t.Errorf("killed at operation %d: the next Delete() = %v", n, err)
					}
				}
				if err := s.Delete(t.Context(), "example.org"); !errors.Is(err, fs.ErrNotExist) {
					t.Errorf("killed at operation %d: once more Delete() = %v, want fs.ErrNotExist", n, err)
				}
				if all, errs := s.Lineages(); len(all) != 1 || len(errs) > 0 || all[0].Name != "other.example" {
					t.Errorf("killed at operation %d: left are %d lineages, %v; want other.example", n, len(all), errs)
				}
				if err == nil {
					break
				}
			}
			if n < 15 {
				t.Errorf("only %d points were tried", n-1)
			}
		})
	}
}

func TestSoleVersionIsNeverTakenFromTheWebServer(t *testing.T) {
	dir := t.TempDir()
	s := open(t, dir, t.TempDir())
	save(t, s, bundle())
	if err := os.Truncate(filepath.Join(dir, "archive/example.org/cert1.pem"), 0); err != nil {
		t.Fatal(err)
	}
	if err := os.Remove(filepath.Join(dir, "renewal/example.org.conf")); err != nil { // with it the pair would be stored anew
		t.Fatal(err)
	}
	for range 2 {
		if _, err := s.Mend(t.Context(), "example.org"); err != nil {
			t.Fatal(err)
		}
	}
	if _, err := s.Lineage("example.org"); !errors.Is(err, ErrBroken) {
		t.Errorf("Lineage() = %v, want ErrBroken", err)
	}
	if !s.Servable("example.org") {
		t.Error("the pair that nginx uses has gone")
	}
	if _, err := s.Placeholder(t.Context(), "example.org", names); err == nil {
		t.Log("a placeholder was asked for and not made")
	}
	if !s.Servable("example.org") {
		t.Error("a placeholder has taken the place of a pair that works")
	}
	if l := save(t, s, bundle()); l.Number != 2 {
		t.Errorf("the next certificate is version %d, want 2", l.Number)
	}
}

func TestSoleVersionThatLacksWhatThePairHasIsStoredAnew(t *testing.T) {
	for _, file := range []string{"cert1.pem", "chain1.pem"} {
		dir := t.TempDir()
		s := open(t, dir, t.TempDir())
		first := save(t, s, bundle())
		if err := os.Remove(filepath.Join(dir, "archive/example.org", file)); err != nil {
			t.Fatal(err)
		}
		if _, err := s.Mend(t.Context(), "example.org"); err != nil {
			t.Fatal(err)
		}
		l, err := s.Lineage("example.org")
		if err != nil || l.Number != 2 || l.Fingerprint() != first.Fingerprint() || !cert.Fits(l.Key, l.Leaf()) {
			t.Errorf("without %s: version %d, %v; want the same certificate and key as version 2", file, l.Number, err)
		}
	}
}

func TestLeafWithoutIntermediatesIsWhole(t *testing.T) {
	s := open(t, t.TempDir(), t.TempDir())
	b := bundle()
	b.Chain = b.Chain[:1]
	if l := save(t, s, b); l.Number != 1 || !l.Issued() {
		t.Errorf("a private CA's leaf is version %d, issued %v", l.Number, l.Issued())
	}
}

func TestFilesThatComeDuringAnOrderAreKept(t *testing.T) {
	dir := t.TempDir()
	s := open(t, dir, t.TempDir())
	files, err := bundle().PEM()
	if err != nil {
		t.Fatal(err)
	}
	for file, data := range files {
		write(t, filepath.Join(dir, "live/example.org", file+".pem"), string(data))
	}
	if _, err := s.Save(t.Context(), "example.org", spec, bundle()); err == nil {
		t.Error("Save() went over a person's own files")
	}
	if got, _ := os.ReadFile(filepath.Join(dir, "live/example.org/privkey.pem")); string(got) != string(files[cert.PrivkeyPEM]) {
		t.Error("the person's key has gone")
	}
}

func TestFailedChangeWakesNobody(t *testing.T) {
	certDir, stateDir := t.TempDir(), t.TempDir()
	full := &faulty{fail: func(op string) error {
		if op == "create" {
			return unix.ENOSPC
		}
		return nil
	}}
	s := faultyStore(t, certDir, stateDir, full)
	calls := make(chan struct{}, 100)
	go s.Watch(t.Context(), func() { calls <- struct{}{} })
	for range 3 {
		if _, err := s.Placeholder(t.Context(), "example.org", names); err == nil {
			t.Fatal("a placeholder was stored on a full disk")
		}
		select {
		case <-calls:
			t.Fatal("our own failed write was taken for a change from outside")
		case <-time.After(2 * settle):
		}
	}
}

func TestFullDiskLeavesWhatIsServedUntouched(t *testing.T) {
	for _, op := range []string{"create", "write", "sync", "symlink", "mkdir", "rename", "exchange", "syncdir"} {
		certDir, stateDir := t.TempDir(), t.TempDir()
		old := save(t, open(t, certDir, stateDir), bundle())
		f := &faulty{fail: func(o string) error {
			if o == op {
				return unix.ENOSPC
			}
			return nil
		}}
		changed := spec // so that every operation occurs, also those on the renewal configuration
		changed.Webroot = "/srv/acme"
		_, err := faultyStore(t, certDir, stateDir, f).Save(t.Context(), "example.org", changed, bundle())
		if !errors.Is(err, syscall.ENOSPC) {
			t.Errorf("%s fails: Save() = %v, want ENOSPC", op, err)
		}
		s := open(t, certDir, stateDir)
		if _, err := s.Mend(t.Context(), "example.org"); err != nil {
			t.Errorf("%s fails: Mend() = %v", op, err)
		}
		l, err := s.Lineage("example.org")
		if err != nil || l.Number == 1 && l.Fingerprint() != old.Fingerprint() {
			t.Errorf("%s fails: afterwards version %d, %v", op, l.Number, err)
		}
	}
}

func TestVolumesWithoutLinksOrExchangeWork(t *testing.T) {
	for name, errs := range volumes {
		t.Run(name, func(t *testing.T) {
			certDir, stateDir := t.TempDir(), t.TempDir()
			f := &faulty{fail: func(op string) error { return errs[op] }}
			s := faultyStore(t, certDir, stateDir, f)
			if _, err := s.Placeholder(t.Context(), "example.org", names); err != nil {
				t.Fatal(err)
			}
			write(t, filepath.Join(certDir, "live/example.org/mine.txt"), "mine")
			for want := 1; want <= 3; want++ {
				b := bundle()
				l := save(t, s, b)
				if l.Number != want || l.Fingerprint() != cert.Fingerprint(b.Chain[0]) {
					t.Errorf("Save %d made version %d live", want, l.Number)
				}
			}
			if did, err := s.Mend(t.Context(), "example.org"); did != "" || err != nil {
				t.Errorf("Mend() = %q, %v; want nothing to do", did, err)
			}
			if got, err := os.ReadFile(filepath.Join(certDir, "live/example.org/mine.txt")); string(got) != "mine" {
				t.Errorf("the file of others holds %q, %v", got, err)
			}
		})
	}
}

func TestIncompleteVersionIsSetAsideWithItsKey(t *testing.T) {
	dir := t.TempDir()
	s := open(t, dir, t.TempDir())
	save(t, s, bundle())
	save(t, s, bundle())
	key, err := os.ReadFile(filepath.Join(dir, "archive/example.org/privkey2.pem"))
	if err != nil {
		t.Fatal(err)
	}
	if err := os.Truncate(filepath.Join(dir, "archive/example.org/fullchain2.pem"), 0); err != nil {
		t.Fatal(err)
	}
	if _, err := s.Mend(t.Context(), "example.org"); err != nil {
		t.Fatal(err)
	}
	if l, err := s.Lineage("example.org"); err != nil || l.Number != 1 {
		t.Errorf("after Mend version %d, %v; want 1, the newest whole one", l.Number, err)
	}
	aside, _ := filepath.Glob(filepath.Join(dir, "archive/example.org/.broken-*/privkey2.pem"))
	if len(aside) != 1 {
		t.Fatal("the key of the broken version is gone")
	}
	if got, _ := os.ReadFile(aside[0]); string(got) != string(key) {
		t.Error("the key of the broken version has changed")
	}
}

func TestLinksAreMendedToTheNewestWholeVersion(t *testing.T) {
	damage := map[string]func(live string) error{
		"missing":     func(live string) error { return os.Remove(filepath.Join(live, "privkey.pem")) },
		"dangling":    func(live string) error { return relink(live, "privkey", "../../archive/example.org/privkey9.pem") },
		"mixed":       func(live string) error { return relink(live, "privkey", "../../archive/example.org/privkey1.pem") },
		"leading out": func(live string) error { return relink(live, "privkey", "../../../../etc/passwd") },
		"a loop":      func(live string) error { return relink(live, "privkey", "privkey.pem") },
		"all gone":    os.RemoveAll,
	}
	for name, harm := range damage {
		t.Run(name, func(t *testing.T) {
			dir := t.TempDir()
			s := open(t, dir, t.TempDir())
			save(t, s, bundle())
			want := save(t, s, bundle())
			if err := harm(filepath.Join(dir, "live/example.org")); err != nil {
				t.Fatal(err)
			}
			did, err := s.Mend(t.Context(), "example.org")
			if err != nil || did == "" {
				t.Fatalf("Mend() = %q, %v", did, err)
			}
			if l, err := s.Lineage("example.org"); err != nil || l.Fingerprint() != want.Fingerprint() {
				t.Errorf("after Mend version %d, %v; want 2", l.Number, err)
			}
		})
	}
}

func relink(live, file, target string) error {
	link := filepath.Join(live, file+".pem")
	return errors.Join(os.Remove(link), os.Symlink(target, link))
}

func TestOneSidecertLeads(t *testing.T) {
	certDir, stateDir := t.TempDir(), t.TempDir()
	a, b := open(t, certDir, stateDir), open(t, certDir, stateDir)
	lead, err := a.Lead()
	if err != nil {
		t.Fatal(err)
	}
	if _, err := b.Lead(); !errors.Is(err, ErrLocked) {
		t.Errorf("a second Lead() = %v, want ErrLocked", err)
	}
	lead.Close()
	if _, err := b.Lead(); err != nil {
		t.Errorf("after the first is gone Lead() = %v", err)
	}
}

func TestCertbotsLockIsRespected(t *testing.T) {
	certDir := t.TempDir()
	s := open(t, certDir, t.TempDir())
	f, err := os.Create(filepath.Join(certDir, ".certbot.lock"))
	if err != nil {
		t.Fatal(err)
	}
	defer f.Close()
	// As certbot does it: fcntl.lockf.
	if err := unix.FcntlFlock(f.Fd(), unix.F_SETLK, &unix.Flock_t{Type: unix.F_WRLCK}); err != nil {
		t.Fatal(err)
	}
	if _, err := s.certs.Lock(".certbot.lock"); !errors.Is(err, ErrLocked) {
		t.Errorf("Lock() = %v while certbot has it, want ErrLocked", err)
	}
	// certbot removes the file while it holds the lock: the next lock is on a new file.
	if err := os.Remove(f.Name()); err != nil {
		t.Fatal(err)
	}
	lock, err := s.certs.Lock(".certbot.lock")
	if err != nil {
		t.Fatalf("Lock() after certbot = %v", err)
	}
	lock.Close()
}

func TestNothingLeadsOutOfTheVolume(t *testing.T) {
	outside, dir := t.TempDir(), t.TempDir()
	s := open(t, dir, t.TempDir())
	if err := os.Symlink(outside, filepath.Join(dir, "archive")); err != nil { // put there while we run
		t.Fatal(err)
	}
	if _, err := s.Save(t.Context(), "example.org", spec, bundle()); err == nil {
		t.Error("Save() followed a link out of the volume")
	}
	if entries, _ := os.ReadDir(outside); len(entries) > 0 {
		t.Errorf("outside of the volume there is now %v", entries)
	}
}

func TestFIFOInPlaceOfAFileHoldsNobody(t *testing.T) {
	dir := t.TempDir()
	if err := os.MkdirAll(filepath.Join(dir, "renewal"), 0o755); err != nil {
		t.Fatal(err)
	}
	if err := unix.Mkfifo(filepath.Join(dir, "renewal/example.org.conf"), 0o600); err != nil {
		t.Fatal(err)
	}
	s := open(t, dir, t.TempDir())
	if _, err := s.readConf("example.org"); err == nil {
		t.Error("readConf() read a FIFO")
	}
}

func TestNewerWholeVersionIsMadeLive(t *testing.T) {
	dir := t.TempDir()
	s := open(t, dir, t.TempDir())
	old := ca.Issue(time.Now().Add(-24*time.Hour), life, names...)
	save(t, s, old)
	save(t, s, bundle())
	if err := s.point("example.org", 1); err != nil { // a kill came before the links moved
		t.Fatal(err)
	}
	if did, err := s.Mend(t.Context(), "example.org"); err != nil || did == "" {
		t.Errorf("Mend() = %q, %v", did, err)
	}
	if l, err := s.Lineage("example.org"); err != nil || l.Number != 2 {
		t.Errorf("version %d is live, %v; want 2, which renewal/ describes", l.Number, err)
	}
}
