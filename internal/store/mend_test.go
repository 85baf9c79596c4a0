package store

import (
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"strings"
	"syscall"
	"testing"
	"time"

	"golang.org/x/sys/unix"

	"github.com/sidecert/sidecert/internal/cert"
)

// copied makes plain files of the links in live/example.org, as cp -L does.
func copied(t *testing.T, dir string, files ...string) {
	t.Helper()
	for _, file := range files {
		at := filepath.Join(dir, "live/example.org", file+".pem")
		data, err := os.ReadFile(at)
		if err != nil {
			t.Fatal(err)
		}
		if err := os.Remove(at); err != nil {
			t.Fatal(err)
		}
		write(t, at, string(data))
	}
}

func put(t *testing.T, dir string, b cert.Bundle, files ...string) {
	t.Helper()
	data, err := b.PEM()
	if err != nil {
		t.Fatal(err)
	}
	for _, file := range files {
		at := filepath.Join(dir, "live/example.org", file+".pem")
		os.Remove(at)
		write(t, at, string(data[file]))
	}
}

func wantLinks(t *testing.T, s *Store, number int, fingerprint string) {
	t.Helper()
	l, err := s.Lineage("example.org")
	if err != nil || l.Number != number || l.Fingerprint() != fingerprint {
		t.Errorf("lineage has version %d (%v), want %d, and its certificate", l.Number, err, number)
	}
	for _, file := range cert.Files {
		link, err := os.Readlink(filepath.Join(s.CertDir, "live/example.org", file+".pem"))
		if want := fmt.Sprintf("../../archive/example.org/%s%d.pem", file, number); err != nil || link != want {
			t.Errorf("live %s.pem points to %q, %v; want %q", file, link, err, want)
		}
	}
	if did, err := s.Mend(t.Context(), "example.org"); did != "" || err != nil {
		t.Errorf("a further Mend() = %q, %v; want nothing to do", did, err)
	}
}

func mended(t *testing.T, s *Store) {
	t.Helper()
	if did, err := s.Mend(t.Context(), "example.org"); did == "" || err != nil {
		t.Fatalf("Mend() = %q, %v; want something done", did, err)
	}
}

func TestCopiesOfAVersionBecomeLinksAgain(t *testing.T) {
	for name, files := range map[string][]string{"all four": cert.Files, "the key": {cert.PrivkeyPEM}, "the pair": {cert.PrivkeyPEM, cert.FullchainPEM}} {
		t.Run(name, func(t *testing.T) {
			dir := t.TempDir()
			s := open(t, dir, t.TempDir())
			save(t, s, bundle())
			want := save(t, s, bundle())
			copied(t, dir, files...)
			if l, err := s.Lineage("example.org"); err != nil || l.Number != 2 {
				t.Errorf("before Mend version %d, %v; want 2", l.Number, err)
			}
			mended(t, s)
			wantLinks(t, s, 2, want.Fingerprint())
		})
	}
}

func TestPlainFilesThatNoVersionHoldsBecomeOne(t *testing.T) {
	dir := t.TempDir()
	s := open(t, dir, t.TempDir())
	save(t, s, ca.Issue(time.Now().Add(-24*time.Hour), life, names...))
	b := bundle()
	put(t, dir, b, cert.PrivkeyPEM, cert.FullchainPEM) // cert.pem and chain.pem are links to version 1
	mended(t, s)
	wantLinks(t, s, 2, cert.Fingerprint(b.Chain[0]))
}

func TestPlainKeyThatIsReplacedIsKept(t *testing.T) {
	dir := t.TempDir()
	s := open(t, dir, t.TempDir())
	want := save(t, s, bundle())
	stray := bundle()
	put(t, dir, stray, cert.PrivkeyPEM) // of another certificate
	mended(t, s)
	wantLinks(t, s, 1, want.Fingerprint())
	if !s.isStored("example.org", mustEncode(t, stray)) {
		t.Error("the key that stood in live/ has gone")
	}
	info, err := filepath.Glob(filepath.Join(dir, "archive/example.org/.broken-*"))
	if err != nil || len(info) != 1 {
		t.Fatalf("folders set aside are %v, want one", info)
	}
	if stat, err := os.Stat(info[0]); err != nil || stat.Mode().Perm() != 0o700 {
		t.Errorf("the folder with the key has mode %o, want 700", stat.Mode().Perm())
	}
}

func mustEncode(t *testing.T, b cert.Bundle) []byte {
	t.Helper()
	data, err := cert.EncodeKey(b.Key)
	if err != nil {
		t.Fatal(err)
	}
	return data
}

func TestAbsoluteLinksOfAnotherPlaceBecomeRelative(t *testing.T) {
	for _, prefix := range []string{"/etc/letsencrypt", "/srv/certs"} {
		dir := t.TempDir()
		s := open(t, dir, t.TempDir())
		want := save(t, s, bundle())
		for _, file := range cert.Files {
			if err := relink(filepath.Join(dir, "live/example.org"), file, prefix+"/archive/example.org/"+file+"1.pem"); err != nil {
				t.Fatal(err)
			}
		}
		if l, err := s.Lineage("example.org"); err != nil || l.Fingerprint() != want.Fingerprint() {
			t.Errorf("before Mend version %d, %v; want 1", l.Number, err)
		}
		mended(t, s)
		wantLinks(t, s, 1, want.Fingerprint())
	}
}

func TestLinksToAnotherLineageAreMended(t *testing.T) {
	dir := t.TempDir()
	s := open(t, dir, t.TempDir())
	want := save(t, s, bundle())
	if _, err := s.Save(t.Context(), "other.example", cert.Spec{Name: "other.example", Names: []string{"other.example"}, CA: spec.CA}, ca.Issue(time.Now(), life, "other.example")); err != nil {
		t.Fatal(err)
	}
	for _, file := range cert.Files {
		if err := relink(filepath.Join(dir, "live/example.org"), file, "../../archive/other.example/"+file+"1.pem"); err != nil {
			t.Fatal(err)
		}
	}
	mended(t, s)
	wantLinks(t, s, 1, want.Fingerprint())
}

func TestLiveFolderThatIsALinkIsLeftAlone(t *testing.T) {
	dir := t.TempDir()
	s := open(t, dir, t.TempDir())
	want := save(t, s, bundle())
	if err := os.Symlink("example.org", filepath.Join(dir, "live/www.example.org")); err != nil {
		t.Fatal(err)
	}
	if _, err := s.Save(t.Context(), "www.example.org", spec, bundle()); err == nil {
		t.Error("Save() went through a link to another lineage")
	}
	if did, err := s.Mend(t.Context(), "www.example.org"); did != "" || err != nil {
		t.Errorf("Mend() = %q, %v; want nothing done", did, err)
	}
	wantLinks(t, s, 1, want.Fingerprint())
}

func TestPlaceholderIsNeverAdopted(t *testing.T) {
	dir := t.TempDir()
	s := open(t, dir, t.TempDir())
	if _, err := s.Placeholder(t.Context(), "example.org", names); err != nil {
		t.Fatal(err)
	}
	write(t, filepath.Join(dir, "renewal/example.org.conf"), "[renewalparams]\nauthenticator = webroot\n")
	for _, harm := range []string{"", cert.ChainPEM, cert.CertPEM} {
		if harm != "" {
			if err := os.Truncate(filepath.Join(dir, "live/example.org", harm+".pem"), 0); err != nil {
				t.Fatal(err)
			}
		}
		if did, err := s.Mend(t.Context(), "example.org"); err != nil {
			t.Errorf("Mend() = %q, %v", did, err)
		}
	}
	if entries, _ := os.ReadDir(filepath.Join(dir, "archive/example.org")); len(entries) > 0 {
		t.Errorf("archive/ holds %v of a placeholder", entries)
	}
	if l := save(t, s, bundle()); l.Number != 1 {
		t.Errorf("the first certificate is version %d, want 1", l.Number)
	}
}

// TestEveryHalfWrittenVersionIsPassedOver: any subset of the four files, harmed in any way, above or below the live version, never
// becomes live, and no key of it is lost.
func TestEveryHalfWrittenVersionIsPassedOver(t *testing.T) {
	harms := map[string]func(file string) error{
		"missing":   os.Remove,
		"empty":     func(file string) error { return os.Truncate(file, 0) },
		"truncated": func(file string) error { return os.Truncate(file, 100) },
		"other":     nil, // of another certificate
	}
	for name, harm := range harms {
		for subset := 1; subset < 1<<len(cert.Files); subset++ {
			if name == "other" && subset == 1<<len(cert.Files)-1 {
				continue // all four of another certificate are a whole version
			}
			dir := t.TempDir()
			s := open(t, dir, t.TempDir())
			for range 3 {
				save(t, s, bundle())
			}
			other, err := bundle().PEM()
			if err != nil {
				t.Fatal(err)
			}
			keys := map[int][]byte{}
			for _, n := range []int{1, 3} { // below and above what stays whole
				for i, file := range cert.Files {
					at := filepath.Join(dir, archived("example.org", file, n))
					switch {
					case subset>>i&1 == 0:
					case harm == nil:
						write(t, at, string(other[file]))
					default:
						if err := harm(at); err != nil {
							t.Fatal(err)
						}
					}
				}
				keys[n], _ = os.ReadFile(filepath.Join(dir, archived("example.org", cert.PrivkeyPEM, n)))
			}
			// chain.pem alone, of the same intermediate, is no harm
			if _, err := s.version("example.org", 3); err == nil {
				continue
			}
			if _, err := s.Mend(t.Context(), "example.org"); err != nil {
				t.Errorf("%s %04b: Mend() = %v", name, subset, err)
			}
			if l, err := s.Lineage("example.org"); err != nil || l.Number != 2 {
				t.Errorf("%s %04b: version %d is live, %v; want 2", name, subset, l.Number, err)
			}
			if now, _ := os.ReadFile(filepath.Join(dir, archived("example.org", cert.PrivkeyPEM, 1))); string(now) != string(keys[1]) {
				t.Errorf("%s %04b: the key of a broken version below the live one was moved", name, subset)
			}
			if len(keys[3]) > 0 && !s.isStored("example.org", keys[3]) {
				t.Errorf("%s %04b: a key was lost", name, subset)
			}
			if did, err := s.Mend(t.Context(), "example.org"); did != "" || err != nil {
				t.Errorf("%s %04b: a second Mend() = %q, %v; want nothing to do", name, subset, did, err)
			}
		}
	}
}

func TestModeAndGroupOfKeysAreKeptAndNeverWidened(t *testing.T) {
	if os.Getuid() != 0 {
		t.Skip("giving files to a group needs root")
	}
	for _, row := range []struct{ before, want fs.FileMode }{{0o600, 0o600}, {0o640, 0o640}, {0o644, 0o644}, {0o660, 0o660}, {0o400, 0o600}, {0o666, 0o664}, {0o777, 0o674}} {
		dir := t.TempDir()
		s, err := Open(Options{CertDir: dir, StateDir: t.TempDir(), Now: time.Now})
		if err != nil {
			t.Fatal(err)
		}
		save(t, s, bundle())
		first := filepath.Join(dir, "archive/example.org/privkey1.pem")
		if info, err := os.Stat(first); err != nil || info.Mode().Perm() != 0o600 {
			t.Errorf("the first key has mode %o, %v; want 600", info.Mode().Perm(), err)
		}
		if err := errors.Join(os.Chown(first, 33, 101), os.Chmod(first, row.before)); err != nil {
			t.Fatal(err)
		}
		save(t, s, bundle())
		info, err := os.Stat(filepath.Join(dir, "archive/example.org/privkey2.pem"))
		if err != nil {
			t.Fatal(err)
		}
		stat := info.Sys().(*syscall.Stat_t)
		if info.Mode().Perm() != row.want || stat.Gid != 101 || stat.Uid != 33 {
			t.Errorf("after a key of 33:101 %o comes one of %d:%d %o, want 33:101 %o", row.before, stat.Uid, stat.Gid, info.Mode().Perm(), row.want)
		}
	}
}

func TestGroupThatCannotBeKeptIsReplacedByNobody(t *testing.T) {
	certDir, stateDir := t.TempDir(), t.TempDir()
	f := &faulty{fail: func(op string) error {
		if op == "chown" {
			return unix.EPERM
		}
		return nil
	}}
	s := faultyStore(t, certDir, stateDir, f)
	s.FilesPerms = 0
	save(t, s, bundle())
	if err := os.Chmod(filepath.Join(certDir, "archive/example.org/privkey1.pem"), 0o640); err != nil {
		t.Fatal(err)
	}
	save(t, s, bundle())
	if info, err := os.Stat(filepath.Join(certDir, "archive/example.org/privkey2.pem")); err != nil || info.Mode().Perm() != 0o600 {
		t.Errorf("the key has mode %o, %v; want 600: the group that may read it would be another", info.Mode().Perm(), err)
	}
}

func TestFolderThatEverybodyMayWriteToIsNarrowedBeforeAKeyEnters(t *testing.T) {
	dir := t.TempDir()
	s := open(t, dir, t.TempDir())
	save(t, s, bundle())
	wide := map[string]fs.FileMode{".": 0o777, "live": 0o777 | fs.ModeSticky, "archive": 0o707, "live/example.org": 0o777, "archive/example.org": 0o777 | fs.ModeSetgid}
	widen := func() {
		for folder, mode := range wide {
			if err := os.Chmod(filepath.Join(dir, folder), mode); err != nil {
				t.Fatal(err)
			}
		}
	}
	narrowed := func(after string) {
		t.Helper()
		for folder, mode := range wide {
			if info, err := os.Stat(filepath.Join(dir, folder)); err != nil || info.Mode()&^fs.ModeDir != mode&^0o002 {
				t.Errorf("after %s %s has mode %v, %v; want %v", after, folder, info.Mode(), err, mode&^0o002)
			}
		}
	}
	widen()
	save(t, s, bundle())
	narrowed("Save")
	widen()
	if did, err := s.Mend(t.Context(), "example.org"); err != nil || !strings.Contains(did, "live/example.org") {
		t.Errorf("Mend() = %q, %v; want it to name the folders", did, err)
	}
	narrowed("Mend")
}

func TestVolumeThatRefusesModesIsUsedAsItIs(t *testing.T) {
	certDir := t.TempDir()
	f := &faulty{fail: func(op string) error {
		if op == "chmod" {
			return unix.EPERM
		}
		return nil
	}}
	s := faultyStore(t, certDir, t.TempDir(), f)
	if err := os.Chmod(certDir, 0o777); err != nil {
		t.Fatal(err)
	}
	save(t, s, bundle())
	if did, err := s.Mend(t.Context(), "example.org"); did != "" || err != nil {
		t.Errorf("Mend() = %q, %v; want nothing said of what cannot be done", did, err)
	}
}

func TestKeyThatIsALinkToAnEarlierOneIsRead(t *testing.T) {
	dir := t.TempDir()
	s := open(t, dir, t.TempDir())
	s.FilesPerms = 0
	first := bundle()
	save(t, s, first)
	save(t, s, ca.IssueFor(first.Key, time.Now(), life, names...))
	// As certbot stores a version whose key is used again.
	if err := errors.Join(relink(filepath.Join(dir, "archive/example.org"), "privkey2", "privkey1.pem"), os.Chmod(filepath.Join(dir, "archive/example.org/privkey1.pem"), 0o640)); err != nil {
		t.Fatal(err)
	}
	if l := save(t, s, bundle()); l.Number != 3 || len(l.Older) != 2 {
		t.Errorf("the next version is %d with %d older, want 3 with 2", l.Number, len(l.Older))
	}
	if info := s.keyFile("example.org", 3); info == nil || info.Mode().Perm() != 0o640 {
		t.Errorf("its key is %v, want one with mode 640", info)
	}
}

func TestDamagedConfKeepsTheSettingsThatCanBeRead(t *testing.T) {
	dir := t.TempDir()
	s := open(t, dir, t.TempDir())
	save(t, s, bundle())
	name := filepath.Join(dir, "renewal/example.org.conf")
	conf := "version = 2.1.0\narchive_dir = /etc/letsencrypt/archive/example.org\n[renewalparams]\nauthenticator = webroot\nserver = https://private.example/dir\n" +
		"account = 0123456789abcdef\noops\nreuse_key = True\n# kept\nunknown = 1\n[[webroot_map]]\nexample.org = /srv/www\n"
	write(t, name, conf)
	did, err := s.Mend(t.Context(), "example.org")
	if err != nil || !strings.Contains(did, "left 1 of its lines out") {
		t.Errorf("Mend() = %q, %v; want that a line was left out", did, err)
	}
	l, err := s.Lineage("example.org")
	if c := l.Conf; err != nil || !c.Certbot || c.Server != "https://private.example/dir" || c.Account != "0123456789abcdef" || !c.ReuseKey || c.Webroots["example.org"] != "/srv/www" {
		t.Errorf("the conf says %+v, %v; want all but the line that nobody can read", l.Conf, err)
	}
	data, err := os.ReadFile(name)
	if err != nil || !strings.Contains(string(data), "# kept\nunknown = 1\n") {
		t.Errorf("the conf is\n%s, %v; want unknown settings and comments kept", data, err)
	}
}

func TestPathsOfALineageRenamedByHandArePutRight(t *testing.T) {
	dir := t.TempDir()
	s := open(t, dir, t.TempDir())
	save(t, s, bundle())
	name := filepath.Join(dir, "renewal/example.org.conf")
	data, err := os.ReadFile(name)
	if err != nil {
		t.Fatal(err)
	}
	write(t, name, strings.ReplaceAll(string(data), "archive/example.org", "archive/old.example"))
	if err := os.Remove(filepath.Join(dir, "live/example.org/cert.pem")); err != nil { // as after a careless mv
		t.Fatal(err)
	}
	if _, err := s.Mend(t.Context(), "example.org"); err != nil {
		t.Fatal(err)
	}
	if data, err = os.ReadFile(name); err != nil || strings.Contains(string(data), "old.example") {
		t.Errorf("the conf is\n%s, %v; want the paths that live/ leads to", data, err)
	}
}

func TestFolderBehindALinkIsNamed(t *testing.T) {
	elsewhere := t.TempDir()
	for _, target := range []string{elsewhere, "../" + filepath.Base(elsewhere), "gone", "archive"} {
		dir := t.TempDir()
		if err := os.Symlink(target, filepath.Join(dir, "archive")); err != nil {
			t.Fatal(err)
		}
		_, err := Open(options(dir, t.TempDir()))
		if err == nil || !strings.Contains(err.Error(), "it is a link to "+target) || hintOf(err) == "" {
			t.Errorf("Open() = %v, want that archive is a link to %s and what to do", err, target)
		}
	}
	dir := t.TempDir()
	save(t, open(t, dir, t.TempDir()), bundle())
	if err := errors.Join(os.Rename(filepath.Join(dir, "live"), filepath.Join(dir, "live2")), os.Symlink("live2", filepath.Join(dir, "live"))); err != nil {
		t.Fatal(err)
	}
	if l, err := open(t, dir, t.TempDir()).Lineage("example.org"); err != nil || !l.Issued() {
		t.Errorf("behind a link within the volume: Lineage() = %v", err)
	}
}

func TestOfADamagedConfOnlyWhatCannotBeReadIsLeftOut(t *testing.T) {
	const head, tail = "version = 2.1.0\n[renewalparams]\nserver = https://ca.example/dir\n", "account = 0123\n[[webroot_map]]\nexample.org = /srv/www\n"
	for name, row := range map[string]struct {
		damaged string
		lost    string
		hook    string
	}{
		"a line":                    {head + "oops\n" + tail, "left 1 of its lines out (the first is line 4)", ""},
		"open quotes":               {head + "post_hook = 'oops\n" + tail, "left 1 of its lines out (the first is line 4)", ""},
		"open quotes of three":      {head + "post_hook = '''oops\n" + tail, "left 1 of its lines out (the first is line 4)", ""},
		"beside a value of two":     {head + "renew_hook = '''a\nb'''\noops\n" + tail, "left 1 of its lines out (the first is line 6)", "a\nb"},
		"a section too deep":        {head + "[[[oops]]]\n" + tail, "left 1 of its lines out (the first is line 4)", ""},
		"a merge":                   {head + "<<<<<<< HEAD\nrenew_hook = a\n=======\nrenew_hook = b\n>>>>>>> oops\n" + tail, "left 4 of its lines out (the first is line 4)", "a"},
		"a merge of all":            {"<<<<<<< HEAD\n" + head + "renew_hook = a\n" + tail + "=======\n" + head + "renew_hook = b\n" + tail + ">>>>>>> oops\n", "(the first is line 1)", "a"},
		"Windows' ends of lines":    {strings.ReplaceAll(head+"oops\n"+tail, "\n", "\r\n"), "left 1 of its lines out (the first is line 4)", ""},
		"no server in what is left": {"[renewalparams]\nserver : https://oops.example/dir\n" + tail, "no CA stands there", ""},
	} {
		t.Run(name, func(t *testing.T) {
			dir := t.TempDir()
			s := open(t, dir, t.TempDir())
			save(t, s, bundle())
			write(t, filepath.Join(dir, "renewal/example.org.conf"), row.damaged)
			did, err := s.Mend(t.Context(), "example.org")
			if err != nil || !strings.Contains(did, row.lost) || strings.Contains(did, "oops") {
				t.Errorf("Mend() = %q, %v; want %q and no line quoted", did, err, row.lost)
			}
			server := "https://ca.example/dir"
			if strings.HasPrefix(name, "no server") {
				server = ""
			}
			l, err := s.Lineage("example.org")
			if c := l.Conf; err != nil || c.Server != server || c.Account != "0123" || c.Webroots["example.org"] != "/srv/www" || c.Hooks.Deploy != row.hook {
				t.Errorf("the conf says %+v, %v; want all that could be read", l.Conf, err)
			}
			if did, err := s.Mend(t.Context(), "example.org"); did != "" || err != nil {
				t.Errorf("a second Mend() = %q, %v; want nothing to do", did, err)
			}
		})
	}
}

func TestDamagedConfKeepsTheKeyTypeThatAPersonAskedFor(t *testing.T) {
	dir := t.TempDir()
	s := open(t, dir, t.TempDir())
	save(t, s, bundle()) // which has an EC key
	write(t, filepath.Join(dir, "renewal/example.org.conf"), "[renewalparams]\nkey_type = rsa\nrsa_key_size = 4096\noops\n")
	mended(t, s)
	if l, err := s.Lineage("example.org"); err != nil || l.Conf.KeyType != cert.RSA4096 {
		t.Errorf("the conf asks for %q, %v; want what it asked for before", l.Conf.KeyType, err)
	}
}

// renamed is what a person leaves who has renamed archive/example.org and put links and conf right, so that certbot works.
func renamed(t *testing.T, dir string, live int) {
	t.Helper()
	if err := os.Rename(filepath.Join(dir, "archive/example.org"), filepath.Join(dir, "archive/old.example")); err != nil {
		t.Fatal(err)
	}
	for _, file := range cert.Files {
		if err := relink(filepath.Join(dir, "live/example.org"), file, fmt.Sprintf("../../archive/old.example/%s%d.pem", file, live)); err != nil {
			t.Fatal(err)
		}
	}
	name := filepath.Join(dir, "renewal/example.org.conf")
	data, err := os.ReadFile(name)
	if err != nil {
		t.Fatal(err)
	}
	write(t, name, strings.Replace(string(data), "archive/example.org", "archive/old.example", 1))
}

func TestVersionsInTheFolderThatTheConfNamesAreAdopted(t *testing.T) {
	dir := t.TempDir()
	s := open(t, dir, t.TempDir())
	save(t, s, ca.Issue(time.Now().Add(-48*time.Hour), life, names...))
	want := save(t, s, bundle())
	renamed(t, dir, 2)
	did, err := s.Mend(t.Context(), "example.org")
	if err != nil || !strings.Contains(did, "archive/old.example") {
		t.Errorf("Mend() = %q, %v; want that it copied the versions of archive/old.example", did, err)
	}
	wantLinks(t, s, 2, want.Fingerprint())
	data, err := os.ReadFile(filepath.Join(dir, "renewal/example.org.conf"))
	if err != nil || strings.Contains(string(data), "old.example") {
		t.Errorf("the conf is\n%s, %v; want archive/example.org in it", data, err)
	}
	if old := s.numbers("old.example"); len(old) != 2 {
		t.Errorf("archive/old.example holds %v, want the two versions as they were", old)
	}
}

func TestVersionsOfAnotherLineageAreNotAdopted(t *testing.T) {
	for _, others := range []string{"renewal/old.example.conf", "live/old.example/README"} {
		dir := t.TempDir()
		s := open(t, dir, t.TempDir())
		save(t, s, ca.Issue(time.Now().Add(-48*time.Hour), life, names...))
		want := save(t, s, bundle())
		renamed(t, dir, 2)
		write(t, filepath.Join(dir, others), "[renewalparams]\n")
		mended(t, s)
		wantLinks(t, s, 1, want.Fingerprint()) // what web servers were shown, and no more
	}
}

func TestAdoptionOfVersionsThatIsKilledIsEnded(t *testing.T) {
	points := 0
	for n := 1; ; n++ {
		dir, stateDir := memoryDir(t), memoryDir(t)
		s := open(t, dir, stateDir)
		save(t, s, ca.Issue(time.Now().Add(-48*time.Hour), life, names...))
		want := save(t, s, bundle())
		renamed(t, dir, 2)
		if _, err := volume(t, dir, stateDir, nil, n).Mend(t.Context(), "example.org"); err == nil {
			break
		}
		points++
		if _, err := s.Mend(t.Context(), "example.org"); err != nil {
			t.Fatalf("killed at operation %d: Mend() = %v", n, err)
		}
		if l, err := s.Lineage("example.org"); err != nil || l.Fingerprint() != want.Fingerprint() {
			t.Errorf("killed at operation %d: version %d is live, %v; want the newest", n, l.Number, err)
		}
		if data, _ := os.ReadFile(filepath.Join(dir, "renewal/example.org.conf")); strings.Contains(string(data), "old.example") {
			t.Errorf("killed at operation %d: the conf still names archive/old.example", n)
		}
	}
	if points < 20 {
		t.Errorf("only %d points were tried", points)
	}
}

func TestFolderThatTheConfNamesWinsNothingOverVersionsThatAreThere(t *testing.T) {
	dir := t.TempDir()
	s := open(t, dir, t.TempDir())
	save(t, s, bundle())
	renamed(t, dir, 1)
	mended(t, s)
	want := save(t, s, ca.Issue(time.Now().Add(-2*time.Hour), life, names...)) // older than the one in the other folder
	name := filepath.Join(dir, "renewal/example.org.conf")
	data, err := os.ReadFile(name)
	if err != nil {
		t.Fatal(err)
	}
	if err := os.RemoveAll(filepath.Join(dir, "archive/example.org/cert1.pem")); err != nil {
		t.Fatal(err)
	}
	write(t, name, strings.Replace(string(data), "archive/example.org", "archive/old.example", 1))
	if err := os.Remove(filepath.Join(dir, "live/example.org/cert.pem")); err != nil {
		t.Fatal(err)
	}
	mended(t, s)
	wantLinks(t, s, want.Number, want.Fingerprint())
}

func TestHigherNumberWinsBetweenTwoOfTheSameSecond(t *testing.T) {
	at := time.Now().Add(-time.Hour).Truncate(time.Second)
	for _, live := range []int{1, 2, 3} {
		dir := t.TempDir()
		s := open(t, dir, t.TempDir())
		var stored []cert.Lineage
		for range 3 {
			stored = append(stored, save(t, s, ca.Issue(at, life, names...)))
		}
		if err := s.point("example.org", live); err != nil {
			t.Fatal(err)
		}
		if did, err := s.Mend(t.Context(), "example.org"); err != nil || (did == "") != (live == 3) {
			t.Errorf("with version %d live Mend() = %q, %v; want it to make 3 live", live, did, err)
		}
		wantLinks(t, s, 3, stored[2].Fingerprint())
	}
}
