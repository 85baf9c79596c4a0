package cert_test

import (
	"crypto/tls"
	"crypto/x509"
	"encoding/json"
	"fmt"
	"strings"
	"testing"
	"time"

	"github.com/sidecert/sidecert/internal/cert"
)

func TestOnlyTheRightCertificateIsAccepted(t *testing.T) {
	names := []string{"a.example", "www.a.example"}
	good := ca.Issue(now.Add(-time.Hour), 90*day, names...)
	other, err := cert.NewKey(cert.EC256)
	if err != nil {
		t.Fatal(err)
	}
	cases := []struct {
		name string
		b    cert.Bundle
		at   time.Time
		want string // part of the error; "" accepts
	}{
		{"right", good, now, ""},
		{"names in another order", ca.Issue(now, 90*day, "www.a.example", "a.example"), now, ""},
		{"half an hour of skew", good, now.Add(-90 * time.Minute), ""},
		{"another key", cert.Bundle{Key: other, Chain: good.Chain}, now, "for another key"},
		{"no key", cert.Bundle{Chain: good.Chain}, now, "no private key"},
		{"nothing", cert.Bundle{Key: good.Key}, now, "no certificate"},
		{"a name is missing", ca.Issue(now, 90*day, "a.example"), now, "is for a.example, want a.example, www.a.example"},
		{"a name too many", ca.Issue(now, 90*day, "a.example", "www.a.example", "evil.example"), now, "evil.example"},
		{"expired", good, now.Add(91 * day), "expired"},
		{"not valid yet", good, now.Add(-3 * day), "not valid before"},
		{"the chain is missing", cert.Bundle{Key: good.Key, Chain: good.Chain[:1]}, now, "chain is missing"},
		{"the chain is another's", cert.Bundle{Key: good.Key, Chain: []*x509.Certificate{good.Chain[0], ca.Root}}, now, "is not signed by the next"},
		{"the chain is upside down", cert.Bundle{Key: good.Key, Chain: []*x509.Certificate{good.Chain[1], good.Chain[0]}}, now, "for another key"},
		{"the chain never ends", cert.Bundle{Key: good.Key, Chain: append([]*x509.Certificate{good.Chain[0]}, repeat(good.Chain[1], 10)...)}, now, "more than 10"},
	}
	for _, c := range cases {
		err := c.b.Check(names, c.at)
		if c.want == "" && err != nil || c.want != "" && (err == nil || !strings.Contains(err.Error(), c.want)) {
			t.Errorf("%s: Check() = %v, want %q", c.name, err, c.want)
		}
	}
}

func repeat(c *x509.Certificate, n int) (list []*x509.Certificate) {
	for range n {
		list = append(list, c)
	}
	return list
}

func TestKeysOfEveryTypeAreReadBack(t *testing.T) {
	for _, keyType := range []cert.KeyType{cert.EC256, cert.EC384, cert.RSA2048} {
		key, err := cert.NewKey(keyType)
		if err != nil {
			t.Fatal(err)
		}
		pem, err := cert.EncodeKey(key)
		if err != nil {
			t.Fatal(err)
		}
		back, err := cert.ParseKey(pem)
		if err != nil || cert.KeyTypeOf(back.Public()) != keyType {
			t.Errorf("a key of type %s reads back as %s, %v", keyType, cert.KeyTypeOf(back.Public()), err)
		}
		if _, err := cert.ParseKey(pem[:len(pem)/2]); err == nil {
			t.Errorf("half a key of type %s was read", keyType)
		}
	}
}

func TestPlaceholderIsKnownAndLoads(t *testing.T) {
	b, err := cert.Placeholder("shop", []string{"a.example", "192.0.2.1", "2001:db8::1"}, now)
	if err != nil {
		t.Fatal(err)
	}
	files, err := b.PEM()
	if err != nil {
		t.Fatal(err)
	}
	if _, err := tls.X509KeyPair(files[cert.FullchainPEM], files[cert.PrivkeyPEM]); err != nil {
		t.Errorf("a web server cannot load it: %v", err)
	}
	leaf := b.Chain[0]
	if !cert.IsPlaceholder(leaf) || cert.IsPlaceholder(ca.Issue(now, day, "a.example").Chain[0]) {
		t.Error("a placeholder and a certificate are not told apart")
	}
	if err := leaf.VerifyHostname("a.example"); err != nil {
		t.Error(err)
	}
	if got := (cert.Lineage{Name: "shop"}).Classify(leaf); got != cert.Stale {
		t.Errorf("the lineage's own placeholder is %s, want stale", got)
	}
	if got := (cert.Lineage{Name: "other"}).Classify(leaf); got != cert.Foreign {
		t.Errorf("another lineage's placeholder is %s, want foreign", got)
	}
}

func TestServedLeafIsClassified(t *testing.T) {
	old, live, elsewhere := ca.Issue(now, day, "a.example"), ca.Issue(now, day, "a.example"), ca.Issue(now, day, "a.example")
	l := cert.Lineage{Name: "a.example", Number: 2, Chain: live.Chain, Older: []string{cert.Fingerprint(old.Chain[0])}}
	for want, served := range map[cert.Class]*x509.Certificate{
		cert.Current: live.Chain[0], cert.Stale: old.Chain[0], cert.Foreign: elsewhere.Chain[0], cert.Unseen: nil,
	} {
		if got := l.Classify(served); got != want {
			t.Errorf("Classify() = %s, want %s", got, want)
		}
	}
}

func TestSecretIsNeverPrinted(t *testing.T) {
	const canary = "canary"
	s := struct{ Key cert.Secret }{canary}
	asJSON, err := json.Marshal(s)
	if err != nil {
		t.Fatal(err)
	}
	for _, out := range []string{fmt.Sprint(s), fmt.Sprintf("%v %+v %#v %s %q", s, s, s, s.Key, s.Key), string(asJSON)} {
		if strings.Contains(out, canary) {
			t.Errorf("the secret was printed: %s", out)
		}
	}
}
