package cert

import (
	"crypto"
	"crypto/ecdsa"
	"crypto/rsa"
	"crypto/sha256"
	"crypto/x509"
	"encoding/hex"
	"time"
)

// Lineage is one certificate as it is stored: the version that live/NAME shows and what is known of the others.
// Its zero value but for Name is a lineage that has nothing yet.
type Lineage struct {
	Name string
	// Number is that of the live version's files in archive/; 0 where only a placeholder is live.
	Number int
	// Chain is what the live fullchain.pem holds, leaf first; nil where nothing is live.
	Chain []*x509.Certificate
	// Key is the live version's; nil for a placeholder.
	Key crypto.Signer
	// Placeholder says that Chain is no CA's.
	Placeholder bool
	// Older are the fingerprints of the other stored versions' leaves.
	Older []string

	// Conf is renewal/NAME.conf; its zero value where there is none.
	Conf Conf
	// Dir is where people find it: CERT_DIR/live/NAME.
	Dir string
}

// Leaf is the live version's certificate, placeholder or not; nil where nothing is live.
func (l Lineage) Leaf() *x509.Certificate {
	if len(l.Chain) == 0 {
		return nil
	}
	return l.Chain[0]
}

// Issued reports whether a CA's certificate is live.
func (l Lineage) Issued() bool { return len(l.Chain) > 0 && !l.Placeholder }

// Fingerprint of the live leaf, "" where nothing is live.
func (l Lineage) Fingerprint() string {
	if leaf := l.Leaf(); leaf != nil {
		return Fingerprint(leaf)
	}
	return ""
}

// Names of the live leaf: its DNS names, then its IP addresses.
func (l Lineage) Names() []string {
	if leaf := l.Leaf(); leaf != nil {
		return NamesOf(leaf)
	}
	return nil
}

// Classify says how a served leaf stands to the lineage.
func (l Lineage) Classify(served *x509.Certificate) Class {
	if served == nil {
		return Unseen
	}
	fp := Fingerprint(served)
	if fp == l.Fingerprint() {
		return Current
	}
	for _, older := range l.Older {
		if fp == older {
			return Stale
		}
	}
	if placeholderOf(served) == l.Name {
		return Stale
	}
	return Foreign
}

// Fingerprint is the SHA-256 of a certificate's DER, in hexadecimal.
func Fingerprint(c *x509.Certificate) string {
	sum := sha256.Sum256(c.Raw)
	return hex.EncodeToString(sum[:])
}

// NamesOf returns a certificate's DNS names and then its IP addresses, as a Spec would name them.
func NamesOf(c *x509.Certificate) []string {
	names := append([]string(nil), c.DNSNames...)
	for _, ip := range c.IPAddresses {
		names = append(names, ip.String())
	}
	return names
}

// KeyTypeOf names the type of a public key; "" if it is none of KeyTypes.
func KeyTypeOf(pub crypto.PublicKey) KeyType {
	switch k := pub.(type) {
	case *ecdsa.PublicKey:
		switch k.Curve.Params().BitSize {
		case 256:
			return EC256
		case 384:
			return EC384
		}
	case *rsa.PublicKey:
		switch k.N.BitLen() {
		case 2048:
			return RSA2048
		case 3072:
			return RSA3072
		case 4096:
			return RSA4096
		}
	}
	return ""
}

// Lifetime is how long a certificate is valid as a whole.
func Lifetime(c *x509.Certificate) time.Duration { return c.NotAfter.Sub(c.NotBefore) }
