package acme

import (
	"context"
	"crypto/rand"
	"slices"
	"strings"
	"time"

	"github.com/sidecert/sidecert/internal/cert"
)

const (
	preflightLimit = time.Minute
	firstProbe     = 500 * time.Millisecond
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
	first := probes[0].seen
	var others []string
	for _, p := range probes[1:] {
		others = append(others, p.name)
	}
	text := first.text()
	if len(others) > 0 {
		text += "; also not served: " + strings.Join(others, ", ")
	}
	hint := first.hint()
	if i.config.Upstreams != nil && len(i.config.Upstreams(context.WithoutCancel(ctx), spec)) == 0 {
		hint = "no web container that is to be told is seen to run, so that none could be asked from inside: see `docker compose ps`, and `sidecert doctor` for whether the engine can be asked; seen from outside: " + hint
	}
	return &cert.Error{Op: "preflight", Name: probes[0].name, Err: &said{text, first.err}, Hint: hint}
}

// probe is a file in the webroot that looks like a challenge's and what came of fetching it.
type probe struct {
	name    string
	path    string // of the webroot
	token   string
	webroot *webroot
	dial    dialer
	agent   string
	managed func(string) bool

	served bool
	// seen is the most telling of what came back in place of the file.
	seen sight
}

func (i *Issuer) newProbe(path, name string) (*probe, error) {
	w, err := openWebroot(path)
	if err != nil {
		return nil, err
	}
	p := &probe{name: strings.ToLower(name), path: path, token: "sidecert-" + rand.Text(), webroot: w, dial: i.dial, agent: i.config.UserAgent, managed: i.config.Managed}
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

// run tries every way to the name until one works. An answer tells more than the lack of one.
func (p *probe) run(ctx context.Context, upstreams []string) {
	var best sight
	for _, way := range append(at(upstreams), way{}) {
		seen := p.fetch(ctx, way)
		if seen.served {
			p.served = true
			return
		}
		if ctx.Err() != nil && p.seen.where != "" {
			return // cut short: what an earlier round found says more
		}
		if best.where == "" || seen.answered() && !best.answered() {
			best = seen
		}
	}
	p.seen = best
}
