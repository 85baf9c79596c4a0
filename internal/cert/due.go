package cert

import (
	"crypto/x509"
	"fmt"
	"strings"
	"time"
)

// ShortLived is the lifetime under which half of it is left at renewal instead of a third, as Let's Encrypt's integration
// guide has it.
const ShortLived = 10 * 24 * time.Hour

// DueAt is when a certificate is to be renewed: when a third of its lifetime is left, or half of it when the lifetime is under
// ShortLived. A renewBefore other than 0 overrides that within the second half of the lifetime: renewing earlier would only
// burn the CA's limits.
func DueAt(leaf *x509.Certificate, renewBefore time.Duration) time.Time {
	life := Lifetime(leaf)
	left := life / 3
	if life < ShortLived {
		left = life / 2
	}
	if renewBefore > 0 {
		left = min(renewBefore, life/2)
	}
	return leaf.NotAfter.Add(-left)
}

// Due is when a certificate is to be renewed, as the CA suggests it, RFC 9773, as far as that is sensible: where nobody has said how
// long before expiry to renew, never later than when three quarters of what DueAt would leave are left, and never later than a
// renewBefore, for that is a person's. It is DueAt where there is no suggestion.
func Due(leaf *x509.Certificate, renewBefore time.Duration, s *Suggestion) time.Time {
	due := DueAt(leaf, renewBefore)
	if s == nil || s.At.IsZero() || s.Of != Fingerprint(leaf) {
		return due
	}
	latest := due
	if renewBefore == 0 {
		latest = leaf.NotAfter.Add(-leaf.NotAfter.Sub(due) * 3 / 4)
	}
	if s.At.Before(latest) {
		return s.At
	}
	return latest
}

// Why is the reason to order a certificate; empty means there is none.
type Why string

// Wanted compares what is wanted with what is stored and says why a certificate must be ordered now. It does not look at
// backoff or rates.
func Wanted(s Spec, l Lineage, by *Suggestion, now time.Time) Why {
	if why := Differs(s, l); why != "" {
		return why
	}
	switch {
	case !now.Before(l.Leaf().NotAfter):
		return "it has expired"
	case now.Before(Due(l.Leaf(), s.RenewBefore, by)):
		return ""
	case now.Before(DueAt(l.Leaf(), s.RenewBefore)):
		return Why("its CA suggests it" + by.reason())
	}
	return "it is due for renewal"
}

// Differs says why a certificate must be ordered whatever the time is; "" if it need not.
func Differs(s Spec, l Lineage) Why {
	switch {
	case !l.Issued():
		return "there is no certificate yet"
	case !SameNames(l.Names(), s.Names):
		return Why(fmt.Sprintf("its names are to be %s", strings.Join(s.Names, ", ")))
	case s.KeyType != "" && KeyTypeOf(l.Leaf().PublicKey) != s.KeyType:
		return Why(fmt.Sprintf("its key is to be %s", s.KeyType))
	case l.Conf.Server != "" && l.Conf.Server != s.CA.Directory && !Staging(s.CA.Directory):
		return Why(fmt.Sprintf("it is to come from %s", s.CA.Directory))
	case s.Profile != "" && !s.ProfileOptional && l.Conf.Profile != s.Profile:
		return Why(fmt.Sprintf("its profile is to be %s", s.Profile))
	}
	return ""
}

// Ailing is how near its expiry a certificate is: 0 when healthy, 1 within warning of it, 2 within critical or expired, as Thresholds has them.
func Ailing(leaf *x509.Certificate, renewBefore, warning, critical time.Duration, now time.Time) int {
	warning, critical = Thresholds(leaf, renewBefore, warning, critical)
	switch left := leaf.NotAfter.Sub(now); {
	case left <= critical:
		return 2
	case left <= warning:
		return 1
	}
	return 0
}

// Thresholds are how long before its expiry a certificate is ailing: as wanted, at most 2/3 and 1/3 of what is left at DueAt, so that one
// that is renewed in time is never found ailing.
func Thresholds(leaf *x509.Certificate, renewBefore, warning, critical time.Duration) (atWarning, atCritical time.Duration) {
	atDue := leaf.NotAfter.Sub(DueAt(leaf, renewBefore))
	return min(warning, atDue*2/3), min(critical, atDue/3)
}
