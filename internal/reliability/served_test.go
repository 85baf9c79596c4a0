package reliability

import (
	"bytes"
	"cmp"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"maps"
	mathrand "math/rand/v2"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/sidecert/sidecert/internal/acmetest"
	"github.com/sidecert/sidecert/internal/cert"
)

const (
	// servedScenes is how many projects there are side by side, with three or four web containers and a sidecert each. It is
	// the engine that is busy then: more of them gain no time on two processors.
	servedScenes = 12
	// shortServed renewals are tried unless SERVED says otherwise.
	shortServed = 60
	// foundWithin is what is promised of a stale certificate.
	foundWithin = time.Minute
	// servedPatience is what everything gets to become current after a fault: the minute, and a look with its waits.
	servedPatience = 90 * time.Second
	// glimpse is the pause between two handshakes of the observer with one container.
	glimpse = 200 * time.Millisecond
	// swap is the shortest time between two changes of what a container serves that a fault makes: several glimpses.
	swap = time.Second
	// lookLasts is the most that a look of the daemon takes here.
	lookLasts = 20 * time.Second
	// fade is how long a web server's old processes may still take a connection after a reload.
	fade = 2 * time.Second
)

// Real daemons keep the certificates of real web servers in a real engine. Before, during or after each renewal one of many faults befalls
// the web containers, the engine's socket or the daemon, and somebody else dials all of them, several times a second. Then what the daemons
// reported, in the journal and by `certificates`, is held against what was served:
//
//   - a report of "current" is wrong if from before the look that it came of (from its first question to the engine) until 2 s after the
//     report the container served nothing but older versions, seen in an unbroken row, or if it serves an older one later although no
//     fault has befallen it since that look began;
//   - what is stale must be reported within a minute, not counting the time when the daemon was dead or had no engine. The last fault of
//     each scene happens inside a container, where the engine tells of nothing: only the daemon's own looks find it;
//   - nobody is told who has served the stored version for a while;
//   - once a fault is over, everything becomes current, and `certificates` says so.
func TestNothingIsReportedAsServedThatIsNot(t *testing.T) {
	t.Parallel()
	need(t, "docker")
	needServedImages(t, "nginx:1", "httpd:2.4", "haproxy:lts-alpine")
	seed, err := strconv.ParseUint(cmp.Or(os.Getenv("SEED"), strconv.FormatInt(time.Now().UnixNano(), 10)), 10, 64)
	if err != nil {
		t.Fatalf("SEED: %v", err)
	}
	renewals, err := strconv.Atoi(cmp.Or(os.Getenv("SERVED"), strconv.Itoa(shortServed)))
	if err != nil {
		t.Fatalf("SERVED: %v", err)
	}
	t.Logf("SEED=%d", seed)
	binary, ca := buildSidecert(t), startAuthority(t, acmetest.Config{})
	scenes := min(servedScenes, renewals)
	var wg sync.WaitGroup
	all := make([]servedTally, scenes)
	for i := range scenes {
		n := renewals/scenes + min(1, max(0, renewals%scenes-i))
		wg.Go(func() {
			t.Run(fmt.Sprintf("scene %d", i+1), func(t *testing.T) {
				s := newServedScene(t, ca, binary, i, mathrand.New(mathrand.NewPCG(seed, uint64(i))))
				defer func() { all[i] = s.servedTally }()
				defer s.judge() // what has come to nothing too
				s.play(n)
			})
		})
	}
	wg.Wait()
	var sum servedTally
	for _, one := range all {
		sum.add(one)
	}
	t.Logf("SEED=%d: %v", seed, sum)
	if sum.current < renewals || sum.found == 0 {
		t.Errorf("%d reports of current and %d findings in %d renewals prove nothing", sum.current, sum.found, renewals)
	}
}

func clock(t time.Time) string { return t.UTC().Format("15:04:05.000") }

func needServedImages(t *testing.T, images ...string) {
	t.Helper()
	for _, image := range images {
		if out, err := exec.Command("docker", "image", "inspect", image).CombinedOutput(); err != nil {
			missing := t.Skipf
			if os.Getenv("CI") == "true" {
				missing = t.Fatalf
			}
			missing("no engine with the image %s: %s", image, out)
		}
	}
}

// servedTally is what happened, and how it was reported.
type servedTally struct {
	renewals, looks, samples, current, wrong, found, late, deeds, needless, most int
	faults                                                                       map[string]int
	latest                                                                       time.Duration // from stale to its report
	silent                                                                       []time.Duration
	slowest                                                                      time.Duration // from the end of a fault to current
}

func (a *servedTally) add(b servedTally) {
	for to, n := range map[*int]int{&a.renewals: b.renewals, &a.looks: b.looks, &a.samples: b.samples, &a.current: b.current, &a.wrong: b.wrong,
		&a.found: b.found, &a.late: b.late, &a.deeds: b.deeds, &a.needless: b.needless} {
		*to += n
	}
	if a.faults == nil {
		a.faults = map[string]int{}
	}
	for name, n := range b.faults {
		a.faults[name] += n
	}
	a.most, a.latest, a.slowest = max(a.most, b.most), max(a.latest, b.latest), max(a.slowest, b.slowest)
	a.silent = append(a.silent, b.silent...)
}

func (a servedTally) String() string {
	var faults []string
	for _, name := range slices.Sorted(maps.Keys(a.faults)) {
		faults = append(faults, fmt.Sprintf("%d %s", a.faults[name], name))
	}
	slices.Sort(a.silent)
	return fmt.Sprintf("%d renewals with faults: %s\n%d looks of the daemons, %d of the observer; %d reports of current, %d of them wrong\n"+
		"%d times an old certificate was reported in time, after %v at most, %d times too late or not; without any event after %v\n"+
		"%d times a container was told, %d of them needlessly, %d times at most of one version; current %v at most after the end of a fault",
		a.renewals, strings.Join(faults, ", "), a.looks, a.samples, a.current, a.wrong, a.found, a.latest.Round(100*time.Millisecond), a.late, a.silent,
		a.deeds, a.needless, a.most, a.slowest.Round(100*time.Millisecond))
}

// play makes the renewals, each with its fault, and then has containers go back where nobody is told.
func (s *servedScene) play(renewals int) {
	faults := slices.Clone(servedFaults)
	for i := range renewals {
		if i%len(faults) == 0 {
			s.random.Shuffle(len(faults), func(i, j int) { faults[i], faults[j] = faults[j], faults[i] })
		}
		f, slot := faults[i%len(faults)], s.slots[s.random.IntN(3)]
		s.faults[f.name]++
		hold := swap + time.Duration(s.random.IntN(2500))*time.Millisecond
		if f.late && s.random.IntN(2) == 0 {
			s.renew(nil)
			s.settle(f.name, time.Now())
			end := s.strike(f, slot)
			time.Sleep(hold)
			s.ask()
			end()
		} else {
			end := s.strike(f, slot)
			s.renew(func() {
				time.Sleep(hold)
				s.ask()
				end()
			})
		}
		s.settle(f.name, time.Now())
	}
	if s.version() > 1 {
		s.goBackSilently()
	}
}

// renew forces a renewal; once the new version is stored, then is called while the daemon is at work with it.
func (s *servedScene) renew(then func()) {
	before := s.version()
	for try := 0; s.version() == before; try++ {
		if try == 5 {
			text, _ := os.ReadFile(s.logged.Name())
			s.Fatalf("no new version after %d tries; the log:\n%s", try, text)
		}
		ctx, cancel := context.WithTimeout(s.Context(), patience)
		c := exec.CommandContext(ctx, s.binary, "renew", "--force", s.place.name)
		c.Env = s.environ()
		done := make(chan struct{})
		go func() { c.Run(); close(done) }()
		s.Cleanup(func() { cancel(); <-done })
		for over := false; !over && s.version() == before; {
			select {
			case <-done:
				over = true
			case <-time.After(10 * time.Millisecond):
			}
		}
	}
	s.renewals++
	if then != nil {
		then()
	}
}

// settle waits until everything is current and `certificates` says so.
func (s *servedScene) settle(after string, since time.Time) {
	s.Helper()
	var why string
	for time.Since(since) < servedPatience {
		if why = s.unsettled(since); why == "" {
			s.slowest = max(s.slowest, time.Since(since))
			return
		}
		time.Sleep(100 * time.Millisecond)
	}
	text, _ := os.ReadFile(s.logged.Name())
	if len(text) > 12000 {
		text = text[len(text)-12000:]
	}
	s.Fatalf("%v after the end of the fault %q: %s; the log's end:\n%s", servedPatience, after, why, text)
}

func (s *servedScene) unsettled(since time.Time) string {
	version := s.version()
	events := s.journal()
	for _, slot := range s.slots {
		if !slot.there {
			continue
		}
		slot.mu.Lock()
		last := slot.glances[max(0, len(slot.glances)-1):]
		slot.mu.Unlock()
		if len(last) == 0 || last[0].begin.Before(since) || last[0].version != version {
			return fmt.Sprintf("%s is not seen to serve version %d", slot.name, version)
		}
		i := slices.IndexFunc(events, func(e cert.Event) bool { return e.Container == slot.name })
		if i < 0 || events[i].Class != cert.Current {
			return slot.name + " is not reported as current in the journal"
		}
	}
	said := s.ask()
	for _, slot := range s.slots {
		if r := said[slot]; slot.there && (r.version != version || r.class != cert.Current) {
			return fmt.Sprintf("`certificates` says %q of %s", r.class, slot.name)
		}
	}
	return ""
}

// servedReport is what `certificates` said of one container.
type servedReport struct {
	slot    *servedSlot
	version int
	class   cert.Class
	at      time.Time
}

// ask has `certificates` tell what is served, and keeps that for the judgement.
func (s *servedScene) ask() map[*servedSlot]servedReport {
	c := exec.Command(s.binary, "certificates", "--json", s.place.name)
	c.Env = s.environ()
	out, err := c.Output()
	var all []struct {
		Version int
		Served  []struct {
			Container string
			Class     cert.Class `json:"served"`
			Seen      time.Time  `json:"seen_at"`
		}
	}
	if err = errors.Join(err, json.Unmarshal(out, &all)); err != nil || len(all) != 1 {
		s.Errorf("certificates --json: %v\n%s", err, out)
		return nil
	}
	said := map[*servedSlot]servedReport{}
	for _, is := range all[0].Served {
		i := slices.IndexFunc(s.slots, func(slot *servedSlot) bool { return slot.name == is.Container })
		r := servedReport{s.slots[i], all[0].Version, is.Class, is.Seen}
		said[r.slot] = r
		s.reports = append(s.reports, r)
	}
	return said
}

// goBackSilently has two containers serve an older version by what happens inside of them, and waits until that is reported. One would
// serve the new one again if it were told.
func (s *servedScene) goBackSilently() {
	began := time.Now()
	var overs []func()
	for i, slot := range s.slots[:2] {
		overs = append(overs, slot.trouble())
		s.configure(slot, s.only(s.version()-1), "")
		s.reload(slot)
		if i == 0 {
			time.Sleep(swap) // haproxy and httpd read their files in their own time
			s.configure(slot, s.live(), "")
		}
	}
	for _, slot := range s.slots[:2] {
		for !slices.ContainsFunc(s.journal(), func(e cert.Event) bool { return e.Container == slot.name && e.Time.After(began) }) {
			if time.Since(began) > servedPatience {
				s.Errorf("%s serves an older certificate, and nothing is reported of that after %v", slot.name, servedPatience)
				break
			}
			time.Sleep(50 * time.Millisecond)
		}
		s.silent = append(s.silent, time.Since(began).Round(100*time.Millisecond))
	}
	s.configure(s.slots[1], s.live(), "")
	s.reload(s.slots[1])
	for _, over := range overs {
		over()
	}
	s.settle("gone back silently", time.Now())
}

// journal are the reports of what is served, the latest first.
func (s *servedScene) journal() (events []cert.Event) {
	data, _ := os.ReadFile(filepath.Join(s.place.state(), "journal.jsonl"))
	for line := range bytes.Lines(data) {
		var e cert.Event
		if json.Unmarshal(line, &e) == nil && e.Kind == cert.EventServed { // the last line may be under way
			events = append(events, e)
		}
	}
	slices.Reverse(events)
	return events
}

// lookOf is when the look began that a report came of.
func (s *servedScene) lookOf(report time.Time) (began time.Time) {
	s.socket.mu.Lock()
	defer s.socket.mu.Unlock()
	for _, at := range s.socket.looks {
		if at.After(report) {
			break
		}
		began = at
	}
	return began
}

func (slot *servedSlot) seen() (glances []servedGlance, troubles []servedSpan) {
	slot.mu.Lock()
	defer slot.mu.Unlock()
	return slices.Clone(slot.glances), slices.Clone(slot.troubles)
}

// judgeCurrent holds a report of current against what was seen until now.
func (s *servedScene) judgeCurrent(slot *servedSlot, version int, report time.Time, by string) {
	s.Helper()
	began := s.lookOf(report)
	glances, troubles := slot.seen()
	var row servedSpan // answers with older ones, with no gap in which a fault could have had this one served and gone again
	for _, g := range glances {
		switch {
		case g.version >= version:
			row = servedSpan{}
			continue
		case g.version == 0:
			continue
		case g.begin.Sub(row.end) >= swap:
			row.begin = g.begin
		}
		row.end = g.end
		if row.begin.Before(began) && g.begin.After(report.Add(fade)) {
			s.wrong++
			s.Errorf("%s: %s reports version %d as current at %v, and only older ones were seen from %v to %v", slot.name, by, version, clock(report), clock(row.begin), clock(row.end))
			return
		}
	}
	for _, g := range glances {
		if g.begin.Before(report.Add(fade)) || g.version == 0 || g.version >= version {
			continue
		}
		if !slices.ContainsFunc(troubles, func(t servedSpan) bool { return t.meets(began, g.end) }) {
			s.wrong++
			s.Errorf("%s: %s reports version %d as current at %v, and version %d is served at %v", slot.name, by, version, clock(report), g.version, clock(g.begin))
		}
		return // whatever comes later, a fault has been between
	}
}

// judge holds all that was reported against all that was seen.
func (s *servedScene) judge() {
	s.socket.mu.Lock()
	s.looks = len(s.socket.looks)
	s.deeds = len(s.socket.deeds)
	s.socket.mu.Unlock()
	events := s.journal()
	slices.Reverse(events)
	for _, slot := range s.slots {
		var mine []cert.Event
		for _, e := range events {
			if e.Container != slot.name {
				continue
			}
			mine = append(mine, e)
			if e.Class == cert.Current {
				s.current++
				// A look knows the version that was stored when it began.
				s.judgeCurrent(slot, s.newest(s.lookOf(e.Time)), e.Time, "the journal")
			}
		}
		s.judgeFound(slot, mine)
	}
	for _, r := range s.reports {
		if r.class == cert.Current {
			s.current++
			s.judgeCurrent(r.slot, r.version, r.at, "`certificates`")
		}
	}
	s.judgeDeeds()
}

// judgeFound looks how long older versions were served before that was reported.
func (s *servedScene) judgeFound(slot *servedSlot, reports []cert.Event) {
	glances, _ := slot.seen()
	s.samples += len(glances)
	for i := 0; i < len(glances); i++ {
		if !s.stale(glances[i]) {
			continue
		}
		first := glances[i]
		for i+1 < len(glances) && s.stale(glances[i+1]) && s.newest(glances[i+1].begin) == s.newest(first.begin) {
			i++
		}
		s.judgeRun(slot, first.begin, glances[i].end, reports)
	}
}

func (s *servedScene) stale(g servedGlance) bool {
	return g.version > 0 && g.version < s.newest(g.begin)
}

// judgeRun is about a time in which one container served an older version than one that was stored. What was reported as stale of that
// version before is known.
func (s *servedScene) judgeRun(slot *servedSlot, begin, end time.Time, reports []cert.Event) {
	version := s.newest(begin)
	var reported time.Time
	for _, e := range reports {
		about := s.newest(s.lookOf(e.Time))
		if e.Time.Before(begin) {
			reported = time.Time{}
			if e.Class == cert.Stale && about == version {
				reported = begin
			}
			continue
		}
		// A look that tells somebody goes on for a while after everything is well.
		if reported.IsZero() && about >= version && e.Time.Before(end.Add(lookLasts)) && (e.Class == cert.Stale || e.Class == cert.Current) {
			reported = e.Time
		}
	}
	since := begin
	s.mu.Lock()
	for _, a := range s.away {
		if a.meets(since, cmp.Or(reported, end)) {
			since = a.end
		}
	}
	s.mu.Unlock()
	switch {
	case !reported.IsZero() && reported.Before(since.Add(foundWithin)):
		s.found++
		s.latest = max(s.latest, reported.Sub(since))
	case end.Sub(since) > foundWithin || !reported.IsZero() && reported.Before(end):
		s.late++
		s.Errorf("%s served an older version than %d from %v to %v, which was reported at %v (%v after sidecert could know), want within %v",
			slot.name, version, clock(begin), clock(end), clock(reported), reported.Sub(since), foundWithin)
	}
}

// judgeDeeds looks whether those who were told had to be.
func (s *servedScene) judgeDeeds() {
	count := map[string]int{}
	for _, d := range s.socket.deeds {
		version := s.newest(d.at)
		key := fmt.Sprint(d.slot.name, version)
		count[key]++
		s.most = max(s.most, count[key])
		glances, troubles := d.slot.seen()
		same, other := 0, 0
		for _, g := range glances {
			if g.begin.After(d.at.Add(-2*fade)) && g.end.Before(d.at) {
				if g.version == version {
					same++
				} else {
					other++
				}
			}
		}
		if same > 2 && other == 0 && !slices.ContainsFunc(troubles, func(t servedSpan) bool { return t.meets(d.at.Add(-2*fade), d.at) }) {
			s.needless++
			s.Errorf("%s was told at %v, and it had served version %d for a while", d.slot.name, clock(d.at), version)
		}
	}
	if s.most > 6 {
		s.Errorf("a container was told %d times of one version, want a backoff", s.most)
	}
}
