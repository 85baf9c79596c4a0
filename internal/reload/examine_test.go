package reload

import (
	"context"
	"os"
	"slices"
	"strings"
	"testing"

	"github.com/sidecert/sidecert/internal/cert"
	"github.com/sidecert/sidecert/internal/docker"
	"github.com/sidecert/sidecert/internal/docker/dockertest"
)

// housed is an engine for a sidecert that runs in one of its containers.
type housed struct {
	*docker.Engine
	own string
}

func (i housed) Self(ctx context.Context) (docker.Container, error) { return i.Inspect(ctx, i.own) }

// The volumes of a site as everybody has it.
const volumes = "/var/lib/docker/volumes/p_"

func volume(name, at string, rw bool) dockertest.Mount {
	return dockertest.Mount{Type: "volume", Name: "p_" + name, Source: volumes + name + "/_data", Destination: at, RW: rw}
}

func bind(from, at string) dockertest.Mount {
	return dockertest.Mount{Type: "bind", Source: from, Destination: at}
}

// examined is a site with a certificate that its web container serves, all of it as it should be until something is changed.
type examined struct {
	*bench
	kept []cert.Kept
	web  dockertest.Container
}

func newExamined(t *testing.T) *examined {
	t.Helper()
	b := newBench(t)
	v := issue(t, "a.test", "www.a.test")
	e := &examined{bench: b, web: newSite(t, v).nginx("web"), kept: []cert.Kept{keep("a.test", []cert.Bundle{v}, auto("web"))}}
	e.kept[0].Spec.Webroot = "/var/www/certbot"
	e.web.Mounts = []dockertest.Mount{volume("certs", "/etc/letsencrypt", false), volume("webroot", "/var/www/certbot", false)}
	b.engine.Add(dockertest.Container{
		Name: "p-sidecert-1", Project: "p", Service: "sidecert", Command: []string{os.Args[0], "run"},
		Mounts: []dockertest.Mount{volume("certs", "/etc/letsencrypt", true), volume("webroot", "/var/www/certbot", true), volume("state", "/var/lib/sidecert", true)},
	})
	client, err := docker.New(docker.Config{Host: b.engine.Host()})
	if err != nil {
		t.Fatal(err)
	}
	pace := b.pace
	b.Reloader = New(Config{Engine: housed{client, "p-sidecert-1"}, Memory: b.memory, CertDir: "/etc/letsencrypt", StateDir: "/var/lib/sidecert"})
	b.pace = pace
	return e
}

// findings examines the site, and fails if that did anything.
func (e *examined) findings(t *testing.T) []cert.Finding {
	t.Helper()
	e.engine.Add(e.web)
	found := e.Examine(t.Context(), e.kept)
	e.wantDeeds(t)
	if e.memory.sets != 0 {
		t.Error("an examination was remembered")
	}
	return found
}

// wantFinding looks for one of a level with words in its topic, name, text or hint.
func wantFinding(t *testing.T, all []cert.Finding, level cert.Level, words ...string) {
	t.Helper()
	if !slices.ContainsFunc(all, func(f cert.Finding) bool { return f.Level == level && has(f, words...) }) {
		t.Errorf("no finding of level %q with %q among:%s", level, words, printed(all))
	}
}

func has(f cert.Finding, words ...string) bool {
	text := strings.Join([]string{f.Topic, f.About, f.Text, f.Hint}, "|")
	return !slices.ContainsFunc(words, func(w string) bool { return !strings.Contains(text, w) })
}

// wantNothingWorse fails on findings that ask a person to do something.
func wantNothingWorse(t *testing.T, all []cert.Finding, than cert.Level) {
	t.Helper()
	for _, f := range all {
		if f.Level > than {
			t.Errorf("a finding of level %q: %+v", f.Level, f)
		}
	}
}

func printed(all []cert.Finding) string {
	var b strings.Builder
	for _, f := range all {
		b.WriteString("\n" + strings.Join([]string{f.Level.String(), f.Topic, f.About, f.Text, f.Hint}, " | "))
	}
	return b.String()
}

func TestShowTellsNobodyAndRemembersNothing(t *testing.T) {
	b := newBench(t)
	v1, v2 := issue(t, "a.test"), issue(t, "a.test")
	s := newSite(t, v1)
	b.engine.Add(s.nginx("web"))
	gone := s.nginx("gone")
	gone.Status = "exited"
	b.engine.Add(gone)
	k := keep("a.test", []cert.Bundle{v1, v2}, auto("web"), auto("gone"), auto("nobody"))
	k.Spec.Verify.Endpoints = []string{"127.0.0.1:" + s.port}
	l := b.Show(t.Context(), []cert.Kept{k})
	for container, want := range map[string]cert.Class{"p-web-1": cert.Stale, "127.0.0.1:" + s.port: cert.Stale, "p-gone-1": cert.Unseen, "nobody": cert.Unseen} {
		wantClass(t, one(t, l, "a.test", container), want)
	}
	if !l.Next.IsZero() || l.Err != nil {
		t.Errorf("Show asks for another look at %v, err %v", l.Next, l.Err)
	}
	b.wantDeeds(t)
	if b.memory.sets != 0 {
		t.Errorf("Show wrote to the memory %d times", b.memory.sets)
	}
	b.onSignal(func() { s.set("", v2) })
	k.Spec.Verify.Endpoints = nil // a look that has some waits longer
	if o := one(t, b.Look(t.Context(), []cert.Kept{k}), "a.test", "nobody"); !o.Changed {
		t.Error("a look after Show did not call the missing target new")
	}
	b.wantDeeds(t, "kill p-web-1 HUP")
}

func TestSiteThatIsAsItShouldBeHasNothingToMend(t *testing.T) {
	all := newExamined(t).findings(t)
	wantNothingWorse(t, all, cert.Fine)
	wantFinding(t, all, cert.Fine, "engine", "unix://", "Docker engine 20.10.24", "1.41")
	wantFinding(t, all, cert.Fine, "engine", "GET /containers/json", "POST /containers/{id}/kill", "POST /containers/{id}/exec")
	wantFinding(t, all, cert.Fine, "web container", "p-web-1", "HUP", `"auto"`, "nginx")
	wantFinding(t, all, cert.Fine, "web container", "p-web-1", "mounts what it should")
	wantFinding(t, all, cert.Fine, "served", "p-web-1", "a.test")
}

func TestRefusedCallsAreNamedWithWhatTheyAreNeededFor(t *testing.T) {
	const list, inspect = "GET /containers/json", "GET /containers/{id}/json"
	const kill, restarts, execs = "POST /containers/{id}/kill", "POST /containers/{id}/restart", "POST /containers/{id}/exec"
	for _, tt := range []struct {
		name    string
		refused []string
		change  func(*examined)
		level   cert.Level
		words   []string
	}{
		{"kill for nginx", []string{kill}, nil, cert.Bad, []string{kill, "p-web-1", "by nothing else", "allow POST"}},
		{"exec for nginx", []string{execs}, nil, cert.Fine, []string{execs, "not needed"}},
		{"restart for nginx", []string{restarts}, nil, cert.Doubtful, []string{restarts, "stays down"}},
		{"restart for httpd", []string{restarts}, func(e *examined) {
			e.web.Image, e.web.Command, e.kept[0].Spec.Reload.Targets[0].Action = "httpd:2.4", nil, cert.Action{Kind: cert.ActionExec, Command: []string{"true"}}
		}, cert.Fine, []string{restarts, "not needed"}},
		{"restart as the fallback", []string{restarts}, func(e *examined) { e.kept[0].Spec.Reload.Fallback = restart }, cert.Doubtful, []string{restarts, "RELOAD_FALLBACK"}},
		{"restart for what is not known", []string{restarts}, func(e *examined) { e.web.Image, e.web.Command = "caddy", nil }, cert.Bad, []string{restarts, "by nothing else"}},
		{"exec for httpd", []string{execs}, func(e *examined) { e.web.Image, e.web.Command = "httpd:2.4", nil }, cert.Doubtful, []string{execs, "second best"}},
		{"a command's start for httpd", []string{"POST /exec/{id}/start"}, func(e *examined) { e.web.Image, e.web.Command = "httpd:2.4", nil }, cert.Doubtful, []string{"POST /exec/{id}/start", "second best"}},
		{"exec and kill for httpd", []string{execs, kill}, func(e *examined) { e.web.Image, e.web.Command = "httpd:2.4", nil }, cert.Bad, []string{execs, "by nothing else"}},
		{"list", []string{list}, func(e *examined) { e.kept[0].Spec.Reload.Targets = []cert.Target{auto("p-web-1")} }, cert.Doubtful, []string{list, "exact container names"}},
		{"list with a service", []string{list}, nil, cert.Bad, []string{list, "not all web containers"}},
		{"kill and what finds nginx", []string{list, kill}, nil, cert.Unknown, []string{kill, "whether it is needed"}},
		{"list and inspect with auto", []string{list, inspect}, nil, cert.Bad, []string{inspect, "not all web containers"}},
		{"list and inspect with a signal", []string{list, inspect}, func(e *examined) { e.kept[0].Spec.Reload.Targets = []cert.Target{signal("p-web-1", "HUP")} }, cert.Fine, []string{inspect, "told blind"}},
		{"list and inspect with a signal: the list", []string{list, inspect}, func(e *examined) { e.kept[0].Spec.Reload.Targets = []cert.Target{signal("p-web-1", "HUP")} }, cert.Fine, []string{list, "not needed"}},
		{"inspect alone", []string{inspect}, func(e *examined) {
			e.Reloader.project, e.kept[0].Spec.Reload.Targets = "p", []cert.Target{signal("web", "HUP")}
		}, cert.Doubtful, []string{inspect, "blind"}},
		{"all that is told by name", []string{list, inspect, kill}, func(e *examined) { e.kept[0].Spec.Reload.Targets = []cert.Target{signal("p-web-1", "HUP")} }, cert.Unknown, []string{kill, "without effect"}},
		{"version", []string{"GET /version"}, nil, cert.Fine, []string{"A socket proxy answers", "1.41"}},
	} {
		t.Run(tt.name, func(t *testing.T) {
			e := newExamined(t)
			e.engine.Forbid(tt.refused...)
			if tt.change != nil {
				tt.change(e)
			}
			wantFinding(t, e.findings(t), tt.level, append(tt.words, "engine")...)
		})
	}
}

func TestEngineThatIsAwayIsBadOnlyWhereSomebodyIsToBeTold(t *testing.T) {
	e := newExamined(t)
	e.engine.Close()
	wantFinding(t, e.Examine(t.Context(), e.kept), cert.Bad, "engine", "does not answer", "docker.sock")
	e.kept[0].Spec.Reload = cert.Reload{}
	all := e.Examine(t.Context(), e.kept)
	wantFinding(t, all, cert.Doubtful, "engine", "does not answer")
	wantNothingWorse(t, all, cert.Doubtful)
	e.kept[0].Spec.Reload.Off = true // by choice
	all = e.Examine(t.Context(), e.kept)
	wantFinding(t, all, cert.Fine, "engine", "RELOAD=off")
	for _, f := range all {
		if f.Topic == topicEngine && f.Level > cert.Fine {
			t.Errorf("a finding of level %q about an engine that nobody wants: %+v", f.Level, f)
		}
	}
	e.kept[0].Spec.Reload.Off = false
	e.Reloader = New(Config{Memory: e.memory})
	wantFinding(t, e.Examine(t.Context(), e.kept), cert.Doubtful, "engine", "no Docker engine", "volumes:")
}

func TestWebContainersAreExamined(t *testing.T) {
	for _, tt := range []struct {
		name   string
		change func(*examined)
		level  cert.Level
		words  []string
	}{
		{"not found", func(e *examined) { e.kept[0].Spec.Reload.Targets = []cert.Target{auto("wbe")} }, cert.Bad, []string{"wbe", "not found", "services web"}},
		{"not found since services are not listed", func(e *examined) { e.engine.Forbid("GET /containers/json") }, cert.Bad, []string{"not found: no such", "allow GET /containers/json"}},
		{"not named", func(e *examined) { e.kept[0].Spec.Reload.Targets = nil }, cert.Doubtful, []string{"a.test", "set RELOAD"}},
		{"stopped", func(e *examined) { e.web.Status = "exited" }, cert.Bad, []string{"p-web-1", `"exited"`, "docker compose logs web"}},
		{"a person's signal", func(e *examined) { e.kept[0].Spec.Reload.Targets[0] = signal("web", "USR2") }, cert.Fine, []string{"USR2", "as its target says"}},
		{"a server that is not known", func(e *examined) { e.web.Image, e.web.Command = "caddy", nil }, cert.Fine, []string{"by restart", "does not know"}},
		{"unless-stopped", func(e *examined) { e.web.RestartPolicy = "unless-stopped" }, cert.Doubtful, []string{"exec nginx -s reload, since", "set restart: always"}},
		{"unless-stopped and a signal", func(e *examined) {
			e.web.RestartPolicy, e.kept[0].Spec.Reload.Targets[0] = "unless-stopped", signal("web", "HUP")
		}, cert.Doubtful, []string{"by HUP, but", "not start it after a reboot", "set restart: always"}},
		{"no stop signal", func(e *examined) { e.web.StopSignal = "none" }, cert.Doubtful, []string{"exec nginx -s reload", "set stop_signal: SIGTERM"}},
		{"no restart policy", func(e *examined) { e.web.RestartPolicy = "" }, cert.Doubtful, []string{`"no"`, "reboot", "set restart: always"}},
		{"on-failure", func(e *examined) { e.web.RestartPolicy = "on-failure" }, cert.Doubtful, []string{`"on-failure"`, "reboot"}},
		{"an action that ended it", func(e *examined) {
			e.memory.files["p-web-1"] = []byte(`{"unsafe":{"HUP nginx:1":"HUP ended the container (exit code 129)"}}`)
		}, cert.Doubtful, []string{"by restart", "HUP ended the container", "RELOAD=web:restart"}},
		{"no certificates", func(e *examined) { e.web.Mounts = e.web.Mounts[1:] }, cert.Bad, []string{"does not mount the certificates", "volumes: [certs:/etc/letsencrypt:ro]"}},
		{"live/NAME alone", func(e *examined) { e.web.Mounts[0] = bind(volumes+"certs/_data/live/a.test", "/tls") }, cert.Bad, []string{"live/a.test alone", "volumes: [certs:/etc/letsencrypt:ro]"}},
		{"one file alone", func(e *examined) {
			e.web.Mounts = append(e.web.Mounts, bind(volumes+"certs/_data/live/a.test/fullchain.pem", "/tls/cert.pem"))
		}, cert.Bad, []string{"live/a.test/fullchain.pem alone"}},
		{"live without archive", func(e *examined) { e.web.Mounts[0] = bind(volumes+"certs/_data/live", "/tls") }, cert.Bad, []string{"live without archive"}},
		{"archive without live", func(e *examined) { e.web.Mounts[0] = bind(volumes+"certs/_data/archive", "/tls") }, cert.Bad, []string{"archive without live"}},
		{"writable", func(e *examined) { e.web.Mounts[0].RW = true }, cert.Doubtful, []string{"can write", ":ro]"}},
		{"STATE_DIR", func(e *examined) { e.web.Mounts = append(e.web.Mounts, volume("state", "/state", false)) }, cert.Bad, []string{"STATE_DIR as /state", "take /state out"}},
		{"a folder around everything", func(e *examined) { e.web.Mounts = append(e.web.Mounts, bind("/var/lib/docker", "/all")) }, cert.Bad, []string{"STATE_DIR as /all"}},
		{"no webroot", func(e *examined) { e.web.Mounts = e.web.Mounts[:1] }, cert.Bad, []string{"/var/www/certbot", "a.test", "volumes: [webroot:/var/www/certbot:ro]"}},
		{"no webroot for haproxy", func(e *examined) {
			e.web.Mounts, e.web.Image, e.web.Command = e.web.Mounts[:1], "haproxy:lts", nil
		}, cert.Doubtful, []string{"/var/www/certbot"}},
		{"webroot on no volume", func(e *examined) { e.kept[0].Spec.Webroot = "/srv" }, cert.Unknown, []string{"/srv", "on no volume"}},
		{"own container not known", func(e *examined) {
			e.Reloader.engine = housed{e.Reloader.engine.(housed).Engine, "p-web-1"} // as with network_mode: service:web
		}, cert.Unknown, []string{"own container is not known", "docker compose exec"}},
	} {
		t.Run(tt.name, func(t *testing.T) {
			e := newExamined(t)
			e.pace.handshake = e.pace.handshake / 4
			tt.change(e)
			wantFinding(t, e.findings(t), tt.level, append(tt.words, "web container")...)
		})
	}
}

func TestMountsThatLeadToTheSameFoldersAreAsGood(t *testing.T) {
	for name, mounts := range map[string][]dockertest.Mount{
		"elsewhere in the container": {volume("certs", "/tls", false), volume("webroot", "/www", false)},
		"by the folder on the host":  {bind(volumes+"certs/_data/", "/tls"), bind(volumes+"webroot/_data/.well-known", "/acme")},
		"live and archive":           {bind(volumes+"certs/_data/live", "/tls/live"), bind(volumes+"certs/_data/archive", "/tls/archive"), volume("webroot", "/www", false)},
	} {
		t.Run(name, func(t *testing.T) {
			e := newExamined(t)
			e.web.Mounts = mounts
			wantNothingWorse(t, e.findings(t), cert.Fine)
		})
	}
}

func TestWebrootIsMissedOnlyIfNoTargetOfTheCertificateHasIt(t *testing.T) {
	e := newExamined(t)
	mail := e.web
	mail.Name, mail.Service, mail.Mounts = "p-mail-1", "mail", e.web.Mounts[:1]
	e.engine.Add(mail)
	e.kept[0].Spec.Reload.Targets = append(e.kept[0].Spec.Reload.Targets, auto("mail"))
	wantNothingWorse(t, e.findings(t), cert.Fine)
}

func TestHaproxyMayPassChallengesOnToAContainerBesideIt(t *testing.T) {
	e := newExamined(t)
	files := e.web
	files.Name, files.Service, files.Mounts = "p-files-1", "files", e.web.Mounts[1:]
	e.engine.Add(files)
	e.web.Mounts, e.web.Image, e.web.Command = e.web.Mounts[:1], "haproxy:lts", []string{"haproxy"}
	wantNothingWorse(t, e.findings(t), cert.Fine)
}

func TestWhatIsServedIsExamined(t *testing.T) {
	e := newExamined(t)
	v1, v2, theirs := issue(t, "a.test"), issue(t, "a.test"), issue(t, "x.test")
	placeholder, err := cert.Placeholder("a.test", []string{"a.test"}, e.clock)
	if err != nil {
		t.Fatal(err)
	}
	for _, tt := range []struct {
		name    string
		serves  cert.Bundle
		stored  []cert.Bundle
		off     bool
		level   cert.Level
		words   []string
		nothing bool
	}{
		{"stale", v1, []cert.Bundle{v1, v2}, false, cert.Bad, []string{"an older certificate", "nginx -t"}, false},
		{"foreign", theirs, []cert.Bundle{v1}, false, cert.Bad, []string{"another certificate", "fullchain.pem"}, false},
		{"placeholder", placeholder, []cert.Bundle{placeholder}, false, cert.Doubtful, []string{"placeholder"}, false},
		{"by choice", v1, []cert.Bundle{v1}, true, cert.Unknown, []string{"VERIFY=off"}, false},
		{"nothing stored", theirs, nil, false, cert.Fine, nil, true},
	} {
		t.Run(tt.name, func(t *testing.T) {
			e := newExamined(t)
			e.web.Ports = newSite(t, tt.serves).ports()
			k := cert.Kept{Spec: e.kept[0].Spec, Lineage: cert.Lineage{Name: "a.test"}}
			if tt.stored != nil {
				k.Lineage = keep("a.test", tt.stored).Lineage
			}
			k.Spec.Verify.Off = tt.off
			e.kept = []cert.Kept{k}
			all := e.findings(t)
			served := slices.ContainsFunc(all, func(f cert.Finding) bool { return f.Topic == topicServed })
			if tt.nothing && served {
				t.Errorf("findings about what is served, with nothing stored:%s", printed(all))
			}
			if !tt.nothing {
				wantFinding(t, all, tt.level, append(tt.words, "served", "p-web-1", "a.test")...)
			}
		})
	}
}
