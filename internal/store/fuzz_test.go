package store

import (
	"encoding/json"
	"os"
	"path/filepath"
	"reflect"
	"testing"
	"time"

	"github.com/sidecert/sidecert/internal/cert"
)

// fuzzed is a file of STATE_DIR, read as whoever needs it does.
type fuzzed struct {
	name string
	read func(*Store) (any, error)
	save func(*Store, any) error
}

var (
	fuzzCA = cert.CA{Directory: "https://ca.example/dir"}

	states = []fuzzed{
		{attemptsName("example.org"), func(s *Store) (any, error) { return s.Attempts("example.org") },
			func(s *Store, v any) error { return s.SaveAttempts("example.org", v.(cert.Attempts)) }},
		{filepath.Join("accounts", fuzzCA.ID(), "hold.json"), func(s *Store) (any, error) { return s.Hold(fuzzCA) },
			func(s *Store, v any) error { return s.SaveHold(fuzzCA, v.(cert.Hold)) }},
		{"failures.json", func(s *Store) (any, error) { return s.Failures() },
			func(s *Store, v any) error { return s.SaveFailures(v.(map[string][]time.Time)) }},
		{"guard.json", func(s *Store) (any, error) { return s.Guard() }, func(s *Store, v any) error { return s.SaveGuard(v.(cert.Guard)) }},
		{"kept.json", func(s *Store) (any, error) { return s.Kept() }, func(s *Store, v any) error { return s.SaveKept(v.(map[string]bool)) }},
		{"targets.json", func(s *Store) (any, error) { return s.Targets() },
			func(s *Store, v any) error {
				for name, target := range v.(map[string]cert.TargetState) {
					if err := s.SetTarget(name, target); err != nil {
						return err
					}
				}
				return nil
			}},
	}
)

// FuzzState: whatever stands in a file of STATE_DIR, reading it is no error and no panic. What cannot be read is set aside whole; what
// can be is the same when it is written and read again.
func FuzzState(f *testing.F) {
	for which := range len(states) {
		for _, seed := range []string{
			"", "null", "{}", "[]", "0", `"x"`, `{"failures":-1,"next":"9999-12-31T23:59:59Z","order":{"key":"AA==","names":null}}`,
			`{"tries":9223372036854775807,"next":"0000-01-01T00:00:00Z"}`, `{"a.example":["2026-01-01T00:00:00Z"],"":[]}`, `{"ordered":{"x":null}}`,
			`{"a":true,"":false}`, `{"a":null}`, `{"web":{}}`, `{"failures":1e999}`, `{"failures":1}{`, "\x00", "\ufeff{}", `{"a":{"a":{"a":[[[[`,
		} {
			f.Add(uint(which), []byte(seed))
		}
	}
	certDir, stateDir := f.TempDir(), f.TempDir()
	f.Fuzz(func(t *testing.T, which uint, data []byte) {
		state := states[which%uint(len(states))]
		s := open(t, certDir, stateDir)
		file := filepath.Join(stateDir, state.name)
		aside := file + ".broken"
		os.Remove(aside)
		write(t, file, string(data))
		v, err := state.read(s)
		if err != nil {
			t.Fatalf("%s with %q: %v", state.name, data, err)
		}
		if kept, err := os.ReadFile(aside); err == nil {
			if string(kept) != string(data) {
				t.Fatalf("%s with %q was set aside as %q", state.name, data, kept)
			}
			if value := reflect.ValueOf(v); !value.IsZero() && !(value.Kind() == reflect.Map && value.Len() == 0) {
				t.Fatalf("%s with %q was set aside and is %+v all the same", state.name, data, v)
			}
		} else if !json.Valid(data) {
			t.Fatalf("%s with %q was taken for %+v", state.name, data, v)
		}
		if err := state.save(s, v); err != nil {
			t.Fatalf("%s: what was read of %q is not saved: %v", state.name, data, err)
		}
		again, err := state.read(s)
		if want, got := encoded(t, v), encoded(t, again); err != nil || got != want {
			t.Fatalf("%s: what was read of %q as %s is read again as %s, %v", state.name, data, want, got, err)
		}
	})
}

func encoded(t *testing.T, v any) string {
	t.Helper()
	data, err := json.Marshal(v)
	if err != nil {
		t.Fatal(err)
	}
	return string(data)
}

// FuzzJournal: whatever stands in the journal, its whole lines are read, and one that is added afterwards is the last.
func FuzzJournal(f *testing.F) {
	const line = `{"time":"2026-01-01T00:00:00Z","kind":"obtained","cert":"a.example"}`
	for _, seed := range []string{"", "\n", line, line + "\n", line + "\n{\"time\":\"2026-01", "null\n0\n[]\n\"\"", "\x00\xff\n" + line, `{"time":"x"}` + "\n", `{"kind":7}`} {
		f.Add([]byte(seed))
	}
	certDir, stateDir := f.TempDir(), f.TempDir()
	f.Fuzz(func(t *testing.T, data []byte) {
		s := open(t, certDir, stateDir)
		write(t, filepath.Join(stateDir, journalFile), string(data))
		before, err := s.Journal()
		if err != nil {
			t.Fatalf("Journal() of %q: %v", data, err)
		}
		added := cert.Event{Time: time.Unix(1e9, 0).UTC(), Kind: cert.EventServed, Cert: "added.example"}
		if err := s.Append(added); err != nil {
			t.Fatal(err)
		}
		after, err := s.Journal()
		if err != nil || len(after) != len(before)+1 || !reflect.DeepEqual(after[len(after)-1], added) {
			t.Fatalf("of %q %d events are read, and %d when one is added: %v", data, len(before), len(after), err)
		}
	})
}
