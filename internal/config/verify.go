package config

import (
	"cmp"
	"errors"
	"fmt"
	"net"
	"net/netip"
	"net/url"
	"regexp"
	"slices"
	"strconv"
	"strings"

	"github.com/sidecert/sidecert/internal/cert"
)

// endpoint is one entry of VERIFY; cert is empty where it is for all.
type endpoint struct{ cert, address string }

// hostname is wider than a certificate's names: Compose services have underscores too.
var hostname = regexp.MustCompile(`^[A-Za-z0-9]([A-Za-z0-9_.-]{0,251}[A-Za-z0-9])?$`)

// verify gives each certificate what proves a reload of it.
func (p *parser) verify(v vars, c *Config, drafts []*draft) {
	list, off := p.endpoints("VERIFY", v.Verify)
	c.endpoints = p.known("VERIFY", list, lineages(drafts), c.Adopt || p.hears(v))
	c.General.Verify = cert.Verify{Off: off, Endpoints: addressesFor("", c.endpoints)}
	for _, d := range drafts {
		d.spec.Verify = c.VerifyFor(d.spec.Name)
		if variable := d.own.variable("VERIFY"); d.own.Verify != "" {
			list, off := p.endpoints(variable, d.own.Verify)
			list = p.known(variable, list, []string{d.spec.Name}, false)
			d.spec.Verify = cert.Verify{Off: off, Endpoints: addressesFor(d.spec.Name, list)}
		}
	}
}

// VerifyFor is what proves a reload of a lineage that is adopted: what VERIFY says of all certificates and of its name.
func (c Config) VerifyFor(lineage string) cert.Verify {
	return cert.Verify{Off: c.General.Verify.Off, Endpoints: addressesFor(lineage, c.endpoints)}
}

func addressesFor(name string, list []endpoint) []string {
	var addresses []string
	for _, e := range list {
		if (e.cert == "" || e.cert == name) && !slices.Contains(addresses, e.address) {
			addresses = append(addresses, e.address)
		}
	}
	return addresses
}

// known are the endpoints of certificates that there are, or may be: one that is not configured can be adopted at any time.
func (p *parser) known(variable string, list []endpoint, configured []string, adopt bool) []endpoint {
	var known []endpoint
	for _, e := range list {
		isKnown := e.cert == "" || slices.Contains(configured, e.cert)
		if !isKnown && !adopt {
			p.wrong(variable, e.cert+"="+e.address, "is about a certificate that is not configured; there is %s", orNone(configured))
			continue
		}
		if !isKnown && !p.adopting {
			p.warn(variable, "%s=%s is about a certificate that is neither configured nor certbot's; there is %s", shorten(e.cert), e.address, orNone(configured))
		}
		known = append(known, e)
	}
	return known
}

// endpoints reads VERIFY or a certificate's own.
func (p *parser) endpoints(variable, text string) (list []endpoint, off bool) {
	switch strings.ToLower(text) {
	case "auto":
		return nil, false
	case "off":
		return nil, true
	}
	for _, entry := range strings.FieldsFunc(text, func(r rune) bool { return strings.ContainsRune(", \t\n;", r) }) {
		e, err := parseEndpoint(entry)
		switch {
		case err != nil:
			p.wrong(variable, entry, "%v", err)
		default:
			list = append(list, e)
		}
	}
	return list, false
}

func orNone(names []string) string {
	if len(names) == 0 {
		return "none"
	}
	shown := names[:min(len(names), maxListed)]
	return strings.Join(shown, ", ")
}

// parseEndpoint reads [CERT=]HOST:PORT. Its errors go on from the entry.
func parseEndpoint(entry string) (endpoint, error) {
	name, address, both := strings.Cut(entry, "=")
	if !both {
		name, address = "", entry
	}
	if strings.Contains(address, "://") {
		return endpoint{}, fmt.Errorf("is a URL; write %s", addressOf(address))
	}
	if isOneOf(strings.ToLower(entry), "auto", "off") {
		return endpoint{}, errors.New("stands beside endpoints; leave one out")
	}
	if addr, err := netip.ParseAddr(strings.Trim(address, "[]")); err == nil || hostname.MatchString(address) {
		host := address
		if err == nil {
			host = addr.String()
		}
		return endpoint{}, fmt.Errorf("has no port; write %s", net.JoinHostPort(host, "443"))
	}
	host, port, err := net.SplitHostPort(address)
	if err != nil {
		return endpoint{}, errors.New("is not HOST:PORT; write e.g. web:443, or [::1]:443 for an IPv6 address")
	}
	if _, err := netip.ParseAddr(host); err != nil && !hostname.MatchString(host) {
		return endpoint{}, errors.New("has no host before the port; write e.g. web:443")
	}
	if n, err := strconv.ParseUint(port, 10, 16); err != nil || n == 0 {
		return endpoint{}, fmt.Errorf("has %q for a port; write 1 to 65535", shorten(port))
	}
	return endpoint{name, net.JoinHostPort(host, port)}, nil
}

// addressOf takes host and port from a URL.
func addressOf(text string) string {
	u, err := url.Parse(text)
	if err != nil || u.Hostname() == "" {
		return "HOST:PORT"
	}
	return net.JoinHostPort(u.Hostname(), cmp.Or(u.Port(), "443"))
}
