package acme

import (
	"context"
	"encoding/base64"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"maps"
	"net"
	"net/http"
	"slices"
	"strings"
	"time"

	xacme "golang.org/x/crypto/acme"

	"github.com/sidecert/sidecert/internal/cert"
)

// processingLimit is how long one attempt waits for an order. The next one goes on waiting for the same order.
const processingLimit = 10 * time.Minute

// orderLife is how long an order is kept at most that cannot be read any more. Let's Encrypt's live for 7 days.
const orderLife = 30 * 24 * time.Hour

// maxAuthorizations is above what any CA puts in a certificate (Let's Encrypt: 100 names).
const maxAuthorizations = 250

// work is an order at the CA with what belongs to it here.
type work struct {
	spec  cert.Spec
	keys  keys
	order *xacme.Order
}

// deadOrder wraps the error of an order from which no certificate will ever come, so that it is not resumed.
type deadOrder struct {
	err error
	// lapsed says that the CA has refused nothing: an authorization was deactivated or expired under the order.
	lapsed bool
}

func (d *deadOrder) Error() string { return d.err.Error() }

// begin resumes the request's order if it is of use, else it makes a new one.
func (c *client) begin(ctx context.Context, req cert.Request) (*work, error) {
	if req.Spec.ProfileOptional && !c.offers(req.Spec.Profile) {
		if req.Order == nil { // of one that is resumed it was said before
			c.config.Log.Warn("profile that certbot's conf prefers is not offered, ordered without", cert.AttrCert, req.Spec.Name,
				"profile", req.Spec.Profile, cert.AttrCA, c.ca.Directory)
		}
		req.Spec.Profile = ""
	}
	if req.Order == nil {
		return c.newOrder(ctx, req, nil)
	}
	keys, err := keysOf(req.Order, req)
	if err != nil {
		c.config.Log.Info("order of an earlier attempt dropped", cert.AttrCert, req.Spec.Name, cert.AttrErr, err)
		return c.dropAndOrder(ctx, req)
	}
	if req.Order.URL == "" {
		return c.newOrder(ctx, req, keys)
	}
	order, err := c.getOrder(ctx, req.Order.URL)
	switch {
	case isGone(err), err != nil && c.isOver(req.Order):
		return c.dropAndOrder(ctx, req)
	case err != nil:
		return nil, c.failure("order", req.Spec.Name, err)
	case isDead(order.Status):
		return c.dropAndOrder(ctx, req)
	}
	c.config.Log.Info("order of an earlier attempt resumed", cert.AttrCert, req.Spec.Name, "status", order.Status)
	return &work{spec: req.Spec, keys: *keys, order: order}, nil
}

// isOver reports whether an order that cannot be read must have come to its end at the CA.
func (c *client) isOver(order *cert.Order) bool {
	end := order.Begun.Add(orderLife)
	if !order.Expires.IsZero() && order.Expires.Before(end) {
		end = order.Expires
	}
	return c.config.Now().After(end)
}

func (c *client) dropAndOrder(ctx context.Context, req cert.Request) (*work, error) {
	if err := req.Save(nil); err != nil {
		return nil, &cert.Error{Op: "save", Name: req.Spec.Name, Err: fmt.Errorf("drop the old order: %w", err)}
	}
	return c.newOrder(ctx, req, nil)
}

// newOrder asks for a new order, RFC 8555 §7.4. The key and the request for its certificate are on disk before that, and the
// order's URL before anything else happens: from then on a crash leads to this order again, not to another.
func (c *client) newOrder(ctx context.Context, req cert.Request, k *keys) (*work, error) {
	if err := c.checkProfile(req.Spec); err != nil {
		return nil, err
	}
	if err := c.checkClock(ctx, req); err != nil {
		return nil, err
	}
	if k == nil {
		made, err := newKeys(req)
		if err != nil {
			return nil, &cert.Error{Op: "order", Name: req.Spec.Name, Kind: cert.KindPerson, Err: err}
		}
		k = made
	}
	stored, err := k.order(req.Spec, c.config.Now())
	if err != nil {
		return nil, &cert.Error{Op: "order", Name: req.Spec.Name, Err: err}
	}
	if err := saveOrder(req, stored); err != nil {
		return nil, err
	}
	order, err := c.postOrder(ctx, req.Spec, c.replaces(req))
	if err != nil {
		if isLost(err) || isAbsent(err) {
			c.doubted.Store(true)
		}
		return nil, c.orderFailed(req.Spec, err)
	}
	stored.URL, stored.Expires = order.URI, order.Expires
	if err := saveOrder(req, stored); err != nil {
		return nil, err
	}
	return &work{spec: req.Spec, keys: *k, order: order}, nil
}

// orderFailed is a failure to make an order. Where the CA may have made it without our hearing so, that was an attempt: made again and
// again, such orders would burn its limits.
func (c *client) orderFailed(spec cert.Spec, err error) error {
	failed := c.failure("order", spec.Name, err)
	if e, ok := errors.AsType[*cert.Error](failed); ok && isLost(err) && !isUnsent(err) {
		e.Kind = cert.KindPassing
	}
	return failed
}

func saveOrder(req cert.Request, order cert.Order) error {
	if err := req.Save(&order); err != nil {
		return &cert.Error{Op: "save", Name: req.Spec.Name, Err: fmt.Errorf("save the order: %w", err)}
	}
	return nil
}

// offers reports whether an order may ask for a profile; "" asks for none.
func (c *client) offers(profile string) bool {
	_, ok := c.dir.Profiles[xacme.ProfileName(profile)]
	return profile == "" || ok
}

// checkProfile asks the directory first, because its answer is better than the CA's: it has the names of the profiles.
func (c *client) checkProfile(spec cert.Spec) error {
	if c.offers(spec.Profile) {
		return nil
	}
	hint := "this CA has no profiles: take ACME_PROFILE away"
	if len(c.dir.Profiles) > 0 {
		var offered []string
		for _, name := range slices.Sorted(maps.Keys(c.dir.Profiles)) {
			offered = append(offered, string(name))
		}
		hint = "this CA has the profiles " + clean(strings.Join(offered, ", "), maxWords)
	}
	return &cert.Error{Op: "order", Name: spec.Name, Kind: cert.KindPerson, Err: fmt.Errorf("no profile %q at %s", spec.Profile, c.ca.Directory), Hint: hint}
}

// identifier is RFC 8555 §9.7.7's, and RFC 8738's for addresses.
type identifier struct {
	Type  string `json:"type"`
	Value string `json:"value"`
}

// orderRequest is the payload of newOrder, RFC 8555 §7.4, with the profile of draft-ietf-acme-profiles and the predecessor of
// RFC 9773 §5.
type orderRequest struct {
	Identifiers []identifier `json:"identifiers"`
	Profile     string       `json:"profile,omitempty"`
	Replaces    string       `json:"replaces,omitempty"`
}

// postOrder makes an order. One that is refused because of what it replaces is made without: no more than a favour of the CA's is lost.
func (c *client) postOrder(ctx context.Context, spec cert.Spec, replaces string) (*xacme.Order, error) {
	order, err := c.postOrderOnce(ctx, spec, replaces)
	if replaces == "" || err == nil || !refusesReplaces(err) {
		return order, err
	}
	c.config.Log.Info("order refused as a renewal, made as a new one", cert.AttrCert, spec.Name, cert.AttrErr, c.failure("order", spec.Name, err))
	return c.postOrderOnce(ctx, spec, "")
}

func (c *client) postOrderOnce(ctx context.Context, spec cert.Spec, replaces string) (*xacme.Order, error) {
	ask := orderRequest{Profile: spec.Profile, Replaces: replaces}
	for _, name := range spec.Names {
		kind := "dns"
		if net.ParseIP(name) != nil {
			kind = "ip"
		}
		ask.Identifiers = append(ask.Identifiers, identifier{kind, name})
	}
	resp, err := c.post(ctx, c.dir.OrderURL, ask)
	if err != nil {
		return nil, err
	}
	order, err := readOrder(resp, resp.Header.Get("Location"))
	if err == nil && !askable(order.URI) {
		err = fmt.Errorf("the CA gave the order no URL that can be asked: %q", clean(order.URI, 100))
	}
	return order, err
}

// readOrder reads an order object, RFC 8555 §7.1.3.
func readOrder(resp *http.Response, url string) (*xacme.Order, error) {
	var wire struct {
		Status         string
		Expires        time.Time
		Authorizations []string
		Finalize       string
		Certificate    string
	}
	body, _ := io.ReadAll(resp.Body) // cannot fail: it is in memory
	if err := json.Unmarshal(body, &wire); err != nil {
		return nil, fmt.Errorf("the CA's order cannot be read: %w", err)
	}
	return checked(&xacme.Order{
		URI: url, Status: wire.Status, Expires: wire.Expires,
		AuthzURLs: wire.Authorizations, FinalizeURL: wire.Finalize, CertURL: wire.Certificate,
	})
}

func checked(order *xacme.Order) (*xacme.Order, error) {
	if len(order.AuthzURLs) > maxAuthorizations {
		return nil, fmt.Errorf("the CA's order has %d authorizations", len(order.AuthzURLs))
	}
	return order, nil
}

func (c *client) getOrder(ctx context.Context, url string) (*xacme.Order, error) {
	var order *xacme.Order
	err := c.again(ctx, func() (err error) {
		order, err = c.lib.GetOrder(ctx, url)
		return err
	})
	if err != nil {
		return nil, err
	}
	return checked(order)
}

// finalize sends the request for the certificate, RFC 8555 §7.4. What becomes of it is read from the order, never from a
// failure to hear the answer: the CA may have begun, and a second order would be a second certificate.
func (c *client) finalize(ctx context.Context, w *work) error {
	err := c.postFinalize(ctx, w)
	if err == nil {
		return nil
	}
	if !isLost(err) && !isTheirs(err) && !isProblem(err, "orderNotReady") {
		return c.finalizeFailed(w, err)
	}
	w.order.Status = xacme.StatusPending // which is to be seen
	if waited := c.await(ctx, w, xacme.StatusPending); waited != nil {
		return waited
	}
	if w.order.Status != xacme.StatusReady {
		return nil
	}
	if isTheirs(err) { // it was asked several times already
		return c.finalizeFailed(w, err)
	}
	if err := c.postFinalize(ctx, w); err != nil {
		return c.finalizeFailed(w, err)
	}
	return nil
}

func (c *client) postFinalize(ctx context.Context, w *work) error {
	resp, err := c.post(ctx, w.order.FinalizeURL, map[string]string{"csr": base64.RawURLEncoding.EncodeToString(w.keys.csr)})
	if err != nil {
		return err
	}
	order, err := readOrder(resp, w.order.URI)
	if err != nil {
		return err
	}
	w.order = order
	return nil
}

// finalizeFailed gives an order up that the CA refuses to finalize: asking again with the same request would be refused again.
func (c *client) finalizeFailed(w *work, err error) error {
	failed := c.failure("finalize", w.spec.Name, err)
	if isLost(err) || isTheirs(err) || isProblem(err, "rateLimited", "badNonce", "orderNotReady", "accountDoesNotExist") {
		return failed
	}
	return &deadOrder{err: failed}
}

// await polls the order as long as it has one of some statuses.
func (c *client) await(ctx context.Context, w *work, while ...string) error {
	if !slices.Contains(while, w.order.Status) {
		return nil
	}
	err := c.poll(ctx, processingLimit, func(ctx context.Context) (bool, error) {
		order, err := c.lib.GetOrder(ctx, w.order.URI)
		if err != nil {
			return false, err
		}
		w.order = order
		return !slices.Contains(while, order.Status), nil
	})
	if err != nil {
		return c.failure("finalize", w.spec.Name, err)
	}
	return nil
}

// endedOrder is the error of an order in a state from which there is no way to a certificate.
func (c *client) endedOrder(w *work) error {
	if w.order.Error != nil {
		return &deadOrder{err: c.failure("order", w.spec.Name, w.order.Error)}
	}
	err := fmt.Errorf("the CA ended the order with status %q", clean(w.order.Status, 40))
	return &deadOrder{err: c.failure("order", w.spec.Name, err), lapsed: true}
}

// isDead reports whether an order is to be abandoned. Its states are in RFC 8555 §7.1.6.
func isDead(status string) bool {
	switch status {
	case xacme.StatusPending, xacme.StatusReady, xacme.StatusProcessing, xacme.StatusValid:
		return false
	}
	return true
}

// isAbsent reports whether there is nothing at a URL that the directory has named: the CA may have moved it.
func isAbsent(err error) bool {
	problem, ok := errors.AsType[*xacme.Error](err)
	return ok && (problem.StatusCode == http.StatusNotFound || problem.StatusCode == http.StatusMethodNotAllowed)
}

// isGone reports whether the CA denies that an order exists, or that it is ours.
func isGone(err error) bool {
	problem, ok := errors.AsType[*xacme.Error](err)
	if !ok || isProblem(err, "accountDoesNotExist", "rateLimited", "badNonce") {
		return false
	}
	return problem.StatusCode >= 400 && problem.StatusCode < 500 && problem.StatusCode != http.StatusTooManyRequests
}
