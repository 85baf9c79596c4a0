package store

import (
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/rsa"
	"encoding/json"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	"crypto"

	"github.com/sidecert/sidecert/internal/cert"
)

var le = cert.CA{Directory: cert.LetsEncrypt}

const leFolder = "accounts/acme-v02.api.letsencrypt.org/directory"

// certbotAccountAt lays an account out as certbot does.
func certbotAccountAt(t *testing.T, dir, folder, id string, day int) crypto.Signer {
	t.Helper()
	key, err := cert.NewKey(cert.EC256)
	if err != nil {
		t.Fatal(err)
	}
	data, err := encodeJWK(key)
	if err != nil {
		t.Fatal(err)
	}
	at := filepath.Join(dir, folder, id)
	write(t, filepath.Join(at, keyJSON), string(data))
	write(t, filepath.Join(at, regrJSON), fmt.Sprintf(`{"body": {"x": 1}, "uri": "https://ca.example/acct/%s"}`, id))
	write(t, filepath.Join(at, metaJSON), fmt.Sprintf(`{"creation_dt": "2026-01-%02dT00:00:00Z", "creation_host": "h"}`, day))
	return key
}

func TestJWKIsReadBackAndADamagedOneRefused(t *testing.T) {
	var keys []crypto.Signer
	for _, curve := range []elliptic.Curve{elliptic.P256(), elliptic.P384(), elliptic.P521()} {
		key, err := ecdsa.GenerateKey(curve, rand.Reader)
		if err != nil {
			t.Fatal(err)
		}
		keys = append(keys, key)
	}
	big, err := rsa.GenerateKey(rand.Reader, 2048)
	if err != nil {
		t.Fatal(err)
	}
	for _, key := range append(keys, big) {
		data, err := encodeJWK(key)
		if err != nil {
			t.Fatal(err)
		}
		back, err := parseJWK(data)
		if err != nil || !sameKey(back, key) {
			t.Errorf("%T is read back with %v", key, err)
		}
		var fields map[string]string
		if err := json.Unmarshal(data, &fields); err != nil {
			t.Fatal(err)
		}
		for name, value := range fields {
			for _, harm := range []string{"", "!", value[:len(value)/2], strings.ToLower(value) + "AAAA", strings.Repeat("A", 10_000)} {
				if name == "dp" || name == "dq" || name == "qi" { // computed anew from the primes
					continue
				}
				damaged := map[string]string{name: harm}
				for other, value := range fields {
					if other != name {
						damaged[other] = value
					}
				}
				text, err := json.Marshal(damaged)
				if err != nil {
					t.Fatal(err)
				}
				if got, err := parseJWK(text); err == nil && !sameKey(got, key) {
					t.Errorf("%s = %.20q gives another key", name, harm)
				} else if err != nil && (len(value) > 10 && strings.Contains(err.Error(), value) || len(err.Error()) > 100) {
					t.Errorf("the error quotes the data: %v", err)
				} else if err == nil && harm == "" {
					t.Errorf("a key without %s was read", name)
				}
			}
		}
	}
}

func TestCertbotsAccountIsFound(t *testing.T) {
	dir := t.TempDir()
	s := open(t, dir, t.TempDir())
	old := certbotAccountAt(t, dir, leFolder, "aaaa", 1)
	young := certbotAccountAt(t, dir, leFolder, "bbbb", 9)
	for _, row := range []struct {
		id   string
		want crypto.Signer
		why  string
	}{{"aaaa", old, "the CA names it"}, {"", young, "it is the youngest"}, {"gone", young, "the one that is named has gone"}} {
		at := le
		at.Account = row.id
		a, err := s.Account(at)
		if err != nil || !sameKey(a.Key, row.want) || !strings.HasPrefix(a.URI, "https://ca.example/acct/") {
			t.Errorf("Account(%q) = %q, %v; want the other: %s", row.id, a.URI, err, row.why)
		}
	}
	if err := os.WriteFile(filepath.Join(dir, leFolder, "bbbb", keyJSON), []byte(`{"kty":"EC","d":"secret"`), 0o600); err != nil {
		t.Fatal(err)
	}
	if a, err := s.Account(le); err != nil || !sameKey(a.Key, old) {
		t.Errorf("with one key damaged Account() = %q, %v; want the other", a.URI, err)
	}
	at := le
	at.Account = "bbbb"
	_, err := s.Account(at)
	if err == nil || errors.Is(err, fs.ErrNotExist) || !strings.Contains(hintOf(err), filepath.Join(dir, leFolder, "bbbb", keyJSON)) || strings.Contains(err.Error(), "secret") {
		t.Errorf("the damaged one: Account() = %v, hint %q; want an error for a person that names the file", err, hintOf(err))
	}
	if _, err := s.Account(cert.CA{Directory: cert.ZeroSSL}); !errors.Is(err, fs.ErrNotExist) {
		t.Errorf("at another CA Account() = %v, want fs.ErrNotExist", err)
	}
}

func TestCertbotsLinksToTheFirstVersionsAccountsAreFollowed(t *testing.T) {
	const v1, v2 = "accounts/acme-v01.api.letsencrypt.org/directory", leFolder
	for name, link := range map[string]func(dir string) error{
		"folder":       func(dir string) error { return os.Symlink("/etc/letsencrypt/"+v1, filepath.Join(dir, v2)) },
		"folder, ours": func(dir string) error { return os.Symlink(filepath.Join(dir, v1), filepath.Join(dir, v2)) },
		"relative": func(dir string) error {
			return os.Symlink("../acme-v01.api.letsencrypt.org/directory", filepath.Join(dir, v2))
		},
		"no link so far": func(string) error { return nil },
		"account": func(dir string) error {
			return errors.Join(os.Mkdir(filepath.Join(dir, v2), 0o700), os.Symlink("/etc/letsencrypt/"+v1+"/aaaa", filepath.Join(dir, v2, "aaaa")))
		},
	} {
		dir := t.TempDir()
		s := open(t, dir, t.TempDir())
		key := certbotAccountAt(t, dir, v1, "aaaa", 1)
		if err := errors.Join(os.MkdirAll(filepath.Dir(filepath.Join(dir, v2)), 0o700), link(dir)); err != nil {
			t.Fatal(err)
		}
		at := le
		at.Account = "aaaa"
		if a, err := s.Account(at); err != nil || !sameKey(a.Key, key) {
			t.Errorf("%s: Account() = %q, %v; want the one at the first version", name, a.URI, err)
		}
		if all := s.Accounts(); len(all) != 1 || all[0].Directory != cert.LetsEncrypt || !all[0].Certbot || all[0].Err != nil {
			t.Errorf("%s: Accounts() = %+v, want one at Let's Encrypt", name, all)
		}
	}
	for _, target := range []string{"/etc", "../../../outside", "/etc/letsencrypt/accounts/../archive"} {
		dir := t.TempDir()
		s := open(t, dir, t.TempDir())
		if err := errors.Join(os.MkdirAll(filepath.Dir(filepath.Join(dir, v2)), 0o700), os.Symlink(target, filepath.Join(dir, v2))); err != nil {
			t.Fatal(err)
		}
		if _, err := s.Account(le); !errors.Is(err, fs.ErrNotExist) {
			t.Errorf("with a link to %s Account() = %v, want fs.ErrNotExist", target, err)
		}
	}
}

func TestCertbotsAccountStaysWhereItIs(t *testing.T) {
	dir, stateDir := t.TempDir(), t.TempDir()
	s := open(t, dir, stateDir)
	key := certbotAccountAt(t, dir, leFolder, "aaaa", 1)
	at := le
	at.Account = "aaaa"
	a, err := s.Account(at)
	if err != nil {
		t.Fatal(err)
	}
	a.Contact, a.URI = "me@example.org", "https://ca.example/acct/new"
	if err := s.SaveAccount(at, a); err != nil {
		t.Fatal(err)
	}
	back, err := s.Account(at)
	if err != nil || back.Contact != a.Contact || back.URI != a.URI || !sameKey(back.Key, key) {
		t.Errorf("Account() = %q of %q, %v; want what was saved", back.URI, back.Contact, err)
	}
	regr, _ := os.ReadFile(filepath.Join(dir, leFolder, "aaaa", regrJSON))
	if want := `{"body":{"x":1},"uri":"https://ca.example/acct/new"}`; string(regr) != want {
		t.Errorf("regr.json is %s, want %s", regr, want)
	}
	if left, _ := filepath.Glob(filepath.Join(stateDir, "accounts/*/key*")); len(left) > 0 {
		t.Errorf("certbot's key was copied to %v", left)
	}
	to, err := s.RetireAccount(at)
	if err != nil || !strings.HasPrefix(to, filepath.Join(dir, "accounts/deactivated/aaaa-")) {
		t.Fatalf("RetireAccount() = %q, %v", to, err)
	}
	if _, err := os.Stat(filepath.Join(to, keyJSON)); err != nil {
		t.Errorf("the retired key is gone: %v", err)
	}
	if _, err := s.Account(at); !errors.Is(err, fs.ErrNotExist) {
		t.Errorf("after that Account() = %v, want fs.ErrNotExist", err)
	}
	if all := s.Accounts(); len(all) > 0 {
		t.Errorf("after that Accounts() = %+v", all)
	}
}

func TestOwnAccountIsListedAndRetired(t *testing.T) {
	stateDir := t.TempDir()
	s := open(t, t.TempDir(), stateDir)
	key, err := cert.NewKey(cert.EC256)
	if err != nil {
		t.Fatal(err)
	}
	if err := errors.Join(s.SaveAccount(le, cert.Account{Key: key, URI: "https://ca.example/acct/1", Contact: "me@example.org"}), s.SaveHold(cert.CA{Directory: cert.ZeroSSL}, cert.Hold{Tries: 1})); err != nil {
		t.Fatal(err)
	}
	all := s.Accounts()
	if len(all) != 1 || all[0].Directory != cert.LetsEncrypt || all[0].Certbot || all[0].Account.Contact != "me@example.org" || all[0].Dir != filepath.Join(stateDir, "accounts", le.ID()) {
		t.Fatalf("Accounts() = %+v, want the one at Let's Encrypt", all)
	}
	write(t, filepath.Join(all[0].Dir, "key.pem"), "")
	write(t, filepath.Join(all[0].Dir, "key-copy.pem"), "")
	if all := s.Accounts(); len(all) != 1 || all[0].Err == nil || all[0].Directory != cert.LetsEncrypt {
		t.Errorf("with its key damaged Accounts() = %+v, want it with an error", all)
	}
	to, err := s.RetireAccount(le)
	if err != nil || !exists(s.state, strings.TrimPrefix(to, stateDir+"/")+"/account.json") {
		t.Errorf("RetireAccount() = %q, %v", to, err)
	}
	if _, err := s.Account(le); !errors.Is(err, fs.ErrNotExist) {
		t.Errorf("after that Account() = %v, want fs.ErrNotExist", err)
	}
	if _, err := s.RetireAccount(le); !errors.Is(err, fs.ErrNotExist) {
		t.Errorf("a second RetireAccount() = %v, want fs.ErrNotExist", err)
	}
}

func TestExportNamesTheAccountInItsConfsOnly(t *testing.T) {
	dir := t.TempDir()
	s := open(t, dir, t.TempDir())
	key, err := cert.NewKey(cert.RSA2048)
	if err != nil {
		t.Fatal(err)
	}
	if _, _, err := s.ExportAccount(t.Context(), le); !errors.Is(err, fs.ErrNotExist) {
		t.Errorf("without an account ExportAccount() = %v, want fs.ErrNotExist", err)
	}
	for _, a := range []cert.Account{{Key: key}, {Key: key, URI: "https://ca.example/acct/1"}} {
		if err := s.SaveAccount(le, a); err != nil {
			t.Fatal(err)
		}
		if a.URI == "" {
			if _, _, err := s.ExportAccount(t.Context(), le); err == nil || hintOf(err) == "" {
				t.Errorf("before it is registered ExportAccount() = %v, want an error with a hint", err)
			}
		}
	}
	confs := map[string]string{
		"none":   "[renewalparams]\nserver = " + cert.LetsEncrypt + "\n",
		"gone":   "[renewalparams]\naccount = other\nserver = " + cert.LetsEncrypt + "\n", // certbot has no such account
		"else":   "[renewalparams]\nserver = " + cert.ZeroSSL + "\n",
		"broken": "[renewal",
	}
	for name, text := range confs {
		write(t, filepath.Join(dir, "renewal", name+".conf"), text)
	}
	at, changed, err := s.ExportAccount(t.Context(), le)
	if err != nil || !slices.Equal(changed, []string{"gone", "none"}) {
		t.Fatalf("ExportAccount() = %q, %v, %v; want gone and none changed", at, changed, err)
	}
	confs["none"] += "account = " + filepath.Base(at) + "\n"
	confs["gone"] = strings.Replace(confs["gone"], "other", filepath.Base(at), 1)
	for name, want := range confs {
		if got, _ := os.ReadFile(filepath.Join(dir, "renewal", name+".conf")); string(got) != want {
			t.Errorf("%s.conf is %q, want %q", name, got, want)
		}
	}
	if all := s.Accounts(); len(all) != 2 || !sameKey(all[1].Account.Key, key) || all[1].ID != filepath.Base(at) {
		t.Errorf("Accounts() = %+v, want ours and certbot's of the same key", all)
	}
}

func TestConfNamesTheAccountThatIsUsed(t *testing.T) {
	for name, row := range map[string]struct{ server, account, want string }{
		"as it is":            {cert.LetsEncrypt, "aaaa", "aaaa"},
		"the named has gone":  {cert.LetsEncrypt, "gone", "aaaa"},
		"from another server": {cert.LetsEncryptStaging, "bbbb", "aaaa"},
		"none":                {cert.LetsEncrypt, "", ""},
	} {
		dir := t.TempDir()
		s := open(t, dir, t.TempDir())
		certbotAccountAt(t, dir, leFolder, "aaaa", 1)
		text := "[renewalparams]\nserver = " + row.server + "\n"
		if row.account != "" {
			text += "account = " + row.account + "\n"
		}
		write(t, filepath.Join(dir, "renewal/example.org.conf"), text)
		at := spec
		at.CA = le
		l, err := s.Save(t.Context(), "example.org", at, bundle())
		if err != nil || l.Conf.Account != row.want || l.Conf.Server != cert.LetsEncrypt {
			t.Errorf("%s: the conf names account %q at %s, %v; want %q", name, l.Conf.Account, l.Conf.Server, err, row.want)
		}
	}
}

// An account of ours that nothing configured leads to any more: it was bound to an external one, or to a conf that has gone.
func TestOwnAccountIsFoundByItsFolderAlone(t *testing.T) {
	dir := t.TempDir()
	s := open(t, dir, t.TempDir())
	key, err := cert.NewKey(cert.EC256)
	if err != nil {
		t.Fatal(err)
	}
	made := cert.CA{Directory: cert.LetsEncrypt, EABKID: "kid", Account: "gone"}
	if err := s.SaveAccount(made, cert.Account{Key: key, URI: "https://ca.example/acct/1"}); err != nil {
		t.Fatal(err)
	}
	certbotAccountAt(t, dir, leFolder, "aaaa", 1) // another one there
	all := s.Accounts()
	if len(all) != 2 || all[0].Certbot {
		t.Fatalf("Accounts() = %+v, want ours first", all)
	}
	by := cert.CA{Directory: all[0].Directory, StoredAs: all[0].ID}
	if by.ID() != made.ID() {
		t.Errorf("the account is found as %s, want %s", by.ID(), made.ID())
	}
	a, err := s.Account(by)
	if err != nil || !sameKey(a.Key, key) {
		t.Errorf("Account() = %q, %v; want ours", a.URI, err)
	}
	a.Contact = "me@example.org"
	if err := s.SaveAccount(by, a); err != nil {
		t.Fatal(err)
	}
	if all := s.Accounts(); len(all) != 2 || all[0].Account.Contact != a.Contact {
		t.Errorf("after SaveAccount() there are %+v, want the contact in ours", all)
	}
	at, _, err := s.ExportAccount(t.Context(), by)
	if exported, errRead := s.readJWK(filepath.Join(leFolder, filepath.Base(at), keyJSON)); err != nil || errRead != nil || !sameKey(exported, key) {
		t.Errorf("ExportAccount() = %q, %v, %v; want our key there", at, err, errRead)
	}
	if to, err := s.RetireAccount(by); err != nil || !strings.Contains(to, all[0].ID+".deactivated-") {
		t.Errorf("RetireAccount() = %q, %v; want ours", to, err)
	}
	if _, err := s.Account(by); !errors.Is(err, fs.ErrNotExist) {
		t.Errorf("after that Account() = %v, want fs.ErrNotExist, and none of certbot's", err)
	}
	if to, err := s.RetireAccount(by); !errors.Is(err, fs.ErrNotExist) {
		t.Errorf("a second RetireAccount() = %q, %v; want that none of certbot's is retired", to, err)
	}
}

// What a full disk, a power cut or a careless copy leaves of a key is never taken for the lack of one.
func TestTruncatedAccountKeyIsAnErrorAndStays(t *testing.T) {
	key, err := cert.NewKey(cert.EC256)
	if err != nil {
		t.Fatal(err)
	}
	other, err := cert.NewKey(cert.EC256)
	if err != nil {
		t.Fatal(err)
	}
	whole, err := cert.EncodeKey(key)
	if err != nil {
		t.Fatal(err)
	}
	for _, left := range []int{0, 1, len(whole) / 2, len(whole) - 30} {
		stateDir := t.TempDir()
		s := open(t, t.TempDir(), stateDir)
		if err := s.SaveAccount(le, cert.Account{Key: key, URI: "https://ca.example/acct/1"}); err != nil {
			t.Fatal(err)
		}
		folder := filepath.Join(stateDir, ownAccount(le))
		files := []string{filepath.Join(folder, "key.pem"), filepath.Join(folder, "key-copy.pem")}
		for _, file := range files {
			if err := os.Truncate(file, int64(left)); err != nil {
				t.Fatal(err)
			}
		}
		_, err := s.Account(le)
		e, ok := errors.AsType[*cert.Error](err)
		if !ok || errors.Is(err, fs.ErrNotExist) || e.Kind != cert.KindPerson || !strings.Contains(e.Hint, files[0]) {
			t.Errorf("with %d bytes left Account() = %v, want an error for a person that names %s", left, err, files[0])
		}
		s.SaveAccount(le, cert.Account{Key: other, URI: "https://ca.example/acct/2"}) // whether it refuses or not
		for _, file := range files {
			if got, err := os.ReadFile(file); err != nil || string(got) != string(whole[:left]) {
				t.Errorf("with %d bytes left %s was replaced: %q, %v", left, filepath.Base(file), got, err)
			}
		}
	}
}
