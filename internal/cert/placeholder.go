package cert

import (
	"crypto/rand"
	"crypto/x509"
	"crypto/x509/pkix"
	"math/big"
	"net"
	"slices"
	"time"
)

// placeholderMark is the organization of the throwaway CA and of its leaf. No CA issues for it, so nobody takes a
// placeholder for a certificate.
const placeholderMark = "sidecert placeholder"

// placeholderLife is long enough that a web server which reads it at start, and then waits for a CA that is down, does not
// meet an expired one.
const placeholderLife = 90 * 24 * time.Hour

// Placeholder makes the pair that a web server starts with before there is a certificate: a leaf for the names, signed by a
// CA whose key is thrown away here. It has a chain because httpd does not start with an empty chain.pem.
func Placeholder(lineage string, names []string, now time.Time) (Bundle, error) {
	caKey, err := NewKey(EC256)
	if err != nil {
		return Bundle{}, err
	}
	caTemplate := template(pkix.Name{Organization: []string{placeholderMark}, CommonName: "placeholder CA"}, now)
	caTemplate.IsCA, caTemplate.BasicConstraintsValid, caTemplate.KeyUsage = true, true, x509.KeyUsageCertSign
	ca, err := sign(caTemplate, caTemplate, caKey.Public(), caKey)
	if err != nil {
		return Bundle{}, err
	}

	key, err := NewKey(EC256)
	if err != nil {
		return Bundle{}, err
	}
	leafTemplate := template(pkix.Name{Organization: []string{placeholderMark}, OrganizationalUnit: []string{lineage}}, now)
	leafTemplate.KeyUsage = x509.KeyUsageDigitalSignature
	leafTemplate.ExtKeyUsage = []x509.ExtKeyUsage{x509.ExtKeyUsageServerAuth}
	for _, name := range names {
		if ip := net.ParseIP(name); ip != nil {
			leafTemplate.IPAddresses = append(leafTemplate.IPAddresses, ip)
		} else {
			leafTemplate.DNSNames = append(leafTemplate.DNSNames, name)
		}
	}
	leaf, err := sign(leafTemplate, ca, key.Public(), caKey)
	if err != nil {
		return Bundle{}, err
	}
	return Bundle{Key: key, Chain: []*x509.Certificate{leaf, ca}}, nil
}

// IsPlaceholder reports whether a certificate is one of Placeholder's.
func IsPlaceholder(c *x509.Certificate) bool {
	return slices.Contains(c.Issuer.Organization, placeholderMark)
}

// placeholderOf is the lineage that a placeholder stands in for, "" for any other certificate.
func placeholderOf(c *x509.Certificate) string {
	if !IsPlaceholder(c) || len(c.Subject.OrganizationalUnit) != 1 {
		return ""
	}
	return c.Subject.OrganizationalUnit[0]
}

func template(subject pkix.Name, now time.Time) *x509.Certificate {
	serial, _ := rand.Int(rand.Reader, new(big.Int).Lsh(big.NewInt(1), 120)) // fails only with the system's randomness, which crypto/rand turns into a crash
	return &x509.Certificate{
		SerialNumber: serial.Add(serial, big.NewInt(1)),
		Subject:      subject,
		NotBefore:    now.Add(-time.Hour),
		NotAfter:     now.Add(placeholderLife),
	}
}

func sign(template, parent *x509.Certificate, pub, by any) (*x509.Certificate, error) {
	der, err := x509.CreateCertificate(rand.Reader, template, parent, pub, by)
	if err != nil {
		return nil, err
	}
	return x509.ParseCertificate(der)
}
