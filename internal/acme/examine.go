package acme

import (
	"context"
	"fmt"
	"net/netip"
	"slices"
	"strings"
	"sync"
	"time"

	"golang.org/x/net/dns/dnsmessage"

	"github.com/sidecert/sidecert/internal/cert"
)

const (
	// examineLimit is for one name as a whole; waysLimit leaves a probe its time of it.
	examineLimit = 15 * time.Second
	waysLimit    = examineLimit - probeTimeout
	// maxAddresses is how many addresses of each family are asked, maxUpstreams how many web containers.
	maxAddresses = 4
	maxUpstreams = 8

	pathTopic = "challenge path"
	dnsTopic  = "DNS"
	caaTopic  = "CAA"
)

// Look is one look at names: the web containers of a spec are found once for all of them.
type Look struct {
	*Issuer
	// limit is for one name as a whole, waysLimit for finding the web containers of a spec.
	limit, waysLimit time.Duration

	mu   sync.Mutex
	webs map[string]func() (servers, error) // by the spec's name
}

// servers are what is known of the web containers of a spec.
type servers struct {
	ways []way
	// misplaced is Config.Misplaced's.
	misplaced string
}

// Look begins one.
func (i *Issuer) Look() *Look {
	return &Look{Issuer: i, limit: examineLimit, waysLimit: waysLimit, webs: map[string]func() (servers, error){}}
}

// Examine looks at everything that the CA will look at before it gives a certificate for one of a spec's names: its addresses, its CAA
// records, and its challenge path, straight at each web container and at each public address. It asks the CA for nothing but its
// directory, and that only if CAA records are to be understood and it was not read before. ctx is the same for all names of a look;
// when it ends, what was not looked at is not told of.
func (l *Look) Examine(ctx context.Context, spec cert.Spec, name string) []cert.Finding {
	limited, cancel := context.WithTimeout(ctx, l.limit)
	defer cancel()
	var caa cert.Finding
	var beside, before sync.WaitGroup
	beside.Go(func() { caa = inTime(limited, l.examineCAA(limited, spec, name)) })
	before.Go(func() { l.findWeb(ctx, spec) })
	addresses, dns := l.examineDNS(limited, spec, name)
	before.Wait()
	path := l.examinePath(limited, spec, name, addresses)
	beside.Wait()
	all := append(append(path, dns...), caa)
	if ctx.Err() != nil {
		return slices.DeleteFunc(all, func(f cert.Finding) bool { return f.Level == cert.Unknown })
	}
	return all
}

// inTime is a finding, or what is said in its place where it could not be made since the time was over.
func inTime(ctx context.Context, f cert.Finding) cert.Finding {
	if f.Level == cert.Unknown && ctx.Err() != nil {
		return tooLate(f.Topic, f.About, "the "+f.Topic+" records of "+f.About)
	}
	return f
}

func tooLate(topic, name, what string) cert.Finding {
	return cert.Finding{Level: cert.Unknown, Topic: topic, About: name, Text: what + " could not be looked at in time",
		Hint: "look again; if it stays so, the name servers, the engine or the web server are slow to answer"}
}

// examineDNS looks the addresses of a name up.
func (i *Issuer) examineDNS(ctx context.Context, spec cert.Spec, name string) ([]netip.Addr, []cert.Finding) {
	if ip, err := netip.ParseAddr(name); err == nil {
		return []netip.Addr{ip}, outsideFindings(spec, name, []netip.Addr{ip})
	}
	var four, six []netip.Addr
	var errFour, errSix error
	var both sync.WaitGroup
	both.Go(func() { four, errFour = i.addresses(ctx, name, dnsmessage.TypeA) })
	both.Go(func() { six, errSix = i.addresses(ctx, name, dnsmessage.TypeAAAA) })
	both.Wait()
	all := append(slices.Clone(four), six...)
	found := cert.Finding{Topic: dnsTopic, About: name}
	switch {
	case len(all) == 0 && (errFour != nil || errSix != nil):
		found = inTime(ctx, unresolvable(found, errFour, errSix))
	case len(all) == 0:
		found.Level, found.Text = cert.Bad, name+" exists in the DNS but has neither an A nor an AAAA record"
		found.Hint = "add an A record (and AAAA, if the web server is reached by IPv6) with the public address of this site"
	case errFour != nil || errSix != nil:
		found.Level, found.Text = cert.Doubtful, fmt.Sprintf("%s has the address %s, but not all of its records can be looked up: %s", name, listed(all), dnsWords(errFour, errSix))
		found.Hint = "see that its name servers answer for A and for AAAA, if only with nothing"
	default:
		found.Text = name + " has the address " + listed(all)
	}
	return all, append([]cert.Finding{found}, outsideFindings(spec, name, all)...)
}

func (i *Issuer) addresses(ctx context.Context, name string, kind dnsmessage.Type) ([]netip.Addr, error) {
	data, err := i.resolver.lookup(ctx, name, kind)
	var addresses []netip.Addr
	for _, d := range data {
		if ip, ok := netip.AddrFromSlice(d); ok && len(addresses) < maxAddresses && !slices.Contains(addresses, ip) {
			addresses = append(addresses, ip)
		}
	}
	return addresses, err
}

// unresolvable tells a name that does not exist from a name server that fails, and that from one that is away.
func unresolvable(found cert.Finding, errs ...error) cert.Finding {
	for _, err := range errs {
		switch {
		case isCode(err, dnsmessage.RCodeNameError):
			found.Level, found.Text = cert.Bad, found.About+" does not exist in the DNS (NXDOMAIN)"
			found.Hint = "add an A record with the public address of this site, or correct the name; a new record may take a while to be seen"
			return found
		case isCode(err, dnsmessage.RCodeServerFailure):
			found.Level, found.Text = cert.Bad, "the name servers of "+found.About+" fail (SERVFAIL)"
			found.Hint = "see that its name servers are up and know the domain, and that its DNSSEC is right"
			return found
		}
	}
	found.Level, found.Text = cert.Unknown, found.About+" cannot be looked up from here: "+dnsWords(errs...)
	found.Hint = "look at the name servers in this container's /etc/resolv.conf"
	return found
}

func dnsWords(errs ...error) string {
	for _, err := range errs {
		if err != nil {
			return clean(err.Error(), 200)
		}
	}
	return ""
}

func listed(addresses []netip.Addr) string {
	var words []string
	for _, ip := range addresses {
		words = append(words, ip.String())
	}
	return strings.Join(words, ", ")
}

// outsideFindings are about addresses that nobody outside can reach. A private CA may well be inside.
func outsideFindings(spec cert.Spec, name string, addresses []netip.Addr) []cert.Finding {
	if !cert.Public(spec.CA.Directory) {
		return nil
	}
	var findings []cert.Finding
	for _, ip := range addresses {
		found := cert.Finding{Topic: dnsTopic, About: name}
		switch {
		case ip.IsLoopback() || ip.IsUnspecified() || ip.IsLinkLocalUnicast() || ip.IsMulticast():
			found.Level, found.Text = cert.Bad, fmt.Sprintf("%s has the address %s, which leads every machine to itself or nowhere", name, ip)
			found.Hint = "give it the public address of this site"
		case ip.IsPrivate() || sharedSpace.Contains(ip):
			found.Level, found.Text = cert.Doubtful, fmt.Sprintf("%s has the private address %s, which the CA cannot reach", name, ip)
			found.Hint = "give it the public address of this site, unless the DNS says another one outside of this network"
		default:
			continue
		}
		findings = append(findings, found)
	}
	return findings
}

// sharedSpace is behind the NAT of providers, RFC 6598.
var sharedSpace = netip.MustParsePrefix("100.64.0.0/10")

// examinePath fetches a probe file in every way that is known.
func (l *Look) examinePath(ctx context.Context, spec cert.Spec, name string, addresses []netip.Addr) []cert.Finding {
	p, err := l.newProbe(spec.WebrootOf(name), name)
	if err != nil {
		return []cert.Finding{{Level: cert.Bad, Topic: pathTopic, About: name,
			Text: "no challenge file can be written: " + clean(err.Error(), maxWords), Hint: webrootHint(spec.WebrootOf(name), err)}}
	}
	defer p.close()
	var findings []cert.Finding
	web, err := l.findWeb(ctx, spec)
	ways := slices.Clone(web.ways)
	switch {
	case err != nil:
		findings = append(findings, tooLate(pathTopic, name, "the web containers of "+name))
	case l.config.Upstreams != nil && len(ways) == 0:
		findings = append(findings, cert.Finding{Level: cert.Unknown, Topic: pathTopic, About: name,
			Text: "no web container is known that could be asked for " + name + " from inside",
			Hint: "see that one of RELOAD is running (`docker compose ps`) and shares a network with sidecert"})
	}
	for _, ip := range addresses {
		ways = append(ways, way{address: ip.Unmap()})
	}
	sights := make([]sight, len(ways))
	cut := make([]bool, len(ways))
	each(len(ways), func(n int) {
		sights[n] = p.fetch(ctx, ways[n])
		cut[n] = ctx.Err() != nil && !sights[n].answered()
	})
	all := panorama{sights, web.misplaced}
	for n, s := range sights {
		if cut[n] { // it says nothing about the way
			findings = append(findings, tooLate(pathTopic, name, s.where))
			continue
		}
		findings = append(findings, all.finding(s))
	}
	return findings
}

// findWeb finds the web containers of a spec, once in a look. It fails when that takes too long.
func (l *Look) findWeb(ctx context.Context, spec cert.Spec) (servers, error) {
	if l.config.Upstreams == nil {
		return servers{}, nil
	}
	l.mu.Lock()
	find := l.webs[spec.Name]
	if find == nil {
		find = sync.OnceValues(func() (s servers, err error) {
			ctx, cancel := context.WithTimeout(ctx, l.waysLimit)
			defer cancel()
			upstreams := l.config.Upstreams(ctx, spec)
			s.ways = at(upstreams[:min(len(upstreams), maxUpstreams)])
			if l.config.Misplaced != nil {
				s.misplaced = l.config.Misplaced(ctx, spec)
			}
			return s, ctx.Err()
		})
		l.webs[spec.Name] = find
	}
	l.mu.Unlock()
	return find()
}

// panorama is one name seen in all ways at once: what a silence means depends on the others.
type panorama struct {
	sights    []sight
	misplaced string
}

func (all panorama) finding(s sight) cert.Finding {
	found := cert.Finding{Topic: pathTopic, About: s.name, Text: s.text()}
	if s.served {
		return found
	}
	found.Level, found.Hint = cert.Bad, s.remedy()
	switch local := inside(s.way); {
	case local && !s.answered() && all.served(anyway):
		found.Level = cert.Unknown
		found.Hint = "the path works in another way, so this container may be one that does not serve plain HTTP"
	case local && all.served(anyway):
		found.Level = cert.Doubtful
		found.Hint += "; another way works all the same"
	case local:
	case s.answered() && all.served(inside):
		found.Level = cert.Doubtful
		found.Hint = "the web container serves the path, so the address leads to another server, or a router answers in its place to whoever asks from inside: " +
			"check the DNS and the port forwarding" + all.elsewhere("; ")
	case s.answered():
	case s.silence() == barred, s.silence() == hungUp:
	case s.silence() == noRoute:
		found.Level = cert.Unknown
		found.Hint = "this container has no network for that kind of address: try it from outside"
	case s.way.address.Is6() && all.served(overIPv4) && s.silence() == timedOut:
		found.Level = cert.Doubtful
		found.Hint = "the CA prefers IPv6 and falls back to IPv4 only when that times out, and only at the first request: " +
			"let the web server answer there, or take the AAAA record away"
	case s.way.address.Is6() && all.served(overIPv4):
		found.Hint = "the CA prefers IPv6 and falls back to IPv4 only when that times out: let the web server answer there, or take the AAAA record away"
	case all.misplaced != "" && s.silence() == refused:
		found.Hint = all.elsewhere("")
	case all.served(inside):
		found.Level = cert.Unknown
		found.Hint = "the web container serves the path, and perhaps the router lets nobody inside reach its public address (no NAT hairpin): unknown from here, try it from outside" +
			all.elsewhere("; ")
	default:
		found.Hint = "the CA must reach port 80 from outside: look at the firewall and the port forwarding, and whether the web container is running" +
			all.elsewhere("; ")
	}
	return found
}

// elsewhere says after some words what to do about web containers that the CA's port does not lead to, "" where that is not known of them.
func (all panorama) elsewhere(after string) string {
	if all.misplaced == "" {
		return ""
	}
	return after + all.misplaced + ", and the CA asks port 80 only: publish 80:80, or have what stands before it pass port 80 on"
}

func (all panorama) served(in func(way) bool) bool {
	return slices.ContainsFunc(all.sights, func(s sight) bool { return s.served && in(s.way) })
}

func anyway(way) bool     { return true }
func inside(w way) bool   { return w.upstream != "" }
func overIPv4(w way) bool { return w.address.Is4() }
