package reload

import (
	"slices"
	"testing"

	"github.com/sidecert/sidecert/internal/cert"
	"github.com/sidecert/sidecert/internal/docker/dockertest"
)

func TestLabelsOfOtherProjectsAreHeardOnlyIfAllAre(t *testing.T) {
	b := newBench(t)
	for _, c := range []dockertest.Container{
		{Name: "p-web-1", Project: "p", Service: "web", Labels: map[string]string{"sidecert.reload": "HUP", "secret": "x"}},
		{Name: "p-app-1", Project: "p", Service: "app", Status: "exited", Labels: map[string]string{"sidecert.domains": "a.test", "sidecert.reload": ""}},
		{Name: "q-web-1", Project: "q", Service: "web", Labels: map[string]string{"sidecert.domains": "evil.test"}},
		{Name: "stranger", Labels: map[string]string{"sidecert.reload": ""}},
		{Name: "p-db-1", Project: "p", Service: "db"},
		{Name: "p-slip-1", Project: "p", Service: "slip", Labels: map[string]string{"sidecert.domain": "b.test"}},
	} {
		b.engine.Add(c)
	}
	for hears, want := range map[Discover][]string{
		DiscoverProject: {"p-app-1", "p-slip-1", "p-web-1"},
		DiscoverAll:     {"p-app-1", "p-slip-1", "p-web-1", "q-web-1", "stranger"},
		DiscoverOff:     nil,
	} {
		b.hears = hears
		all, err := b.Labelled(t.Context())
		if err != nil {
			t.Fatal(err)
		}
		var got []string
		for _, l := range all {
			got = append(got, l.Container)
			if _, ok := l.Labels["secret"]; ok {
				t.Errorf("%s: a label that is not ours was kept", l.Container)
			}
		}
		if !slices.Equal(got, want) {
			t.Errorf("DISCOVER=%s hears %v, want %v", hears, got, want)
		}
	}
}

func TestLabelsThatCannotBeHeardAreNotTakenForNone(t *testing.T) {
	for name, spoil := range map[string]func(*bench){
		"a proxy that lists nothing": func(b *bench) { b.engine.Forbid("GET /containers/json") },
		"an engine that has gone":    func(b *bench) { b.engine.Close() },
		"no project of our own":      func(b *bench) { b.project = "" },
	} {
		b := newBench(t)
		b.hears = DiscoverProject
		spoil(b)
		if all, err := b.Labelled(t.Context()); err == nil {
			t.Errorf("%s: Labelled() = %v without an error", name, all)
		}
	}
}

func TestTargetByLabelThatHasGoneIsNotMissed(t *testing.T) {
	b := newBench(t)
	v := issue(t, "a.test")
	gone := cert.Labelled{Container: "q-web-1", Project: "q", Service: "web"}.Target()
	if l := b.Look(t.Context(), []cert.Kept{keep("a.test", []cert.Bundle{v}, gone)}); len(l.Outcomes) > 0 || l.Err != nil {
		t.Errorf("look %+v, want nothing said", l)
	}
	b.engine.Forbid("GET /containers/json")
	if o := one(t, b.Look(t.Context(), []cert.Kept{keep("a.test", []cert.Bundle{v}, gone)}), "a.test", "q/web"); o.Err == nil {
		t.Error("that nobody may be looked for is not reported")
	}
	b = newBench(t)
	gone.Labelled = false
	if o := one(t, b.Look(t.Context(), []cert.Kept{keep("a.test", []cert.Bundle{v}, gone)}), "a.test", "q/web"); o.Err == nil {
		t.Error("a target that a person has named and that is not there is not reported")
	}
}
