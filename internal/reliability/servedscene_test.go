package reliability

import (
	"bytes"
	"cmp"
	"context"
	"crypto/rand"
	"crypto/tls"
	"encoding/pem"
	"fmt"
	"io"
	"log"
	mathrand "math/rand/v2"
	"net"
	"net/http"
	"net/http/httputil"
	"net/url"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"slices"
	"strconv"
	"strings"
	"sync"
	"testing"
	"time"
)

// servedSpan is a stretch of time; its end is zero while it lasts.
type servedSpan struct{ begin, end time.Time }

func (s servedSpan) meets(begin, end time.Time) bool {
	return !s.begin.After(end) && (s.end.IsZero() || !s.end.Before(begin))
}

// servedGlance is one handshake of the observer; version 0 is no answer.
type servedGlance struct {
	begin, end time.Time
	version    int
}

// servedSlot is a place for a web container, with its name and address; the container in it comes and goes.
type servedSlot struct {
	name, kind, address, conf string
	there                     bool

	mu       sync.Mutex
	glances  []servedGlance
	troubles []servedSpan
}

// servedDeed is something that the daemon did to a container, as its socket saw it.
type servedDeed struct {
	at   time.Time
	slot *servedSlot
}

// servedScene is a Compose project with its sidecert.
type servedScene struct {
	*testing.T
	servedTally
	ca      *authority
	place   place
	binary  string
	project string
	random  *mathrand.Rand
	slots   []*servedSlot
	socket  *servedSocket
	daemon  *exec.Cmd
	exited  chan struct{}
	reports []servedReport // by `certificates`
	logged  *os.File

	mu       sync.Mutex
	known    map[string]int // version by the leaf's bytes
	storedAt map[int]time.Time
	ids      map[string]*servedSlot
	away     []servedSpan // when there was no daemon, or no engine for it
}

func newServedScene(t *testing.T, ca *authority, binary string, number int, random *mathrand.Rand) *servedScene {
	id := strings.ToLower(rand.Text()[:8])
	s := &servedScene{T: t, ca: ca, binary: binary, random: random, project: "sidecert-served-" + id, place: ca.place(t, "served-"+id+".example.org"),
		known: map[string]int{}, storedAt: map[int]time.Time{}, ids: map[string]*servedSlot{}}
	s.faults = map[string]int{}
	var err error
	if s.logged, err = os.Create(filepath.Join(s.place.dir, "log")); err != nil {
		t.Fatal(err)
	}
	prefix := s.network()
	kinds := []string{"nginx", "nginx", "httpd", "nginx"}
	if number%3 == 2 {
		kinds = []string{"nginx", "httpd", "haproxy", "nginx"}
	}
	for i, kind := range kinds {
		s.slots = append(s.slots, &servedSlot{
			name: fmt.Sprintf("%s-web-%d", s.project, i+1), kind: kind, address: fmt.Sprintf("%s.%d", prefix, 10+i), conf: t.TempDir(),
		})
	}
	s.socket = s.listen()
	s.startDaemon()
	t.Cleanup(s.killDaemon)
	s.until("the first certificate is stored", func() bool { return s.version() == 1 })
	ctx, cancel := context.WithCancel(context.Background())
	var watchers sync.WaitGroup
	t.Cleanup(watchers.Wait)
	t.Cleanup(cancel)
	for _, slot := range s.slots {
		watchers.Go(func() { s.observe(ctx, slot) })
	}
	for _, slot := range s.slots[:3] {
		s.run(slot, s.live())
	}
	s.settle("", time.Now())
	return s
}

// until polls for what others bring about.
func (s *servedScene) until(what string, done func() bool) {
	s.Helper()
	for end := time.Now().Add(patience); !done(); time.Sleep(20 * time.Millisecond) {
		if time.Now().After(end) {
			text, _ := os.ReadFile(s.logged.Name())
			s.Fatalf("waited in vain until %s; the log:\n%s", what, text)
		}
	}
}

func (s *servedScene) docker(args ...string) string {
	s.Helper()
	out, err := exec.Command("docker", args...).CombinedOutput()
	if err != nil {
		s.Fatalf("docker %s: %v\n%s", strings.Join(args, " "), err, out)
	}
	return strings.TrimSpace(string(out))
}

// network makes one whose addresses can be given out, and returns what they begin with.
func (s *servedScene) network() string {
	for range 50 {
		prefix := fmt.Sprintf("10.%d.%d", 200+mathrand.IntN(50), mathrand.IntN(250))
		if exec.Command("docker", "network", "create", "--subnet", prefix+".0/24", s.project).Run() == nil {
			s.Cleanup(func() { exec.Command("docker", "network", "rm", s.project).Run() })
			return prefix
		}
	}
	s.Fatal("no network could be made")
	return ""
}

// environ is the daemon's, and that of the commands.
func (s *servedScene) environ() []string {
	environ := slices.DeleteFunc(sidecertEnviron(s.ca, s.place), func(v string) bool {
		return strings.HasPrefix(v, "RELOAD=") || strings.HasPrefix(v, "DOCKER_HOST=")
	})
	return append(environ, "RELOAD=web", "DISCOVER=off", "COMPOSE_PROJECT_NAME="+s.project, "DOCKER_HOST=unix://"+s.socket.path, "EXTRA_FILES=haproxy", "LOG_LEVEL=debug")
}

func (s *servedScene) startDaemon() {
	d := exec.Command(s.binary, "run")
	d.Env, d.Stderr = s.environ(), s.logged
	if err := d.Start(); err != nil {
		s.Fatal(err)
	}
	exited := make(chan struct{})
	go func() { d.Wait(); close(exited) }()
	s.mu.Lock()
	s.daemon, s.exited = d, exited
	s.mu.Unlock()
}

// killDaemon is SIGKILL.
func (s *servedScene) killDaemon() {
	s.mu.Lock()
	d, exited := s.daemon, s.exited
	s.mu.Unlock()
	d.Process.Kill()
	<-exited
}

// leave and back are the bounds of a time in which sidecert is dead or has no engine.
func (s *servedScene) leave() {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.away = append(s.away, servedSpan{begin: time.Now()})
}

func (s *servedScene) back() {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.away[len(s.away)-1].end = time.Now()
}

// pair is where a container reads its certificate: what is live, or one version for ever.
type servedPair string

func (s *servedScene) live() servedPair { return servedPair("live/" + s.place.name + "/%s.pem") }

func (s *servedScene) only(version int) servedPair {
	return servedPair("archive/" + s.place.name + "/%s" + strconv.Itoa(version) + ".pem")
}

func (p servedPair) file(name string) string {
	return "/etc/letsencrypt/" + fmt.Sprintf(string(p), name)
}

// configure writes what a container reads at its next start or reload.
func (s *servedScene) configure(slot *servedSlot, p servedPair, broken string) {
	file, text := "served.conf", "server {\n\tlisten 443 ssl;\n\tssl_certificate "+p.file("fullchain")+";\n\tssl_certificate_key "+p.file("privkey")+";\n}\n"
	switch slot.kind {
	case "httpd":
		file = "httpd.conf"
		text = "ServerRoot /usr/local/apache2\nServerName " + s.place.name + "\nListen 443\nErrorLog /proc/self/fd/2\n"
		for _, m := range []string{"mpm_event", "authz_core", "socache_shmcb", "ssl", "unixd"} {
			text += "LoadModule " + m + "_module modules/mod_" + m + ".so\n"
		}
		text += "<VirtualHost *:443>\n\tSSLEngine on\n\tSSLCertificateFile " + p.file("fullchain") + "\n\tSSLCertificateKeyFile " + p.file("privkey") + "\n</VirtualHost>\n"
	case "haproxy":
		file = "haproxy.cfg"
		pem := p.file("haproxy")
		if p != s.live() {
			var all []byte
			for _, part := range []string{"fullchain", "privkey"} {
				data, err := os.ReadFile(filepath.Join(s.place.certs(), fmt.Sprintf(string(p), part)))
				if err != nil {
					s.Fatal(err)
				}
				all = append(all, data...)
			}
			if err := os.WriteFile(filepath.Join(slot.conf, "old.pem"), all, 0o600); err != nil {
				s.Fatal(err)
			}
			pem = "/usr/local/etc/haproxy/old.pem"
		}
		text = "defaults\n\tmode http\n\ttimeout client 5s\n\ttimeout connect 5s\n\ttimeout server 5s\nfrontend web\n\tbind :443 ssl crt " + pem + "\n\thttp-request return status 204\n"
	}
	if err := os.WriteFile(filepath.Join(slot.conf, file), []byte(text+broken), 0o644); err != nil {
		s.Fatal(err)
	}
}

// run puts a container into a slot. A swallower has a shell before its web server, which passes no signal on.
func (s *servedScene) run(slot *servedSlot, p servedPair, swallower ...string) {
	s.configure(slot, p, "")
	at := map[string]string{"nginx": "/etc/nginx/conf.d", "httpd": "/usr/local/apache2/conf", "haproxy": "/usr/local/etc/haproxy"}[slot.kind]
	image := map[string]string{"nginx": "nginx:1", "httpd": "httpd:2.4", "haproxy": "haproxy:lts-alpine"}[slot.kind]
	args := []string{"run", "--detach", "--name", slot.name, "--restart", "always", "--network", s.project, "--ip", slot.address, "--user", "0:0", "--label", "sidecert-test",
		"--label", "com.docker.compose.project=" + s.project, "--label", "com.docker.compose.service=web",
		"--volume", s.place.certs() + ":/etc/letsencrypt:ro", "--volume", slot.conf + ":" + at + ":ro"}
	if len(swallower) > 0 {
		args = append(args, "--entrypoint", "sh", image, "-c", swallower[0]+" & while :; do sleep 1; done")
	} else {
		args = append(args, image)
	}
	s.Cleanup(func() { exec.Command("docker", "rm", "--force", "--volumes", slot.name).Run() })
	lines := strings.Split(s.docker(args...), "\n")
	s.mu.Lock()
	s.ids[lines[len(lines)-1]] = slot
	s.mu.Unlock()
	slot.there = true
}

func (s *servedScene) remove(slot *servedSlot) {
	slot.there = false
	s.docker("rm", "--force", "--volumes", slot.name)
}

// reload is done inside a container, so that the engine tells no event that is listened to.
func (s *servedScene) reload(slot *servedSlot) {
	command := map[string][]string{"nginx": {"nginx", "-s", "reload"}, "httpd": {"httpd", "-k", "graceful"}, "haproxy": {"sh", "-c", "kill -HUP 1"}}[slot.kind]
	s.docker(append([]string{"exec", slot.name}, command...)...)
}

// version is the stored one, 0 while there is none. Each is taken note of when it is first seen.
func (s *servedScene) version() int {
	target, err := os.Readlink(s.place.live("cert"))
	if err != nil {
		return 0
	}
	n, _ := strconv.Atoi(strings.TrimSuffix(strings.TrimPrefix(filepath.Base(target), "cert"), ".pem"))
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.storedAt[n].IsZero() {
		s.storedAt[n] = time.Now()
	}
	return n
}

// newest is the version that was stored at a time.
func (s *servedScene) newest(at time.Time) (version int) {
	s.mu.Lock()
	defer s.mu.Unlock()
	for n, since := range s.storedAt {
		if n > version && !since.After(at) {
			version = n
		}
	}
	return version
}

// observe dials a slot's address until ctx ends. It shares no code with what is observed.
func (s *servedScene) observe(ctx context.Context, slot *servedSlot) {
	dialer := tls.Dialer{Config: &tls.Config{ServerName: s.place.name, InsecureSkipVerify: true}}
	for ctx.Err() == nil {
		g := servedGlance{begin: time.Now()}
		short, cancel := context.WithTimeout(ctx, time.Second)
		if conn, err := dialer.DialContext(short, "tcp", slot.address+":443"); err == nil {
			g.version = s.versionOf(conn.(*tls.Conn).ConnectionState().PeerCertificates[0].Raw)
			conn.Close()
		}
		cancel()
		g.end = time.Now()
		slot.mu.Lock()
		slot.glances = append(slot.glances, g)
		slot.mu.Unlock()
		select {
		case <-ctx.Done():
		case <-time.After(glimpse):
		}
	}
}

func (s *servedScene) versionOf(leaf []byte) int {
	s.mu.Lock()
	defer s.mu.Unlock()
	if n := s.known[string(leaf)]; n != 0 {
		return n
	}
	files, _ := filepath.Glob(filepath.Join(s.place.certs(), "archive", s.place.name, "cert*.pem"))
	for _, file := range files {
		data, _ := os.ReadFile(file)
		n, _ := strconv.Atoi(strings.TrimSuffix(strings.TrimPrefix(filepath.Base(file), "cert"), ".pem"))
		if block, _ := pem.Decode(data); block != nil {
			s.known[string(block.Bytes)] = n
		}
	}
	return s.known[string(leaf)]
}

// servedSocket stands between the daemon and the engine, sees what is asked, and can fail.
type servedSocket struct {
	path    string
	handler http.Handler
	server  *http.Server

	mu    sync.Mutex
	looks []time.Time // each look asks once which containers the service has
	deeds []servedDeed
	slow  time.Duration
	deny  bool
	// told is called once, when a container is about to be told; pass says whether it still is.
	told func(slot *servedSlot) (pass bool)
}

var (
	servedList = regexp.MustCompile(`^(/v[\d.]+)?/containers/json$`)
	servedTold = regexp.MustCompile(`^(?:/v[\d.]+)?/containers/(\w+)/(kill|restart|exec)$`)
)

func (s *servedScene) listen() *servedSocket {
	k := &servedSocket{path: filepath.Join(s.place.dir, "docker.sock")}
	engine := strings.TrimPrefix(cmp.Or(os.Getenv("DOCKER_HOST"), "unix:///var/run/docker.sock"), "unix://")
	proxy := httputil.NewSingleHostReverseProxy(&url.URL{Scheme: "http", Host: "engine"})
	proxy.Transport = &http.Transport{DialContext: func(ctx context.Context, _, _ string) (net.Conn, error) {
		return new(net.Dialer).DialContext(ctx, "unix", engine)
	}}
	proxy.FlushInterval, proxy.ErrorLog = -1, log.New(io.Discard, "", 0)
	proxy.ErrorHandler = func(w http.ResponseWriter, _ *http.Request, err error) { panic(http.ErrAbortHandler) }
	k.handler = http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		k.mu.Lock()
		slow, deny := k.slow, k.deny
		if servedList.MatchString(r.URL.Path) {
			k.looks = append(k.looks, time.Now())
		}
		var told func(*servedSlot) bool
		slot := s.toldIn(r)
		if slot != nil {
			told, k.told = k.told, nil
		}
		k.mu.Unlock()
		time.Sleep(slow)
		switch {
		case deny:
			http.Error(w, "no", http.StatusForbidden)
			return
		case told != nil && !told(slot):
			panic(http.ErrAbortHandler)
		}
		if slot != nil {
			k.mu.Lock()
			k.deeds = append(k.deeds, servedDeed{time.Now(), slot})
			k.mu.Unlock()
		}
		proxy.ServeHTTP(w, r)
	})
	s.socket = k
	s.serve()
	s.Cleanup(func() { k.server.Close() })
	return k
}

// toldIn is the slot whose container a request tells of a new certificate; a test of its configuration is none.
func (s *servedScene) toldIn(r *http.Request) *servedSlot {
	m := servedTold.FindStringSubmatch(r.URL.Path)
	if m == nil || r.Method != http.MethodPost {
		return nil
	}
	body, _ := io.ReadAll(r.Body)
	r.Body = io.NopCloser(bytes.NewReader(body))
	if bytes.Contains(body, []byte(`"-t"`)) {
		return nil
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.ids[m[1]]
}

func (s *servedScene) serve() {
	os.Remove(s.socket.path)
	listener, err := net.Listen("unix", s.socket.path)
	if err != nil {
		s.Fatal(err)
	}
	s.socket.server = &http.Server{Handler: s.socket.handler}
	go s.socket.server.Serve(listener)
}

func (k *servedSocket) set(slow time.Duration, deny bool) {
	k.mu.Lock()
	defer k.mu.Unlock()
	k.slow, k.deny = slow, deny
}

func (k *servedSocket) onTold(do func(*servedSlot) bool) {
	k.mu.Lock()
	defer k.mu.Unlock()
	k.told = do
}

// trouble begins a time in which what a slot serves is not to be relied on.
func (slot *servedSlot) trouble() (over func()) {
	slot.mu.Lock()
	defer slot.mu.Unlock()
	i := len(slot.troubles)
	slot.troubles = append(slot.troubles, servedSpan{begin: time.Now()})
	return func() {
		slot.mu.Lock()
		defer slot.mu.Unlock()
		slot.troubles[i].end = time.Now()
	}
}
