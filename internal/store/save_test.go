package store

import (
	"errors"
	"os"
	"path/filepath"
	"testing"
	"time"

	"github.com/sidecert/sidecert/internal/cert"
)

// An order takes its time, and certbot may be at work meanwhile.
func TestSaveOverGivesWayToWhatSomebodyElseHasChanged(t *testing.T) {
	more := append([]string{"new.example.org"}, names...)
	other := func(t *testing.T, s *Store, names []string) {
		t.Helper()
		if _, err := s.Save(t.Context(), "example.org", spec, ca.Issue(time.Now(), life, names...)); err != nil {
			t.Fatal(err)
		}
	}
	remove := func(t *testing.T, s *Store, what ...string) {
		t.Helper()
		for _, name := range what {
			if err := os.RemoveAll(filepath.Join(s.CertDir, name)); err != nil {
				t.Fatal(err)
			}
		}
	}
	for name, row := range map[string]struct {
		stored  bool // before the order
		between func(t *testing.T, s *Store)
		number  int // that the order's certificate becomes; 0: none
	}{
		"nothing": {true, func(*testing.T, *Store) {}, 2},
		"renewed": {true, func(t *testing.T, s *Store) { other(t, s, names) }, 3},
		"renewed with the names in another order": {true, func(t *testing.T, s *Store) { other(t, s, []string{names[1], names[0]}) }, 3},
		"a name added":                           {true, func(t *testing.T, s *Store) { other(t, s, more) }, 0},
		"a name taken away":                      {true, func(t *testing.T, s *Store) { other(t, s, names[:1]) }, 0},
		"changed to the names that were ordered": {true, func(t *testing.T, s *Store) { other(t, s, []string{"ordered.example.org"}) }, 3},
		"deleted": {true, func(t *testing.T, s *Store) {
			remove(t, s, "live/example.org", "archive/example.org", "renewal/example.org.conf")
		}, 0},
		"deleted by us, with a placeholder in its place": {true, func(t *testing.T, s *Store) {
			if err := s.Delete(t.Context(), "example.org"); err != nil {
				t.Fatal(err)
			}
			if _, err := s.Placeholder(t.Context(), "example.org", names); err != nil {
				t.Fatal(err)
			}
		}, 0},
		"damaged":                                          {true, func(t *testing.T, s *Store) { remove(t, s, "live/example.org/cert.pem") }, 2},
		"its live folder lost":                             {true, func(t *testing.T, s *Store) { remove(t, s, "live/example.org") }, 2},
		"nothing, for a first certificate":                 {false, func(*testing.T, *Store) {}, 1},
		"made by certbot with other names":                 {false, func(t *testing.T, s *Store) { other(t, s, more) }, 0},
		"made by certbot with the names that were ordered": {false, func(t *testing.T, s *Store) { other(t, s, []string{"ordered.example.org"}) }, 2},
	} {
		t.Run(name, func(t *testing.T) {
			dir := t.TempDir()
			s := open(t, dir, t.TempDir())
			if row.stored {
				save(t, s, bundle())
			} else if _, err := s.Placeholder(t.Context(), "example.org", names); err != nil {
				t.Fatal(err)
			}
			over, err := s.Lineage("example.org")
			if err != nil {
				t.Fatal(err)
			}
			row.between(t, s)
			before := s.digest("example.org")
			numbers := len(s.numbers("example.org"))
			asked := spec
			asked.Names = []string{"ordered.example.org"}
			l, err := s.SaveOver(t.Context(), over, asked, ca.Issue(time.Now().Add(-time.Minute), life, asked.Names...))
			if row.number > 0 {
				if err != nil || l.Number != row.number {
					t.Errorf("SaveOver() made version %d, %v; want %d", l.Number, err, row.number)
				}
				return
			}
			if e, ok := errors.AsType[*cert.Error](err); !ok || e.Kind != cert.KindInterrupted || e.Hint == "" || e.Name != "example.org" {
				t.Errorf("SaveOver() = %v, want an interruption with a hint", err)
			}
			if s.digest("example.org") != before || len(s.numbers("example.org")) != numbers {
				t.Error("SaveOver() has written something")
			}
		})
	}
}
