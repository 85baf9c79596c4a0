// Package storetest is the file layer of package store for tests: a volume in memory that knows what a power cut leaves, and
// volumes of which any single operation fails, tears or kills. It does no I/O and starts nothing, so it runs in a synctest bubble.
package storetest

import (
	"bytes"
	"cmp"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"maps"
	"path"
	"slices"
	"strings"
	"sync"
	"syscall"
	"time"

	"github.com/sidecert/sidecert/internal/store"
)

// Memory is a volume in memory, and behaves as store.Disk does for root on ext4. What was written is on its disk only after
// File.Sync, and an entry of a folder (made, renamed, removed, linked, exchanged) only after SyncDir of that folder: PowerCut shows
// the difference. Modes and owners are on disk at once.
type Memory struct {
	mu      sync.Mutex
	now     func() time.Time
	root    *node
	inodes  uint64
	pending []deed
	locked  map[*node]bool
	space   store.Space
	gone    bool // its process was killed: see Reopen
}

// node is a file, a folder or a symbolic link.
type node struct {
	inode    uint64
	mode     fs.FileMode
	uid, gid int
	names    int // of a file or link: how many entries lead to it
	modified time.Time
	target   string

	// A file's contents only ever grow, so that what is on disk is its beginning.
	data   []byte
	synced int

	// A folder's entries, as programs see them and as they are on disk.
	entries, stored map[string]*node
}

// place is an entry of a folder, as it is or as it is to be; without a node there is none.
type place struct {
	dir  *node
	name string
	node *node
}

// deed is a change of entries that happens as a whole, also on disk: of a rename both names or neither.
type deed []place

// writtenBack is how many deeds wait for a SyncDir before the oldest goes to disk by itself, as a kernel has it.
const writtenBack = 4096

// maxName is the length in bytes of a name in a folder, on nearly every file system.
const maxName = 255

// maxLinks is how many symbolic links os.Root follows in one name.
const maxLinks = 8

var (
	errEscapes = errors.New("path escapes from parent")
	errMode    = errors.New("unsupported file mode")
)

// NewMemory makes an empty volume whose files get their times from now.
func NewMemory(now func() time.Time) *Memory {
	m := &Memory{now: now, locked: map[*node]bool{}, space: store.Space{Bytes: 1 << 30, Inodes: 1 << 20}}
	m.root = m.newNode(fs.ModeDir | 0o755)
	return m
}

// SetSpace is what Space returns from now on. Nothing that is written takes any of it.
func (m *Memory) SetSpace(s store.Space) {
	m.mu.Lock()
	defer m.mu.Unlock()
	m.space = s
}

func (m *Memory) newNode(mode fs.FileMode) *node {
	m.inodes++
	n := &node{inode: m.inodes, mode: mode, modified: m.now()}
	if mode.IsDir() {
		n.entries, n.stored = map[string]*node{}, map[string]*node{}
	}
	return n
}

// enter begins an operation, and ends it with the function that it returns.
func (m *Memory) enter() (leave func(), err error) {
	m.mu.Lock()
	if m.gone {
		m.mu.Unlock()
		return nil, ErrKilled
	}
	return m.mu.Unlock, nil
}

// find is the place of a name, after the links on the way to it; follow also follows the last part.
func (m *Memory) find(name string, follow bool) (place, error) {
	if name == "" || path.IsAbs(name) {
		return place{}, errEscapes
	}
	way := []*node{m.root} // from the root to where we stand
	rest := strings.Split(name, "/")
	for links := 0; ; {
		part := rest[0]
		rest = rest[1:]
		here := way[len(way)-1]
		switch {
		case part == "..":
			if len(way) == 1 {
				return place{}, errEscapes
			}
			way = way[:len(way)-1]
			part = "."
			fallthrough
		case part == ".", part == "":
			if len(rest) == 0 {
				here = way[len(way)-1]
				return place{here, ".", here}, nil
			}
			continue
		case len(part) > maxName:
			return place{}, syscall.ENAMETOOLONG
		}
		found := here.entries[part]
		last := len(rest) == 0
		switch {
		case found != nil && found.mode.Type() == fs.ModeSymlink && (follow || !last):
			if links++; links > maxLinks {
				return place{}, syscall.ELOOP
			}
			if path.IsAbs(found.target) {
				return place{}, errEscapes
			}
			rest = append(strings.Split(found.target, "/"), rest...)
		case last:
			return place{here, part, found}, nil
		case found == nil:
			return place{}, syscall.ENOENT
		case !found.mode.IsDir():
			return place{}, syscall.ENOTDIR
		default:
			way = append(way, found)
		}
	}
}

// existing is find for what must be there.
func (m *Memory) existing(name string, follow bool) (place, error) {
	at, err := m.find(name, follow)
	if err == nil && at.node == nil {
		err = syscall.ENOENT
	}
	return at, err
}

// vacant is find for what must not be there, not even a link to nothing.
func (m *Memory) vacant(name string) (place, error) {
	at, err := m.find(name, false)
	if err == nil && at.node != nil {
		err = syscall.EEXIST
	}
	return at, err
}

// do changes entries, for programs at once and for the disk when their folder is synced.
func (m *Memory) do(d deed) {
	for _, p := range d {
		if old := p.dir.entries[p.name]; old != nil {
			old.names--
		}
		put(p.dir.entries, p)
		p.dir.modified = m.now()
	}
	for _, p := range d {
		if p.node != nil {
			p.node.names++
		}
	}
	if m.pending = append(m.pending, d); len(m.pending) > writtenBack {
		m.pending[0].store()
		m.pending = m.pending[1:]
	}
}

func (d deed) store() {
	for _, p := range d {
		put(p.dir.stored, p)
	}
}

func put(entries map[string]*node, p place) {
	if p.node == nil {
		delete(entries, p.name)
		return
	}
	entries[p.name] = p.node
}

// add puts a new node in an empty place, with what it has from its folder.
func (m *Memory) add(at place, mode fs.FileMode) *node {
	n := m.newNode(mode)
	if at.dir.mode&fs.ModeSetgid != 0 {
		n.gid = at.dir.gid
		if mode.IsDir() {
			n.mode |= fs.ModeSetgid
		}
	}
	m.do(deed{{at.dir, at.name, n}})
	return n
}

const changeable = fs.ModePerm | fs.ModeSetuid | fs.ModeSetgid | fs.ModeSticky

func (m *Memory) Create(name string, perm fs.FileMode) (store.File, error) {
	leave, err := m.enter()
	if err != nil {
		return nil, err
	}
	defer leave()
	at, err := m.vacant(name)
	if err = cmp.Or(fit(perm), err); err != nil {
		return nil, &fs.PathError{Op: "create", Path: name, Err: err}
	}
	return &file{m: m, node: m.add(at, perm)}, nil
}

func (m *Memory) Append(name string, perm fs.FileMode) (store.File, error) {
	leave, err := m.enter()
	if err != nil {
		return nil, err
	}
	defer leave()
	n, err := m.open(name, perm)
	if err != nil {
		return nil, &fs.PathError{Op: "append", Path: name, Err: err}
	}
	return &file{m: m, node: n}, nil
}

// open finds a file for writing, and makes it if need be.
func (m *Memory) open(name string, perm fs.FileMode) (*node, error) {
	at, err := m.find(name, true)
	switch {
	case err != nil:
		return nil, err
	case at.node == nil:
		return m.add(at, perm&fs.ModePerm), nil
	case at.node.mode.IsDir():
		return nil, syscall.EISDIR
	}
	return at.node, nil
}

func (m *Memory) ReadFile(name string) ([]byte, error) {
	leave, err := m.enter()
	if err != nil {
		return nil, err
	}
	defer leave()
	at, err := m.existing(name, true)
	switch {
	case err != nil:
		return nil, &fs.PathError{Op: "read", Path: name, Err: err}
	case !at.node.mode.IsRegular():
		return nil, fmt.Errorf("read %s: %w: it is none", name, store.ErrUnfit)
	case len(at.node.data) > store.MaxFile:
		return nil, fmt.Errorf("read %s: %w: it is larger than %d bytes", name, store.ErrUnfit, store.MaxFile)
	}
	return bytes.Clone(at.node.data), nil
}

func (m *Memory) ReadDir(name string) ([]fs.DirEntry, error) {
	leave, err := m.enter()
	if err != nil {
		return nil, err
	}
	defer leave()
	if !fs.ValidPath(name) {
		return nil, &fs.PathError{Op: "readdir", Path: name, Err: fs.ErrInvalid}
	}
	at, err := m.existing(name, true)
	if err == nil && !at.node.mode.IsDir() {
		err = syscall.ENOTDIR
	}
	if err != nil {
		return nil, &fs.PathError{Op: "readdir", Path: name, Err: err}
	}
	entries := make([]fs.DirEntry, 0, len(at.node.entries))
	for _, entry := range slices.Sorted(maps.Keys(at.node.entries)) {
		entries = append(entries, fs.FileInfoToDirEntry(at.node.entries[entry].info(entry)))
	}
	return entries, nil
}

func (m *Memory) Lstat(name string) (fs.FileInfo, error) {
	leave, err := m.enter()
	if err != nil {
		return nil, err
	}
	defer leave()
	at, err := m.existing(name, false)
	if err != nil {
		return nil, &fs.PathError{Op: "lstat", Path: name, Err: err}
	}
	return at.node.info(path.Base(name)), nil
}

func (m *Memory) Readlink(name string) (string, error) {
	leave, err := m.enter()
	if err != nil {
		return "", err
	}
	defer leave()
	at, err := m.existing(name, false)
	if err == nil && at.node.mode.Type() != fs.ModeSymlink {
		err = syscall.EINVAL
	}
	if err != nil {
		return "", &fs.PathError{Op: "readlink", Path: name, Err: err}
	}
	return at.node.target, nil
}

func (m *Memory) Mkdir(name string, perm fs.FileMode) error {
	leave, err := m.enter()
	if err != nil {
		return err
	}
	defer leave()
	at, err := m.vacant(name)
	if err = cmp.Or(fit(perm), err); err != nil {
		return &fs.PathError{Op: "mkdir", Path: name, Err: err}
	}
	m.add(at, fs.ModeDir|perm)
	return nil
}

// fit refuses what os.Root does: a set-id or sticky bit is given by Chmod alone.
func fit(perm fs.FileMode) error {
	if perm&^fs.ModePerm != 0 {
		return errMode
	}
	return nil
}

func (m *Memory) Chown(name string, uid, gid int) error {
	leave, err := m.enter()
	if err != nil {
		return err
	}
	defer leave()
	at, err := m.existing(name, true)
	if err != nil {
		return &fs.PathError{Op: "chown", Path: name, Err: err}
	}
	at.node.chown(uid, gid)
	return nil
}

func (m *Memory) Chmod(name string, mode fs.FileMode) error {
	leave, err := m.enter()
	if err != nil {
		return err
	}
	defer leave()
	at, err := m.existing(name, true)
	if err == nil && !at.node.mode.IsDir() {
		err = syscall.ENOTDIR
	}
	if err != nil {
		return &fs.PathError{Op: "chmod", Path: name, Err: err}
	}
	at.node.chmod(mode)
	return nil
}

func (m *Memory) Symlink(target, name string) error {
	leave, err := m.enter()
	if err != nil {
		return err
	}
	defer leave()
	at, err := m.vacant(name)
	if target == "" && (err == nil || err == syscall.EEXIST) {
		err = syscall.ENOENT
	}
	if err != nil {
		return &fs.PathError{Op: "symlink", Path: name, Err: err}
	}
	m.add(at, fs.ModeSymlink|fs.ModePerm).target = target
	return nil
}

func (m *Memory) Link(old, new string) error {
	leave, err := m.enter()
	if err != nil {
		return err
	}
	defer leave()
	from, errFrom := m.find(old, false)
	to, errTo := m.find(new, false)
	err = cmp.Or(errFrom, errTo)
	switch {
	case err != nil:
	case from.node == nil:
		err = syscall.ENOENT
	case to.node != nil:
		err = syscall.EEXIST
	case from.node.mode.IsDir():
		err = syscall.EPERM
	}
	if err != nil {
		return &fs.PathError{Op: "link", Path: new, Err: err}
	}
	m.do(deed{{to.dir, to.name, from.node}})
	return nil
}

func (m *Memory) Rename(old, new string) error {
	leave, err := m.enter()
	if err != nil {
		return err
	}
	defer leave()
	from, err := m.find(old, false)
	if err != nil {
		return &fs.PathError{Op: "rename", Path: old, Err: err}
	}
	to, err := m.find(new, false)
	if err == nil {
		err = mayRename(from, to)
	}
	if err != nil {
		return &fs.PathError{Op: "rename", Path: new, Err: err}
	}
	if from.node == to.node { // two names of one file stay two
		return nil
	}
	m.do(deed{{from.dir, from.name, nil}, {to.dir, to.name, from.node}})
	return nil
}

// mayRename refuses as os.Root does: unlike rename(2) it never replaces a folder, not even an empty one.
func mayRename(from, to place) error {
	switch {
	case from.node == nil:
		return syscall.ENOENT
	case to.node != nil && to.node.mode.IsDir() && (from.name == to.name || from.node != to.node):
		return syscall.EEXIST
	case from.name == "." || to.name == ".":
		return syscall.EBUSY
	case from.node.holds(to.dir):
		return syscall.EINVAL
	case to.node != nil && from.node.mode.IsDir() && !to.node.mode.IsDir():
		return syscall.ENOTDIR
	}
	return nil
}

// holds reports whether a folder is n or lies below it.
func (n *node) holds(dir *node) bool {
	if n == dir {
		return true
	}
	for _, below := range n.entries {
		if below.mode.IsDir() && below.holds(dir) {
			return true
		}
	}
	return false
}

func (m *Memory) Exchange(a, b string) error {
	leave, err := m.enter()
	if err != nil {
		return err
	}
	defer leave()
	dirA, errA := m.existing(path.Dir(a), true)
	dirB, errB := m.existing(path.Dir(b), true)
	err = cmp.Or(errA, errB)
	if err == nil && !(dirA.node.mode.IsDir() && dirB.node.mode.IsDir()) {
		err = syscall.ENOTDIR
	}
	if err == nil && (isDots(a) || isDots(b)) {
		err = syscall.EBUSY
	}
	if err != nil {
		return &fs.PathError{Op: "exchange", Path: a, Err: err}
	}
	at, errA := dirA.node.swappable(path.Base(a))
	with, errB := dirB.node.swappable(path.Base(b))
	switch err := cmp.Or(errA, errB); {
	case err != nil:
		return &fs.PathError{Op: "exchange", Path: a, Err: err}
	case at.node == with.node:
		return nil
	case at.node.holds(with.dir) || with.node.holds(at.dir):
		return store.ErrNoExchange // the kernel's EINVAL, which is also that of a file system without it
	}
	m.do(deed{{at.dir, at.name, with.node}, {with.dir, with.name, at.node}})
	return nil
}

func isDots(name string) bool { return path.Base(name) == "." || path.Base(name) == ".." }

// swappable is an entry of a folder that can be exchanged.
func (n *node) swappable(name string) (place, error) {
	at := place{n, name, n.entries[name]}
	switch {
	case len(name) > maxName:
		return at, syscall.ENAMETOOLONG
	case at.node == nil:
		return at, syscall.ENOENT
	}
	return at, nil
}

func (m *Memory) Remove(name string) error {
	leave, err := m.enter()
	if err != nil {
		return err
	}
	defer leave()
	at, err := m.existing(name, false)
	switch {
	case err != nil:
	case at.name == ".":
		err = syscall.EINVAL
	case len(at.node.entries) > 0:
		err = syscall.ENOTEMPTY
	}
	if err != nil {
		return &fs.PathError{Op: "remove", Path: name, Err: err}
	}
	m.do(deed{{at.dir, at.name, nil}})
	return nil
}

func (m *Memory) SyncDir(name string) error {
	leave, err := m.enter()
	if err != nil {
		return err
	}
	defer leave()
	at, err := m.existing(name, true)
	if err != nil {
		return &fs.PathError{Op: "sync", Path: name, Err: err}
	}
	if at.node.synced = len(at.node.data); at.node.mode.IsDir() {
		m.storeAll(at.node)
	}
	return nil
}

// entry is the name of a place, whatever is in it.
type entry struct {
	dir  *node
	name string
}

// storeAll puts on disk what was done in a folder, and what was done before to the same entries.
func (m *Memory) storeAll(dir *node) {
	due, needed := make([]bool, len(m.pending)), map[entry]bool{}
	for i, d := range slices.Backward(m.pending) {
		due[i] = slices.ContainsFunc(d, func(p place) bool { return p.dir == dir || needed[entry{p.dir, p.name}] })
		for _, p := range d {
			needed[entry{p.dir, p.name}] = needed[entry{p.dir, p.name}] || due[i]
		}
	}
	var rest []deed
	for i, d := range m.pending {
		if due[i] {
			d.store()
		} else {
			rest = append(rest, d)
		}
	}
	m.pending = rest
}

func (m *Memory) Space() (store.Space, error) {
	leave, err := m.enter()
	if err != nil {
		return store.Space{}, err
	}
	defer leave()
	return m.space, nil
}

func (m *Memory) Lock(name string) (io.Closer, error) {
	leave, err := m.enter()
	if err != nil {
		return nil, err
	}
	defer leave()
	n, err := m.open(name, 0o600)
	if err == nil && m.locked[n] {
		err = store.ErrLocked
	}
	if err != nil {
		return nil, fmt.Errorf("lock %s: %w", name, err)
	}
	m.locked[n] = true
	return &lock{m: m, node: n}, nil
}

// lock is one that is held, on the file and not on its name.
type lock struct {
	m      *Memory
	node   *node
	closed bool
}

func (l *lock) Close() error {
	l.m.mu.Lock()
	defer l.m.mu.Unlock()
	if l.closed {
		return fs.ErrClosed
	}
	l.closed = true
	delete(l.m.locked, l.node)
	return nil
}

// file is one opened for writing.
type file struct {
	m      *Memory
	node   *node
	closed bool
}

func (f *file) enter() (leave func(), err error) {
	leave, err = f.m.enter()
	if err == nil && f.closed {
		leave()
		return nil, fs.ErrClosed
	}
	return leave, err
}

func (f *file) Write(p []byte) (int, error) {
	leave, err := f.enter()
	if err != nil {
		return 0, err
	}
	defer leave()
	f.node.data = append(f.node.data, p...)
	f.node.modified = f.m.now()
	return len(p), nil
}

func (f *file) Chown(uid, gid int) error {
	leave, err := f.enter()
	if err != nil {
		return err
	}
	defer leave()
	f.node.chown(uid, gid)
	return nil
}

func (f *file) Chmod(mode fs.FileMode) error {
	leave, err := f.enter()
	if err != nil {
		return err
	}
	defer leave()
	f.node.chmod(mode)
	return nil
}

func (f *file) Sync() error {
	leave, err := f.enter()
	if err != nil {
		return err
	}
	defer leave()
	f.node.synced = len(f.node.data)
	return nil
}

// Close goes also where the process was killed, as descriptors do.
func (f *file) Close() error {
	f.m.mu.Lock()
	defer f.m.mu.Unlock()
	if f.closed {
		return fs.ErrClosed
	}
	f.closed = true
	return nil
}

func (n *node) chmod(mode fs.FileMode) { n.mode = n.mode&^changeable | mode&changeable }

func (n *node) chown(uid, gid int) {
	if uid >= 0 {
		n.uid = uid
	}
	if gid >= 0 {
		n.gid = gid
	}
}

// info is what Lstat tells of a node as it is now.
func (n *node) info(name string) fs.FileInfo {
	size := len(n.data) + len(n.target)
	return info{name, n.mode, n.modified, syscall.Stat_t{Ino: n.inode, Nlink: uint64(max(n.names, 1)), Uid: uint32(n.uid), Gid: uint32(n.gid), Size: int64(size)}}
}

type info struct {
	name     string
	mode     fs.FileMode
	modified time.Time
	stat     syscall.Stat_t
}

func (i info) Name() string       { return i.name }
func (i info) Size() int64        { return i.stat.Size }
func (i info) Mode() fs.FileMode  { return i.mode }
func (i info) ModTime() time.Time { return i.modified }
func (i info) IsDir() bool        { return i.mode.IsDir() }
func (i info) Sys() any           { return &i.stat }
