package acme

import (
	"context"
	"errors"
	"fmt"
	"io/fs"

	xacme "golang.org/x/crypto/acme"

	"github.com/sidecert/sidecert/internal/cert"
)

// Revoke asks the CA to revoke a certificate, RFC 8555 §7.6. One that is revoked already is none the worse for it. It registers
// nothing: without the account, only the certificate's own key can ask. Every error is a *cert.Error.
func (i *Issuer) Revoke(ctx context.Context, revocation cert.Revocation) error {
	limited, cancel := i.command(ctx)
	defer cancel()
	err := i.revoke(limited, revocation)
	switch name := nameOfLeaf(revocation); {
	case err == nil || isProblem(err, "alreadyRevoked"):
		return nil
	case ctx.Err() != nil:
		return interrupted("revoke", name, ctx)
	case isProblem(err, "unauthorized"):
		return refusedRevocation(i.failure("revoke", name, err), revocation)
	default:
		return i.failure("revoke", name, err)
	}
}

func (i *Issuer) revoke(ctx context.Context, revocation cert.Revocation) error {
	code, known := cert.Reasons[revocation.Reason]
	if !known && revocation.Reason != "" {
		return fmt.Errorf("unknown reason %q", clean(string(revocation.Reason), 40))
	}
	if key := revocation.Key; key != nil && !cert.Fits(key, revocation.Certificate) {
		return errors.New("the key is another certificate's")
	}
	c, err := i.revoker(ctx, revocation)
	if err != nil {
		return err
	}
	if c.dir.RevokeURL == "" {
		return fmt.Errorf("%s has no revokeCert", c.ca.Directory)
	}
	return c.again(ctx, func() error {
		return c.lib.RevokeCert(ctx, revocation.Key, revocation.Certificate.Raw, xacme.CRLReasonCode(code))
	})
}

// revoker needs no account where the certificate's key signs.
func (i *Issuer) revoker(ctx context.Context, revocation cert.Revocation) (*client, error) {
	if revocation.Key != nil {
		return i.visit(ctx, revocation.CA)
	}
	c, err := i.registered(ctx, revocation.CA)
	if errors.Is(err, fs.ErrNotExist) {
		return nil, &cert.Error{Op: "revoke", Name: nameOfLeaf(revocation), Kind: cert.KindPerson, Err: err,
			Hint: "use --reason keyCompromise, which the certificate's own key signs, or restore the account that it was issued to"}
	}
	return c, err
}

// refusedRevocation says what a CA means by it: the request must be signed with the certificate's key, or by the account that it was
// issued to or one "that holds authorizations for all of the identifiers in the certificate". RFC 8555 §7.6
func refusedRevocation(err error, revocation cert.Revocation) error {
	refused, ok := errors.AsType[*cert.Error](err)
	if !ok {
		return err
	}
	said := *refused
	said.Kind = cert.KindPerson
	said.Hint = "the account that asked is not the one it was issued to: use --reason keyCompromise, which the certificate's own key signs, or restore that account"
	if revocation.Key != nil {
		said.Hint = "the CA does not take the certificate's key: was it issued there?"
	}
	return &said
}

func nameOfLeaf(revocation cert.Revocation) string {
	if names := cert.NamesOf(revocation.Certificate); len(names) > 0 {
		return names[0]
	}
	return ""
}
