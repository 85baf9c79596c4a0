package store

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"maps"
	"path"
	"strings"

	"github.com/sidecert/sidecert/internal/cert"
)

// Delete forgets a lineage: its renewal configuration, so that nobody renews it, its files, and what is remembered of it. One that
// was interrupted is ended by the next. With fs.ErrNotExist there is nothing under the name.
func (s *Store) Delete(ctx context.Context, name string) error {
	if !isFolderName(name) || !s.knows(name) {
		return &cert.Error{Op: "delete", Name: name, Kind: cert.KindPerson, Err: fmt.Errorf("no such certificate: %w", fs.ErrNotExist),
			Hint: "`sidecert certificates` lists what is stored"}
	}
	err := s.change(ctx, name, func() error {
		if err := s.mayDelete(name); err != nil {
			return err
		}
		return s.deleteFiles(name)
	})
	if err == nil {
		err = s.forget(name)
	}
	if _, ok := errors.AsType[*cert.Error](err); err == nil || ok {
		return err
	}
	return &cert.Error{Op: "delete", Name: name, Err: err, Hint: "give it again: it goes on where it was interrupted"}
}

// deleteFiles goes so far at each step that what a kill leaves is the whole lineage, or one of which Lineages says that it is a
// leftover with private keys, or nothing. live/NAME goes at once: of the half of one Mend would make a whole.
func (s *Store) deleteFiles(name string) error {
	live, next := path.Join("live", name), staging(name)
	for _, at := range []string{confName(name), next} {
		if err := removeAll(s.certs, at); err != nil {
			return err
		}
	}
	if exists(s.certs, live) {
		if err := s.certs.Rename(live, next); err != nil {
			return err
		}
		if err := s.certs.SyncDir("live"); err != nil {
			return err
		}
	}
	for _, at := range []string{next, path.Join("archive", name)} { // without links there are keys in both
		if err := removeAll(s.certs, at); err != nil {
			return err
		}
	}
	return nil
}

// isFolderName reports whether a lineage may be called that: nothing that leads to another folder, or to one of our own.
func isFolderName(name string) bool {
	return name != "" && name == path.Base(name) && !strings.HasPrefix(name, ".") && !strings.ContainsRune(name, 0)
}

// knows reports whether anything is stored under a name.
func (s *Store) knows(name string) bool {
	if s.has(name) || exists(s.certs, confName(name)) || exists(s.certs, staging(name)) || exists(s.state, attemptsName(name)) {
		return true
	}
	targets, _ := s.Targets() // what cannot be read is not forgotten either
	for _, target := range targets {
		if _, ok := target.Certs[name]; ok {
			return true
		}
	}
	return false
}

// mayDelete refuses a person's own certificate. What an interrupted Delete has left has an archive, which goes last.
func (s *Store) mayDelete(name string) error {
	if exists(s.certs, confName(name)) || exists(s.certs, path.Join("archive", name)) {
		return nil
	}
	if info, err := s.certs.Lstat(path.Join("live", name)); err == nil && info.Mode()&fs.ModeSymlink != 0 {
		return nil // the link alone goes
	}
	if _, err := s.live(name); errors.Is(err, ErrForeign) {
		return &cert.Error{Op: "delete", Name: name, Kind: cert.KindPerson, Err: ErrForeign,
			Hint: fmt.Sprintf("if nothing needs %s any more, remove it by hand", path.Join(s.CertDir, "live", name))}
	}
	return nil
}

// forget drops what STATE_DIR remembers of a lineage.
func (s *Store) forget(name string) error {
	entries, _ := s.state.ReadDir("attempts") // no folder, nothing tried
	for _, e := range entries {
		own := e.Name() == name+".json" || e.Name() == name+".json.broken"
		if !own && !strings.HasPrefix(e.Name(), name+"~") { // no lineage's name has a ~: it is another book of this one
			continue
		}
		if err := removeIfThere(s.state, path.Join("attempts", e.Name())); err != nil {
			return err
		}
	}
	s.targets.Lock()
	defer s.targets.Unlock()
	all, err := s.Targets()
	if err != nil {
		return err
	}
	changed := false
	for _, target := range all {
		before := len(target.Certs)
		maps.DeleteFunc(target.Certs, func(lineage string, _ cert.Served) bool { return lineage == name })
		changed = changed || len(target.Certs) < before
	}
	if !changed {
		return nil
	}
	return s.writeJSON("targets.json", all)
}

// removeAll removes a file, a link, or a folder with all that is in it, and has that on disk when it returns.
func removeAll(v FS, name string) error {
	info, err := v.Lstat(name)
	if errors.Is(err, fs.ErrNotExist) {
		return nil
	}
	if err != nil {
		return err
	}
	if info.IsDir() {
		entries, err := v.ReadDir(name)
		if err != nil {
			return err
		}
		for _, e := range entries {
			if err := removeAll(v, path.Join(name, e.Name())); err != nil {
				return err
			}
		}
	}
	if err := v.Remove(name); err != nil {
		return err
	}
	if info.IsDir() || path.Dir(path.Dir(name)) == "." {
		return v.SyncDir(path.Dir(name))
	}
	return nil
}
