package acme

import (
	"net/http"
	"strings"
	"testing"
)

// compose/challenge_test.go has the real servers; these are names and answers that they do not give there.
func TestRemedySpeaksTheWordsOfTheServer(t *testing.T) {
	rows := []struct {
		server string
		status int
		want   string
	}{
		{"nginx", 404, "in nginx: `location ^~ /.well-known/acme-challenge/ { root /srv/acme; }` in the server block with `listen 80` and `server_name example.test`"},
		{"openresty/1.27.1.1", 403, "in nginx: `location ^~ /.well-known/acme-challenge/ { root /srv/acme; allow all; }`"},
		{"Apache/2.4.65 (Unix)", 403, "in httpd: `<Directory \"/srv/acme\">`, `Require all granted`, `</Directory>`"},
		{"Apache", 503, "in httpd: `Alias \"/.well-known/acme-challenge/\" \"/srv/acme/.well-known/acme-challenge/\"` in the VirtualHost with example.test"},
	}
	for _, row := range rows {
		s := sight{name: "example.test", webroot: "/srv/acme", status: row.status, server: row.server}
		if got := s.remedy(); !strings.Contains(got, row.want) {
			t.Errorf("of %d by %s: %q, want %q in it", row.status, row.server, got, row.want)
		}
	}
	for _, stranger := range []string{"", "Caddy", "my nginx"} {
		if got := (sight{status: http.StatusNotFound, server: stranger}).remedy(); strings.Contains(got, "in nginx:") || strings.Contains(got, "in httpd:") {
			t.Errorf("of %q: %q, want nothing in another server's words", stranger, got)
		}
	}
}

func TestConnectionThatIsClosedWithoutAnAnswerIsTold(t *testing.T) {
	w := newWeb(t, always(func(http.ResponseWriter, *http.Request) { cut() }))
	e := failed(t, w.preflight("example.test"))
	if !strings.Contains(e.Err.Error(), "did not answer (it closed the connection without an answer)") || !strings.Contains(e.Hint, "no server block has example.test in its server_name") {
		t.Errorf("err  %q, want the closed connection told\nhint %q, want nginx's 444 explained", e.Err, e.Hint)
	}
}

func TestRedirectThatIsNotFollowedNamesWhoRedirects(t *testing.T) {
	w := newWeb(t, always(func(rw http.ResponseWriter, r *http.Request) {
		rw.Header().Set("Server", "Apache")
		http.Redirect(rw, r, "https://login.elsewhere.test/", http.StatusFound)
	}))
	e := failed(t, w.preflight("example.test"))
	if !strings.Contains(e.Err.Error(), "which is not followed from here (Server: Apache)") || !strings.Contains(e.Hint, "in httpd: `RedirectMatch permanent") {
		t.Errorf("err  %q\nhint %q, want httpd named and its words", e.Err, e.Hint)
	}
}
