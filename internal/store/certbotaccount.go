package store

import (
	"context"
	"crypto"
	"encoding/json"
	"errors"
	"fmt"
	"io/fs"
	"net/url"
	"os"
	"path"
	"slices"
	"strings"
	"time"

	"github.com/sidecert/sidecert/internal/cert"
)

// The files of an account in CERT_DIR/accounts/HOST/PATH/ID, as certbot names them.
const (
	keyJSON  = "private_key.json"
	regrJSON = "regr.json"
	metaJSON = "meta.json"
)

// serverFolder is where certbot keeps the accounts at a CA; "" for a URL that it could not.
func serverFolder(directory string) string {
	u, err := url.Parse(directory)
	if err != nil || u.Host == "" {
		return ""
	}
	folder := u.Host + u.EscapedPath()
	for part := range strings.SplitSeq(folder, "/") {
		if part == ".." || part == "." {
			return ""
		}
	}
	return path.Join("accounts", folder)
}

// certbotAccount is the one of certbot's that a CA names; if it names none, or one that has gone, the youngest that can be read. A CA
// that names one of ours by StoredAs has none of certbot's: nobody is to deactivate another than was meant. With an error that is not fs.ErrNotExist a key file exists and cannot be read.
func (s *Store) certbotAccount(ca cert.CA) (StoredAccount, error) {
	if ca.StoredAs != "" {
		return StoredAccount{}, fs.ErrNotExist
	}
	all := s.certbotAccounts(ca.Directory)
	if i := slices.IndexFunc(all, func(a StoredAccount) bool { return a.ID == ca.Account }); i >= 0 {
		return all[i], all[i].Err
	}
	var best StoredAccount
	err := fs.ErrNotExist
	for _, a := range all {
		switch {
		case a.Err != nil && best.Account.Key == nil:
			best, err = a, a.Err
		case a.Err == nil && (best.Account.Key == nil || a.Account.Created.After(best.Account.Created)):
			best, err = a, nil
		}
	}
	return best, err
}

// certbotAccounts are those at a CA that have a key file. Where there are none, certbot uses those at the CA's first version.
func (s *Store) certbotAccounts(directory string) []StoredAccount {
	if all := s.accountsIn(serverFolder(directory), directory); len(all) > 0 {
		return all
	}
	for predecessor, successor := range successors {
		if successor == directory {
			return s.accountsIn(serverFolder(predecessor), directory)
		}
	}
	return nil
}

func (s *Store) hasCertbotAccount(directory, id string) bool {
	return slices.ContainsFunc(s.certbotAccounts(directory), func(a StoredAccount) bool { return a.ID == id })
}

// maxAccounts is how many folders are looked at in search of accounts.
const maxAccounts = 1000

func (s *Store) accountsIn(folder, directory string) []StoredAccount {
	if folder == "" {
		return nil
	}
	folder, err := s.resolve(folder)
	if err != nil {
		return nil
	}
	entries, _ := s.certs.ReadDir(folder) // no folder, no accounts
	var all []StoredAccount
	for _, e := range entries[:min(len(entries), maxAccounts)] {
		at, err := s.resolve(path.Join(folder, e.Name()))
		if err != nil || !idForm.MatchString(e.Name()) || !exists(s.certs, path.Join(at, keyJSON)) {
			continue
		}
		a := s.readCertbots(at)
		a.ID, a.Directory = e.Name(), directory
		all = append(all, a)
	}
	return all
}

// resolve follows the links in a name below CERT_DIR/accounts. certbot makes absolute ones, from a CA's second version to its first,
// which lead to the same folder wherever the volume is mounted; the file layer refuses those.
func (s *Store) resolve(name string) (string, error) {
	for range 10 {
		link, target := s.firstLink(name)
		if link == "" {
			return name, nil
		}
		rest := strings.TrimPrefix(name, link)
		if path.IsAbs(target) {
			_, below, ok := strings.Cut(path.Clean(target), "/accounts/")
			if inside, isIn := strings.CutPrefix(path.Clean(target), s.CertDir+"/accounts/"); isIn {
				below, ok = inside, true
			}
			if !ok {
				break
			}
			name = path.Join("accounts", below) + rest
		} else {
			name = path.Join(path.Dir(link), target) + rest
		}
		if !strings.HasPrefix(name, "accounts/") {
			break
		}
	}
	return "", fmt.Errorf("%s: a link leads out of %s: %w", name, path.Join(s.CertDir, "accounts"), fs.ErrInvalid)
}

// firstLink is the first part of a name that is a link, and where that leads; "" if there is none.
func (s *Store) firstLink(name string) (link, target string) {
	at := ""
	for part := range strings.SplitSeq(name, "/") {
		at = path.Join(at, part)
		info, err := s.certs.Lstat(at)
		if err != nil {
			return "", ""
		}
		if info.Mode()&fs.ModeSymlink != 0 {
			target, err := s.certs.Readlink(at)
			if err != nil {
				return "", ""
			}
			return at, target
		}
	}
	return "", ""
}

type registration struct {
	URI string `json:"uri"`
}

type accountMeta struct {
	Created time.Time `json:"creation_dt"`
	Host    string    `json:"creation_host"`
}

// readCertbots reads the account in a folder. Without the other two files its key is as good: the CA knows the rest.
func (s *Store) readCertbots(at string) StoredAccount {
	a := StoredAccount{Certbot: true, at: at, ID: path.Base(at), Dir: path.Join(s.CertDir, at)}
	key, err := s.readJWK(path.Join(at, keyJSON))
	if err != nil {
		a.Err = err
		return a
	}
	var regr registration
	var meta accountMeta
	if data, err := s.certs.ReadFile(path.Join(at, regrJSON)); err == nil {
		json.Unmarshal(data, &regr)
	}
	if data, err := s.certs.ReadFile(path.Join(at, metaJSON)); err == nil {
		json.Unmarshal(data, &meta)
	}
	a.Account = cert.Account{Key: key, URI: regr.URI, Created: meta.Created}
	return a
}

func (s *Store) readJWK(name string) (crypto.Signer, error) {
	data, err := s.certs.ReadFile(name)
	if errors.Is(err, fs.ErrNotExist) { // a link to nothing: it is there all the same
		return nil, fmt.Errorf("read %s: it leads nowhere", name)
	}
	if err != nil {
		return nil, err
	}
	key, err := parseJWK(data)
	if err != nil {
		return nil, fmt.Errorf("read %s: %w", name, err)
	}
	return key, nil
}

// allCertbotAccounts are those at all CAs. Two names for one folder are one account.
func (s *Store) allCertbotAccounts() []StoredAccount {
	var all []StoredAccount
	looked := 0
	var walk func(name string, depth int)
	walk = func(name string, depth int) {
		at, err := s.resolve(name)
		if err != nil || depth > 10 || looked > maxAccounts {
			return
		}
		looked++
		if exists(s.certs, path.Join(at, keyJSON)) {
			if !slices.ContainsFunc(all, func(a StoredAccount) bool { return a.at == at }) {
				a := s.readCertbots(at)
				a.Directory = serverOf("https://" + strings.TrimPrefix(path.Dir(name), "accounts/"))
				all = append(all, a)
			}
			return
		}
		entries, _ := s.certs.ReadDir(at) // a file has none
		for _, e := range entries {
			if depth > 0 || e.Name() != deactivated {
				walk(path.Join(name, e.Name()), depth+1)
			}
		}
	}
	walk("accounts", 0)
	return all
}

// keptByCertbot finds an account in certbot's place by its key.
func (s *Store) keptByCertbot(ca cert.CA, a cert.Account) (StoredAccount, bool) {
	all := s.certbotAccounts(ca.Directory)
	i := slices.IndexFunc(all, func(kept StoredAccount) bool { return kept.Err == nil && sameKey(kept.Account.Key, a.Key) })
	if i < 0 {
		return StoredAccount{}, false
	}
	return all[i], true
}

func sameKey(a, b crypto.Signer) bool {
	pub, ok := a.Public().(interface{ Equal(crypto.PublicKey) bool })
	return ok && b != nil && pub.Equal(b.Public())
}

// updateRegistration writes an account's URL where certbot reads it, and leaves the rest of that file alone.
func (s *Store) updateRegistration(a StoredAccount, uri string) error {
	if a.Account.URI == uri || uri == "" {
		return nil
	}
	name := path.Join(a.at, regrJSON)
	fields := map[string]json.RawMessage{"body": json.RawMessage("{}")}
	if data, err := s.certs.ReadFile(name); err == nil {
		json.Unmarshal(data, &fields) // what cannot be read is written anew
	}
	if fields == nil {
		fields = map[string]json.RawMessage{"body": json.RawMessage("{}")}
	}
	text, err := json.Marshal(uri)
	if err != nil {
		return err
	}
	fields["uri"] = text
	return s.putAccountFile(name, fields, publicPerm)
}

// putAccountFile writes one of an account's files, with the mode of the one that it replaces.
func (s *Store) putAccountFile(name string, v any, perm fs.FileMode) error {
	data, err := json.Marshal(v)
	if err != nil {
		return err
	}
	if info, err := s.certs.Lstat(name); err == nil && info.Mode().IsRegular() {
		perm = info.Mode().Perm()
	}
	return replace(s.certs, name, data, perm)
}

// ExportAccount writes the account at a CA where certbot looks for it, and its name into every renewal configuration of that CA that
// names none. It returns where the account is, and the lineages whose configuration has changed.
func (s *Store) ExportAccount(ctx context.Context, ca cert.CA) (dir string, changed []string, err error) {
	a, err := s.Account(ca)
	if err != nil {
		return "", nil, err
	}
	if a.URI == "" {
		return "", nil, &cert.Error{Op: "export account", Name: ca.Directory, Kind: cert.KindPerson, Err: errors.New("the CA has not registered it yet"),
			Hint: "export it after the first certificate was obtained"}
	}
	err = s.locked(ctx, func() error {
		kept, ok := s.keptByCertbot(ca, a)
		if !ok {
			if kept, err = s.export(ca, a); err != nil {
				return err
			}
		} else if err := s.updateRegistration(kept, a.URI); err != nil {
			return err
		}
		dir = kept.Dir
		changed, err = s.nameAccount(ca.Directory, kept.ID)
		return err
	})
	if err != nil {
		return dir, changed, fmt.Errorf("export account: %w", err)
	}
	return dir, changed, nil
}

// export writes the key last: a folder without one is no account, to certbot and to us.
func (s *Store) export(ca cert.CA, a cert.Account) (StoredAccount, error) {
	id, err := certbotID(a.Key)
	if err != nil {
		return StoredAccount{}, err
	}
	key, err := encodeJWK(a.Key)
	if err != nil {
		return StoredAccount{}, err
	}
	folder := serverFolder(ca.Directory)
	if folder == "" {
		return StoredAccount{}, fmt.Errorf("certbot has no place for accounts at %q", ca.Directory)
	}
	if folder, err = s.resolve(folder); err != nil {
		return StoredAccount{}, err
	}
	if _, err := s.narrow(""); err != nil {
		return StoredAccount{}, err
	}
	at := path.Join(folder, id)
	if err := mkdirAll(s.certs, at, 0o700, unowned); err != nil {
		return StoredAccount{}, err
	}
	host, _ := os.Hostname() // for people to tell accounts apart
	created := a.Created
	if created.IsZero() {
		created = s.Now()
	}
	meta := accountMeta{created.UTC().Truncate(time.Second), host}
	if err := s.putAccountFile(path.Join(at, metaJSON), meta, publicPerm); err != nil {
		return StoredAccount{}, err
	}
	regr := map[string]any{"body": struct{}{}, "uri": a.URI}
	if err := s.putAccountFile(path.Join(at, regrJSON), regr, publicPerm); err != nil {
		return StoredAccount{}, err
	}
	if err := s.putAccountFile(path.Join(at, keyJSON), json.RawMessage(key), 0o400); err != nil {
		return StoredAccount{}, err
	}
	return StoredAccount{ID: id, Dir: path.Join(s.CertDir, at)}, nil
}

// nameAccount sets the account in the renewal configurations of a CA that have none, or one that certbot has not any more.
func (s *Store) nameAccount(directory, id string) (changed []string, err error) {
	for _, name := range s.confNames() {
		c, err := s.readConf(name)
		if err != nil || c == nil || serverOf(c.get(renewalParams, "server")) != directory {
			continue
		}
		if there := c.get(renewalParams, "account"); there != "" && s.hasCertbotAccount(directory, there) {
			continue
		}
		c.set(renewalParams, "account", id)
		if err := s.putConf(name, c); err != nil {
			return changed, err
		}
		s.know(name)
		changed = append(changed, name)
	}
	return changed, nil
}
