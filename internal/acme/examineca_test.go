package acme

import (
	"net/http"
	"strings"
	"testing"
	"time"

	"github.com/sidecert/sidecert/internal/acmetest"
	"github.com/sidecert/sidecert/internal/cert"
)

func TestGoodCAIsFoundGoodAndNothingRegistered(t *testing.T) {
	s := newSite(t, acmetest.Config{Profiles: map[string]time.Duration{"classic": time.Hour, "shortlived": time.Hour}})
	directory := "ok " + s.Directory + " answers; its terms are at data:text/plain,Do%20what%20thou%20wilt; its profiles are classic, shortlived"
	want(t, s.issuer.ExamineCA(t.Context(), s.ca()), directory, "ok no account yet", "ok the clock agrees")
	if s.Requests()["newAccount"] != 0 || len(s.accounts.saves) != 0 {
		t.Error("an account was made")
	}
	s.obtain(t, "example.test")
	want(t, s.issuer.ExamineCA(t.Context(), s.ca()), directory, "ok is valid (mailto:admin@sidecert.test)", "ok the clock agrees")
}

func TestAccountHasASentenceForEveryCase(t *testing.T) {
	rows := []struct {
		name   string
		config acmetest.Config
		before func(t *testing.T, s *site)
		ca     func(*cert.CA)
		want   string
	}{
		{"EAB missing", acmetest.Config{EAB: map[string][]byte{"kid": []byte("0123456789abcdef0123456789abcdef")}}, nil, nil, "error requires an external account binding and none is set | ACME_EAB_KID"},
		{"EAB there", acmetest.Config{EAB: map[string][]byte{"kid": []byte("0123456789abcdef0123456789abcdef")}}, nil,
			func(ca *cert.CA) { ca.EABKID, ca.EABKey = "kid", "0123456789abcdef0123456789abcdef" }, "ok no account yet"},
		{"terms not agreed to", acmetest.Config{}, nil, func(ca *cert.CA) { ca.AgreeTOS = false }, "error are not agreed to | AGREE_TOS=true"},
		{"lost at the CA", acmetest.Config{}, func(t *testing.T, s *site) {
			if err := s.Forget(); err != nil {
				t.Fatal(err)
			}
		}, nil, "warning does not know the account | registers the same key again"},
		{"deactivated", acmetest.Config{}, func(t *testing.T, s *site) {
			if err := s.issuer.DeactivateAccount(t.Context(), s.ca()); err != nil {
				t.Fatal(err)
			}
		}, nil, "error account | "},
		{"revoked by the CA", acmetest.Config{Wrap: answer("account", func(w http.ResponseWriter, r *http.Request) {
			w.Write([]byte(`{"status":"revoked"}`))
		})}, func(*testing.T, *site) {}, nil, "error is revoked | takes no orders"},
		{"no answer", acmetest.Config{Wrap: answer("account", func(w http.ResponseWriter, r *http.Request) { w.Write([]byte("{")) })}, func(*testing.T, *site) {}, nil,
			"unknown did not say whether the account is good"},
	}
	for _, row := range rows {
		t.Run(row.name, func(t *testing.T) {
			t.Parallel()
			s := newSite(t, row.config)
			if row.before != nil {
				s.obtain(t, "example.test")
				row.before(t, s)
			}
			ca := s.ca()
			if row.ca != nil {
				row.ca(&ca)
			}
			found := s.issuer.ExamineCA(t.Context(), ca)
			if len(found) != 3 {
				t.Fatalf("found %+v, want directory, account and clock", found)
			}
			level, rest, _ := strings.Cut(row.want, " ")
			text, hint, _ := strings.Cut(rest, " | ")
			if f := found[1]; f.Level.String() != level || !strings.Contains(f.Text, text) || !strings.Contains(f.Hint, hint) {
				t.Errorf("found %s %q | %q, want %s", f.Level, f.Text, f.Hint, row.want)
			}
		})
	}
}

func TestDirectoryThatCannotBeReadIsExplained(t *testing.T) {
	s := newSite(t, acmetest.Config{})
	ca := s.ca()
	ca.Roots = ""
	want(t, s.issuer.ExamineCA(t.Context(), ca), "error certificate signed by unknown authority | ACME_CA_BUNDLE", "unknown names no time | date -u")
	s.restart()
	s.CA.Close()
	want(t, s.issuer.ExamineCA(t.Context(), s.ca()), "error connection refused | firewall", "unknown names no time | date -u")
}

func TestPortalInPlaceOfTheDirectory(t *testing.T) {
	s := newSite(t, acmetest.Config{Wrap: answer("directory", func(w http.ResponseWriter, r *http.Request) {
		w.Header().Set("Content-Type", "text/html")
		w.Write([]byte("<html>\x1bLog in"))
	})})
	found := s.issuer.ExamineCA(t.Context(), s.ca())
	if f := found[0]; f.Level != cert.Bad || !strings.Contains(f.Text, `"<html> Log in"`) {
		t.Errorf("found %s %q, want the portal's words, clean", f.Level, f.Text)
	}
}

func TestClockIsComparedWithTheCAs(t *testing.T) {
	s := newSite(t, acmetest.Config{})
	for off, expected := range map[time.Duration]string{
		0:                 "ok agrees",
		50 * time.Second:  "ok agrees",
		-50 * time.Second: "ok agrees",
		5 * time.Minute:   "warning 5m0s ahead of | NTP",
		-5 * time.Minute:  "warning behind | NTP",
		48 * time.Hour:    "error 48h0m0s ahead of | NTP",
		-48 * time.Hour:   "error behind | NTP",
	} {
		date := time.Now().Truncate(time.Second)
		s.issuer.config.Now = func() time.Time { return date.Add(off) }
		want(t, []cert.Finding{s.issuer.examineClock(s.ca(), date)}, expected)
	}
	s.issuer.config.Now = func() time.Time { return time.Now().Add(time.Hour) }
	want(t, about(s.issuer.ExamineCA(t.Context(), s.ca()), clockTopic), "error ahead of | NTP")
}
