package renewal

import (
	"crypto/sha256"
	"fmt"
	"slices"
	"strings"
	"time"

	"github.com/sidecert/sidecert/internal/cert"
)

// steps are the waits after the first, second, third and every further failure in a row, as Let's Encrypt's integration guide
// recommends them.
var steps = []time.Duration{time.Minute, 10 * time.Minute, 100 * time.Minute, 24 * time.Hour}

// assumedLifetime is taken where no certificate tells it.
const assumedLifetime = 90 * 24 * time.Hour

// backoff is the wait after a number of failures in a row, before jitter: never more than a fortieth of the lifetime, so that a
// short-lived certificate has as many tries as a long-lived one.
func backoff(failures int, kind cert.Kind, lifetime time.Duration) time.Duration {
	step := steps[min(max(failures, 1), len(steps))-1]
	if kind == cert.KindPerson {
		step = steps[len(steps)-1]
	}
	if lifetime <= 0 {
		lifetime = assumedLifetime
	}
	return min(step, lifetime/40)
}

// jitter lengthens a wait by up to a quarter; random is in [0, 1). Many clients that failed together do not come back together.
func jitter(wait time.Duration, random float64) time.Duration {
	return wait + time.Duration(random*float64(wait)/4)
}

// unreachable is the wait after the CA did not answer for the nth time in a row: 1, 2, 4 … 60 s.
func unreachable(tries int) time.Duration {
	return min(time.Second<<min(max(tries-1, 0), 6), time.Minute)
}

// The guard's windows.
const (
	orderWindow = time.Hour
	issueWindow = 7 * 24 * time.Hour
	// At a public CA an account makes at most accountOrders in accountWindow. Let's Encrypt allows 300: a CA that comes back after weeks
	// and finds a thousand certificates due is not asked for all of them at once.
	accountOrders = 250
	accountWindow = 3 * time.Hour
)

// guard is the rate that no fault of ours can exceed for one set of names: at most max(3, 3 h/lifetime) orders an hour and
// max(4, 21 d/lifetime) certificates in 7 days. Let's Encrypt allows 5 certificates of a set in 7 days. It returns when the
// next order may be made, which is not after now if it may be made at once, and why it must wait.
func guard(ordered, issued []time.Time, lifetime time.Duration, now time.Time) (time.Time, string) {
	orders, certs := limits(lifetime)
	if free := freeAt(ordered, orders, orderWindow, now); free.After(now) {
		return free, fmt.Sprintf("%d orders for these names were made in the last hour", orders)
	}
	if free := freeAt(issued, certs, issueWindow, now); free.After(now) {
		return free, fmt.Sprintf("%d certificates for these names were issued in the last 7 days", certs)
	}
	return now, ""
}

// limits are the guard's numbers for certificates of a lifetime; 0 where none is known.
func limits(lifetime time.Duration) (orders, certs int) {
	if lifetime <= 0 {
		lifetime = assumedLifetime
	}
	return max(3, int(3*time.Hour/lifetime)), max(4, int(21*24*time.Hour/lifetime))
}

// maxFailures is how often the validation of a name may fail within failureWindow: Let's Encrypt allows 5. A CA whose certificates live for
// minutes is nobody's but one's own, and an hour without a try would be their end.
func maxFailures(ca cert.CA, lifetime time.Duration) int {
	if cert.Public(ca.Directory) { // whatever the CA before gave
		return 4
	}
	orders, _ := limits(lifetime)
	return max(4, orders)
}

// freeAt is when fewer than limit of the times lie within the window.
func freeAt(times []time.Time, limit int, window time.Duration, now time.Time) time.Time {
	recent := within(times, window, now)
	if len(recent) < limit {
		return now
	}
	return recent[len(recent)-limit].Add(window)
}

// within are the times in the window that ends now, oldest first. One in the future is from a clock that was wrong, and counts
// as now.
func within(times []time.Time, window time.Duration, now time.Time) []time.Time {
	var recent []time.Time
	for _, t := range times {
		if t.After(now) {
			t = now
		}
		if t.After(now.Add(-window)) {
			recent = append(recent, t)
		}
	}
	slices.SortFunc(recent, time.Time.Compare)
	return recent
}

// setOf names a set of names, in whatever order they stand: by the names where they are few, so that a person can read the book, and
// by their SHA-256 where they are many, so that the book stays small.
func setOf(names []string) string {
	names = slices.Clone(names)
	slices.Sort(names)
	set := strings.Join(names, ",")
	if len(set) <= maxSet {
		return set
	}
	return fmt.Sprintf("sha256:%x", sha256.Sum256([]byte(set)))
}

// maxSet is in bytes.
const maxSet = 128

// remember adds a time to a book and drops what is older than a window.
func remember(book map[string][]time.Time, set string, window time.Duration, now time.Time) map[string][]time.Time {
	kept := map[string][]time.Time{}
	for s, times := range book {
		if recent := within(times, window, now); len(recent) > 0 {
			kept[s] = recent
		}
	}
	kept[set] = append(kept[set], now)
	return kept
}
