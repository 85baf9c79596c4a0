package storetest

import (
	"errors"
	"io"
	"io/fs"
	"sync"

	"github.com/sidecert/sidecert/internal/store"
)

// ErrKilled is what a killed process would get, if it got anything.
var ErrKilled = errors.New("killed")

// Harm is what happens at an operation.
type Harm int

const (
	// FailOnce fails the operation with Faults.Err, and FailOn also every later one.
	FailOnce Harm = iota
	FailOn
	// WriteShort is FailOnce that writes half of the data first.
	WriteShort
	// The kills do nothing of any later operation. Before does nothing of this one either, After all of it, and Torn writes half of the
	// data; where there is nothing to write it is Before.
	KillBefore
	KillAfter
	KillTorn
)

func (h Harm) String() string {
	return [...]string{"fails once", "fails from then on", "writes short", "killed before", "killed after", "killed within"}[h]
}

// Faults harms one operation of all that are done to the volumes that it wraps, which it counts together. Its zero value counts.
type Faults struct {
	// At is the operation, from 1; 0 harms none.
	At   int
	Harm Harm
	Err  error
	// Reads counts what only reads too. Otherwise an operation is what changes a volume, a sync or a lock.
	Reads bool
	// Refuse imitates a file system: where it returns an error, every operation of that name (create, append, write, sync, mkdir, chown,
	// chmod, symlink, link, rename, exchange, remove, syncdir, lock) fails with it. Those that fail so are counted.
	Refuse func(op string) error

	mu     sync.Mutex
	count  int
	last   string
	killed bool
}

// Refusing returns a Refuse that goes by a table.
func Refusing(errs map[string]error) func(op string) error {
	return func(op string) error { return errs[op] }
}

// Wrap returns a volume that the faults happen to.
func (f *Faults) Wrap(v store.FS) store.FS { return &volume{v, f} }

// Count is how many operations there were.
func (f *Faults) Count() int {
	f.mu.Lock()
	defer f.mu.Unlock()
	return f.count
}

// Reached says which operation was harmed, as in "rename live/x"; "" if there were not so many.
func (f *Faults) Reached() string {
	f.mu.Lock()
	defer f.mu.Unlock()
	return f.last
}

// verdict is what becomes of an operation: done or not, and what is said of it.
type verdict struct {
	do, half bool
	err      error
}

// next counts an operation and says what becomes of it.
func (f *Faults) next(op, name string) verdict {
	f.mu.Lock()
	defer f.mu.Unlock()
	if f.killed {
		return verdict{err: ErrKilled}
	}
	f.count++
	if f.At > 0 && (f.count == f.At || f.count > f.At && f.Harm == FailOn) {
		if f.last == "" {
			f.last = op + " " + name
		}
		return f.harm()
	}
	if f.Refuse != nil {
		if err := f.Refuse(op); err != nil {
			return verdict{err: err}
		}
	}
	return verdict{do: true}
}

func (f *Faults) harm() verdict {
	switch f.Harm {
	case WriteShort:
		return verdict{half: true, err: f.Err}
	case KillBefore, KillAfter, KillTorn:
		f.killed = true
		return verdict{do: f.Harm == KillAfter, half: f.Harm == KillTorn, err: ErrKilled}
	}
	return verdict{err: f.Err}
}

// change is next around an operation that changes a volume.
func (f *Faults) change(op, name string, do func() error) error {
	v := f.next(op, name)
	if !v.do {
		return v.err
	}
	if err := do(); err != nil {
		return err
	}
	return v.err
}

// look is next before an operation that reads.
func (f *Faults) look(op, name string) error {
	if f.Reads {
		return f.next(op, name).err
	}
	f.mu.Lock()
	defer f.mu.Unlock()
	if f.killed {
		return ErrKilled
	}
	return nil
}

type volume struct {
	store.FS
	f *Faults
}

func (v *volume) Create(name string, perm fs.FileMode) (store.File, error) {
	return v.open("create", name, func() (store.File, error) { return v.FS.Create(name, perm) })
}

func (v *volume) Append(name string, perm fs.FileMode) (store.File, error) {
	return v.open("append", name, func() (store.File, error) { return v.FS.Append(name, perm) })
}

func (v *volume) open(op, name string, open func() (store.File, error)) (opened store.File, err error) {
	err = v.f.change(op, name, func() error {
		opened, err = open()
		return err
	})
	if err == nil {
		return &harmedFile{opened, v.f, name}, nil
	}
	if opened != nil {
		opened.Close()
	}
	return nil, err
}

func (v *volume) Mkdir(name string, perm fs.FileMode) error {
	return v.f.change("mkdir", name, func() error { return v.FS.Mkdir(name, perm) })
}

func (v *volume) Chown(name string, uid, gid int) error {
	return v.f.change("chown", name, func() error { return v.FS.Chown(name, uid, gid) })
}

func (v *volume) Chmod(name string, mode fs.FileMode) error {
	return v.f.change("chmod", name, func() error { return v.FS.Chmod(name, mode) })
}

func (v *volume) Symlink(target, name string) error {
	return v.f.change("symlink", name, func() error { return v.FS.Symlink(target, name) })
}

func (v *volume) Link(old, new string) error {
	return v.f.change("link", new, func() error { return v.FS.Link(old, new) })
}

func (v *volume) Rename(old, new string) error {
	return v.f.change("rename", new, func() error { return v.FS.Rename(old, new) })
}

func (v *volume) Exchange(a, b string) error {
	return v.f.change("exchange", b, func() error { return v.FS.Exchange(a, b) })
}

func (v *volume) Remove(name string) error {
	return v.f.change("remove", name, func() error { return v.FS.Remove(name) })
}

func (v *volume) SyncDir(name string) error {
	return v.f.change("syncdir", name, func() error { return v.FS.SyncDir(name) })
}

// Lock returns the volume's own closer: a kernel drops the locks of a killed process too.
func (v *volume) Lock(name string) (held io.Closer, err error) {
	err = v.f.change("lock", name, func() error {
		held, err = v.FS.Lock(name)
		return err
	})
	if err == nil {
		return held, nil
	}
	if held != nil {
		held.Close()
	}
	return nil, err
}

func (v *volume) ReadFile(name string) ([]byte, error) {
	if err := v.f.look("readfile", name); err != nil {
		return nil, err
	}
	return v.FS.ReadFile(name)
}

func (v *volume) ReadDir(name string) ([]fs.DirEntry, error) {
	if err := v.f.look("readdir", name); err != nil {
		return nil, err
	}
	return v.FS.ReadDir(name)
}

func (v *volume) Lstat(name string) (fs.FileInfo, error) {
	if err := v.f.look("lstat", name); err != nil {
		return nil, err
	}
	return v.FS.Lstat(name)
}

func (v *volume) Readlink(name string) (string, error) {
	if err := v.f.look("readlink", name); err != nil {
		return "", err
	}
	return v.FS.Readlink(name)
}

func (v *volume) Space() (store.Space, error) {
	if err := v.f.look("space", "."); err != nil {
		return store.Space{}, err
	}
	return v.FS.Space()
}

// harmedFile passes Close through: a kernel closes the files of a killed process too.
type harmedFile struct {
	store.File
	f    *Faults
	name string
}

func (h *harmedFile) Write(p []byte) (int, error) {
	v := h.f.next("write", h.name)
	switch {
	case v.do:
		n, err := h.File.Write(p)
		return n, errors.Join(err, v.err)
	case v.half:
		n, err := h.File.Write(p[:len(p)/2])
		return n, errors.Join(err, v.err)
	}
	return 0, v.err
}

func (h *harmedFile) Chown(uid, gid int) error {
	return h.f.change("chown", h.name, func() error { return h.File.Chown(uid, gid) })
}

func (h *harmedFile) Chmod(mode fs.FileMode) error {
	return h.f.change("chmod", h.name, func() error { return h.File.Chmod(mode) })
}

func (h *harmedFile) Sync() error {
	return h.f.change("sync", h.name, h.File.Sync)
}
