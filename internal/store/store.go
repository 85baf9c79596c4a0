package store

import (
	"cmp"
	"context"
	"crypto/rand"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"path"
	"strings"
	"sync"
	"time"

	"golang.org/x/sys/unix"

	"github.com/sidecert/sidecert/internal/cert"
)

// Options are the volumes and the modes of what is written there.
type Options struct {
	CertDir, StateDir string
	// UID and GID own private keys and the folders that hold them; 0 and below keep whom the previous version's belong to, and leave
	// the first ones to whom we run as.
	UID, GID int
	// FilesPerms is the mode of private keys; 0 keeps that of the previous version's, and is 600 for a first one. FoldersPerms is that
	// of new folders that hold keys; 0 is 755.
	FilesPerms, FoldersPerms fs.FileMode
	// Haproxy makes live/NAME/haproxy.pem too.
	Haproxy bool
	// Webroots are named where folders belong to somebody else, and not touched here.
	Webroots []string
	Now      func() time.Time
}

// Store is the two volumes. Its methods may be called side by side; those that write to CERT_DIR wait for each other.
type Store struct {
	certs, state FS
	Options
	own owner

	// writing is held while CERT_DIR is changed or its digest taken, so that the watch never sees half of our own work.
	writing sync.Mutex
	known   map[string]string // by lineage, the digest of what CERT_DIR shows after our last write
	targets sync.Mutex
	journal sync.Mutex
	begun   bool // the journal ends with a line of ours, and its name is on disk

	parsed parsed

	probing sync.Mutex
	links   *bool // whether CERT_DIR has symbolic links; nil until it was tried
}

// Open opens the volumes, which must be folders that exist.
func Open(o Options) (*Store, error) {
	certs, err := o.openVolume("CERT_DIR", o.CertDir)
	if err != nil {
		return nil, err
	}
	if err := foldersInside(certs, o.CertDir); err != nil {
		return nil, err
	}
	state, err := o.openVolume("STATE_DIR", o.StateDir)
	if err != nil {
		return nil, err
	}
	return New(certs, state, o), nil
}

// New is Open for volumes that are open already.
func New(certs, state FS, o Options) *Store {
	return &Store{certs: certs, state: state, Options: o, own: owner{orKeep(o.UID), orKeep(o.GID)}, known: map[string]string{}}
}

func orKeep(id int) int {
	if id <= 0 {
		return -1
	}
	return id
}

func (o Options) openVolume(variable, dir string) (FS, error) {
	if err := os.MkdirAll(dir, 0o755); err != nil {
		return nil, o.volumeError(variable, dir, err)
	}
	v, err := OpenDisk(dir)
	if err != nil {
		return nil, o.volumeError(variable, dir, err)
	}
	return v, nil
}

// foldersInside refuses folders that were moved to another disk behind a link: what is not in the volume is not reached. An absolute
// link leads out of it too, wherever it ends: the volume has other places in other containers.
func foldersInside(certs FS, dir string) error {
	for _, name := range []string{"live", "archive", "renewal"} {
		target, err := certs.Readlink(name)
		if err != nil {
			continue
		}
		if _, err := certs.ReadDir(name); err == nil {
			continue
		}
		at := path.Join(dir, name)
		return &cert.Error{Op: "open CERT_DIR", Name: at, Kind: cert.KindPerson, Err: fmt.Errorf("it is a link to %s, which is no folder of this volume", target),
			Hint: fmt.Sprintf("mount the folder that it leads to at %s, or put the folder itself there; a link must be relative and stay within %s", at, dir)}
	}
	return nil
}

func (o Options) volumeError(variable, dir string, err error) error {
	return &cert.Error{Op: "open " + variable, Err: err,
		Hint: cmp.Or(o.ownerHint(err), fmt.Sprintf("%s must be a folder that user %d may write to: check the volume mounted at %s", variable, os.Getuid(), dir))}
}

// ownerHint names all folders: they were filled by the same user.
func (o Options) ownerHint(err error) string {
	return cert.OwnerHint(err, append(append([]string{o.CertDir}, o.Webroots...), o.StateDir)...)
}

// Hint is what to do where CERT_DIR cannot be changed.
func (s *Store) Hint(err error) string {
	return cmp.Or(s.ownerHint(err), "the volume at "+s.CertDir+" must be writable and know locks: look at its mount and at the free space")
}

// Lead makes this process the one that changes CERT_DIR, until the result is closed or the process ends; ErrLocked when
// another sidecert is.
func (s *Store) Lead() (io.Closer, error) { return s.certs.Lock(".sidecert.lock") }

// certbotWait is how long a certbot that is at work is waited for; its own renewals take less, one certificate at a time.
const certbotWait = 2 * time.Minute

// change runs a change of a lineage while no certbot is at work in CERT_DIR, and remembers what it looks like afterwards.
// certbot ends at once when it finds the lock taken, so nothing slow belongs in f.
func (s *Store) change(ctx context.Context, lineage string, f func() error) error {
	return s.locked(ctx, func() error {
		err := f()
		s.know(lineage)
		return err
	})
}

// locked runs f while nobody else changes CERT_DIR.
func (s *Store) locked(ctx context.Context, f func() error) error {
	s.writing.Lock()
	defer s.writing.Unlock()
	lock, err := s.certbotLock(ctx)
	if err != nil {
		return err
	}
	defer lock.Close()
	return f()
}

// know remembers what a lineage looks like now, so that the watch does not call for it.
func (s *Store) know(lineage string) {
	if s.known[lineage] = s.digest(lineage); !s.has(lineage) {
		delete(s.known, lineage)
	}
}

// has reports whether a lineage has a folder, as lineageNames finds them.
func (s *Store) has(lineage string) bool {
	return exists(s.certs, path.Join("live", lineage)) || exists(s.certs, path.Join("archive", lineage))
}

func (s *Store) certbotLock(ctx context.Context) (io.Closer, error) {
	patience, cancel := context.WithTimeout(ctx, certbotWait)
	defer cancel()
	for {
		lock, err := s.certs.Lock(".certbot.lock")
		if !errors.Is(err, ErrLocked) {
			return lock, err
		}
		select {
		case <-patience.Done():
			return nil, errors.Join(ctx.Err(), fmt.Errorf("a certbot is at work in %s: %w", s.CertDir, err))
		case <-time.After(200 * time.Millisecond):
		}
	}
}

// Try proves that both volumes can do what a new version needs (write, sync, link, rename, read back), so that no
// certificate is ordered that could not be stored. What it makes it removes.
func (s *Store) Try() error {
	if err := try(s.certs); err != nil {
		return s.tryError("CERT_DIR", s.CertDir, err)
	}
	if err := try(s.state); err != nil {
		return s.tryError("STATE_DIR", s.StateDir, err)
	}
	return nil
}

func (s *Store) tryError(variable, dir string, err error) error {
	if errors.Is(err, unix.EMFILE) || errors.Is(err, unix.ENFILE) {
		return &cert.Error{Op: "try to write to " + variable, Err: err, Hint: "too many files are open: raise the limit (ulimits: nofile in the compose file)"}
	}
	return &cert.Error{Op: "try to write to " + variable, Err: err,
		Hint: cmp.Or(s.ownerHint(err), fmt.Sprintf("nothing is ordered that could not be stored; make the volume at %s writable and free some space", dir))}
}

// tryPrefix begins the names of what is made to try a volume. The rest is random: doctor tries beside the daemon.
const tryPrefix = ".sidecert.try"

func tryName() string { return tryPrefix + "-" + rand.Text() }

func try(v FS) error {
	name := tryName()
	link := name + ".link"
	defer discard(v, nextTo(name), name, link)
	data := make([]byte, 16<<10) // about what a version takes
	if err := replace(v, name, data, 0o600); err != nil {
		return err
	}
	back, err := v.ReadFile(name)
	if err != nil {
		return err
	}
	if len(back) != len(data) {
		return fmt.Errorf("%s: wrote %d bytes, read %d", name, len(data), len(back))
	}
	sweep(v, name)
	if err := v.Symlink(name, link); err == nil {
		err = v.Remove(link)
		if err != nil {
			return err
		}
	} else if !noLinks(err) { // without links, copies stand in
		return err
	}
	return v.Remove(name)
}

// discard is for what is worth nothing any more: what stays is swept by a later try.
func discard(v FS, names ...string) {
	for _, name := range names {
		_ = removeIfThere(v, name)
	}
}

// forgotten is the age at which what a try has made belongs to none that is under way.
const forgotten = time.Hour

// sweep removes what tries that were killed have left. How old it is the volume's own clock says: the age is that between it and own.
func sweep(v FS, own string) {
	newest, err := v.Lstat(own)
	if err != nil {
		return
	}
	entries, _ := v.ReadDir(".") // the next try sees what this one does not
	for _, e := range entries {
		if !strings.HasPrefix(e.Name(), tryPrefix) && !strings.HasPrefix(e.Name(), "."+tryPrefix) {
			continue
		}
		if info, err := e.Info(); err == nil && newest.ModTime().Sub(info.ModTime()) > forgotten {
			discard(v, e.Name())
		}
	}
}
