package reload

import (
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/sidecert/sidecert/internal/cert"
	"github.com/sidecert/sidecert/internal/docker"
	"github.com/sidecert/sidecert/internal/docker/dockertest"
)

func TestServersAreRecognized(t *testing.T) {
	for _, tt := range []struct {
		c    docker.Container
		want string
	}{
		{docker.Container{Image: "nginx:1", Command: []string{"/docker-entrypoint.sh", "nginx", "-g", "daemon off;"}}, "nginx"},
		{docker.Container{Image: "registry:5000/shop/web@sha256:00", Command: []string{"/usr/sbin/nginx"}}, "nginx"},
		{docker.Container{Image: "myshop", EnvNames: []string{"PATH", "NGINX_VERSION"}, Command: []string{"sh", "-c", "run"}}, "nginx"},
		{docker.Container{Image: "nginxinc/nginx-unprivileged:stable", Command: []string{"/start"}}, "nginx"},
		{docker.Container{Image: "nginx/nginx-prometheus-exporter:1", Command: []string{"/usr/bin/nginx-prometheus-exporter"}}, ""},
		{docker.Container{Image: "openresty/openresty:alpine", Command: []string{"/usr/local/openresty/bin/openresty", "-g", "daemon off;"}}, "openresty"},
		{docker.Container{Image: "httpd:2.4", Command: []string{"httpd-foreground"}}, "httpd"},
		{docker.Container{Image: "php:8-apache", Command: []string{"docker-php-entrypoint", "apache2-foreground"}}, "httpd"},
		{docker.Container{Image: "haproxy:lts-alpine", Command: []string{"docker-entrypoint.sh", "haproxy", "-f", "/x.cfg"}}, "haproxy"},
		{docker.Container{Image: "caddy:2", Command: []string{"caddy", "run"}}, ""},
	} {
		if got := serverIn(tt.c).name; got != tt.want {
			t.Errorf("%s %v is taken for %q, want %q", tt.c.Image, tt.c.Command, got, tt.want)
		}
	}
}

// TestAutoDoesWhatTheServerSurvives has a stale server of each kind; whatever is done makes it serve the new version.
func TestAutoDoesWhatTheServerSurvives(t *testing.T) {
	for _, tt := range []struct {
		name    string
		change  func(*dockertest.Container)
		forbid  string
		noHTTPD bool
		want    []string
		hint    string
	}{
		{"nginx", func(c *dockertest.Container) {}, "", false, []string{"kill p-web-1 HUP"}, ""},
		{"nginx that a signal would keep from starting after a reboot", func(c *dockertest.Container) { c.RestartPolicy = "unless-stopped" }, "", false, []string{"exec p-web-1 nginx -s reload"}, "restart: always"},
		{"nginx that a signal would keep from starting after a crash", func(c *dockertest.Container) { c.StopSignal = "none" }, "", false, []string{"exec p-web-1 nginx -s reload"}, "stop_signal"},
		{"nginx that nobody starts again anyway", func(c *dockertest.Container) { c.StopSignal, c.RestartPolicy = "none", "no" }, "", false, []string{"kill p-web-1 HUP"}, ""},
		{"unless-stopped where commands are forbidden", func(c *dockertest.Container) { c.RestartPolicy = "unless-stopped" }, "POST /containers/{id}/exec", false, []string{"kill p-web-1 HUP"}, "restart: always"},
		{"httpd", func(c *dockertest.Container) { c.Image, c.Command = "httpd:2.4", []string{"httpd-foreground"} }, "", false, []string{"exec p-web-1 httpd -k graceful"}, ""},
		{"httpd of a distribution", func(c *dockertest.Container) { c.Image, c.Command = "php:8-apache", []string{"apache2-foreground"} }, "", true, []string{"exec p-web-1 httpd -k graceful", "exec p-web-1 apachectl -k graceful"}, ""},
		{"httpd where commands are forbidden", func(c *dockertest.Container) { c.Image, c.Command = "httpd:2.4", []string{"httpd-foreground"} }, "POST /containers/{id}/exec", false, []string{"kill p-web-1 USR1"}, "broken: allow POST /containers/{id}/exec in"},
		{"httpd where commands are forbidden at their start", func(c *dockertest.Container) { c.Image, c.Command = "httpd:2.4", []string{"httpd-foreground"} }, "POST /exec/{id}/start", false, []string{"exec p-web-1 httpd -k graceful", "exec p-web-1 apachectl -k graceful", "kill p-web-1 USR1"}, "broken: allow POST /exec/{id}/start in"},
		{"haproxy", func(c *dockertest.Container) { c.Image, c.Command = "haproxy:lts", []string{"haproxy"} }, "", false, []string{"kill p-web-1 HUP"}, ""},
		{"anything else", func(c *dockertest.Container) { c.Image, c.Command = "caddy:2", []string{"caddy"} }, "", false, []string{"restart p-web-1"}, ""},
	} {
		t.Run(tt.name, func(t *testing.T) {
			b := newBench(t)
			v1, v2 := issue(t, "a.test"), issue(t, "a.test")
			s := newSite(t, v1)
			c := s.nginx("web")
			tt.change(&c)
			b.engine.Add(c)
			b.engine.Forbid(tt.forbid)
			b.onSignal(func() { s.set("", v2) })
			b.engine.OnRestart(func(string) { s.set("", v2) })
			b.engine.OnExec(func(_ string, command []string) int {
				if tt.noHTTPD && command[0] == "httpd" {
					return 127
				}
				s.set("", v2)
				return 0
			})
			o := one(t, b.Look(t.Context(), []cert.Kept{keep("a.test", []cert.Bundle{v1, v2}, auto("web"))}), "a.test", "p-web-1")
			wantClass(t, o, cert.Current)
			if o.Err != nil || !strings.Contains(o.Hint, tt.hint) || tt.hint == "" && o.Hint != "" {
				t.Errorf("err %v, hint %q; want a hint with %q", o.Err, o.Hint, tt.hint)
			}
			b.wantDeeds(t, tt.want...)
		})
	}
}

func TestFailedCommandIsAnErrorWithTheCheckToRun(t *testing.T) {
	b := newBench(t)
	v1, v2 := issue(t, "a.test"), issue(t, "a.test")
	b.engine.Add(newSite(t, v1).httpd("web"))
	b.engine.OnExec(func(string, []string) int { return 1 })
	b.engine.Say("AH00526: Syntax error\x1b[31m\n on line 7\n")
	k := keep("a.test", []cert.Bundle{v1, v2}, auto("web"))
	k.Spec.Reload.Fallback = restart
	l := b.Look(t.Context(), []cert.Kept{k})
	o := one(t, l, "a.test", "p-web-1")
	wantClass(t, o, cert.Stale)
	if o.Err == nil || !strings.Contains(o.Err.Error(), "exit code 1: AH00526: Syntax error [31m on line 7") || !strings.Contains(o.Hint, "docker compose exec web httpd -t") {
		t.Errorf("err %v, hint %q; want the exit code, the server's words and the command that shows why", o.Err, o.Hint)
	}
	if l.Next.Sub(b.clock) != 5*time.Second {
		t.Errorf("next in %v, want 5 s", l.Next.Sub(b.clock))
	}
	b.wantDeeds(t, "exec p-web-1 httpd -k graceful") // and no fallback into a configuration that it would not start with
}

func TestRefusedSignalNamesWhatTheProxyMustAllow(t *testing.T) {
	b := newBench(t)
	v1, v2 := issue(t, "a.test"), issue(t, "a.test")
	b.engine.Add(newSite(t, v1).nginx("web"))
	b.engine.Forbid("POST /containers/{id}/kill")
	o := one(t, b.Look(t.Context(), []cert.Kept{keep("a.test", []cert.Bundle{v1, v2}, auto("web"))}), "a.test", "p-web-1")
	if want := "allow POST /containers/{id}/kill in the socket proxy"; o.Err == nil || o.Hint != want {
		t.Errorf("err %v, hint %q; want %q", o.Err, o.Hint, want)
	}
}

func TestRefusedSignalToAForeignServerStaysPendingOverLooksInBetween(t *testing.T) {
	b := newBench(t)
	v := issue(t, "a.test")
	b.engine.Add(newSite(t, issue(t, "x.test")).nginx("web"))
	b.engine.Forbid("POST /containers/{id}/kill")
	kept := []cert.Kept{keep("a.test", []cert.Bundle{v}, auto("web"))}
	first := b.Look(t.Context(), kept)
	b.clock = b.clock.Add(time.Second)
	if second := b.Look(t.Context(), kept); !second.Next.Equal(first.Next) || first.Next.IsZero() {
		t.Errorf("next = %v and a second later %v, want the same", first.Next, second.Next)
	}
}

func TestContainerThatASignalEndedIsStartedAndRestartedFromThenOn(t *testing.T) {
	b := newBench(t)
	v1, v2, v3 := issue(t, "a.test"), issue(t, "a.test"), issue(t, "a.test")
	s := newSite(t, v1)
	c := s.nginx("web")
	c.Image, c.Command = "shop:1", []string{"tini", "--", "shop"}
	id := b.engine.Add(c)
	b.engine.OnKill(func(string, string) { b.engine.Stop(id, 129) })
	b.engine.OnRestart(func(string) { s.set("", v2) })
	l := b.Look(t.Context(), []cert.Kept{keep("a.test", []cert.Bundle{v1, v2}, signal("web", "HUP"))})
	o := one(t, l, "a.test", "p-web-1")
	if o.Err == nil || !strings.Contains(o.Err.Error(), "HUP ended the container (exit code 129)") || l.Next.IsZero() {
		t.Errorf("outcome %+v, next %v; want what ended it, and another look", o, l.Next)
	}
	b.clock = l.Next
	wantClass(t, one(t, b.Look(t.Context(), []cert.Kept{keep("a.test", []cert.Bundle{v1, v2}, signal("web", "HUP"))}), "a.test", "p-web-1"), cert.Current)
	b.wantDeeds(t, "kill p-web-1 HUP", "restart p-web-1") // which starts what is stopped

	b.restartSidecert(t)
	b.engine.OnRestart(func(string) { s.set("", v3) })
	wantClass(t, one(t, b.Look(t.Context(), []cert.Kept{keep("a.test", []cert.Bundle{v1, v2, v3}, signal("web", "HUP"))}), "a.test", "p-web-1"), cert.Current)
	b.wantDeeds(t, "kill p-web-1 HUP", "restart p-web-1", "restart p-web-1")
}

func TestContainerThatASignalEndedIsToldNoMoreOfTheVersionThatItHasReadSince(t *testing.T) {
	b := newBench(t)
	v := issue(t, "a.test")
	id := b.engine.Add(dockertest.Container{Name: "p-web-1", Project: "p", Service: "web", Ports: map[string][]dockertest.Port{"1/tcp": {{HostPort: "443"}}}})
	b.engine.OnKill(func(string, string) { b.engine.Stop(id, 129) })
	for range 3 {
		b.Look(t.Context(), []cert.Kept{keep("a.test", []cert.Bundle{v}, signal("web", "HUP"))})
		b.clock = b.clock.Add(time.Hour)
	}
	b.wantDeeds(t, "kill p-web-1 HUP", "restart p-web-1")
}

func TestContainerThatEndedWhileWeWereGoneIsStarted(t *testing.T) {
	b := newBench(t)
	v1, v2 := issue(t, "a.test"), issue(t, "a.test")
	s := newSite(t, v1)
	c := s.nginx("web")
	id := b.engine.Add(c)
	kept := []cert.Kept{keep("a.test", []cert.Bundle{v1, v2}, signal("web", "HUP"))}
	views := []*view{{kept: kept[0]}}
	(&task{look: &look{r: b.Reloader, memory: b.memory}, found: found{Container: docker.Container{Name: c.Name}}}).intend(views, kept[0].Spec.Reload.Targets[0].Action)
	b.engine.Stop(id, 129) // the process ends here, before it could see that
	b.restartSidecert(t)
	o := one(t, b.Look(t.Context(), kept), "a.test", "p-web-1")
	if o.Err == nil {
		t.Errorf("outcome %+v, want what ended the container", o)
	}
	b.wantDeeds(t, "restart p-web-1")
}

func TestContainerThatAPersonStoppedIsNotStarted(t *testing.T) {
	b := newBench(t)
	v1, v2 := issue(t, "a.test"), issue(t, "a.test")
	s := newSite(t, v1)
	id := b.engine.Add(s.nginx("web"))
	b.onSignal(func() { s.set("", v2) })
	kept := []cert.Kept{keep("a.test", []cert.Bundle{v1, v2}, auto("web"))}
	b.clock = b.clock.Add(-time.Minute) // it was told a minute before it is stopped
	b.Look(t.Context(), kept)
	b.clock = b.clock.Add(time.Minute)
	b.engine.Stop(id, 0)
	b.Look(t.Context(), kept)
	b.wantDeeds(t, "kill p-web-1 HUP")
}

// TestWhatAPersonDoesSoonAfterASignalIsNotTakenForItsHarm has Compose make the container anew too, which stops and renames it first.
func TestWhatAPersonDoesSoonAfterASignalIsNotTakenForItsHarm(t *testing.T) {
	for _, tt := range []struct {
		name     string
		events   []string
		restarts bool
	}{{"stop", []string{"stop"}, false}, {"made anew", []string{"stop", "rename"}, false}, {"restart", []string{"stop", "start"}, true}} {
		t.Run(tt.name, func(t *testing.T) {
			b := newBench(t)
			b.pace.grace = time.Second // as it is; the events come within
			b.settle = 3 * time.Second
			b.pace.settle = b.settle
			v1, v2 := issue(t, "a.test"), issue(t, "a.test")
			web := newSite(t, v1).nginx("web")
			web.ID = b.engine.Add(web)
			_, listens := b.watched(t)
			listens(1)
			b.onSignal(func() {
				b.engine.Stop(web.ID, 0)
				if tt.restarts {
					web.StartedAt = time.Now()
					b.engine.Add(web)
				}
				for _, event := range tt.events {
					b.engine.Tell(event, "p-web-1")
				}
			})
			kept := []cert.Kept{keep("a.test", []cert.Bundle{v1, v2}, auto("web"))}
			o := one(t, b.Look(t.Context(), kept), "a.test", "p-web-1")
			if o.Class != cert.Unseen || o.Err != nil {
				t.Errorf("outcome %+v, want it unseen and no failure", o)
			}
			if !tt.restarts {
				b.Look(t.Context(), kept)
			}
			b.wantDeeds(t, "kill p-web-1 HUP")
			if state, err := b.memory.Target("p-web-1"); err != nil || len(state.Unsafe) > 0 {
				t.Errorf("remembered as unsafe: %v, %v", state.Unsafe, err)
			}
		})
	}
}

// TestRestartThatTheContainerDoesNotSurviveIsReported has one that stays down, and one that its policy starts again and again, of which
// the engine tells no exit code then.
func TestRestartThatTheContainerDoesNotSurviveIsReported(t *testing.T) {
	for want, again := range map[string]bool{"the container does not run after a restart (exit code 1)": false, "the container does not run after a restart": true} {
		t.Run(want, func(t *testing.T) {
			b := newBench(t)
			v1, v2 := issue(t, "a.test"), issue(t, "a.test")
			c := newSite(t, v1).nginx("web")
			c.Image, c.Command = "caddy:2", []string{"caddy"}
			id := b.engine.Add(c)
			b.engine.OnRestart(func(string) {
				if !again {
					b.engine.Stop(id, 1)
					return
				}
				c.ID, c.Ports = id, map[string][]dockertest.Port{"1/tcp": {{HostPort: "443"}}} // where nobody listens
				time.AfterFunc(200*time.Millisecond, func() {
					c.StartedAt = time.Now()
					b.engine.Add(c)
				})
			})
			o := one(t, b.Look(t.Context(), []cert.Kept{keep("a.test", []cert.Bundle{v1, v2}, auto("web"))}), "a.test", "p-web-1")
			if o.Class != cert.Unseen || o.Err == nil || o.Err.Error() != want || !strings.Contains(o.Hint, "docker compose logs web") {
				t.Errorf("outcome %+v, want unseen with %q and where to read why", o, want)
			}
		})
	}
}

func TestRestartedContainerIsGivenTheTimeThatItsHealthCheckAsksFor(t *testing.T) {
	for _, tt := range []struct {
		name, becomes string
		serves        bool
		class         cert.Class
		words         string
	}{
		{"comes up late", "healthy", true, cert.Current, ""},
		{"never gets healthy", "unhealthy", false, cert.Unseen, "not healthy after a restart: [emerg] no such database"},
	} {
		t.Run(tt.name, func(t *testing.T) {
			b := newBench(t)
			b.settle = time.Second
			b.restartSidecert(t)
			b.engine.Say("[emerg] no such database")
			v1, v2 := issue(t, "a.test"), issue(t, "a.test")
			s := newSite(t, v1)
			c := s.nginx("web")
			c.Image, c.Command = "caddy:2", []string{"caddy"}
			id := b.engine.Add(c)
			b.engine.OnRestart(func(string) {
				down := c
				down.ID, down.Health, down.StartedAt = id, "starting", time.Now()
				down.Ports = map[string][]dockertest.Port{"1/tcp": {{HostPort: "443"}}} // where nobody listens
				b.engine.Add(down)
				time.AfterFunc(1200*time.Millisecond, func() {
					up := down
					up.Health = tt.becomes
					if tt.serves {
						s.set("", v2)
						up.Ports = c.Ports
					}
					b.engine.Add(up)
				})
			})
			o := one(t, b.Look(t.Context(), []cert.Kept{keep("a.test", []cert.Bundle{v1, v2}, auto("web"))}), "a.test", "p-web-1")
			said := ""
			if o.Err != nil {
				said = o.Err.Error()
			}
			if o.Class != tt.class || (tt.words == "") != (said == "") || !strings.Contains(said, tt.words) {
				t.Errorf("outcome %+v, want %s with %q", o, tt.class, tt.words)
			}
		})
	}
}

func TestContainerThatIsRemovedWhileItIsToldIsFoundAgainLater(t *testing.T) {
	b := newBench(t)
	v1, v2 := issue(t, "a.test"), issue(t, "a.test")
	s := newSite(t, v1)
	id := b.engine.Add(s.nginx("web"))
	b.engine.OnKill(func(string, string) { b.engine.Remove(id) })
	kept := []cert.Kept{keep("a.test", []cert.Bundle{v1, v2}, auto("web"))}
	l := b.Look(t.Context(), kept)
	if o := one(t, l, "a.test", "p-web-1"); o.Class != cert.Unseen || l.Next.IsZero() {
		t.Errorf("outcome %+v, next %v; want unseen and another look", o, l.Next)
	}
	c := s.nginx("web")
	c.ID = strings.Repeat("a", 64)
	b.engine.Add(c)
	b.onSignal(func() { s.set("", v2) })
	wantClass(t, one(t, b.Look(t.Context(), kept), "a.test", "p-web-1"), cert.Current)
}

func TestUnsafeActionsAreForgottenWithTheImage(t *testing.T) {
	hup := cert.Action{Kind: cert.ActionSignal, Signal: "HUP"}
	f := found{Container: docker.Container{Image: "shop:1"}}
	unsafe := map[string]string{unsafeKey(f, hup): "ended"}
	if got := plan(f, hup, unsafe); !slices.EqualFunc(got, []cert.Action{restart}, func(a, b cert.Action) bool { return a.String() == b.String() }) {
		t.Errorf("plan for the image that HUP ended = %v, want restart", got)
	}
	f.Image = "shop:2"
	if got := plan(f, hup, unsafe); got[0].String() != "HUP" {
		t.Errorf("plan for another image = %v, want HUP", got)
	}
}
