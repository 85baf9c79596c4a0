// Package acme gets certificates from a CA. It does not keep or renew them: when to ask is the caller's decision, and what it
// returns is stored by the caller. It speaks RFC 8555 with http-01 challenges in a webroot.
package acme

import (
	"context"
	"errors"
	"log/slog"
	"net/http"
	"sync"
	"time"

	xacme "golang.org/x/crypto/acme"

	"github.com/sidecert/sidecert/internal/cert"
)

// Accounts is the store of account keys and of the URIs that CAs know them by.
type Accounts interface {
	// Account fails with fs.ErrNotExist when there is none; only then is one made.
	Account(ca cert.CA) (cert.Account, error)
	// SaveAccount is called with URI "" before a key is registered, and again with the URI, so that no CA ever knows a key
	// that we have lost.
	SaveAccount(ca cert.CA, account cert.Account) error
}

// PreflightMode is what Preflight does; the words of the variable PREFLIGHT.
type PreflightMode string

const (
	// PreflightWarn and PreflightEnforce probe alike; what a failure means is the caller's business.
	PreflightWarn    PreflightMode = "warn"
	PreflightEnforce PreflightMode = "enforce"
	// PreflightOff probes nothing.
	PreflightOff PreflightMode = "off"
)

// Config of an Issuer. Accounts and Log must be set.
type Config struct {
	Accounts Accounts
	// Preflight empty is PreflightWarn.
	Preflight PreflightMode
	// Upstreams are HOST:PORT of the plain HTTP of the web containers that serve a spec; may be nil and may return none.
	Upstreams func(ctx context.Context, spec cert.Spec) []string
	// Misplaced says which of these web containers the host has on another port than 80, and on which; may be nil and may return "".
	Misplaced func(ctx context.Context, spec cert.Spec) string
	// Managed reports whether a name is one of ours: only there, beside the probed name itself, a redirect of a probe is
	// followed. May be nil.
	Managed func(name string) bool
	// Now is the wall clock; nil is time.Now.
	Now func() time.Time
	Log *slog.Logger
	// Transport carries the requests to CAs; nil is the network, where it is also looked why an order failed.
	Transport http.RoundTripper
	// Asked hears of every request that a CA was sent, as soon as it is over; may be nil. It must not block.
	Asked func(Asked)
	// UserAgent goes in front of x/crypto/acme's own.
	UserAgent string
}

// Asked is one request to a CA.
type Asked struct {
	// Directory is the CA's.
	Directory string
	Method    string
	// Status of the answer; 0 where none came.
	Status  int
	Elapsed time.Duration
	// Date is when the CA says that it has answered, in whole seconds; zero if it does not.
	Date time.Time
}

// Issuer gets certificates. It is safe for concurrent use.
type Issuer struct {
	config Config
	// pace shortens every pause and limit in tests.
	pace func(time.Duration) time.Duration
	// dial is how probes reach public names.
	dial dialer
	// resolver looks the names up for Examine.
	resolver resolver

	mu          sync.Mutex
	authorities map[string]*authority
}

// New makes an Issuer; nothing is asked of any CA yet.
func New(config Config) *Issuer {
	if config.Now == nil {
		config.Now = time.Now
	}
	if config.Asked == nil {
		config.Asked = func(Asked) {}
	}
	return &Issuer{
		config:      config,
		pace:        func(d time.Duration) time.Duration { return d },
		dial:        publicDialer(),
		authorities: map[string]*authority{},
	}
}

// attemptLimit ends an attempt whatever the CA does. What is under way at the CA then is resumed by the next attempt.
const attemptLimit = 15 * time.Minute

// Obtain makes an order, or resumes the one of an earlier attempt, and returns the certificate, checked. The order is saved
// through the request before the CA hears of it and again with its URL; once it is dead, nil is saved. After success it stays
// saved: the caller forgets it when the certificate is on disk, and until then another Obtain returns the same certificate.
// Every error is a *cert.Error.
func (i *Issuer) Obtain(ctx context.Context, req cert.Request) (cert.Bundle, error) {
	var bundle cert.Bundle
	err := i.attempt(ctx, req.Spec, func(ctx context.Context, c *client) (err error) {
		bundle, err = c.obtain(ctx, req)
		return err
	})
	return bundle, err
}

// attempt bounds a deed at a spec's CA and makes its error fit for people. They are told what is to be seen from here too, once
// the challenges are withdrawn.
func (i *Issuer) attempt(ctx context.Context, spec cert.Spec, deed func(context.Context, *client) error) error {
	limited, cancel := context.WithTimeoutCause(ctx, i.pace(attemptLimit), errors.New("the attempt took longer than "+attemptLimit.String()))
	defer cancel()
	err := i.signedIn(limited, spec.CA, deed)
	switch {
	case err == nil:
		return nil
	case ctx.Err() != nil:
		return interrupted("order", spec.Name, ctx)
	}
	return i.explain(ctx, spec, i.failure("order", spec.Name, err))
}

// signedIn does a deed with the account that the CA is believed to know.
func (i *Issuer) signedIn(ctx context.Context, ca cert.CA, deed func(context.Context, *client) error) error {
	c, err := i.client(ctx, ca, nil)
	if err != nil {
		return err
	}
	if err := deed(ctx, c); !isProblem(err, "accountDoesNotExist") {
		return err
	}
	// The CA has lost the account. Its key still proves who we are, so the same key is registered again, once.
	if c, err = i.client(ctx, ca, c); err != nil {
		return err
	}
	return deed(ctx, c)
}

// obtain makes an order or goes on with one. An order that lapsed is made once more: nobody has refused anything.
func (c *client) obtain(ctx context.Context, req cert.Request) (cert.Bundle, error) {
	bundle, err := c.once(ctx, req)
	if dead, ok := errors.AsType[*deadOrder](err); ok && dead.lapsed {
		c.config.Log.Info("order lapsed at the CA", cert.AttrCert, req.Spec.Name, cert.AttrErr, dead.err)
		req.Order = nil
		bundle, err = c.once(ctx, req)
	}
	return bundle, alive(err)
}

func (c *client) once(ctx context.Context, req cert.Request) (cert.Bundle, error) {
	w, err := c.begin(ctx, req)
	if err != nil {
		return cert.Bundle{}, err
	}
	bundle, err := c.finish(ctx, w)
	if _, dead := errors.AsType[*deadOrder](err); dead {
		// A failure to save is no loss: the next attempt asks the CA about the order and hears that it is dead.
		_ = req.Save(nil)
	}
	return bundle, err
}

// alive is an error without the mark that its order is dead.
func alive(err error) error {
	if dead, ok := errors.AsType[*deadOrder](err); ok {
		return dead.err
	}
	return err
}

// finish takes an order from wherever it stands to its certificate.
func (c *client) finish(ctx context.Context, w *work) (cert.Bundle, error) {
	if w.order.Status == xacme.StatusPending {
		if err := c.authorize(ctx, w); err != nil {
			return cert.Bundle{}, err
		}
		// "Once all of the authorizations listed in the order object are in the "valid" state, the order transitions to the
		// "ready" state." RFC 8555 §7.1.6
		w.order.Status = xacme.StatusReady
	}
	if w.order.Status == xacme.StatusReady {
		if err := c.finalize(ctx, w); err != nil {
			return cert.Bundle{}, err
		}
	}
	// "ready" is also what a CA may say between taking the request and working on it.
	if err := c.await(ctx, w, xacme.StatusProcessing, xacme.StatusReady); err != nil {
		return cert.Bundle{}, err
	}
	if w.order.Status != xacme.StatusValid {
		return cert.Bundle{}, c.endedOrder(w)
	}
	return c.download(ctx, w)
}
