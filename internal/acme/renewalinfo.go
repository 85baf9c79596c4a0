package acme

import (
	"context"
	"crypto/x509"
	"encoding/asn1"
	"encoding/base64"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net/http"
	"net/url"
	"slices"
	"strings"
	"time"

	"github.com/sidecert/sidecert/internal/cert"
)

const (
	// suggestLimit is for one question, with its repetitions.
	suggestLimit = 30 * time.Second
	// A CA's Retry-After is heeded within these. "Clients MUST set reasonable limits on their checking interval." RFC 9773 §4.3.2.
	// Let's Encrypt wants to be asked twice a day, and gives 6 hours.
	minSuggest = time.Hour
	maxSuggest = 24 * time.Hour
	// suggestAgain is after an answer without a usable Retry-After: RFC 9773 §4.3.3.
	suggestAgain = 6 * time.Hour
	// clockAhead and clockBehind are how far our clock may be from the CA's: an order by a clock that is farther off is for nothing.
	// CAs backdate what they issue, and an hour more is let pass.
	clockAhead  = 24 * time.Hour
	clockBehind = 2 * time.Hour
)

// Suggest asks a CA when it wants a certificate renewed, RFC 9773 §4. No account is needed and none is registered. What it returns has
// no window where the CA suggests nothing, and always says when to ask again, also beside an error: a *cert.Error, of KindUnreachable
// where the CA gave no answer, so that what it said before still holds.
func (i *Issuer) Suggest(ctx context.Context, ca cert.CA, leaf *x509.Certificate) (cert.Heard, error) {
	ctx, cancel := context.WithTimeout(ctx, i.pace(suggestLimit))
	defer cancel()
	h, err := i.suggest(ctx, ca, leaf)
	h.Of = cert.Fingerprint(leaf)
	if h.Next.IsZero() {
		h.Next = i.config.Now().Add(jittered(suggestAgain))
	}
	if err != nil {
		return h, i.failure("renewalInfo", "", err)
	}
	return h, nil
}

func (i *Issuer) suggest(ctx context.Context, ca cert.CA, leaf *x509.Certificate) (h cert.Heard, err error) {
	c, err := i.reader(ctx, ca)
	if err != nil {
		return h, err
	}
	id := certID(leaf)
	if c.renewalInfo == "" || id == "" {
		h.Next = i.config.Now().Add(maxSuggest)
		return h, nil
	}
	return c.getRenewalInfo(ctx, id)
}

// getRenewalInfo is an unauthenticated GET.
func (c *client) getRenewalInfo(ctx context.Context, id string) (h cert.Heard, err error) {
	resp, err := c.ask(ctx, http.MethodGet, strings.TrimSuffix(c.renewalInfo, "/")+"/"+id)
	if err != nil {
		return h, err
	}
	h.Date = heard{header: resp.Header}.date()
	if at := retryAfter(resp.Header, c.config.Now()); !at.IsZero() {
		h.Next = c.suggestNext(at)
	}
	if resp.StatusCode != http.StatusOK {
		return h, problemOf(resp)
	}
	body, _ := io.ReadAll(resp.Body) // cannot fail: it is in memory
	if h.Start, h.End, h.Explanation, err = readWindow(body); err != nil {
		err = &cert.Error{Op: "renewalInfo", Err: &said{clean(err.Error(), maxWords), err}}
	}
	return h, err
}

func (c *client) suggestNext(at time.Time) time.Time {
	now := c.config.Now()
	return now.Add(min(max(at.Sub(now), minSuggest), maxSuggest))
}

// readWindow reads a RenewalInfo object, RFC 9773 §4.2.
func readWindow(body []byte) (start, end time.Time, explanation string, err error) {
	var wire struct {
		SuggestedWindow struct{ Start, End time.Time }
		ExplanationURL  string
	}
	if err := json.Unmarshal(body, &wire); err != nil {
		return start, end, "", fmt.Errorf("the CA's suggestion cannot be read: %w", err)
	}
	window := wire.SuggestedWindow
	switch {
	case window.Start.IsZero() || window.End.IsZero():
		return start, end, "", errors.New("the CA's suggestion has no window")
	case !window.End.After(window.Start):
		return start, end, "", fmt.Errorf("the CA's suggestion ends at %s and begins at %s", window.End.UTC().Format(time.RFC3339), window.Start.UTC().Format(time.RFC3339))
	}
	if link, err := url.Parse(wire.ExplanationURL); err == nil && (link.Scheme == "https" || link.Scheme == "http") && len(wire.ExplanationURL) <= maxWords {
		explanation = clean(wire.ExplanationURL, maxWords)
	}
	return window.Start.UTC(), window.End.UTC(), explanation, nil
}

// certID names a certificate to its CA: "the base64url encoding of the bytes of the keyIdentifier field of the certificate's Authority
// Key Identifier extension", a period, and that of its serial number's DER without tag and length, RFC 9773 §4.1. A serial whose
// first bit is set has a zero byte before it. It is "" where the certificate does not name its issuer's key.
func certID(leaf *x509.Certificate) string {
	if len(leaf.AuthorityKeyId) == 0 || leaf.SerialNumber == nil {
		return ""
	}
	der, err := asn1.Marshal(leaf.SerialNumber)
	if err != nil {
		return ""
	}
	var serial asn1.RawValue
	if _, err := asn1.Unmarshal(der, &serial); err != nil {
		return ""
	}
	return base64.RawURLEncoding.EncodeToString(leaf.AuthorityKeyId) + "." + base64.RawURLEncoding.EncodeToString(serial.Bytes)
}

// renewalInfoIn is the URL in a directory object below which suggestions are.
func renewalInfoIn(directory []byte) string {
	var wire struct{ RenewalInfo string }
	if json.Unmarshal(directory, &wire) != nil {
		return ""
	}
	return wire.RenewalInfo
}

// replaces is the certID of the certificate that an order would replace; "" where there is none that this CA has given, or where the
// CA does not know the field, RFC 9773 §5.
func (c *client) replaces(req cert.Request) string {
	stored := req.Stored
	if c.renewalInfo == "" || !stored.Issued() || stored.Conf.Server != c.ca.Directory {
		return ""
	}
	if !slices.ContainsFunc(stored.Names(), func(name string) bool { return slices.Contains(req.Spec.Names, name) }) {
		return ""
	}
	return certID(stored.Leaf())
}

// refusesReplaces reports whether an order may have been refused because of what it said to replace: already replaced, of another
// account, not known, or a CA whose books on that are in disorder. All else it would refuse again.
func refusesReplaces(err error) bool {
	return isTheirs(err) || isProblem(err, "alreadyReplaced", "malformed", "unauthorized", "conflict")
}

// checkClock keeps an order from being made by a clock that is wrong: ahead, and certificates look due that are not; much ahead or
// behind, and what the CA issues looks expired or not yet valid and is refused.
func (c *client) checkClock(ctx context.Context, req cert.Request) error {
	now := c.config.Now()
	if c.clockError(now, c.clock().now(), req) == nil {
		return nil
	}
	// What the CA has said before may be from before this machine's sleep, while which no time seems to have passed.
	theirs, err := c.askTime(ctx)
	if err != nil {
		return err
	}
	return c.clockError(now, theirs, req)
}

// clockError says what is wrong with the clock where the CA's says theirs, which is zero where the CA does not say.
func (c *client) clockError(now, theirs time.Time, req cert.Request) error {
	ahead := now.Sub(theirs)
	early := ahead > clockDoubtful && theirs.Add(clockDoubtful).Before(req.Due)
	if theirs.IsZero() || !early && ahead < clockAhead && ahead > -clockBehind {
		return nil
	}
	wrong := fmt.Errorf("the clock is %s behind the CA's", -ahead.Round(time.Minute))
	switch {
	case early:
		wrong = fmt.Errorf("the clock is %s ahead of the CA's, by which the certificate is not due before %s", ahead.Round(time.Minute), req.Due.UTC().Format(time.RFC3339))
	case ahead > 0:
		wrong = fmt.Errorf("the clock is %s ahead of the CA's", ahead.Round(time.Minute))
	}
	return &cert.Error{Op: "order", Name: req.Spec.Name, Kind: cert.KindClock, Err: wrong, Hint: "set the clock of this machine and have it kept right (NTP)"}
}

// askTime has the CA say what time it is; zero if it does not.
func (c *client) askTime(ctx context.Context) (time.Time, error) {
	resp, err := c.ask(ctx, http.MethodGet, c.ca.Directory)
	if err != nil {
		return time.Time{}, c.failure("directory", "", err)
	}
	return heard{header: resp.Header}.date(), nil
}
