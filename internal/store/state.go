package store

import (
	"encoding/json"
	"errors"
	"fmt"
	"io/fs"
	"path"
	"strings"
	"time"

	"github.com/sidecert/sidecert/internal/cert"
)

// Attempts returns what was tried for a lineage; nothing tried is no error.
func (s *Store) Attempts(lineage string) (cert.Attempts, error) {
	var a cert.Attempts
	err := s.readJSON(path.Join("attempts", lineage+".json"), &a)
	return a, err
}

// SaveAttempts has them on disk when it returns.
func (s *Store) SaveAttempts(lineage string, a cert.Attempts) error {
	return s.writeJSON(path.Join("attempts", lineage+".json"), a)
}

// Hold returns what keeps all certificates of a CA waiting.
func (s *Store) Hold(ca cert.CA) (cert.Hold, error) {
	var h cert.Hold
	err := s.readJSON(path.Join("accounts", ca.ID(), "hold.json"), &h)
	return h, err
}

func (s *Store) SaveHold(ca cert.CA, h cert.Hold) error {
	return s.writeJSON(path.Join("accounts", ca.ID(), "hold.json"), h)
}

// Failures returns when the validation of a name has failed, by name, over all certificates.
func (s *Store) Failures() (map[string][]time.Time, error) {
	book := map[string][]time.Time{}
	err := s.readJSON("failures.json", &book)
	return book, err
}

func (s *Store) SaveFailures(book map[string][]time.Time) error {
	return s.writeJSON("failures.json", book)
}

// Targets returns what every container was last told and showed, by container name.
func (s *Store) Targets() (map[string]cert.TargetState, error) {
	all := map[string]cert.TargetState{}
	err := s.readJSON("targets.json", &all)
	return all, err
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

// Append adds an event to the journal and has it on disk when it returns.
func (s *Store) Append(e cert.Event) error {
	line, err := json.Marshal(e)
	if err != nil {
		return err
	}
	s.journal.Lock()
	defer s.journal.Unlock()
	f, err := s.state.Append("journal.jsonl", 0o600)
	if err != nil {
		return err
	}
	_, err = f.Write(append(line, '\n'))
	return errors.Join(err, f.Sync(), f.Close())
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

// readJSON leaves v alone where there is no file. A file that cannot be read as JSON is set aside, with its contents, and
// counts as absent: state can be found out anew, and must not stop the renewals.
func (s *Store) readJSON(name string, v any) error {
	data, err := s.state.ReadFile(name)
	if errors.Is(err, fs.ErrNotExist) {
		return nil
	}
	if err != nil {
		return fmt.Errorf("read state: %w", err)
	}
	if json.Unmarshal(data, v) == nil && strings.TrimSpace(string(data)) != "null" { // which would make a nil map of one
		return nil
	}
	if err := s.state.Rename(name, name+".broken"); err != nil {
		return fmt.Errorf("set damaged state %s aside: %w", name, err)
	}
	return nil
}

func (s *Store) writeJSON(name string, v any) error {
	data, err := json.MarshalIndent(v, "", "  ")
	if err != nil {
		return err
	}
	if err := s.writeState(name, append(data, '\n')); err != nil {
		return fmt.Errorf("write state: %w", err)
	}
	return nil
}
