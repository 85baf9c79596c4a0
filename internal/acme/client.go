package acme

import (
	"context"
	"fmt"
	"net/http"
	"sync/atomic"
	"time"

	xacme "golang.org/x/crypto/acme"

	"github.com/sidecert/sidecert/internal/cert"
)

// directoryLife is how long a directory is believed. The library never reads it again, but CAs add profiles and move URLs.
const directoryLife = 24 * time.Hour

// authority is a CA with the account that is used there, shared by all certificates that come from it.
type authority struct {
	ca   cert.CA
	http *http.Client
	// gate is held while client is looked at or made. It is a channel because whoever waits for it must be able to give up:
	// the library's own mutexes, held across requests while it reads the directory or asks for its account, allow no such
	// thing. A client that came through the gate has both and never waits for them again.
	gate   chan struct{}
	client *client
	// scout has read the directory and has no account: of a CA that was asked for something that needs none.
	scout *client
	// told is the contact that was last posted to the account, taken or refused: what the CA refuses it is not asked again.
	// It is looked at behind the gate.
	told string
}

// client speaks to one CA with one account. It is not changed after it is made: an account that is registered anew has a new one.
//
// One mutex of the library is still held across requests, around newNonce when the pool is empty: a CA that is stuck there
// holds up its other orders by the 10 s that it has for its headers.
type client struct {
	*Issuer
	ca   cert.CA
	http *http.Client
	lib  *xacme.Client
	dir  xacme.Directory
	// renewalInfo is a field of the directory that the library does not know, RFC 9773 §4.1; "" where the CA has none.
	renewalInfo string
	account     cert.Account
	opened      time.Time
	// doubted is set when an order got no answer. The next attempt then begins with the directory, so that a CA which is away is
	// found away before an order is counted.
	doubted atomic.Bool
}

// client returns the one for a CA. It is opened at its first use, after a day, and when lost is the present one, whose
// account the CA does not know any more.
func (i *Issuer) client(ctx context.Context, ca cert.CA, lost *client) (*client, error) {
	a, err := i.authority(ca)
	if err != nil {
		return nil, err
	}
	if err := a.enter(ctx); err != nil {
		return nil, err
	}
	defer a.leave()
	if a.client != lost && a.client.fresh() {
		return a.client, nil
	}
	c, err := i.open(ctx, a, lost != nil && lost == a.client)
	if err != nil {
		return nil, err
	}
	a.client = c
	return c, nil
}

// reader returns a client that has read the CA's directory and need not have an account.
func (i *Issuer) reader(ctx context.Context, ca cert.CA) (*client, error) {
	a, err := i.authority(ca)
	if err != nil {
		return nil, err
	}
	if err := a.enter(ctx); err != nil {
		return nil, err
	}
	defer a.leave()
	switch {
	case a.client.fresh():
		return a.client, nil
	case a.scout.fresh():
		return a.scout, nil
	}
	a.scout, err = i.discover(ctx, a)
	return a.scout, err
}

// enter waits for the gate.
func (a *authority) enter(ctx context.Context) error {
	select {
	case a.gate <- struct{}{}:
		return nil
	case <-ctx.Done():
		return context.Cause(ctx)
	}
}

func (a *authority) leave() { <-a.gate }

// fresh reports whether there is a client and what it has read may be believed. The clock may have gone back since.
func (c *client) fresh() bool {
	return c != nil && !c.doubted.Load() && c.config.Now().Sub(c.opened).Abs() < directoryLife
}

func (i *Issuer) authority(ca cert.CA) (*authority, error) {
	i.mu.Lock()
	defer i.mu.Unlock()
	id := ca.ID()
	if a := i.authorities[id]; a != nil {
		return a, nil
	}
	client, err := newHTTPClient(ca, i.config.Transport, i.config.Log, i.config.Asked)
	if err != nil {
		return nil, &cert.Error{Op: "directory", Kind: cert.KindPerson, Err: err, Hint: "ACME_CA_BUNDLE must name a file with PEM certificates"}
	}
	a := &authority{ca: ca, http: client, gate: make(chan struct{}, 1)}
	i.authorities[id] = a
	return a, nil
}

// open reads the directory and signs in.
func (i *Issuer) open(ctx context.Context, a *authority, register bool) (*client, error) {
	c := a.scout
	a.scout = nil // it gets an account, and is a scout no more
	if !c.fresh() || a.client != nil && a.client.doubted.Load() {
		var err error
		if c, err = i.discover(ctx, a); err != nil {
			return nil, err
		}
	}
	if err := c.signIn(ctx, register); err != nil {
		return nil, err
	}
	c.followContact(ctx, a)
	return c, nil
}

// visit makes a client that has no account and the CA's settings as they are now. The one that orders is not touched by what is done
// with it.
func (i *Issuer) visit(ctx context.Context, ca cert.CA) (*client, error) {
	a, err := i.authority(ca)
	if err != nil {
		return nil, err
	}
	c, err := i.discover(ctx, a)
	if err != nil {
		return nil, err
	}
	c.ca = ca
	return c, nil
}

// discover makes a client and reads the directory.
func (i *Issuer) discover(ctx context.Context, a *authority) (*client, error) {
	c := &client{
		Issuer: i,
		ca:     a.ca,
		http:   a.http,
		opened: i.config.Now(),
		lib: &xacme.Client{
			HTTPClient:   a.http,
			DirectoryURL: a.ca.Directory,
			UserAgent:    i.config.UserAgent,
			RetryBackoff: func(n int, _ *http.Request, resp *http.Response) time.Duration { return i.backoff(n, resp) },
		},
	}
	ctx, last := hears(ctx)
	dir, err := c.lib.Discover(ctx)
	if err != nil {
		return nil, i.failure("directory", "", err)
	}
	c.renewalInfo = renewalInfoIn(last.body)
	if dir.NonceURL == "" || dir.RegURL == "" {
		return nil, i.failure("directory", "", fmt.Errorf("%s lacks newNonce or newAccount", a.ca.Directory))
	}
	c.dir = dir
	return c, nil
}

func (c *client) clock() *clock { return c.http.Transport.(*transport).clock }

// openClient returns the client that orders at a CA, nil if there is none yet.
func (i *Issuer) openClient(ctx context.Context, ca cert.CA) *client {
	a, err := i.authority(ca)
	if err != nil {
		return nil
	}
	if a.enter(ctx) != nil {
		return nil
	}
	defer a.leave()
	return a.client
}

// forget has the next order sign in anew.
func (i *Issuer) forget(ca cert.CA) {
	i.mu.Lock()
	defer i.mu.Unlock()
	delete(i.authorities, ca.ID())
}

// Reach sees that a CA answers and knows our account, which is registered if there is none yet. Its errors are *cert.Error.
func (i *Issuer) Reach(ctx context.Context, ca cert.CA) error {
	_, err := i.client(ctx, ca, nil)
	switch {
	case err == nil:
		return nil
	case ctx.Err() != nil:
		return interrupted("directory", "", ctx)
	}
	return i.failure("directory", "", err)
}
