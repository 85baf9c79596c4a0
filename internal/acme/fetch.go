package acme

import (
	"context"
	"crypto/tls"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"net/netip"
	"net/url"
	"slices"
	"strings"
	"syscall"
	"time"
)

const (
	// probeTimeout is for one fetch with all its redirects.
	probeTimeout = 5 * time.Second
	// probeBody is more than the content of a probe file and enough to see what came in its place.
	probeBody      = 4 << 10
	probeRedirects = 10
)

// way is how a name is reached: at a web container, at one of its addresses, or, where both are empty, wherever it leads.
type way struct {
	// upstream is HOST:PORT.
	upstream string
	address  netip.Addr
}

func at(upstreams []string) []way {
	var ways []way
	for _, upstream := range upstreams {
		ways = append(ways, way{upstream: upstream})
	}
	return ways
}

// fetch asks for the probe file as the CA would.
func (p *probe) fetch(ctx context.Context, way way) sight {
	ctx, cancel := context.WithTimeout(ctx, probeTimeout)
	defer cancel()
	seen := sight{name: p.name, way: way, where: p.where(way), webroot: p.path}
	host := p.name
	if strings.Contains(host, ":") {
		host = "[" + host + "]"
	}
	target := &url.URL{Scheme: "http", Host: host, Path: "/" + challengePath + "/" + p.token}
	req, err := http.NewRequestWithContext(ctx, http.MethodGet, target.String(), nil)
	if err != nil {
		seen.err = err
		return seen
	}
	req.Header.Set("User-Agent", p.agent)
	resp, err := p.httpClient(way, &seen).Do(req)
	if err != nil {
		p.noteFailure(&seen, err)
		return seen
	}
	defer resp.Body.Close()
	body, err := io.ReadAll(io.LimitReader(resp.Body, probeBody))
	if err != nil {
		seen.err = err
		return seen
	}
	p.noteAnswer(&seen, resp, string(body))
	return seen
}

// noteFailure tells a redirect that leads nowhere from the lack of any answer.
func (p *probe) noteFailure(seen *sight, err error) {
	seen.err = err
	failed, ok := errors.AsType[*url.Error](err)
	if !ok {
		return
	}
	seen.err = failed.Err // without it the URL would be named twice
	last, err := url.Parse(failed.URL)
	_, refused := errors.AsType[*redirectError](failed.Err)
	if err == nil && !refused && last.Scheme == "https" {
		seen.led = p.shown(last)
	}
}

func (p *probe) noteAnswer(seen *sight, resp *http.Response, body string) {
	seen.status = resp.StatusCode
	seen.server = clean(resp.Header.Get("Server"), 60)
	seen.start = clean(body, 80)
	if final := resp.Request.URL; final.Path != "/"+challengePath+"/"+p.token || final.Scheme != "http" || final.Hostname() != p.name {
		seen.led = p.shown(final)
	}
	content := probeContent(p.token)
	// "The server SHOULD ignore whitespace characters at the end of the body." RFC 8555 §8.3 of the CA, so do we.
	seen.served = seen.status == http.StatusOK && strings.TrimRight(body, " \t\r\n") == content
	if before, after, whole := strings.Cut(body, content); whole && !seen.served {
		seen.altered = difference(before, after)
	}
}

// difference says what a server has put around a file.
func difference(before, after string) string {
	switch {
	case before == "\ufeff" && strings.TrimSpace(after) == "":
		return "with a byte order mark before it"
	case strings.ContainsAny(before+after, "<>"):
		return "with markup around it"
	}
	return fmt.Sprintf("with %q before and %q after it", clean(before, 40), clean(after, 40))
}

// where is the URL as a person knows it, without the token.
func (p *probe) where(way way) string {
	shown := "http://" + p.name + "/" + challengePath + "/…"
	switch {
	case way.upstream != "":
		shown += " at " + way.upstream
	case way.address.Is4():
		shown += " at " + way.address.String() + " (IPv4)"
	case way.address.IsValid():
		shown += " at " + way.address.String() + " (IPv6)"
	}
	return shown
}

func (p *probe) shown(u *url.URL) string {
	return clean(strings.ReplaceAll(u.Redacted(), p.token, "…"), 200)
}

// httpClient notes who redirects. It verifies no certificate: the CA does not either when it is redirected to https, and the certificate may be the
// one that is about to be replaced.
func (p *probe) httpClient(way way, seen *sight) *http.Client {
	dial := p.dial
	switch {
	case way.upstream != "":
		dial = towards(way.upstream)
	case way.address.IsValid():
		dial = p.straight(way.address)
	}
	return &http.Client{
		Transport: &http.Transport{
			DialContext:            dial,
			TLSClientConfig:        &tls.Config{InsecureSkipVerify: true},
			DisableKeepAlives:      true,
			DisableCompression:     true,
			MaxResponseHeaderBytes: 64 << 10,
		},
		CheckRedirect: func(req *http.Request, via []*http.Request) error {
			seen.server = clean(req.Response.Header.Get("Server"), 60)
			return p.mayFollow(req.URL, len(via), way.upstream)
		},
	}
}

// dialer makes a connection, as http.Transport wants it.
type dialer func(ctx context.Context, network, address string) (net.Conn, error)

// towards dials an upstream whatever the name, its port 443 for https. So no redirect leads a probe away from it.
func towards(upstream string) dialer {
	return func(ctx context.Context, network, address string) (net.Conn, error) {
		to := upstream
		if _, port, _ := net.SplitHostPort(address); port == "443" {
			host, _, err := net.SplitHostPort(upstream)
			if err != nil {
				return nil, err
			}
			to = net.JoinHostPort(host, port)
		}
		return new(net.Dialer).DialContext(ctx, network, to)
	}
}

// straight dials one address of the probed name; another name that a redirect leads to is resolved.
func (p *probe) straight(to netip.Addr) dialer {
	return func(ctx context.Context, network, address string) (net.Conn, error) {
		if host, port, err := net.SplitHostPort(address); err == nil && strings.EqualFold(host, p.name) {
			address = net.JoinHostPort(to.String(), port)
		}
		return p.dial(ctx, network, address)
	}
}

// publicDialer looks at the address that a name has led to, not at the name: whoever rules the name's DNS, or redirects to it,
// must not have us ask a cloud's metadata service.
func publicDialer() dialer {
	return (&net.Dialer{Control: func(_, address string, _ syscall.RawConn) error { return checkAddress(address) }}).DialContext
}

// metadata are the addresses of clouds' metadata services that are not link-local: AWS and Google (IPv6), Alibaba, Oracle, Azure.
var metadata = []netip.Addr{
	netip.MustParseAddr("fd00:ec2::254"), netip.MustParseAddr("fd20:ce::254"),
	netip.MustParseAddr("100.100.100.200"), netip.MustParseAddr("192.0.0.192"), netip.MustParseAddr("168.63.129.16"),
}

// nat64 holds every IPv4 address in its last four bytes, RFC 6052 §2.1.
var nat64 = netip.MustParsePrefix("64:ff9b::/96")

// reached is the address that a gateway would talk to.
func reached(ip netip.Addr) netip.Addr {
	ip = ip.Unmap().WithZone("")
	if !nat64.Contains(ip) {
		return ip
	}
	inner, _ := netip.AddrFromSlice(ip.AsSlice()[12:])
	return inner
}

// barredError is an address that is not dialled.
type barredError struct{ ip netip.Addr }

func (e *barredError) Error() string {
	return fmt.Sprintf("%s is not asked: no web server of yours is there", e.ip)
}

func checkAddress(address string) error {
	to, err := netip.ParseAddrPort(address)
	if err != nil {
		return err
	}
	ip := reached(to.Addr())
	if ip.IsLinkLocalUnicast() || ip.IsUnspecified() || ip.IsMulticast() || slices.Contains(metadata, ip) {
		return &barredError{ip}
	}
	return nil
}

// mayFollow has the CA's rules for redirects (up to 10, to http or https, to ports 80 or 443), and one of ours: only to names
// that are ours.
func (p *probe) mayFollow(to *url.URL, hops int, upstream string) error {
	host := strings.ToLower(to.Hostname())
	switch {
	case hops > probeRedirects:
		return &redirectError{fmt.Sprintf("redirects more than %d times", probeRedirects)}
	case to.Scheme != "http" && to.Scheme != "https":
		return &redirectError{"redirects to " + p.shown(to) + ", which the CA does not follow"}
	case !portAllowed(to.Port(), upstream):
		return &redirectError{"redirects to port " + clean(to.Port(), 10) + ", which the CA does not follow"}
	case host != p.name && (p.managed == nil || !p.managed(host)):
		return &redirectError{"redirects to " + p.shown(to) + ", which is not followed from here"}
	}
	return nil
}

func portAllowed(port, upstream string) bool {
	if port == "" || port == "80" || port == "443" {
		return true
	}
	_, own, err := net.SplitHostPort(upstream)
	return err == nil && port == own
}

// redirectError is a redirect that was not followed.
type redirectError struct{ what string }

func (e *redirectError) Error() string { return e.what }
