package store

import (
	"bytes"
	"encoding/json"
	"errors"
	"fmt"
	"io/fs"
	"path"
	"time"

	"github.com/sidecert/sidecert/internal/cert"
)

// Attempts returns what was tried for a lineage; nothing tried is no error.
func (s *Store) Attempts(lineage string) (cert.Attempts, error) {
	return readJSON(s, attemptsName(lineage), cert.Attempts{})
}

// SaveAttempts has them on disk when it returns.
func (s *Store) SaveAttempts(lineage string, a cert.Attempts) error {
	return s.writeJSON(attemptsName(lineage), a)
}

func attemptsName(lineage string) string { return path.Join("attempts", lineage+".json") }

// Hold returns what keeps all certificates of a CA waiting.
func (s *Store) Hold(ca cert.CA) (cert.Hold, error) {
	return readJSON(s, path.Join("accounts", ca.ID(), "hold.json"), cert.Hold{})
}

func (s *Store) SaveHold(ca cert.CA, h cert.Hold) error {
	return s.writeJSON(path.Join("accounts", ca.ID(), "hold.json"), h)
}

// Failures returns when the validation of a name has failed, by name, over all certificates.
func (s *Store) Failures() (map[string][]time.Time, error) {
	return readJSON(s, "failures.json", map[string][]time.Time{})
}

func (s *Store) SaveFailures(book map[string][]time.Time) error {
	return s.writeJSON("failures.json", book)
}

// Guard returns the book of orders and certificates by set of names.
func (s *Store) Guard() (cert.Guard, error) { return readJSON(s, "guard.json", cert.Guard{}) }

func (s *Store) SaveGuard(g cert.Guard) error { return s.writeJSON("guard.json", g) }

// Kept returns the lineages that had a certificate when that was last saved; the value says that certbot made it and nobody had
// configured it.
func (s *Store) Kept() (map[string]bool, error) { return readJSON(s, "kept.json", map[string]bool{}) }

func (s *Store) SaveKept(lineages map[string]bool) error { return s.writeJSON("kept.json", lineages) }

// Labelled returns the containers that were last seen to ask for something by label.
func (s *Store) Labelled() ([]cert.Labelled, error) {
	return readJSON(s, "labels.json", []cert.Labelled{})
}

func (s *Store) SaveLabelled(all []cert.Labelled) error { return s.writeJSON("labels.json", all) }

// Notices returns what people were told, as whoever tells them has written it; nil where nothing is.
func (s *Store) Notices() (json.RawMessage, error) {
	return readJSON(s, "notify.json", json.RawMessage(nil))
}

func (s *Store) SaveNotices(all json.RawMessage) error { return s.writeJSON("notify.json", all) }

// Targets returns what every container was last told and showed, by container name.
func (s *Store) Targets() (map[string]cert.TargetState, error) {
	return readJSON(s, "targets.json", map[string]cert.TargetState{})
}

// Target returns what one container was last told and showed.
func (s *Store) Target(container string) (cert.TargetState, error) {
	s.targets.Lock()
	defer s.targets.Unlock()
	all, err := s.Targets()
	return all[container], err
}

// SetTarget remembers what one container was told and showed.
func (s *Store) SetTarget(container string, state cert.TargetState) error {
	s.targets.Lock()
	defer s.targets.Unlock()
	all, err := s.Targets()
	if err != nil {
		return err
	}
	all[container] = state
	return s.writeJSON("targets.json", all)
}

// ForgetTarget drops what is remembered of one container.
func (s *Store) ForgetTarget(container string) error {
	s.targets.Lock()
	defer s.targets.Unlock()
	all, err := s.Targets()
	if _, known := all[container]; err != nil || !known {
		return err
	}
	delete(all, container)
	return s.writeJSON("targets.json", all)
}

// The journal is two files: when the one in use has reached maxJournal bytes, it takes the other's place.
const (
	journalFile = "journal.jsonl"
	olderFile   = "journal.older.jsonl"
	maxJournal  = MaxFile / 2
)

// Append adds an event to the journal and has it on disk when it returns.
func (s *Store) Append(e cert.Event) error {
	line, err := json.Marshal(e)
	if err != nil {
		return err
	}
	s.journal.Lock()
	defer s.journal.Unlock()
	if info, err := s.state.Lstat(journalFile); err == nil && info.Size() >= maxJournal {
		if err := s.state.Rename(journalFile, olderFile); err != nil {
			return err
		}
		s.begun = false
	}
	f, err := s.state.Append(journalFile, 0o600)
	if err != nil {
		return err
	}
	if !s.begun { // a crash, or a disk that was full, may have cut the last line off
		line = append([]byte{'\n'}, line...)
	}
	_, err = f.Write(append(line, '\n'))
	err = errors.Join(err, f.Sync(), f.Close())
	if err == nil && !s.begun { // the file may be new, and its name not on disk yet
		err = s.state.SyncDir(".")
	}
	s.begun = err == nil
	return err
}

// Journal returns the events, oldest first. A line that a crash has cut off is passed over.
func (s *Store) Journal() ([]cert.Event, error) {
	var events []cert.Event
	for _, name := range []string{olderFile, journalFile} {
		data, err := s.state.ReadFile(name)
		if errors.Is(err, fs.ErrNotExist) {
			continue
		}
		if err != nil {
			return nil, fmt.Errorf("read journal: %w", err)
		}
		for line := range bytes.Lines(data) {
			var e cert.Event
			if json.Unmarshal(line, &e) == nil && !e.Time.IsZero() {
				events = append(events, e)
			}
		}
	}
	return events, nil
}

// WriteHealth puts a sign of life in place in one step. It is not synced: after a crash of the machine it would be worth nothing,
// and disks that sleep or wear are spared.
func (s *Store) WriteHealth(name string, data []byte) error {
	temp := nextTo(name)
	if err := removeIfThere(s.state, temp); err != nil {
		return err
	}
	f, err := s.state.Create(temp, 0o600)
	if err != nil {
		return err
	}
	_, err = f.Write(data)
	if err := errors.Join(err, f.Close()); err != nil {
		return err
	}
	return s.state.Rename(temp, name)
}

// writeState puts a small file in place in one step, and has it on disk when it returns.
func (s *Store) writeState(name string, data []byte) error {
	if err := mkdirAll(s.state, path.Dir(name), 0o700, unowned); err != nil {
		return err
	}
	return replace(s.state, name, data, 0o600)
}

// readJSON returns empty where there is no file. A file that cannot be read as what it should be is set aside, with its contents,
// and counts as absent: state can be found out anew, and must not stop the renewals.
func readJSON[T any](s *Store, name string, empty T) (T, error) {
	data, err := s.state.ReadFile(name)
	if errors.Is(err, fs.ErrNotExist) {
		return empty, nil
	}
	if err != nil {
		return empty, fmt.Errorf("read state: %w", err)
	}
	// A pointer tells null, which is valid JSON for anything, from a value.
	if v := new(T); json.Unmarshal(data, &v) == nil && v != nil {
		return *v, nil
	}
	if err := s.state.Rename(name, name+".broken"); err != nil {
		return empty, fmt.Errorf("set damaged state %s aside: %w", name, err)
	}
	return empty, nil
}

func (s *Store) writeJSON(name string, v any) error {
	data, err := json.MarshalIndent(v, "", "  ")
	if err != nil {
		return err
	}
	if len(data) >= MaxFile { // it could not be read again
		return fmt.Errorf("write state %s: %w: it has %d bytes", name, ErrUnfit, len(data))
	}
	if err := s.writeState(name, append(data, '\n')); err != nil {
		return fmt.Errorf("write state: %w", err)
	}
	return nil
}
