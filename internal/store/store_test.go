package store

import (
	"crypto/tls"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"sync"
	"sync/atomic"
	"syscall"
	"testing"
	"time"

	"github.com/sidecert/sidecert/internal/cert"
	"github.com/sidecert/sidecert/internal/cert/certtest"
)

var (
	ca    = certtest.New()
	names = []string{"example.org", "www.example.org"}
	spec  = cert.Spec{Name: "example.org", Names: names, Webroot: "/var/www/certbot", CA: cert.CA{Directory: "https://ca.example/dir"}}
)

const life = 90 * 24 * time.Hour

func bundle() cert.Bundle { return ca.Issue(time.Now().Add(-time.Hour), life, names...) }

func open(t *testing.T, certDir, stateDir string) *Store {
	t.Helper()
	s, err := Open(options(certDir, stateDir))
	if err != nil {
		t.Fatal(err)
	}
	return s
}

func options(certDir, stateDir string) Options {
	return Options{CertDir: certDir, StateDir: stateDir, FilesPerms: 0o600, FoldersPerms: 0o755, Now: time.Now}
}

func save(t *testing.T, s *Store, b cert.Bundle) cert.Lineage {
	t.Helper()
	l, err := s.Save(t.Context(), "example.org", spec, b)
	if err != nil {
		t.Fatal(err)
	}
	return l
}

func TestSavedLineageIsLaidOutAsCertbots(t *testing.T) {
	dir := t.TempDir()
	s := open(t, dir, t.TempDir())
	save(t, s, bundle())
	l := save(t, s, bundle())

	if l.Number != 2 || !l.Issued() || len(l.Older) != 1 {
		t.Errorf("lineage has version %d, issued %v, %d older; want version 2, issued, 1 older", l.Number, l.Issued(), len(l.Older))
	}
	for _, file := range cert.Files {
		link, err := os.Readlink(filepath.Join(dir, "live/example.org", file+".pem"))
		if want := fmt.Sprintf("../../archive/example.org/%s2.pem", file); err != nil || link != want {
			t.Errorf("live/example.org/%s.pem points to %q, %v; want %q", file, link, err, want)
		}
	}
	for file, want := range map[string]fs.FileMode{
		"archive/example.org/privkey1.pem": 0o600, "archive/example.org/privkey2.pem": 0o600, "archive/example.org/fullchain2.pem": 0o644,
		"archive/example.org": 0o755, "live/example.org": 0o755, "live/example.org/README": 0o644, "renewal/example.org.conf": 0o644,
	} {
		info, err := os.Stat(filepath.Join(dir, file))
		if err != nil {
			t.Error(err)
		} else if got := info.Mode().Perm(); got != want {
			t.Errorf("%s has mode %o, want %o", file, got, want)
		}
	}
	if l.Conf.Server != "https://ca.example/dir" {
		t.Errorf("lineage comes from %q, want the CA that it was ordered from", l.Conf.Server)
	}
}

func TestModesDoNotDependOnUmask(t *testing.T) {
	old := syscall.Umask(0o077)
	defer syscall.Umask(old)
	dir := t.TempDir()
	save(t, open(t, dir, t.TempDir()), bundle())
	for file, want := range map[string]fs.FileMode{"live": 0o755, "live/example.org": 0o755, "archive/example.org/fullchain1.pem": 0o644} {
		info, err := os.Stat(filepath.Join(dir, file))
		if err != nil || info.Mode().Perm() != want {
			t.Errorf("%s has mode %o, %v; want %o", file, info.Mode().Perm(), err, want)
		}
	}
}

func TestKeyModeAndGroupAreAsConfigured(t *testing.T) {
	if os.Getuid() != 0 {
		t.Skip("giving files to a group needs root")
	}
	dir := t.TempDir()
	o := options(dir, t.TempDir())
	o.GID, o.FilesPerms = 101, 0o640
	s, err := Open(o)
	if err != nil {
		t.Fatal(err)
	}
	save(t, s, bundle())
	info, err := os.Stat(filepath.Join(dir, "live/example.org/privkey.pem"))
	if err != nil {
		t.Fatal(err)
	}
	if gid := info.Sys().(*syscall.Stat_t).Gid; info.Mode().Perm() != 0o640 || gid != 101 {
		t.Errorf("key has mode %o and group %d, want 640 and 101", info.Mode().Perm(), gid)
	}
	for _, folder := range []string{"live", "live/example.org", "archive", "archive/example.org"} {
		info, err := os.Stat(filepath.Join(dir, folder))
		if err != nil || info.Sys().(*syscall.Stat_t).Gid != 101 {
			t.Errorf("%s is not of group 101 (%v)", folder, err)
		}
	}
}

func TestPlaceholderLetsWebServersStartAndIsReplaced(t *testing.T) {
	dir := t.TempDir()
	s := open(t, dir, t.TempDir())
	l, err := s.Placeholder(t.Context(), "example.org", names)
	if err != nil {
		t.Fatal(err)
	}
	if !l.Placeholder || l.Issued() || !cert.SameNames(l.Names(), names) {
		t.Errorf("placeholder reads back as %+v", l)
	}
	live := filepath.Join(dir, "live/example.org")
	if _, err := tls.LoadX509KeyPair(filepath.Join(live, "fullchain.pem"), filepath.Join(live, "privkey.pem")); err != nil {
		t.Errorf("a web server cannot load the placeholder: %v", err)
	}
	if info, err := os.Stat(filepath.Join(live, "chain.pem")); err != nil || info.Size() == 0 {
		t.Errorf("chain.pem is empty or missing (%v): httpd does not start with it", err)
	}
	if _, err := os.Stat(filepath.Join(dir, "renewal/example.org.conf")); err == nil {
		t.Error("a placeholder has a renewal configuration: certbot would take it for a lineage")
	}
	placeholder := l.Leaf()
	if l = save(t, s, bundle()); l.Number != 1 || l.Placeholder {
		t.Errorf("after Save the lineage has version %d, placeholder %v; want 1, false", l.Number, l.Placeholder)
	}
	if got := l.Classify(placeholder); got != cert.Stale {
		t.Errorf("a served placeholder is %s, want stale", got)
	}
}

func TestFilesOfOthersInLiveAreKept(t *testing.T) {
	dir := t.TempDir()
	s := open(t, dir, t.TempDir())
	save(t, s, bundle())
	live := filepath.Join(dir, "live/example.org")
	write(t, filepath.Join(live, "dhparam.pem"), "mine")
	write(t, filepath.Join(live, "hooks/run"), "mine too")
	if err := os.Symlink("fullchain.pem", filepath.Join(live, "old-name.crt")); err != nil {
		t.Fatal(err)
	}
	save(t, s, bundle())
	for file, want := range map[string]string{"dhparam.pem": "mine", "hooks/run": "mine too"} {
		if got, err := os.ReadFile(filepath.Join(live, file)); err != nil || string(got) != want {
			t.Errorf("%s holds %q, %v; want %q", file, got, err, want)
		}
	}
	if link, err := os.Readlink(filepath.Join(live, "old-name.crt")); err != nil || link != "fullchain.pem" {
		t.Errorf("old-name.crt points to %q, %v; want fullchain.pem", link, err)
	}
	entries, _ := os.ReadDir(filepath.Join(dir, "live"))
	if len(entries) != 1 {
		t.Errorf("live/ holds %v, want example.org alone", entries)
	}
}

func TestUsersOwnCertificateIsNeverOverwritten(t *testing.T) {
	dir := t.TempDir()
	s := open(t, dir, t.TempDir())
	files, err := bundle().PEM()
	if err != nil {
		t.Fatal(err)
	}
	for file, data := range files {
		write(t, filepath.Join(dir, "live/example.org", file+".pem"), string(data))
	}
	if did, err := s.Mend(t.Context(), "example.org"); did != "" || err != nil {
		t.Errorf("Mend() = %q, %v; want nothing done", did, err)
	}
	if _, err := s.Placeholder(t.Context(), "example.org", names); err == nil {
		t.Error("Placeholder() overwrote the user's files")
	}
	_, err = s.Lineage("example.org")
	if e, ok := errors.AsType[*cert.Error](err); !ok || !strings.Contains(e.Hint, "move it away") {
		t.Errorf("Lineage() = %v, want an error that says what to do", err)
	}
	got, _ := os.ReadFile(filepath.Join(dir, "live/example.org/privkey.pem"))
	if string(got) != string(files[cert.PrivkeyPEM]) {
		t.Error("the user's key has changed")
	}
}

func TestSavingTheSameCertificateTwiceMakesOneVersion(t *testing.T) {
	s := open(t, t.TempDir(), t.TempDir())
	b := bundle()
	save(t, s, b)
	if l := save(t, s, b); l.Number != 1 {
		t.Errorf("second Save made version %d, want 1 again", l.Number)
	}
}

func TestReadersNeverMissAFileDuringSwitches(t *testing.T) {
	const switches = 1000
	dir := t.TempDir()
	s := open(t, dir, t.TempDir())
	bundles := []cert.Bundle{bundle(), bundle()}
	save(t, s, bundles[0])
	save(t, s, bundles[1])
	live := filepath.Join(dir, "live/example.org")

	var done atomic.Bool
	var generation, reads, between atomic.Int64 // generation is odd while a switch is under way
	var readers sync.WaitGroup
	for range 2 {
		readers.Go(func() {
			for !done.Load() {
				before := generation.Load()
				_, err := tls.LoadX509KeyPair(filepath.Join(live, "fullchain.pem"), filepath.Join(live, "privkey.pem"))
				reads.Add(1)
				undisturbed := before == generation.Load() && before%2 == 0
				if undisturbed {
					between.Add(1)
				}
				if errors.Is(err, fs.ErrNotExist) || err != nil && undisturbed {
					t.Errorf("reader met %v (between two switches: %v)", err, undisturbed)
					return
				}
			}
		})
	}
	for i := range switches {
		generation.Add(1)
		if err := s.point("example.org", 1+i%2); err != nil {
			t.Fatal(err)
		}
		generation.Add(1)
		if i%10 == 0 { // leave the readers some time between two switches
			for seen := between.Load(); between.Load() == seen && !t.Failed(); {
			}
		}
	}
	done.Store(true)
	readers.Wait()
	t.Logf("%d switches, %d reads, %d of them between two switches", switches, reads.Load(), between.Load())
}

func TestCertbotListsEveryLineage(t *testing.T) {
	certbot, err := exec.LookPath("certbot")
	if err != nil {
		missing(t, "certbot is not installed (Debian: apt-get install certbot)")
	}
	dir := t.TempDir()
	s := open(t, dir, t.TempDir())
	ours := map[string]cert.KeyType{"example.org": cert.EC256, "rsa.example.org": cert.RSA2048, "p384.example.org": cert.EC384}
	for name, keyType := range ours {
		key, err := cert.NewKey(keyType)
		if err != nil {
			t.Fatal(err)
		}
		sp := cert.Spec{Name: name, Names: []string{name}, Webroot: "/var/www/certbot", CA: spec.CA}
		if _, err := s.Save(t.Context(), name, sp, ca.IssueFor(key, time.Now(), life, name)); err != nil {
			t.Fatal(err)
		}
	}
	if _, err := s.Placeholder(t.Context(), "later.example.org", []string{"later.example.org"}); err != nil {
		t.Fatal(err)
	}
	work := t.TempDir()
	out, err := exec.Command(certbot, "certificates", "--config-dir", dir, "--work-dir", work, "--logs-dir", work).CombinedOutput()
	if err != nil {
		t.Fatalf("certbot: %v\n%s", err, out)
	}
	for name := range ours {
		if !strings.Contains(string(out), "Certificate Name: "+name+"\n") {
			t.Errorf("certbot does not list %s:\n%s", name, out)
		}
	}
	for _, bad := range []string{"could not be parsed", "parsefail", "invalid", "later.example.org"} {
		if strings.Contains(strings.ToLower(string(out)), bad) {
			t.Errorf("certbot says %q:\n%s", bad, out)
		}
	}
}

// missing skips a test visibly, except in CI, where what it needs must be there.
func missing(t *testing.T, what string) {
	t.Helper()
	if os.Getenv("CI") == "true" {
		t.Fatal(what)
	}
	t.Skip(what)
}

func write(t *testing.T, file, data string) {
	t.Helper()
	if err := os.MkdirAll(filepath.Dir(file), 0o755); err != nil {
		t.Fatal(err)
	}
	if err := os.WriteFile(file, []byte(data), 0o600); err != nil {
		t.Fatal(err)
	}
}

func hintOf(err error) string {
	e, ok := errors.AsType[*cert.Error](err)
	if !ok {
		return ""
	}
	return e.Hint
}
