package acme

import (
	"context"
	"crypto/x509"
	"fmt"
	"strings"

	"github.com/sidecert/sidecert/internal/cert"
)

// maxAlternates is how many other chains are looked at for the preferred one.
const maxAlternates = 4

// download fetches the certificate of a valid order, RFC 8555 §7.4.2. The library takes chains of up to 5 certificates, which
// is enough: Let's Encrypt's longest has 4.
func (c *client) download(ctx context.Context, w *work) (cert.Bundle, error) {
	chain, err := c.fetch(ctx, w.order.CertURL)
	if isGone(err) {
		return cert.Bundle{}, &deadOrder{err: c.failure("download", w.spec.Name, err)}
	}
	if err != nil {
		return cert.Bundle{}, c.failure("download", w.spec.Name, err)
	}
	bundle := cert.Bundle{Key: w.keys.key, Chain: c.preferred(ctx, w, chain)}
	if err := bundle.Check(w.spec.Names, c.config.Now()); err != nil {
		return cert.Bundle{}, c.unacceptable(w, bundle, err)
	}
	return bundle, nil
}

// unacceptable is a certificate that must not be stored. Where nothing but our clock stands against it the order is kept, so
// that the same certificate is fetched again once the clock is right; else it is dropped.
func (c *client) unacceptable(w *work, bundle cert.Bundle, err error) error {
	failed := &cert.Error{Op: "download", Name: w.spec.Name, Kind: cert.KindPerson, Err: fmt.Errorf("the CA's certificate is not acceptable: %w", err)}
	leaf := bundle.Chain[0]
	if c.config.Now().Before(leaf.NotBefore) && bundle.Check(w.spec.Names, leaf.NotBefore) == nil {
		failed.Hint = "set the clock of this machine"
		return failed
	}
	failed.Hint = "this is the CA's mistake: tell those who run it"
	return &deadOrder{err: failed}
}

func (c *client) fetch(ctx context.Context, url string) ([]*x509.Certificate, error) {
	var ders [][]byte
	err := c.again(ctx, func() (err error) {
		ders, err = c.lib.FetchCert(ctx, url, true)
		return err
	})
	if err != nil {
		return nil, err
	}
	var chain []*x509.Certificate
	for _, der := range ders {
		one, err := x509.ParseCertificate(der)
		if err != nil {
			return nil, fmt.Errorf("the CA's certificate cannot be read: %w", err)
		}
		chain = append(chain, one)
	}
	return chain, nil
}

// preferred looks for the chain that the spec prefers among those that the CA offers: "The server MAY provide one or more link
// relation header fields [RFC8288] with relation "alternate"." RFC 8555 §7.4.2. None that fits, or none that can be fetched, is
// no reason to be without a certificate: then it is the default chain.
func (c *client) preferred(ctx context.Context, w *work, chain []*x509.Certificate) []*x509.Certificate {
	wanted := w.spec.PreferredChain
	if wanted == "" || topIssuer(chain) == wanted {
		return chain
	}
	urls, err := c.lib.ListCertAlternates(ctx, w.order.CertURL)
	offered := []string{topIssuer(chain)}
	for _, url := range urls[:min(len(urls), maxAlternates)] {
		var other []*x509.Certificate
		if other, err = c.fetch(ctx, url); err != nil {
			break
		}
		if topIssuer(other) == wanted {
			return other
		}
		offered = append(offered, topIssuer(other))
	}
	if err != nil {
		c.config.Log.Warn("preferred chain not fetched", cert.AttrCert, w.spec.Name, cert.AttrErr, clean(err.Error(), maxWords))
		return chain
	}
	c.config.Log.Warn("preferred chain not offered", cert.AttrCert, w.spec.Name, "wanted", wanted,
		cert.AttrHint, "PREFERRED_CHAIN can be one of: "+clean(strings.Join(offered, ", "), maxWords))
	return chain
}

// topIssuer is the common name of the root that a chain leads to.
func topIssuer(chain []*x509.Certificate) string { return chain[len(chain)-1].Issuer.CommonName }
