package store

import (
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"path"
	"syscall"

	"golang.org/x/sys/unix"
)

// Disk is the FS of a real folder. It is opened once, at the mount point: what somebody with access to the volume does to the
// names in it afterwards cannot lead out of it.
type Disk struct{ root *os.Root }

// OpenDisk opens the folder dir, which must exist.
func OpenDisk(dir string) (*Disk, error) {
	root, err := os.OpenRoot(dir)
	if err != nil {
		return nil, err
	}
	return &Disk{root}, nil
}

func (d *Disk) Create(name string, perm fs.FileMode) (File, error) {
	f, err := d.root.OpenFile(name, os.O_CREATE|os.O_EXCL|os.O_WRONLY, perm)
	if err != nil {
		return nil, err
	}
	if f, err = withMode(f, perm); err != nil {
		return nil, err
	}
	return diskFile{f}, nil
}

func (d *Disk) Append(name string, perm fs.FileMode) (File, error) {
	f, err := d.root.OpenFile(name, os.O_CREATE|os.O_APPEND|os.O_WRONLY|syscall.O_NONBLOCK, perm)
	if err != nil {
		return nil, err
	}
	return diskFile{f}, nil
}

// diskFile is a File of a file system that may not know how to sync, as some network file systems do not.
type diskFile struct{ *os.File }

func (f diskFile) Sync() error {
	if err := f.File.Sync(); !unsupported(err) {
		return err
	}
	return nil
}

// withMode undoes the umask through the descriptor. Volumes that know no modes (SMB, 9p) refuse, which is no reason to fail:
// they have the mode that their mount options give.
func withMode(f *os.File, perm fs.FileMode) (*os.File, error) {
	if info, err := f.Stat(); err == nil && info.Mode().Perm() == perm {
		return f, nil
	}
	if err := f.Chmod(perm); err != nil && !unsupported(err) && !errors.Is(err, fs.ErrPermission) {
		return nil, errors.Join(err, f.Close())
	}
	return f, nil
}

func (d *Disk) ReadFile(name string) ([]byte, error) {
	// Not blocking: a FIFO in the place of a file would hold us for ever.
	f, err := d.root.OpenFile(name, os.O_RDONLY|syscall.O_NONBLOCK, 0)
	if err != nil {
		return nil, err
	}
	defer f.Close()
	info, err := f.Stat()
	if err != nil {
		return nil, err
	}
	if !info.Mode().IsRegular() {
		return nil, fmt.Errorf("read %s: %w: it is none", name, ErrUnfit)
	}
	data, err := io.ReadAll(io.LimitReader(f, MaxFile+1))
	if err != nil {
		return nil, err
	}
	if len(data) > MaxFile {
		return nil, fmt.Errorf("read %s: %w: it is larger than %d bytes", name, ErrUnfit, MaxFile)
	}
	return data, nil
}

func (d *Disk) ReadDir(name string) ([]fs.DirEntry, error) { return fs.ReadDir(d.root.FS(), name) }
func (d *Disk) Lstat(name string) (fs.FileInfo, error)     { return d.root.Lstat(name) }
func (d *Disk) Readlink(name string) (string, error)       { return d.root.Readlink(name) }
func (d *Disk) Symlink(target, name string) error          { return d.root.Symlink(target, name) }
func (d *Disk) Link(old, new string) error                 { return d.root.Link(old, new) }
func (d *Disk) Rename(old, new string) error               { return d.root.Rename(old, new) }
func (d *Disk) Remove(name string) error                   { return d.root.Remove(name) }

func (d *Disk) Mkdir(name string, perm fs.FileMode) error {
	if err := d.root.Mkdir(name, perm); err != nil {
		return err
	}
	f, err := d.root.Open(name)
	if err != nil {
		return err
	}
	if f, err = withMode(f, perm); err != nil {
		return err
	}
	return f.Close()
}

func (d *Disk) Chown(name string, uid, gid int) error {
	f, err := d.root.Open(name) // by the descriptor: a name could be another folder by now
	if err != nil {
		return err
	}
	return errors.Join(f.Chown(uid, gid), f.Close())
}

func (d *Disk) Chmod(name string, mode fs.FileMode) error {
	f, err := d.root.OpenFile(name, os.O_RDONLY|syscall.O_DIRECTORY|syscall.O_NONBLOCK, 0) // by the descriptor, as Chown
	if err != nil {
		return err
	}
	return errors.Join(f.Chmod(mode), f.Close())
}

func (d *Disk) Space() (Space, error) {
	f, err := d.root.Open(".")
	if err != nil {
		return Space{}, err
	}
	defer f.Close()
	var stat unix.Statfs_t
	if err := unix.Fstatfs(int(f.Fd()), &stat); err != nil {
		return Space{}, fmt.Errorf("ask for free space: %w", err)
	}
	space := Space{Bytes: int64(stat.Bavail) * stat.Bsize, Inodes: int64(stat.Ffree)}
	if stat.Files == 0 {
		space.Inodes = -1
	}
	return space, nil
}

// Exchange is renameat2(2) with RENAME_EXCHANGE, on folders that were opened through the root.
func (d *Disk) Exchange(a, b string) error {
	dirA, err := d.root.Open(path.Dir(a))
	if err != nil {
		return err
	}
	defer dirA.Close()
	dirB, err := d.root.Open(path.Dir(b))
	if err != nil {
		return err
	}
	defer dirB.Close()
	err = unix.Renameat2(int(dirA.Fd()), path.Base(a), int(dirB.Fd()), path.Base(b), unix.RENAME_EXCHANGE)
	if errors.Is(err, unix.EINVAL) || errors.Is(err, unix.ENOSYS) || errors.Is(err, unix.EXDEV) || errors.Is(err, unix.EOPNOTSUPP) {
		return ErrNoExchange
	}
	if err != nil {
		return fmt.Errorf("exchange %s and %s: %w", a, b, err)
	}
	return nil
}

func (d *Disk) SyncDir(name string) error {
	f, err := d.root.Open(name)
	if err != nil {
		return err
	}
	err = f.Sync()
	if unsupported(err) {
		err = nil
	}
	return errors.Join(err, f.Close())
}

// Lock is an OFD lock: it excludes certbot's POSIX locks and other processes' OFD locks, and unlike a POSIX lock it is not lost
// when the process closes another descriptor of the file.
func (d *Disk) Lock(name string) (io.Closer, error) {
	for {
		f, err := d.root.OpenFile(name, os.O_CREATE|os.O_RDWR|syscall.O_NONBLOCK, 0o600)
		if err != nil {
			return nil, err
		}
		err = unix.FcntlFlock(f.Fd(), unix.F_OFD_SETLK, &unix.Flock_t{Type: unix.F_WRLCK, Whence: io.SeekStart})
		if errors.Is(err, unix.EAGAIN) || errors.Is(err, unix.EACCES) {
			err = ErrLocked
		}
		if err != nil {
			return nil, errors.Join(fmt.Errorf("lock %s: %w", name, err), f.Close())
		}
		// certbot removes its lock file when it is done: a lock on a file that has lost its name locks nobody out.
		mine, errMine := f.Stat()
		there, errThere := d.root.Stat(name) // through a link, as it was opened
		if errMine == nil && errThere == nil && os.SameFile(mine, there) {
			return f, nil
		}
		f.Close()
	}
}

// unsupported reports that a file system does not know an operation, which is not the same as that it failed.
func unsupported(err error) bool {
	return errors.Is(err, unix.EINVAL) || errors.Is(err, unix.ENOTSUP) || errors.Is(err, unix.ENOSYS)
}
