package reliability

import (
	"bytes"
	"cmp"
	"crypto/tls"
	"encoding/json"
	"fmt"
	"maps"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"slices"
	"strconv"
	"strings"
	"sync"
	"syscall"
	"testing"
	"time"

	"github.com/sidecert/sidecert/internal/acmetest"
	"github.com/sidecert/sidecert/internal/cert"
	"github.com/sidecert/sidecert/internal/docker/dockertest"
)

const (
	soakName = "soak.example.org"
	// soakLifetime makes a renewal due each 30 s.
	soakLifetime = time.Minute
	soakNonces   = 20 // percent of good nonces that the CA refuses
	shortSoak    = time.Minute
)

// The real daemon keeps a web server's certificate of a minute for as long as SOAK says, while it is killed again and again, also in the
// middle of orders, and the CA refuses every fifth nonce. A client that looks each second sees only valid certificates.
func TestSoakLeavesNoGapInWhatIsServed(t *testing.T) {
	t.Parallel() // it waits most of the time
	need(t)
	length, err := time.ParseDuration(cmp.Or(os.Getenv("SOAK"), shortSoak.String()))
	if err != nil {
		t.Fatalf("SOAK: %v", err)
	}
	s := startSoak(t)
	s.watch(length, max(10*time.Second, min(length/6, time.Minute)))
	s.end()
	t.Logf("\n%s", s.summary(length))
	s.judge()
}

// soak is a daemon with its surroundings, and what is seen of it.
type soak struct {
	*testing.T
	ca     *authority
	place  place
	binary string
	engine *dockertest.Engine
	web    *dockertest.Web
	daemon *daemon
	logs   logCount
	// looks are counted from when the first certificate of the CA was served.
	looks, gaps, kills int
	// served are the serial numbers of the certificates that were seen.
	served                 map[string]bool
	memory, files, threads gauge
}

func startSoak(t *testing.T) *soak {
	s := &soak{T: t, binary: buildSidecert(t), served: map[string]bool{}, logs: logCount{lines: map[string]int{}, orders: make(chan struct{}, 1)}}
	s.ca = startAuthority(t, acmetest.Config{Lifetime: soakLifetime, NonceReject: soakNonces})
	s.place = s.ca.place(t, soakName)
	engine, err := dockertest.Start(filepath.Join(s.place.dir, "docker.sock"))
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { engine.Close() })
	s.engine = engine
	s.start()
	t.Cleanup(func() { s.daemon.cmd.Process.Kill() })
	s.until("a pair is there to start the web server with", func() bool {
		s.web, err = dockertest.StartWeb(filepath.Dir(s.place.live("cert")), s.place.webroot(), 0)
		return err == nil
	})
	t.Cleanup(s.web.Close)
	engine.OnKill(func(_, signal string) { s.web.Signal(signal) })
	engine.Add(s.web.Container("web"))
	s.until("a certificate of the CA is served", func() bool {
		leaf := s.web.Seen(soakName)
		return leaf != nil && !cert.IsPlaceholder(leaf)
	})
	return s
}

// until polls for what another process brings about.
func (s *soak) until(what string, done func() bool) {
	s.Helper()
	end := time.After(patience)
	for !done() {
		select {
		case <-end:
			s.Fatalf("waited in vain until %s; the log:\n%s", what, &s.logs)
		case <-time.After(50 * time.Millisecond):
		}
	}
}

// daemon is a child that runs `sidecert run`.
type daemon struct {
	cmd    *exec.Cmd
	exited chan error
}

func (s *soak) start() {
	environ := append(sidecertEnviron(s.ca, s.place), "LOG_FORMAT=json")
	environ = slices.DeleteFunc(environ, func(v string) bool { return strings.HasPrefix(v, "RELOAD=") || strings.HasPrefix(v, "DOCKER_HOST=") })
	d := &daemon{cmd: exec.Command(s.binary, "run"), exited: make(chan error, 1)}
	d.cmd.Env = append(environ, "RELOAD=web", "DOCKER_HOST="+s.engine.Host())
	d.cmd.Stderr = &logLines{to: &s.logs}
	if err := d.cmd.Start(); err != nil {
		s.Fatal(err)
	}
	go func() { d.exited <- d.cmd.Wait() }()
	s.daemon = d
}

// watch looks each second, and kills at each interval and while orders are under way.
func (s *soak) watch(length, interval time.Duration) {
	orders := 0
	look, kill, end := time.NewTicker(time.Second), time.NewTicker(interval), time.After(length)
	defer look.Stop()
	defer kill.Stop()
	for {
		select {
		case <-look.C:
			s.look(time.Now())
		case <-kill.C:
			s.kill()
		case <-s.logs.orders:
			// One that is taken up again after its kill is told again, and may come through.
			if orders++; orders%2 == 1 {
				s.kill()
			}
		case err := <-s.daemon.exited:
			s.Errorf("the daemon ended by itself: %v", err)
			s.start()
		case <-end:
			return
		}
	}
}

func (s *soak) kill() {
	if err := s.daemon.cmd.Process.Kill(); err != nil {
		s.Fatal(err)
	}
	<-s.daemon.exited
	s.kills++
	s.start()
}

// look is one of a client at the web server, and of a reload at the files.
func (s *soak) look(now time.Time) {
	s.looks++
	if err := s.handshake(now); err != nil {
		s.gaps++
		s.Errorf("look %d: %v", s.looks, err)
	}
	if err := s.loadable(); err != nil {
		s.gaps++
		s.Errorf("look %d: a reload would fail: %v", s.looks, err)
	}
	s.gauge()
}

func (s *soak) handshake(now time.Time) error {
	conn, err := tls.Dial("tcp", s.web.Address(), &tls.Config{ServerName: soakName, RootCAs: s.ca.Roots(), Time: func() time.Time { return now }})
	if err != nil {
		return err
	}
	leaf := conn.ConnectionState().PeerCertificates[0]
	s.served[leaf.SerialNumber.String()] = true
	return conn.Close()
}

// loadable reads a second time where the first fell between two opens, which no writer can prevent.
func (s *soak) loadable() error {
	var err error
	for range 2 {
		if _, err = tls.LoadX509KeyPair(s.place.live("fullchain"), s.place.live("privkey")); err == nil {
			return nil
		}
	}
	return err
}

// gauge is the first, the last and the highest of what was measured.
type gauge struct{ first, last, max int }

func (g *gauge) add(n int) {
	if g.first == 0 {
		g.first = n
	}
	g.last, g.max = n, max(g.max, n)
}

func (g gauge) String() string {
	return fmt.Sprintf("first %d, last %d, most %d", g.first, g.last, g.max)
}

var statusLine = regexp.MustCompile(`(?m)^(VmRSS|Threads):\s+(\d+)`)

func (s *soak) gauge() {
	dir := filepath.Join("/proc", strconv.Itoa(s.daemon.cmd.Process.Pid))
	status, err := os.ReadFile(filepath.Join(dir, "status"))
	if err != nil {
		return // it has just ended, and the watch says so
	}
	for _, m := range statusLine.FindAllStringSubmatch(string(status), -1) {
		n, _ := strconv.Atoi(m[2])
		map[string]*gauge{"VmRSS": &s.memory, "Threads": &s.threads}[m[1]].add(n)
	}
	if open, err := os.ReadDir(filepath.Join(dir, "fd")); err == nil {
		s.files.add(len(open))
	}
}

// end has the daemon end as Docker does.
func (s *soak) end() {
	// Before it listens to signals, it would end by this one.
	s.until("the daemon has started", func() bool { return s.logs.count("INFO sidecert started") > s.kills })
	s.daemon.cmd.Process.Signal(syscall.SIGTERM)
	select {
	case err := <-s.daemon.exited:
		if err != nil {
			s.Errorf("the daemon ended at SIGTERM with %v, want 0", err)
		}
	case <-time.After(patience):
		s.Error("the daemon did not end at SIGTERM")
	}
}

func (s *soak) summary(length time.Duration) string {
	return fmt.Sprintf("soak of %v: %d looks, %d gaps, %d kills\n%d certificates issued, %d stored, %d seen by the client; %d accounts\nRSS in KiB: %v\nopen files: %v\nthreads: %v\n%s",
		length, s.looks, s.gaps, s.kills, s.ca.Issued(), s.stored(), len(s.served), s.ca.accounts.Load(), s.memory, s.files, s.threads, &s.logs)
}

func (s *soak) stored() int {
	versions, _ := filepath.Glob(filepath.Join(s.place.certs(), "archive", soakName, "cert*.pem"))
	return len(versions)
}

func (s *soak) judge() {
	if s.looks == 0 || s.kills == 0 {
		s.Errorf("%d looks and %d kills prove nothing", s.looks, s.kills)
	}
	if len(s.served) < 2 {
		s.Errorf("%d certificates were seen, want a renewal", len(s.served))
	}
	// One may be under way at the end.
	if lost := s.ca.Issued() - s.stored(); lost > 1 {
		s.Errorf("%d certificates were issued that are not stored", lost)
	}
	if made := s.ca.accounts.Load(); made != 1 {
		s.Errorf("%d accounts were made, want 1", made)
	}
	if n := s.logs.count("ERROR"); n > 0 {
		s.Errorf("%d lines of the log need a person:\n%s", n, &s.logs)
	}
}

// logCount is how often which message was logged.
type logCount struct {
	mu    sync.Mutex
	lines map[string]int
	// orders gets something when an order is under way.
	orders chan struct{}
}

func (l *logCount) add(line []byte) {
	var entry struct{ Level, Msg string }
	if err := json.Unmarshal(line, &entry); err != nil {
		entry.Level, entry.Msg = "ERROR", string(line) // a panic, say
	}
	if entry.Msg == "certificate ordered" {
		select {
		case l.orders <- struct{}{}:
		default: // of another one nobody has taken note yet
		}
	}
	l.mu.Lock()
	defer l.mu.Unlock()
	l.lines[entry.Level+" "+entry.Msg]++
}

// count is the number of lines that begin so: with a level, or with a level and a message.
func (l *logCount) count(begin string) (n int) {
	l.mu.Lock()
	defer l.mu.Unlock()
	for line, times := range l.lines {
		if strings.HasPrefix(line, begin) {
			n += times
		}
	}
	return n
}

// String lists what is above INFO.
func (l *logCount) String() string {
	l.mu.Lock()
	defer l.mu.Unlock()
	var b strings.Builder
	for _, line := range slices.Sorted(maps.Keys(l.lines)) {
		if strings.HasPrefix(line, "INFO ") {
			continue
		}
		fmt.Fprintf(&b, "%5d %s\n", l.lines[line], line)
	}
	return cmp.Or(b.String(), "no WARN and no ERROR\n")
}

// logLines cuts one daemon's output into lines; what a kill has cut short is dropped.
type logLines struct {
	to   *logCount
	rest []byte
}

func (l *logLines) Write(p []byte) (int, error) {
	l.rest = append(l.rest, p...)
	for {
		line, rest, whole := bytes.Cut(l.rest, []byte("\n"))
		if !whole {
			return len(p), nil
		}
		l.to.add(line)
		l.rest = rest
	}
}
