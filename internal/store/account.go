package store

import (
	"cmp"
	"crypto"
	"errors"
	"fmt"
	"io/fs"
	"path"
	"strings"
	"time"

	"github.com/sidecert/sidecert/internal/cert"
)

// An account of ours is a folder of its own in STATE_DIR/accounts: key.pem, a second copy of it, and account.json. Of one that
// certbot made only account.json stands there, for what certbot does not keep.
type accountFile struct {
	Directory string    `json:"directory"`
	URI       string    `json:"uri,omitempty"`
	Contact   string    `json:"contact,omitempty"`
	Created   time.Time `json:"created"`
}

// StoredAccount is one that is on disk.
type StoredAccount struct {
	// Directory is the URL of its CA's; empty where that was not kept.
	Directory string
	// Dir is where people find it, ID its name there.
	Dir, ID string
	// Certbot says that it lies where certbot keeps its own.
	Certbot bool
	// Account has no Key where Err says why not.
	Account cert.Account
	Err     error

	at string // its folder in the volume
}

func ownAccount(ca cert.CA) string { return path.Join("accounts", ca.ID()) }

// Account returns the account at a CA: ours, else the one of certbot's that the CA names, else certbot's youngest there.
// fs.ErrNotExist only where no key of one was ever stored. A key file that is there and cannot be read is another error, for a new
// account would not fit the orders and authorizations of the old one.
func (s *Store) Account(ca cert.CA) (cert.Account, error) {
	a, err := s.readOwn(ownAccount(ca))
	if err == nil {
		return a.Account, nil
	}
	if !errors.Is(err, fs.ErrNotExist) {
		return cert.Account{}, s.accountError(ca, path.Join(s.StateDir, ownAccount(ca), "key.pem"), err)
	}
	a, err = s.certbotAccount(ca)
	if err == nil {
		noted, err := readJSON(s, path.Join(ownAccount(ca), "account.json"), accountFile{})
		a.Account.Contact = noted.Contact
		return a.Account, err
	}
	if !errors.Is(err, fs.ErrNotExist) {
		return cert.Account{}, s.accountError(ca, path.Join(a.Dir, keyJSON), err)
	}
	if ca.Account != "" { // certbot's has gone; one of ours at the same CA is as good
		ca.Account = ""
		return s.Account(ca)
	}
	return cert.Account{}, fmt.Errorf("account at %s: %w", ca.Directory, fs.ErrNotExist)
}

// readOwn reads an account of ours, with fs.ErrNotExist where there is no key.
func (s *Store) readOwn(dir string) (StoredAccount, error) {
	a := StoredAccount{Dir: path.Join(s.StateDir, dir), ID: path.Base(dir), at: dir}
	key, err := s.ownKey(dir)
	if err != nil {
		return a, err
	}
	f, err := readJSON(s, path.Join(dir, "account.json"), accountFile{})
	a.Directory = f.Directory
	a.Account = cert.Account{Key: key, URI: f.URI, Contact: f.Contact, Created: f.Created}
	return a, err
}

func (s *Store) ownKey(dir string) (crypto.Signer, error) {
	pem, err := s.state.ReadFile(path.Join(dir, "key.pem"))
	if errors.Is(err, fs.ErrNotExist) {
		pem, err = s.state.ReadFile(path.Join(dir, "key-copy.pem"))
	}
	if err != nil {
		return nil, err
	}
	key, err := cert.ParseKey(pem)
	if err != nil {
		// key.pem is damaged; the copy was written with it and is as good.
		copied, _ := s.state.ReadFile(path.Join(dir, "key-copy.pem"))
		if key, errCopy := cert.ParseKey(copied); errCopy == nil {
			return key, nil
		}
	}
	return key, err
}

func (s *Store) accountError(ca cert.CA, file string, err error) error {
	return &cert.Error{Op: "read account key", Name: ca.Directory, Kind: cert.KindPerson, Err: err,
		Hint: cmp.Or(s.ownerHint(err), fmt.Sprintf("no new account is made while a key file exists: restore %s from a backup (or make it readable), "+
			"or remove the folder to begin with a new account", file))}
}

// SaveAccount puts an account on disk; its key only once, twice over. One that certbot keeps stays where it is.
func (s *Store) SaveAccount(ca cert.CA, a cert.Account) error {
	dir := ownAccount(ca)
	if kept, ok := s.keptByCertbot(ca, a); ok && !s.hasOwn(dir) {
		if err := s.updateRegistration(kept, a.URI); err != nil {
			return fmt.Errorf("save account: %w", err)
		}
		return s.writeJSON(path.Join(dir, "account.json"), accountFile{ca.Directory, a.URI, a.Contact, a.Created})
	}
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

func (s *Store) hasOwn(dir string) bool {
	return exists(s.state, path.Join(dir, "key.pem")) || exists(s.state, path.Join(dir, "key-copy.pem"))
}

// deactivated marks what RetireAccount has moved out of the way.
const deactivated = "deactivated"

// Accounts returns all that are stored: ours, then certbot's.
func (s *Store) Accounts() []StoredAccount {
	var all []StoredAccount
	entries, _ := s.state.ReadDir("accounts") // no folder, no accounts
	for _, e := range entries {
		dir := path.Join("accounts", e.Name())
		if !e.IsDir() || strings.Contains(e.Name(), "."+deactivated) || !s.hasOwn(dir) {
			continue
		}
		a, err := s.readOwn(dir)
		if a.Err = err; err != nil {
			f, _ := readJSON(s, path.Join(dir, "account.json"), accountFile{}) // the key's error is the one to tell
			a.Directory = f.Directory
		}
		all = append(all, a)
	}
	return append(all, s.allCertbotAccounts()...)
}

// RetireAccount moves the account at a CA out of the way after it was deactivated, so that the next order registers a new one. Its
// key is kept, in the folder that is returned. With fs.ErrNotExist there was none.
func (s *Store) RetireAccount(ca cert.CA) (to string, err error) {
	own := ownAccount(ca)
	if s.hasOwn(own) {
		return s.retireOwn(own)
	}
	a, err := s.certbotAccount(ca)
	if err != nil {
		return "", fmt.Errorf("retire account at %s: %w", ca.Directory, err)
	}
	parent := path.Join("accounts", deactivated)
	if err := mkdirAll(s.certs, parent, 0o700, unowned); err != nil {
		return "", fmt.Errorf("retire account: %w", err)
	}
	to = s.unused(path.Join(parent, a.ID+"-"+s.stamp()))
	if err := errors.Join(s.certs.Rename(a.at, to), s.certs.SyncDir(parent), s.certs.SyncDir(path.Dir(a.at))); err != nil {
		return "", fmt.Errorf("retire account: %w", err)
	}
	if exists(s.state, own) { // its contact and the like
		if _, err := s.retireOwn(own); err != nil {
			return "", err
		}
	}
	return path.Join(s.CertDir, to), nil
}

func (s *Store) retireOwn(dir string) (to string, err error) {
	to = dir + "." + deactivated + "-" + s.stamp()
	for n := 2; exists(s.state, to); n++ {
		to = fmt.Sprintf("%s.%s-%s-%d", dir, deactivated, s.stamp(), n)
	}
	if err := errors.Join(s.state.Rename(dir, to), s.state.SyncDir("accounts")); err != nil {
		return "", fmt.Errorf("retire account: %w", err)
	}
	return path.Join(s.StateDir, to), nil
}
