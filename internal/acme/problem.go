package acme

import (
	"context"
	"crypto/x509"
	"errors"
	"fmt"
	"net"
	"net/http"
	"regexp"
	"slices"
	"strings"
	"unicode"
	"unicode/utf8"

	xacme "golang.org/x/crypto/acme"

	"github.com/sidecert/sidecert/internal/cert"
)

// maxWords is how many bytes of a CA's words are passed on.
const maxWords = 500

// said is an error in words that are fit for a log line: one line, printable, bounded.
type said struct {
	text string
	err  error
}

func (s *said) Error() string { return s.text }
func (s *said) Unwrap() error { return s.err }

// failure makes a *cert.Error of whatever went wrong in a deed: what the CA said, or that it said nothing.
func (i *Issuer) failure(op, name string, err error) error {
	if _, ok := errors.AsType[*cert.Error](err); ok {
		return err
	}
	if problem, ok := errors.AsType[*xacme.Error](err); ok {
		return i.problem(op, name, problem)
	}
	failed := &cert.Error{Op: op, Name: name, Err: &said{clean(err.Error(), maxWords), err}, Hint: connectionHint(err)}
	if beforeOrder(op) {
		failed.Kind = cert.KindUnreachable
	}
	return failed
}

// beforeOrder reports whether a deed stands before the CA has made an order.
func beforeOrder(op string) bool {
	return op == "directory" || op == "account" || op == "order" || op == "renewalInfo"
}

func interrupted(op, name string, ctx context.Context) error {
	return &cert.Error{Op: op, Name: name, Kind: cert.KindInterrupted, Err: context.Cause(ctx)}
}

// problem reads a problem document, RFC 8555 §6.7.
func (i *Issuer) problem(op, name string, p *xacme.Error) error {
	if named := namedBy(p); named != "" {
		name = named
	}
	notBefore := retryAfter(p.Header, i.config.Now())
	return &cert.Error{
		Op:        op,
		Name:      name,
		Kind:      kindOf(op, p, !notBefore.IsZero()),
		Err:       &said{words(p), p},
		Hint:      hintOf(op, name, p),
		NotBefore: notBefore,
	}
}

// words are the CA's own, with the problem's type.
func words(p *xacme.Error) string {
	text := p.Detail
	for _, sub := range p.Subproblems {
		if sub.Identifier != nil {
			text += fmt.Sprintf("; %s: %s", sub.Identifier.Value, sub.Detail)
		}
	}
	if text = clean(text, maxWords); text == "" {
		text = http.StatusText(p.StatusCode)
	}
	if t := lastPart(p.ProblemType); t != "" {
		return text + " (" + clean(t, 60) + ")"
	}
	return fmt.Sprintf("%s (status %d)", text, p.StatusCode)
}

// namedBy is the name that a problem is about, "" if it does not say.
func namedBy(p *xacme.Error) string {
	for _, sub := range p.Subproblems {
		if sub.Identifier != nil {
			return clean(sub.Identifier.Value, 253)
		}
	}
	return ""
}

// kindOf decides what a problem means for the next try; asked says that the CA asked to wait.
func kindOf(op string, p *xacme.Error, asked bool) cert.Kind {
	switch t := shortType(p.ProblemType); {
	case isPaused(p):
		return cert.KindPerson
	case t == "ratelimited" && isPerName(op, p):
		return cert.KindPassing
	case asked && (t == "ratelimited" || p.StatusCode == http.StatusTooManyRequests || p.StatusCode == http.StatusServiceUnavailable):
		return cert.KindBusy
	case forPerson[t], t == "unauthorized" && beforeOrder(op):
		return cert.KindPerson
	case p.StatusCode >= 500 && op != "order" && beforeOrder(op):
		return cert.KindUnreachable // an order that a CA refuses is an attempt: its answer will be the same in a minute
	}
	return cert.KindPassing
}

// forPerson are the types of RFC 8555 §6.7 (and of profiles) that no repetition mends.
var forPerson = map[string]bool{
	"badcsr": true, "badpublickey": true, "badsignaturealgorithm": true, "caa": true, "externalaccountrequired": true,
	"invalidcontact": true, "invalidprofile": true, "malformed": true, "rejectedidentifier": true,
	"unsupportedcontact": true, "unsupportedidentifier": true, "useractionrequired": true,
}

// isPerName tells a limit of a name or a set of names from one of the account or address, which everyone shares. There is no
// field for it: the words are Let's Encrypt's.
func isPerName(op string, p *xacme.Error) bool {
	return !beforeOrder(op) || namedBy(p) != "" || perName.MatchString(p.Detail)
}

var perName = regexp.MustCompile(`already issued|exact set|failed authorizations|failed validations`)

// isPaused recognizes Let's Encrypt's pausing of names that have failed for long, which a person must end at a page of its own.
func isPaused(p *xacme.Error) bool {
	return strings.Contains(p.Detail, "temporarily prevented from requesting certificates")
}

// hints are by problem type, %s is the name.
var hints = map[string]string{
	"dns":                     "check that %s has an A or AAAA record and that its name servers answer",
	"connection":              "the CA must reach http://%s/ on port 80 from outside: look at firewall and port forwarding, and at the AAAA record if there is one",
	"tls":                     "the CA was sent on to https and could not connect: let /.well-known/acme-challenge/ of %s answer on port 80",
	"unauthorized":            "the CA found something else at http://%s/.well-known/acme-challenge/…: mount the webroot volume in the web container too and serve that path from it",
	"caa":                     "a CAA record of %s or of a domain above it forbids this CA: add one that allows it",
	"rejectedidentifier":      "this CA gives no certificate for %s: take the name out, or use another CA",
	"unsupportedidentifier":   "this CA gives no certificate for %s: take the name out, or use another CA or profile",
	"ratelimited":             "nothing to do but wait: it is tried again when the CA allows it",
	"externalaccountrequired": "set ACME_EAB_KID and ACME_EAB_HMAC_KEY to what the CA has given you for your account there",
	"useractionrequired":      "the CA wants its terms agreed to anew",
	"accountdoesnotexist":     "the CA has lost the account and did not take it again",
	"unsupportedcontact":      "set EMAIL to an address that the CA accepts, or leave it away",
	"badcsr":                  "another KEY_TYPE may help",
	"badpublickey":            "another KEY_TYPE may help",
	"badrevocationreason":     "the CA takes no such reason: try another one, or unspecified",
	"badnonce":                "the CA refused one nonce after the other: is something between here and the CA that keeps its answers?",
	"invalidprofile":          "set ACME_PROFILE to one that the CA offers, or take it away",
}

// sameHint are types that mean what another one means.
var sameHint = map[string]string{"incorrectresponse": "unauthorized", "invalidcontact": "unsupportedcontact"}

func hintOf(op, name string, p *xacme.Error) string {
	t := shortType(p.ProblemType)
	if same, ok := sameHint[t]; ok {
		t = same
	}
	switch {
	case isPaused(p):
		return "end the pause at " + linkIn(p.Detail)
	case t == "useractionrequired" && p.Instance != "":
		return hints[t] + " at " + clean(p.Instance, maxWords)
	case t == "unauthorized" && beforeOrder(op):
		return "the CA refuses the account: it may have been deactivated there"
	case op == "directory" && p.StatusCode == http.StatusNotFound:
		return "ACME_CA must be the URL of the CA's directory"
	case p.StatusCode >= 500:
		return "the trouble is the CA's own: it is tried again"
	}
	if hint := hints[t]; strings.Contains(hint, "%s") {
		return fmt.Sprintf(hint, name)
	}
	return hints[t]
}

// linkIn is the first link in a text, whole: one that is cut is of no use.
func linkIn(text string) string {
	if link := linkForm.FindString(text); link != "" && len(link) <= 4*maxWords {
		return link
	}
	return "the page that the CA names"
}

var linkForm = regexp.MustCompile(`https://[!-~]+`)

// connectionHint is for failures below HTTP.
func connectionHint(err error) string {
	if unknown, ok := errors.AsType[x509.UnknownAuthorityError](err); ok {
		issuer := "nobody"
		if unknown.Cert != nil {
			issuer = clean(unknown.Cert.Issuer.String(), 200)
		}
		return "the CA's HTTPS is signed by " + issuer + ": if that is right, set ACME_CA_BUNDLE to its root"
	}
	if invalid, ok := errors.AsType[x509.CertificateInvalidError](err); ok && invalid.Reason == x509.Expired {
		return "the CA's HTTPS certificate is not valid at this time: is the clock of this machine right?"
	}
	if _, ok := errors.AsType[*net.DNSError](err); ok {
		return "this container cannot resolve the CA's name: look at its network and DNS"
	}
	if _, ok := errors.AsType[*net.OpError](err); ok {
		return "this container cannot reach the CA: look at its network and at the firewall for outgoing port 443"
	}
	return ""
}

// isProblem reports whether the CA answered with one of some problem types.
func isProblem(err error, types ...string) bool {
	is := problemType(err)
	return is != "" && slices.ContainsFunc(types, func(t string) bool { return is == strings.ToLower(t) })
}

// isLost reports whether no answer came that could be read, so that nobody knows what the CA did.
func isLost(err error) bool {
	_, answered := errors.AsType[*xacme.Error](err)
	return !answered
}

// isUnsent reports whether the CA was not even reached.
func isUnsent(err error) bool {
	op, ok := errors.AsType[*net.OpError](err)
	_, unknown := errors.AsType[*net.DNSError](err)
	return unknown || ok && op.Op == "dial"
}

// isTheirs reports whether the CA said that it is at fault itself.
func isTheirs(err error) bool {
	problem, ok := errors.AsType[*xacme.Error](err)
	return ok && problem.StatusCode >= 500
}

// reason is the type of the problem behind an error, for lists: " (dns)".
func reason(err error) string {
	problem, ok := errors.AsType[*xacme.Error](err)
	if !ok || problem.ProblemType == "" {
		return ""
	}
	return " (" + clean(lastPart(problem.ProblemType), 60) + ")"
}

// problemType is the short type of the problem behind an error, "" where the CA gave none.
func problemType(err error) string {
	problem, ok := errors.AsType[*xacme.Error](err)
	if !ok {
		return ""
	}
	return shortType(problem.ProblemType)
}

// shortType is the last part of a problem's type in lower case: CAs differ in case and in what stands before.
func shortType(problemType string) string { return strings.ToLower(lastPart(problemType)) }

func lastPart(problemType string) string {
	return problemType[strings.LastIndexByte(problemType, ':')+1:]
}

// clean makes text from outside fit for logs, terminals and mails: what is not printable becomes a space, and there is an end.
func clean(text string, limit int) string {
	text = strings.Map(func(r rune) rune {
		if !unicode.IsPrint(r) || r == utf8.RuneError {
			return ' '
		}
		return r
	}, text[:min(len(text), 4*limit)])
	text = strings.Join(strings.Fields(text), " ")
	if len(text) <= limit {
		return text
	}
	cut := limit - len("…")
	for !utf8.RuneStart(text[cut]) {
		cut--
	}
	return text[:cut] + "…"
}
