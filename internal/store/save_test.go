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

// A kill between the version and its conf leaves the conf of the version before, or none.
func TestConfThatAKillPreventedIsRecorded(t *testing.T) {
	dir := t.TempDir()
	s := open(t, dir, t.TempDir())
	save(t, s, bundle())
	moved := spec
	moved.CA.Directory = "https://other.example/dir"
	name := filepath.Join(dir, "renewal/example.org.conf")
	for what, harm := range map[string]func() error{"of before": func() error { return nil }, "gone": func() error { return os.Remove(name) }} {
		if err := harm(); err != nil {
			t.Fatal(err)
		}
		l, err := s.RecordConf(t.Context(), "example.org", moved)
		if err != nil || l.Conf.Server != moved.CA.Directory || l.Conf.Certbot || l.Number != 1 {
			t.Errorf("conf %s: RecordConf() = version %d of %q, %v; want version 1 of the CA that gave it", what, l.Number, l.Conf.Server, err)
		}
		before, err := os.Stat(name)
		if err != nil {
			t.Fatal(err)
		}
		if _, err := s.RecordConf(t.Context(), "example.org", moved); err != nil {
			t.Fatal(err)
		}
		if after, err := os.Stat(name); err != nil || !os.SameFile(before, after) {
			t.Errorf("conf %s: another RecordConf() has written it again (%v)", what, err)
		}
	}
	if l, err := s.RecordConf(t.Context(), "nothing.example", spec); err != nil || l.Issued() || exists(s.certs, "renewal/nothing.example.conf") {
		t.Errorf("RecordConf() of nothing = %+v, %v; want nothing written", l, err)
	}
}

func TestWebrootThatStandsInIsNotWrittenIntoCertbotsConf(t *testing.T) {
	const conf = "authenticator = webroot\nwebroot_path = /certbots,\nserver = https://ca.example/dir\n[[webroot_map]]\nexample.org = /certbots\n"
	for name, row := range map[string]struct {
		standIn bool
		conf    string
		webroot string
	}{
		"that stands in":                       {true, conf, "/certbots"},
		"that a person has chosen":             {false, conf, "/ours"},
		"that stands in, in a conf of our own": {true, mark + "\n" + conf, "/ours"},
	} {
		dir := t.TempDir()
		s := open(t, dir, t.TempDir())
		write(t, filepath.Join(dir, "renewal/example.org.conf"), "[renewalparams]\n"+row.conf)
		asked := spec
		asked.Webroot, asked.StandIn = "/ours", row.standIn
		l, err := s.Save(t.Context(), "example.org", asked, bundle())
		if err != nil || l.Conf.Webroot != row.webroot || l.Conf.Webroots["example.org"] != row.webroot {
			t.Errorf("with a webroot %s the conf has %q and %v, %v; want %s", name, l.Conf.Webroot, l.Conf.Webroots, err, row.webroot)
		}
	}
}
