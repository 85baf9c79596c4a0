// Package store owns the volumes: the certificates in CERT_DIR, laid out as certbot's, and what sidecert remembers in
// STATE_DIR. It decides nothing about renewal. Every operation goes through FS, the file layer, so that a test can make any
// single one fail.
package store

import (
	"errors"
	"fmt"
	"io"
	"io/fs"
	"path"
)

// FS is the file layer: one volume. Names are relative to it and use slashes; no name and no symbolic link leads out of it.
type FS interface {
	// Create makes a file that must not exist, with exactly this mode whatever the umask.
	Create(name string, perm fs.FileMode) (File, error)
	// Append opens a file for writing at its end, and makes it if need be.
	Append(name string, perm fs.FileMode) (File, error)
	// ReadFile returns a regular file of at most MaxFile bytes.
	ReadFile(name string) ([]byte, error)
	ReadDir(name string) ([]fs.DirEntry, error)
	Lstat(name string) (fs.FileInfo, error)
	Readlink(name string) (string, error)
	// Mkdir makes one folder, with exactly this mode whatever the umask.
	Mkdir(name string, perm fs.FileMode) error
	// Chown gives a folder to a user and a group; -1 leaves either as it is.
	Chown(name string, uid, gid int) error
	// Chmod changes the mode of a folder.
	Chmod(name string, mode fs.FileMode) error
	Symlink(target, name string) error
	Link(old, new string) error
	Rename(old, new string) error
	// Exchange swaps two names in one step; ErrNoExchange where the file system cannot.
	Exchange(a, b string) error
	Remove(name string) error
	// SyncDir puts a folder's entries on disk; where the file system has no such thing it does nothing.
	SyncDir(name string) error
	// Space returns what is left for us.
	Space() (Space, error)
	// Lock takes a lock that lasts until it is closed or the process ends; ErrLocked when another has it.
	Lock(name string) (io.Closer, error)
}

// File is one opened for writing.
type File interface {
	io.Writer
	Chown(uid, gid int) error
	Chmod(mode fs.FileMode) error
	Sync() error
	Close() error
}

// MaxFile is the size in bytes above which a file is none of ours and is not read.
const MaxFile = 1 << 20

var (
	ErrNoExchange = errors.New("the file system cannot exchange two names")
	ErrLocked     = errors.New("locked by another process")
	// ErrUnfit is ReadFile's for what is no regular file of at most MaxFile bytes.
	ErrUnfit = errors.New("no regular file of a fit size")
)

// Space is what is left in a volume. Inodes is -1 where the file system does not count them.
type Space struct{ Bytes, Inodes int64 }

// owner is what a new file or folder gets besides its mode; -1 leaves it as it is.
type owner struct{ uid, gid int }

var unowned = owner{-1, -1}

func (o owner) error(name string, err error) error {
	return fmt.Errorf("give %s to user %d and group %d: %w", name, o.uid, o.gid, err)
}

// writeNew writes a file that must not exist, and has its contents on disk when it returns.
func writeNew(v FS, name string, data []byte, perm fs.FileMode, own owner) (err error) {
	f, err := v.Create(name, perm)
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, f.Close()) }()
	if own != unowned {
		if err := f.Chown(own.uid, own.gid); err != nil {
			return own.error(name, err)
		}
	}
	if _, err := f.Write(data); err != nil {
		return err
	}
	return f.Sync()
}

// replace puts data in the place of name in one step: a reader finds the old or the new contents, whole, also after a crash.
func replace(v FS, name string, data []byte, perm fs.FileMode) error {
	temp := nextTo(name)
	if err := removeIfThere(v, temp); err != nil {
		return err
	}
	if err := writeNew(v, temp, data, perm, unowned); err != nil {
		return err
	}
	if err := v.Rename(temp, name); err != nil {
		return err
	}
	return v.SyncDir(path.Dir(name))
}

// nextTo is the name under which the contents of another are prepared.
func nextTo(name string) string { return path.Join(path.Dir(name), "."+path.Base(name)+".new") }

func removeIfThere(v FS, name string) error {
	if err := v.Remove(name); err != nil && !errors.Is(err, fs.ErrNotExist) {
		return err
	}
	return nil
}

// mkdirAll makes a folder and those above it; the mode and owner of those that stand already are left alone.
func mkdirAll(v FS, name string, perm fs.FileMode, own owner) error {
	if name == "." {
		return nil
	}
	if err := mkdirAll(v, path.Dir(name), perm, own); err != nil {
		return err
	}
	err := mkdir(v, name, perm, own)
	if errors.Is(err, fs.ErrExist) {
		return nil
	}
	if err != nil {
		return err
	}
	return v.SyncDir(path.Dir(name))
}

func mkdir(v FS, name string, perm fs.FileMode, own owner) error {
	if err := v.Mkdir(name, perm); err != nil || own == unowned {
		return err
	}
	if err := v.Chown(name, own.uid, own.gid); err != nil {
		return own.error(name, err)
	}
	return nil
}

func exists(v FS, name string) bool {
	_, err := v.Lstat(name)
	return err == nil
}
