package acme

import (
	"context"
	"errors"
	"io/fs"
	"net/http"
	"strings"
	"testing"
	"time"

	"github.com/sidecert/sidecert/internal/acmetest"
	"github.com/sidecert/sidecert/internal/cert"
)

func (s *site) revocation(bundle cert.Bundle) cert.Revocation {
	return cert.Revocation{CA: s.ca(), Certificate: bundle.Chain[0], Reason: cert.Superseded}
}

func TestRevocationByTheAccountAndByTheKey(t *testing.T) {
	s := newSite(t, acmetest.Config{})
	for name, own := range map[string]bool{"by-account.test": false, "by-key.test": true} {
		bundle := s.obtain(t, name)
		revocation := s.revocation(bundle)
		if own {
			revocation.Key, revocation.Reason = bundle.Key, cert.KeyCompromise
		}
		for n := range 2 {
			if err := s.issuer.Revoke(t.Context(), revocation); err != nil {
				t.Errorf("%s, time %d: %v, want success also where it is revoked already", name, n+1, err)
			}
		}
		if n, want := s.Revoked(bundle.Chain[0]), cert.Reasons[revocation.Reason]; n != want {
			t.Errorf("%s: revoked for reason %d, want %d", name, n, want)
		}
	}
}

func TestRevocationWithoutTheAccountRegistersNone(t *testing.T) {
	s := newSite(t, acmetest.Config{})
	bundle := s.obtain(t, "example.test")
	s.accounts.accounts = nil
	before := s.Requests()["newAccount"]
	err := s.issuer.Revoke(t.Context(), s.revocation(bundle))
	if e := failed(t, err); !errors.Is(err, fs.ErrNotExist) || !strings.Contains(e.Hint, "keyCompromise") {
		t.Errorf("%v with hint %q, want fs.ErrNotExist and the way out", err, e.Hint)
	}
	revocation := s.revocation(bundle)
	revocation.Key = bundle.Key
	if err := s.issuer.Revoke(t.Context(), revocation); err != nil {
		t.Errorf("with the certificate's key: %v, want no account to be needed", err)
	}
	if n := s.Requests()["newAccount"] - before; n != 0 {
		t.Errorf("%d accounts were registered, want none", n)
	}
}

func TestRevocationOfAnotherAccountsCertificateIsExplained(t *testing.T) {
	s := newSite(t, acmetest.Config{})
	bundle := s.obtain(t, "example.test")
	s.accounts.accounts = nil
	s.restart()
	s.obtain(t, "other.test")
	err := s.issuer.Revoke(t.Context(), s.revocation(bundle))
	e := failed(t, err)
	if e.Op != "revoke" || e.Name != "example.test" || e.Kind != cert.KindPerson || !strings.Contains(e.Hint, "not the one it was issued to") {
		t.Errorf("op %q name %q kind %q hint %q (%v)", e.Op, e.Name, e.Kind, e.Hint, err)
	}
}

func TestRevocationIsCheckedBeforeTheCAHearsOfIt(t *testing.T) {
	s := newSite(t, acmetest.Config{})
	bundle, other := s.obtain(t, "example.test"), s.obtain(t, "other.test")
	before := s.Total()
	strange := s.revocation(bundle)
	strange.Reason = "bad\nmood"
	foreign := s.revocation(bundle)
	foreign.Key = other.Key
	for want, revocation := range map[string]cert.Revocation{`unknown reason "bad mood"`: strange, "another certificate's": foreign} {
		if err := s.issuer.Revoke(t.Context(), revocation); failed(t, err) == nil || !strings.Contains(err.Error(), want) {
			t.Errorf("error %v, want %q in it", err, want)
		}
	}
	if n := s.Total() - before; n != 0 {
		t.Errorf("%d requests, want none", n)
	}
}

func TestRevocationEndsInTime(t *testing.T) {
	s := newSite(t, acmetest.Config{Wrap: answer("revokeCert", func(w http.ResponseWriter, r *http.Request) { <-r.Context().Done() })})
	revocation := s.revocation(s.obtain(t, "example.test"))
	s.issuer.pace = func(d time.Duration) time.Duration { return d / 600 }
	if err := s.issuer.Revoke(t.Context(), revocation); failed(t, err) == nil || !errors.Is(err, context.DeadlineExceeded) {
		t.Errorf("a CA that does not answer: %v, want the end of our patience", err)
	}
	ctx, cancel := context.WithCancel(t.Context())
	cancel()
	if err := s.issuer.Revoke(ctx, revocation); failed(t, err).Kind != cert.KindInterrupted {
		t.Errorf("a cancelled revocation: %v, want it interrupted", err)
	}
}
