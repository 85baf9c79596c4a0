package docker_test

import (
	"context"
	"errors"
	"io"
	"net"
	"net/http"
	"net/http/httptest"
	"net/netip"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"testing"
	"time"

	"github.com/sidecert/sidecert/internal/docker"
	"github.com/sidecert/sidecert/internal/docker/dockertest"
)

// fake returns a fake engine and a client of it.
func fake(t *testing.T) (*dockertest.Engine, *docker.Engine) {
	t.Helper()
	f, err := dockertest.Start(filepath.Join(t.TempDir(), "docker.sock"))
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { f.Close() })
	return f, client(t, docker.Config{Host: f.Host()})
}

func client(t *testing.T, c docker.Config) *docker.Engine {
	t.Helper()
	e, err := docker.New(c)
	if err != nil {
		t.Fatal(err)
	}
	return e
}

func TestVersionIsTheEnginesWhenItIsOlderThanOurs(t *testing.T) {
	_, e := fake(t)
	got, err := e.Ping(t.Context())
	if err != nil || got != "1.41" {
		t.Errorf("Ping() = %q, %v, want 1.41", got, err)
	}
}

func TestEnginesAreSpokenToWhateverTheirVersions(t *testing.T) {
	for _, tt := range []struct {
		name, min, max string
		pingRefused    bool
	}{
		{"engine 20.10", "1.12", "1.41", false},
		{"engine 20.10 behind a proxy that refuses the ping", "1.12", "1.41", true},
		{"engine 29.0, which speaks nothing older than 1.44", "1.44", "1.52", false},
		{"an engine newer than the library knows", "1.55", "1.60", false},
	} {
		t.Run(tt.name, func(t *testing.T) {
			f, e := fake(t)
			f.Versions(tt.min, tt.max)
			if tt.pingRefused {
				f.Forbid("HEAD /_ping", "GET /_ping")
			}
			f.Add(dockertest.Container{Name: "web"})
			if _, err := e.List(t.Context(), docker.Filter{}); err != nil {
				t.Errorf("List() failed: %v", err)
			}
			if _, err := e.Inspect(t.Context(), "web"); err != nil {
				t.Errorf("Inspect() after List() failed: %v", err)
			}
		})
	}
}

func TestEngineReplacedByAnOlderOneIsSpokenToAgain(t *testing.T) {
	f, e := fake(t)
	f.Versions("1.24", "1.45")
	if _, err := e.List(t.Context(), docker.Filter{}); err != nil {
		t.Fatal(err)
	}
	f.Versions("1.24", "1.41")
	if _, err := e.List(t.Context(), docker.Filter{}); err != nil {
		t.Errorf("List() after the engine was replaced: %v", err)
	}
}

func TestVersionOfAPersonsChoiceIsNotNegotiated(t *testing.T) {
	f, _ := fake(t)
	e := client(t, docker.Config{Host: f.Host(), APIVersion: "1.51"})
	if _, err := e.List(t.Context(), docker.Filter{}); err == nil || !strings.Contains(err.Error(), "Maximum supported API version is 1.41") {
		t.Errorf("List() error = %v, want the engine's refusal of 1.51", err)
	}
}

func TestListLeavesOutOneOffContainersAndHasStoppedOnes(t *testing.T) {
	f, e := fake(t)
	f.Add(dockertest.Container{Name: "p-web-2", Project: "p", Service: "web", Status: "exited"})
	f.Add(dockertest.Container{Name: "p-web-1", Project: "p", Service: "web"})
	f.Add(dockertest.Container{Name: "p-web-run-1", Project: "p", Service: "web", Labels: map[string]string{"com.docker.compose.oneoff": "True"}})
	f.Add(dockertest.Container{Name: "q-web-1", Project: "q", Service: "web"})
	f.Add(dockertest.Container{Name: "p-mail-1", Project: "p", Service: "mail", Labels: map[string]string{"tls": "yes"}})
	for _, tt := range []struct {
		filter docker.Filter
		want   []string
	}{
		{docker.Filter{Project: "p", Service: "web"}, []string{"p-web-1", "p-web-2"}},
		{docker.Filter{Project: "p"}, []string{"p-mail-1", "p-web-1", "p-web-2"}},
		{docker.Filter{Label: "tls"}, []string{"p-mail-1"}},
		{docker.Filter{Label: "tls=no"}, nil},
	} {
		list, err := e.List(t.Context(), tt.filter)
		if err != nil {
			t.Fatal(err)
		}
		var got []string
		for _, c := range list {
			got = append(got, c.Name)
		}
		if !slices.Equal(got, tt.want) {
			t.Errorf("List(%+v) = %v, want %v", tt.filter, got, tt.want)
		}
	}
}

func TestInspectKeepsNoValuesOfTheEnvironment(t *testing.T) {
	f, e := fake(t)
	f.Add(dockertest.Container{
		Name: "web", Image: "nginx:1", Command: []string{"/entry", "nginx"}, Env: []string{"DB_PASSWORD=secret", "NGINX_VERSION=1", "TAKEN_AWAY"},
		RestartPolicy: "always", Ports: map[string][]dockertest.Port{"8443/tcp": {{HostIP: "0.0.0.0", HostPort: "443"}}, "53/udp": {{HostPort: "53"}}},
		Networks: map[string]string{"front": "10.1.2.3", "six": "fd00::3"}, Gateway: "10.1.2.1",
	})
	c, err := e.Inspect(t.Context(), "web")
	if err != nil {
		t.Fatal(err)
	}
	if want := []string{"DB_PASSWORD", "NGINX_VERSION"}; !slices.Equal(c.EnvNames, want) {
		t.Errorf("EnvNames = %v, want %v", c.EnvNames, want)
	}
	if want := []docker.Port{{Container: 8443, Host: 443, HostIP: netip.IPv4Unspecified()}}; !slices.Equal(c.Ports, want) {
		t.Errorf("Ports = %v, want %v", c.Ports, want)
	}
	if got := c.Networks["front"].Addrs; !slices.Equal(got, []netip.Addr{netip.MustParseAddr("10.1.2.3")}) {
		t.Errorf("address in front = %v, want 10.1.2.3", got)
	}
	if got := c.Networks["six"].Addrs; !slices.Equal(got, []netip.Addr{netip.MustParseAddr("fd00::3")}) {
		t.Errorf("address in six = %v, want fd00::3", got)
	}
	if c.Name != "web" || c.Image != "nginx:1" || c.RestartPolicy != "always" || !c.State.Running() || c.State.StartedAt.IsZero() {
		t.Errorf("Inspect() = %+v", c)
	}
}

func TestErrorsSayWhatTheyAre(t *testing.T) {
	f, e := fake(t)
	f.Add(dockertest.Container{Name: "web"})
	f.Add(dockertest.Container{Name: "off", Status: "exited"})
	f.Forbid("POST /containers/{id}/restart")
	_, missing := e.Inspect(t.Context(), "nobody")
	_, execOff := e.Exec(t.Context(), "off", []string{"true"})
	for _, tt := range []struct {
		name  string
		err   error
		want  error
		words string
	}{
		{"unknown name", missing, docker.ErrNotFound, "nobody"},
		{"signal to a stopped container", e.Kill(t.Context(), "off", "HUP"), docker.ErrNotRunning, "POST /containers/{id}/kill"},
		{"command in a stopped container", execOff, docker.ErrNotRunning, "POST /containers/{id}/exec"},
		{"refused by a proxy", e.Restart(t.Context(), "web"), docker.ErrForbidden, "POST /containers/{id}/restart"},
	} {
		if !errors.Is(tt.err, tt.want) || !strings.Contains(tt.err.Error(), tt.words) {
			t.Errorf("%s: error = %v, want %v with %q", tt.name, tt.err, tt.want, tt.words)
		}
	}
}

func TestEmptySignalIsNeverSent(t *testing.T) {
	f, e := fake(t)
	f.Add(dockertest.Container{Name: "web"})
	if err := e.Kill(t.Context(), "web", ""); err == nil {
		t.Error("Kill with an empty signal succeeded, which the engine takes for KILL")
	}
	if got := f.Deeds(); len(got) != 0 {
		t.Errorf("deeds = %v, want none", got)
	}
}

func TestExitCodeAndEndOfTheOutputOfACommandAreReturned(t *testing.T) {
	f, e := fake(t)
	f.Add(dockertest.Container{Name: "web"})
	f.OnExec(func(string, []string) int { return 3 })
	f.Say(strings.Repeat("x", 9<<20) + "the reason")
	ended, err := e.Exec(t.Context(), "web", []string{"nginx", "-t"})
	if ended.ExitCode != 3 || err != nil || len(ended.Output) > 4<<10 {
		t.Errorf("Exec() = %d with %d bytes, %v, want 3 with 4 KiB at most", ended.ExitCode, len(ended.Output), err)
	}
	f.Say("the reason")
	if ended, err := e.Exec(t.Context(), "web", []string{"nginx", "-t"}); ended.Output != "the reason" || err != nil {
		t.Errorf("Exec() = %+v, %v, want its output", ended, err)
	}
}

func TestLogIsItsEndAndCutOff(t *testing.T) {
	f, e := fake(t)
	f.Add(dockertest.Container{Name: "web"})
	f.Say(strings.Repeat("x", 5000) + "the reason")
	said, err := e.Logs(t.Context(), "web", time.Now())
	if err != nil || len(said) != 4<<10 || !strings.HasSuffix(said, "the reason") {
		t.Errorf("Logs() = %d bytes, %v, want the last 4 KiB", len(said), err)
	}
}

func TestEventsAreToldUntilTheStreamIsCut(t *testing.T) {
	f, e := fake(t)
	f.Add(dockertest.Container{Name: "p-web-1", Project: "p", Service: "web", Labels: map[string]string{"sidecert.reload": "", "secret": "x"}})
	after := time.Now()
	opened := make(chan struct{})
	heard := make(chan docker.Event, 1)
	ended := make(chan error, 1)
	go func() {
		ended <- e.Events(t.Context(), after, []string{"start"}, func() { close(opened) }, func(ev docker.Event) { heard <- ev })
	}()
	<-opened
	f.Tell("start", "p-web-1")
	ev := <-heard
	_, labelled := ev.Labels["sidecert.reload"]
	if ev.Action != "start" || ev.Name != "p-web-1" || ev.Project != "p" || ev.Service != "web" || !ev.At.After(after) || !labelled || len(ev.Labels) != 1 {
		t.Errorf("heard %+v, want the start of p-web-1 with our label alone", ev)
	}
	f.CutEvents()
	if err := <-ended; err == nil || t.Context().Err() != nil {
		t.Errorf("Events() = %v after the stream was cut, want an error", err)
	}
	if got := f.Listened(); len(got) != 1 || !strings.HasPrefix(got[0], strconv.FormatInt(after.Unix(), 10)+".") {
		t.Errorf("events were asked for since %q, want %v", got, after)
	}
}

func TestStreamOfEventsHasNoLimitButItsLines(t *testing.T) {
	line := `{"Type":"container","Action":"start","timeNano":1,"Actor":{"ID":"a"},"x":"` + strings.Repeat("x", 1<<20) + `"}` + "\n"
	for name, tt := range map[string]struct {
		lines, want int
	}{"many": {20, 20}, "endless": {0, 0}} {
		srv := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
			w.Header().Set("Api-Version", "1.41")
			w.Header().Set("Content-Type", "application/json")
			if !strings.HasSuffix(r.URL.Path, "/events") {
				return
			}
			for range tt.lines {
				io.WriteString(w, line)
			}
			if tt.lines == 0 {
				io.WriteString(w, `{"x":"`+strings.Repeat("x", 9<<20))
			}
		}))
		var got int
		err := client(t, docker.Config{Host: "tcp://" + srv.Listener.Addr().String()}).Events(t.Context(), time.Time{}, nil, func() {}, func(docker.Event) { got++ })
		if got != tt.want || err == nil || (tt.lines == 0) != strings.Contains(err.Error(), "larger than 8 MiB") {
			t.Errorf("%s: %d events, error %v, want %d", name, got, err, tt.want)
		}
		srv.Close()
	}
}

func TestHugeAnswerIsCutOff(t *testing.T) {
	f, e := fake(t)
	f.Add(dockertest.Container{Name: "web", Labels: map[string]string{"big": strings.Repeat("x", 9<<20)}})
	if _, err := e.List(t.Context(), docker.Filter{}); err == nil || !strings.Contains(err.Error(), "larger than 8 MiB") {
		t.Errorf("List() error = %v, want one about 8 MiB", err)
	}
}

func TestMissingSocketComesWithTheLineToAdd(t *testing.T) {
	socket := filepath.Join(t.TempDir(), "docker.sock")
	e := client(t, docker.Config{Host: "unix://" + socket})
	_, err := e.List(t.Context(), docker.Filter{})
	if !errors.Is(err, docker.ErrUnavailable) {
		t.Fatalf("List() error = %v, want ErrUnavailable", err)
	}
	if advice := e.Advice(err); !strings.Contains(advice, "volumes: ["+socket) {
		t.Errorf("Advice() = %q, want the volume to mount", advice)
	}
}

func TestFolderInPlaceOfTheSocketIsNamed(t *testing.T) {
	e := client(t, docker.Config{Host: "unix://" + t.TempDir()})
	_, err := e.List(t.Context(), docker.Filter{})
	if advice := e.Advice(err); !strings.Contains(advice, "is no socket") {
		t.Errorf("Advice(%v) = %q, want that a folder was mounted", err, advice)
	}
}

func TestEndOfTheCallersContextIsNoFailureOfTheEngine(t *testing.T) {
	_, e := fake(t)
	ctx, cancel := context.WithCancel(t.Context())
	cancel()
	_, err := e.List(ctx, docker.Filter{})
	if !errors.Is(err, context.Canceled) || errors.Is(err, docker.ErrUnavailable) {
		t.Errorf("List() error = %v, want context.Canceled alone", err)
	}
}

func TestEngineIsReachedByTCP(t *testing.T) {
	f, _ := fake(t)
	f.Add(dockertest.Container{Name: "web"})
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	srv := &http.Server{Handler: f, ReadHeaderTimeout: time.Second}
	go srv.Serve(l)
	defer srv.Close()
	e := client(t, docker.Config{Host: "tcp://" + l.Addr().String()})
	if _, err := e.Inspect(t.Context(), "web"); err != nil {
		t.Errorf("Inspect() by TCP: %v", err)
	}
}

func TestEngineIsReachedByTLSWithAClientCertificate(t *testing.T) {
	f, _ := fake(t)
	f.Add(dockertest.Container{Name: "web"})
	dir, config := mutualTLS(t)
	srv := httptest.NewUnstartedServer(f)
	srv.TLS = config
	srv.StartTLS()
	defer srv.Close()
	host := "tcp://" + srv.Listener.Addr().String()
	e := client(t, docker.Config{Host: host, CertPath: dir, TLSVerify: true})
	if _, err := e.Inspect(t.Context(), "web"); err != nil {
		t.Errorf("Inspect() by TLS: %v", err)
	}
	plain := client(t, docker.Config{Host: host})
	if _, err := plain.Inspect(t.Context(), "web"); err == nil {
		t.Error("Inspect() without TLS succeeded")
	}
}

func TestMistakesInTheAddressAreFoundAtOnce(t *testing.T) {
	for _, c := range []docker.Config{
		{Host: "ssh://root@host"},
		{Host: "docker.sock"},
		{Host: "tcp://127.0.0.1:2376", CertPath: "/nonexistent"},
	} {
		if _, err := docker.New(c); err == nil {
			t.Errorf("New(%+v) succeeded", c)
		}
	}
}

func TestVersionNamesTheEngineUnlessAProxyKeepsItBack(t *testing.T) {
	f, e := fake(t)
	want := docker.Version{Host: f.Host(), Engine: "20.10.24", API: "1.41"}
	if got, err := e.Version(t.Context()); err != nil || got != want {
		t.Errorf("Version() = %+v, %v, want %+v", got, err, want)
	}
	f.Forbid("GET /version")
	want.Engine = ""
	if got, err := e.Version(t.Context()); err != nil || got != want {
		t.Errorf("Version() behind a proxy = %+v, %v, want %+v", got, err, want)
	}
}

func TestCallsInVainTellWhatIsAllowed(t *testing.T) {
	for refused, want := range map[string]error{"": docker.ErrNotFound, "POST /exec/{id}/start": docker.ErrForbidden, "GET /exec/{id}/json": docker.ErrForbidden} {
		f, e := fake(t)
		f.Forbid(refused)
		if err := e.ExecInVain(t.Context(), "nobody"); !errors.Is(err, want) || !strings.Contains(err.Error(), refused) {
			t.Errorf("ExecInVain() with %q refused = %v, want %v", refused, err, want)
		}
	}
}

func TestInspectTellsWhatIsMountedFromWhere(t *testing.T) {
	f, e := fake(t)
	f.Add(dockertest.Container{Name: "web", Mounts: []dockertest.Mount{
		{Type: "volume", Name: "p_certs", Source: "/var/lib/docker/volumes/p_certs/_data", Destination: "/etc/letsencrypt"},
		{Type: "bind", Source: "/srv/www", Destination: "/var/www", RW: true},
	}})
	c, err := e.Inspect(t.Context(), "web")
	want := []docker.Mount{
		{Type: "volume", Name: "p_certs", Source: "/var/lib/docker/volumes/p_certs/_data", Destination: "/etc/letsencrypt", ReadOnly: true},
		{Type: "bind", Source: "/srv/www", Destination: "/var/www"},
	}
	if err != nil || !slices.Equal(c.Mounts, want) {
		t.Errorf("Mounts = %+v, %v, want %+v", c.Mounts, err, want)
	}
}

// TestServerThatIsNoEngineIsSaidToBeNone has DOCKER_HOST lead to web servers of all sorts.
func TestServerThatIsNoEngineIsSaidToBeNone(t *testing.T) {
	for name, handler := range map[string]http.HandlerFunc{
		"404 for everything": http.NotFound,
		"a page for everything": func(w http.ResponseWriter, _ *http.Request) {
			w.Header().Set("Content-Type", "text/html")
			w.Write([]byte("<html>"))
		},
		"redirect to HTTPS": func(w http.ResponseWriter, r *http.Request) {
			http.Redirect(w, r, "https://"+r.Host+r.URL.Path, http.StatusMovedPermanently)
		},
		"HTTP to the HTTPS port": func(w http.ResponseWriter, _ *http.Request) { http.Error(w, "plain HTTP", http.StatusBadRequest) },
		"JSON of its own": func(w http.ResponseWriter, _ *http.Request) {
			w.Header().Set("Content-Type", "application/json")
			w.Write([]byte(`{"status": "ok"}`))
		},
	} {
		t.Run(name, func(t *testing.T) {
			srv := httptest.NewServer(handler)
			defer srv.Close()
			host := "tcp://" + srv.Listener.Addr().String()
			e := client(t, docker.Config{Host: host})
			_, err := e.List(t.Context(), docker.Filter{})
			if !errors.Is(err, docker.ErrUnavailable) || !strings.Contains(err.Error(), "is no Docker engine") {
				t.Errorf("List() error = %v, want that it is no Docker engine", err)
			}
			if advice := e.Advice(err); !strings.Contains(advice, "correct DOCKER_HOST") || !strings.Contains(advice, host) {
				t.Errorf("Advice() = %q, want that DOCKER_HOST is to be corrected", advice)
			}
		})
	}
}

func TestProxysOwnAnswersAreNotTakenForAStrangers(t *testing.T) {
	for status, want := range map[int]error{http.StatusForbidden: docker.ErrForbidden, http.StatusMethodNotAllowed: docker.ErrForbidden, http.StatusServiceUnavailable: docker.ErrUnavailable} {
		srv := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, _ *http.Request) { http.Error(w, "<html>", status) }))
		e := client(t, docker.Config{Host: "tcp://" + srv.Listener.Addr().String()})
		if err := e.Kill(t.Context(), "web", "HUP"); !errors.Is(err, want) || strings.Contains(err.Error(), "no Docker engine") {
			t.Errorf("Kill() answered with %d: error = %v, want %v", status, err, want)
		}
		srv.Close()
	}
}

func TestProxyThatAnswersThePingItselfIsAskedAllTheSame(t *testing.T) {
	f, _ := fake(t)
	f.Add(dockertest.Container{Name: "web"})
	srv := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		if r.URL.Path == "/_ping" {
			http.NotFound(w, r)
			return
		}
		f.ServeHTTP(w, r)
	}))
	defer srv.Close()
	e := client(t, docker.Config{Host: "tcp://" + srv.Listener.Addr().String()})
	if err := e.Kill(t.Context(), "web", "HUP"); err != nil {
		t.Errorf("Kill() through a proxy that knows no ping: %v", err)
	}
}
