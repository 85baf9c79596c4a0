package store

import (
	"context"
	"crypto"
	"crypto/tls"
	"crypto/x509"
	"net"
	"net/http"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"testing"
	"time"

	"golang.org/x/crypto/acme"

	"github.com/sidecert/sidecert/internal/acmetest"
	"github.com/sidecert/sidecert/internal/cert"
)

// certbot is a real one with a real CA, a webroot that is served, and a directory of its own.
type certbot struct {
	t                  *testing.T
	ca                 *acmetest.CA
	dir, webroot, work string
}

func newCertbot(t *testing.T) certbot {
	t.Helper()
	if _, err := exec.LookPath("certbot"); err != nil {
		missing(t, "certbot is not installed (Debian: apt-get install certbot)")
	}
	pebble, err := acmetest.Start(acmetest.Config{})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { pebble.Close() })
	b := certbot{t, pebble, t.TempDir(), t.TempDir(), t.TempDir()}
	listener, err := net.Listen("tcp", net.JoinHostPort("127.0.0.1", strconv.Itoa(pebble.HTTPPort)))
	if err != nil {
		t.Fatal(err)
	}
	site := &http.Server{Handler: http.FileServer(http.Dir(b.webroot))}
	t.Cleanup(func() { site.Close() })
	go site.Serve(listener)
	write(t, filepath.Join(b.work, "roots.pem"), pebble.HTTPRoots)
	return b
}

// run returns what certbot says.
func (b certbot) run(args ...string) string {
	b.t.Helper()
	args = append(args, "-n", "--config-dir", b.dir, "--work-dir", b.work, "--logs-dir", b.work)
	ctx, cancel := context.WithTimeout(b.t.Context(), time.Minute)
	defer cancel()
	cmd := exec.CommandContext(ctx, "certbot", args...)
	cmd.Env = append(os.Environ(), "REQUESTS_CA_BUNDLE="+filepath.Join(b.work, "roots.pem"))
	out, err := cmd.CombinedOutput()
	if err != nil {
		b.t.Fatalf("certbot %s: %v\n%s", args[0], err, out)
	}
	return string(out)
}

func (b certbot) obtain(name string, names []string, args ...string) {
	b.t.Helper()
	args = append([]string{"certonly", "--webroot", "-w", b.webroot, "--cert-name", name, "-d", strings.Join(names, ","), "--server", b.ca.Directory,
		"--agree-tos", "--register-unsafely-without-email"}, args...)
	b.run(args...)
}

func (b certbot) renew() { b.run("renew", "--force-renewal", "--no-random-sleep-on-renew") }

// lineages reads all that is stored and wants no error.
func (b certbot) lineages(s *Store) map[string]cert.Lineage {
	b.t.Helper()
	all, errs := s.Lineages()
	if len(errs) > 0 {
		b.t.Fatalf("lineages that cannot be read: %v", errs)
	}
	out := map[string]cert.Lineage{}
	for _, l := range all {
		out[l.Name] = l
	}
	return out
}

func TestDirectoryOfCertbotIsTakenOverAndGivenBack(t *testing.T) {
	t.Parallel()
	b := newCertbot(t)
	b.obtain("example.org", []string{"example.org", "www.example.org"})
	b.obtain("rsa.example.org", []string{"rsa.example.org"}, "--key-type", "rsa", "--rsa-key-size", "2048",
		"--pre-hook", "true", "--post-hook", `sh -c 'echo "a, b" # c'`, "--deploy-hook", "echo a, b")
	b.obtain("example.org-0001", []string{"other.example.org"}, "--elliptic-curve", "secp384r1")
	b.renew()
	b.renew()

	s, err := Open(Options{CertDir: b.dir, StateDir: t.TempDir(), Now: time.Now})
	if err != nil {
		t.Fatal(err)
	}
	want := map[string]struct {
		names   []string
		keyType cert.KeyType
	}{
		"example.org":      {[]string{"example.org", "www.example.org"}, cert.EC256},
		"rsa.example.org":  {[]string{"rsa.example.org"}, cert.RSA2048},
		"example.org-0001": {[]string{"other.example.org"}, cert.EC384},
	}
	accounts, _ := filepath.Glob(filepath.Join(b.dir, "accounts/*/*/*"))
	if len(accounts) != 1 {
		t.Fatalf("certbot made the accounts %v, want one", accounts)
	}
	check := func(when string, version int) {
		t.Helper()
		all := b.lineages(s)
		if len(all) != len(want) {
			t.Errorf("%s: %d lineages, want %d", when, len(all), len(want))
		}
		for name, w := range want {
			l := all[name]
			if !cert.SameNames(l.Names(), w.names) || l.Number != version || cert.KeyTypeOf(l.Key.Public()) != w.keyType || l.Conf.KeyType != w.keyType {
				t.Errorf("%s: %s is %v, version %d, %s (next %s); want %v, version %d, %s", when, name, l.Names(), l.Number, cert.KeyTypeOf(l.Key.Public()), l.Conf.KeyType, w.names, version, w.keyType)
			}
			if c := l.Conf; !c.Certbot || c.Server != b.ca.Directory || c.Account != filepath.Base(accounts[0]) || c.Webroot != b.webroot || len(c.Webroots) != len(w.names) || c.Authenticator != "webroot" {
				t.Errorf("%s: the conf of %s reads %+v", when, name, c)
			}
		}
		if hooks := all["rsa.example.org"].Conf.Hooks; hooks != (cert.Hooks{Pre: "true", Post: `sh -c 'echo "a, b" # c'`, Deploy: "echo a, b"}) {
			t.Errorf("%s: hooks are %+v", when, hooks)
		}
	}
	check("made by certbot", 3)

	at := cert.CA{Directory: b.ca.Directory, Account: filepath.Base(accounts[0])}
	account, err := s.Account(at)
	if err != nil || account.URI == "" || account.Created.IsZero() {
		t.Fatalf("Account() = %+v, %v; want certbot's with its URI", account, err)
	}
	if id, err := certbotID(account.Key); err != nil || id != at.Account {
		t.Errorf("the key that was read has the ID %s, %v; certbot says %s", id, err, at.Account)
	}
	if uri := b.register(account.Key); uri != account.URI {
		t.Errorf("to the CA the key is account %q, certbot says %q", uri, account.URI)
	}

	// The key's mode is kept by us and by certbot alike.
	if err := os.Chmod(filepath.Join(b.dir, "archive/rsa.example.org/privkey3.pem"), 0o640); err != nil {
		t.Fatal(err)
	}
	confs := b.confs()
	for name, l := range b.lineages(s) {
		general := cert.Spec{Name: name, Names: l.Names(), Webroot: "/var/www/certbot", CA: cert.CA{Directory: cert.LetsEncrypt}, Open: cert.Open{CA: true, Webroot: true, ReuseKey: true}}
		key, err := cert.NewKey(want[name].keyType)
		if err != nil {
			t.Fatal(err)
		}
		if _, err := s.Save(t.Context(), name, general.Settle(l), ca.IssueFor(key, time.Now().Add(-time.Minute), life, l.Names()...)); err != nil {
			t.Fatal(err)
		}
		if did, err := s.Mend(t.Context(), name); did != "" || err != nil {
			t.Errorf("Mend(%s) = %q, %v; want nothing to do", name, did, err)
		}
	}
	check("renewed by us", 4)
	for name, before := range confs {
		if after := b.confs()[name]; after != before {
			t.Errorf("%s has changed although nothing in it was to:\n%s\nwas\n%s", name, after, before)
		}
	}
	listed := b.run("certificates")
	for name := range want {
		if !strings.Contains(listed, "Certificate Name: "+name+"\n") {
			t.Errorf("certbot does not list %s:\n%s", name, listed)
		}
	}
	b.renew()
	check("renewed by certbot again", 5)
	for _, n := range []int{4, 5} {
		if info := s.keyFile("rsa.example.org", n); info == nil || info.Mode().Perm() != 0o640 {
			t.Errorf("privkey%d.pem is %v, want one with mode 640", n, info)
		}
	}
	if entries, _ := os.ReadDir(filepath.Join(b.dir, "live")); len(entries) != len(want)+1 {
		t.Errorf("live/ holds %v, want the three and README", entries)
	}
}

func TestCertbotTakesOverWhatWasBornWithUs(t *testing.T) {
	t.Parallel()
	b := newCertbot(t)
	s, err := Open(Options{CertDir: b.dir, StateDir: t.TempDir(), Now: time.Now})
	if err != nil {
		t.Fatal(err)
	}
	at := cert.CA{Directory: b.ca.Directory}
	key, err := cert.NewKey(cert.EC256)
	if err != nil {
		t.Fatal(err)
	}
	if err := s.SaveAccount(at, cert.Account{Key: key, URI: b.register(key), Created: time.Now()}); err != nil {
		t.Fatal(err)
	}
	ours := cert.Spec{Name: "example.org", Names: names, Webroot: b.webroot, CA: at}
	if _, err := s.Save(t.Context(), "example.org", ours, ca.Issue(time.Now().Add(-time.Minute), life, names...)); err != nil {
		t.Fatal(err)
	}
	dir, changed, err := s.ExportAccount(t.Context(), at)
	if err != nil || !slices.Equal(changed, []string{"example.org"}) {
		t.Fatalf("ExportAccount() = %q, %v, %v; want example.org changed", dir, changed, err)
	}
	for file, want := range map[string]os.FileMode{"": 0o700, "private_key.json": 0o400} {
		if info, err := os.Stat(filepath.Join(dir, file)); err != nil || info.Mode().Perm() != want {
			t.Errorf("%s has mode %o, %v; want %o", filepath.Join(dir, file), info.Mode().Perm(), err, want)
		}
	}
	if _, changed, err := s.ExportAccount(t.Context(), at); len(changed) > 0 || err != nil {
		t.Errorf("a second ExportAccount() changed %v, %v; want nothing", changed, err)
	}
	b.renew()
	if l := b.lineages(s)["example.org"]; l.Number != 2 || l.Conf.Certbot {
		t.Errorf("after certbot it is version %d, certbot's %v; want 2, still known as ours", l.Number, l.Conf.Certbot)
	}
	if a, err := s.Account(at); err != nil || !sameKey(a.Key, key) {
		t.Errorf("after the export Account() has another key, %v", err)
	}
	b.run("delete", "--cert-name", "example.org")
	if all, errs := s.Lineages(); len(all)+len(errs) > 0 {
		t.Errorf("after certbot's delete there is %v, %v", all, errs)
	}
}

func (b certbot) confs() map[string]string {
	all := map[string]string{}
	files, _ := filepath.Glob(filepath.Join(b.dir, "renewal/*.conf"))
	for _, file := range files {
		data, err := os.ReadFile(file)
		if err != nil {
			b.t.Fatal(err)
		}
		all[filepath.Base(file)] = string(data)
	}
	return all
}

// register tells the CA about a key, and returns the URL of the account that it has there from now on or had already.
func (b certbot) register(key crypto.Signer) string {
	b.t.Helper()
	client := &acme.Client{Key: key, DirectoryURL: b.ca.Directory,
		HTTPClient: &http.Client{Transport: &http.Transport{TLSClientConfig: &tls.Config{RootCAs: pool(b.ca.HTTPRoots)}}}}
	account, err := client.Register(b.t.Context(), &acme.Account{}, acme.AcceptTOS)
	if err == acme.ErrAccountAlreadyExists {
		account, err = client.GetReg(b.t.Context(), "")
	}
	if err != nil {
		b.t.Fatal(err)
	}
	return account.URI
}

func pool(roots string) *x509.CertPool {
	pool := x509.NewCertPool()
	pool.AppendCertsFromPEM([]byte(roots))
	return pool
}
