package store

import (
	"errors"
	"fmt"
	"io/fs"
	"path"
	"strings"
	"syscall"

	"github.com/sidecert/sidecert/internal/cert"
)

// access is who may read a private key: its mode and owner. What a person has configured must be possible; what the previous
// version's had is kept if it can be.
type access struct {
	perm fs.FileMode
	// alone is the mode where the group cannot be kept: another one never takes its place.
	alone      fs.FileMode
	must, wish owner
}

// kept are the rights of others than the owner that go over to the next key: those that certbot keeps too.
const kept = 0o074

// keyAccess is what the next private key of a lineage gets.
func (s *Store) keyAccess(name string) access { return s.accessAfter(s.previousKey(name)) }

// accessAfter is keyAccess where the previous key is in this file; nil if there was none.
func (s *Store) accessAfter(previous fs.FileInfo) access {
	a := access{perm: s.FilesPerms, alone: s.FilesPerms, must: s.own, wish: s.own}
	if a.perm == 0 {
		a.perm, a.alone = 0o600, 0o600
		if previous != nil {
			a.perm |= previous.Mode().Perm() & kept
			a.alone = a.perm &^ 0o070
		}
	}
	stat, ok := sysOf(previous)
	if !ok {
		return a
	}
	if a.must.uid < 0 {
		a.wish.uid = int(stat.Uid)
	}
	if a.must.gid < 0 {
		a.wish.gid = int(stat.Gid)
	}
	return a
}

func sysOf(info fs.FileInfo) (*syscall.Stat_t, bool) {
	if info == nil {
		return nil, false
	}
	stat, ok := info.Sys().(*syscall.Stat_t)
	return stat, ok
}

// previousKey is the newest private key in archive/NAME; nil if there is none.
func (s *Store) previousKey(name string) fs.FileInfo {
	for _, n := range s.numbers(name) {
		if info := s.keyFile(name, n); info != nil {
			return info
		}
	}
	return nil
}

// keyFile looks at the private key of a version, which certbot may have made a link to an earlier one that is used again.
func (s *Store) keyFile(name string, n int) fs.FileInfo {
	at := archived(name, cert.PrivkeyPEM, n)
	for range 10 {
		info, err := s.certs.Lstat(at)
		if err != nil {
			return nil
		}
		if info.Mode().IsRegular() {
			return info
		}
		target, err := s.certs.Readlink(at)
		if err != nil {
			return nil
		}
		at = path.Join("archive", name, path.Base(target))
	}
	return nil
}

// writeKey writes a private key that must not exist. Nobody else may read it before it has its owner.
func writeKey(v FS, name string, data []byte, a access) (err error) {
	f, err := v.Create(name, 0o600)
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, f.Close()) }()
	perm, err := a.give(f)
	if err != nil {
		return a.must.error(name, err)
	}
	if err := f.Chmod(perm); err != nil && !refused(err) {
		return err
	}
	if _, err := f.Write(data); err != nil {
		return err
	}
	return f.Sync()
}

// give gives a key to its owner, and returns the mode that goes with that.
func (a access) give(f File) (fs.FileMode, error) {
	if a.wish == unowned || f.Chown(a.wish.uid, a.wish.gid) == nil {
		return a.perm, nil
	}
	err := f.Chown(a.must.uid, a.wish.gid) // an owner is root's to give, a group may be one of ours
	if err == nil || a.must.gid >= 0 {
		return a.perm, err
	}
	if a.must.uid >= 0 {
		err = f.Chown(a.must.uid, -1)
		return a.alone, err
	}
	return a.alone, nil
}

// refused reports that a file system knows no modes or does not let us change them, as Create forgives it.
func refused(err error) bool { return unsupported(err) || errors.Is(err, fs.ErrPermission) }

func (s *Store) foldersPerms() fs.FileMode {
	if s.FoldersPerms == 0 {
		return 0o755
	}
	return s.FoldersPerms
}

// narrow takes from everybody the right to write to the folders on the way to a lineage's keys: whoever may write there can put a
// key of his own in the place of ours, or read what is written next. A sticky bit does not help against that.
func (s *Store) narrow(name string) (did string, err error) {
	var done []string
	for _, dir := range keyFolders(name) {
		info, err := s.certs.Lstat(dir)
		if err != nil || !info.IsDir() || info.Mode()&0o002 == 0 {
			continue
		}
		if err := s.certs.Chmod(dir, info.Mode()&^0o002); err != nil && !refused(err) && !errors.Is(err, syscall.EROFS) {
			return "", err
		}
		if info, err := s.certs.Lstat(dir); err == nil && info.Mode()&0o002 == 0 {
			done = append(done, path.Join(s.CertDir, dir))
		}
	}
	if len(done) == 0 {
		return "", nil
	}
	return fmt.Sprintf("took the right to write from everybody in %s", strings.Join(done, ", ")), nil
}

func keyFolders(name string) []string {
	return []string{".", "live", "archive", path.Join("live", name), path.Join("archive", name)}
}
