package acme

import (
	"context"
	"crypto/rand"
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

	"github.com/sidecert/sidecert/internal/cert"
)

const (
	preflightLimit = time.Minute
	firstProbe     = 500 * time.Millisecond
	// probeTimeout is for one fetch with all its redirects.
	probeTimeout = 5 * time.Second
	// probeBody is more than the content of a probe file and enough to see what came in its place.
	probeBody      = 4 << 10
	probeRedirects = 10
)

// Preflight waits until the challenge path of every name is really served, for at most a minute, so that no order is wasted
// on a web container that is still starting. It puts a file in the webroot and fetches it as the CA would, but from here: from
// each web container under the name, and from wherever the name leads in public. One way that works is enough, since this
// container may well be unable to reach the site's public address. Its errors are *cert.Error and say what came back.
func (i *Issuer) Preflight(ctx context.Context, spec cert.Spec, names []string) error {
	if i.config.Preflight == PreflightOff || len(names) == 0 {
		return nil
	}
	limited, cancel := context.WithTimeout(ctx, i.pace(preflightLimit))
	defer cancel()
	var probes []*probe
	for _, name := range names {
		p, err := i.newProbe(spec.WebrootOf(name), name)
		if err != nil {
			return &cert.Error{Op: "preflight", Name: name, Err: err, Hint: webrootHint(spec.WebrootOf(name), err)}
		}
		defer p.close()
		probes = append(probes, p)
	}
	pending := probes
	for pause := firstProbe; ; pause = min(pause*3/2, maxPoll) {
		pending = i.probeAll(limited, spec, pending)
		if len(pending) == 0 {
			return nil
		}
		if pause == firstProbe {
			i.config.Log.Info("waiting until the web container serves the challenge path", cert.AttrCert, spec.Name, "at_most", preflightLimit)
		}
		if sleep(limited, i.pace(pause)) != nil {
			break
		}
	}
	if ctx.Err() != nil {
		return interrupted("preflight", spec.Name, ctx)
	}
	return i.unserved(limited, spec, pending)
}

// probeAll returns those that are still not served. Web containers may be started meanwhile, so they are looked up each time.
func (i *Issuer) probeAll(ctx context.Context, spec cert.Spec, probes []*probe) []*probe {
	var upstreams []string
	if i.config.Upstreams != nil {
		upstreams = i.config.Upstreams(ctx, spec)
	}
	each(len(probes), func(n int) { probes[n].run(ctx, upstreams) })
	return slices.DeleteFunc(slices.Clone(probes), func(p *probe) bool { return p.served })
}

func (i *Issuer) unserved(ctx context.Context, spec cert.Spec, probes []*probe) error {
	first := probes[0].finding
	var others []string
	for _, p := range probes[1:] {
		others = append(others, p.name)
	}
	err := first.err
	if len(others) > 0 {
		err = &said{text: fmt.Sprintf("%v; also not served: %s", err, strings.Join(others, ", ")), err: err}
	}
	hint := first.hint
	if i.config.Upstreams != nil && len(i.config.Upstreams(context.WithoutCancel(ctx), spec)) == 0 {
		hint = "no web container of RELOAD is running, see `docker compose ps` and its logs; seen from outside: " + hint
	}
	return &cert.Error{Op: "preflight", Name: probes[0].name, Err: err, Hint: hint}
}

// probe is a file in the webroot that looks like a challenge's and what came of fetching it.
type probe struct {
	name    string
	token   string
	webroot *webroot
	dial    dialer
	agent   string
	managed func(string) bool

	served  bool
	finding finding
}

// finding is what came back in place of the probe file. An answer tells more than the lack of one.
type finding struct {
	err      error
	hint     string
	answered bool
}

func (i *Issuer) newProbe(path, name string) (*probe, error) {
	w, err := openWebroot(path)
	if err != nil {
		return nil, err
	}
	p := &probe{name: strings.ToLower(name), token: "sidecert-" + rand.Text(), webroot: w, dial: i.dial, agent: i.config.UserAgent, managed: i.config.Managed}
	if err := w.put(p.token, probeContent(p.token)); err != nil {
		w.close()
		return nil, err
	}
	return p, nil
}

// probeContent is what a probe file says. It has the form of a key authorization but is none.
func probeContent(token string) string { return token + ".probe" }

func (p *probe) close() {
	p.webroot.remove(p.token)
	p.webroot.close()
}

// run tries every way to the name until one works, and keeps the most telling of what came back.
func (p *probe) run(ctx context.Context, upstreams []string) {
	var best finding
	for _, upstream := range append(slices.Clone(upstreams), "") {
		found, ok := p.fetch(ctx, upstream)
		if ok {
			p.served = true
			return
		}
		if ctx.Err() != nil && p.finding.err != nil {
			return // cut short: what an earlier round found says more
		}
		if best.err == nil || found.answered && !best.answered {
			best = found
		}
	}
	p.finding = best
}

// fetch asks for the file at an upstream, or where the name leads in public if that is "".
func (p *probe) fetch(ctx context.Context, upstream string) (finding, bool) {
	ctx, cancel := context.WithTimeout(ctx, probeTimeout)
	defer cancel()
	host := p.name
	if strings.Contains(host, ":") {
		host = "[" + host + "]"
	}
	target := &url.URL{Scheme: "http", Host: host, Path: "/" + challengePath + "/" + p.token}
	req, err := http.NewRequestWithContext(ctx, http.MethodGet, target.String(), nil)
	if err != nil {
		return finding{err: err}, false
	}
	req.Header.Set("User-Agent", p.agent)
	resp, err := p.httpClient(upstream).Do(req)
	if err != nil {
		return p.unanswered(upstream, err), false
	}
	defer resp.Body.Close()
	body, err := io.ReadAll(io.LimitReader(resp.Body, probeBody))
	if err != nil {
		return p.unanswered(upstream, err), false
	}
	// "The server SHOULD ignore whitespace characters at the end of the body." RFC 8555 §8.3 of the CA, so do we.
	if resp.StatusCode == http.StatusOK && strings.TrimRight(string(body), " \t\r\n") == probeContent(p.token) {
		return finding{}, true
	}
	return p.wrongAnswer(upstream, resp, string(body)), false
}

// httpClient verifies no certificate: the CA does not either when it is redirected to https, and the certificate may be the
// one that is about to be replaced.
func (p *probe) httpClient(upstream string) *http.Client {
	dial := p.dial
	if upstream != "" {
		dial = towards(upstream)
	}
	return &http.Client{
		Transport: &http.Transport{
			DialContext:            dial,
			TLSClientConfig:        &tls.Config{InsecureSkipVerify: true},
			DisableKeepAlives:      true,
			DisableCompression:     true,
			MaxResponseHeaderBytes: 64 << 10,
		},
		CheckRedirect: func(req *http.Request, via []*http.Request) error { return p.mayFollow(req.URL, len(via), upstream) },
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

// publicDialer looks at the address that a name has led to, not at the name: whoever rules the name's DNS, or redirects to it,
// must not have us ask a cloud's metadata service.
func publicDialer() dialer {
	return (&net.Dialer{Control: func(_, address string, _ syscall.RawConn) error { return checkAddress(address) }}).DialContext
}

// metadata are the addresses of clouds' metadata services that are not link-local: AWS (IPv6), Alibaba, Oracle.
var metadata = []netip.Addr{netip.MustParseAddr("fd00:ec2::254"), netip.MustParseAddr("100.100.100.200"), netip.MustParseAddr("192.0.0.192")}

func checkAddress(address string) error {
	to, err := netip.ParseAddrPort(address)
	if err != nil {
		return err
	}
	ip := to.Addr().Unmap().WithZone("")
	if ip.IsLinkLocalUnicast() || ip.IsUnspecified() || ip.IsMulticast() || slices.Contains(metadata, ip) {
		return fmt.Errorf("%s is not asked: no web server of yours is there", ip)
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
		return &redirectError{"redirects to " + clean(to.Redacted(), 200) + ", which the CA does not follow"}
	case !portAllowed(to.Port(), upstream):
		return &redirectError{"redirects to port " + clean(to.Port(), 10) + ", which the CA does not follow"}
	case host != p.name && (p.managed == nil || !p.managed(host)):
		return &redirectError{"redirects to " + clean(to.Redacted(), 200) + ", which is not followed from here"}
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

func (p *probe) unanswered(upstream string, err error) finding {
	where := p.where(upstream)
	if redirect, ok := errors.AsType[*redirectError](err); ok {
		return finding{answered: true, err: fmt.Errorf("%s %s", where, redirect.what),
			hint: fmt.Sprintf("%s %s: serve this path before any redirect", where, redirect.what)}
	}
	if inner, ok := errors.AsType[*url.Error](err); ok {
		err = inner.Err // without it the URL would be named twice
	}
	failed := &said{clean(fmt.Sprintf("%s: %v", where, err), maxWords), err}
	if _, ok := errors.AsType[*net.DNSError](err); ok {
		return finding{err: failed, hint: fmt.Sprintf("%s cannot be resolved from here: check its A and AAAA records", p.name)}
	}
	return finding{err: failed, hint: fmt.Sprintf("%s did not answer: is the web container running and listening on port 80?", where)}
}

func (p *probe) wrongAnswer(upstream string, resp *http.Response, body string) finding {
	what := fmt.Sprintf("%s answered %d", p.where(upstream), resp.StatusCode)
	if final := resp.Request.URL; final.Path != "/"+challengePath+"/"+p.token || final.Scheme != "http" {
		what += " after a redirect to " + clean(final.Redacted(), 200)
	}
	if server := clean(resp.Header.Get("Server"), 60); server != "" {
		what += " (Server: " + server + ")"
	}
	said := what
	if start := clean(body, 80); start != "" {
		said += fmt.Sprintf(", beginning %q", start)
	}
	return finding{answered: true, err: errors.New(said), hint: what + ": " + remedy(resp.StatusCode)}
}

// where is the URL as a person knows it, without the token.
func (p *probe) where(upstream string) string {
	shown := "http://" + p.name + "/" + challengePath + "/…"
	if upstream != "" {
		shown += " at " + upstream
	}
	return shown
}

// remedy is what to do about an answer.
func remedy(status int) string {
	switch {
	case status == http.StatusOK:
		return "another server block or an application answers for this name; serve /.well-known/acme-challenge/ from the webroot volume"
	case status == http.StatusNotFound:
		return "mount the webroot volume in the web container too, and serve /.well-known/acme-challenge/ from it"
	case status == http.StatusUnauthorized:
		return "take /.well-known/acme-challenge/ out of the password protection"
	case status == http.StatusForbidden:
		return "let the web server read the webroot volume, and allow /.well-known/acme-challenge/ for everyone"
	case status >= 500:
		return "the web server passes the path on to something that fails; serve /.well-known/acme-challenge/ from the webroot volume"
	}
	return "serve /.well-known/acme-challenge/ from the webroot volume"
}
