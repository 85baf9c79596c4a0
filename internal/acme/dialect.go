package acme

import "strings"

// deed is what a web server's configuration is to do.
type deed int

const (
	serving deed = iota
	redirecting
	asking
	allowing
)

// dialects say deeds in the words of each server's configuration. NAME is the site's name and WEBROOT the folder of the challenge files,
// as sidecert has it mounted. Each works as it stands: examples/challenge-path.
var dialects = []struct {
	// begins is how the server calls itself in its answers.
	begins []string
	words  map[deed]string
}{
	{[]string{"nginx", "openresty", "tengine", "freenginx", "angie"}, map[deed]string{
		serving: "in nginx: `location ^~ /.well-known/acme-challenge/ { root WEBROOT; }` in the server block with `listen 80` and `server_name NAME`, " +
			"or in the default one if none has the name (`nginx -T` shows them)",
		redirecting: "in nginx: `location ^~ /.well-known/acme-challenge/ { root WEBROOT; }` in the server block for port 80, and the redirect into " +
			"`location / { return 301 …; }`: a `return` or `rewrite` outside of a location comes before all of them",
		asking:   "in nginx: `location ^~ /.well-known/acme-challenge/ { root WEBROOT; auth_basic off; }`",
		allowing: "in nginx: `location ^~ /.well-known/acme-challenge/ { root WEBROOT; allow all; }`",
	}},
	{[]string{"Apache"}, map[deed]string{
		serving: "in httpd: `Alias \"/.well-known/acme-challenge/\" \"WEBROOT/.well-known/acme-challenge/\"` in the VirtualHost with NAME (`httpd -S` shows them), " +
			"and before any other ProxyPass `ProxyPass \"/.well-known/acme-challenge/\" \"!\"`",
		redirecting: "in httpd: `RedirectMatch permanent \"^/(?!\\.well-known/acme-challenge/)(.*)\" …` in place of Redirect, or a RewriteCond with the same; " +
			"both come before every Alias",
		asking:   "in httpd: after what asks for the password `<Location \"/.well-known/acme-challenge/\">`, `Require all granted`, `</Location>`",
		allowing: "in httpd: `<Directory \"WEBROOT\">`, `Require all granted`, `</Directory>`",
	}},
}

// in says a deed in the words of who answered; nothing where that is nobody whose words are known.
func (s sight) in(d deed) string {
	for _, dialect := range dialects {
		for _, begins := range dialect.begins {
			if len(s.server) >= len(begins) && strings.EqualFold(s.server[:len(begins)], begins) {
				return "; " + strings.NewReplacer("NAME", s.name, "WEBROOT", s.webroot).Replace(dialect.words[d])
			}
		}
	}
	return ""
}
