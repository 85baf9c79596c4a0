package acme

import (
	"crypto"
	"crypto/rand"
	"crypto/x509"
	"errors"
	"net"
	"time"

	"github.com/sidecert/sidecert/internal/cert"
)

// keys are a certificate's private key and the request for it, PKCS #10 in DER.
type keys struct {
	key crypto.Signer
	csr []byte
}

// newKeys takes the stored key where it is to be kept, else it makes one.
func newKeys(req cert.Request) (*keys, error) {
	key := req.Stored.Key
	if !keepsKey(req) {
		var err error
		if key, err = cert.NewKey(wantedType(req)); err != nil {
			return nil, err
		}
	}
	csr, err := newCSR(req.Spec.Names, key)
	return &keys{key, csr}, err
}

// keepsKey reports whether the stored key is used again. Where nobody asks for a type it may be one that we would not make: a
// 3000-bit RSA key of certbot's, say.
func keepsKey(req cert.Request) bool {
	if !req.Spec.ReuseKey || req.FreshKey || req.Stored.Key == nil {
		return false
	}
	asked := askedType(req)
	return asked == "" || asked == cert.KeyTypeOf(req.Stored.Key.Public())
}

// newCSR names no common name: CAs take the names from the extension, and a name over 64 bytes does not fit in there.
func newCSR(names []string, key crypto.Signer) ([]byte, error) {
	template := &x509.CertificateRequest{}
	for _, name := range names {
		if ip := net.ParseIP(name); ip != nil {
			template.IPAddresses = append(template.IPAddresses, ip)
		} else {
			template.DNSNames = append(template.DNSNames, name)
		}
	}
	return x509.CreateCertificateRequest(rand.Reader, template, key)
}

// askedType is the spec's, else what the conf of a lineage of certbot's says; "" if nobody asks for one.
func askedType(req cert.Request) cert.KeyType {
	if req.Spec.KeyType == "" && req.Stored.Conf.Certbot {
		return req.Stored.Conf.KeyType
	}
	return req.Spec.KeyType
}

// wantedType is the one asked for, else that of the certificate in use, else the default.
func wantedType(req cert.Request) cert.KeyType {
	if asked := askedType(req); asked != "" {
		return asked
	}
	if req.Stored.Issued() {
		if t := cert.KeyTypeOf(req.Stored.Leaf().PublicKey); t != "" {
			return t
		}
	}
	return cert.DefaultKeyType
}

// order is how the keys are stored.
func (k *keys) order(spec cert.Spec, now time.Time) (cert.Order, error) {
	pem, err := cert.EncodeKey(k.key)
	if err != nil {
		return cert.Order{}, err
	}
	return cert.Order{
		Account: spec.CA.ID(),
		Names:   spec.Names,
		KeyType: cert.KeyTypeOf(k.key.Public()),
		Profile: spec.Profile,
		Key:     pem,
		CSR:     k.csr,
		Begun:   now,
	}, nil
}

// keysOf reads the keys of a stored order. It fails where they are not what the request wants.
func keysOf(order *cert.Order, req cert.Request) (*keys, error) {
	switch {
	case order.Account != req.Spec.CA.ID():
		return nil, errors.New("it was made at another CA")
	case !cert.SameNames(order.Names, req.Spec.Names):
		return nil, errors.New("it is for other names")
	case order.Profile != req.Spec.Profile:
		return nil, errors.New("it is for another profile")
	}
	key, err := cert.ParseKey(order.Key)
	if err != nil {
		return nil, err
	}
	stored := req.Stored.Key != nil && sameKey(key.Public(), req.Stored.Key.Public())
	if stored && req.FreshKey {
		return nil, errors.New("it is for the key that is to be replaced")
	}
	if cert.KeyTypeOf(key.Public()) != wantedType(req) && !(stored && keepsKey(req)) {
		return nil, errors.New("it is for another type of key")
	}
	csr, err := x509.ParseCertificateRequest(order.CSR)
	if err != nil {
		return nil, err
	}
	if !sameKey(key.Public(), csr.PublicKey) {
		return nil, errors.New("its request is for another key")
	}
	return &keys{key, order.CSR}, nil
}

func sameKey(a, b crypto.PublicKey) bool {
	pub, ok := a.(interface{ Equal(crypto.PublicKey) bool })
	return ok && pub.Equal(b)
}
