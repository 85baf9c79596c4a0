package renewal

import (
	"io"
	"io/fs"
	"syscall"

	"github.com/sidecert/sidecert/internal/store"
)

// noSpace is a volume that has no room for anything.
type noSpace struct{}

func (noSpace) Create(string, fs.FileMode) (store.File, error) { return nil, syscall.ENOSPC }
func (noSpace) Append(string, fs.FileMode) (store.File, error) { return nil, syscall.ENOSPC }
func (noSpace) ReadFile(string) ([]byte, error)                { return nil, fs.ErrNotExist }
func (noSpace) ReadDir(string) ([]fs.DirEntry, error)          { return nil, fs.ErrNotExist }
func (noSpace) Lstat(string) (fs.FileInfo, error)              { return nil, fs.ErrNotExist }
func (noSpace) Readlink(string) (string, error)                { return "", fs.ErrNotExist }
func (noSpace) Mkdir(string, fs.FileMode) error                { return syscall.ENOSPC }
func (noSpace) Chown(string, int, int) error                   { return syscall.ENOSPC }
func (noSpace) Chmod(string, fs.FileMode) error                { return syscall.ENOSPC }
func (noSpace) Symlink(string, string) error                   { return syscall.ENOSPC }
func (noSpace) Link(string, string) error                      { return syscall.ENOSPC }
func (noSpace) Rename(string, string) error                    { return syscall.ENOSPC }
func (noSpace) Exchange(string, string) error                  { return syscall.ENOSPC }
func (noSpace) Remove(string) error                            { return fs.ErrNotExist }
func (noSpace) SyncDir(string) error                           { return syscall.ENOSPC }
func (noSpace) Space() (store.Space, error)                    { return store.Space{}, nil }
func (noSpace) Lock(string) (io.Closer, error)                 { return nil, syscall.ENOSPC }
