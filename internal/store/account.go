package store

import (
	"errors"
	"fmt"
	"io/fs"
	"path"
	"time"

	"github.com/sidecert/sidecert/internal/cert"
)

// An account is a folder of its own in STATE_DIR/accounts: key.pem, a second copy of it, and account.json.
type accountFile struct {
	Directory string    `json:"directory"`
	URI       string    `json:"uri,omitempty"`
	Contact   string    `json:"contact,omitempty"`
	Created   time.Time `json:"created"`
}

// Account returns the account at a CA; fs.ErrNotExist only where no key of one was ever stored. A key file that is there and
// cannot be read is another error, for a new account would not fit the orders and authorizations of the old one.
func (s *Store) Account(ca cert.CA) (cert.Account, error) {
	dir := path.Join("accounts", ca.ID())
	pem, err := s.state.ReadFile(path.Join(dir, "key.pem"))
	if errors.Is(err, fs.ErrNotExist) {
		pem, err = s.state.ReadFile(path.Join(dir, "key-copy.pem"))
	}
	if errors.Is(err, fs.ErrNotExist) {
		return cert.Account{}, fmt.Errorf("account at %s: %w", ca.Directory, fs.ErrNotExist)
	}
	if err != nil {
		return cert.Account{}, s.accountError(ca, err)
	}
	key, err := cert.ParseKey(pem)
	if err != nil {
		// key.pem is damaged; the copy was written with it and is as good.
		copied, _ := s.state.ReadFile(path.Join(dir, "key-copy.pem"))
		if key, _ = cert.ParseKey(copied); key == nil {
			return cert.Account{}, s.accountError(ca, err)
		}
	}
	f, err := readJSON(s, path.Join(dir, "account.json"), accountFile{})
	if err != nil {
		return cert.Account{}, err
	}
	return cert.Account{Key: key, URI: f.URI, Contact: f.Contact, Created: f.Created}, nil
}

func (s *Store) accountError(ca cert.CA, err error) error {
	dir := path.Join(s.StateDir, "accounts", ca.ID())
	return &cert.Error{Op: "read account key", Name: ca.Directory, Kind: cert.KindPerson, Err: err,
		Hint: fmt.Sprintf("no new account is made while a key file exists: restore %s/key.pem from a backup, or remove the folder to begin with a new account", dir)}
}

// SaveAccount puts an account on disk; its key only once, twice over.
func (s *Store) SaveAccount(ca cert.CA, a cert.Account) error {
	dir := path.Join("accounts", ca.ID())
	if err := mkdirAll(s.state, dir, 0o700, unowned); err != nil {
		return fmt.Errorf("save account: %w", err)
	}
	key, err := cert.EncodeKey(a.Key)
	if err != nil {
		return err
	}
	for _, name := range []string{"key.pem", "key-copy.pem"} {
		name = path.Join(dir, name)
		if exists(s.state, name) {
			continue
		}
		if err := replace(s.state, name, key, 0o600); err != nil {
			return fmt.Errorf("save account key: %w", err)
		}
	}
	return s.writeJSON(path.Join(dir, "account.json"), accountFile{ca.Directory, a.URI, a.Contact, a.Created})
}
