package reload

import (
	"path/filepath"
	"strings"
	"testing"

	"github.com/sidecert/sidecert/internal/cert"
	"github.com/sidecert/sidecert/internal/docker"
	"github.com/sidecert/sidecert/internal/docker/dockertest"
)

// returned starts an engine where the bench's was, with its one container.
func (b *bench) returned(t *testing.T, c dockertest.Container, onSignal func()) {
	t.Helper()
	engine, err := dockertest.Start(strings.TrimPrefix(b.engine.Host(), "unix://"))
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { engine.Close() })
	b.engine = engine
	b.engine.Add(c)
	b.onSignal(onSignal)
}

func TestEngineThatWasAwayAtTheStartIsUsedOnceItIsThere(t *testing.T) {
	b := newBench(t)
	v1, v2 := issue(t, "a.test"), issue(t, "a.test")
	s := newSite(t, v1)
	b.engine.Close()
	b.restartSidecert(t)
	kept := []cert.Kept{keep("a.test", []cert.Bundle{v1, v2}, auto("web"))}
	l := b.Look(t.Context(), kept)
	if l.Err == nil || !l.Next.After(b.clock) {
		t.Fatalf("Look = %+v, want an error and another look", l)
	}
	b.clock = l.Next
	b.returned(t, s.nginx("web"), func() { s.set("", v2) })
	wantClass(t, one(t, b.Look(t.Context(), kept), "a.test", "p-web-1"), cert.Current)
	b.wantDeeds(t, "kill p-web-1 HUP")
}

// TestReloadIsRepeatedWhenTheEngineDiedDuringTheCall does so for both ways in which it may have died: before the signal was sent and
// after that. Sidecert is started anew in between, too.
func TestReloadIsRepeatedWhenTheEngineDiedDuringTheCall(t *testing.T) {
	for name, sent := range map[string]bool{"before the signal": false, "after the signal": true} {
		t.Run(name, func(t *testing.T) {
			b := newBench(t)
			b.hopeless()
			v1, v2 := issue(t, "a.test"), issue(t, "a.test")
			s := newSite(t, v1)
			b.engine.Add(s.nginx("web"))
			dies := b.engine
			b.onSignal(func() {
				if sent {
					s.set("", v2)
				}
				dies.Close()
			})
			kept := []cert.Kept{keep("a.test", []cert.Bundle{v1, v2}, auto("web"))}
			l := b.Look(t.Context(), kept)
			o := one(t, l, "a.test", "p-web-1")
			if o.Err == nil || l.Next.IsZero() || b.memory.sets == 0 {
				t.Fatalf("outcome %+v, next %v; want an error, another look, and both on disk", o, l.Next)
			}
			b.clock = l.Next
			b.returned(t, s.nginx("web"), func() { s.set("", v2) })
			b.restartSidecert(t)
			wantClass(t, one(t, b.Look(t.Context(), kept), "a.test", "p-web-1"), cert.Current)
			if sent {
				b.wantDeeds(t) // what is served was enough to know
			} else {
				b.wantDeeds(t, "kill p-web-1 HUP")
			}
		})
	}
}

// TestCertificatesAreLookedAtWhateverTheSocketIs has the socket missing, and a folder in its place.
func TestCertificatesAreLookedAtWhateverTheSocketIs(t *testing.T) {
	v := issue(t, "a.test")
	s := newSite(t, v)
	dir := t.TempDir()
	for host, hint := range map[string]string{filepath.Join(dir, "docker.sock"): "volumes: [", dir: "is no socket"} {
		engine, err := docker.New(docker.Config{Host: "unix://" + host})
		if err != nil {
			t.Fatal(err)
		}
		b := newBench(t)
		b.Reloader = New(Config{Engine: engine, Memory: b.memory})
		k := keep("a.test", []cert.Bundle{v}, auto("web"))
		k.Spec.Verify.Endpoints = []string{"127.0.0.1:" + s.port}
		l := b.Look(t.Context(), []cert.Kept{k})
		wantClass(t, one(t, l, "a.test", "127.0.0.1:"+s.port), cert.Current)
		if l.Err == nil || !strings.Contains(l.Hint, hint) || l.Next.IsZero() {
			t.Errorf("%s: err %v, hint %q, next %v; want %q and another look", host, l.Err, l.Hint, l.Next, hint)
		}
	}
}
