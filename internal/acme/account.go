package acme

import (
	"context"
	"errors"
	"fmt"
	"io/fs"

	xacme "golang.org/x/crypto/acme"

	"github.com/sidecert/sidecert/internal/cert"
)

// signIn makes the client speak for the stored account. The key is made and registered when there is none, and registered
// again when the CA has forgotten it; a stored key is never replaced.
func (c *client) signIn(ctx context.Context, register bool) error {
	account, err := c.readAccount(c.ca)
	if err != nil {
		return err
	}
	if account.URI == "" || register {
		account, err = c.register(ctx, account)
	}
	if err != nil {
		return err
	}
	c.use(account)
	return nil
}

// readAccount returns the stored account: without a key if there is none, without a URI if no CA has registered it yet.
func (i *Issuer) readAccount(ca cert.CA) (cert.Account, error) {
	account, err := i.config.Accounts.Account(ca)
	if err == nil || errors.Is(err, fs.ErrNotExist) {
		return account, nil
	}
	if _, told := errors.AsType[*cert.Error](err); told {
		return account, err // the store knows what to do about it
	}
	return account, &cert.Error{Op: "account", Err: fmt.Errorf("read the account: %w", err)}
}

func (c *client) use(account cert.Account) {
	c.account, c.lib.Key, c.lib.KID = account, account.Key, xacme.KeyID(account.URI)
}

// register tells the CA about the account's key, RFC 8555 §7.3. A key that the CA already knows yields the account it has.
func (c *client) register(ctx context.Context, account cert.Account) (cert.Account, error) {
	ask, err := c.registration()
	if err != nil {
		return account, err
	}
	if account.Key == nil {
		if account, err = c.newAccount(); err != nil {
			return account, err
		}
	}
	c.lib.Key = account.Key
	got, err := c.lib.Register(ctx, ask, xacme.AcceptTOS)
	switch {
	case errors.Is(err, xacme.ErrAccountAlreadyExists):
		account.URI = string(c.lib.KID)
	case err != nil:
		return account, c.failure("account", "", err)
	default:
		account.URI, account.Contact = got.URI, c.ca.Email
	}
	if !askable(account.URI) {
		return account, c.failure("account", "", fmt.Errorf("the CA gave the account no URL that can be asked: %q", clean(account.URI, 100)))
	}
	c.config.Log.Info("account registered", cert.AttrCA, c.ca.Directory, "terms", clean(c.dir.Terms, maxWords))
	return account, c.saveAccount(account)
}

// registration is what the CA is told; it fails where a person has to say or give something first.
func (c *client) registration() (*xacme.Account, error) {
	if !c.ca.AgreeTOS {
		return nil, &cert.Error{Op: "account", Kind: cert.KindPerson,
			Err:  fmt.Errorf("the terms of %s are not agreed to: %s", c.ca.Directory, clean(c.dir.Terms, maxWords)),
			Hint: "read the terms and set AGREE_TOS=true"}
	}
	ask := &xacme.Account{}
	if c.ca.Email != "" {
		ask.Contact = []string{"mailto:" + c.ca.Email}
	}
	// A CA that needs a binding "MUST provide the value "true" in the "externalAccountRequired" subfield of the "meta" field in
	// the directory object." RFC 8555 §7.3.4. To other CAs none is sent.
	if !c.dir.ExternalAccountRequired {
		return ask, nil
	}
	if c.ca.EABKID == "" || c.ca.EABKey == "" {
		return nil, &cert.Error{Op: "account", Kind: cert.KindPerson,
			Err:  fmt.Errorf("%s requires an external account binding and none is set", c.ca.Directory),
			Hint: hints["externalaccountrequired"]}
	}
	ask.ExternalAccountBinding = &xacme.ExternalAccountBinding{KID: c.ca.EABKID, Key: []byte(c.ca.EABKey)}
	return ask, nil
}

// newAccount makes the key, which is on disk before any CA knows it.
func (c *client) newAccount() (cert.Account, error) {
	key, err := cert.NewKey(cert.EC256)
	if err != nil {
		return cert.Account{}, &cert.Error{Op: "account", Err: err}
	}
	account := cert.Account{Key: key, Contact: c.ca.Email, Created: c.config.Now()}
	return account, c.saveAccount(account)
}

func (c *client) saveAccount(account cert.Account) error {
	if err := c.config.Accounts.SaveAccount(c.ca, account); err != nil {
		return &cert.Error{Op: "account", Err: fmt.Errorf("save the account: %w", err)}
	}
	return nil
}
