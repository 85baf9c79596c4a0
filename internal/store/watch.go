package store

import (
	"context"
	"maps"
	"path/filepath"
	"time"

	"github.com/fsnotify/fsnotify"
)

// settle is how long the files must be still before they are looked at: whoever changes a lineage changes several.
const settle = 500 * time.Millisecond

// Watch calls changed whenever somebody else has changed what CERT_DIR shows, until ctx ends. It goes by contents, so our own
// writes and those that change nothing call nobody. Where the file system tells nothing (some network volumes), it never calls.
func (s *Store) Watch(ctx context.Context, changed func()) error {
	w, err := fsnotify.NewWatcher()
	if err != nil {
		return err
	}
	defer w.Close()
	s.writing.Lock()
	s.known = s.digests()
	s.writing.Unlock()
	s.watchFolders(w)

	quiet := time.NewTimer(0)
	defer quiet.Stop()
	for {
		select {
		case <-ctx.Done():
			return ctx.Err()
		case _, ok := <-w.Events:
			if !ok {
				return nil
			}
			quiet.Reset(settle)
		case <-w.Errors: // an overflow: look at everything
			quiet.Reset(settle)
		case <-quiet.C:
			s.watchFolders(w)
			s.writing.Lock()
			digests := s.digests()
			differs := !maps.Equal(digests, s.known)
			s.known = digests
			s.writing.Unlock()
			if differs {
				changed()
			}
		}
	}
}

// watchFolders adds the folders that have come since; one that is watched already, or has gone, is no matter.
func (s *Store) watchFolders(w *fsnotify.Watcher) {
	for _, dir := range []string{".", "live", "renewal"} {
		w.Add(filepath.Join(s.CertDir, dir))
	}
	for _, name := range s.lineageNames() {
		w.Add(filepath.Join(s.CertDir, "live", name))
		w.Add(filepath.Join(s.CertDir, "archive", name))
	}
}
