package cert

import (
	"bytes"
	"crypto"
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/rsa"
	"crypto/x509"
	"encoding/pem"
	"errors"
	"fmt"
	"strings"
	"time"
)

// Bundle is a private key and the chain of certificates that belongs to it, leaf first and without the root.
type Bundle struct {
	Key   crypto.Signer
	Chain []*x509.Certificate
}

// MaxChain is how many certificates of a chain are looked at. Let's Encrypt sends up to 4.
const MaxChain = 10

// Check is what a bundle must pass before it is stored: the key fits the leaf, the leaf has exactly the names, now lies in its
// dates (an hour of skew is forgiven at the start), and each certificate is signed by the next. Whether the last one leads to
// a root that browsers trust is not looked at: a private CA's does not.
func (b Bundle) Check(names []string, now time.Time) error {
	if err := b.Whole(); err != nil {
		return err
	}
	if len(b.Chain) < 2 {
		return errors.New("the chain is missing: the CA sent the leaf alone")
	}
	leaf := b.Chain[0]
	if got := NamesOf(leaf); !SameNames(got, names) {
		return fmt.Errorf("the certificate is for %s, want %s", strings.Join(got, ", "), strings.Join(names, ", "))
	}
	if leaf.IsCA {
		return errors.New("the certificate is a CA's own")
	}
	if now.Add(time.Hour).Before(leaf.NotBefore) {
		return fmt.Errorf("the certificate is not valid before %s and it is %s here", leaf.NotBefore.UTC().Format(time.RFC3339), now.UTC().Format(time.RFC3339))
	}
	if !now.Before(leaf.NotAfter) {
		return fmt.Errorf("the certificate expired at %s and it is %s here", leaf.NotAfter.UTC().Format(time.RFC3339), now.UTC().Format(time.RFC3339))
	}
	return nil
}

// Whole is the part of Check that stays true for ever: the key fits the leaf, and each certificate is signed by the next. A leaf
// alone is whole: private CAs without intermediates exist, and what is stored of one is not ours to doubt.
// MD5 and SHA-1 are left to crypto/x509, which refuses both.
func (b Bundle) Whole() error {
	if len(b.Chain) == 0 {
		return errors.New("no certificate")
	}
	if b.Key == nil {
		return errors.New("no private key")
	}
	if !Fits(b.Key, b.Chain[0]) {
		return errors.New("the certificate is for another key")
	}
	if len(b.Chain) > MaxChain {
		return fmt.Errorf("the chain has %d certificates, more than %d", len(b.Chain), MaxChain)
	}
	for i, c := range b.Chain[:len(b.Chain)-1] {
		if err := c.CheckSignatureFrom(b.Chain[i+1]); err != nil {
			return fmt.Errorf("certificate %d of the chain (%s) is not signed by the next (%s): %w", i+1, c.Subject, b.Chain[i+1].Subject, err)
		}
	}
	return nil
}

// Fits reports whether a private key is the one of a certificate.
func Fits(key crypto.Signer, c *x509.Certificate) bool {
	pub, ok := key.Public().(interface{ Equal(crypto.PublicKey) bool })
	return ok && pub.Equal(c.PublicKey)
}

// The four files of a version, as certbot names them.
const (
	CertPEM      = "cert"
	ChainPEM     = "chain"
	FullchainPEM = "fullchain"
	PrivkeyPEM   = "privkey"
)

// Files are the names of the four files of a version, without number and extension.
var Files = []string{CertPEM, ChainPEM, FullchainPEM, PrivkeyPEM}

// PEM returns the contents of a version's four files.
func (b Bundle) PEM() (map[string][]byte, error) {
	key, err := EncodeKey(b.Key)
	if err != nil {
		return nil, err
	}
	leaf, rest := EncodeChain(b.Chain[:1]), EncodeChain(b.Chain[1:])
	return map[string][]byte{
		CertPEM:      leaf,
		ChainPEM:     rest,
		FullchainPEM: append(bytes.Clone(leaf), rest...),
		PrivkeyPEM:   key,
	}, nil
}

// EncodeChain writes certificates one after the other, without blank lines between.
func EncodeChain(chain []*x509.Certificate) []byte {
	var buf bytes.Buffer
	for _, c := range chain {
		pem.Encode(&buf, &pem.Block{Type: "CERTIFICATE", Bytes: c.Raw})
	}
	return buf.Bytes()
}

// ParseChain reads the certificates of a PEM file; other blocks are passed over.
func ParseChain(data []byte) ([]*x509.Certificate, error) {
	var chain []*x509.Certificate
	for {
		var block *pem.Block
		block, data = pem.Decode(data)
		if block == nil {
			break
		}
		if block.Type != "CERTIFICATE" {
			continue
		}
		if len(chain) == MaxChain {
			return nil, fmt.Errorf("more than %d certificates", MaxChain)
		}
		c, err := x509.ParseCertificate(block.Bytes)
		if err != nil {
			return nil, err
		}
		chain = append(chain, c)
	}
	if len(chain) == 0 {
		return nil, errors.New("no certificate in PEM form")
	}
	return chain, nil
}

// EncodeKey writes a private key as PKCS #8, which is what certbot writes and every web server reads.
func EncodeKey(key crypto.Signer) ([]byte, error) {
	der, err := x509.MarshalPKCS8PrivateKey(key)
	if err != nil {
		return nil, fmt.Errorf("encode private key: %w", err)
	}
	return pem.EncodeToMemory(&pem.Block{Type: "PRIVATE KEY", Bytes: der}), nil
}

// ParseKey reads a private key in PKCS #8, PKCS #1 or SEC 1 form. Its errors never quote the data.
func ParseKey(data []byte) (crypto.Signer, error) {
	for {
		var block *pem.Block
		block, data = pem.Decode(data)
		if block == nil {
			return nil, errors.New("no private key in PEM form")
		}
		var key any
		var err error
		switch block.Type {
		case "PRIVATE KEY":
			key, err = x509.ParsePKCS8PrivateKey(block.Bytes)
		case "EC PRIVATE KEY":
			key, err = x509.ParseECPrivateKey(block.Bytes)
		case "RSA PRIVATE KEY":
			key, err = x509.ParsePKCS1PrivateKey(block.Bytes)
		default: // EC PARAMETERS stands before the key in openssl's files
			continue
		}
		if err != nil {
			return nil, errors.New("the private key is damaged")
		}
		signer, ok := key.(crypto.Signer)
		if !ok {
			return nil, errors.New("the private key is of a kind that cannot sign")
		}
		return signer, nil
	}
}

// NewKey makes a private key; "" stands for DefaultKeyType.
func NewKey(t KeyType) (crypto.Signer, error) {
	switch t {
	case EC256, "":
		return ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	case EC384:
		return ecdsa.GenerateKey(elliptic.P384(), rand.Reader)
	case RSA2048:
		return rsa.GenerateKey(rand.Reader, 2048)
	case RSA3072:
		return rsa.GenerateKey(rand.Reader, 3072)
	case RSA4096:
		return rsa.GenerateKey(rand.Reader, 4096)
	}
	return nil, fmt.Errorf("unknown key type %q", t)
}
