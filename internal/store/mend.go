package store

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"path"
	"slices"
	"strings"
	"time"

	"github.com/sidecert/sidecert/internal/cert"
)

// Mend puts right what an interrupted change, a careless copy or a hand has left behind: a half-built folder, a version without all
// of its files, a renewal configuration that nobody can read, live files that are not links to the newest whole version, folders
// that everybody may write to. It returns what it did, for the log; "" if there was nothing to do. No key is ever deleted, and what
// a web server uses stays where it is until there is something better.
func (s *Store) Mend(ctx context.Context, name string) (did string, err error) {
	var deeds []string
	note := func(deed string, err error) error {
		if deed != "" {
			deeds = append(deeds, deed)
		}
		return err
	}
	err = note(s.narrow(name))
	if err == nil && !s.isSound(name) {
		err = s.change(ctx, name, func() error {
			if found, err := s.finish(name); err != nil {
				return err
			} else if found {
				note("finished an interrupted change of live/"+name, nil)
			}
			return s.mend(name, note)
		})
	}
	if err != nil {
		err = s.saveError(name, err)
	}
	return strings.Join(deeds, "; "), err
}

func (s *Store) mend(name string, note func(string, error) error) error {
	live, err := s.live(name)
	if errors.Is(err, ErrBroken) {
		if errAdopted := note(s.adoptRenamed(name)); errAdopted != nil {
			return errAdopted
		}
		n, errStored := s.storeShown(name)
		if errStored != nil {
			return errStored
		}
		if n > 0 {
			note(fmt.Sprintf("stored the pair that live/%s shows as version %d", name, n), nil)
			live, err = s.live(name)
		}
	}
	if err != nil && !errors.Is(err, ErrBroken) {
		return nil // the same error is met by whoever reads the lineage
	}
	n, newer := s.newerThan(name, live)
	if err := s.mendConfOf(name, n, note); err != nil {
		return err
	}
	switch {
	case newer:
		note(fmt.Sprintf("pointed live/%s to version %d, the newest whole one", name, n), nil)
	case s.isAstray(live):
		note(fmt.Sprintf("made the links of live/%s to version %d anew", name, n), nil)
	}
	if newer || s.isAstray(live) {
		// The conf comes first: once the links are right nobody looks at it.
		if err := s.mendPaths(name); err != nil {
			return err
		}
		if err := s.point(name, n); err != nil {
			return err
		}
	}
	if err != nil && n == 0 {
		return nil // there is nothing better than what a web server may be using
	}
	if err := note(s.mendHaproxy(name)); err != nil {
		return err
	}
	return note(s.setAside(name, max(n, live.number)))
}

// adoptRenamed copies the versions of a folder that the conf names in the place of archive/NAME, which has none, unless it is another
// lineage's: certbot works with a folder that a person has renamed, so long as links and conf agree. The folder stays as it is.
func (s *Store) adoptRenamed(name string) (did string, err error) {
	c, err := s.readConf(name)
	if err != nil || c == nil {
		return "", nil // there is none that names a folder
	}
	other := path.Base(c.get(topSection, "archive_dir"))
	if !isFolderName(other) || other == name || exists(s.certs, confName(other)) || exists(s.certs, path.Join("live", other)) {
		return "", nil
	}
	for _, n := range s.numbers(name) {
		if b, err := s.version(name, n); err == nil && s.numberWith(other, b) == 0 {
			return "", nil // it has versions of its own
		}
	}
	for _, n := range slices.Backward(s.numbers(other)) {
		b, err := s.version(other, n)
		if err != nil || s.numberWith(name, b) > 0 {
			continue
		}
		if _, err := s.archive(name, b); err != nil {
			return did, err
		}
		did = fmt.Sprintf("copied the versions of archive/%s, which the renewal configuration names, to archive/%s", other, name)
	}
	return did, nil
}

// mendPaths has the conf name the folders that are used: a lineage that was renamed by hand would have certbot write into others.
func (s *Store) mendPaths(name string) error {
	c, err := s.readConf(name)
	if err != nil || c == nil {
		return nil // it is mended, or made, by others
	}
	s.setPaths(c, name)
	return s.putConf(name, c)
}

func (s *Store) isSound(name string) bool {
	live, err := s.live(name)
	if err != nil || exists(s.certs, staging(name)) || s.isAstray(live) || s.haproxyDue(name, live) {
		return false
	}
	if _, err := s.readConf(name); errors.Is(err, errBadConf) {
		return false
	}
	numbers := s.numbers(name)
	return len(numbers) == 0 || numbers[0] == live.number
}

// isAstray reports whether the links to a version are to be made anew. Copies stay where the file system has no links.
func (s *Store) isAstray(live version) bool {
	return live.number > 0 && (live.astray || live.copies && s.canLink())
}

// canLink tries once whether CERT_DIR has symbolic links.
func (s *Store) canLink() bool {
	s.probing.Lock()
	defer s.probing.Unlock()
	if s.links != nil {
		return *s.links
	}
	link := tryName() + ".link"
	err := s.certs.Symlink("nothing", link)
	if err == nil {
		err = s.certs.Remove(link)
	}
	can := err == nil
	if can || noLinks(err) {
		s.links = &can
	}
	return can
}

// storeShown stores the pair that live/NAME shows, if it is whole and no version holds it: somebody has copied a lineage without its
// links, or put a renewed certificate in by hand, or the sole version has lost cert.pem or chain.pem, which the pair replaces. Without
// a renewal configuration it is a person's own.
func (s *Store) storeShown(name string) (n int, err error) {
	whole := func(n int) bool { _, err := s.version(name, n); return err == nil }
	if !exists(s.certs, confName(name)) || !s.hasPlain(name) && slices.ContainsFunc(s.numbers(name), whole) {
		return 0, nil
	}
	pair, err := s.livePair(name)
	if err != nil || cert.IsPlaceholder(pair.Chain[0]) || s.numberWith(name, pair) > 0 {
		return 0, nil
	}
	return s.archive(name, pair)
}

func (s *Store) hasPlain(name string) bool {
	return slices.ContainsFunc(cert.Files, func(file string) bool {
		info, err := s.certs.Lstat(path.Join("live", name, file+".pem"))
		return err == nil && info.Mode().IsRegular()
	})
}

// mendConfOf builds a renewal configuration anew that cannot be read, for the version that is to be live.
func (s *Store) mendConfOf(name string, n int, note func(string, error) error) error {
	if _, err := s.readConf(name); !errors.Is(err, errBadConf) {
		return nil
	}
	var b cert.Bundle
	if n > 0 {
		b, _ = s.version(name, n)
	}
	return note(s.mendConf(name, b))
}

// newerThan is the whole version that was issued last, and whether it is to be live in place of what is. A version is judged by its
// dates: numbers mean nothing, but between two of the same second.
func (s *Store) newerThan(name string, live version) (n int, newer bool) {
	var issued time.Time
	if live.number > 0 {
		n, issued = live.number, live.bundle.Chain[0].NotBefore
	}
	for _, number := range s.numbers(name) {
		if number == live.number {
			continue
		}
		b, err := s.version(name, number)
		if err != nil || cert.IsPlaceholder(b.Chain[0]) {
			continue
		}
		if at := b.Chain[0].NotBefore; at.After(issued) || at.Equal(issued) && number > n {
			n, newer, issued = number, true, at
		}
	}
	return n, newer
}

// setAside moves the files of versions with a higher number than the live one that are not whole, keys included, to a folder of
// their own in archive/NAME: their number stays free of half a pair.
func (s *Store) setAside(name string, live int) (did string, err error) {
	for _, n := range s.numbers(name) {
		if n <= live {
			break
		}
		if _, err := s.version(name, n); err == nil {
			continue
		}
		aside, err := s.asideFolder(name)
		if err != nil {
			return "", err
		}
		for _, file := range cert.Files {
			from := archived(name, file, n)
			if !exists(s.certs, from) {
				continue
			}
			if err := s.certs.Rename(from, path.Join(aside, path.Base(from))); err != nil {
				return "", err
			}
		}
		if err := s.certs.SyncDir(path.Join("archive", name)); err != nil {
			return "", err
		}
		did = fmt.Sprintf("set the incomplete version %d aside in %s", n, aside)
	}
	return did, nil
}

// asideFolder makes a folder for what is set aside, which nothing in it can replace.
func (s *Store) asideFolder(name string) (string, error) {
	if err := s.archiveFolder(name); err != nil {
		return "", err
	}
	aside := s.unused(path.Join("archive", name, broken+s.stamp()))
	return aside, mkdirAll(s.certs, aside, 0o700, unowned)
}

// broken begins the names of folders for what is set aside.
const broken = ".broken-"

// keepKey copies the private key of live/NAME to archive/NAME/.broken-… if it is a plain file that nothing there holds and that no
// placeholder has: live/NAME is about to be replaced.
func (s *Store) keepKey(name string) error {
	at := path.Join("live", name, cert.PrivkeyPEM+".pem")
	info, err := s.certs.Lstat(at)
	if err != nil || !info.Mode().IsRegular() || info.Size() == 0 {
		return nil
	}
	data, err := s.certs.ReadFile(at)
	if err != nil {
		return fmt.Errorf("keep the private key that stands in live/: %w", err)
	}
	if s.isPlaceholders(name, data) || s.isStored(name, data) {
		return nil
	}
	aside, err := s.asideFolder(name)
	if err != nil {
		return err
	}
	if err := writeNew(s.certs, path.Join(aside, cert.PrivkeyPEM+".pem"), data, 0o600, unowned); err != nil {
		return err
	}
	return s.certs.SyncDir(aside)
}

func (s *Store) isPlaceholders(name string, keyPEM []byte) bool {
	data, err := s.readLive(name, cert.FullchainPEM)
	if err != nil {
		return false
	}
	chain, err := cert.ParseChain(data)
	if err != nil || !cert.IsPlaceholder(chain[0]) {
		return false
	}
	key, err := cert.ParseKey(keyPEM)
	return err == nil && cert.Fits(key, chain[0])
}

// isStored reports whether archive/NAME holds a private key, in a version or set aside.
func (s *Store) isStored(name string, keyPEM []byte) bool {
	dir := path.Join("archive", name)
	entries, _ := s.certs.ReadDir(dir) // no folder, no keys
	for _, e := range entries {
		at := path.Join(dir, e.Name())
		if e.IsDir() && strings.HasPrefix(e.Name(), broken) {
			inside, _ := s.certs.ReadDir(at)
			for _, e := range inside {
				if s.holds(path.Join(at, e.Name()), keyPEM) {
					return true
				}
			}
		} else if s.holds(at, keyPEM) {
			return true
		}
	}
	return false
}

// holds reports whether a file is a private key and the given one.
func (s *Store) holds(at string, keyPEM []byte) bool {
	if !strings.HasPrefix(path.Base(at), cert.PrivkeyPEM) {
		return false
	}
	data, err := s.certs.ReadFile(at)
	if err != nil {
		return false
	}
	if bytes.Equal(data, keyPEM) {
		return true
	}
	stored, errStored := cert.ParseKey(data)
	key, errKey := cert.ParseKey(keyPEM)
	return errStored == nil && errKey == nil && sameKey(stored, key)
}
