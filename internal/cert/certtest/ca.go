// Package certtest makes certificates for tests, without a CA's protocol.
package certtest

import (
	"crypto"
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/x509"
	"crypto/x509/pkix"
	"math/big"
	"net"
	"sync/atomic"
	"time"

	"github.com/sidecert/sidecert/internal/cert"
)

// CA is a root with one intermediate.
type CA struct {
	Root, Intermediate *x509.Certificate
	key                crypto.Signer
	serial             atomic.Int64
}

// New makes a CA. Its methods panic on errors that only a fault of the test can bring about.
func New() *CA {
	ca := &CA{key: newKey()}
	rootKey := newKey()
	root := &x509.Certificate{Subject: pkix.Name{CommonName: "certtest root"}, NotBefore: time.Unix(0, 0), NotAfter: time.Date(2200, 1, 1, 0, 0, 0, 0, time.UTC),
		IsCA: true, BasicConstraintsValid: true, KeyUsage: x509.KeyUsageCertSign}
	ca.Root = ca.sign(root, root, rootKey.Public(), rootKey)
	intermediate := *root
	intermediate.Subject.CommonName = "certtest intermediate"
	ca.Intermediate = ca.sign(&intermediate, ca.Root, ca.key.Public(), rootKey)
	return ca
}

// Issue makes a certificate for names with a new key, valid from notBefore for life.
func (ca *CA) Issue(notBefore time.Time, life time.Duration, names ...string) cert.Bundle {
	return ca.IssueFor(newKey(), notBefore, life, names...)
}

// IssueFor is Issue for a key of the caller's.
func (ca *CA) IssueFor(key crypto.Signer, notBefore time.Time, life time.Duration, names ...string) cert.Bundle {
	leaf := &x509.Certificate{NotBefore: notBefore, NotAfter: notBefore.Add(life), KeyUsage: x509.KeyUsageDigitalSignature,
		ExtKeyUsage: []x509.ExtKeyUsage{x509.ExtKeyUsageServerAuth}}
	for _, name := range names {
		if ip := net.ParseIP(name); ip != nil {
			leaf.IPAddresses = append(leaf.IPAddresses, ip)
		} else {
			leaf.DNSNames = append(leaf.DNSNames, name)
		}
	}
	return cert.Bundle{Key: key, Chain: []*x509.Certificate{ca.sign(leaf, ca.Intermediate, key.Public(), ca.key), ca.Intermediate}}
}

func (ca *CA) sign(template, parent *x509.Certificate, pub, by any) *x509.Certificate {
	template.SerialNumber = big.NewInt(ca.serial.Add(1))
	der, err := x509.CreateCertificate(rand.Reader, template, parent, pub, by)
	if err != nil {
		panic(err)
	}
	c, err := x509.ParseCertificate(der)
	if err != nil {
		panic(err)
	}
	return c
}

func newKey() crypto.Signer {
	key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		panic(err)
	}
	return key
}
