package socketproxy

import (
	"context"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"net"
	"os"
	"path/filepath"
	"reflect"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/sidecert/sidecert/internal/cert"
	"github.com/sidecert/sidecert/internal/docker"
	"github.com/sidecert/sidecert/internal/docker/dockertest"
	"github.com/sidecert/sidecert/internal/docker/enginetest"
	"github.com/sidecert/sidecert/internal/reload"
)

func names(all []docker.Container) string {
	var names []string
	for _, c := range all {
		_, name, _ := strings.Cut(strings.TrimPrefix(c.Name, "sidecert-test-"), "-")
		names = append(names, name)
	}
	return strings.Join(names, " ")
}

// TestListHasTheAllowedAndSidecert has containers of two projects, named by service, label and project, and marked by labels.
func TestListHasTheAllowedAndSidecert(t *testing.T) {
	t.Parallel()
	s := newStage(t, "nginx:1", "golang:1.26")
	b := s.Project + "b"
	idle := []string{"--", "sleep", "1000"}
	own := s.run(t, s.Project, "socket-proxy", "golang:1.26", idle...)
	self := s.run(t, s.Project, "sidecert", "golang:1.26", idle...)
	s.run(t, s.Project, "web", "nginx:1", "--publish", "127.0.0.1::80", "--volume", "/etc:/etc/host:ro", "--stop-signal", "SIGWINCH", "--restart", "always")
	s.run(t, s.Project, "marked", "nginx:1", "--label", "sidecert.domains=a.test")
	s.run(t, s.Project, "labelled", "nginx:1", "--label", "tls=on")
	s.run(t, s.Project, "db", "nginx:1")
	s.run(t, s.Project, "down", "nginx:1", "--label", "sidecert.reload=HUP")
	s.Docker(t, "stop", "--time", "1", s.Project+"-down-1")
	s.run(t, b, "web", "nginx:1")
	s.run(t, b, "marked", "nginx:1", "--label", "sidecert.reload")
	s.run(t, b, "sidecert", "golang:1.26", idle...)
	oneOff := s.run(t, s.Project, "sidecert-run", "golang:1.26", "--label", "com.docker.compose.oneoff=True", "--", "sleep", "1000")
	s.proxy(t, own, reload.DiscoverProject, cert.Target{Word: "web"}, cert.Target{Label: "tls=on"}, cert.Target{Project: b, Word: "web"})
	e := s.through(t)
	for _, tt := range []struct {
		filter docker.Filter
		want   string
	}{
		{docker.Filter{}, "down-1 labelled-1 marked-1 sidecert-1 socket-proxy-1 web-1 web-1"},
		{docker.Filter{Project: s.Project}, "down-1 labelled-1 marked-1 sidecert-1 socket-proxy-1 web-1"},
		{docker.Filter{Project: b}, "web-1"},
		{docker.Filter{Project: s.Project, Service: "web"}, "web-1"},
		{docker.Filter{Project: s.Project, Service: "db"}, ""},
		{docker.Filter{Label: "sidecert.domains"}, "marked-1"},
		{docker.Filter{Label: "sidecert.domains=b.test"}, ""},
		{docker.Filter{Label: "tls=on"}, "labelled-1"},
		{docker.Filter{Label: "tls"}, ""}, // RELOAD names tls=on, and nobody may guess
		{docker.Filter{Label: "foreign=" + canary}, ""},
	} {
		all, err := e.List(t.Context(), tt.filter)
		if got := names(all); err != nil || got != tt.want {
			t.Errorf("list of %+v = %q, %v, want %q", tt.filter, got, err, tt.want)
		}
	}
	for _, name := range []string{s.Project + "-web-1", s.Project + "-down-1", self, oneOff, own, b + "-web-1"} {
		direct, err := s.Engine.Inspect(t.Context(), name)
		if err != nil {
			t.Fatal(err)
		}
		direct.EnvNames = nil
		got, err := e.Inspect(t.Context(), name)
		if err != nil || !reflect.DeepEqual(got, direct) {
			t.Errorf("%s through the proxy is\n%+v, %v, want it as it is but for its environment:\n%+v", name, got, err, direct)
		}
	}
	for _, name := range []string{s.Project + "-db-1", b + "-marked-1", b + "-sidecert-1"} {
		if _, err := e.Inspect(t.Context(), name); !errors.Is(err, docker.ErrNotFound) {
			t.Errorf("inspect of %s: %v, want that there is none", name, err)
		}
	}
	for _, name := range []string{self, own} {
		if err := e.Kill(t.Context(), name, "HUP"); !errors.Is(err, docker.ErrNotFound) {
			t.Errorf("HUP to %s, which may be seen only: %v", name, err)
		}
	}
	listed := s.Docker(t, "--host", "unix://"+s.socket, "ps", "--all", "--no-trunc", "--format", "{{.ID}} {{.Names}} {{.Image}} {{.Labels}} {{.Ports}} {{.State}}")
	if strings.Count(listed, "\n") != 6 || !strings.Contains(listed, self) || strings.Contains(listed, canary) {
		t.Errorf("docker ps through the proxy:\n%s", listed)
	}
	if got := s.Docker(t, "--host", "unix://"+s.socket, "inspect", s.Project+"-web-1"); strings.Contains(got, canary) || strings.Contains(got, "Env") {
		t.Errorf("docker inspect through the proxy:\n%s", got)
	}
}

func TestCommandIsRunOnceAndItsWordsComeBack(t *testing.T) {
	t.Parallel()
	s := newStage(t, "nginx:1")
	own := s.run(t, s.Project, "socket-proxy", "nginx:1")
	web := s.run(t, s.Project, "web", "nginx:1")
	s.proxy(t, own, reload.DiscoverOff, cert.Target{Word: "web"})
	e := s.through(t)
	ended, err := e.Exec(t.Context(), web, []string{"nginx", "-t"})
	if err != nil || ended.ExitCode != 0 || !strings.Contains(ended.Output, "test is successful") {
		t.Errorf("Exec() = %+v, %v, want nginx's own words", ended, err)
	}
	s.Docker(t, "exec", web, "sh", "-c", "echo nonsense >/etc/nginx/conf.d/default.conf")
	ended, err = e.Exec(t.Context(), web, []string{"nginx", "-t"})
	if err != nil || ended.ExitCode != 1 || !strings.Contains(ended.Output, "unexpected end of file") {
		t.Errorf("Exec() = %+v, %v, want nginx's complaint", ended, err)
	}
	id, err := e.ExecCreate(t.Context(), web, []string{"nginx", "-t"})
	if err != nil {
		t.Fatal(err)
	}
	if _, ended, err := e.ExecInspect(t.Context(), id); ended || err != nil {
		t.Errorf("a command that was not started has ended: %v, %v", ended, err)
	}
	if _, err := e.ExecStart(t.Context(), id); err != nil {
		t.Error(err)
	}
	if _, err := e.ExecStart(t.Context(), id); !errors.Is(err, docker.ErrNotRunning) {
		t.Errorf("second start: %v, want a conflict", err)
	}
	if _, err := e.Exec(t.Context(), web, []string{"touch", "/hostile"}); !errors.Is(err, docker.ErrForbidden) {
		t.Errorf("another command: %v, want it refused", err)
	}
	s.Docker(t, "stop", "--time", "1", web)
	if _, err := e.Exec(t.Context(), web, []string{"nginx", "-t"}); !errors.Is(err, docker.ErrNotRunning) {
		t.Errorf("in a stopped container: %v", err)
	}
	if err := e.Kill(t.Context(), web, "HUP"); !errors.Is(err, docker.ErrNotRunning) {
		t.Errorf("HUP to a stopped container: %v", err)
	}
	if err := e.Restart(t.Context(), web); err != nil {
		t.Errorf("restart of a stopped container: %v", err)
	}
}

func TestOldestOfTooManyCommandsIsForgotten(t *testing.T) {
	t.Parallel()
	var c commands
	now := time.Now()
	first := c.add(docker.Container{}, nil, now)
	second := c.add(docker.Container{}, nil, now.Add(time.Second))
	for i := range maxCommands - 1 {
		c.add(docker.Container{}, nil, now.Add(time.Duration(i+2)*time.Second))
	}
	if len(c.all) != maxCommands {
		t.Errorf("%d commands are remembered, want %d", len(c.all), maxCommands)
	}
	if _, err := c.start(first, now); !errors.Is(err, errNoCommand) {
		t.Errorf("the oldest is started: %v", err)
	}
	if _, err := c.start(second, now.Add(commandLife+2*time.Second)); !errors.Is(err, errNoCommand) {
		t.Errorf("one that is too old is started: %v", err)
	}
	if _, err := c.start(second, now); err != nil {
		t.Errorf("the second is not started: %v", err)
	}
}

func TestEventsAreThoseOfTheAllowed(t *testing.T) {
	t.Parallel()
	s := newStage(t, "nginx:1")
	own := s.run(t, s.Project, "socket-proxy", "nginx:1")
	web := s.run(t, s.Project, "web", "nginx:1")
	db := s.run(t, s.Project, "db", "nginx:1")
	s.proxy(t, own, reload.DiscoverProject, cert.Target{Word: "web"})
	e := s.through(t)
	ctx, cancel := context.WithCancel(t.Context())
	defer cancel()
	opened, heard, ended := make(chan bool), make(chan docker.Event, 100), make(chan error)
	go func() {
		ended <- e.Events(ctx, time.Time{}, []string{"start", "die"}, func() { close(opened) }, func(e docker.Event) { heard <- e })
	}()
	<-opened
	s.Docker(t, "restart", "--time", "0", db)
	s.Docker(t, "restart", "--time", "0", web)
	later := s.run(t, s.Project, "later", "nginx:1", "--label", "sidecert.reload")
	s.Docker(t, "rm", "--force", s.Project+"-web-1")
	again := s.run(t, s.Project, "web", "nginx:1")
	var got, last []string
	var since time.Time
	for range 5 {
		select {
		case e := <-heard:
			got = append(got, e.Action+" "+e.ID)
			if e.ID == web && e.Action == "start" {
				since = e.At
			}
			if e.Project != s.Project || e.Name == "" {
				t.Errorf("event %+v, want name and project", e)
			}
		case <-time.After(30 * time.Second):
			t.Fatalf("only these were heard: %q", got)
		}
	}
	want := []string{"die " + web, "start " + web, "start " + later, "die " + web, "start " + again}
	if !reflect.DeepEqual(got, want) {
		t.Errorf("heard %q, want %q", got, want)
	}
	cancel()
	if err := <-ended; !errors.Is(err, context.Canceled) {
		t.Errorf("Events() = %v", err)
	}

	ctx, cancel = context.WithCancel(t.Context())
	defer cancel()
	err := e.Events(ctx, since, []string{"start", "die"}, func() {}, func(e docker.Event) {
		if last = append(last, e.Action+" "+e.ID); e.ID == again {
			cancel()
		}
	})
	// The first web is gone, so that nobody knows any more whether RELOAD named it.
	if want := []string{"start " + later, "start " + again}; !reflect.DeepEqual(last, want) {
		t.Errorf("events after a time: %q, %v, want %q", last, err, want)
	}
}

func fakeEngine(t *testing.T, socket string) *dockertest.Engine {
	t.Helper()
	fake, err := dockertest.Start(socket)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { fake.Close() })
	fake.Add(dockertest.Container{Name: "p-web-1", Project: "p", Service: "web", Image: "nginx:1", Command: []string{"nginx"}})
	return fake
}

// pretended is a proxy before an engine that can be made to fail.
func pretended(t *testing.T) (*Proxy, string) {
	t.Helper()
	fake := fakeEngine(t, filepath.Join(t.TempDir(), "engine.sock"))
	engine, err := docker.New(docker.Config{Host: fake.Host()})
	if err != nil {
		t.Fatal(err)
	}
	web := reload.New(reload.Config{Engine: engine, Project: "p", Discover: reload.DiscoverProject})
	p := New(Config{Engine: engine, Select: func(ctx context.Context) (docker.Container, []docker.Container, error) {
		return web.Select(ctx, []cert.Target{{Word: "web"}})
	}})
	socket := filepath.Join(t.TempDir(), "docker.sock")
	l, err := Listen(&net.UnixAddr{Name: socket, Net: "unix"})
	if err != nil {
		t.Fatal(err)
	}
	enginetest.Serve(t, p, l)
	return p, socket
}

func TestStreamsAndConnectionsAreLimited(t *testing.T) {
	t.Parallel()
	_, socket := pretended(t)
	dial := func() net.Conn {
		conn, err := net.Dial("unix", socket)
		if err != nil {
			t.Fatal(err)
		}
		t.Cleanup(func() { conn.Close() })
		conn.SetDeadline(time.Now().Add(20 * time.Second))
		return conn
	}
	status := func(conn net.Conn, target string) string {
		io.WriteString(conn, one("GET", target))
		line := make([]byte, len("HTTP/1.1 200"))
		if _, err := io.ReadFull(conn, line); err != nil {
			t.Fatal(err)
		}
		return string(line[9:])
	}
	var conns []net.Conn
	for range maxStreams {
		conn := dial()
		if got := status(conn, "/events"); got != "200" {
			t.Fatalf("events: %s", got)
		}
		conns = append(conns, conn)
	}
	more := dial()
	if got := status(more, "/events"); got != "503" {
		t.Errorf("one stream too many: %s, want 503", got)
	}
	conns = append(conns, more)
	for len(conns) < maxConns {
		conn := dial()
		if got := status(conn, "/_ping"); got != "200" {
			t.Fatalf("ping: %s", got)
		}
		conns = append(conns, conn)
	}
	extra := dial()
	io.WriteString(extra, one("GET", "/_ping"))
	extra.SetReadDeadline(time.Now().Add(200 * time.Millisecond))
	if n, err := extra.Read(make([]byte, 1)); n > 0 || !os.IsTimeout(err) {
		t.Errorf("one connection too many is answered: %v", err)
	}
	extra.SetReadDeadline(time.Now().Add(20 * time.Second))
	conns[0].Close()
	line := make([]byte, len("HTTP/1.1 200"))
	if _, err := io.ReadFull(extra, line); err != nil || string(line[9:]) != "200" {
		t.Errorf("it is answered %q, %v when another has gone, want 200", line, err)
	}
}

func TestSlowRequestsAreCutOff(t *testing.T) {
	t.Parallel()
	_, socket := pretended(t)
	for what, raw := range map[string]string{
		"half a head":                        "GET /_ping HTTP/1.1\r\nHos",
		"half a body":                        "POST /containers/p-web-1/exec HTTP/1.1\r\nHost: x\r\nContent-Type: application/json\r\nContent-Length: 50\r\n\r\n{",
		"no body of a request that has none": "POST /containers/p-web-1/kill?signal=HUP HTTP/1.1\r\nHost: x\r\nContent-Length: 50\r\n\r\n",
	} {
		conn, err := net.Dial("unix", socket)
		if err != nil {
			t.Fatal(err)
		}
		defer conn.Close()
		io.WriteString(conn, raw)
		conn.SetReadDeadline(time.Now().Add(readLimit + 10*time.Second))
		if _, err := io.ReadAll(conn); err != nil {
			t.Errorf("%s: %v, want the connection ended", what, err)
		}
	}
}

func TestEngineThatIsAwayIsToldAtOnceAndComesBack(t *testing.T) {
	t.Parallel()
	socket := filepath.Join(t.TempDir(), "engine.sock")
	engine, err := docker.New(docker.Config{Host: "unix://" + socket})
	if err != nil {
		t.Fatal(err)
	}
	web := reload.New(reload.Config{Engine: engine, Project: "p", Discover: reload.DiscoverProject})
	p := New(Config{Engine: engine, Select: func(ctx context.Context) (docker.Container, []docker.Container, error) {
		return web.Select(ctx, []cert.Target{{Word: "web"}})
	}})
	at := filepath.Join(t.TempDir(), "docker.sock")
	l, err := Listen(&net.UnixAddr{Name: at, Net: "unix"})
	if err != nil {
		t.Fatal(err)
	}
	enginetest.Serve(t, p, l)
	client, err := docker.New(docker.Config{Host: "unix://" + at})
	if err != nil {
		t.Fatal(err)
	}
	began := time.Now()
	for what, err := range map[string]error{
		"ping":  second(client.Ping(t.Context())),
		"list":  second(client.List(t.Context(), docker.Filter{})),
		"kill":  client.Kill(t.Context(), "p-web-1", "HUP"),
		"event": client.Events(t.Context(), time.Time{}, []string{"start"}, func() {}, func(docker.Event) {}),
	} {
		if !errors.Is(err, docker.ErrUnavailable) {
			t.Errorf("%s: %v, want that the engine does not answer", what, err)
		}
	}
	if took := time.Since(began); took > 2*time.Second {
		t.Errorf("that took %v", took)
	}
	fakeEngine(t, socket)
	if err := client.Kill(t.Context(), "p-web-1", "HUP"); err != nil {
		t.Errorf("HUP when the engine is back: %v", err)
	}
}

func second[T any](_ T, err error) error { return err }

func TestSocketOfAKilledProxyIsTakenOverAndNoOther(t *testing.T) {
	t.Parallel()
	dir := filepath.Join(t.TempDir(), "run", "sidecert")
	path := filepath.Join(dir, "docker.sock")
	at := &net.UnixAddr{Name: path, Net: "unix"}
	l, err := Listen(at)
	if err != nil {
		t.Fatal(err)
	}
	if info, err := os.Stat(path); err != nil || info.Mode() != fs.ModeSocket|0o666 {
		t.Errorf("the socket is %v, %v, want everybody to be let in", info.Mode(), err)
	}
	_, err = Listen(at)
	if failure, ok := errors.AsType[*cert.Error](err); !ok || err.Error() != "listen: another socket proxy listens at "+path || failure.Hint == "" {
		t.Errorf("second proxy: %v", err)
	}
	if conn, err := net.Dial("unix", path); err != nil {
		t.Errorf("the second one has taken the place of the first: %v", err)
	} else {
		conn.Close()
	}
	l.Close()

	stale, err := net.ListenUnix("unix", at) // what a killed one leaves
	if err != nil {
		t.Fatal(err)
	}
	stale.SetUnlinkOnClose(false)
	stale.Close()
	if l, err = Listen(at); err != nil {
		t.Fatalf("after a killed one: %v", err)
	}
	l.Close()

	for what, make := range map[string]func() error{
		"a file":   func() error { return os.WriteFile(path, []byte("precious"), 0o644) },
		"a folder": func() error { return os.Mkdir(path, 0o755) },
		"a link":   func() error { return os.Symlink("/var/run/docker.sock", path) },
		"a FIFO":   func() error { return syscall.Mkfifo(path, 0o644) },
	} {
		if err := make(); err != nil {
			t.Fatal(err)
		}
		if _, err := Listen(at); err == nil || !strings.Contains(err.Error(), "no socket") {
			t.Errorf("in the place of %s: %v", what, err)
		}
		if _, err := os.Lstat(path); err != nil {
			t.Errorf("%s was taken away", what)
		}
		os.Remove(path)
	}
}

func TestTCPIsListenedAtToo(t *testing.T) {
	t.Parallel()
	p, _ := pretended(t)
	l, err := Listen(&net.TCPAddr{IP: net.IPv4(127, 0, 0, 1)})
	if err != nil {
		t.Fatal(err)
	}
	enginetest.Serve(t, p, l)
	client, err := docker.New(docker.Config{Host: "tcp://" + l.Addr().String()})
	if err != nil {
		t.Fatal(err)
	}
	if err := client.Kill(t.Context(), "p-web-1", "HUP"); err != nil {
		t.Errorf("HUP by TCP: %v", err)
	}
	if _, err := Listen(l.Addr()); err == nil || !strings.Contains(fmt.Sprint(err), "in use") {
		t.Errorf("second on one port: %v", err)
	}
}

func TestRefusalsAreLoggedOnceForEachKind(t *testing.T) {
	t.Parallel()
	var o once
	said := 0
	for i := range 10 * maxSaid {
		if o.first(described(request{method: "POST\x1b", target: fmt.Sprintf("/images/%d\x1b/\n", i)})) {
			said++
		}
	}
	if said != 1 {
		t.Errorf("one kind of call was said %d times", said)
	}
	for i := range 10 * maxSaid {
		o.first(fmt.Sprint(i))
	}
	if len(o.said) != maxSaid {
		t.Errorf("%d kinds are remembered, want %d at most", len(o.said), maxSaid)
	}
}
