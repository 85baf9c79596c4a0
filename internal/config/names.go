package config

import (
	"errors"
	"fmt"
	"net/netip"
	"regexp"
	"strings"

	"golang.org/x/net/idna"
	"golang.org/x/net/publicsuffix"

	"github.com/sidecert/sidecert/internal/cert"
)

const (
	// "labels 63 octets or less, names 255 octets or less" on the wire, RFC 1035 §2.3.4, which is 253 as text.
	maxDomain = 253
	maxLabel  = 63
)

var number = regexp.MustCompile(`^[0-9]+$`)

// canonical brings a name to the form that a certificate holds: lower case, A-labels, no dot at the end; an IP address as
// short as it goes. Its errors go on from the name, as a Mistake's text does.
func canonical(text string) (string, error) {
	if len(text) > 8*maxDomain {
		return "", fmt.Errorf("is %d bytes long; a name has at most %d", len(text), maxDomain)
	}
	if addr, err := netip.ParseAddr(strings.Trim(text, "[]")); err == nil {
		if addr.Zone() != "" {
			return "", errors.New("is an address with a zone, which means something on one machine only; write the address alone")
		}
		return addr.Unmap().String(), nil
	}
	if host := hostOf(text); host != text {
		name, err := canonical(host)
		if err != nil {
			return "", err
		}
		return "", fmt.Errorf("is more than a name; write %s", name)
	}
	if strings.Contains(text, "*") {
		return "", errors.New("is a wildcard, which a CA gives by a DNS-01 challenge only, and sidecert answers HTTP-01; write out the names, or keep this one with another client")
	}
	name := strings.ToLower(text)
	if !ascii(name) || strings.Contains(name, "xn--") {
		var err error
		if name, err = idna.Lookup.ToASCII(name); err != nil {
			return "", errors.New("is no international name that DNS allows; look for a character that does not belong there")
		}
	}
	name = strings.TrimSuffix(name, ".")
	return name, checkLabels(name)
}

// hostOf strips from a URL all but its host.
func hostOf(text string) string {
	if _, after, ok := strings.Cut(text, "://"); ok {
		text = after
	}
	if i := strings.IndexAny(text, "/?#"); i >= 0 {
		text = text[:i]
	}
	text = text[strings.LastIndex(text, "@")+1:]
	if inside, ok := strings.CutPrefix(text, "["); ok {
		inside, _, _ = strings.Cut(inside, "]")
		return inside
	}
	host, _, _ := strings.Cut(text, ":")
	return host
}

func checkLabels(name string) error {
	if len(name) > maxDomain {
		return fmt.Errorf("has %d characters; a name has at most %d", len(name), maxDomain)
	}
	labels := strings.Split(name, ".")
	for _, label := range labels {
		if err := checkLabel(label); err != nil {
			return err
		}
	}
	if number.MatchString(labels[len(labels)-1]) {
		return errors.New("ends in a number, so it is neither a name nor an IP address")
	}
	return nil
}

func checkLabel(label string) error {
	switch {
	case label == "":
		return errors.New("has nothing before, between or after its dots")
	case len(label) > maxLabel:
		return fmt.Errorf("has a part of %d characters; between dots are at most %d", len(label), maxLabel)
	case strings.Contains(label, "_"):
		return errors.New("has an underscore, which no CA certifies; give the host a name with a hyphen")
	case strings.HasPrefix(label, "-") || strings.HasSuffix(label, "-"):
		return errors.New("has a hyphen beside a dot or at an end, where none may be")
	}
	for _, r := range label {
		if (r < 'a' || r > 'z') && (r < '0' || r > '9') && r != '-' {
			return fmt.Errorf("holds %q, which is in no name", r)
		}
	}
	return nil
}

func ascii(text string) bool {
	return strings.IndexFunc(text, func(r rune) bool { return r > 127 }) < 0
}

// letsEncrypt reports whether Let's Encrypt's own rules for profiles hold at a directory.
func letsEncrypt(directory string) bool {
	return directory == cert.LetsEncrypt || directory == cert.LetsEncryptStaging
}

// certifiable says what keeps a CA from certifying a canonical name, going on from the name; nil if nothing is known.
func certifiable(name string, ca cert.CA, profile, profileVariable string) error {
	if addr, err := netip.ParseAddr(name); err == nil {
		return certifiableIP(addr, ca, profile, profileVariable)
	}
	if !cert.Public(ca.Directory) {
		return nil
	}
	if !strings.Contains(name, ".") {
		return errors.New("is a single word, which no public CA certifies; write the full name, or ACME_CA with a CA of your own")
	}
	for _, end := range privateEnds {
		if strings.HasSuffix(name, end) {
			return fmt.Errorf("ends in %s, which is not in the public DNS, so no public CA certifies it; write a public name, or ACME_CA with a CA of your own", end)
		}
	}
	if suffix, icann := publicsuffix.PublicSuffix(name); suffix == name && icann {
		return errors.New("is a public suffix, below which people register their names; write a name below it")
	}
	return nil
}

func certifiableIP(addr netip.Addr, ca cert.CA, profile, profileVariable string) error {
	if letsEncrypt(ca.Directory) && profile != "shortlived" {
		return fmt.Errorf("is an IP address, which Let's Encrypt certifies with the profile shortlived only; write %s=shortlived", profileVariable)
	}
	if cert.Public(ca.Directory) && (!addr.IsGlobalUnicast() || addr.IsPrivate()) {
		return errors.New("is a private IP address, which no public CA certifies; write a public one, or ACME_CA with a CA of your own")
	}
	return nil
}

// privateEnds are what the public DNS never has: RFC 6761, RFC 6762 appendix G, RFC 7686, RFC 8375, and ICANN's reservation
// of .internal.
var privateEnds = []string{
	".corp", ".home", ".home.arpa", ".internal", ".intranet", ".invalid", ".lan", ".local", ".localdomain", ".localhost",
	".onion", ".private", ".test",
}

// family is what related names have in common: the domain that somebody registered. Below endings that are not in the public
// DNS it is the ending, and IP addresses have none.
func family(name string) string {
	if _, err := netip.ParseAddr(name); err == nil {
		return ""
	}
	suffix, icann := publicsuffix.PublicSuffix(name)
	if !icann && !strings.Contains(suffix, ".") {
		return suffix
	}
	domain, err := publicsuffix.EffectiveTLDPlusOne(name)
	if err != nil {
		return name
	}
	return domain
}
