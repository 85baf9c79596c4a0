package reload

import (
	"context"
	"errors"
	"net"
	"path/filepath"
	"strings"
	"testing"

	"github.com/sidecert/sidecert/internal/cert"
	"github.com/sidecert/sidecert/internal/docker"
	"github.com/sidecert/sidecert/internal/docker/enginetest"
	"github.com/sidecert/sidecert/internal/socketproxy"
)

// behindProxy puts our own socket proxy between the stage and its engine, which lets the targets through.
func (s *stage) behindProxy(t *testing.T, targets ...cert.Target) {
	t.Helper()
	web := New(Config{Engine: s.Engine, Project: s.Project, Discover: DiscoverProject})
	p := socketproxy.New(socketproxy.Config{Engine: s.Engine, Select: func(ctx context.Context) (docker.Container, []docker.Container, error) {
		return web.Select(ctx, targets)
	}})
	socket := filepath.Join(t.TempDir(), "docker.sock")
	l, err := socketproxy.Listen(&net.UnixAddr{Name: socket, Net: "unix"})
	if err != nil {
		t.Fatal(err)
	}
	enginetest.Serve(t, p, l)
	s.through(t, docker.Config{Host: "unix://" + socket})
}

func TestRealServersAreReloadedThroughTheSocketProxy(t *testing.T) {
	for action, policy := range map[string]string{"HUP": "always", "exec nginx -s reload": "unless-stopped"} {
		t.Run("nginx by "+action, func(t *testing.T) {
			s := newStage(t, "nginx:1")
			v1, v2 := issue(t, "a.test"), issue(t, "a.test")
			s.Store(t, v1)
			name := s.nginx(t, "web", 1, "--restart", policy)
			s.up(t, name, v1)
			s.behindProxy(t, auto("web"))
			s.Store(t, v2)
			o := one(t, s.Look(t.Context(), []cert.Kept{keep("a.test", []cert.Bundle{v1, v2}, auto("web"))}), "a.test", name)
			wantClass(t, o, cert.Current)
			if o.Action != action {
				t.Errorf("action = %q, want %q", o.Action, action)
			}
		})
	}
	t.Run("httpd", func(t *testing.T) {
		s := newStage(t, "httpd:2.4")
		v1, v2 := issue(t, "a.test"), issue(t, "a.test")
		s.Store(t, v1)
		name := s.httpd(t)
		s.up(t, name, v1)
		s.behindProxy(t, auto("web"))
		s.Store(t, v2)
		o := one(t, s.Look(t.Context(), []cert.Kept{keep("a.test", []cert.Bundle{v1, v2}, auto("web"))}), "a.test", name)
		wantClass(t, o, cert.Current)
		if o.Action != "exec httpd -k graceful" || o.Err != nil {
			t.Errorf("outcome %+v, want httpd's own graceful restart", o)
		}
	})
	t.Run("haproxy, whose command is not let through", func(t *testing.T) {
		s := newStage(t, "haproxy:lts-alpine")
		v := issue(t, "a.test")
		s.Store(t, v)
		name := s.Start(t, enginetest.Haproxy, "web", 1, "--restart", "unless-stopped")
		s.up(t, name, v)
		s.behindProxy(t, auto("web"))
		c, err := s.Reloader.engine.Inspect(t.Context(), name)
		if err != nil {
			t.Fatal(err)
		}
		f := found{Container: c}
		if d := s.do(t.Context(), f, plan(f, cert.Action{Kind: cert.ActionAuto}, nil)); d.String() != "HUP" || d.err != nil {
			t.Errorf("told by %q, %v, want HUP", d.Action, d.err)
		}
	})
}

func TestRealComplaintsComeThroughTheSocketProxy(t *testing.T) {
	for image, want := range map[string]string{
		"nginx:1":   `unexpected "}" in /etc/nginx/conf.d/default.conf`,
		"httpd:2.4": "Invalid command 'Nonsense'",
	} {
		t.Run(image, func(t *testing.T) {
			s := newStage(t, image)
			v1, v2 := issue(t, "a.test"), issue(t, "a.test")
			s.Store(t, v1)
			start := map[string]func() string{"nginx:1": func() string { return s.nginx(t, "web", 1) }, "httpd:2.4": func() string { return s.httpd(t) }}
			name := start[image]()
			s.up(t, name, v1)
			s.behindProxy(t, auto("web"))
			s.Store(t, v2)
			s.File(t, "nginx.conf", enginetest.NginxConf+"}")
			s.File(t, "httpd.conf", enginetest.HttpdConf+"Nonsense\n")
			o := one(t, s.Look(t.Context(), []cert.Kept{keep("a.test", []cert.Bundle{v1, v2}, auto("web"))}), "a.test", name)
			if o.Class != cert.Stale || o.Err == nil || !strings.Contains(o.Err.Error(), want) {
				t.Errorf("outcome %+v, want stale with the words %q", o, want)
			}
		})
	}
}

func TestRealContainerThatTheSocketProxyDoesNotKnowIsNotFound(t *testing.T) {
	s := newStage(t, "nginx:1")
	v1, v2 := issue(t, "a.test"), issue(t, "a.test")
	s.Store(t, v1)
	web, other := s.nginx(t, "web", 1), s.nginx(t, "other", 1)
	s.up(t, web, v1)
	s.up(t, other, v1)
	s.behindProxy(t, auto("web"))
	s.Store(t, v2)
	for _, named := range []string{"other", other} {
		k := keep("a.test", []cert.Bundle{v1, v2}, signal(named, "HUP"))
		o := one(t, s.Look(t.Context(), []cert.Kept{k}), "a.test", named)
		if o.Class != cert.Unseen || o.Err == nil || !strings.Contains(o.Hint, "has the services web") {
			t.Errorf("outcome %+v, want it not found, and what there is", o)
		}
	}
	if err := s.Reloader.engine.Kill(t.Context(), other, "HUP"); !errors.Is(err, docker.ErrNotFound) {
		t.Errorf("HUP by name: %v", err)
	}
	if got := s.Signals(t, other); got != "" {
		t.Errorf("it was told something: %s", got)
	}
}

func TestRealSocketProxyIsExamined(t *testing.T) {
	s := newStage(t, "nginx:1")
	v := issue(t, "a.test")
	s.Store(t, v)
	name := s.nginx(t, "web", 1)
	s.up(t, name, v)
	s.behindProxy(t, auto("web"))
	all := s.Examine(t.Context(), []cert.Kept{keep("a.test", []cert.Bundle{v}, auto("web"))})
	wantFinding(t, all, cert.Fine, "engine", "A socket proxy answers")
	wantFinding(t, all, cert.Fine, "engine", "GET /containers/json, GET /containers/{id}/json, POST /containers/{id}/kill, POST /containers/{id}/restart, POST /containers/{id}/exec")
	wantFinding(t, all, cert.Fine, "served", name, "a.test")
	for _, f := range all {
		if f.Level == cert.Bad || f.Level == cert.Doubtful || strings.Contains(f.Text, "refuses") {
			t.Errorf("finding %+v, want nothing wrong", f)
		}
	}
	if got := s.Signals(t, name); got != "" {
		t.Errorf("it was told something: %s", got)
	}
}

func TestRealSelectionIsWhatTargetsAndLabelsName(t *testing.T) {
	s := newStage(t, "nginx:1")
	other := s.Project + "b"
	idle := []string{"sleep", "1000"}
	for _, service := range []string{"web", "web", "db"} {
		s.Run(t, service, 1+len(s.Docker(t, "ps", "--quiet", "--filter", "name="+s.Project+"-"+service)), nil, append([]string{"nginx:1"}, idle...)...)
	}
	s.Run(t, "marked", 1, []string{"--label", "sidecert.domains=a.test"}, append([]string{"nginx:1"}, idle...)...)
	s.Run(t, "stranger", 1, []string{"--label", "com.docker.compose.project=" + other, "--label", "sidecert.reload="}, append([]string{"nginx:1"}, idle...)...)
	for _, tt := range []struct {
		discover Discover
		project  string
		want     int
	}{{DiscoverOff, s.Project, 2}, {DiscoverProject, s.Project, 3}, {DiscoverProject, "", 0}} {
		web := New(Config{Engine: s.Engine, Project: tt.project, Discover: tt.discover})
		_, all, err := web.Select(t.Context(), []cert.Target{auto("web"), auto("web"), auto("absent")})
		if err != nil || len(all) != tt.want {
			t.Errorf("Select() with DISCOVER=%s in project %q = %v, %v, want %d containers", tt.discover, tt.project, all, err, tt.want)
		}
	}
	_, all, err := New(Config{Engine: s.Engine, Project: s.Project, Discover: DiscoverAll}).Select(t.Context(), nil)
	if err != nil {
		t.Fatal(err)
	}
	var names []string
	for _, c := range all {
		if strings.HasPrefix(c.Name, s.Project) { // other tests run beside this one
			names = append(names, c.Service)
		}
	}
	if got := strings.Join(names, " "); got != "marked stranger" {
		t.Errorf("Select() with DISCOVER=all has %q of ours, want both that are marked", got)
	}
}
