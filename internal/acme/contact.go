package acme

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"time"

	xacme "golang.org/x/crypto/acme"

	"github.com/sidecert/sidecert/internal/cert"
)

const (
	// commandLimit is for a deed of a few requests that a person waits for.
	commandLimit = time.Minute
	// contactLimit is short because certificates do not need the contact.
	contactLimit = 10 * time.Second
	// maxContacts is how many of an account's contacts are passed on.
	maxContacts = 10
)

// UpdateAccount gives the stored account another contact, RFC 8555 §7.3.2; an empty one takes it away. It registers nothing.
func (i *Issuer) UpdateAccount(ctx context.Context, ca cert.CA, email string) error {
	ctx, cancel := i.command(ctx)
	defer cancel()
	c, err := i.registered(ctx, ca)
	if err != nil {
		return err
	}
	return c.tellContact(ctx, email)
}

// DeactivateAccount ends the stored account at the CA for ever, RFC 8555 §7.3.6: "Once an account is deactivated, the server MUST NOT
// accept further requests authorized by that account's key." Its certificates stay valid. What is stored is left to the caller.
func (i *Issuer) DeactivateAccount(ctx context.Context, ca cert.CA) error {
	ctx, cancel := i.command(ctx)
	defer cancel()
	c, err := i.registered(ctx, ca)
	if err != nil {
		return err
	}
	if _, err := c.post(ctx, c.account.URI, map[string]string{"status": xacme.StatusDeactivated}); err != nil {
		return c.failure("account", "", err)
	}
	i.forget(ca)
	return nil
}

// AccountStatus is what the CA says of the stored account: "valid", "deactivated" or "revoked" (RFC 8555 §7.1.6), and its contacts
// as URLs; many CAs keep those to themselves. It registers nothing: without a stored account it fails with fs.ErrNotExist.
func (i *Issuer) AccountStatus(ctx context.Context, ca cert.CA) (status string, contact []string, err error) {
	ctx, cancel := i.command(ctx)
	defer cancel()
	c, err := i.registered(ctx, ca)
	if err != nil {
		return "", nil, err
	}
	return c.accountStatus(ctx)
}

func (i *Issuer) command(ctx context.Context) (context.Context, context.CancelFunc) {
	return context.WithTimeoutCause(ctx, i.pace(commandLimit), errors.New("it took longer than "+commandLimit.String()))
}

// registered makes a client that speaks for the stored account and for no other.
func (i *Issuer) registered(ctx context.Context, ca cert.CA) (*client, error) {
	account, err := i.readAccount(ca)
	if err != nil {
		return nil, err
	}
	if account.URI == "" {
		return nil, &cert.Error{Op: "account", Kind: cert.KindPerson, Err: fmt.Errorf("none is stored for %s: %w", ca.Directory, fs.ErrNotExist),
			Hint: "one is registered with the first order; if there was one, restore STATE_DIR from its backup"}
	}
	c, err := i.visit(ctx, ca)
	if err != nil {
		return nil, err
	}
	c.use(account)
	return c, nil
}

func (c *client) accountStatus(ctx context.Context) (string, []string, error) {
	resp, err := c.post(ctx, c.account.URI, nil)
	if err != nil {
		return "", nil, c.failure("account", "", err)
	}
	var wire struct {
		Status  string
		Contact []string
	}
	body, _ := io.ReadAll(resp.Body) // cannot fail: it is in memory
	if err := json.Unmarshal(body, &wire); err != nil {
		return "", nil, c.failure("account", "", fmt.Errorf("the CA's account cannot be read: %w", err))
	}
	var contact []string
	for _, one := range wire.Contact[:min(len(wire.Contact), maxContacts)] {
		contact = append(contact, clean(one, maxWords))
	}
	return clean(wire.Status, 40), contact, nil
}

// followContact tells the CA about an EMAIL that has changed. It holds nothing up: a CA that refuses the address is not asked again
// by this process, one that does not answer at the next opening.
func (c *client) followContact(ctx context.Context, a *authority) {
	email := c.ca.Email
	if email == "" || email == c.account.Contact || email == a.told {
		return
	}
	limited, cancel := context.WithTimeout(ctx, c.pace(contactLimit))
	defer cancel()
	err := c.tellContact(limited, email)
	if ctx.Err() != nil || isProblem(err, "accountDoesNotExist") {
		return // whoever orders finds out, and registers the account with the new address
	}
	if err == nil || !isLost(err) {
		a.told = email
	}
	if err != nil {
		c.config.Log.Warn("account not updated", cert.AttrCA, c.ca.Directory, cert.AttrErr, err, cert.AttrHint, hints["unsupportedcontact"])
		return
	}
	c.config.Log.Info("account updated", cert.AttrCA, c.ca.Directory)
}

// tellContact is stored after the CA has taken it, so that it is told again if it has not.
func (c *client) tellContact(ctx context.Context, email string) error {
	contact := []string{}
	if email != "" {
		contact = append(contact, "mailto:"+email)
	}
	if _, err := c.post(ctx, c.account.URI, map[string][]string{"contact": contact}); err != nil {
		return c.failure("account", "", err)
	}
	account := c.account
	account.Contact = email
	if err := c.saveAccount(account); err != nil {
		return err
	}
	c.account = account
	return nil
}
