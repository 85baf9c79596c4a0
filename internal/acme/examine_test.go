package acme

import (
	"context"
	"fmt"
	"io"
	"net"
	"net/http"
	"net/http/httptest"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"sync/atomic"
	"syscall"
	"testing"
	"time"

	"github.com/sidecert/sidecert/internal/acmetest"
	"github.com/sidecert/sidecert/internal/cert"
)

// street is where public addresses lead from here: to a listener, or to the error of a dial.
type street map[string]any

var (
	closed  = &net.OpError{Op: "dial", Net: "tcp", Err: os.NewSyscallError("connect", syscall.ECONNREFUSED)}
	silent  = &net.OpError{Op: "dial", Net: "tcp", Err: os.ErrDeadlineExceeded}
	without = &net.OpError{Op: "dial", Net: "tcp", Err: os.NewSyscallError("connect", syscall.ENETUNREACH)}
)

func (s street) dial(ctx context.Context, network, address string) (net.Conn, error) {
	if err := checkAddress(address); err != nil {
		return nil, &net.OpError{Op: "dial", Net: network, Err: err}
	}
	switch there := s[address].(type) {
	case string:
		return new(net.Dialer).DialContext(ctx, network, there)
	case error:
		return nil, there
	}
	return nil, closed
}

// house is a site with web containers inside and addresses outside.
func house(t *testing.T, outside street, upstreams ...http.Handler) *site {
	t.Helper()
	s := newSite(t, acmetest.Config{})
	s.issuer.dial = outside.dial
	s.issuer.config.Managed = func(name string) bool { return name == "www.example.test" }
	var inside []string
	for _, h := range upstreams {
		inside = append(inside, listen(t, h))
	}
	if upstreams != nil {
		s.issuer.config.Upstreams = func(context.Context, cert.Spec) []string { return inside }
	}
	return s
}

func listen(t *testing.T, h http.Handler) string {
	t.Helper()
	server := httptest.NewServer(h)
	t.Cleanup(server.Close)
	return server.Listener.Addr().String()
}

// files serves the site's webroot, whatever house it is.
func (s *site) files() http.Handler { return http.FileServer(http.Dir(s.webroot)) }

// about are the findings of a topic.
func about(findings []cert.Finding, topic string) []cert.Finding {
	return slices.DeleteFunc(slices.Clone(findings), func(f cert.Finding) bool { return f.Topic != topic })
}

// want compares findings with what each says, in order: "LEVEL text | hint", of which parts have to be in them.
func want(t *testing.T, got []cert.Finding, wanted ...string) {
	t.Helper()
	ok := len(got) == len(wanted)
	for n := 0; ok && n < len(got); n++ {
		level, rest, _ := strings.Cut(wanted[n], " ")
		text, hint, _ := strings.Cut(rest, " | ")
		ok = got[n].Level.String() == level && strings.Contains(got[n].Text, text) && strings.Contains(got[n].Hint, hint) && (hint == "") == (got[n].Hint == "")
	}
	if ok {
		return
	}
	var said []string
	for _, f := range got {
		said = append(said, fmt.Sprintf("%s %s | %s", f.Level, f.Text, f.Hint))
	}
	t.Errorf("found\n  %s\nwant\n  %s", strings.Join(said, "\n  "), strings.Join(wanted, "\n  "))
}

func status(code int, body string) http.Handler {
	return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		w.Header().Set("Server", "nginx/1.29")
		w.WriteHeader(code)
		io.WriteString(w, body)
	})
}

func redirect(url string) http.Handler {
	return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		http.Redirect(w, r, strings.ReplaceAll(url, "PATH", r.URL.Path), http.StatusFound)
	})
}

func around(files http.Handler, before, after string) http.Handler {
	return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		rec := httptest.NewRecorder()
		files.ServeHTTP(rec, r)
		io.WriteString(w, before+rec.Body.String()+after)
	})
}

// Each answer of a web container has a sentence of its own.
func TestEveryAnswerHasItsSentence(t *testing.T) {
	rows := []struct {
		name string
		// answer gets the handler that serves the webroot.
		answer func(files http.Handler) http.Handler
		want   string
	}{
		{"well", func(f http.Handler) http.Handler { return f }, "ok http://example.test/.well-known/acme-challenge/… at 127.0.0.1:"},
		{"wrong root", func(http.Handler) http.Handler { return status(404, "<h1>Not Found") }, `error answered 404 (Server: nginx/1.29), beginning "<h1>Not Found" | mount the webroot volume`},
		{"another server block", func(http.Handler) http.Handler { return status(200, "Welcome to nginx!") }, `error answered 200 (Server: nginx/1.29), beginning "Welcome to nginx!" | another server block`},
		{"password", func(http.Handler) http.Handler { return status(401, "") }, "error answered 401 | password protection"},
		{"forbidden", func(http.Handler) http.Handler { return status(403, "") }, "error answered 403 | let the web server read"},
		{"application", func(http.Handler) http.Handler { return status(502, "Bad Gateway") }, "error answered 502 | passes the path on to something that fails"},
		{"elsewhere", func(http.Handler) http.Handler { return redirect("http://login.elsewhere.test/?for=PATH") }, "error redirects to http://login.elsewhere.test/?for=/.well-known/acme-challenge/…, which is not followed | before any redirect"},
		{"circle", func(http.Handler) http.Handler { return redirect("PATH") }, "error redirects more than 10 times | before any redirect"},
		{"ftp", func(http.Handler) http.Handler { return redirect("ftp://example.test/") }, "error which the CA does not follow | before any redirect"},
		{"metadata", func(http.Handler) http.Handler { return redirect("http://169.254.169.254/latest") }, "error is not followed from here | before any redirect"},
		{"byte order mark", func(f http.Handler) http.Handler { return around(f, "\ufeff", "\n") }, "error is served, but with a byte order mark before it | to the byte"},
		{"markup", func(f http.Handler) http.Handler { return around(f, "<html><pre>", "</pre></html>") }, "error is served, but with markup around it | to the byte"},
		{"footer", func(f http.Handler) http.Handler { return around(f, "", "\n-- \nsent\x1b by proxy") }, `error is served, but with "" before and "-- sent by proxy" after it | to the byte`},
		{"no HTTP", func(http.Handler) http.Handler {
			return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
				conn, _, _ := w.(http.Hijacker).Hijack()
				conn.Write([]byte("\x15\x03\x01\x00\x02\x02\x0a"))
				conn.Close()
			})
		}, "error did not answer (net/http: HTTP/1.x transport connection broken: malformed HTTP | plain HTTP on port 80"},
		{"endless", func(http.Handler) http.Handler {
			return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
				for {
					if _, err := w.Write(make([]byte, 4096)); err != nil {
						return
					}
				}
			})
		}, "error answered 200 | another server block"},
	}
	for _, row := range rows {
		t.Run(row.name, func(t *testing.T) {
			t.Parallel()
			s := house(t, street{})
			s.SetDNS("example.test", "")
			upstream := listen(t, row.answer(s.files()))
			s.issuer.config.Upstreams = func(context.Context, cert.Spec) []string { return []string{upstream} }
			findings := s.issuer.Look().Examine(t.Context(), s.spec("example.test"), "example.test")
			want(t, about(findings, pathTopic), row.want)
			for _, f := range findings {
				if strings.ContainsAny(f.Text+f.Hint, "\x1b\r\n\x00") || len(f.Text) > 1500 || f.About != "example.test" {
					t.Errorf("unclean or endless: %+v", f)
				}
			}
			if got := s.leftovers(t); len(got) != 0 {
				t.Errorf("the webroot still has %v", got)
			}
		})
	}
}

// What a silence or an answer at one address means depends on what is seen in the other ways.
func TestEveryWayIsJudgedByTheOthers(t *testing.T) {
	const four, six = "203.0.113.7:80", "[2001:db8::7]:80"
	rows := []struct {
		name      string
		addresses []string
		inside    bool
		outside   func(files string, other string) street
		want      []string
	}{
		{"well in all ways", []string{"203.0.113.7", "2001:db8::7"}, true, func(files, _ string) street { return street{four: files, six: files} },
			[]string{"ok at 127.0.0.1:", "ok at 203.0.113.7 (IPv4) is served", "ok at 2001:db8::7 (IPv6) is served"}},
		{"no hairpin", []string{"203.0.113.7"}, true, func(string, string) street { return street{four: silent} },
			[]string{"ok at 127.0.0.1:", "unknown 203.0.113.7 (IPv4) did not answer (timeout) | no NAT hairpin"}},
		{"refused outside alone", []string{"203.0.113.7"}, false, func(string, string) street { return street{four: closed} },
			[]string{"error did not answer (connection refused) | firewall and the port forwarding"}},
		{"silent outside alone", []string{"203.0.113.7"}, false, func(string, string) street { return street{four: silent} },
			[]string{"error did not answer (timeout) | firewall and the port forwarding"}},
		{"dead AAAA, silent", []string{"203.0.113.7", "2001:db8::7"}, false, func(files, _ string) street { return street{four: files, six: silent} },
			[]string{"ok (IPv4) is served", "warning (IPv6) did not answer (timeout) | only at the first request"}},
		{"dead AAAA, refused", []string{"203.0.113.7", "2001:db8::7"}, true, func(files, _ string) street { return street{four: files, six: closed} },
			[]string{"ok at 127.0.0.1:", "ok (IPv4) is served", "error (IPv6) did not answer (connection refused) | take the AAAA record away"}},
		{"AAAA of another server", []string{"203.0.113.7", "2001:db8::7"}, false, func(files, other string) street { return street{four: files, six: other} },
			[]string{"ok (IPv4) is served", `error (IPv6) answered 404, beginning "404 page not found" | mount the webroot volume`}},
		{"no IPv6 here", []string{"203.0.113.7", "2001:db8::7"}, false, func(files, _ string) street { return street{four: files, six: without} },
			[]string{"ok (IPv4) is served", "unknown (IPv6) did not answer (no route from here) | no network for that kind"}},
		{"router in the way", []string{"203.0.113.7"}, true, func(_, other string) street { return street{four: other} },
			[]string{"ok at 127.0.0.1:", "warning (IPv4) answered 404 | a router answers in its place"}},
		{"metadata address", []string{"169.254.169.254"}, false, func(string, string) street { return street{} },
			[]string{"error 169.254.169.254 is not asked | check the A and AAAA records"}},
	}
	for _, row := range rows {
		t.Run(row.name, func(t *testing.T) {
			t.Parallel()
			s := house(t, nil)
			s.SetDNS("example.test", row.addresses...)
			s.issuer.dial = row.outside(listen(t, s.files()), listen(t, http.NotFoundHandler())).dial
			if row.inside {
				upstream := listen(t, s.files())
				s.issuer.config.Upstreams = func(context.Context, cert.Spec) []string { return []string{upstream} }
			}
			want(t, about(s.issuer.Look().Examine(t.Context(), s.spec("example.test"), "example.test"), pathTopic), row.want...)
		})
	}
}

// TestPortThatTheCADoesNotAskIsNamed has a web container that the host has on another port than 80.
func TestPortThatTheCADoesNotAskIsNamed(t *testing.T) {
	const says = "web publishes its port 80 as 8080, and the CA asks port 80 only: publish 80:80"
	for name, row := range map[string]struct {
		there  any
		inside bool
		want   []string
	}{
		"nothing listens":           {closed, true, []string{"ok", "error did not answer (connection refused) | " + says}},
		"nothing is seen to listen": {closed, false, []string{"error did not answer (connection refused) | " + says}},
		"silence":                   {silent, true, []string{"ok", "unknown did not answer (timeout) | " + says}},
		"another server listens":    {listen(t, http.NotFoundHandler()), true, []string{"ok", "warning answered 404 | " + says}},
	} {
		t.Run(name, func(t *testing.T) {
			s := house(t, nil)
			s.SetDNS("example.test", "203.0.113.7")
			s.issuer.dial = street{"203.0.113.7:80": row.there}.dial
			s.issuer.config.Upstreams = func(context.Context, cert.Spec) []string { return nil }
			if row.inside {
				upstream := listen(t, s.files())
				s.issuer.config.Upstreams = func(context.Context, cert.Spec) []string { return []string{upstream} }
			} else {
				row.want = append([]string{"unknown no web container is known | docker compose ps"}, row.want...)
			}
			s.issuer.config.Misplaced = func(context.Context, cert.Spec) string { return "web publishes its port 80 as 8080" }
			want(t, about(s.issuer.Look().Examine(t.Context(), s.spec("example.test"), "example.test"), pathTopic), row.want...)
		})
	}
	s := house(t, nil)
	s.SetDNS("example.test", "203.0.113.7")
	s.issuer.dial = street{"203.0.113.7:80": listen(t, s.files())}.dial // a load balancer passes it on
	upstream := listen(t, s.files())
	s.issuer.config.Upstreams = func(context.Context, cert.Spec) []string { return []string{upstream} }
	s.issuer.config.Misplaced = func(context.Context, cert.Spec) string { return "web publishes its port 80 as 8080" }
	want(t, about(s.issuer.Look().Examine(t.Context(), s.spec("example.test"), "example.test"), pathTopic), "ok", "ok")
}

func TestWebContainerThatServesNoHTTPIsNoFault(t *testing.T) {
	s := house(t, nil)
	s.SetDNS("example.test", "203.0.113.7")
	s.issuer.dial = street{"203.0.113.7:80": listen(t, s.files())}.dial
	off := httptest.NewServer(s.files())
	off.Close()
	wrong := listen(t, http.NotFoundHandler())
	s.issuer.config.Upstreams = func(context.Context, cert.Spec) []string { return []string{off.Listener.Addr().String(), wrong} }
	want(t, about(s.issuer.Look().Examine(t.Context(), s.spec("example.test"), "example.test"), pathTopic),
		"unknown did not answer (connection refused) | does not serve plain HTTP", "warning answered 404 | another way works all the same", "ok (IPv4) is served")
	s.issuer.config.Upstreams = func(context.Context, cert.Spec) []string { return nil }
	want(t, about(s.issuer.Look().Examine(t.Context(), s.spec("example.test"), "example.test"), pathTopic),
		"unknown no web container is known | docker compose ps", "ok (IPv4) is served")
}

func TestRedirectToHTTPSIsFineOrSaid(t *testing.T) {
	s := house(t, nil)
	s.SetDNS("example.test", "203.0.113.7")
	secure := httptest.NewTLSServer(s.files())
	t.Cleanup(secure.Close)
	plain := listen(t, redirect("https://example.testPATH"))
	for there, expected := range map[any]string{
		secure.Listener.Addr().String(): "ok is served after a redirect to https://example.test/.well-known/acme-challenge/…",
		error(closed):                   "error redirects to https://example.test/.well-known/acme-challenge/…, which fails (connection refused) | before any redirect",
		plain:                           "error redirects to https://example.test/.well-known/acme-challenge/…, which fails ( | before any redirect",
	} {
		s.issuer.dial = street{"203.0.113.7:80": plain, "203.0.113.7:443": there}.dial
		want(t, about(s.issuer.Look().Examine(t.Context(), s.spec("example.test"), "example.test"), pathTopic), expected)
	}
}

func TestAtMostFourAddressesOfAKindAreAsked(t *testing.T) {
	s := house(t, street{})
	var many []string
	for n := range 40 {
		many = append(many, fmt.Sprintf("203.0.113.%d", n+1), fmt.Sprintf("2001:db8::%d", n+1))
	}
	s.SetDNS("example.test", many...) // which does not fit in a datagram either
	if n := len(about(s.issuer.Look().Examine(t.Context(), s.spec("example.test"), "example.test"), pathTopic)); n != 2*maxAddresses {
		t.Errorf("%d addresses were asked, want %d", n, 2*maxAddresses)
	}
}

func TestWebrootThatCannotBeWrittenIsAFinding(t *testing.T) {
	s := house(t, street{})
	spec := s.spec("example.test")
	spec.Webroot = filepath.Join(s.webroot, "not", "mounted")
	want(t, about(s.issuer.Look().Examine(t.Context(), spec, "example.test"), pathTopic), "error no challenge file can be written | mount the webroot volume at "+spec.Webroot)
}

func TestAddressAsNameIsExaminedToo(t *testing.T) {
	s := house(t, nil)
	s.issuer.dial = street{"[2001:db8::7]:80": listen(t, s.files())}.dial
	findings := s.issuer.Look().Examine(t.Context(), s.spec("2001:db8::7"), "2001:db8::7")
	want(t, findings, "ok at 2001:db8::7 (IPv6) is served", "ok addresses have no CAA records")
}

func TestExaminationEndsWithItsContext(t *testing.T) {
	s := house(t, nil)
	s.SetDNS("example.test", "203.0.113.7")
	ctx, cancel := context.WithCancel(t.Context())
	stuck := listen(t, http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) { cancel(); <-r.Context().Done() }))
	s.issuer.dial = street{"203.0.113.7:80": stuck}.dial
	begun := time.Now()
	findings := s.issuer.Look().Examine(ctx, s.spec("example.test"), "example.test")
	if got := about(findings, pathTopic); len(got) != 0 {
		t.Errorf("found %v, want nothing said of a way that was cut short", got)
	}
	if took := time.Since(begun); took > 2*time.Second {
		t.Errorf("ended after %s, want at once", took)
	}
}

func TestWebContainersAreFoundOnceForAllNamesOfASpec(t *testing.T) {
	s := house(t, street{})
	upstream := listen(t, s.files())
	var asked atomic.Int32
	s.issuer.config.Upstreams = func(context.Context, cert.Spec) []string { asked.Add(1); return []string{upstream} }
	names := []string{"a.test", "b.test", "c.test"}
	look := s.issuer.Look()
	each(len(names), func(n int) {
		s.SetDNS(names[n], "")
		want(t, about(look.Examine(t.Context(), s.spec(names...), names[n]), pathTopic), "ok at "+upstream)
	})
	look.Examine(t.Context(), s.spec("d.test"), "d.test")
	if got := asked.Load(); got != 2 {
		t.Errorf("the engine was asked %d times for two specs", got)
	}
}

func TestWhatCannotBeLookedAtInTimeIsSaid(t *testing.T) {
	s := house(t, nil)
	s.SetDNS("example.test", "203.0.113.7", "203.0.113.8")
	stuck := listen(t, http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) { <-r.Context().Done() }))
	s.issuer.dial = street{"203.0.113.7:80": stuck, "203.0.113.8:80": closed}.dial
	s.issuer.config.Upstreams = func(ctx context.Context, _ cert.Spec) []string { <-ctx.Done(); return nil }
	look := s.issuer.Look()
	look.limit, look.waysLimit = time.Second, 100*time.Millisecond
	want(t, about(look.Examine(t.Context(), s.spec("example.test"), "example.test"), pathTopic),
		"unknown the web containers of example.test could not be looked at in time | look again",
		"unknown at 203.0.113.7 (IPv4) could not be looked at in time | look again",
		"error at 203.0.113.8 (IPv4) did not answer (connection refused) | firewall")

	silent, err := net.ListenPacket("udp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	defer silent.Close()
	s.issuer.resolver.servers = []string{silent.LocalAddr().String()}
	look = s.issuer.Look()
	look.limit, look.waysLimit = 200*time.Millisecond, 100*time.Millisecond
	findings := look.Examine(t.Context(), s.spec("example.test"), "example.test")
	want(t, about(findings, dnsTopic), "unknown the DNS records of example.test could not be looked at in time | look again")
	want(t, about(findings, "CAA"), "unknown the CAA records of example.test could not be looked at in time | look again")
}
