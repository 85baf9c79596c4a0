package renewal

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"strings"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"github.com/sidecert/sidecert/internal/cert"
)

// labels are the containers that a world's engine shows, and that it does not answer.
type labels struct {
	mu   sync.Mutex
	all  []cert.Labelled
	away error
}

func (l *labels) set(all ...cert.Labelled) { l.mu.Lock(); defer l.mu.Unlock(); l.all = all }

func (l *labels) discover(context.Context) ([]cert.Labelled, error) {
	l.mu.Lock()
	defer l.mu.Unlock()
	return slices.Clone(l.all), l.away
}

// asks is a container that asks for a certificate of one name.
func asks(container, service, name string) cert.Labelled {
	return cert.Labelled{Container: container, Project: "p", Service: service, Labels: map[string]string{cert.LabelDomains: name}}
}

// hear has a manager heed labels: each container's sidecert.domains is one name, and it is told itself.
func (l *labels) hear(m *Manager) *Manager {
	m.Discover = l.discover
	m.Labels = func(all []cert.Labelled) (asked cert.Asked) {
		for _, c := range all {
			name := c.Labels[cert.LabelDomains]
			if !strings.Contains(name, ".") {
				asked.Doubts = append(asked.Doubts, cert.Doubt{Text: "label of " + c.Container + " is wrong", Hint: "mend it"})
				continue
			}
			if !slices.ContainsFunc(asked.Specs, func(s cert.Spec) bool { return s.Name == name }) {
				asked.Specs = append(asked.Specs, cert.Spec{Name: name, Names: []string{name}, CA: cert.CA{Directory: "https://ca.example/dir"}, Reload: cert.Reload{Off: true}})
			}
		}
		return asked
	}
	return m
}

func TestContainersComeAndGoWhileWeRun(t *testing.T) {
	bubble(t, func(t *testing.T) {
		w := newWorld(t)
		var l labels
		m := l.hear(w.manager())
		stop := w.keep(m)
		defer stop()
		time.Sleep(time.Second)
		synctest.Wait()
		if !strings.Contains(w.log.String(), "no certificate is asked for yet") {
			t.Errorf("log = %s, want that nothing is asked for", w.log)
		}
		l.set(asks("p-web-1", "web", "a.example"), asks("p-bad-1", "bad", "bad"))
		time.Sleep(2 * time.Minute)
		if got := w.lineage("a.example"); !got.Issued() {
			t.Fatal("a container that came got no certificate within two minutes")
		}
		l.set(asks("p-web-1", "web", "a.example"), asks("p-shop-1", "shop", "b.example"))
		m.Look(t.Context()) // as an event has it
		time.Sleep(10 * time.Second)
		if got := w.lineage("b.example"); !got.Issued() {
			t.Fatal("a container that came with an event got no certificate at once")
		}
		l.set(asks("p-shop-1", "shop", "b.example"))
		time.Sleep(48 * time.Hour)
		synctest.Wait()
		if got := w.lineage("a.example"); !got.Issued() {
			t.Error("a container that went took its certificate along")
		}
		log := w.log.String()
		for want, n := range map[string]int{"label of p-bad-1 is wrong": 1, "stored certificate is not configured and not renewed": 1} {
			if strings.Count(log, want) != n {
				t.Errorf("%q stands %d times in the log, want %d:\n%s", want, strings.Count(log, want), n, log)
			}
		}
		if n := w.issuer.count(); n != 2 {
			t.Errorf("%d orders, want 2", n)
		}
	})
}

// TestPlaceholderComesWhileAnotherCertificateWaits has a certificate wait for its challenge path, and one for its CA, when a container
// starts that needs files.
func TestPlaceholderComesWhileAnotherCertificateWaits(t *testing.T) {
	for what, slow := range map[string]func(*fakeIssuer){
		"for its challenge path": func(f *fakeIssuer) { f.waits = time.Minute },
		"for its CA":             func(f *fakeIssuer) { f.took = map[string]time.Duration{"a.example": 10 * time.Minute} },
	} {
		t.Run(what, func(t *testing.T) {
			bubble(t, func(t *testing.T) {
				w := newWorld(t, "a.example")
				slow(w.issuer)
				var l labels
				m := l.hear(w.manager())
				defer w.keep(m)()
				time.Sleep(5 * time.Second)
				l.set(asks("p-shop-1", "shop", "b.example"))
				m.Look(t.Context()) // as an event has it
				time.Sleep(time.Second)
				synctest.Wait()
				if w.lineage("a.example").Issued() {
					t.Fatal("the other certificate did not wait")
				}
				if !w.lineage("b.example").Placeholder {
					t.Error("no placeholder a second after its container came")
				}
				time.Sleep(20 * time.Minute)
				synctest.Wait()
				for _, name := range []string{"a.example", "b.example"} {
					if !w.lineage(name).Issued() {
						t.Errorf("%s got no certificate after the wait", name)
					}
				}
				if n := w.issuer.count(); n != 2 {
					t.Errorf("%d orders, want 2: the wait was broken off", n)
				}
			})
		})
	}
}

func TestContainerThatIsMadeAnewIsHeardMeanwhile(t *testing.T) {
	bubble(t, func(t *testing.T) {
		w := newWorld(t)
		var l labels
		l.set(asks("p-web-1", "web", "a.example"))
		stop := w.keep(l.hear(w.manager()))
		time.Sleep(time.Minute)
		l.set()
		time.Sleep(time.Hour)
		l.set(asks("p_web_1", "web", "a.example")) // by another Compose
		time.Sleep(time.Hour)
		stop()
		if strings.Contains(w.log.String(), "level=WARN") {
			t.Errorf("log = %s, want no warning", w.log)
		}
		if all, err := w.manager().Store.Labelled(); err != nil || len(all) != 1 || all[0].Container != "p_web_1" {
			t.Errorf("remembered are %+v, %v, want the new container alone", all, err)
		}
	})
}

func TestLabelsHoldWhileTheEngineIsAway(t *testing.T) {
	bubble(t, func(t *testing.T) {
		w := newWorld(t)
		var l labels
		l.set(asks("p-web-1", "web", "a.example"))
		stop := w.keep(l.hear(w.manager()))
		time.Sleep(time.Minute)
		stop()
		first := w.lineage("a.example").Fingerprint()
		l.away = errors.New("no engine")
		l.set()
		stop = w.keep(l.hear(w.manager()))
		time.Sleep(70 * 24 * time.Hour)
		stop()
		if got := w.lineage("a.example"); got.Fingerprint() == first {
			t.Error("not renewed while the engine is away")
		}
	})
}

// TestWebContainersAreLookedAtEveryHalfMinute has nothing else happen: no certificate is due and nothing is pending.
func TestWebContainersAreLookedAtEveryHalfMinute(t *testing.T) {
	bubble(t, func(t *testing.T) {
		w := newWorld(t, "a.example")
		_, stop := w.run()
		time.Sleep(time.Minute)
		before := w.reloader.count()
		time.Sleep(30 * time.Minute)
		looks := w.reloader.count() - before
		stop()
		if looks < 59 || looks > 61 {
			t.Errorf("%d looks in 30 minutes, want two a minute", looks)
		}
	})
}

func TestPendingReloadIsLookedAtSoonerWithoutAWholePass(t *testing.T) {
	bubble(t, func(t *testing.T) {
		w := newWorld(t, "a.example")
		w.reloader.soon = func() time.Time { return w.now().Add(5 * time.Second) }
		_, stop := w.run()
		time.Sleep(time.Minute)
		before := w.reloader.count()
		time.Sleep(time.Minute)
		looks := w.reloader.count() - before
		stop()
		if looks < 11 || looks > 13 {
			t.Errorf("%d looks in a minute, want one each 5 s", looks)
		}
	})
}

func TestUntoldCertificateIsSaidOnceWhereLabelsAreHeard(t *testing.T) {
	bubble(t, func(t *testing.T) {
		w := newWorld(t, "a.example", "b.example")
		w.specs[0].Reload.Off = true
		var l labels
		stop := w.keep(l.hear(w.manager()))
		time.Sleep(3 * time.Hour)
		stop()
		if log := w.log.String(); strings.Count(log, "no web container is told of new certificates") != 1 || !strings.Contains(log, `certs=b.example`) {
			t.Errorf("log = %s, want it said once of b.example", log)
		}
	})
}

func TestContainerIsForgottenADayAfterAnAnswerWithoutIt(t *testing.T) {
	bubble(t, func(t *testing.T) {
		w := newWorld(t)
		var l labels
		l.set(asks("p-web-1", "web", "a.example"))
		stop := w.keep(l.hear(w.manager()))
		time.Sleep(time.Minute)
		l.mu.Lock()
		l.away = errors.New("no engine")
		l.mu.Unlock()
		time.Sleep(7 * 24 * time.Hour)
		l.mu.Lock()
		l.away, l.all = nil, nil
		l.mu.Unlock()
		time.Sleep(20 * time.Hour)
		synctest.Wait()
		if log := w.log.String(); strings.Contains(log, "not renewed") {
			t.Errorf("forgotten at once after the engine was away for a week: %s", log)
		}
		time.Sleep(20 * time.Hour)
		stop()
		if log := w.log.String(); !strings.Contains(log, "stored certificate is not configured and not renewed") || strings.Count(log, "labels of web containers are not known") != 1 {
			t.Errorf("log = %s, want the engine's absence and the end of renewals each said once", log)
		}
	})
}

func TestLabelsThatChangeAllTheTimeBurnNoLimit(t *testing.T) {
	bubble(t, func(t *testing.T) {
		w := newWorld(t)
		var l labels
		stop := w.keep(l.hear(w.manager()))
		for i := range 200 {
			l.set(asks("p-web-1", "web", fmt.Sprintf("%d.example", i)), asks("p-shop-1", "shop", "b.example"))
			time.Sleep(2 * time.Minute)
		}
		stop()
		if n := w.issuer.count(); n > maxChanges+2 {
			t.Errorf("%d orders, want one for the first text and %d for others, and one for the neighbour", n, maxChanges)
		}
		if n := strings.Count(w.log.String(), "change too often"); n != 1 {
			t.Errorf("said %d times, want once", n)
		}
	})
}

func TestHugeLabelsOfANeighbourAreNobodyElsesTrouble(t *testing.T) {
	bubble(t, func(t *testing.T) {
		w := newWorld(t)
		var l labels
		huge := asks("q-evil-1", "evil", strings.Repeat("x", 2<<20))
		huge.Labels["sidecert.x"] = strings.Repeat("x", 2<<20)
		l.set(huge)
		stop := w.keep(l.hear(w.manager()))
		time.Sleep(time.Minute)
		l.set(huge, asks("p-web-1", "web", "a.example"))
		time.Sleep(2 * time.Minute)
		stop()
		if got := w.lineage("a.example"); !got.Issued() {
			t.Errorf("no certificate beside a neighbour with huge labels: %s", w.log)
		}
	})
}
