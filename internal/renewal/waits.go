package renewal

import (
	"fmt"
	"time"

	"github.com/sidecert/sidecert/internal/cert"
)

// Waits is all that can hold a wanted certificate back.
type Waits struct {
	Attempts cert.Attempts
	Guard    cert.Guard
	Hold     cert.Hold
	// Failures are when validations have failed, by name, over all certificates.
	Failures map[string][]time.Time
	// Lifetime of the stored certificate; 0 where there is none.
	Lifetime time.Duration
	// CA is whom the certificate comes from.
	CA cert.CA
	// ByHand passes over our own backoff, Force over the guard.
	ByHand, Force bool
}

// failureWindow is in what time validations of a name that have failed are counted, over all certificates.
const failureWindow = time.Hour

// Until is when a certificate for names may be ordered, not after now if at once, and what holds it back until then.
func (w Waits) Until(names []string, now time.Time) (at time.Time, held string) {
	at = now
	wait := func(t time.Time, why string) {
		if t.After(at) {
			at, held = t, why
		}
	}
	a := w.Attempts
	if !w.ByHand {
		wait(a.Next, fmt.Sprintf("the last of %d attempts failed: %s", a.Failures, a.Err))
	}
	wait(a.NotBefore, "the CA asked to wait: "+a.Err)
	wait(w.Hold.Next, "the CA did not answer: "+w.Hold.Err)
	wait(w.Hold.NotBefore, "the CA asked all to wait: "+w.Hold.Err)
	wait(w.failed(names, now))
	if !w.Force {
		wait(w.guard(names, now))
		wait(freeAt(w.Guard.Orders[w.CA.ID()], accountOrders, accountWindow, now), fmt.Sprintf("%d orders were made at this CA in 3 hours", accountOrders))
	}
	return at, held
}

func (w Waits) guard(names []string, now time.Time) (time.Time, string) {
	set := setOf(names)
	return guard(w.Guard.Ordered[set], w.Guard.Issued[set], w.Lifetime, now)
}

// failed is when each of the names may fail once more, and which of them has failed too often.
func (w Waits) failed(names []string, now time.Time) (at time.Time, held string) {
	limit := maxFailures(w.CA, w.Lifetime)
	for _, name := range names {
		if free := freeAt(w.Failures[name], limit, failureWindow, now); free.After(now) && free.After(at) {
			at, held = free, fmt.Sprintf("the validation of %s has failed %d times within an hour", name, limit)
		}
	}
	return at, held
}

// Left is what may still be had of a set of names, as far as our own books know: the CA counts what others did too.
type Left struct {
	// Orders within the hour, Certificates within 7 days, and Failures of the name that has failed most within the hour.
	Orders, Certificates, Failures int
}

func (l Left) String() string {
	return fmt.Sprintf("%d more orders this hour, %d more certificates in 7 days, %d more failed validations this hour", l.Orders, l.Certificates, l.Failures)
}

// Left counts what is left at a time.
func (w Waits) Left(names []string, now time.Time) Left {
	set := setOf(names)
	orders, certs := limits(w.Lifetime)
	failures := maxFailures(w.CA, w.Lifetime)
	left := Left{
		Orders:       orders - len(within(w.Guard.Ordered[set], orderWindow, now)),
		Certificates: certs - len(within(w.Guard.Issued[set], issueWindow, now)),
		Failures:     failures,
	}
	for _, name := range names {
		left.Failures = min(left.Failures, failures-len(within(w.Failures[name], failureWindow, now)))
	}
	return Left{max(left.Orders, 0), max(left.Certificates, 0), max(left.Failures, 0)}
}

// The most that our own rules ever put a time into the future: the longest backoff with its jitter, the longest wait for a CA that
// does not answer, and the longest Retry-After that is believed.
const (
	farthestNext      = 30 * time.Hour
	farthestHold      = 2 * time.Minute
	farthestNotBefore = 7 * 24 * time.Hour
	// farthestQuestion is above the longest that a CA may say it is not to be asked again when to renew, which is a day.
	farthestQuestion = 25 * time.Hour
)

// bringBack takes back a time that a clock which was ahead has put too far away. It reports whether it did, for then the mended
// time must be saved: brought back anew at each look it would never come.
func bringBack(t *time.Time, latest time.Time) bool {
	if !t.After(latest) {
		return false
	}
	*t = latest
	return true
}

// bringBackAll is bringBack for the times of a book.
func bringBackAll(book map[string][]time.Time, latest time.Time) (did bool) {
	for _, times := range book {
		for i := range times {
			did = bringBack(&times[i], latest) || did
		}
	}
	return did
}
