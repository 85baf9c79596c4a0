package acme

import (
	"bytes"
	"context"
	"errors"
	"io/fs"
	"log/slog"
	"net/http"
	"slices"
	"strings"
	"testing"

	"github.com/sidecert/sidecert/internal/acmetest"
	"github.com/sidecert/sidecert/internal/cert"
)

// readdressed is a site whose account was registered with another EMAIL than it has now, and what it logs.
func readdressed(t *testing.T, config acmetest.Config) (*site, *bytes.Buffer) {
	t.Helper()
	s := newSite(t, config)
	s.obtain(t, "first.test")
	account := s.accounts.accounts[s.ca().ID()]
	account.Contact = "old@sidecert.test"
	s.accounts.SaveAccount(s.ca(), account)
	var log bytes.Buffer
	s.log = slog.New(slog.NewTextHandler(&log, nil))
	s.restart()
	return s, &log
}

func TestChangedEmailIsToldOnceAndStored(t *testing.T) {
	s, log := readdressed(t, acmetest.Config{})
	s.obtain(t, "second.test")
	s.restart()
	s.obtain(t, "third.test")
	if n := s.Requests()["account"]; n != 1 {
		t.Errorf("the account was updated %d times, want once", n)
	}
	if got := s.accounts.accounts[s.ca().ID()].Contact; got != "admin@sidecert.test" {
		t.Errorf("stored contact %q, want the new one", got)
	}
	if n := strings.Count(log.String(), "account updated"); n != 1 {
		t.Errorf("%d lines say that the account was updated, want one:\n%s", n, log)
	}
	_, contact, err := s.issuer.AccountStatus(t.Context(), s.ca())
	if err != nil || !slices.Equal(contact, []string{"mailto:admin@sidecert.test"}) {
		t.Errorf("contact at the CA %q (%v), want the new one", contact, err)
	}
}

func TestEmptyEmailChangesNothing(t *testing.T) {
	s, _ := readdressed(t, acmetest.Config{})
	req, _ := s.request("second.test")
	req.Spec.CA.Email = ""
	must(t, s.issuer, req)
	if n := s.Requests()["account"]; n != 0 {
		t.Errorf("the account was updated %d times, want none", n)
	}
	if got := s.accounts.accounts[s.ca().ID()].Contact; got != "old@sidecert.test" {
		t.Errorf("stored contact %q, want the old one", got)
	}
}

func TestRefusedEmailHoldsNothingUpAndIsNotTriedAgain(t *testing.T) {
	s, log := readdressed(t, acmetest.Config{Wrap: answer("account", func(w http.ResponseWriter, r *http.Request) {
		problem(w, http.StatusBadRequest, "invalidContact", "no such domain")
	})})
	s.obtain(t, "second.test")
	s.issuer.openClient(t.Context(), s.ca()).doubted.Store(true) // the next one opens the account again
	s.obtain(t, "third.test")
	if n := s.Requests()["account"]; n != 1 {
		t.Errorf("the CA was asked %d times, want once", n)
	}
	if got := log.String(); strings.Count(got, "level=WARN") != 1 || !strings.Contains(got, "no such domain") {
		t.Errorf("log\n%s\nwant one WARN with the CA's words", got)
	}
	if got := s.accounts.accounts[s.ca().ID()].Contact; got != "old@sidecert.test" {
		t.Errorf("stored contact %q, want the one that the CA has", got)
	}
}

func TestAccountCommandsRegisterNothing(t *testing.T) {
	s := newSite(t, acmetest.Config{})
	_, _, status := s.issuer.AccountStatus(t.Context(), s.ca())
	for deed, err := range map[string]error{
		"status": status, "update": s.issuer.UpdateAccount(t.Context(), s.ca(), "new@sidecert.test"), "deactivate": s.issuer.DeactivateAccount(t.Context(), s.ca()),
	} {
		if e := failed(t, err); !errors.Is(err, fs.ErrNotExist) || e.Hint == "" {
			t.Errorf("%s without an account: %v with hint %q, want fs.ErrNotExist and a hint", deed, err, e.Hint)
		}
	}
	if s.Total() != 0 || len(s.accounts.saves) != 0 {
		t.Errorf("%d requests and %d saves, want none", s.Total(), len(s.accounts.saves))
	}
}

func TestAccountIsUpdatedByCommand(t *testing.T) {
	s := newSite(t, acmetest.Config{})
	s.obtain(t, "example.test")
	for email, want := range map[string][]string{"new@sidecert.test": {"mailto:new@sidecert.test"}, "": nil} {
		if err := s.issuer.UpdateAccount(t.Context(), s.ca(), email); err != nil {
			t.Fatal(err)
		}
		status, contact, err := s.issuer.AccountStatus(t.Context(), s.ca())
		if err != nil || status != "valid" || !slices.Equal(contact, want) {
			t.Errorf("after the update to %q: %q %q (%v), want valid with %q", email, status, contact, err, want)
		}
		if got := s.accounts.accounts[s.ca().ID()].Contact; got != email {
			t.Errorf("stored contact %q, want %q", got, email)
		}
	}
}

func TestDeactivatedAccountOrdersNothingMore(t *testing.T) {
	s := newSite(t, acmetest.Config{})
	s.obtain(t, "example.test")
	if err := s.issuer.DeactivateAccount(t.Context(), s.ca()); err != nil {
		t.Fatal(err)
	}
	if s.issuer.openClient(t.Context(), s.ca()) != nil {
		t.Error("the issuer still has a client of the account")
	}
	req, _ := s.request("example.test")
	if _, err := s.issuer.Obtain(context.Background(), req); failed(t, err).Kind != cert.KindPerson {
		t.Errorf("an order after that: %v, want a failure for a person", err)
	}
}

func TestHostileAccountIsBoundedAndClean(t *testing.T) {
	s := newSite(t, acmetest.Config{Wrap: answer("account", func(w http.ResponseWriter, r *http.Request) {
		w.Write([]byte(`{"status":"val\u001b[31mid","contact":[` + strings.Repeat(`"mailto:a\n@b",`, 100) + `"x"]}`))
	})})
	s.obtain(t, "example.test")
	status, contact, err := s.issuer.AccountStatus(t.Context(), s.ca())
	if err != nil || status != "val [31mid" || len(contact) != maxContacts || contact[0] != "mailto:a @b" {
		t.Errorf("status %q, %d contacts beginning with %q (%v)", status, len(contact), contact, err)
	}
}

func TestRootsAreForPrivateCAsAlone(t *testing.T) {
	s := newSite(t, acmetest.Config{})
	for directory, want := range map[string]bool{s.Directory: true, cert.LetsEncrypt: false, cert.ZeroSSL: false} {
		pool, err := rootsOf(cert.CA{Directory: directory, Roots: s.HTTPRoots})
		if err != nil || (pool != nil) != want {
			t.Errorf("roots of its own for %s: %t (%v), want %t", directory, pool != nil, err, want)
		}
	}
}
