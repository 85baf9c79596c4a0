package reload

import (
	"context"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/sidecert/sidecert/internal/cert"
	"github.com/sidecert/sidecert/internal/docker"
	"github.com/sidecert/sidecert/internal/docker/enginetest"
)

// The tests of this file have real web servers in a real Docker engine. They are skipped where there is none, unless CI=true or
// SIDECERT_REQUIRE_DOCKER=1 says that there has to be one.

// stage has a Reloader before its engine.
type stage struct {
	*enginetest.Stage
	*Reloader
	memory *memory
}

func newStage(t *testing.T, images ...string) *stage {
	t.Helper()
	t.Parallel()
	s := &stage{Stage: enginetest.New(t, images...), memory: &memory{files: map[string][]byte{}}}
	s.Reloader = New(Config{Engine: s.Engine, Project: s.Project, Memory: s.memory})
	s.pace.calm = 0 // the containers have just started
	return s
}

// up waits until a container serves a version.
func (s *stage) up(t *testing.T, name string, b cert.Bundle) {
	t.Helper()
	enginetest.Until(t, name+" serves", func() error {
		if class := s.class(t, name, b); class != cert.Current {
			return fmt.Errorf("it is %s; it says:\n%s", class, s.Docker(t, "logs", name))
		}
		return nil
	})
}

// class is how what a container serves stands to a version.
func (s *stage) class(t *testing.T, name string, b cert.Bundle) cert.Class {
	t.Helper()
	c, err := s.Engine.Inspect(t.Context(), name)
	if err != nil {
		t.Fatal(err)
	}
	k := keep("a.test", []cert.Bundle{b})
	return s.see(t.Context(), k, places(docker.Container{}, found{Container: c}, 443), nil).class
}

func (s *stage) nginx(t *testing.T, service string, number int, before ...string) string {
	t.Helper()
	return s.Start(t, enginetest.Nginx, service, number, before...)
}

func TestRealNginxReplicasAllServeTheNewCertificate(t *testing.T) {
	s := newStage(t, "nginx:1")
	v1, v2 := issue(t, "a.test"), issue(t, "a.test")
	s.Store(t, v1)
	var names []string
	for i := range 3 {
		names = append(names, s.nginx(t, "web", i+1))
	}
	for _, name := range names {
		s.up(t, name, v1)
	}
	s.Store(t, v2)
	l := s.Look(t.Context(), []cert.Kept{keep("a.test", []cert.Bundle{v1, v2}, auto("web"))})
	for _, name := range names {
		o := one(t, l, "a.test", name)
		wantClass(t, o, cert.Current)
		if o.Action != "HUP" {
			t.Errorf("%s was told %q, want HUP", name, o.Action)
		}
	}
}

func TestRealNginxWithUnlessStoppedIsReloadedWithoutASignal(t *testing.T) {
	s := newStage(t, "nginx:1")
	v1, v2 := issue(t, "a.test"), issue(t, "a.test")
	s.Store(t, v1)
	name := s.nginx(t, "web", 1, "--restart", "unless-stopped")
	s.up(t, name, v1)
	s.Store(t, v2)
	o := one(t, s.Look(t.Context(), []cert.Kept{keep("a.test", []cert.Bundle{v1, v2}, auto("web"))}), "a.test", name)
	wantClass(t, o, cert.Current)
	if o.Action != "exec nginx -s reload" || !strings.Contains(o.Hint, "restart: always") {
		t.Errorf("action %q, hint %q; want a command and why", o.Action, o.Hint)
	}
	if got := s.Signals(t, name); got != "" {
		t.Errorf("the engine was asked for a signal, so that it would not start the container after a reboot: %s", got)
	}
}

func TestRealNginxThatWasRecreatedIsToldByItsNewID(t *testing.T) {
	s := newStage(t, "nginx:1")
	v1, v2 := issue(t, "a.test"), issue(t, "a.test")
	s.Store(t, v1)
	name := s.nginx(t, "web", 1)
	s.up(t, name, v1)
	wantClass(t, one(t, s.Look(t.Context(), []cert.Kept{keep("a.test", []cert.Bundle{v1}, auto("web"))}), "a.test", name), cert.Current)
	s.Docker(t, "rm", "--force", name)
	s.nginx(t, "web", 1)
	s.up(t, name, v1)
	s.Store(t, v2)
	wantClass(t, one(t, s.Look(t.Context(), []cert.Kept{keep("a.test", []cert.Bundle{v1, v2}, auto("web"))}), "a.test", name), cert.Current)
}

func TestRealNginxBehindAShellIsReportedAsStale(t *testing.T) {
	s := newStage(t, "nginx:1")
	s.pace.settle = 3 * time.Second
	v1, v2 := issue(t, "a.test"), issue(t, "a.test")
	s.Store(t, v1)
	conf := s.File(t, "nginx.conf", enginetest.NginxConf)
	name := s.Run(t, "web", 1, []string{"--volume", conf + ":/etc/nginx/conf.d/default.conf:ro", "--entrypoint", "sh"},
		"nginx:1", "-c", "nginx -g 'daemon off;' & while :; do sleep 1; done")
	s.up(t, name, v1)
	s.Store(t, v2)
	k := keep("a.test", []cert.Bundle{v1, v2}, auto("web"))
	o := one(t, s.Look(t.Context(), []cert.Kept{k}), "a.test", name)
	if o.Class != cert.Stale || o.Err == nil || !strings.Contains(o.Hint, "shell") {
		t.Errorf("outcome %+v, want stale with the shell for a reason", o)
	}

	k.Spec.Reload.Targets[0].Action = cert.Action{Kind: cert.ActionExec, Command: []string{"nginx", "-s", "reload"}} // what the hint says
	s.memory.files = map[string][]byte{}
	wantClass(t, one(t, s.Look(t.Context(), []cert.Kept{k}), "a.test", name), cert.Current)
}

func TestRealNginxWithABrokenConfigurationStaysUp(t *testing.T) {
	s := newStage(t, "nginx:1")
	s.pace.settle = 3 * time.Second
	v1, v2 := issue(t, "a.test"), issue(t, "a.test")
	s.Store(t, v1)
	name := s.nginx(t, "web", 1)
	s.up(t, name, v1)
	s.Store(t, v2)
	s.File(t, "nginx.conf", enginetest.NginxConf+"}")
	k := keep("a.test", []cert.Bundle{v1, v2}, auto("web"))
	k.Spec.Reload.Fallback = restart
	o := one(t, s.Look(t.Context(), []cert.Kept{k}), "a.test", name)
	if o.Class != cert.Stale || o.Err == nil || !strings.Contains(o.Err.Error(), `unexpected "}" in /etc/nginx/conf.d/default.conf`) || !strings.Contains(o.Hint, "nginx -t") {
		t.Errorf("outcome %+v, want stale with nginx's words and the command that shows them", o)
	}
	if got := s.class(t, name, v1); got != cert.Current {
		t.Errorf("the old certificate is %s, want it served still", got)
	}
}

func (s *stage) httpd(t *testing.T) string {
	t.Helper()
	return s.Start(t, enginetest.Httpd, "web", 1)
}

func TestRealHttpdServesTheNewCertificate(t *testing.T) {
	s := newStage(t, "httpd:2.4")
	v1, v2 := issue(t, "a.test"), issue(t, "a.test")
	s.Store(t, v1)
	name := s.httpd(t)
	s.up(t, name, v1)
	s.Store(t, v2)
	o := one(t, s.Look(t.Context(), []cert.Kept{keep("a.test", []cert.Bundle{v1, v2}, auto("web"))}), "a.test", name)
	wantClass(t, o, cert.Current)
	if o.Action != "exec httpd -k graceful" || o.Err != nil {
		t.Errorf("outcome %+v, want httpd's own graceful restart", o)
	}
}

func TestRealHttpdWithABrokenConfigurationStaysUp(t *testing.T) {
	s := newStage(t, "httpd:2.4")
	v1, v2 := issue(t, "a.test"), issue(t, "a.test")
	s.Store(t, v1)
	name := s.httpd(t)
	s.up(t, name, v1)
	s.Store(t, v2)
	s.File(t, "httpd.conf", enginetest.HttpdConf+"Nonsense\n")
	o := one(t, s.Look(t.Context(), []cert.Kept{keep("a.test", []cert.Bundle{v1, v2}, auto("web"))}), "a.test", name)
	if o.Class != cert.Stale || o.Err == nil || !strings.Contains(o.Err.Error(), "Invalid command 'Nonsense'") || !strings.Contains(o.Hint, "httpd -t") {
		t.Errorf("outcome %+v, want stale with the exit code and the command that shows why", o)
	}
	if got := s.class(t, name, v1); got != cert.Current {
		t.Errorf("the old certificate is %s, want it served still", got)
	}
}

func TestRealHaproxyServesTheNewCertificate(t *testing.T) {
	for policy, action := range map[string]string{"always": "HUP", "unless-stopped": "exec sh -c kill -HUP 1"} {
		t.Run(policy, func(t *testing.T) {
			s := newStage(t, "haproxy:lts-alpine")
			v1, v2 := issue(t, "a.test"), issue(t, "a.test")
			s.Store(t, v1)
			name := s.Start(t, enginetest.Haproxy, "web", 1, "--restart", policy)
			s.up(t, name, v1)
			s.Store(t, v2)
			// A haproxy that has just started may answer before its master heeds HUP: what is stale then is told again.
			for end := time.Now().Add(time.Minute); ; time.Sleep(200 * time.Millisecond) {
				o := one(t, s.Look(t.Context(), []cert.Kept{keep("a.test", []cert.Bundle{v1, v2}, auto("web"))}), "a.test", name)
				if o.Action != "" && o.Action != action {
					t.Errorf("action = %q, want %q", o.Action, action)
				}
				if o.Class == cert.Current {
					break
				}
				if time.Now().After(end) {
					t.Fatalf("%s is %s after a minute of looks (%v), want current", name, o.Class, o.Err)
				}
			}
		})
	}
}

// TestRealContainerThatEndsOnHUPIsStartedAndRestartedFromThenOn has one whose restart policy still holds after the signal, since
// its image names a signal for stopping, and one whose policy does not.
func TestRealContainerThatEndsOnHUPIsStartedAndRestartedFromThenOn(t *testing.T) {
	for image, want := range map[string]string{"nginx:1": "HUP ended the container", "golang:1.26": "HUP ended the container (exit code 129)"} {
		t.Run(image, func(t *testing.T) {
			s := newStage(t, image)
			s.pace.settle = 3 * time.Second
			v1, v2 := issue(t, "a.test"), issue(t, "a.test")
			name := s.Run(t, "web", 1, []string{"--init", "--restart", "always", "--entrypoint", "sh"}, image, "-c", "sleep 1000; exit")
			o := one(t, s.Look(t.Context(), []cert.Kept{keep("a.test", []cert.Bundle{v1}, signal("web", "HUP"))}), "a.test", name)
			if o.Err == nil || o.Err.Error() != want {
				t.Errorf("outcome %+v, want %q", o, want)
			}
			c, err := s.Engine.Inspect(t.Context(), name)
			if err != nil || !c.State.Running() {
				t.Errorf("state = %+v, %v, want it running again", c.State, err)
			}
			s.now = func() time.Time { return time.Now().Add(time.Minute) } // past the backoff
			o = one(t, s.Look(t.Context(), []cert.Kept{keep("a.test", []cert.Bundle{v1, v2}, signal("web", "HUP"))}), "a.test", name)
			if o.Action != "restart" {
				t.Errorf("second action = %q, want restart", o.Action)
			}
		})
	}
}

func TestRealCrashAfterASignalIsMendedByThePolicyOnlyWithAStopSignal(t *testing.T) {
	for flag, want := range map[string]bool{"": false, "SIGTERM": true} {
		t.Run("stop signal "+flag, func(t *testing.T) {
			s := newStage(t, "golang:1.26")
			before := []string{"--restart", "always", "--entrypoint", "sh"}
			if flag != "" {
				before = append(before, "--stop-signal", flag)
			}
			name := s.Run(t, "web", 1, before, "golang:1.26", "-c", "trap : HUP; trap 'exit 7' USR2; touch /ready; while :; do sleep 0.1; done")
			for ended := (docker.Ended{ExitCode: 1}); ended.ExitCode != 0; {
				var err error
				if ended, err = s.Engine.Exec(t.Context(), name, []string{"test", "-e", "/ready"}); err != nil {
					t.Fatal(err)
				}
			}
			c, err := s.Engine.Inspect(t.Context(), name)
			if err != nil {
				t.Fatal(err)
			}
			if got := harmOfSignal(c, "HUP") == ""; got != want {
				t.Errorf("harmOfSignal says harmless: %v, want %v", got, want)
			}
			if err := s.Engine.Kill(t.Context(), name, "HUP"); err != nil {
				t.Fatal(err)
			}
			s.Docker(t, "exec", name, "sh", "-c", "kill -USR2 1")
			if got := s.mended(t, name, c.State.StartedAt); got != want {
				t.Errorf("started by its policy after the crash: %v, want %v", got, want)
			}
		})
	}
}

// mended waits until the container has crashed and the engine has had time to start it again, which takes 0.1 s.
func (s *stage) mended(t *testing.T, name string, started time.Time) bool {
	t.Helper()
	ctx, cancel := context.WithTimeout(t.Context(), 3*time.Second)
	defer cancel()
	for ctx.Err() == nil {
		c, err := s.Engine.Inspect(t.Context(), name)
		if err != nil {
			t.Fatal(err)
		}
		if c.State.Running() && !c.State.StartedAt.Equal(started) {
			return true
		}
		select {
		case <-ctx.Done():
		case <-time.After(50 * time.Millisecond):
		}
	}
	return false
}

func TestRealCommandThatIsNotThereHasAShellsExitCode(t *testing.T) {
	s := newStage(t, "nginx:1")
	s.Store(t, issue(t, "a.test"))
	name := s.nginx(t, "web", 1)
	if ended, err := s.Engine.Exec(t.Context(), name, []string{"nosuchcommand"}); err != nil || !docker.NoCommand(ended.ExitCode) {
		t.Errorf("Exec() = %+v, %v, want 126 or 127", ended, err)
	}
}

func TestRealUpstreamIsTheContainersAddress(t *testing.T) {
	s := newStage(t, "nginx:1")
	v := issue(t, "a.test")
	s.Store(t, v)
	name := s.nginx(t, "web", 1)
	s.up(t, name, v)
	c, err := s.Engine.Inspect(t.Context(), name)
	if err != nil {
		t.Fatal(err)
	}
	want := placeOf(shared(docker.Container{}, c), 80)
	got := s.Upstreams(t.Context(), cert.Spec{Reload: cert.Reload{Targets: []cert.Target{auto("web")}}})
	if !slices.Equal(got, want) {
		t.Errorf("Upstreams() = %v, want %v", got, want)
	}
}

func TestRealMountsAndPoliciesAreExamined(t *testing.T) {
	s := newStage(t, "nginx:1")
	v := issue(t, "a.test")
	s.Store(t, v)
	certs, state, webroot := s.Project+"_certs", s.Project+"_state", s.Project+"_webroot"
	t.Cleanup(func() { exec.Command("docker", "volume", "rm", certs, state, webroot).Run() }) // after the containers
	own := s.Run(t, "sidecert", 1, []string{"--volume", certs + ":/etc/letsencrypt", "--volume", state + ":/var/lib/sidecert",
		"--volume", webroot + ":/var/www/certbot", "--entrypoint", "sleep"}, "nginx:1", "1000")
	conf := s.File(t, "nginx.conf", enginetest.NginxConf)
	web := func(service string, before ...string) string {
		name := s.Run(t, service, 1, append([]string{"--volume", conf + ":/etc/nginx/conf.d/default.conf:ro"}, before...), "nginx:1")
		s.up(t, name, v)
		return name
	}
	good := web("good", "--restart", "always", "--volume", certs+":/etc/letsencrypt:ro", "--mount", "type=volume,src="+webroot+",dst=/www,readonly")
	data := s.Docker(t, "volume", "inspect", "--format", "{{.Mountpoint}}", certs)
	bad := web("bad", "--restart", "unless-stopped", "--volume", data+":/certs", "--volume", state+":/state:ro",
		"--mount", "type=bind,src="+filepath.Dir(data)+",dst=/around,readonly")
	none := web("none")

	s.Reloader = New(Config{Engine: asked{housed{s.Engine, own}}, Memory: s.memory, CertDir: "/etc/letsencrypt", StateDir: "/var/lib/sidecert"})
	k := keep("a.test", []cert.Bundle{v}, auto("good"), auto("bad"), auto("none"))
	k.Spec.Webroot = "/var/www/certbot"
	all := s.Examine(t.Context(), []cert.Kept{k})
	for _, want := range []struct {
		level cert.Level
		words []string
	}{
		{cert.Fine, []string{"engine", "Docker engine", "answers"}},
		{cert.Fine, []string{"engine", "POST /containers/{id}/kill", "POST /containers/{id}/exec", "POST /containers/{id}/restart"}},
		{cert.Fine, []string{good, "mounts what it should"}},
		{cert.Fine, []string{good, "HUP"}},
		{cert.Doubtful, []string{bad, "can write", "volumes: [certs:/etc/letsencrypt:ro]"}},
		{cert.Bad, []string{bad, "STATE_DIR as /state"}},
		{cert.Doubtful, []string{bad, "exec nginx -s reload", "restart: always"}},
		{cert.Doubtful, []string{none, `"no"`, "reboot"}},
		{cert.Bad, []string{none, "does not mount the certificates"}},
		{cert.Fine, []string{"served", good, "a.test"}},
	} {
		wantFinding(t, all, want.level, want.words...)
	}
	for _, f := range all {
		if f.About == good && f.Level != cert.Fine {
			t.Errorf("a finding of level %q about the good one: %+v", f.Level, f)
		}
	}
	for _, name := range []string{good, bad, none} {
		if got := s.Signals(t, name); got != "" {
			t.Errorf("%s was told something: %s", name, got)
		}
	}
}

// asked makes the container that stands for ours bear our program's name.
type asked struct{ housed }

func (a asked) Self(ctx context.Context) (docker.Container, error) {
	c, err := a.housed.Self(ctx)
	c.Command = append(c.Command, os.Args[0])
	return c, err
}
