package main

import (
	"bytes"
	"crypto/ecdsa"
	"crypto/tls"
	"encoding/base64"
	"encoding/hex"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"net"
	"net/http"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"strconv"
	"strings"
	"sync"
	"syscall"
	"testing"
	"time"

	"golang.org/x/sys/unix"

	"github.com/sidecert/sidecert/internal/acmetest"
	"github.com/sidecert/sidecert/internal/cert"
	"github.com/sidecert/sidecert/internal/store"
)

// place is what sidecert runs in, as a process of its own: three volumes, a real CA and a web server for its challenges.
type place struct {
	*testing.T
	ca                         *acmetest.CA
	watch                      *requests
	dir, certs, state, webroot string
	// environ goes before what stands in all places.
	environ []string
	// program is what is started; sidecert with its arguments comes after it.
	program []string
	// last is the child that was started last.
	last *child
}

const site = "a.example.test"

func newPlace(t *testing.T, config acmetest.Config) *place {
	t.Helper()
	p := emptyPlace(t, config)
	listener, err := net.Listen("tcp", net.JoinHostPort("127.0.0.1", strconv.Itoa(p.ca.HTTPPort)))
	p.check(err)
	t.Cleanup(func() { listener.Close() })
	go http.Serve(listener, http.FileServer(http.Dir(p.webroot)))
	return p
}

// emptyPlace is one whose web server is to be started yet.
func emptyPlace(t *testing.T, config acmetest.Config) *place {
	t.Helper()
	p := &place{T: t, dir: t.TempDir(), watch: &requests{}, program: []string{"sidecert"}}
	p.certs, p.state, p.webroot = filepath.Join(p.dir, "certs"), filepath.Join(p.dir, "state"), filepath.Join(p.dir, "webroot")
	for _, volume := range []string{p.certs, p.state, p.webroot} {
		p.check(os.Mkdir(volume, 0o755))
	}
	config.Wrap = p.watch.wrap
	var err error
	p.ca, err = acmetest.Start(config)
	p.check(err)
	t.Cleanup(func() { p.ca.Close() })
	p.check(os.WriteFile(p.roots(), []byte(p.ca.HTTPRoots), 0o644))
	return p
}

func (p *place) roots() string { return filepath.Join(p.dir, "ca.pem") }

func (p *place) check(err error) {
	p.Helper()
	if err != nil {
		p.Fatal(err)
	}
}

// requests stands before the CA and says when it has seen a certain number of requests.
type requests struct {
	mu             sync.Mutex
	left, accounts int
	fire           func()
	// refusal answers new orders in the CA's place, "" none.
	refusal string
}

// refuse has new orders answered by a problem of a type, with words of the CA's; an empty type ends that.
func (r *requests) refuse(kind, words string) {
	r.mu.Lock()
	defer r.mu.Unlock()
	r.refusal = ""
	if kind != "" {
		r.refusal = fmt.Sprintf(`{"type": "urn:ietf:params:acme:error:%s", "detail": %q, "status": 403}`, kind, words)
	}
}

func (r *requests) refuses(w http.ResponseWriter, req *http.Request) bool {
	r.mu.Lock()
	defer r.mu.Unlock()
	if r.refusal == "" || acmetest.Kind(req.URL.Path) != "newOrder" {
		return false
	}
	w.Header().Set("Content-Type", "application/problem+json")
	w.WriteHeader(http.StatusForbidden)
	io.WriteString(w, r.refusal)
	return true
}

// at calls fire before the kth request from now on is answered; it has all reached the CA by then.
func (r *requests) at(k int, fire func()) {
	r.mu.Lock()
	defer r.mu.Unlock()
	r.left, r.fire = k, fire
}

// fired reports whether it has come to that.
func (r *requests) fired() bool {
	r.mu.Lock()
	defer r.mu.Unlock()
	return r.fire == nil
}

// made is the number of accounts that the CA made, which is not that of requests for one: RFC 8555 §7.3.1 answers those for a known
// key with 200.
func (r *requests) made() int {
	r.mu.Lock()
	defer r.mu.Unlock()
	return r.accounts
}

func (r *requests) wrap(next http.Handler) http.Handler {
	return http.HandlerFunc(func(w http.ResponseWriter, req *http.Request) {
		body, _ := io.ReadAll(req.Body)
		req.Body = io.NopCloser(bytes.NewReader(body))
		if fire := r.next(); fire != nil {
			fire()
		}
		if !r.refuses(w, req) {
			next.ServeHTTP(&accountCounter{w, r}, req)
		}
	})
}

func (r *requests) next() (fire func()) {
	r.mu.Lock()
	defer r.mu.Unlock()
	if r.left--; r.left == 0 {
		fire, r.fire = r.fire, nil
	}
	return fire
}

type accountCounter struct {
	http.ResponseWriter
	*requests
}

func (c *accountCounter) WriteHeader(status int) {
	if status == http.StatusCreated && strings.Contains(c.Header().Get("Location"), "/my-account/") {
		c.mu.Lock()
		c.accounts++
		c.mu.Unlock()
	}
	c.ResponseWriter.WriteHeader(status)
}

// child is one sidecert that was started.
type child struct {
	place  *place
	cmd    *exec.Cmd
	log    *said
	ended  chan struct{}
	status error
}

// start begins with the volumes as they are.
func (p *place) start(args ...string) *child {
	p.Helper()
	words := append(append([]string{}, p.program...), args...)
	c := &child{place: p, cmd: exec.Command(words[0], words[1:]...), log: newSaid(), ended: make(chan struct{})}
	c.cmd.Env = append([]string{
		"PATH=" + os.Getenv("PATH"), "DOMAINS=" + site, "CERT_DIR=" + p.certs, "STATE_DIR=" + p.state, "WEBROOT=" + p.webroot, "RELOAD=off", "PREFLIGHT=off",
		"ACME_CA=" + p.ca.Directory, "ACME_CA_BUNDLE=" + p.roots(), "DOCKER_HOST=unix://" + filepath.Join(p.dir, "no.sock"), "LISTEN=off",
	}, p.environ...)
	c.cmd.Stdout, c.cmd.Stderr = c.log, c.log
	c.cmd.SysProcAttr = &syscall.SysProcAttr{Setpgid: true} // what stands around sidecert ends with it
	p.check(c.cmd.Start())
	go func() {
		c.status = c.cmd.Wait()
		close(c.ended)
	}()
	p.last = c
	p.Cleanup(func() {
		syscall.Kill(-c.cmd.Process.Pid, syscall.SIGKILL)
		<-c.ended
		if p.Failed() && c == p.last {
			p.Logf("sidecert %s:\n%s", strings.Join(args, " "), c.log)
		}
	})
	return c
}

// run is start for a command that ends by itself, and what it has written.
func (p *place) run(args ...string) (string, error) {
	p.Helper()
	c := p.start(args...)
	c.wait()
	return c.log.String(), c.status
}

func (p *place) must(args ...string) string {
	p.Helper()
	out, err := p.run(args...)
	if err != nil {
		p.Fatalf("sidecert %s: %v\n%s", strings.Join(args, " "), err, out)
	}
	return out
}

const patience = time.Minute // a test that waits longer has failed

func (c *child) wait() {
	c.place.Helper()
	select {
	case <-c.ended:
	case <-time.After(patience):
		c.place.Fatalf("%s did not end; it said\n%s", c.cmd, c.log)
	}
}

func (c *child) signal(s syscall.Signal) { syscall.Kill(c.cmd.Process.Pid, s) }

// stop is what `docker stop` does, with its 10 s.
func (c *child) stop() {
	c.place.Helper()
	c.signal(syscall.SIGTERM)
	c.stopped()
}

// stopped wants one that was told to end to have done so in the time that Docker gives it.
func (c *child) stopped() {
	c.place.Helper()
	select {
	case <-c.ended:
	case <-time.After(10 * time.Second):
		c.place.Fatalf("sidecert did not end within 10 s of SIGTERM; it said\n%s", c.log)
	}
	if c.status != nil {
		c.place.Fatalf("after SIGTERM: %v, want exit status 0; it said\n%s", c.status, c.log)
	}
}

// says waits for words in what a child writes, the nth time that they come.
func (c *child) says(words string, nth int) {
	c.place.Helper()
	for end := time.After(patience); c.log.count(words) < nth; {
		select {
		case <-c.log.more:
		case <-c.ended:
			if c.log.count(words) < nth {
				c.place.Fatalf("sidecert ended (%v) and did not say %q; it said\n%s", c.status, words, c.log)
			}
		case <-end:
			c.place.Fatalf("sidecert does not say %q; it said\n%s", words, c.log)
		}
	}
}

// said is what a child has written so far.
type said struct {
	mu   sync.Mutex
	text bytes.Buffer
	more chan struct{}
}

func newSaid() *said { return &said{more: make(chan struct{}, 1)} }

func (s *said) Write(data []byte) (int, error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	select {
	case s.more <- struct{}{}:
	default:
	}
	return s.text.Write(data)
}

func (s *said) String() string {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.text.String()
}

func (s *said) count(words string) int { return strings.Count(s.String(), words) }

// until waits for what a child does and does not say.
func (p *place) until(what string, done func() bool) {
	p.Helper()
	ticker := time.NewTicker(20 * time.Millisecond)
	defer ticker.Stop()
	for end := time.After(patience); !done(); {
		select {
		case <-ticker.C:
		case <-end:
			p.Fatalf("gave up waiting until %s", what)
		}
	}
}

// serial is that of the certificate that web servers get to see, "" while it is a placeholder or there is none. What is there must be
// a whole pair.
func (p *place) serial() string {
	p.Helper()
	load := func() (tls.Certificate, error) { return tls.LoadX509KeyPair(p.live("fullchain"), p.live("privkey")) }
	pair, err := load()
	if err != nil && !errors.Is(err, fs.ErrNotExist) { // the two were opened on both sides of a switch, or it is wrong for good
		pair, err = load()
	}
	if errors.Is(err, fs.ErrNotExist) {
		return ""
	}
	p.check(err)
	if cert.IsPlaceholder(pair.Leaf) {
		return ""
	}
	return pair.Leaf.SerialNumber.Text(16)
}

func (p *place) live(file string) string { return filepath.Join(p.certs, "live", site, file+".pem") }

// challenges are the files that stand where the CA looks.
func (p *place) challenges() []string {
	files, err := filepath.Glob(filepath.Join(p.webroot, ".well-known", "acme-challenge", "*"))
	p.check(err)
	return files
}

func (p *place) wantIssued(n int) {
	p.Helper()
	if got := p.ca.Issued(); got != n {
		p.Errorf("the CA issued %d certificates, want %d", got, n)
	}
	if got := p.watch.made(); got != 1 {
		p.Errorf("the CA made %d accounts, want one", got)
	}
}

// Two sidecerts and a certbot on one volume.
func TestOneOfAllWhoShareAVolumeWorks(t *testing.T) {
	certbot := needCertbot(t)
	t.Parallel()
	p := newPlace(t, acmetest.Config{})
	first := p.start("run")
	first.says("certificate obtained", 1)
	second := p.start("run")
	second.says("standing by", 1)

	t.Run("certbot is told that another one is at work", func(t *testing.T) {
		certs, err := store.OpenDisk(p.certs)
		p.check(err)
		lock, err := certs.Lock(".certbot.lock")
		p.check(err)
		defer lock.Close()
		out, err := certbot(p, "certificates").CombinedOutput()
		if err == nil || !strings.Contains(string(out), "Another instance of Certbot is already running") {
			t.Errorf("certbot: %v, and it said\n%s", err, out)
		}
	})

	t.Run("sidecert waits for a certbot", func(t *testing.T) {
		before, started, leave := p.serial(), filepath.Join(p.dir, "started"), filepath.Join(p.dir, "leave")
		working := certbot(p, "certonly", "--standalone", "--dry-run", "--domains", "b.example.test", "--agree-tos", "--register-unsafely-without-email",
			"--server", p.ca.Directory, "--http-01-port", "1", "--pre-hook", "touch "+started+"; while ! [ -e "+leave+" ]; do sleep 0.05; done")
		p.check(working.Start())
		p.until("certbot has the lock", func() bool { _, err := os.Stat(started); return err == nil })
		renew := p.start("renew", "--force", site)
		p.until("the CA has issued", func() bool { return p.ca.Issued() == 2 })
		if got := p.serial(); got != before {
			t.Errorf("certificate %s was stored while certbot had the lock", got)
		}
		p.check(os.WriteFile(leave, nil, 0o644))
		working.Wait() // it had nobody to answer its challenge
		renew.wait()
		if renew.status != nil || p.serial() == before {
			t.Errorf("after certbot: renew %v, and certificate %s, want another than %s", renew.status, p.serial(), before)
		}
	})

	t.Run("the second takes over", func(t *testing.T) {
		first.signal(syscall.SIGKILL)
		first.wait()
		second.says("taking over", 1)
		p.until("the second answers", func() bool { _, err := p.run("renew"); return err == nil })
		p.must("renew", "--force", site)
		second.stop()
	})
	if got := p.ca.Issued(); got != 3 || p.ca.Requests()["newOrder"] > 4 { // one order was certbot's
		t.Errorf("%d certificates and %d orders, want 3 and one of certbot's", got, p.ca.Requests()["newOrder"])
	}
}

// needCertbot is certbot on the volumes of a place.
func needCertbot(t *testing.T) func(p *place, args ...string) *exec.Cmd {
	t.Helper()
	if _, err := exec.LookPath("certbot"); err != nil {
		if os.Getenv("CI") == "true" {
			t.Fatal(err)
		}
		t.Skip(err)
	}
	return func(p *place, args ...string) *exec.Cmd {
		cmd := exec.CommandContext(p.Context(), "certbot", append(args, "--non-interactive",
			"--config-dir", p.certs, "--work-dir", filepath.Join(p.dir, "work"), "--logs-dir", filepath.Join(p.dir, "logs"))...)
		cmd.Env = append(os.Environ(), "REQUESTS_CA_BUNDLE="+p.roots())
		return cmd
	}
}

func tmpfs(options string) func(*place, string) {
	return func(p *place, dir string) { p.mount("tmpfs", dir, "tmpfs", 0, options) }
}

// mount needs root and a machine that lets it.
func (p *place) mount(source, dir, kind string, flags uintptr, options string) {
	p.Helper()
	err := unix.Mount(source, dir, kind, flags, options)
	if errors.Is(err, fs.ErrPermission) {
		p.Skipf("mount %s: %v", kind, err)
	}
	p.check(err)
	p.Cleanup(func() { unix.Unmount(dir, unix.MNT_DETACH) })
}

// loop is a file of 8 MiB with ext4 on it.
func loop(p *place, dir string) {
	p.Helper()
	image := filepath.Join(p.dir, "image")
	p.check(os.WriteFile(image, nil, 0o600))
	p.check(os.Truncate(image, 8<<20))
	if out, err := exec.Command("mkfs.ext4", "-q", "-F", image).CombinedOutput(); err != nil {
		p.Skipf("mkfs.ext4: %v: %s", err, out)
	}
	if out, err := exec.Command("mount", "-o", "loop", image, dir).CombinedOutput(); err != nil {
		p.Skipf("mount -o loop: %v: %s", err, out)
	}
	p.Cleanup(func() { unix.Unmount(dir, unix.MNT_DETACH) })
}

// remount changes whether a mounted folder can be written to.
func (p *place) remount(dir string, flags uintptr) {
	p.Helper()
	p.check(unix.Mount("", dir, "", unix.MS_REMOUNT|flags, ""))
}

func TestReadOnlyVolumeIsWaitedFor(t *testing.T) {
	for _, row := range []struct {
		name string
		dir  func(*place) string
	}{
		{"CERT_DIR", func(p *place) string { return p.certs }},
		{"STATE_DIR", func(p *place) string { return p.state }},
	} {
		for _, start := range []string{"with nothing in it", "with a certificate"} {
			t.Run(row.name+" "+start, func(t *testing.T) {
				t.Parallel()
				p := newPlace(t, acmetest.Config{})
				dir := row.dir(p)
				tmpfs("size=1m")(p, dir)
				if start == "with a certificate" {
					p.must("renew")
					p.environ = []string{"DOMAINS=" + site + ",b.example.test"}
				}
				p.waitedFor(dir)
			})
		}
	}
}

// waitedFor runs a daemon that has something to order while a mounted folder is read-only, and then not any more.
func (p *place) waitedFor(dir string) {
	p.Helper()
	asked, issued, served := p.ca.Total(), p.ca.Issued(), p.serial()
	p.remount(dir, unix.MS_RDONLY)
	daemon := p.start("run")
	daemon.says("hint=", 1)
	if !regexp.MustCompile(`level=(ERROR|WARN).*read-only file system.*hint=.*writable`).MatchString(daemon.log.String()) {
		p.Errorf("it is not said what to do:\n%s", daemon.log)
	}
	if served != "" && dir == p.certs {
		p.until("it is healthy, for there is something to serve", func() bool { _, err := p.run("healthcheck"); return err == nil })
	}
	if n := p.ca.Total() - asked; n != 0 || p.serial() != served {
		p.Errorf("the CA got %d requests and certificate %q is served, want none and %q", n, p.serial(), served)
	}
	p.remount(dir, 0)
	daemon.signal(syscall.SIGHUP) // nobody tells of a remount
	daemon.says("certificate obtained", 1)
	daemon.stop()
	p.wantIssued(issued + 1)
	if n := daemon.log.count("level=ERROR"); n > 1 {
		p.Errorf("%d errors were logged, want one at most:\n%s", n, daemon.log)
	}
}

// bytesOf uses up the bytes that a volume has, and gives them back.
func bytesOf(p *place, dir string) (free func()) {
	name := filepath.Join(dir, "filler")
	f, err := os.Create(name)
	p.check(err)
	defer f.Close()
	for size := 64 << 10; size > 0; size /= 2 {
		for err = nil; err == nil; {
			_, err = f.Write(make([]byte, size))
		}
		if !errors.Is(err, unix.ENOSPC) {
			p.Fatalf("filling %s: %v", dir, err)
		}
	}
	return func() { p.check(os.Remove(name)) }
}

// inodesOf uses up the files that a volume may have, and gives them back.
func inodesOf(p *place, dir string) (free func()) {
	folder := filepath.Join(dir, "filler")
	p.check(os.Mkdir(folder, 0o755))
	for i := 0; ; i++ {
		err := os.WriteFile(filepath.Join(folder, strconv.Itoa(i)), nil, 0o644)
		if errors.Is(err, unix.ENOSPC) {
			return func() { p.check(os.RemoveAll(folder)) }
		}
		p.check(err)
	}
}

func TestNothingIsOrderedWhileAVolumeIsFull(t *testing.T) {
	for _, row := range []struct {
		name  string
		mount func(p *place, dir string)
		full  func(p *place, dir string) (free func())
	}{
		{"tmpfs of 64 KiB", tmpfs("size=64k"), bytesOf},
		{"ext4 of 8 MiB", loop, bytesOf},
		{"tmpfs of 64 inodes", tmpfs("size=1m,nr_inodes=64"), inodesOf},
	} {
		for _, name := range []string{"CERT_DIR", "STATE_DIR"} {
			t.Run(name+" on "+row.name, func(t *testing.T) {
				t.Parallel()
				p := newPlace(t, acmetest.Config{})
				dir := map[string]string{"CERT_DIR": p.certs, "STATE_DIR": p.state}[name]
				row.mount(p, dir)
				p.must("renew")
				served := p.serial()

				p.environ = []string{"DOMAINS=" + site + ",b.example.test"}
				free := row.full(p, dir)
				daemon := p.start("run")
				daemon.says("nothing is ordered: storage failed", 1)
				if log := daemon.log.String(); !regexp.MustCompile(`level=(ERROR|WARN).*no space left on device.*hint=.*` + regexp.QuoteMeta(dir)).MatchString(log) {
					t.Errorf("it is not said what to do:\n%s", log)
				}
				if got := p.serial(); got != served || served == "" {
					t.Errorf("certificate %q is served, want %q as before", got, served)
				}
				p.wantIssued(1)
				if n := p.ca.Requests()["newOrder"]; n != 1 {
					t.Errorf("%d orders, want the one from before", n)
				}
				free()
				daemon.signal(syscall.SIGHUP) // nobody tells of free space
				daemon.says("certificate obtained", 1)
				daemon.stop()
				p.wantIssued(2)
				if got := p.serial(); got == served {
					t.Errorf("certificate %s is still served", got)
				}
			})
		}
	}
}

// What some volumes cannot do is refused by the kernel's hand.
func TestVolumesThatLackSomethingAreEnough(t *testing.T) {
	if _, err := exec.LookPath("strace"); err != nil {
		t.Skip(err)
	}
	for _, row := range []struct{ name, inject string }{
		{"no links (SMB, vfat)", "symlinkat,linkat:error=EPERM"},
		{"no links (9p)", "symlinkat,linkat:error=EOPNOTSUPP"},
		{"no modes and owners", "fchmod,fchmodat,fchown,fchownat:error=EPERM"},
		{"no exchange of folders", "renameat2:error=EINVAL"},
	} {
		t.Run(row.name, func(t *testing.T) {
			t.Parallel()
			p := newPlace(t, acmetest.Config{})
			calls, _, _ := strings.Cut(row.inject, ":")
			p.program = []string{"strace", "-f", "-qq", "-A", "-o", filepath.Join(p.dir, "calls"), "-e", "trace=" + calls, "-e", "inject=" + row.inject, "sidecert"}
			if out, err := p.run("version"); err != nil {
				t.Skipf("strace: %v\n%s", err, out)
			}
			p.must("renew")
			first := p.serial()
			p.must("renew")
			p.wantIssued(1)
			p.must("renew", "--force")
			p.must("renew")
			p.wantIssued(2)
			if second := p.serial(); first == "" || second == "" || second == first {
				t.Errorf("certificate %q is followed by %q", first, second)
			}
			if calls, err := os.ReadFile(filepath.Join(p.dir, "calls")); err != nil || !bytes.Contains(calls, []byte("(INJECTED)")) {
				t.Errorf("nothing was refused: %v\n%s", err, calls)
			}
		})
	}
}

// Between what is too few to begin and what is enough, each number ends an attempt somewhere else.
func TestTooFewDescriptorsLoseNothing(t *testing.T) {
	if _, err := exec.LookPath("bash"); err != nil {
		t.Skip(err)
	}
	t.Parallel()
	p := newPlace(t, acmetest.Config{})
	limited := func(n int) []string {
		return []string{"bash", "-c", "ulimit -n " + strconv.Itoa(n) + "; exec sidecert \"$@\"", "bash"}
	}
	failed := 0
	for n := 10; n <= 26; n++ { // with fewer Go itself, and what reads its own program when it starts, does not
		p.program = limited(n)
		out, err := p.run("renew", "--force", site)
		if strings.Contains(out, "goroutine ") || err != nil && !strings.Contains(out, "too many open files") {
			t.Errorf("with %d descriptors: %v\n%s", n, err, out)
		}
		if err != nil {
			failed++
		}
		p.serial() // a whole pair
	}
	p.program = []string{"sidecert"}
	p.must("renew", "--force", site)
	versions, err := filepath.Glob(filepath.Join(p.certs, "archive", site, "cert*.pem"))
	p.check(err)
	if failed == 0 || len(versions) != p.ca.Issued() {
		t.Errorf("after %d failures %d certificates are stored, and the CA issued %d", failed, len(versions), p.ca.Issued())
	}

}

func TestDaemonOutlivesALackOfDescriptors(t *testing.T) {
	t.Parallel()
	p := newPlace(t, acmetest.Config{})
	daemon := p.start("run")
	daemon.says("certificate obtained", 1)
	before := p.serial()
	var enough unix.Rlimit
	p.check(unix.Prlimit(daemon.cmd.Process.Pid, unix.RLIMIT_NOFILE, nil, &enough))
	few := unix.Rlimit{Cur: 3, Max: enough.Max}
	p.check(unix.Prlimit(daemon.cmd.Process.Pid, unix.RLIMIT_NOFILE, &few, nil))
	renew := p.start("renew", "--force", site)
	daemon.signal(syscall.SIGHUP)
	daemon.says("too many open files", 1)
	p.check(unix.Prlimit(daemon.cmd.Process.Pid, unix.RLIMIT_NOFILE, &enough, nil))
	renew.wait()
	if renew.status != nil || p.serial() == before {
		t.Errorf("with enough descriptors: %v\n%s", renew.status, renew.log)
	}
	daemon.stop()
	p.wantIssued(2)
}

// canaries are secrets by name. Whatever is made of them is looked for: their bytes, hex and base64, whole and the first 16 characters.
type canaries map[string][]byte

// shown names the first canary in a text, "" if there is none.
func (c canaries) shown(text string) string {
	packed := strings.NewReplacer("\n", "", "\\n", "", " ", "").Replace(text) // PEM is broken into lines
	for name, secret := range c {
		for _, form := range formsOf(secret) {
			if strings.Contains(text, form) || strings.Contains(packed, form) {
				return name
			}
		}
	}
	return ""
}

// formsOf are at most 16 characters long. In base64, how bytes look depends on how many stand before them.
func formsOf(secret []byte) []string {
	forms := []string{string(secret), hex.EncodeToString(secret), strings.ToUpper(hex.EncodeToString(secret))}
	for _, encoding := range []*base64.Encoding{base64.RawStdEncoding, base64.RawURLEncoding} {
		for before, mixed := range []int{0, 2, 3} { // characters that hold bits of what stands before
			forms = append(forms, encoding.EncodeToString(append(make([]byte, before), secret...))[mixed:])
		}
	}
	for i, form := range forms {
		forms[i] = form[:min(len(form), 16)]
	}
	return forms
}

// addKeys adds the keys of a tree of files, and those of orders under way.
func (c canaries) addKeys(p *place, dir string) {
	p.Helper()
	p.check(filepath.WalkDir(dir, func(name string, entry fs.DirEntry, err error) error {
		if err != nil || !entry.Type().IsRegular() {
			return err
		}
		data, err := os.ReadFile(name)
		if err != nil {
			return err
		}
		var attempts cert.Attempts
		if json.Unmarshal(data, &attempts) == nil && attempts.Order != nil {
			data = attempts.Order.Key
		}
		if key, err := cert.ParseKey(data); err == nil {
			private, err := key.(*ecdsa.PrivateKey).Bytes()
			p.check(err)
			c["key in "+strings.TrimPrefix(name, p.dir)] = private
		}
		return nil
	}))
}

// canaryHMAC is longer than what HS256 asks for, RFC 7518 §3.2.
var canaryHMAC = []byte("\xffcanary of the HMAC key, 32 bytes long\xfe\x01")

const (
	canaryKID    = "canary-of-kid-77"
	canaryHook   = "canary-of-hook-7"
	canaryNotify = "canary-of-notify"
	canaryCA     = "canary-of-the-CA"
)

func TestSecretsAreInNothingThatIsWritten(t *testing.T) {
	t.Parallel()
	secrets := canaries{"HMAC key": canaryHMAC, "key ID": []byte(canaryKID), "hook": []byte(canaryHook), "notify": []byte(canaryNotify), "CA": []byte(canaryCA)}
	if secrets.shown("x"+base64.StdEncoding.EncodeToString(append([]byte("y"), canaryHMAC...))) == "" {
		t.Fatal("a secret is not found")
	}
	s := &story{place: newPlace(t, acmetest.Config{EAB: map[string][]byte{canaryKID: canaryHMAC}})}
	s.mistakes()
	s.interruptions(secrets)
	s.everyCommand()
	secrets.addKeys(s.place, s.dir)
	for _, c := range s.children {
		if name := secrets.shown(c.log.String()); name != "" {
			t.Errorf("sidecert %s shows the %s:\n%s", strings.Join(c.cmd.Args[1:], " "), name, c.log)
		}
	}
	files := s.written()
	for i, answer := range s.answers {
		files["answer "+strconv.Itoa(i)+" of the status page"] = answer
	}
	if len(s.answers) != 5 || !strings.Contains(s.answers[0], site) {
		t.Errorf("the status page did not answer: %q", s.answers)
	}
	for name, text := range files {
		if secret := secrets.shown(text); secret != "" {
			t.Errorf("%s has the %s:\n%s", name, secret, text)
		}
	}
	t.Logf("%d secrets are in none of the outputs of %d processes and %d files", len(secrets), len(s.children), len(files))
	if len(secrets) < 5+4 || len(files) < 5 {
		t.Errorf("%d secrets were looked for in %d files: too few", len(secrets), len(files))
	}
}

// story is what happens to secrets.
type story struct {
	*place
	children []*child
	answers  []string
}

// begin starts a command with all the secrets; environ goes before them.
func (s *story) begin(words string, environ ...string) *child {
	s.Helper()
	s.environ = append([]string{
		"ACME_EAB_KID=" + canaryKID, "ACME_EAB_HMAC_KEY=" + base64.RawURLEncoding.EncodeToString(canaryHMAC), "LOG_LEVEL=debug",
		"NOTIFY_URLS=generic+http://me:" + canaryNotify + "@127.0.0.1:1/" + canaryNotify + "?key=" + canaryNotify + " smtp://me:" + canaryNotify + "@127.0.0.1:1/?from=a@example.org&to=b@example.org",
		"NOTIFY_ON=failure,expiry,recovery,renewal", "HEARTBEAT_URL=http://127.0.0.1:1/" + canaryNotify,
	}, environ...)
	c := s.start(strings.Fields(words)...)
	s.children = append(s.children, c)
	return c
}

func (s *story) whole(words string, environ ...string) *child {
	s.Helper()
	c := s.begin(words, environ...)
	c.wait()
	return c
}

func (s *story) mistakes() {
	s.Helper()
	for _, words := range []string{"run", "doctor", "history", "certificates"} {
		s.whole(words, "ACME_EAB_HMAC_KEY="+canaryNotify+"!", "ACME_CA=https://me:"+canaryCA+"@127.0.0.1/%zz", "PRE_HOOK='"+canaryHook, "KEY_TYPE=x",
			"NOTIFY_URL="+canaryNotify, "NOTIFY_ON=https://x/"+canaryNotify, "ACME_EAB_KDI="+canaryKID, "DOCKER_HOST=tcp://me:"+canaryNotify+"@x:1")
	}
	s.whole("renew", "ACME_CA=https://127.0.0.1:1/", "DOMAINS=away.example.test")
}

// interruptions leave the key of an order in the state. At SIGQUIT Go writes down all goroutines, as for a panic.
func (s *story) interruptions(secrets canaries) {
	s.Helper()
	s.endAt(7, syscall.SIGTERM)
	secrets.addKeys(s.place, s.state)
	s.endAt(2, syscall.SIGQUIT, "LOG_FORMAT=json")
	file := filepath.Join(s.dir, "hmac")
	s.check(os.WriteFile(file, []byte(base64.RawURLEncoding.EncodeToString(canaryHMAC)+"\n"), 0o600))
	s.whole("renew "+site, "ACME_EAB_HMAC_KEY=", "ACME_EAB_HMAC_KEY_FILE="+file, "PRE_HOOK=env", "DEPLOY_HOOK=false "+canaryHook, "POST_HOOK=nosuch "+canaryHook)
}

// endAt has a daemon get a signal at its kth request.
func (s *story) endAt(k int, signal syscall.Signal, environ ...string) {
	s.Helper()
	started := make(chan *child, 1)
	s.watch.at(k, func() {
		c := <-started
		c.signal(signal)
		<-c.ended
	})
	c := s.begin("run", environ...)
	started <- c
	c.wait()
}

func (s *story) everyCommand() {
	s.Helper()
	address := freePort(s.T)
	daemon := s.begin("run", "LOG_FORMAT=json", "LISTEN="+address)
	s.until("the daemon answers", func() bool { return s.whole("renew").status == nil })
	for _, words := range []string{
		"renew --force", "doctor", "certificates", "certificates --json", "certificates " + site, "history", "history --json", "account show", "check",
		"renew --dry-run", "healthcheck", "account export --certbot", "certificates nosuch", "nosuch",
		"notify --test",
	} {
		s.whole(words)
	}
	s.whole("notify --test", "NOTIFY_URLS=slack://"+canaryNotify+"@x mqtt://"+canaryNotify+" https://x/"+canaryNotify)
	for _, path := range []string{"/", "/api/status", "/metrics", "/healthz", "/nosuch"} {
		s.answers = append(s.answers, get(s.T, "http://"+address+path))
	}
	daemon.says("sidecert started", 1)
	daemon.stop()
	s.wantIssued(3) // with the dry run
}

// written are the files that others than sidecert may read, or that people send to those who help them.
func (s *story) written() map[string]string {
	s.Helper()
	texts := map[string]string{}
	for _, pattern := range []string{"state/*.json*", "certs/renewal/*", "certs/live/README", "certs/live/*/README", "webroot/.well-known/acme-challenge/*"} {
		files, err := filepath.Glob(filepath.Join(s.dir, pattern))
		s.check(err)
		for _, file := range files {
			data, err := os.ReadFile(file)
			s.check(err)
			texts[file] = string(data)
		}
	}
	return texts
}
