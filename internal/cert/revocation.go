package cert

import (
	"crypto"
	"crypto/x509"
)

// Revocation asks a CA to revoke one certificate, RFC 8555 §7.6.
type Revocation struct {
	CA          CA
	Certificate *x509.Certificate
	// Key is the certificate's own, which signs the request where it is said to be compromised, so that the CA never takes it
	// again; nil has the account sign.
	Key    crypto.Signer
	Reason Reason
}

// Reason is why a certificate is revoked, as RFC 5280 §5.3.1 names it.
type Reason string

const (
	Unspecified    Reason = "unspecified"
	KeyCompromise  Reason = "keyCompromise"
	AffiliationChg Reason = "affiliationChanged"
	Superseded     Reason = "superseded"
	Cessation      Reason = "cessationOfOperation"
)

// Reasons are those that a subscriber may give, with their codes.
var Reasons = map[Reason]int{Unspecified: 0, KeyCompromise: 1, AffiliationChg: 3, Superseded: 4, Cessation: 5}
