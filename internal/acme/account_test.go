package acme

import (
	"context"
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/rsa"
	"errors"
	"fmt"
	"net/http"
	"strings"
	"testing"

	"github.com/sidecert/sidecert/internal/acmetest"
	"github.com/sidecert/sidecert/internal/cert"
)

func TestAccountLostAtTheCAIsRegisteredWithTheSameKey(t *testing.T) {
	s := newSite(t, acmetest.Config{})
	s.obtain(t, "example.test")
	before := s.accounts.accounts[s.ca().ID()]
	if err := s.Forget(); err != nil {
		t.Fatal(err)
	}
	s.obtain(t, "example.test")
	after := s.accounts.accounts[s.ca().ID()]
	if before.Key != after.Key {
		t.Error("the account has another key")
	}
	if before.URI == after.URI {
		t.Error("the account still has the URI that the CA does not know")
	}
}

func TestOrderLostWithTheAccountIsReplaced(t *testing.T) {
	o := &outage{}
	s := newSite(t, acmetest.Config{Wrap: o.wrap})
	req, kept := s.request("example.test")
	o.at.Store(6)
	if _, err := s.issuer.Obtain(context.Background(), req); err == nil {
		t.Fatal("the outage did not come")
	}
	o.at.Store(0)
	if err := s.Forget(); err != nil {
		t.Fatal(err)
	}
	req.Order = kept.order
	must(t, s.issuer, req)
}

func TestKeyThatWasSavedButNotRegisteredIsUsed(t *testing.T) {
	s := newSite(t, acmetest.Config{})
	key, err := cert.NewKey(cert.EC256)
	if err != nil {
		t.Fatal(err)
	}
	s.accounts.SaveAccount(s.ca(), cert.Account{Key: key})
	s.obtain(t, "example.test")
	if got := s.accounts.accounts[s.ca().ID()]; got.Key != key || got.URI == "" {
		t.Errorf("account with URI %q and another key: %t, want the saved key registered", got.URI, got.Key != key)
	}
}

func TestRegisteredKeyYieldsItsAccount(t *testing.T) {
	s := newSite(t, acmetest.Config{})
	s.obtain(t, "example.test")
	account := s.accounts.accounts[s.ca().ID()]
	uri := account.URI
	account.URI = ""
	s.accounts.SaveAccount(s.ca(), account)
	s.restart()
	s.obtain(t, "example.test")
	if got := s.accounts.accounts[s.ca().ID()].URI; got != uri {
		t.Errorf("URI %q, want the one of the account that the key has: %q", got, uri)
	}
}

func TestEveryKindOfAccountKeySigns(t *testing.T) {
	s := newSite(t, acmetest.Config{})
	rsaKey, err := rsa.GenerateKey(rand.Reader, 2048) // as certbot has
	if err != nil {
		t.Fatal(err)
	}
	p384, err := ecdsa.GenerateKey(elliptic.P384(), rand.Reader)
	if err != nil {
		t.Fatal(err)
	}
	p521, err := ecdsa.GenerateKey(elliptic.P521(), rand.Reader)
	if err != nil {
		t.Fatal(err)
	}
	for _, account := range []cert.Account{{Key: rsaKey}, {Key: p384}, {Key: p521}} {
		s.accounts.SaveAccount(s.ca(), account)
		s.restart()
		req, _ := s.request("example.test")
		if _, err := s.issuer.Obtain(context.Background(), req); err != nil {
			t.Errorf("account with a %T: %v", account.Key, err)
		}
	}
}

func TestAccountThatCannotBeReadIsNotReplaced(t *testing.T) {
	s := newSite(t, acmetest.Config{})
	s.accounts.err = errors.New("permission denied")
	req, _ := s.request("example.test")
	_, err := s.issuer.Obtain(context.Background(), req)
	if !errors.Is(err, s.accounts.err) {
		t.Errorf("error %v, want the store's", err)
	}
	if len(s.accounts.saves) != 0 || s.Requests()["newAccount"] != 0 {
		t.Error("an account was made although there may be one")
	}
}

func TestTermsMustBeAgreedTo(t *testing.T) {
	s := newSite(t, acmetest.Config{})
	req, _ := s.request("example.test")
	req.Spec.CA.AgreeTOS = false
	_, err := s.issuer.Obtain(context.Background(), req)
	e := failed(t, err)
	if e.Kind != cert.KindPerson || !strings.Contains(err.Error(), "data:text/plain,Do%20what%20thou%20wilt") {
		t.Errorf("error %v of kind %q, want one for a person that has the terms' URL", err, e.Kind)
	}
	if len(s.accounts.saves) != 0 {
		t.Error("a key was made although the terms are not agreed to")
	}
}

func TestExternalAccountBinding(t *testing.T) {
	key := []byte("0123456789abcdef0123456789abcdef")
	s := newSite(t, acmetest.Config{EAB: map[string][]byte{"kid-1": key}})
	req, _ := s.request("example.test")
	_, err := s.issuer.Obtain(context.Background(), req)
	e := failed(t, err)
	if e.Kind != cert.KindPerson || !strings.Contains(e.Hint, "ACME_EAB_KID") {
		t.Errorf("without a binding: kind %q, hint %q", e.Kind, e.Hint)
	}
	req.Spec.CA.EABKID, req.Spec.CA.EABKey = "kid-1", cert.Secret(key)
	must(t, s.issuer, req)

	req.Spec.CA.EABKID, req.Spec.CA.EABKey = "kid-2", "a secret that is wrong"
	_, err = s.issuer.Obtain(context.Background(), req)
	if got := fmt.Sprintf("%+v %s", err, failed(t, err).Hint); strings.Contains(got, "a secret") {
		t.Errorf("the error has the secret in it: %s", got)
	}
}

func TestUnneededBindingIsNotSent(t *testing.T) {
	s := newSite(t, acmetest.Config{})
	req, _ := s.request("example.test")
	req.Spec.CA.EABKID, req.Spec.CA.EABKey = "kid", "key" // Pebble would refuse a binding that it does not know
	must(t, s.issuer, req)
}

func TestDeactivatedAccountNeedsAPerson(t *testing.T) {
	s := newSite(t, acmetest.Config{Wrap: answer("newOrder", func(w http.ResponseWriter, r *http.Request) {
		problem(w, http.StatusForbidden, "unauthorized", "Account is not valid, has status deactivated")
	})})
	req, _ := s.request("example.test")
	_, err := s.issuer.Obtain(context.Background(), req)
	if e := failed(t, err); e.Kind != cert.KindPerson || !strings.Contains(e.Hint, "account") {
		t.Errorf("kind %q, hint %q", e.Kind, e.Hint)
	}
}
