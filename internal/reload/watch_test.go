package reload

import (
	"context"
	"errors"
	"strconv"
	"strings"
	"testing"
	"time"

	"github.com/sidecert/sidecert/internal/cert"
	"github.com/sidecert/sidecert/internal/docker"
	"github.com/sidecert/sidecert/internal/docker/dockertest"
)

// watched runs Watch and returns what is sent on each call, and a way to wait until the engine was asked n times for events.
func (b *bench) watched(t *testing.T) (called <-chan struct{}, listens func(n int)) {
	t.Helper()
	ctx, cancel := context.WithCancel(t.Context())
	calls := make(chan struct{}, 10)
	ended := make(chan error, 1)
	go func() { ended <- b.Watch(ctx, func() { calls <- struct{}{} }) }()
	t.Cleanup(func() {
		cancel()
		if err := <-ended; !errors.Is(err, context.Canceled) {
			t.Errorf("Watch() = %v, want context.Canceled", err)
		}
	})
	return calls, func(n int) {
		t.Helper()
		for end := time.Now().Add(10 * time.Second); len(b.engine.Listened()) < n; time.Sleep(time.Millisecond) {
			if time.Now().After(end) {
				t.Fatalf("the engine was asked for events %d times, want %d", len(b.engine.Listened()), n)
			}
		}
	}
}

func wantCall(t *testing.T, called <-chan struct{}, why string) {
	t.Helper()
	select {
	case <-called:
	case <-time.After(10 * time.Second):
		t.Fatalf("not called %s", why)
	}
}

func TestStartOfATargetIsNoticedAndOfAStrangerNot(t *testing.T) {
	b := newBench(t)
	v := issue(t, "a.test")
	b.engine.Add(newSite(t, v).nginx("web"))
	b.engine.Add(dockertest.Container{Name: "stranger", Project: "q", Service: "web", Labels: map[string]string{"sidecert.reload": ""}})
	b.engine.Add(dockertest.Container{Name: "other", Project: "q", Service: "shop"})
	b.Look(t.Context(), []cert.Kept{keep("a.test", []cert.Bundle{v}, auto("web"), cert.Target{Project: "q", Word: "shop", Action: cert.Action{Kind: cert.ActionAuto}})})
	called, listens := b.watched(t)
	listens(1)
	b.engine.Tell("start", "stranger")
	b.engine.Tell("start", "p-web-1")
	wantCall(t, called, "when a target of ours started")
	b.engine.Tell("start", "other")
	wantCall(t, called, "when another project's target started")
	select {
	case <-called:
		t.Error("called for a stranger")
	default:
	}
}

func TestEventsAreTakenUpWhereTheyBrokeOff(t *testing.T) {
	b := newBench(t)
	v := issue(t, "a.test")
	b.engine.Add(newSite(t, v).nginx("web"))
	b.Look(t.Context(), []cert.Kept{keep("a.test", []cert.Bundle{v}, auto("web"))})
	called, listens := b.watched(t)
	listens(1)
	before := time.Now()
	b.engine.Tell("start", "p-web-1")
	wantCall(t, called, "when the target started")
	b.engine.CutEvents()
	wantCall(t, called, "when the engine was back, which has forgotten what it had not told")
	listens(2)
	since, _, _ := strings.Cut(b.engine.Listened()[1], ".")
	if seconds, err := strconv.ParseInt(since, 10, 64); err != nil || seconds < before.Unix() {
		t.Errorf("asked again for events since %q, want since the last one heard, after %d", b.engine.Listened()[1], before.Unix())
	}
	b.engine.Tell("unpause", "p-web-1")
	wantCall(t, called, "after the stream was opened again")
}

func TestProxyThatTellsNoEventsEndsTheWatch(t *testing.T) {
	b := newBench(t)
	b.engine.Forbid("GET /events")
	if err := b.Watch(t.Context(), func() {}); !errors.Is(err, docker.ErrForbidden) {
		t.Errorf("Watch() = %v, want ErrForbidden", err)
	}
}

func TestWebServerThatReloadsItselfIsGivenItsTime(t *testing.T) {
	b := newBench(t)
	v1, v2 := issue(t, "a.test"), issue(t, "a.test")
	s := newSite(t, v1)
	endpoint := "127.0.0.1:" + s.port
	k := keep("a.test", []cert.Bundle{v1, v2})
	k.Spec.Reload.Off, k.Spec.Verify.Endpoints = true, []string{endpoint}
	begin := b.clock
	const patience = selfReload // a tenth of the lifetime is more
	for _, tt := range []struct {
		after   time.Duration
		changed bool
		words   string
	}{{0, false, "older"}, {patience / 2, false, "older"}, {patience, true, "after the new one was stored"}, {patience + time.Hour, false, "after the new one was stored"}} {
		b.clock = begin.Add(tt.after)
		b.restartSidecert(t)
		o := one(t, b.Look(t.Context(), []cert.Kept{k}), "a.test", endpoint)
		if o.Class != cert.Stale || o.Changed != tt.changed || o.Err == nil || !strings.Contains(o.Err.Error(), tt.words) || !strings.Contains(o.Hint, "by itself") {
			t.Errorf("after %v: outcome %+v, want stale, news: %v, with %q", tt.after, o, tt.changed, tt.words)
		}
	}
	s.set("", v2)
	if o := one(t, b.Look(t.Context(), []cert.Kept{k}), "a.test", endpoint); o.Class != cert.Current || !o.Changed || o.Err != nil {
		t.Errorf("outcome %+v, want that it is served now", o)
	}
	v3 := issue(t, "a.test")
	k = keep("a.test", []cert.Bundle{v1, v2, v3})
	k.Spec.Reload.Off, k.Spec.Verify.Endpoints = true, []string{endpoint}
	if o := one(t, b.Look(t.Context(), []cert.Kept{k}), "a.test", endpoint); o.Changed {
		t.Errorf("outcome %+v of the next version, want it given its time too", o)
	}
}

func TestPortThatALabelNamesIsDialled(t *testing.T) {
	for _, byTarget := range []bool{true, false} {
		b := newBench(t)
		v1, v2 := issue(t, "a.test"), issue(t, "a.test")
		s := newSite(t, v1)
		c := s.nginx("web")
		c.Ports = nil
		target := auto("web")
		if byTarget {
			target.Port, _ = strconv.Atoi(s.port)
		} else { // it is RELOAD that names the container
			c.Labels = map[string]string{cert.LabelVerify: s.port}
		}
		b.engine.Add(c)
		b.onSignal(func() { s.set("", v2) })
		wantClass(t, one(t, b.Look(t.Context(), []cert.Kept{keep("a.test", []cert.Bundle{v1, v2}, target)}), "a.test", "p-web-1"), cert.Current)
	}
}

func TestStaleContainerIsToldOnceAnHourWhereNothingCanBeWrittenDown(t *testing.T) {
	b := newBench(t)
	b.hopeless()
	v1, v2 := issue(t, "a.test"), issue(t, "a.test")
	b.engine.Add(newSite(t, v1).nginx("web"))
	kept := []cert.Kept{keep("a.test", []cert.Bundle{v1, v2}, auto("web"))}
	b.memory.err = errors.New("no space left on device")
	for range 6 {
		b.Look(t.Context(), kept)
		b.clock = b.clock.Add(10 * time.Minute)
	}
	if got := b.told(); len(got) != 1 {
		t.Errorf("told %q within an hour, want once", got)
	}
	b.clock = b.clock.Add(10 * time.Minute)
	b.Look(t.Context(), kept)
	if got := b.told(); len(got) != 2 {
		t.Errorf("told %q after an hour, want once more", got)
	}
}

func TestFirstContainerOfOurProjectIsNoticedBeforeThereIsATarget(t *testing.T) {
	b := newBench(t)
	b.own = ""
	own := b.engine.Add(dockertest.Container{Name: "p-sidecert-1", Project: "p", Service: "sidecert"})
	b.Reloader.engine = housed{b.Reloader.engine.(*docker.Engine), own}
	b.hears = DiscoverProject
	if _, err := b.Labelled(t.Context()); err != nil {
		t.Fatal(err)
	}
	if !b.concerns(docker.Event{Action: "start", Project: "p", Service: "web", Labels: map[string]string{cert.LabelReload: ""}}) {
		t.Error("the start of a labelled container of our project is no news")
	}
}
