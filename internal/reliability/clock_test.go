package reliability

import (
	"bytes"
	"context"
	"crypto/x509"
	"errors"
	"regexp"
	"testing"
	"testing/synctest"
	"time"

	"github.com/sidecert/sidecert/internal/acmetest"
)

// clockStory is what a machine's clock shows while a certificate of 90 days is kept. It is wrong between two times since the machine
// was born, and right before and after.
type clockStory struct {
	from, to time.Duration
	ahead    func(m *machine) time.Duration
	// told says that a person has something to mend, and hears of it.
	told bool
	// asleep says that the clock is right for good, and the process's timers have stood still.
	asleep bool
}

func by(d time.Duration) func(*machine) time.Duration {
	return func(*machine) time.Duration { return d }
}

// to1970 is what a machine without a battery shows.
func to1970(m *machine) time.Duration { return time.Unix(0, 0).Sub(m.right()) }

const clockDue = 60 * day // when a certificate of 90 days is due, but for the hour that it is backdated

var clockStories = map[string]clockStory{
	"a year ahead for a day":            {from: 50 * day, to: 51*day + 7*time.Minute, ahead: by(year), told: true},
	"30 days ahead for a day":           {from: 50 * day, to: 51*day + 7*time.Minute, ahead: by(30 * day), told: true},
	"30 days ahead while it is due":     {from: 58 * day, to: 61*day + 7*time.Minute, ahead: by(30 * day), told: true},
	"10 minutes ahead":                  {from: 58 * day, to: 62*day + 7*time.Minute, ahead: by(10 * time.Minute)},
	"10 minutes behind":                 {from: 58 * day, to: 62*day + 7*time.Minute, ahead: by(-10 * time.Minute)},
	"back to 1970 for a day":            {from: 50 * day, to: 51*day + 7*time.Minute, ahead: to1970, told: true},
	"back to 1970 while it is due":      {from: 59 * day, to: 61*day + 7*time.Minute, ahead: to1970, told: true},
	"back by 40 days":                   {from: 50 * day, to: 51*day + 7*time.Minute, ahead: by(-40 * day)},
	"back by 40 days while it is due":   {from: 59 * day, to: 61*day + 7*time.Minute, ahead: by(-40 * day)},
	"2 hours ahead at first start":      {from: 0, to: 67 * time.Minute, ahead: by(2 * time.Hour)},
	"30 days ahead at first start":      {from: 0, to: 67 * time.Minute, ahead: by(30 * day), told: true},
	"asleep for 20 days, due meanwhile": {from: 50 * day, ahead: by(20 * day), asleep: true},
}

// TestWrongClockCostsNeitherACertificateNorAnOrder compares machines whose clock jumps with one whose clock was always right: with a
// daemon that stays up and with one that is started anew at each jump, at a CA that only answers and at one that suggests when to renew
// and, on the 55th day, to do so at once.
func TestWrongClockCostsNeitherACertificateNorAnOrder(t *testing.T) {
	for _, suggests := range []bool{false, true} {
		for name, s := range clockStories {
			for _, restarts := range []bool{false, true} {
				t.Run(name+when(suggests, ", CA that suggests")+when(restarts, ", restarted"), func(t *testing.T) {
					t.Parallel()
					synctest.Test(t, func(t *testing.T) { s.keep(t, suggests, restarts) })
				})
			}
		}
	}
}

func when(is bool, text string) string {
	if is {
		return text
	}
	return ""
}

const (
	// clockHurry is when the CA that suggests wants its first certificate renewed at once, as after a misissuance.
	clockHurry = 55 * day
	// clockPatience is how much later than with a clock that was always right a renewal may come, once the clock is right.
	clockPatience = 30 * time.Hour
)

func (s clockStory) keep(t *testing.T, suggests, restarts bool) {
	var log bytes.Buffer
	var m *machine
	config := acmetest.FakeConfig{Now: func() time.Time {
		if s.asleep {
			return m.now()
		}
		return m.right()
	}}
	since := func() time.Duration { return config.Now().Sub(m.begun()) }
	if suggests {
		config.Window = func(leaf *x509.Certificate) (start, end time.Time) {
			if since() >= clockHurry && leaf.NotBefore.Before(m.begun().Add(clockHurry/2)) {
				return m.begun().Add(clockHurry - time.Hour), m.begun().Add(clockHurry)
			}
			return leaf.NotAfter.Add(-clockDue / 2), leaf.NotAfter.Add(-clockDue/2 + time.Hour)
		}
	}
	m = newMachine(t, config, named("a.example.org")...)
	m.log = &log
	due := clockDue - time.Hour
	if suggests {
		due = clockHurry
	}

	if s.from > 0 {
		m.once()
		time.Sleep(s.from - day)
	}
	stop := m.daemon()
	jump := func(to time.Duration) {
		if restarts {
			stop()
			defer func() { stop = m.daemon() }()
		}
		m.ahead.Store(int64(to))
	}
	if s.from > 0 {
		time.Sleep(day)
	}
	jump(s.ahead(m))
	rightAgain := since()
	if !s.asleep {
		time.Sleep(s.to - s.from)
		jump(0)
		rightAgain = s.to
	}
	if s.from == 0 { // nothing comes for weeks
		time.Sleep(day)
		stop()
		time.Sleep(due - day - since())
		stop = m.daemon()
	}
	latest := max(due, rightAgain) + clockPatience
	time.Sleep(max(0, latest-since()))
	stop()

	orders := m.ca.Counts().Orders
	if len(orders) != 2 {
		t.Fatalf("%d orders in %v, want 2: the first and a renewal; the log:\n%s", len(orders), latest, &log)
	}
	renewed := orders[1].At.Sub(m.begun())
	t.Logf("renewed after %.2f days, due after %.2f, the clock right after %.2f", renewed.Hours()/24, due.Hours()/24, rightAgain.Hours()/24)
	if early := due - renewed; early > 10*time.Minute {
		t.Errorf("renewed %v before it is due in truth", early)
	}
	if l := m.lineages()["a.example.org"]; !l.Leaf().NotAfter.After(m.begun().Add(renewed + 89*day)) {
		t.Errorf("what is stored expires at %v", l.Leaf().NotAfter)
	}
	s.wantTold(t, log.String())
}

// wantTold wants each word about the clock once for each process that could know.
func (s clockStory) wantTold(t *testing.T, log string) {
	t.Helper()
	times := map[string]int{}
	for _, line := range aboutClock.FindAllStringSubmatch(log, -1) {
		times[line[1]]++
	}
	for msg, n := range times {
		if n > 1 {
			t.Errorf("told %d times, want once: %s", n, msg)
		}
	}
	if told := len(times) > 0; s.told && !told || s.asleep && told {
		t.Errorf("told of the clock %v, want %v; the log:\n%s", told, s.told, log)
	}
}

var aboutClock = regexp.MustCompile(`level=(?:WARN|ERROR) msg="([^"]*clock[^"]*)"`)

// begun is when the machine was born, by a clock that is right.
func (m *machine) begun() time.Time { return m.right().Add(-time.Since(m.begin)) }

// daemon runs sidecert until the returned function is called.
func (m *machine) daemon() (stop func()) {
	ctx, cancel := context.WithCancel(m.t.Context())
	done := make(chan error, 1)
	p := m.start(nil)
	go func() { done <- p.Run(ctx) }()
	return func() {
		cancel()
		if err := <-done; !errors.Is(err, context.Canceled) {
			m.t.Errorf("Run() = %v, want the context's end", err)
		}
	}
}
