package reload

import (
	"maps"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/sidecert/sidecert/internal/cert"
	"github.com/sidecert/sidecert/internal/docker/dockertest"
)

// remembers are whom the memory knows.
func (b *bench) remembers(t *testing.T) string {
	t.Helper()
	all, err := b.memory.Targets()
	if err != nil {
		t.Fatal(err)
	}
	return strings.Join(slices.Sorted(maps.Keys(all)), " ")
}

func TestContainerThatIsGoneForAMonthIsForgotten(t *testing.T) {
	const day = 24 * time.Hour
	b := newBench(t)
	v := issue(t, "a.test")
	s := newSite(t, v)
	b.engine.Add(s.nginx("web"))
	id := b.engine.Add(dockertest.Container{Name: "old"})
	for _, name := range []string{"gone", "old", "back", "127.0.0.1:8443"} {
		if err := b.memory.SetTarget(name, cert.TargetState{Unsafe: map[string]string{"HUP": "it ended"}}); err != nil {
			t.Fatal(err)
		}
	}
	kept := []cert.Kept{keep("a.test", []cert.Bundle{v}, auto("web"))}
	look := func(days time.Duration, want string) {
		t.Helper()
		b.clock = b.clock.Add(days * day)
		b.Look(t.Context(), kept)
		if got := b.remembers(t); got != want {
			t.Errorf("after %d days more: remembered are %q, want %q", days, got, want)
		}
	}
	const all = "127.0.0.1:8443 back gone old p-web-1"
	look(0, all)
	b.restartSidecert(t)
	look(29, all)
	back := b.engine.Add(dockertest.Container{Name: "back"})
	look(1, "127.0.0.1:8443 back old p-web-1")
	b.engine.Remove(back)
	look(29, "127.0.0.1:8443 back old p-web-1") // it is missed from now on
	look(30, "127.0.0.1:8443 old p-web-1")
	b.engine.Remove(id)
	look(1, "127.0.0.1:8443 old p-web-1")
	b.engine.Forbid("GET /containers/{id}/json")
	look(400, "127.0.0.1:8443 old p-web-1")
	b.engine.Close()
	look(400, "127.0.0.1:8443 old p-web-1")
}

func TestContainerThatWasMissedAndIsTargetAgainIsNotForgotten(t *testing.T) {
	b := newBench(t)
	v := issue(t, "a.test")
	c := newSite(t, v).nginx("web")
	id := b.engine.Add(c)
	kept := []cert.Kept{keep("a.test", []cert.Bundle{v}, auto("web"))}
	b.Look(t.Context(), kept)
	b.engine.Remove(id)
	b.clock = b.clock.Add(25 * time.Hour)
	b.Look(t.Context(), kept)
	if s, _ := b.memory.Target("p-web-1"); s.GoneSince.IsZero() {
		t.Fatal("not missed")
	}
	b.engine.Add(c)
	b.clock = b.clock.Add(time.Minute)
	b.Look(t.Context(), kept)
	if s, _ := b.memory.Target("p-web-1"); !s.GoneSince.IsZero() || len(s.Certs) != 1 {
		t.Errorf("state %+v, want it missed no more", s)
	}
}
