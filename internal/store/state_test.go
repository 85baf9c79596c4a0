package store

import (
	"crypto/ecdsa"
	"errors"
	"io/fs"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/sidecert/sidecert/internal/cert"
)

func TestAttemptsAreReadBackAsSaved(t *testing.T) {
	certDir, stateDir := t.TempDir(), t.TempDir()
	now := time.Now().UTC().Round(0)
	want := cert.Attempts{Failures: 3, FailedAt: now, Err: "no", Next: now.Add(time.Hour), Order: &cert.Order{URL: "https://ca.example/order/1", Key: []byte("key")}}
	if err := open(t, certDir, stateDir).SaveAttempts("example.org", want); err != nil {
		t.Fatal(err)
	}
	got, err := open(t, certDir, stateDir).Attempts("example.org")
	if err != nil || got.Failures != 3 || !got.Next.Equal(want.Next) || got.Order == nil || got.Order.URL != want.Order.URL {
		t.Errorf("Attempts() = %+v, %v; want %+v", got, err, want)
	}
	info, err := os.Stat(filepath.Join(stateDir, "attempts/example.org.json"))
	if err != nil || info.Mode().Perm() != 0o600 {
		t.Errorf("the file, which holds a key, has mode %o, %v; want 600", info.Mode().Perm(), err)
	}
}

func TestDamagedStateIsSetAsideAndStopsNothing(t *testing.T) {
	stateDir := t.TempDir()
	s := open(t, t.TempDir(), stateDir)
	for _, damaged := range []string{`{"failures": 2, "nex`, `{"failures": 2, "next": 7}`, "null", "", "[]", `"text"`, "\x00\x00"} {
		write(t, filepath.Join(stateDir, "attempts/example.org.json"), damaged)
		if a, err := s.Attempts("example.org"); err != nil || a.Failures != 0 {
			t.Errorf("%q: Attempts() = %+v, %v; want none", damaged, a, err)
		}
		if got, err := os.ReadFile(filepath.Join(stateDir, "attempts/example.org.json.broken")); err != nil || string(got) != damaged {
			t.Errorf("%q was not set aside: %q, %v", damaged, got, err)
		}
		write(t, filepath.Join(stateDir, "targets.json"), damaged)
		if err := s.SetTarget("web", cert.TargetState{}); err != nil {
			t.Errorf("%q: SetTarget() = %v", damaged, err)
		}
	}
}

func TestAccountKeyIsNeverReplaced(t *testing.T) {
	stateDir := t.TempDir()
	s := open(t, t.TempDir(), stateDir)
	ca := cert.CA{Directory: "https://ca.example/dir"}
	if _, err := s.Account(ca); !errors.Is(err, fs.ErrNotExist) {
		t.Fatalf("Account() = %v where there is none, want fs.ErrNotExist", err)
	}
	first, _ := cert.NewKey(cert.EC256)
	second, _ := cert.NewKey(cert.EC256)
	for _, a := range []cert.Account{{Key: first}, {Key: first, URI: "https://ca.example/acct/1"}, {Key: second, URI: "https://ca.example/acct/2"}} {
		if err := s.SaveAccount(ca, a); err != nil {
			t.Fatal(err)
		}
	}
	a, err := s.Account(ca)
	if err != nil || !first.(*ecdsa.PrivateKey).Equal(a.Key) {
		t.Errorf("Account() has another key than the first, %v", err)
	}
	keyFile := filepath.Join(stateDir, "accounts", ca.ID(), "key.pem")
	for _, damage := range []string{"", "garbage"} {
		if err := os.WriteFile(keyFile, []byte(damage), 0o600); err != nil {
			t.Fatal(err)
		}
		if a, err := s.Account(ca); err != nil || a.Key == nil {
			t.Errorf("with key.pem damaged Account() = %v, want the key from the copy", err)
		}
	}
	if err := os.WriteFile(filepath.Join(filepath.Dir(keyFile), "key-copy.pem"), nil, 0o600); err != nil {
		t.Fatal(err)
	}
	_, err = s.Account(ca)
	if e, ok := errors.AsType[*cert.Error](err); !ok || errors.Is(err, fs.ErrNotExist) || e.Kind != cert.KindPerson || !strings.Contains(e.Hint, "restore") {
		t.Errorf("with both files damaged Account() = %v, want an error for a person, never fs.ErrNotExist", err)
	}
}

func TestJournalHasABoundAndSurvivesACutLine(t *testing.T) {
	stateDir := t.TempDir()
	s := open(t, t.TempDir(), stateDir)
	long := strings.Repeat("x", 10_000)
	for i := range 300 { // 3 MB in all
		if err := s.Append(cert.Event{Time: time.Unix(int64(i+1), 0), Kind: cert.EventFailed, Err: long}); err != nil {
			t.Fatal(err)
		}
		if i == 298 {
			// The next line follows one that a crash has cut off.
			f, err := os.OpenFile(filepath.Join(stateDir, "journal.jsonl"), os.O_APPEND|os.O_WRONLY, 0)
			if err != nil {
				t.Fatal(err)
			}
			if _, err := f.WriteString(`{"time":"2027-01-01T00`); err != nil {
				t.Fatal(err)
			}
			f.Close()
			s = open(t, t.TempDir(), stateDir)
		}
	}
	events, err := s.Journal()
	if err != nil {
		t.Fatal(err)
	}
	if n := len(events); n < 50 || n > 120 {
		t.Errorf("the journal keeps %d events of 10 kB, want between half and all of 1 MiB", n)
	}
	if last := events[len(events)-1].Time.Unix(); last != 300 {
		t.Errorf("the last event is number %d, want 300", last)
	}
}

func TestTargetsAndJournalAreKept(t *testing.T) {
	certDir, stateDir := t.TempDir(), t.TempDir()
	s := open(t, certDir, stateDir)
	for _, name := range []string{"web-1", "web-2"} {
		if err := s.SetTarget(name, cert.TargetState{Certs: map[string]cert.Served{"example.org": {Told: name}}}); err != nil {
			t.Fatal(err)
		}
	}
	if got, err := open(t, certDir, stateDir).Target("web-1"); err != nil || got.Certs["example.org"].Told != "web-1" {
		t.Errorf("Target(web-1) = %+v, %v", got, err)
	}
	for _, name := range []string{"web-2", "nobody"} {
		if err := s.ForgetTarget(name); err != nil {
			t.Fatal(err)
		}
	}
	if got, err := open(t, certDir, stateDir).Targets(); err != nil || len(got) != 1 || got["web-1"].Certs == nil {
		t.Errorf("Targets() = %+v, %v, want web-1 alone", got, err)
	}
	for range 3 {
		if err := s.Append(cert.Event{Kind: cert.EventObtained, Cert: "example.org"}); err != nil {
			t.Fatal(err)
		}
	}
	journal, err := os.ReadFile(filepath.Join(stateDir, "journal.jsonl"))
	if got := strings.Count(string(journal), `"obtained"`); err != nil || got != 3 {
		t.Errorf("the journal has %d events, %v; want 3", got, err)
	}
}

func TestStorageIsTriedOnBothVolumes(t *testing.T) {
	certDir, stateDir := t.TempDir(), t.TempDir()
	s := open(t, certDir, stateDir)
	if err := s.Try(); err != nil {
		t.Fatal(err)
	}
	for _, dir := range []string{certDir, stateDir} {
		if entries, _ := os.ReadDir(dir); len(entries) > 0 {
			t.Errorf("Try() left %v behind", entries)
		}
	}
	f := &faulty{fail: func(op string) error {
		if op == "sync" {
			return errors.New("input/output error")
		}
		return nil
	}}
	if err := faultyStore(t, certDir, stateDir, f).Try(); err == nil || !strings.Contains(err.Error(), "CERT_DIR") {
		t.Errorf("Try() = %v on a broken disk, want an error that names CERT_DIR", err)
	}
}

func TestRenewalConfigurationKeepsWhatIsNotOurs(t *testing.T) {
	dir := t.TempDir()
	s := open(t, dir, t.TempDir())
	file := filepath.Join(dir, "renewal/example.org.conf")
	write(t, file, `# renew_before_expiry = 30 days
version = 2.1.0
archive_dir = /etc/letsencrypt/archive/example.org

# Options used in the renewal process
[renewalparams]
account = 0123456789abcdef
authenticator = webroot
post_hook = systemctl reload nginx
server = https://old.example/dir
[[webroot_map]]
example.org = /srv/www
`)
	save(t, s, bundle())
	got, err := os.ReadFile(file)
	if err != nil {
		t.Fatal(err)
	}
	// The account was another server's: with it certbot could not renew.
	want := `# renew_before_expiry = 30 days
version = 2.1.0
archive_dir = /etc/letsencrypt/archive/example.org
cert = /etc/letsencrypt/live/example.org/cert.pem
privkey = /etc/letsencrypt/live/example.org/privkey.pem
chain = /etc/letsencrypt/live/example.org/chain.pem
fullchain = /etc/letsencrypt/live/example.org/fullchain.pem

# Options used in the renewal process
[renewalparams]
authenticator = webroot
post_hook = systemctl reload nginx
server = https://ca.example/dir
key_type = ecdsa
webroot_path = /var/www/certbot,
[[webroot_map]]
example.org = /var/www/certbot
www.example.org = /var/www/certbot
`
	if string(got) != want {
		t.Errorf("renewal configuration is\n%s\nwant\n%s", got, want)
	}
}

func TestWatchCallsForChangesOfOthersOnly(t *testing.T) {
	certDir, stateDir := t.TempDir(), t.TempDir()
	s, other := open(t, certDir, stateDir), open(t, certDir, stateDir)
	save(t, s, bundle())
	calls := make(chan struct{}, 10)
	ready := make(chan struct{})
	go func() {
		close(ready)
		s.Watch(t.Context(), func() { calls <- struct{}{} })
	}()
	<-ready
	// Our own write, and one that changes nothing, wake nobody; the write of another after them wakes once.
	save(t, s, bundle())
	conf := filepath.Join(certDir, "renewal/example.org.conf")
	data, err := os.ReadFile(conf)
	if err != nil {
		t.Fatal(err)
	}
	write(t, conf+"~", string(data)) // in one step, as editors do it
	if err := os.Rename(conf+"~", conf); err != nil {
		t.Fatal(err)
	}
	select {
	case <-calls:
		t.Error("woken by a write of our own")
	case <-time.After(2 * settle):
	}
	save(t, other, bundle())
	select {
	case <-calls:
	case <-time.After(20 * time.Second):
		t.Error("not woken by another's new version")
	}
}
