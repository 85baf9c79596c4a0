package acme

import (
	"context"
	"errors"
	"fmt"
	"net"
	"slices"
	"strings"
	"sync"
	"time"

	xacme "golang.org/x/crypto/acme"

	"github.com/sidecert/sidecert/internal/cert"
)

const (
	authorizationLimit = 5 * time.Minute
	// deactivationLimit is short because deactivating is a courtesy to the CA: what is left pending expires anyway.
	deactivationLimit = 3 * time.Second
)

// authorize proves the control of every name, RFC 8555 §7.5. All authorizations come to their end, so that the error names
// every name that failed and a person can mend all of them at once.
func (c *client) authorize(ctx context.Context, w *work) error {
	c.sweep(w.spec)
	outcomes := make([]outcome, len(w.order.AuthzURLs))
	each(len(outcomes), func(n int) {
		outcomes[n] = c.authorization(ctx, w.spec, w.order.AuthzURLs[n])
	})
	var final, open []error
	var refused []string
	for _, o := range outcomes {
		switch {
		case o.final:
			final = append(final, o.err)
			if !o.lapsed {
				refused = append(refused, o.name)
			}
		case o.err != nil:
			open = append(open, o.err)
		}
	}
	err := joined(append(final, open...))
	if e, ok := errors.AsType[*cert.Error](err); ok {
		e.Failed = ordered(refused, w.spec)
	}
	if len(final) == 0 {
		return err // nil, or the order lives and the next attempt goes on with it
	}
	for _, o := range outcomes {
		if o.withdraw != nil {
			o.withdraw()
		}
	}
	if ctx.Err() == nil {
		c.deactivate(ctx, w.order.AuthzURLs, outcomes)
	}
	return &deadOrder{err: err, lapsed: len(refused) == 0}
}

// each works n things, so many at a time.
func each(n int, work func(int)) {
	var all sync.WaitGroup
	seats := make(chan struct{}, workers)
	for i := range n {
		seats <- struct{}{}
		all.Go(func() {
			defer func() { <-seats }()
			work(i)
		})
	}
	all.Wait()
}

// outcome is what became of one authorization.
type outcome struct {
	// name is what the order asked for, whatever name the CA's words are about.
	name string
	err  error
	// final says that it failed for good, and its order with it.
	final bool
	// lapsed says that the CA has refused nothing all the same.
	lapsed bool
	// pending says that it is still open at the CA.
	pending bool
	// withdraw removes the challenge file that waits for the next attempt; nil where there is none.
	withdraw func()
}

// authorization takes one from its URL to a decision.
func (c *client) authorization(ctx context.Context, spec cert.Spec, url string) outcome {
	a, err := c.getAuthorization(ctx, url)
	if err != nil {
		return c.undecided(spec.Name, err)
	}
	name := nameOf(a)
	if !slices.Contains(spec.Names, name) {
		err := fmt.Errorf("the CA wants an authorization for %q, which was not ordered", clean(name, 100))
		return outcome{name: spec.Name, err: c.failure("authorization", spec.Name, err), final: true, pending: true}
	}
	if a.Status == xacme.StatusPending {
		return c.challenge(ctx, spec, name, a)
	}
	// A file that a crash left behind.
	if ch := http01(a); ch != nil {
		c.withdraw(spec.WebrootOf(name), ch.Token)
	}
	return c.decided(name, a)
}

// challenge answers the http-01 challenge of a pending authorization, RFC 8555 §8.3. Its file stays until the authorization is
// decided, since CAs fetch it several times and from several places; if we stop before that, until the order is resumed.
func (c *client) challenge(ctx context.Context, spec cert.Spec, name string, a *xacme.Authorization) (o outcome) {
	ch := http01(a)
	if ch == nil {
		return outcome{name: name, final: true, pending: true, err: &cert.Error{Op: "authorization", Name: name, Kind: cert.KindPerson,
			Err: errors.New("the CA offers no http-01 challenge for this name"), Hint: "wildcards and some private CAs need DNS challenges, which are not done here"}}
	}
	if err := c.present(spec.WebrootOf(name), ch.Token); err != nil {
		return outcome{name: name, pending: true, err: &cert.Error{Op: "webroot", Name: name, Err: err, Hint: webrootHint(spec.WebrootOf(name), err)}}
	}
	defer func() {
		o.withdraw = func() { c.withdraw(spec.WebrootOf(name), ch.Token) }
		if o.final || !o.pending {
			o.withdraw()
			o.withdraw = nil
		}
	}()
	if ch.Status == xacme.StatusPending {
		if _, err := c.lib.Accept(ctx, ch); err != nil {
			return c.undecided(name, err)
		}
	}
	err := c.poll(ctx, authorizationLimit, func(ctx context.Context) (bool, error) {
		now, err := c.lib.GetAuthorization(ctx, a.URI)
		if err != nil {
			return false, err
		}
		a = now
		return a.Status != xacme.StatusPending, nil
	})
	if err != nil {
		return c.undecided(name, err)
	}
	return c.decided(name, a)
}

// undecided is an authorization that we lost sight of. Where the CA denies it, the order is lost too.
func (c *client) undecided(name string, err error) outcome {
	return outcome{name: name, err: c.failure("authorization", name, err), final: isGone(err), pending: true}
}

// decided reads an authorization that is not pending any more.
func (c *client) decided(name string, a *xacme.Authorization) outcome {
	if a.Status == xacme.StatusValid {
		return outcome{name: name}
	}
	for _, ch := range a.Challenges {
		if ch.Error != nil {
			return outcome{name: name, final: true, err: c.failure("authorization", name, ch.Error)}
		}
	}
	err := fmt.Errorf("the CA ended the authorization with status %q", clean(a.Status, 40))
	return outcome{name: name, final: true, lapsed: true, err: c.failure("authorization", name, err)}
}

// deactivate gives the pending authorizations of a dead order back, RFC 8555 §7.5.2: CAs limit how many an account may have.
// The library's call for it sends fields of a draft that strict CAs refuse.
func (c *client) deactivate(ctx context.Context, urls []string, outcomes []outcome) {
	ctx, cancel := context.WithTimeout(context.WithoutCancel(ctx), deactivationLimit)
	defer cancel()
	each(len(urls), func(n int) {
		if outcomes[n].pending {
			_ = c.postDeactivation(ctx, urls[n])
		}
	})
}

func (c *client) postDeactivation(ctx context.Context, url string) error {
	_, err := c.post(ctx, url, map[string]string{"status": xacme.StatusDeactivated})
	return err
}

func (c *client) getAuthorization(ctx context.Context, url string) (a *xacme.Authorization, err error) {
	err = c.again(ctx, func() (err error) {
		a, err = c.lib.GetAuthorization(ctx, url)
		return err
	})
	return a, err
}

func http01(a *xacme.Authorization) *xacme.Challenge {
	for _, ch := range a.Challenges {
		if ch.Type == "http-01" {
			return ch
		}
	}
	return nil
}

// nameOf writes an authorization's identifier as a Spec does. "wildcard (optional, boolean): This field MUST be present and true
// for authorizations created as a result of a newOrder request containing a DNS identifier with a value that was a wildcard
// domain name." RFC 8555 §7.1.4
func nameOf(a *xacme.Authorization) string {
	if ip := net.ParseIP(a.Identifier.Value); ip != nil {
		return ip.String()
	}
	name := strings.ToLower(a.Identifier.Value)
	if a.Wildcard {
		name = "*." + name
	}
	return name
}

// joined makes one error of several: the first one's words and hint, the other names with the reason in a word. If any of
// them needs a person, all wait for that person.
func joined(failed []error) error {
	if len(failed) == 0 {
		return nil
	}
	first, ok := errors.AsType[*cert.Error](failed[0])
	if !ok || len(failed) == 1 {
		return failed[0]
	}
	one := *first
	var others []string
	for _, err := range failed[1:] {
		next, ok := errors.AsType[*cert.Error](err)
		if !ok {
			continue
		}
		others = append(others, next.Name+reason(next))
		one.Kind = worse(one.Kind, next.Kind)
		if next.NotBefore.After(one.NotBefore) {
			one.NotBefore = next.NotBefore
		}
	}
	one.Err = &said{text: fmt.Sprintf("%v; also failed: %s", first.Err, strings.Join(others, ", ")), err: first.Err}
	return &one
}

// ordered are those names that a spec has: of an authorization that cannot be read, nobody knows for which it was.
func ordered(names []string, spec cert.Spec) []string {
	return slices.DeleteFunc(names, func(name string) bool { return !slices.Contains(spec.Names, name) })
}

func worse(a, b cert.Kind) cert.Kind {
	order := []cert.Kind{cert.KindPassing, cert.KindUnreachable, cert.KindBusy, cert.KindPerson}
	if slices.Index(order, b) > slices.Index(order, a) {
		return b
	}
	return a
}
