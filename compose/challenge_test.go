package compose_test

import (
	"context"
	"errors"
	"net"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"slices"
	"strings"
	"testing"
	"time"
)

// challengePaths is examples/challenge-path with its two servers at addresses of this machine, so it is not parallel.
func challengePaths(t *testing.T, more ...string) *project {
	t.Helper()
	files := append([]string{filepath.Join(example(t, "challenge-path"), "compose.yaml"), "testdata/ca.yaml", "testdata/sidecert.yaml", "testdata/challenge-path.yaml"}, more...)
	p := newProject(t, "", files...)
	t.Cleanup(func() { // before the rest: a server that goes soon after a reload is taken for one that the signal has ended, and started again
		run(context.WithoutCancel(t.Context()), p.environ, p.command("stop", "--timeout", "5", "sidecert")...)
	})
	p.environ = append(p.environ, "NGINX_ADDRESS=127.0.0.1", "HTTPD_ADDRESS=127.0.0.2", "ACME_CA=https://pebble:14000/dir")
	return p
}

// kinds are the sites of examples/challenge-path, with what each answers to a stranger on ports 80 and 443.
var kinds = []struct {
	name, server  string
	http, https   int
	leads, serves string
}{
	{"secure.example.org", "nginx", 301, 200, "https://secure.example.org/a", "<"},
	{"example.org", "nginx", 301, 301, "https://www.example.org/a", ""},
	{"www.example.org", "nginx", 301, 200, "https://www.example.org/a", "<"},
	{"app.example.org", "nginx", 200, 200, "", "<"},
	{"intern.example.org", "nginx", 301, 401, "", ""},
	{"shop.example.net", "httpd", 301, 200, "https://shop.example.net/a", "<"},
	{"erp.example.net", "httpd", 200, 200, "", "<"},
	{"wiki.example.net", "httpd", 401, 401, "", ""},
}

func TestChallengePathOfEveryKindOfSiteWorks(t *testing.T) {
	p := challengePaths(t)
	p.compose("up", "--detach")
	for _, k := range kinds {
		p.eventually(60*time.Second, func() error {
			chain, err := p.servedBy(k.server, k.name)
			if err != nil {
				return err
			}
			return p.trustedFor(k.name, chain)
		})
	}
	checkHardening(t, p)
	for _, k := range kinds {
		p.domain = k.name
		for scheme, want := range map[string]int{"http": k.http, "https": k.https} {
			path := "/a"
			if want == 200 {
				path = "/"
			}
			if status, body, location := p.getFrom(k.server, scheme, path); status != want || scheme == "http" && k.leads != "" && location != k.leads || want == 200 && !strings.Contains(body, k.serves) {
				t.Errorf("%s://%s%s answers %d, Location %q, %.40q, want %d, %q", scheme, k.name, path, status, location, body, want, k.leads)
			}
		}
	}
	out, _ := run(t.Context(), p.environ, p.command("exec", "-T", "sidecert", "sidecert", "doctor")...)
	for _, k := range kinds {
		if !regexp.MustCompile(`ok +http://` + regexp.QuoteMeta(k.name) + `/\.well-known/acme-challenge/… at \S+ is served`).MatchString(out) {
			t.Errorf("the doctor does not find the path of %s served:\n%s", k.name, out)
		}
	}
	if log := p.logs("sidecert"); strings.Contains(log, "level=WARN") {
		t.Errorf("sidecert's log has a warning:\n%s", log)
	}
}

// mistakes are those of testdata/challenge-path, with what is seen, and the words of the server's own configuration that mend it.
var mistakes = []struct{ name, seen, hint string }{
	{"secure.example.org", `answered 404 after a redirect to https://secure\.example\.org/\.well-known/acme-challenge/… \(Server: nginx/[0-9.]+\), beginning "<html>`,
		"serve this path before any redirect; in nginx: `location ^~ /.well-known/acme-challenge/ { root /var/www/certbot; }` in the server block for port 80, and the redirect into `location / {"},
	{"app.example.org", `answered 200 \(Server: nginx/[0-9.]+\), beginning "`,
		"another server block or an application answers for this name; serve /.well-known/acme-challenge/ from the webroot volume; in nginx: `location ^~ /.well-known/acme-challenge/ { root /var/www/certbot; }` in the server block with `listen 80` and `server_name app.example.org`"},
	{"intern.example.org", `answered 401 \(Server: nginx/[0-9.]+\)`,
		"take /.well-known/acme-challenge/ out of the password protection; in nginx: `location ^~ /.well-known/acme-challenge/ { root /var/www/certbot; auth_basic off; }`"},
	{"example.org", `redirects to https://www\.example\.com/\.well-known/acme-challenge/…, which is not followed from here \(Server: nginx/[0-9.]+\)`,
		"serve this path before any redirect; in nginx: `location ^~ "},
	{"www.example.org", `did not answer \(it closed the connection without an answer\)`,
		"nginx does so by `return 444`, where no server block has www.example.org in its server_name"},
	{"shop.example.net", `answered 404 after a redirect to https://shop\.example\.net/\.well-known/acme-challenge/… \(Server: Apache[^,]*\), beginning "`,
		"serve this path before any redirect; in httpd: `RedirectMatch permanent \"^/(?!\\.well-known/acme-challenge/)(.*)\" …` in place of Redirect"},
	{"erp.example.net", `answered 200 \(Server: Apache[^,]*\), beginning "`,
		"and before any other ProxyPass `ProxyPass \"/.well-known/acme-challenge/\" \"!\"`"},
	{"wiki.example.net", `answered 401 \(Server: Apache[^,]*\)`,
		"in httpd: after what asks for the password `<Location \"/.well-known/acme-challenge/\">`, `Require all granted`, `</Location>`"},
}

// What the doctor says of a mistake tells a stranger what came back and how the server's configuration is put right; so does the failure
// in the log.
func TestEveryMistakeOfTheChallengePathIsExplained(t *testing.T) {
	p := challengePaths(t, "testdata/challenge-path/broken.yaml")
	p.compose("up", "--detach")
	p.eventually(30*time.Second, func() error {
		_, err := p.servedBy("httpd", "shop.example.net")
		if err == nil {
			_, err = p.servedBy("nginx", "secure.example.org")
		}
		return err
	})
	p.sidecertFails("renew", "secure.example.org", "app.example.org", "intern.example.org", "example.org", "shop.example.net", "erp.example.net", "wiki.example.net")
	log := strings.NewReplacer(`\\`, `\`, `\"`, `"`).Replace(p.logs("sidecert"))
	out, err := run(t.Context(), p.environ, p.command("exec", "-T", "sidecert", "sidecert", "doctor", "--problems")...)
	if exit, ok := errors.AsType[*exec.ExitError](err); !ok || exit.ExitCode() != 1 {
		t.Errorf("doctor: %v, want exit status 1", err)
	}
	for _, m := range mistakes {
		said := regexp.MustCompile(` +error +http://` + regexp.QuoteMeta(m.name) + `/\.well-known/acme-challenge/… at [0-9.]+:80 ` + m.seen + `[^\n]*\n +hint: [^\n]*` + regexp.QuoteMeta(m.hint))
		if !said.MatchString(out) {
			t.Errorf("of %s the doctor does not say %s\nand %s:\n%s", m.name, m.seen, m.hint, out)
		}
		if m.name == "example.org" || m.name == "www.example.org" { // one certificate: the text of the one that failed first may leave no room
			continue
		}
		said = regexp.MustCompile(`msg="certificate not obtained" .* hint=".*seen from here: .*http://` + regexp.QuoteMeta(m.name) + `/\.well-known/acme-challenge/… at [0-9.]+:80 ` + m.seen)
		if !slices.ContainsFunc(strings.Split(log, "\n"), func(line string) bool { return said.MatchString(line) && strings.Contains(line, m.hint) }) {
			t.Errorf("of %s the log does not say %s\nand %s:\n%s", m.name, m.seen, m.hint, log)
		}
	}
}

// ipv6 is the address of a service in the project's network.
func (p *project) ipv6(service string) string {
	p.t.Helper()
	for _, n := range p.mustInspect(service).NetworkSettings.Networks {
		if n.GlobalIPv6Address != "" {
			return n.GlobalIPv6Address
		}
	}
	p.t.Fatalf("%s has no IPv6 address", service)
	return ""
}

func TestSiteOfIPv6AloneIsServed(t *testing.T) {
	t.Parallel()
	if _, err := os.Stat("/proc/net/if_inet6"); err != nil {
		t.Skipf("the kernel has no IPv6: %v", err)
	}
	p := newProject(t, domain, "nginx.yaml", "testdata/pebble.yaml", "testdata/ipv6.yaml")
	p.compose("up", "--detach")
	p.said("certificate served") // seen by a handshake
	web, sidecert := p.ipv6("web"), p.ipv6("sidecert")
	chain, err := servedAt(t.Context(), net.JoinHostPort(web, "443"), domain)
	if err != nil {
		t.Fatal(err)
	}
	if err := p.trusted(chain); err != nil {
		t.Error(err)
	}
	if log := p.logs("web"); !strings.Contains(log, sidecert+` - - `) || !strings.Contains(log, p.ipv6("pebble")+` - - `) || strings.Contains(log, `172.`) {
		t.Errorf("nginx was asked by others than sidecert at %s and the CA, by IPv6:\n%s", sidecert, log)
	}
	out, _ := run(t.Context(), p.environ, p.command("exec", "-T", "sidecert", "sidecert", "doctor")...)
	for _, want := range []string{`ok +http://` + domain + `/\S+ at \[` + web + `\]:80 is served`, `ok +http://` + domain + `/\S+ at ` + web + ` \(IPv6\) is served`} {
		if !regexp.MustCompile(want).MatchString(out) {
			t.Errorf("the doctor does not say %s:\n%s", want, out)
		}
	}
	p.sidecert("renew", "--force")
	after, err := servedAt(t.Context(), net.JoinHostPort(web, "443"), domain)
	if err != nil || after[0].Equal(chain[0]) {
		t.Errorf("after a renewal: %v, want another certificate served", err)
	}
}

const umaskDockerfile = `FROM sidecert AS sidecert
FROM nginx:1
COPY --from=sidecert /usr/local/bin/sidecert /usr/local/bin/sidecert
ENTRYPOINT ["sh", "-c", "umask 077; exec sidecert run"]
`

const umaskYAML = `
services:
  sidecert:
    image: sidecert-test-umask
    healthcheck: {test: [CMD, sidecert, healthcheck], interval: 2s}
`

// Some harden their images so. nginx's workers are another user, and read the challenge.
func TestUmaskOfTheContainerHidesNothing(t *testing.T) {
	t.Parallel()
	requireDocker(t)
	if err := images(); err != nil {
		t.Fatalf("build images: %v", err)
	}
	dir := t.TempDir()
	override := filepath.Join(dir, "umask.yaml")
	for file, text := range map[string]string{filepath.Join(dir, "Dockerfile"): umaskDockerfile, override: umaskYAML} {
		if err := os.WriteFile(file, []byte(text), 0o644); err != nil {
			t.Fatal(err)
		}
	}
	if _, err := run(t.Context(), nil, "docker", "build", "--quiet", "--tag", "sidecert-test-umask", dir); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { run(context.Background(), nil, "docker", "image", "rm", "sidecert-test-umask") })
	p := newProject(t, domain, "nginx.yaml", "testdata/pebble.yaml", override)
	p.compose("up", "--detach")
	p.awaitCertificate(60 * time.Second)
	c := p.mustInspect("sidecert")
	out, err := p.docker("exec", c.ID, "sh", "-c", "grep Umask /proc/1/status; cd /var/www/certbot; stat -c '%a %n' .well-known .well-known/acme-challenge; cd /etc/letsencrypt; stat -Lc '%a %n' live live/"+domain+" live/"+domain+"/fullchain.pem live/"+domain+"/privkey.pem")
	if err != nil {
		t.Fatal(err)
	}
	want := "Umask:\t0077\n755 .well-known\n755 .well-known/acme-challenge\n755 live\n755 live/DOMAIN\n644 live/DOMAIN/fullchain.pem\n600 live/DOMAIN/privkey.pem\n"
	if out != strings.ReplaceAll(want, "DOMAIN", domain) {
		t.Errorf("the modes are\n%swant\n%s", out, want)
	}
}
