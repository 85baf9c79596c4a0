package renewal

import (
	"testing"
	"time"

	"github.com/sidecert/sidecert/internal/cert"
)

func TestBackoff(t *testing.T) {
	const day = 24 * time.Hour
	cases := []struct {
		failures int
		kind     cert.Kind
		lifetime time.Duration
		want     time.Duration
	}{
		{1, cert.KindPassing, 90 * day, time.Minute},
		{2, cert.KindPassing, 90 * day, 10 * time.Minute},
		{3, cert.KindPassing, 90 * day, 100 * time.Minute},
		{4, cert.KindPassing, 90 * day, 24 * time.Hour},
		{1000, cert.KindPassing, 90 * day, 24 * time.Hour},
		{1, cert.KindPerson, 90 * day, 24 * time.Hour},
		{4, cert.KindPassing, 0, 24 * time.Hour},              // unknown: 90 days
		{4, cert.KindPassing, 160 * time.Hour, 4 * time.Hour}, // a fortieth
		{1, cert.KindPerson, 160 * time.Hour, 4 * time.Hour},
		{1, cert.KindPassing, 10 * time.Second, 250 * time.Millisecond},
	}
	for _, c := range cases {
		if got := backoff(c.failures, c.kind, c.lifetime); got != c.want {
			t.Errorf("backoff(%d, %q, %v) = %v, want %v", c.failures, c.kind, c.lifetime, got, c.want)
		}
	}
	if got := jitter(time.Hour, 0); got != time.Hour {
		t.Errorf("least jitter makes 1 h %v", got)
	}
	if got := jitter(time.Hour, 0.9999); got > 75*time.Minute || got < 74*time.Minute {
		t.Errorf("most jitter makes 1 h %v, want just under 75 min", got)
	}
}

func TestUnreachableGrowsToAMinute(t *testing.T) {
	for tries, want := range map[int]time.Duration{1: time.Second, 2: 2 * time.Second, 6: 32 * time.Second, 7: time.Minute, 1000: time.Minute} {
		if got := unreachable(tries); got != want {
			t.Errorf("unreachable(%d) = %v, want %v", tries, got, want)
		}
	}
}

func TestGuardCountsInItsWindows(t *testing.T) {
	now := time.Date(2027, 1, 1, 0, 0, 0, 0, time.UTC)
	ago := func(ds ...time.Duration) (times []time.Time) {
		for _, d := range ds {
			times = append(times, now.Add(-d))
		}
		return times
	}
	const day = 24 * time.Hour
	cases := []struct {
		name            string
		ordered, issued []time.Time
		lifetime        time.Duration
		want            time.Duration // from now
	}{
		{"nothing was made", nil, nil, 90 * day, 0},
		{"two orders in the hour", ago(time.Minute, 2*time.Minute), nil, 90 * day, 0},
		{"three orders in the hour", ago(50*time.Minute, 2*time.Minute, time.Minute), nil, 90 * day, 10 * time.Minute},
		{"three orders, one long ago", ago(61*time.Minute, 2*time.Minute, time.Minute), nil, 90 * day, 0},
		{"four certificates in the week", nil, ago(6*day, 3*day, 2*day, day), 90 * day, day},
		{"four of a 6-day certificate", nil, ago(6*day, 3*day, 2*day, day), 6 * day, day},
		{"four of a 1-day certificate", nil, ago(6*day, 3*day, 2*day, day), day, 0},
		{"orders by a clock that was ahead", ago(-time.Hour, -time.Hour, -time.Hour), nil, 90 * day, time.Hour},
	}
	for _, c := range cases {
		if got, _ := guard(c.ordered, c.issued, c.lifetime, now); got.Sub(now) != c.want {
			t.Errorf("%s: guard holds for %v, want %v", c.name, got.Sub(now), c.want)
		}
	}
}
