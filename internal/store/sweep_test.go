package store_test

import (
	"context"
	"crypto/ecdsa"
	"errors"
	"fmt"
	"io/fs"
	"math/rand/v2"
	"os"
	"os/exec"
	"path"
	"path/filepath"
	"slices"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/sidecert/sidecert/internal/cert"
	"github.com/sidecert/sidecert/internal/store"
	"github.com/sidecert/sidecert/internal/store/storetest"
)

const example = "example.org"

// volumes are CERT_DIR and STATE_DIR; haproxy is EXTRA_FILES.
type volumes struct {
	certs, state store.FS
	haproxy      bool
}

func (v volumes) store() *store.Store {
	o := store.OptionsFor("/certs", "/state")
	o.Haproxy = v.haproxy
	return store.New(v.certs, v.state, o)
}

func (v volumes) harmed(f *storetest.Faults) *store.Store {
	return volumes{f.Wrap(v.certs), f.Wrap(v.state), v.haproxy}.store()
}

// machine is a pair of volumes whose power can be cut.
type machine struct{ certs, state *storetest.Memory }

func newMachine() machine {
	return machine{storetest.NewMemory(time.Now), storetest.NewMemory(time.Now)}
}

func (m machine) volumes() volumes { return volumes{certs: m.certs, state: m.state} }
func (m machine) copy() machine    { return machine{m.certs.Copy(), m.state.Copy()} }
func (m machine) cut(r *rand.Rand) machine {
	return machine{m.certs.PowerCut(r), m.state.PowerCut(r)}
}

// promise is something of which a caller was told that it is done.
type promise struct {
	what string
	kept func(s *store.Store) bool
}

// story is a deed that something happens to. What it was told is in promises, also where it did not end.
type story struct {
	prepare func(t *testing.T, v volumes)
	// haproxy says that live/NAME/haproxy.pem is wanted; foreign that a person's own stands there, which stays.
	haproxy, foreign bool
	deed             func(s *store.Store) (promises []promise, err error)
	// always holds whatever has happened, after one Mend.
	always []promise
	// served says which certificates may be live afterwards; nil where there need be none.
	served []string
}

var (
	older, newer   = store.CA.Issue(time.Now().Add(-48*time.Hour), store.Life, store.Names...), store.Bundle()
	accountCA      = cert.CA{Directory: "https://ca.example/dir"}
	accountKey, _  = cert.NewKey(cert.EC256)
	fingerprintOld = cert.Fingerprint(older.Chain[0])
	fingerprintNew = cert.Fingerprint(newer.Chain[0])
)

func keyOf(b cert.Bundle) promise {
	return promise{"its key is there", func(s *store.Store) bool { return s.HoldsKey(example, b) }}
}

func liveIs(fingerprint string) promise {
	return promise{"its certificate is live", func(s *store.Store) bool {
		l, err := s.Lineage(example)
		return err == nil && l.Fingerprint() == fingerprint
	}}
}

func mustSave(t *testing.T, v volumes, b cert.Bundle) {
	t.Helper()
	if _, err := v.store().Save(t.Context(), example, store.Spec, b); err != nil {
		t.Fatal(err)
	}
}

// place puts a synced file in the place of what stands there.
func place(t *testing.T, v store.FS, name string, data []byte) {
	t.Helper()
	if err := v.Remove(name); err != nil && !errors.Is(err, fs.ErrNotExist) {
		t.Fatal(err)
	}
	f, err := v.Create(name, 0o600)
	if err != nil {
		t.Fatal(err)
	}
	_, err = f.Write(data)
	if err := errors.Join(err, f.Sync(), f.Close(), v.SyncDir(path.Dir(name))); err != nil {
		t.Fatal(err)
	}
}

func saving(s *store.Store) ([]promise, error) {
	_, err := s.Save(context.Background(), example, store.Spec, newer)
	if err != nil {
		return nil, err
	}
	return []promise{liveIs(fingerprintNew), keyOf(newer)}, nil
}

func mending(s *store.Store) ([]promise, error) {
	_, err := s.Mend(context.Background(), example)
	return nil, err
}

// remembering is what an attempt leaves in STATE_DIR.
func remembering(s *store.Store) (told []promise, err error) {
	if err := s.SaveAttempts(example, cert.Attempts{Failures: 2, Order: &cert.Order{Key: []byte("key"), CSR: []byte("csr")}}); err != nil {
		return told, err
	}
	told = append(told, promise{"the order's key is remembered", func(s *store.Store) bool {
		a, err := s.Attempts(example)
		return err == nil && a.Failures == 2 && a.Order != nil && string(a.Order.Key) == "key"
	}})
	if err := s.SaveGuard(cert.Guard{Issued: map[string][]time.Time{"set": {time.Unix(1, 0)}}}); err != nil {
		return told, err
	}
	told = append(told, promise{"the guard is remembered", func(s *store.Store) bool {
		g, err := s.Guard()
		return err == nil && len(g.Issued["set"]) == 1
	}})
	for i := range 2 {
		failed := s.Append(cert.Event{Time: time.Unix(int64(10+i), 0), Kind: cert.EventFailed})
		if err = errors.Join(err, failed); failed == nil { // a journal goes on after a line that failed
			told = append(told, journalHas(int64(10+i)))
		}
	}
	return told, err
}

func journalHas(second int64) promise {
	return promise{fmt.Sprintf("event %d is in the journal", second), func(s *store.Store) bool {
		all, err := s.Journal()
		return err == nil && slices.ContainsFunc(all, func(e cert.Event) bool { return e.Time.Unix() == second })
	}}
}

func registering(s *store.Store) (told []promise, err error) {
	for _, uri := range []string{"", "https://ca.example/acct/1"} {
		if err := s.SaveAccount(accountCA, cert.Account{Key: accountKey, URI: uri}); err != nil {
			return told, err
		}
		told = append(told, promise{"the account's key is there", func(s *store.Store) bool {
			a, err := s.Account(accountCA)
			return err == nil && accountKey.(*ecdsa.PrivateKey).Equal(a.Key) && (uri == "" || a.URI == uri)
		}})
	}
	return told, nil
}

func stories() map[string]story {
	moved := store.Spec
	moved.CA.Directory = "https://other.example/dir"
	renewable := []string{fingerprintOld, fingerprintNew}
	adopted := func(t *testing.T, v volumes) {
		mustSave(t, v, older)
		place(t, v.certs, "renewal/example.org.conf", []byte(store.Conf))
	}
	return map[string]story{
		"first Save": {
			prepare: func(t *testing.T, v volumes) {
				if _, err := v.store().Placeholder(t.Context(), example, store.Names); err != nil {
					t.Fatal(err)
				}
			},
			deed: saving, haproxy: true, served: []string{"placeholder", fingerprintNew},
		},
		"renewal": {prepare: func(t *testing.T, v volumes) { mustSave(t, v, older) }, deed: saving, haproxy: true, always: []promise{keyOf(older)}, served: renewable},
		"Save over certbot's": {
			prepare: func(t *testing.T, v volumes) {
				adopted(t, v)
				place(t, v.certs, haproxyPEM, []byte(foreign))
			},
			deed: saving, haproxy: true, foreign: true, served: renewable,
			always: []promise{keyOf(older), {"certbot's conf keeps what it held", func(s *store.Store) bool {
				l, err := s.Lineage(example)
				return err == nil && l.Conf.Certbot
			}}},
		},
		"Mend of copies": {
			prepare: func(t *testing.T, v volumes) {
				adopted(t, v)
				for _, file := range cert.Files {
					data, err := v.certs.ReadFile("live/example.org/" + file + ".pem")
					if err != nil {
						t.Fatal(err)
					}
					place(t, v.certs, "live/example.org/"+file+".pem", data)
				}
			},
			deed: mending, always: []promise{keyOf(older)}, served: []string{fingerprintOld},
		},
		"Mend of copies that no version holds": {
			prepare: func(t *testing.T, v volumes) {
				adopted(t, v)
				files, err := newer.PEM()
				if err != nil {
					t.Fatal(err)
				}
				for file, data := range files {
					place(t, v.certs, "live/example.org/"+file+".pem", data)
				}
			},
			deed: mending, always: []promise{keyOf(older), keyOf(newer)}, served: []string{fingerprintNew},
		},
		"Mend of mixed versions": {
			prepare: func(t *testing.T, v volumes) {
				mustSave(t, v, older)
				mustSave(t, v, newer)
				link := "live/example.org/privkey.pem"
				if err := errors.Join(v.certs.Remove(link), v.certs.Symlink("../../archive/example.org/privkey1.pem", link), v.certs.SyncDir(path.Dir(link))); err != nil {
					t.Fatal(err)
				}
			},
			deed: mending, always: []promise{keyOf(older), keyOf(newer)}, served: []string{fingerprintNew},
		},
		"Mend of half a version": {
			prepare: func(t *testing.T, v volumes) {
				mustSave(t, v, older)
				mustSave(t, v, newer)
				place(t, v.certs, "archive/example.org/fullchain2.pem", nil)
			},
			deed: mending, haproxy: true, always: []promise{keyOf(older), keyOf(newer)}, served: []string{fingerprintOld},
		},
		"Mend of a haproxy.pem": {
			prepare: func(t *testing.T, v volumes) {
				mustSave(t, v, older)
				place(t, v.certs, haproxyPEM, nil)
			},
			deed: mending, haproxy: true, always: []promise{keyOf(older)}, served: []string{fingerprintOld},
		},
		"RecordConf": {
			prepare: func(t *testing.T, v volumes) { mustSave(t, v, older) },
			deed: func(s *store.Store) ([]promise, error) {
				if _, err := s.RecordConf(context.Background(), example, moved); err != nil {
					return nil, err
				}
				return []promise{{"the conf names the CA", func(s *store.Store) bool {
					l, err := s.Lineage(example)
					return err == nil && l.Conf.Server == moved.CA.Directory
				}}}, nil
			},
			always: []promise{keyOf(older)}, served: []string{fingerprintOld},
		},
		"Delete": {
			prepare: func(t *testing.T, v volumes) {
				mustSave(t, v, older)
				mustSave(t, v, newer)
			},
			deed: func(s *store.Store) ([]promise, error) {
				if err := s.Delete(context.Background(), example); err != nil {
					return nil, err
				}
				return []promise{{"nothing is left", func(s *store.Store) bool { return !s.Knows(example) }}}, nil
			},
			always: []promise{{"another Delete leaves nothing", func(s *store.Store) bool {
				err := s.Delete(context.Background(), example)
				return (err == nil || errors.Is(err, fs.ErrNotExist)) && !s.Knows(example)
			}}},
		},
		"account": {
			prepare: func(*testing.T, volumes) {}, deed: registering,
			always: []promise{{"the account is whole or none", func(s *store.Store) bool {
				a, err := s.Account(accountCA)
				return errors.Is(err, fs.ErrNotExist) || err == nil && accountKey.(*ecdsa.PrivateKey).Equal(a.Key)
			}}, {"it can be saved again", func(s *store.Store) bool {
				told, err := registering(s)
				return err == nil && told[1].kept(s)
			}}},
		},
		"state": {
			prepare: func(t *testing.T, v volumes) {
				s := v.store()
				if err := errors.Join(s.SaveAttempts(example, cert.Attempts{Failures: 1}), s.Append(cert.Event{Time: time.Unix(1, 0), Kind: cert.EventFailed})); err != nil {
					t.Fatal(err)
				}
			},
			deed: remembering,
			always: []promise{journalHas(1), {"attempts are the old or the new ones", func(s *store.Store) bool {
				a, err := s.Attempts(example)
				return err == nil && a.Failures > 0
			}}, {"they can be saved again", func(s *store.Store) bool { _, err := remembering(s); return err == nil }}},
		},
	}
}

// fileSystems are those that users have, by the operations that fail on them.
var fileSystems = map[string]map[string]error{
	"ext4":                       nil,
	"no symbolic links":          {"symlink": syscall.EPERM, "link": syscall.EPERM},
	"no exchange":                {"exchange": store.ErrNoExchange},
	"neither links nor exchange": {"symlink": syscall.EOPNOTSUPP, "link": syscall.EOPNOTSUPP, "exchange": store.ErrNoExchange},
	"no modes":                   {"chmod": syscall.EPERM, "chown": syscall.EPERM},
}

// harm is what happens at an operation.
type harm struct {
	how storetest.Harm
	err error
}

// harms are all that can happen.
func harms() (all []harm) {
	for _, errno := range []error{syscall.ENOSPC, syscall.EIO, syscall.EROFS, syscall.EDQUOT} {
		all = append(all, harm{storetest.FailOnce, errno})
	}
	for _, how := range []storetest.Harm{storetest.FailOn, storetest.WriteShort, storetest.KillBefore, storetest.KillAfter, storetest.KillTorn} {
		all = append(all, harm{how, syscall.ENOSPC})
	}
	return all
}

// stride is how many operations are left out between two that are harmed, unless SWEEP=full.
func stride(n int) int {
	if os.Getenv("SWEEP") == "full" {
		return 1
	}
	return n
}

// tally counts points, and reports the first wrong ones.
type tally struct {
	t             *testing.T
	points, wrong int
}

func (y *tally) point(where string, faults []string) {
	y.t.Helper()
	if y.points++; len(faults) == 0 {
		return
	}
	if y.wrong++; y.wrong <= 5 {
		y.t.Errorf("%s: %s", where, strings.Join(faults, "; "))
	}
}

func (y *tally) done(atLeast int) {
	y.t.Helper()
	y.t.Logf("%d points, %d wrong", y.points, y.wrong)
	if y.points < atLeast {
		y.t.Errorf("only %d points were tried, want %d", y.points, atLeast)
	}
}

// sweep does a story's deed with one harm at each operation, on what fresh returns, and hands over what is left.
func (st story) sweep(h harm, refuse map[string]error, by int, fresh func() volumes, left func(where string, v volumes, told []promise)) {
	for n := 1; ; n += by {
		v := fresh()
		v.haproxy = st.haproxy
		f := &storetest.Faults{At: n, Harm: h.how, Err: h.err, Refuse: storetest.Refusing(refuse)}
		told, err := st.deed(v.harmed(f))
		if f.Reached() == "" {
			left(fmt.Sprintf("unharmed (%v)", err), v, told)
			return
		}
		left(fmt.Sprintf("%v %v at operation %d, %s, answered %v", h.how, h.err, n, f.Reached(), err), v, told)
	}
}

// begin prepares a machine for the story.
func (st story) begin(t *testing.T, m machine) {
	t.Helper()
	v := m.volumes()
	v.haproxy = st.haproxy
	st.prepare(t, v)
}

// wrongs are what is not as it must be after a restart and one Mend.
func (st story) wrongs(v volumes, refuse map[string]error, told []promise) (wrong []string) {
	say := func(format string, args ...any) { wrong = append(wrong, fmt.Sprintf(format, args...)) }
	v.haproxy = st.haproxy
	s := v.harmed(&storetest.Faults{Refuse: storetest.Refusing(refuse)})
	if _, err := s.Mend(context.Background(), example); err != nil {
		say("Mend() = %v", err)
	}
	for _, p := range told {
		if !p.kept(s) {
			say("it was told and is not so that %s", p.what)
		}
	}
	for _, p := range st.always {
		if !p.kept(s) {
			say("it is not so that %s", p.what)
		}
	}
	if st.served == nil {
		return wrong
	}
	l, err := s.Lineage(example)
	is := l.Fingerprint()
	if l.Placeholder {
		is = "placeholder"
	}
	if err != nil || !slices.Contains(st.served, is) {
		say("live is version %d, %v", l.Number, err)
	}
	if err := s.WholeLive(example); err != nil {
		say("live is not whole: %v", err)
	}
	if err := st.haproxyIsRight(v, s); err != nil {
		say("%v", err)
	}
	if did, err := s.Mend(context.Background(), example); did != "" || err != nil {
		say("a second Mend() = %q, %v", did, err)
	}
	next := store.Spec
	next.Webroot = "/srv/next"
	b := store.Bundle()
	if l, err := s.Save(context.Background(), example, next, b); err != nil || l.Fingerprint() != cert.Fingerprint(b.Chain[0]) {
		say("the next Save() = version %d, %v", l.Number, err)
	}
	for _, p := range st.always {
		if !p.kept(s) {
			say("after the next Save() it is not so that %s", p.what)
		}
	}
	if err := st.haproxyIsRight(v, s); err != nil {
		say("after the next Save() %v", err)
	}
	if all, errs := s.Lineages(); len(all) != 1 || len(errs) > 0 {
		say("there are %d lineages, %v", len(all), errs)
	}
	return append(wrong, leftovers(v.certs, ".")...)
}

// haproxyPEM is in the folder of the example; foreign is what a person has put there.
const (
	haproxyPEM = "live/example.org/haproxy.pem"
	foreign    = "a person's own\n"
)

// haproxyIsRight returns an error unless haproxy.pem is of what is live, a person's own, or not there, as the story wants it.
func (st story) haproxyIsRight(v volumes, s *store.Store) error {
	data, err := v.certs.ReadFile(haproxyPEM)
	switch {
	case !st.haproxy:
		if !errors.Is(err, fs.ErrNotExist) {
			return fmt.Errorf("there is a haproxy.pem that nobody wants (%v)", err)
		}
		return nil
	case st.foreign:
		if string(data) != foreign {
			return fmt.Errorf("a person's haproxy.pem is %.40q, %v", data, err)
		}
		return nil
	}
	return s.HaproxyIsOfLive(example)
}

// leftovers are names that begin with a dot and are not to stay.
func leftovers(v store.FS, dir string) (all []string) {
	entries, _ := v.ReadDir(dir)
	for _, e := range entries {
		name := path.Join(dir, e.Name())
		stays := slices.ContainsFunc([]string{".broken-", ".sidecert.try", ".certbot.lock"}, func(prefix string) bool { return strings.HasPrefix(e.Name(), prefix) })
		if strings.HasPrefix(e.Name(), ".") && !stays {
			all = append(all, name+" is left over")
		}
		if e.IsDir() && !strings.HasPrefix(e.Name(), ".") {
			all = append(all, leftovers(v, name)...)
		}
	}
	return all
}

// TestStoreSurvivesEveryHarmAtEveryOperation: whatever fails or kills, after a restart and one Mend what is live is whole, what was told
// is so, no key is lost, nothing is left over, and the next Save works. Where folders can be exchanged it is whole before that too.
func TestStoreSurvivesEveryHarmAtEveryOperation(t *testing.T) {
	for kind, refuse := range fileSystems {
		t.Run(kind, func(t *testing.T) {
			y := &tally{t: t}
			for name, st := range stories() {
				m := newMachine()
				st.begin(t, m)
				wasWhole := m.volumes().store().WholeLive(example) == nil
				hadHaproxy := wasWhole && m.volumes().store().HaproxyIsOfLive(example) == nil
				for _, h := range harms() {
					st.sweep(h, refuse, stride(7), func() volumes { return m.copy().volumes() }, func(where string, v volumes, told []promise) {
						var wrong []string
						if err := v.store().WholeLive(example); err != nil && st.served != nil && wasWhole && refuse["exchange"] == nil {
							wrong = append(wrong, "at once live is not whole: "+err.Error())
						}
						if err := v.store().HaproxyIsOfLive(example); err != nil && hadHaproxy && refuse["exchange"] == nil {
							wrong = append(wrong, "at once "+err.Error())
						}
						y.point(name+": "+where, append(wrong, st.wrongs(v, refuse, told)...))
					})
				}
			}
			y.done(300)
		})
	}
}

// TestStoreSurvivesAPowerCutAtEveryOperation: of what was not synced nothing survives, or some of it.
func TestStoreSurvivesAPowerCutAtEveryOperation(t *testing.T) {
	for kind, refuse := range fileSystems {
		t.Run(kind, func(t *testing.T) {
			y := &tally{t: t}
			for name, st := range stories() {
				m := newMachine()
				st.begin(t, m)
				m = m.cut(nil)
				for _, how := range []storetest.Harm{storetest.KillBefore, storetest.KillTorn} {
					var running machine
					fresh := func() volumes { running = m.copy(); return running.volumes() }
					st.sweep(harm{how, nil}, refuse, stride(5), fresh, func(where string, _ volumes, told []promise) {
						y.point(name+": power cut, nothing survives, "+where, st.wrongs(running.cut(nil).volumes(), refuse, told))
						for seed := range uint64(3) {
							after := running.cut(rand.New(rand.NewPCG(seed, uint64(y.points))))
							y.point(fmt.Sprintf("%s: power cut, seed %d, %s", name, seed, where), st.wrongs(after.volumes(), refuse, told))
						}
					})
				}
			}
			y.done(300)
		})
	}
}

// TestStoreSurvivesEveryHarmOnRealFileSystems is the sweep where the kernel has its word.
func TestStoreSurvivesEveryHarmOnRealFileSystems(t *testing.T) {
	for name, mount := range map[string]func(t *testing.T) string{
		"the tests' own": func(t *testing.T) string { return t.TempDir() },
		"tmpfs":          inMemory, "ext4": onExt4, "overlay": onOverlay,
	} {
		t.Run(name, func(t *testing.T) {
			root, y := mount(t), &tally{t: t}
			for name, st := range stories() {
				m := newMachine()
				st.begin(t, m)
				fresh := func() volumes { return volumes{certs: poured(t, root, m.certs), state: poured(t, root, m.state)} }
				for i, h := range harms() {
					st.sweep(h, nil, stride(9+i), fresh, func(where string, v volumes, told []promise) {
						y.point(name+": "+where, st.wrongs(v, nil, told))
					})
				}
			}
			y.done(100)
		})
	}
}

// poured is a new folder of a real disk with the contents of a volume.
func poured(t *testing.T, root string, from store.FS) store.FS {
	t.Helper()
	dir, err := os.MkdirTemp(root, "v")
	if err != nil {
		t.Fatal(err)
	}
	if err := os.Chmod(dir, 0o755); err != nil {
		t.Fatal(err)
	}
	disk, err := store.OpenDisk(dir)
	if err != nil {
		t.Fatal(err)
	}
	pour(t, from, disk, ".")
	return disk
}

func pour(t *testing.T, from, to store.FS, dir string) {
	t.Helper()
	entries, err := from.ReadDir(dir)
	for _, e := range entries {
		name := path.Join(dir, e.Name())
		info, errInfo := e.Info()
		target, _ := from.Readlink(name)
		switch err = errors.Join(err, errInfo); {
		case e.IsDir():
			err = errors.Join(err, to.Mkdir(name, info.Mode().Perm()))
			pour(t, from, to, name)
		case target != "":
			err = errors.Join(err, to.Symlink(target, name))
		default:
			data, errRead := from.ReadFile(name)
			f, errCreate := to.Create(name, info.Mode().Perm())
			if err = errors.Join(err, errRead, errCreate); err == nil {
				_, err = f.Write(data)
				err = errors.Join(err, f.Close())
			}
		}
	}
	if err != nil {
		t.Fatal(err)
	}
}

func inMemory(t *testing.T) string {
	t.Helper()
	dir, err := os.MkdirTemp("/dev/shm", "sidecert")
	if err != nil {
		t.Skipf("no /dev/shm: %v", err)
	}
	t.Cleanup(func() { os.RemoveAll(dir) })
	return dir
}

// mounted mounts something on a folder, and skips visibly where that is refused.
func mounted(t *testing.T, at string, args ...string) string {
	t.Helper()
	if err := os.Mkdir(at, 0o755); err != nil {
		t.Fatal(err)
	}
	if out, err := exec.Command("mount", append(args, at)...).CombinedOutput(); err != nil {
		t.Skipf("mount is refused: %v, %s", err, out)
	}
	t.Cleanup(func() {
		// At once out of sight, and gone when the last volume in it is closed.
		if out, err := exec.Command("umount", "--lazy", at).CombinedOutput(); err != nil {
			t.Errorf("umount: %v, %s", err, out)
		}
	})
	return at
}

func onExt4(t *testing.T) string {
	t.Helper()
	dir := inMemory(t)
	image := filepath.Join(dir, "image")
	if err := errors.Join(os.WriteFile(image, nil, 0o600), os.Truncate(image, 256<<20)); err != nil {
		t.Fatal(err)
	}
	if out, err := exec.Command("mkfs.ext4", "-q", "-N", "100000", image).CombinedOutput(); err != nil {
		t.Skipf("mkfs.ext4: %v, %s", err, out)
	}
	return mounted(t, filepath.Join(dir, "ext4"), "-o", "loop", image)
}

func onOverlay(t *testing.T) string {
	t.Helper()
	dir := inMemory(t)
	for _, part := range []string{"lower", "upper", "work"} {
		if err := os.Mkdir(filepath.Join(dir, part), 0o755); err != nil {
			t.Fatal(err)
		}
	}
	options := strings.NewReplacer("DIR", dir).Replace("lowerdir=DIR/lower,upperdir=DIR/upper,workdir=DIR/work")
	return mounted(t, filepath.Join(dir, "overlay"), "-t", "overlay", "overlay", "-o", options)
}

// TestJournalGoesOnAfterALineThatDidNotFit: the next line is not lost with the half of one before it.
func TestJournalGoesOnAfterALineThatDidNotFit(t *testing.T) {
	m := newMachine()
	if err := m.volumes().store().Append(cert.Event{Time: time.Unix(1, 0)}); err != nil {
		t.Fatal(err)
	}
	for n := 1; ; n++ {
		after := m.copy()
		f := &storetest.Faults{At: n, Harm: storetest.WriteShort, Err: syscall.ENOSPC}
		s := after.volumes().harmed(f)
		var told []promise
		for second := range int64(4) {
			if s.Append(cert.Event{Time: time.Unix(10+second, 0)}) == nil {
				told = append(told, journalHas(10+second))
			}
		}
		for _, p := range append(told, journalHas(1)) {
			if !p.kept(after.cut(nil).volumes().store()) {
				t.Errorf("%s did not fit: after a power cut it is not so that %s", f.Reached(), p.what)
			}
		}
		if f.Reached() == "" {
			return
		}
		if len(told) < 3 {
			t.Errorf("%s did not fit: %d of 4 events were kept, want 3", f.Reached(), len(told))
		}
	}
}
