package acme

import (
	"context"
	"fmt"
	"slices"
	"sync/atomic"
	"time"

	xacme "golang.org/x/crypto/acme"

	"github.com/sidecert/sidecert/internal/cert"
)

const (
	// rehearsalOrders is how many orders one rehearsal makes at most. A CA has one valid authorization for a name as a rule.
	rehearsalOrders = 5
	// giveBackLimit holds also after an interruption, when a person waits for the end.
	giveBackLimit = 10 * time.Second
)

// Rehearse tries out what Obtain would do, at the spec's CA: a whole order with a key that is thrown away, every name validated anew.
// Nothing is kept but the account, and no authorization is left at the CA that a later order could use. Where an Obtain beside it has
// used one of them, its order lapses and is made once more. Every error is a *cert.Error, as Obtain's.
func (i *Issuer) Rehearse(ctx context.Context, spec cert.Spec) error {
	spec.PreferredChain = "" // a rehearsal's CA has other roots
	return i.attempt(ctx, spec, func(ctx context.Context, c *client) error { return c.rehearse(ctx, spec) })
}

func (c *client) rehearse(ctx context.Context, spec cert.Spec) error {
	var urls []string
	defer func() { c.giveBack(ctx, urls) }()
	request := cert.Request{Spec: spec, FreshKey: true, Save: func(*cert.Order) error { return nil }}
	for range rehearsalOrders {
		w, err := c.begin(ctx, request)
		if err != nil {
			return err
		}
		urls = append(urls, w.order.AuthzURLs...)
		used, err := c.giveUpUsed(ctx, w)
		if err != nil {
			return err
		}
		if !used {
			_, err := c.finish(ctx, w)
			return alive(err)
		}
	}
	return c.failure("authorization", spec.Name, fmt.Errorf("the CA used earlier authorizations in %d orders one after the other", rehearsalOrders))
}

// giveUpUsed deactivates the authorizations that a new order has from earlier ones and reports whether there were any. The order is
// of no use then.
func (c *client) giveUpUsed(ctx context.Context, w *work) (bool, error) {
	var used atomic.Bool
	failed := make([]error, len(w.order.AuthzURLs))
	each(len(failed), func(n int) {
		a, err := c.getAuthorization(ctx, w.order.AuthzURLs[n])
		if err == nil && a.Status == xacme.StatusValid {
			used.Store(true)
			err = c.postDeactivation(ctx, w.order.AuthzURLs[n])
		}
		if err != nil {
			failed[n] = c.failure("authorization", w.spec.Name, err)
		}
	})
	return used.Load(), joined(slices.DeleteFunc(failed, func(err error) bool { return err == nil }))
}

// giveBack deactivates what is pending or valid. Of the others the CA refuses it, which is no matter.
func (c *client) giveBack(ctx context.Context, urls []string) {
	ctx, cancel := context.WithTimeout(context.WithoutCancel(ctx), giveBackLimit)
	defer cancel()
	slices.Sort(urls)
	urls = slices.Compact(urls)
	each(len(urls), func(n int) { _ = c.postDeactivation(ctx, urls[n]) })
}
