package reload

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/sidecert/sidecert/internal/cert"
	"github.com/sidecert/sidecert/internal/docker/dockertest"
)

func TestContainerThatServesTheStoredVersionIsLeftAlone(t *testing.T) {
	b := newBench(t)
	v := issue(t, "a.test", "www.a.test")
	b.engine.Add(newSite(t, v).nginx("web"))
	l := b.Look(t.Context(), []cert.Kept{keep("a.test", []cert.Bundle{v}, auto("web"))})
	o := one(t, l, "a.test", "p-web-1")
	wantClass(t, o, cert.Current)
	if o.Err != nil || !o.Changed || !l.Next.IsZero() || l.Err != nil {
		t.Errorf("outcome %+v, next %v, err %v; want a change, and nothing pending", o, l.Next, l.Err)
	}
	b.wantDeeds(t)
}

func TestStaleContainerIsToldAndSeenToServeTheNewVersion(t *testing.T) {
	b := newBench(t)
	v1, v2 := issue(t, "a.test"), issue(t, "a.test")
	s := newSite(t, v1)
	b.engine.Add(s.nginx("web"))
	b.onSignal(func() { s.set("", v2) })
	kept := []cert.Kept{keep("a.test", []cert.Bundle{v1, v2}, auto("web"))}
	o := one(t, b.Look(t.Context(), kept), "a.test", "p-web-1")
	wantClass(t, o, cert.Current)
	if o.Action != "HUP" || o.Err != nil {
		t.Errorf("outcome %+v, want HUP and no error", o)
	}
	sets := b.memory.sets
	l := b.Look(t.Context(), kept)
	if o := one(t, l, "a.test", "p-web-1"); o.Changed || o.Action != "" {
		t.Errorf("second look: %+v, want no change and no action", o)
	}
	if b.memory.sets != sets {
		t.Error("a look that found nothing new wrote to the disk")
	}
	b.wantDeeds(t, "kill p-web-1 HUP")
}

func TestTargetOfACertificateThatHasNotComeIsMissedOnceAfterAMinute(t *testing.T) {
	b := newBench(t)
	b.engine.Add(dockertest.Container{Name: "p-nginx-1", Project: "p", Service: "nginx", Status: "created"})
	awaited := func(name string) cert.Kept {
		return cert.Kept{Spec: cert.Spec{Name: name, Names: []string{name}, Reload: cert.Reload{Targets: []cert.Target{auto("nginx"), auto("shpo")}}}, Lineage: cert.Lineage{Name: name}}
	}
	kept := []cert.Kept{awaited("a.test"), awaited("b.test")}
	look := func(after time.Duration) cert.Outcome {
		t.Helper()
		b.clock = b.clock.Add(after)
		l := b.Look(t.Context(), kept)
		if len(l.Outcomes) != 1 || !l.Outcomes[0].Missing || l.Outcomes[0].Container != "shpo" {
			t.Fatalf("outcomes %+v, want that shpo is missing, once", l.Outcomes)
		}
		return l.Outcomes[0]
	}
	if o := look(0); o.Changed {
		t.Error("missed at once, when Compose may not have made it yet")
	}
	if o := look(30 * time.Second); o.Changed {
		t.Error("missed after half a minute")
	}
	b.engine.Add(dockertest.Container{Name: "p-app-1", Project: "p", Service: "shop"})
	want := "did you mean shop? project p has the services nginx, shop: put RELOAD right, or start what it names"
	if o := look(31 * time.Second); !o.Changed || o.Hint != want {
		t.Errorf("after a minute: changed %v, hint %q, want true and %q", o.Changed, o.Hint, want)
	}
	if o := look(time.Minute); o.Changed {
		t.Error("missed a second time")
	}
	b.engine.Add(dockertest.Container{Name: "p-shpo-1", Project: "p", Service: "shpo", Status: "created"})
	if l := b.Look(t.Context(), kept); len(l.Outcomes) != 0 || !l.Next.IsZero() {
		t.Errorf("with all containers made: outcomes %+v, next %v, want none", l.Outcomes, l.Next)
	}
	b.engine.Close()
	if l := b.Look(t.Context(), kept); l.Err == nil || l.Hint == "" {
		t.Errorf("without an engine: err %v, hint %q, want both", l.Err, l.Hint)
	}
	b.wantDeeds(t)
	if b.memory.sets != 0 {
		t.Error("something was remembered of certificates that have not come")
	}
}

// TestTargetThatWasAwaitedInVainIsNewsWhenThereIsSomethingToTell has the certificate come within the minute.
func TestTargetThatWasAwaitedInVainIsNewsWhenThereIsSomethingToTell(t *testing.T) {
	b := newBench(t)
	k := keep("a.test", []cert.Bundle{issue(t, "a.test")}, auto("web"))
	awaited := k
	awaited.Lineage = cert.Lineage{Name: "a.test"}
	b.Look(t.Context(), []cert.Kept{awaited})
	if o := one(t, b.Look(t.Context(), []cert.Kept{k}), "a.test", "web"); !o.Changed || !o.Missing {
		t.Errorf("outcome %+v, want news of a missing target", o)
	}
}

// TestContainerThatWentBackToAnOlderVersionIsNewsEvenIfItIsCurrentAgain is about one that was told in the very look that found it.
func TestContainerThatWentBackToAnOlderVersionIsNewsEvenIfItIsCurrentAgain(t *testing.T) {
	b := newBench(t)
	v1, v2 := issue(t, "a.test"), issue(t, "a.test")
	s := newSite(t, v2)
	b.engine.Add(s.nginx("web"))
	b.onSignal(func() { s.set("", v2) })
	kept := []cert.Kept{keep("a.test", []cert.Bundle{v1, v2}, auto("web"))}
	wantClass(t, one(t, b.Look(t.Context(), kept), "a.test", "p-web-1"), cert.Current)
	s.set("", v1)
	o := one(t, b.Look(t.Context(), kept), "a.test", "p-web-1")
	wantClass(t, o, cert.Current)
	if !o.Changed || o.Action != "HUP" {
		t.Errorf("outcome %+v, want HUP and a change: nobody would hear of it otherwise", o)
	}
}

func TestPlaceholderThatIsServedInPlaceOfTheFirstCertificateIsStale(t *testing.T) {
	b := newBench(t)
	placeholder, err := cert.Placeholder("a.test", []string{"a.test"}, time.Now())
	if err != nil {
		t.Fatal(err)
	}
	v1 := issue(t, "a.test")
	s := newSite(t, placeholder)
	b.engine.Add(s.nginx("web"))
	b.Look(t.Context(), []cert.Kept{keep("a.test", []cert.Bundle{placeholder}, auto("web"))})
	b.wantDeeds(t)
	renewed, err := cert.Placeholder("a.test", []string{"a.test"}, time.Now())
	if err != nil {
		t.Fatal(err)
	}
	l := b.Look(t.Context(), []cert.Kept{keep("a.test", []cert.Bundle{renewed}, auto("web"))})
	if o := one(t, l, "a.test", "p-web-1"); o.Err != nil || !l.Next.IsZero() {
		t.Errorf("outcome %+v, next %v; want no ado about a placeholder", o, l.Next)
	}
	b.wantDeeds(t) // the web server reads it at its own start

	b.onSignal(func() { s.set("", v1) })
	wantClass(t, one(t, b.Look(t.Context(), []cert.Kept{keep("a.test", []cert.Bundle{v1}, auto("web"))}), "a.test", "p-web-1"), cert.Current)
	b.wantDeeds(t, "kill p-web-1 HUP")
}

func TestOneActionServesAllCertificatesOfAContainer(t *testing.T) {
	b := newBench(t)
	a1, a2, c1, c2 := issue(t, "a.test"), issue(t, "a.test"), issue(t, "c.test"), issue(t, "c.test")
	s := newSite(t, a1)
	s.set("c.test", c1)
	b.engine.Add(s.nginx("web"))
	b.onSignal(func() { s.set("", a2); s.set("c.test", c2) })
	l := b.Look(t.Context(), []cert.Kept{
		keep("a.test", []cert.Bundle{a1, a2}, auto("web")),
		keep("c.test", []cert.Bundle{c1, c2}, auto("web"), auto("p-web-1")),
	})
	wantClass(t, one(t, l, "a.test", "p-web-1"), cert.Current)
	wantClass(t, one(t, l, "c.test", "p-web-1"), cert.Current)
	b.wantDeeds(t, "kill p-web-1 HUP")
}

func TestOneStaleNameMakesTheCertificateStale(t *testing.T) {
	b := newBench(t)
	b.hopeless()
	v1, v2 := issue(t, "a.test", "www.a.test", "127.0.0.1"), issue(t, "a.test", "www.a.test", "127.0.0.1")
	s := newSite(t, v2)
	s.set("www.a.test", v1)
	b.engine.Add(s.nginx("web"))
	wantClass(t, one(t, b.Look(t.Context(), []cert.Kept{keep("a.test", []cert.Bundle{v1, v2}, auto("web"))}), "a.test", "p-web-1"), cert.Stale)
}

func TestStaleIsRetriedWithABackoffThatOutlivesUs(t *testing.T) {
	b := newBench(t)
	b.hopeless()
	v1, v2 := issue(t, "a.test"), issue(t, "a.test")
	b.engine.Add(newSite(t, v1).nginx("web"))
	kept := []cert.Kept{keep("a.test", []cert.Bundle{v1, v2}, auto("web"))}
	deeds := 0
	for i, wait := range []time.Duration{5 * time.Second, 15 * time.Second, time.Minute, 5 * time.Minute, 15 * time.Minute, time.Hour, time.Hour} {
		l := b.Look(t.Context(), kept)
		o := one(t, l, "a.test", "p-web-1")
		wantClass(t, o, cert.Stale)
		if deeds++; len(b.told()) != deeds {
			t.Fatalf("look %d: deeds = %v, want %d", i, b.told(), deeds)
		}
		if got := l.Next.Sub(b.clock); got != wait {
			t.Errorf("after action %d the next is in %v, want %v", i+1, got, wait)
		}
		if !strings.Contains(o.Hint, "docker compose exec web nginx -t") {
			t.Errorf("hint = %q, want the command that shows what is wrong", o.Hint)
		}
		b.clock = b.clock.Add(wait - time.Millisecond)
		b.restartSidecert(t)
		if l := b.Look(t.Context(), kept); len(b.told()) != deeds || one(t, l, "a.test", "p-web-1").Err == nil {
			t.Fatalf("a look before its time: deeds = %v, outcome %+v; want none more, and the error still", b.told(), l.Outcomes)
		}
		b.clock = b.clock.Add(time.Millisecond)
	}
	b.Look(t.Context(), kept) // the next one would be in an hour
	deeds++
	v3 := issue(t, "a.test")
	b.Look(t.Context(), []cert.Kept{keep("a.test", []cert.Bundle{v1, v2, v3}, auto("web"))})
	if len(b.told()) != deeds+1 {
		t.Error("a new version waited for the backoff of the last one")
	}
}

func TestForeignIsToldOncePerVersionAndReported(t *testing.T) {
	b := newBench(t)
	b.hopeless()
	v1, v2, theirs := issue(t, "a.test"), issue(t, "a.test"), issue(t, "somebody.else")
	b.engine.Add(newSite(t, theirs).nginx("web"))
	kept := []cert.Kept{keep("a.test", []cert.Bundle{v1}, auto("web"))}
	for range 3 {
		l := b.Look(t.Context(), kept)
		o := one(t, l, "a.test", "p-web-1")
		wantClass(t, o, cert.Foreign)
		if o.Err == nil || !strings.Contains(o.Err.Error(), "somebody.else") || !l.Next.IsZero() {
			t.Errorf("outcome %+v, next %v; want an error that names the certificate, and nothing pending", o, l.Next)
		}
		b.restartSidecert(t)
		b.clock = b.clock.Add(24 * time.Hour)
	}
	b.wantDeeds(t, "kill p-web-1 HUP")
	b.Look(t.Context(), []cert.Kept{keep("a.test", []cert.Bundle{v1, v2}, auto("web"))})
	if got := b.told(); len(got) != 2 {
		t.Errorf("told %q, want a signal in each look", got)
	}
}

func TestContainerThatServesOnlyOurOtherCertificateIsLeftInPeace(t *testing.T) {
	b := newBench(t)
	a1, c1, c2 := issue(t, "a.test"), issue(t, "c.test"), issue(t, "c.test")
	b.engine.Add(newSite(t, a1).nginx("one"))
	two := newSite(t, c1)
	b.engine.Add(two.nginx("two"))
	b.onSignal(func() { two.set("", c2) })
	l := b.Look(t.Context(), []cert.Kept{
		keep("a.test", []cert.Bundle{a1}, auto("one"), auto("two")),
		keep("c.test", []cert.Bundle{c1, c2}, auto("one"), auto("two")),
	})
	if o := one(t, l, "c.test", "p-one-1"); o.Class != cert.Foreign || o.Err != nil {
		t.Errorf("c.test in one: %+v, want foreign without a warning, since two serves it", o)
	}
	wantClass(t, one(t, l, "c.test", "p-two-1"), cert.Current)
	b.wantDeeds(t, "kill p-two-1 HUP")
	if !l.Next.IsZero() {
		t.Errorf("next = %v, want nothing pending", l.Next)
	}
}

func TestTenSitesOfTwoServersLeadToOneSignalEachAndNoAlarm(t *testing.T) {
	b := newBench(t)
	var before, after []cert.Bundle
	for i := range 10 {
		name := fmt.Sprintf("%d.test", i)
		before, after = append(before, issue(t, name)), append(after, issue(t, name))
	}
	web, shop := newSite(t, before[0]), newSite(t, before[9]) // each shows one of its own to who asks for a strange name
	serve := func(s *site, of []cert.Bundle, from, to int) {
		for i := from; i < to; i++ {
			s.set(fmt.Sprintf("%d.test", i), of[i])
		}
		s.set("", of[to-1])
	}
	serve(web, before, 0, 3)
	serve(shop, before, 3, 10)
	id := b.engine.Add(web.nginx("web"))
	b.engine.Add(shop.nginx("shop"))
	b.engine.OnKill(func(told, _ string) {
		if told == id {
			serve(web, after, 0, 3)
		} else {
			serve(shop, after, 3, 10)
		}
	})
	var kept, renewed []cert.Kept
	for i := range 10 {
		name := fmt.Sprintf("%d.test", i)
		kept = append(kept, keep(name, []cert.Bundle{before[i]}, auto("web"), auto("shop")))
		renewed = append(renewed, keep(name, []cert.Bundle{before[i], after[i]}, auto("web"), auto("shop")))
	}
	for _, all := range [][]cert.Kept{kept, renewed, renewed} {
		for _, o := range b.Look(t.Context(), all).Outcomes {
			if o.Err != nil || o.Class == cert.Stale {
				t.Errorf("outcome %+v, want nothing to complain of", o)
			}
		}
	}
	told := b.told()
	slices.Sort(told)
	if want := []string{"kill p-shop-1 HUP", "kill p-web-1 HUP"}; !slices.Equal(told, want) {
		t.Errorf("told %q, want %q", told, want)
	}
}

func TestServerThatRefusesANameIsSparedWhereAnotherServesIt(t *testing.T) {
	b := newBench(t)
	v := issue(t, "a.test")
	b.engine.Add(newSite(t, v).nginx("web"))
	b.engine.Add(newSite(t, cert.Bundle{}).nginx("other"))
	k := keep("a.test", []cert.Bundle{v}, auto("web"), auto("other"))
	l := b.Look(t.Context(), []cert.Kept{k})
	if o := one(t, l, "a.test", "p-other-1"); o.Class != cert.Foreign || o.Err != nil {
		t.Errorf("outcome %+v, want it foreign and left in peace", o)
	}
	b.wantDeeds(t)
}

func TestUnseenContainerIsToldOnceAndReported(t *testing.T) {
	b := newBench(t)
	b.hopeless()
	v := issue(t, "a.test")
	c := newSite(t, v).nginx("web")
	c.Ports = map[string][]dockertest.Port{"1/tcp": {{HostPort: "443"}}}
	b.engine.Add(c)
	for range 2 {
		l := b.Look(t.Context(), []cert.Kept{keep("a.test", []cert.Bundle{v}, auto("web"))})
		o := one(t, l, "a.test", "p-web-1")
		if o.Class != cert.Unseen || o.Err == nil || !l.Next.IsZero() {
			t.Errorf("outcome %+v, next %v; want unseen with an error, and nothing pending", o, l.Next)
		}
	}
	b.wantDeeds(t, "kill p-web-1 HUP")
}

func TestContainerThatHasJustStartedIsGivenTimeToListen(t *testing.T) {
	b := newBench(t)
	v := issue(t, "a.test")
	c := newSite(t, v).httpd("web")
	real := c.Ports
	c.Ports, c.StartedAt = map[string][]dockertest.Port{"1/tcp": {{HostPort: "443"}}}, b.clock.Add(-2*time.Second)
	b.engine.Add(c)
	kept := []cert.Kept{keep("a.test", []cert.Bundle{v}, auto("web"))}
	if l := b.Look(t.Context(), kept); l.Next.Sub(b.clock) != 5*time.Second {
		t.Errorf("next = %v, want in 5 s", l.Next.Sub(b.clock))
	}
	c.Ports = real
	b.engine.Add(c)
	wantClass(t, one(t, b.Look(t.Context(), kept), "a.test", "p-web-1"), cert.Current)
	b.wantDeeds(t)
}

func TestStoppedContainerIsToldNothingAndLookedAtAgain(t *testing.T) {
	b := newBench(t)
	v1, v2 := issue(t, "a.test"), issue(t, "a.test")
	s := newSite(t, v2)
	c := s.nginx("web")
	c.Status = "exited"
	b.engine.Add(c)
	kept := []cert.Kept{keep("a.test", []cert.Bundle{v1, v2}, auto("web"))}
	for _, want := range []time.Duration{5 * time.Second, 5 * time.Second, 10 * time.Second, 20 * time.Second} {
		l := b.Look(t.Context(), kept)
		if o := one(t, l, "a.test", "p-web-1"); o.Class != cert.Unseen || o.Err != nil || o.Hint == "" {
			t.Errorf("outcome %+v, want unseen with a hint and no error", o)
		}
		if got := l.Next.Sub(b.clock); got != want {
			t.Errorf("next look in %v, want %v", got, want)
		}
		b.clock = l.Next
	}
	b.wantDeeds(t)
	c.Status, c.StartedAt = "running", b.clock
	b.engine.Add(c)
	wantClass(t, one(t, b.Look(t.Context(), kept), "a.test", "p-web-1"), cert.Current)
	b.wantDeeds(t)
}

func TestFallbackIsTriedWhenTheActionDidNotHelp(t *testing.T) {
	b := newBench(t)
	b.pace.settle = time.Second // waited for in vain once
	v1, v2 := issue(t, "a.test"), issue(t, "a.test")
	s := newSite(t, v1)
	b.engine.Add(s.nginx("web"))
	b.engine.OnRestart(func(string) { s.set("", v2) })
	k := keep("a.test", []cert.Bundle{v1, v2}, auto("web"))
	k.Spec.Reload.Fallback = restart
	o := one(t, b.Look(t.Context(), []cert.Kept{k}), "a.test", "p-web-1")
	wantClass(t, o, cert.Current)
	if o.Action != "HUP, restart" {
		t.Errorf("action = %q, want both", o.Action)
	}
	b.wantDeeds(t, "kill p-web-1 HUP", "exec p-web-1 nginx -t", "exec p-web-1 nginx -t", "restart p-web-1") // for its words, and before the restart
}

func TestServerWithABrokenConfigurationIsNotRestarted(t *testing.T) {
	b := newBench(t)
	b.hopeless()
	v1, v2 := issue(t, "a.test"), issue(t, "a.test")
	b.engine.Add(newSite(t, v1).nginx("web"))
	b.engine.OnExec(func(string, []string) int { return 1 })
	b.engine.Say("nginx: [emerg] unexpected end of file")
	k := keep("a.test", []cert.Bundle{v1, v2}, auto("web"))
	k.Spec.Reload.Fallback = restart
	o := one(t, b.Look(t.Context(), []cert.Kept{k}), "a.test", "p-web-1")
	if o.Class != cert.Stale || o.Err == nil || !strings.Contains(o.Err.Error(), "[emerg] unexpected end of file") {
		t.Errorf("outcome %+v, want stale and why", o)
	}
	b.wantDeeds(t, "kill p-web-1 HUP", "exec p-web-1 nginx -t")
}

func TestWordsComeFromTheLogWhereNoCommandMayBeRun(t *testing.T) {
	b := newBench(t)
	b.hopeless()
	b.engine.Forbid("POST /containers/{id}/exec")
	b.engine.Say("1.2.3.4 GET /\n2026/11/28 [emerg] 1#1: cannot load certificate key\n")
	v1, v2 := issue(t, "a.test"), issue(t, "a.test")
	b.engine.Add(newSite(t, v1).nginx("web"))
	o := one(t, b.Look(t.Context(), []cert.Kept{keep("a.test", []cert.Bundle{v1, v2}, auto("web"))}), "a.test", "p-web-1")
	if want := "an older certificate is still served: 2026/11/28 [emerg] 1#1: cannot load certificate key"; o.Err == nil || o.Err.Error() != want {
		t.Errorf("err = %v, want %q", o.Err, want)
	}
}

func TestVerifyOffTellsOncePerVersionWithoutNagging(t *testing.T) {
	b := newBench(t)
	b.hopeless()
	v1, v2 := issue(t, "a.test"), issue(t, "a.test")
	b.engine.Add(newSite(t, v1).nginx("web"))
	k := keep("a.test", []cert.Bundle{v1, v2}, auto("web"))
	k.Spec.Verify.Off = true
	for range 2 {
		l := b.Look(t.Context(), []cert.Kept{k})
		if o := one(t, l, "a.test", "p-web-1"); o.Class != cert.Unseen || o.Err != nil || !l.Next.IsZero() {
			t.Errorf("outcome %+v, next %v; want unseen by choice", o, l.Next)
		}
	}
	b.wantDeeds(t, "kill p-web-1 HUP")
}

func TestEndpointsAreDialledInPlaceOfTheContainer(t *testing.T) {
	b := newBench(t)
	v1, v2 := issue(t, "a.test"), issue(t, "a.test")
	front := newSite(t, v1)
	b.pace.settle = time.Second // is watched to the end, since another container may answer at the endpoint
	b.engine.Add(newSite(t, issue(t, "inner.test")).nginx("web"))
	b.onSignal(func() { front.set("", v2) })
	k := keep("a.test", []cert.Bundle{v1, v2}, auto("web"))
	k.Spec.Verify.Endpoints = []string{"127.0.0.1:" + front.port}
	l := b.Look(t.Context(), []cert.Kept{k})
	wantClass(t, one(t, l, "a.test", "p-web-1"), cert.Current)
	wantClass(t, one(t, l, "a.test", "127.0.0.1:"+front.port), cert.Current)
	b.wantDeeds(t, "kill p-web-1 HUP")
}

func TestEndpointsAreSeenWithoutAnEngine(t *testing.T) {
	v1, v2 := issue(t, "a.test"), issue(t, "a.test")
	front := newSite(t, v1)
	clock := time.Now()
	r := New(Config{Memory: &memory{files: map[string][]byte{}}, Now: func() time.Time { return clock }})
	k := keep("a.test", []cert.Bundle{v1, v2}, auto("web"))
	k.Spec.Verify.Endpoints = []string{"127.0.0.1:" + front.port}
	for _, want := range []time.Duration{time.Minute, time.Minute, 2 * time.Minute} {
		l := r.Look(t.Context(), []cert.Kept{k})
		wantClass(t, one(t, l, "a.test", "127.0.0.1:"+front.port), cert.Stale)
		if l.Err == nil || !strings.Contains(l.Hint, "docker.sock") || l.Next.Sub(clock) != want {
			t.Errorf("Look = %v, %q, next in %v; want an error, the mount, and %v", l.Err, l.Hint, l.Next.Sub(clock), want)
		}
		clock = l.Next
	}
	k.Spec.Reload.Off = true
	if l := r.Look(t.Context(), []cert.Kept{k}); l.Err != nil || !l.Next.IsZero() {
		t.Errorf("with RELOAD=off: err %v, next %v; want no nagging", l.Err, l.Next)
	}
}

func TestEngineThatHasGoneIsAnErrorOfTheWholeLook(t *testing.T) {
	b := newBench(t)
	b.engine.Close()
	v := issue(t, "a.test")
	l := b.Look(t.Context(), []cert.Kept{keep("a.test", []cert.Bundle{v}, auto("web"))})
	if l.Err == nil || l.Hint == "" || l.Next.Sub(b.clock) != time.Minute || len(l.Outcomes) != 0 {
		t.Errorf("Look = %+v, want an error with a hint and a next look in a minute", l)
	}
}

func TestUnreadableMemoryNeverLeadsToASignalLoop(t *testing.T) {
	b := newBench(t)
	b.memory.err = errors.New("disk is gone")
	a1, a2, theirs := issue(t, "a.test"), issue(t, "a.test"), issue(t, "x.test")
	s := newSite(t, a1)
	b.engine.Add(s.nginx("web"))
	b.engine.Add(newSite(t, theirs).nginx("other"))
	b.onSignal(func() { s.set("", a2) })
	kept := []cert.Kept{keep("a.test", []cert.Bundle{a1, a2}, auto("web"), auto("other"))}
	for range 2 {
		l := b.Look(t.Context(), kept)
		wantClass(t, one(t, l, "a.test", "p-web-1"), cert.Current)
		if o := one(t, l, "a.test", "p-web-1"); o.Err == nil {
			t.Error("the disk's failure was not reported")
		}
	}
	b.wantDeeds(t, "kill p-web-1 HUP")
}

func TestLookEndsWithItsContext(t *testing.T) {
	b := newBench(t)
	v1, v2 := issue(t, "a.test"), issue(t, "a.test")
	b.engine.Add(newSite(t, v1).nginx("web"))
	b.hopeless()
	b.pace.settle = time.Hour
	ctx, cancel := context.WithCancel(t.Context())
	b.onSignal(func() { cancel() })
	if l := b.Look(ctx, []cert.Kept{keep("a.test", []cert.Bundle{v1, v2}, auto("web"))}); !errors.Is(l.Err, context.Canceled) {
		t.Errorf("Look.Err = %v, want context.Canceled", l.Err)
	}
	b.restartSidecert(t)
	b.onSignal(func() {})
	b.Look(t.Context(), []cert.Kept{keep("a.test", []cert.Bundle{v1, v2}, auto("web"))})
	if got := b.told(); len(got) != 2 {
		t.Errorf("told %q, want a signal in each look", got)
	}
}

func TestManyNamesAreAllAskedFor(t *testing.T) {
	b := newBench(t)
	b.hopeless()
	var names []string
	for i := range 100 {
		names = append(names, fmt.Sprintf("n%d.test", i))
	}
	v1, v2 := issue(t, names...), issue(t, names...)
	s := newSite(t, v2)
	s.set("n99.test", v1)
	b.engine.Add(s.nginx("web"))
	wantClass(t, one(t, b.Look(t.Context(), []cert.Kept{keep("many", []cert.Bundle{v1, v2}, auto("web"))}), "many", "p-web-1"), cert.Stale)
}

func TestServerThatSendsTheLeafAloneIsToldOf(t *testing.T) {
	b := issue(t, "a.example")
	for _, test := range []struct {
		served cert.Bundle
		bare   bool
	}{{b, false}, {cert.Bundle{Key: b.Key, Chain: b.Chain[:1]}, true}} {
		s := newSite(t, test.served)
		k := keep("a.example", []cert.Bundle{b})
		k.Spec.Verify.Endpoints = []string{"127.0.0.1:" + s.port}
		look := New(Config{Memory: &memory{files: map[string][]byte{}}}).Look(t.Context(), []cert.Kept{k})
		if len(look.Outcomes) != 1 || look.Outcomes[0].Class != cert.Current || look.Outcomes[0].Bare != test.bare {
			t.Errorf("a chain of %d is seen as %+v, want it current and bare %v", len(test.served.Chain), look.Outcomes, test.bare)
		}
	}
}
