package storetest_test

import (
	"errors"
	"fmt"
	"io/fs"
	"math/rand/v2"
	"os"
	"path"
	"slices"
	"strings"
	"syscall"
	"testing"
	"testing/synctest"
	"time"

	"github.com/sidecert/sidecert/internal/store"
	"github.com/sidecert/sidecert/internal/store/storetest"
)

// kind is what a caller can ask of an error.
func kind(err error) string {
	for _, known := range []error{store.ErrNoExchange, store.ErrLocked, store.ErrUnfit, fs.ErrClosed} {
		if errors.Is(err, known) {
			return known.Error()
		}
	}
	if errno, ok := errors.AsType[syscall.Errno](err); ok {
		return errno.Error()
	}
	switch {
	case err == nil:
		return ""
	case errors.Is(err, fs.ErrInvalid):
		return "invalid"
	}
	return "another error"
}

func random[T any](r *rand.Rand, all ...T) T { return all[r.IntN(len(all))] }

// name is one of few, so that names meet.
func name(r *rand.Rand) string {
	part := func() string { return random(r, "a", "b", "c", "d") }
	switch r.IntN(20) {
	case 0:
		return random(r, ".", "..", "../a", "/a", "a/..", "a/../b", "a/./b", "")
	case 1, 2, 3, 4, 5, 6:
		return part() + "/" + part()
	case 7, 8:
		return part() + "/" + part() + "/" + part()
	}
	return part()
}

// operation makes one up, and returns what does it and says how it went.
func operation(r *rand.Rand) (text string, do func(store.FS) string) {
	a, b := name(r), name(r)
	perm := random[fs.FileMode](r, 0o600, 0o644, 0o755, 0o400, 0o777)
	said := func(err error) string { return kind(err) }
	switch op := r.IntN(17); op {
	case 0, 1:
		data := []byte(random(r, "", "some", "more of it"))
		return fmt.Sprintf("create %q %o %q", a, perm, data), func(v store.FS) string { return said(written(v.Create(a, perm))(data, perm)) }
	case 2:
		return fmt.Sprintf("append %q %o", a, perm), func(v store.FS) string { return said(written(v.Append(a, 0o600))([]byte("x"), perm)) }
	case 3, 4:
		mode := perm | random[fs.FileMode](r, 0, 0, 0, 0, 0, fs.ModeSetgid, fs.ModeSticky)
		return fmt.Sprintf("mkdir %q %v", a, mode), func(v store.FS) string { return said(v.Mkdir(a, mode)) }
	case 5:
		target := random(r, b, "../"+b, "nowhere", "/etc", "../../..", "")
		return fmt.Sprintf("symlink %q %q", target, a), func(v store.FS) string { return said(v.Symlink(target, a)) }
	case 6:
		return fmt.Sprintf("link %q %q", a, b), func(v store.FS) string { return said(v.Link(a, b)) }
	case 7, 8, 9:
		return fmt.Sprintf("rename %q %q", a, b), func(v store.FS) string { return said(v.Rename(a, b)) }
	case 10:
		return fmt.Sprintf("exchange %q %q", a, b), func(v store.FS) string { return said(v.Exchange(a, b)) }
	case 11, 12:
		return fmt.Sprintf("remove %q", a), func(v store.FS) string { return said(v.Remove(a)) }
	case 13:
		mode := perm | random(r, 0, fs.ModeSetgid, fs.ModeSticky)
		return fmt.Sprintf("chmod %q %v", a, mode), func(v store.FS) string { return said(v.Chmod(a, mode)) }
	case 14:
		uid, gid := owner(r), owner(r)
		return fmt.Sprintf("chown %q %d %d", a, uid, gid), func(v store.FS) string { return said(v.Chown(a, uid, gid)) }
	case 15:
		return fmt.Sprintf("syncdir %q", a), func(v store.FS) string { return said(v.SyncDir(a)) }
	default:
		return fmt.Sprintf("lock %q", a), func(v store.FS) string { return locked(v, a) }
	}
}

// owner is one that the machine's user may give.
func owner(r *rand.Rand) int {
	if os.Getuid() != 0 {
		return -1
	}
	return random(r, -1, 33, 101)
}

func written(f store.File, err error) func(data []byte, perm fs.FileMode) error {
	return func(data []byte, perm fs.FileMode) error {
		if err != nil {
			return err
		}
		_, errWrite := f.Write(data)
		return errors.Join(errWrite, f.Chmod(perm), f.Chown(-1, -1), f.Sync(), f.Close())
	}
}

func locked(v store.FS, name string) string {
	held, err := v.Lock(name)
	if err != nil {
		return kind(err)
	}
	_, again := v.Lock(name)
	first := held.Close()
	held, err = v.Lock(name)
	if err != nil {
		return "not free again: " + err.Error()
	}
	return fmt.Sprint(kind(again), kind(first), kind(held.Close()), kind(held.Close()))
}

// looks is all that can be read under a name.
func looks(v store.FS, name string) string {
	info, err := v.Lstat(name)
	out := fmt.Sprintf("lstat %q ", kind(err))
	if err == nil {
		stat := info.Sys().(*syscall.Stat_t)
		out += fmt.Sprintf("%s %v %d:%d ", info.Name(), info.Mode(), stat.Uid, stat.Gid)
		if !info.IsDir() {
			out += fmt.Sprintf("size %d names %d ", info.Size(), stat.Nlink)
		}
	}
	target, err := v.Readlink(name)
	out += fmt.Sprintf("readlink %q %q ", target, kind(err))
	data, err := v.ReadFile(name)
	out += fmt.Sprintf("readfile %q %q ", data, kind(err))
	entries, err := v.ReadDir(name)
	out += fmt.Sprintf("readdir %q", kind(err))
	for _, e := range entries {
		info, err := e.Info()
		out += fmt.Sprintf(" %s %v %v %v", e.Name(), e.Type(), info.Mode(), err)
	}
	return out
}

// tree is a volume as text.
func tree(t *testing.T, v store.FS, at string) string {
	t.Helper()
	out := at + ": " + looks(v, at) + "\n"
	info, err := v.Lstat(at)
	if err != nil {
		t.Fatal(err)
	}
	if !info.IsDir() {
		return out
	}
	entries, err := v.ReadDir(at)
	if err != nil {
		t.Fatal(err)
	}
	for _, e := range entries {
		out += tree(t, v, path.Join(at, e.Name()))
	}
	return out
}

// TestMemoryIsAsADisk does the same random operations to both.
func TestMemoryIsAsADisk(t *testing.T) {
	defer syscall.Umask(syscall.Umask(0)) // what Disk does against one takes set-id bits away
	done, failed := 0, 0
	for seed := range uint64(60) {
		r := rand.New(rand.NewPCG(seed, 0))
		dir := t.TempDir()
		if err := os.Chmod(dir, 0o755); err != nil {
			t.Fatal(err)
		}
		disk, err := store.OpenDisk(dir)
		if err != nil {
			t.Fatal(err)
		}
		memory := storetest.NewMemory(time.Now)
		if uid, gid := os.Getuid(), os.Getgid(); uid != 0 {
			memory.Chown(".", uid, gid)
		}
		var history []string
		for range 250 {
			text, do := operation(r)
			history = append(history, text)
			want, got := do(disk), do(memory)
			if done++; want != "" {
				failed++
			}
			at := name(r)
			if want == got {
				want, got = looks(disk, at), looks(memory, at)
			}
			if got != want {
				t.Fatalf("seed %d: %q, then %q: memory says\n%s\na disk\n%s", seed, history[max(0, len(history)-8):], at, got, want)
			}
		}
		if want, got := tree(t, disk, "."), tree(t, memory, "."); got != want {
			t.Fatalf("seed %d: memory is\n%s\na disk\n%s", seed, got, want)
		}
		if got := tree(t, memory.Copy(), "."); got != tree(t, memory, ".") {
			t.Fatalf("seed %d: the copy is\n%s", seed, got)
		}
		if before := tree(t, memory, "."); tree(t, memory.Reopen(), ".") != before {
			t.Fatalf("seed %d: reopened it is another than\n%s", seed, before)
		}
	}
	t.Logf("%d operations, %d of them refused, 0 differ", done, failed)
}

func TestNamesAreAsLongAsADisks(t *testing.T) {
	disk, err := store.OpenDisk(t.TempDir())
	must(t, err)
	memory := storetest.NewMemory(time.Now)
	for _, long := range []string{strings.Repeat("n", 255), strings.Repeat("n", 256), strings.Repeat("n", 256) + "/a"} {
		want, got := kind(disk.Mkdir(long, 0o755)), kind(memory.Mkdir(long, 0o755))
		if got != want {
			t.Errorf("a name of %d bytes: memory says %q, a disk %q", len(long), got, want)
		}
	}
}

func put(t *testing.T, v store.FS, name, data string, sync bool) {
	t.Helper()
	f, err := v.Append(name, 0o600)
	if err != nil {
		t.Fatal(err)
	}
	if _, err := f.Write([]byte(data)); err != nil {
		t.Fatal(err)
	}
	if sync {
		must(t, f.Sync())
	}
	must(t, f.Close())
}

func must(t *testing.T, err error) {
	t.Helper()
	if err != nil {
		t.Fatal(err)
	}
}

func read(v store.FS, name string) string {
	data, err := v.ReadFile(name)
	if err != nil {
		return kind(err)
	}
	return string(data)
}

func TestPowerCutTakesWhatWasNotSynced(t *testing.T) {
	const gone = "no such file or directory"
	m := storetest.NewMemory(time.Now)
	put(t, m, "kept", "synced", true)
	put(t, m, "empty", "lost", false)
	must(t, m.Mkdir("dir", 0o755))
	must(t, m.SyncDir("."))
	put(t, m, "kept", ", not synced", false)
	put(t, m, "no entry", "synced", true)
	put(t, m, "dir/no entry", "synced", true)
	must(t, m.Mkdir("no folder", 0o755))
	must(t, m.Symlink("kept", "no link"))
	must(t, m.Link("kept", "no second name"))
	after := m.PowerCut(nil)
	for name, want := range map[string]string{"kept": "synced", "empty": "", "no entry": gone, "dir/no entry": gone, "no folder": gone, "no link": gone, "no second name": gone} {
		if got := read(after, name); got != want {
			t.Errorf("%s is %q, want %q", name, got, want)
		}
	}
	if got := read(m, "kept"); got != "synced, not synced" {
		t.Errorf("without a power cut kept is %q", got)
	}
}

func TestPowerCutUndoesRenamesThatWereNotSynced(t *testing.T) {
	m := storetest.NewMemory(time.Now)
	put(t, m, "new", "new", true)
	put(t, m, "old", "old", true)
	put(t, m, "other", "other", true)
	must(t, m.SyncDir("."))
	must(t, m.Rename("new", "old"))
	must(t, m.Remove("other"))
	before := m.PowerCut(nil)
	must(t, m.SyncDir("."))
	after := m.PowerCut(nil)
	if read(before, "old") != "old" || read(before, "new") != "new" || read(before, "other") != "other" {
		t.Errorf("before the sync old is %q, new %q, other %q", read(before, "old"), read(before, "new"), read(before, "other"))
	}
	if read(after, "old") != "new" || len(entries(t, after)) != 1 {
		t.Errorf("after the sync old is %q, entries are %q", read(after, "old"), entries(t, after))
	}
}

func entries(t *testing.T, v store.FS) []string {
	t.Helper()
	all, err := v.ReadDir(".")
	must(t, err)
	var names []string
	for _, e := range all {
		names = append(names, e.Name())
	}
	return names
}

// TestPowerCutLeavesEveryHazardAtSomeTime: a file that was renamed into place and not synced is old, new, missing its contents, torn or
// of zeros, and an exchange happens as a whole.
func TestPowerCutLeavesEveryHazardAtSomeTime(t *testing.T) {
	m := storetest.NewMemory(time.Now)
	put(t, m, "a", "old", true)
	must(t, m.Mkdir("x", 0o755))
	must(t, m.Mkdir("y", 0o755))
	put(t, m, "x/is x", "", true)
	must(t, m.SyncDir("."))
	must(t, m.SyncDir("x"))
	put(t, m, "a.new", "new", false)
	must(t, m.Rename("a.new", "a"))
	must(t, m.Exchange("x", "y"))
	seen := map[string]int{}
	for seed := range uint64(500) {
		after := m.PowerCut(rand.New(rand.NewPCG(seed, 0)))
		seen[read(after, "a")]++
		inX, inY := read(after, "x/is x") == "", read(after, "y/is x") == ""
		if inX == inY {
			t.Fatalf("seed %d: half an exchange: x %t, y %t", seed, inX, inY)
		}
		seen[fmt.Sprint("exchanged ", inY)]++
		if same := m.PowerCut(rand.New(rand.NewPCG(seed, 0))); tree(t, same, ".") != tree(t, after, ".") {
			t.Fatalf("seed %d: the same seed leaves something else", seed)
		}
	}
	for _, hazard := range []string{"old", "new", "", "n", "\x00\x00\x00", "n\x00\x00", "exchanged true", "exchanged false"} {
		if seen[hazard] == 0 {
			t.Errorf("in 500 cuts %q was not seen once: %v", hazard, seen)
		}
	}
}

func TestKilledProcessLosesItsLocksAndIsHeardNoMore(t *testing.T) {
	m := storetest.NewMemory(time.Now)
	if _, err := m.Lock("lock"); err != nil {
		t.Fatal(err)
	}
	put(t, m, "a", "not synced", false)
	f, err := m.Append("a", 0o600)
	must(t, err)
	next := m.Reopen()
	if _, err := f.Write([]byte("x")); !errors.Is(err, storetest.ErrKilled) {
		t.Errorf("a killed process writes: %v", err)
	}
	if err := m.Remove("a"); !errors.Is(err, storetest.ErrKilled) {
		t.Errorf("a killed process removes: %v", err)
	}
	if _, err := next.Lock("lock"); err != nil {
		t.Errorf("the lock of a killed process is held: %v", err)
	}
	if got := read(next, "a"); got != "not synced" {
		t.Errorf("what a killed process wrote is %q", got)
	}
}

func TestCopyIsAnotherVolume(t *testing.T) {
	m := storetest.NewMemory(time.Now)
	put(t, m, "a", "both", true)
	put(t, m, "a", ",", false)
	c := m.Copy()
	put(t, m, "a", "one", true)
	put(t, c, "a", "two", false)
	if read(m, "a") != "both,one" || read(c, "a") != "both,two" {
		t.Errorf("after a copy they hold %q and %q", read(m, "a"), read(c, "a"))
	}
}

func TestMemoryGoesByTheClockOfABubble(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		m := storetest.NewMemory(time.Now)
		put(t, m, "a", "", false)
		time.Sleep(240 * time.Hour)
		put(t, m, "b", "", false)
		a, errA := m.Lstat("a")
		b, errB := m.Lstat("b")
		if err := errors.Join(errA, errB); err != nil {
			t.Fatal(err)
		}
		if age := b.ModTime().Sub(a.ModTime()); age != 240*time.Hour {
			t.Errorf("b is %v younger, want 240h0m0s", age)
		}
	})
}

func TestFaultsHarmTheVeryOperation(t *testing.T) {
	story := func(f *storetest.Faults, m store.FS) (errs []string) {
		v, w := f.Wrap(m), f.Wrap(storetest.NewMemory(time.Now))
		said := func(err error) { errs = append(errs, errorText(err)) }
		said(w.Mkdir("dir", 0o755)) // 1
		file, err := v.Create("a", 0o600)
		said(err) // 2
		if err == nil {
			_, err := file.Write([]byte("1234"))
			said(err)         // 3
			said(file.Sync()) // 4
			file.Close()
		}
		said(v.SyncDir(".")) // 5
		_, err = v.ReadFile("a")
		said(err)
		return errs
	}
	const full, killed = "no space left on device", "killed"
	for _, row := range []struct {
		at   int
		harm storetest.Harm
		want []string
		left string
	}{
		{0, storetest.FailOnce, []string{"", "", "", "", "", ""}, "1234"},
		{1, storetest.FailOnce, []string{full, "", "", "", "", ""}, "1234"},
		{2, storetest.FailOnce, []string{"", full, "", "no such file or directory"}, "no such file or directory"},
		{3, storetest.FailOnce, []string{"", "", full, "", "", ""}, ""},
		{3, storetest.FailOn, []string{"", "", full, full, full, ""}, ""},
		{3, storetest.WriteShort, []string{"", "", full, "", "", ""}, "12"},
		{4, storetest.WriteShort, []string{"", "", "", full, "", ""}, "1234"},
		{3, storetest.KillBefore, []string{"", "", killed, killed, killed, killed}, ""},
		{3, storetest.KillAfter, []string{"", "", killed, killed, killed, killed}, "1234"},
		{3, storetest.KillTorn, []string{"", "", killed, killed, killed, killed}, "12"},
	} {
		m := storetest.NewMemory(time.Now)
		f := &storetest.Faults{At: row.at, Harm: row.harm, Err: syscall.ENOSPC}
		if got := story(f, m); !slices.Equal(got, row.want) {
			t.Errorf("%v at %d: %q, want %q", row.harm, row.at, got, row.want)
		}
		if got := read(m, "a"); got != row.left {
			t.Errorf("%v at %d: the file is %q, want %q", row.harm, row.at, got, row.left)
		}
	}
	reads := &storetest.Faults{At: 6, Err: syscall.EIO, Reads: true}
	if got := story(reads, storetest.NewMemory(time.Now)); got[5] != "input/output error" || reads.Reached() != "readfile a" {
		t.Errorf("a read that fails: %q, at %q", got, reads.Reached())
	}
	refuse := &storetest.Faults{Refuse: storetest.Refusing(map[string]error{"sync": syscall.EINVAL})}
	if got := story(refuse, storetest.NewMemory(time.Now)); got[3] != "invalid argument" || refuse.Count() != 5 {
		t.Errorf("a file system without fsync: %q, %d operations", got, refuse.Count())
	}
}

func errorText(err error) string {
	if errors.Is(err, storetest.ErrKilled) {
		return "killed"
	}
	return kind(err)
}
