package acme

import (
	"context"
	"fmt"
	"net/http"
	"strings"
	"testing"
	"time"

	xacme "golang.org/x/crypto/acme"

	"github.com/sidecert/sidecert/internal/acmetest"
	"github.com/sidecert/sidecert/internal/cert"
)

// patient gives diagnoses the time that they have outside of tests.
func (s *site) patient() {
	s.issuer.pace = func(d time.Duration) time.Duration {
		if d == explainLimit {
			return d
		}
		return d / 50
	}
}

func TestFailedOrderSaysWhatIsSeenFromHere(t *testing.T) {
	s := newSite(t, acmetest.Config{})
	s.patient()
	upstream := listen(t, status(404, "no such page"))
	s.issuer.config.Upstreams = func(context.Context, cert.Spec) []string { return []string{upstream} }
	s.SetDNS("bad.test", "127.0.0.9")
	s.issuer.dial = street{"127.0.0.9:80": closed}.dial
	s.SetCAA("bad.test", acmetest.CAA{Value: "ca.other"})
	req, _ := s.request("good.test", "bad.test")
	before := s.Requests()
	_, err := s.issuer.Obtain(t.Context(), req)
	e := failed(t, err)
	for _, part := range []string{
		"seen from here: http://bad.test/.well-known/acme-challenge/… at " + upstream + " answered 404 (Server: nginx/1.29)",
		"mount the webroot volume in the web container too",
		"at 127.0.0.9 (IPv4) did not answer (connection refused)",
		"the CAA records of bad.test allow ca.other, but not pebble.letsencrypt.org",
	} {
		if !strings.Contains(e.Hint, part) {
			t.Errorf("hint %q\nwant %q in it", e.Hint, part)
		}
	}
	if strings.Contains(e.Hint, "good.test") {
		t.Errorf("hint %q is about good.test too, which did not fail", e.Hint)
	}
	if got := s.leftovers(t); len(got) != 0 {
		t.Errorf("the webroot still has %v", got)
	}
	if after := s.Requests(); after["directory"] != before["directory"]+1 {
		t.Errorf("requests %v, want the directory read once, for the order", after)
	}
}

func TestWellFromHereIsSaidToo(t *testing.T) {
	s := newSite(t, acmetest.Config{Wrap: invalid("connection")})
	s.patient()
	req, _ := s.request("example.test")
	_, err := s.issuer.Obtain(t.Context(), req)
	if e := failed(t, err); !strings.HasSuffix(e.Hint, "; from here the challenge path works: the CA sees something else (firewall, AAAA, geo-blocking)") {
		t.Errorf("hint %q", e.Hint)
	}
	s.issuer.config.Upstreams = func(context.Context, cert.Spec) []string { return []string{listen(t, s.files())} }
	s.issuer.dial = street{"127.0.0.1:80": silent}.dial
	_, err = s.issuer.Obtain(t.Context(), req)
	if e := failed(t, err); !strings.Contains(e.Hint, "; from here the challenge path works; also seen from here: ") || !strings.Contains(e.Hint, "NAT hairpin") {
		t.Errorf("hint %q", e.Hint)
	}
}

// invalid has the CA refuse an authorization at once.
func invalid(kind string) func(http.Handler) http.Handler {
	return answer("authorization", func(w http.ResponseWriter, r *http.Request) {
		fmt.Fprintf(w, `{"status":"invalid","identifier":{"type":"dns","value":"example.test"},
			"challenges":[{"type":"http-01","token":"%s","status":"invalid","error":{"type":"urn:ietf:params:acme:error:%s","detail":"no"}}]}`, token, kind)
	})
}

func TestOnlyWhatIsSeenFromHereIsExamined(t *testing.T) {
	spec := cert.Spec{Name: "shop", Names: []string{"a.test", "b.test", "c.test", "d.test"}}
	for name, row := range map[string]struct {
		op, about, kind string
		refused         []string
		want            int
	}{
		"refused names":              {"authorization", "a.test", "connection", []string{"a.test", "b.test"}, 2},
		"at most three":              {"authorization", "a.test", "dns", spec.Names, 3},
		"no name of ours":            {"authorization", "shop", "dns", []string{"shop"}, 0},
		"CAA at finalize":            {"finalize", "b.test", "caa", nil, 1},
		"CAA of nobody in special":   {"finalize", "shop", "caa", nil, 3},
		"the account is refused":     {"order", "shop", "unauthorized", nil, 0},
		"limits":                     {"order", "shop", "rateLimited", nil, 0},
		"refused by policy":          {"order", "a.test", "rejectedIdentifier", nil, 0},
		"refused for too many tries": {"authorization", "a.test", "rateLimited", []string{"a.test"}, 0},
	} {
		problem := &xacme.Error{StatusCode: http.StatusForbidden, ProblemType: "urn:ietf:params:acme:error:" + row.kind}
		e := &cert.Error{Op: row.op, Name: row.about, Err: problem, Failed: row.refused}
		if got := blamed(spec, e); len(got) != row.want {
			t.Errorf("%s: %v are examined, want %d", name, got, row.want)
		}
	}
}

func TestExplanationIsBounded(t *testing.T) {
	s := newSite(t, acmetest.Config{})
	s.patient()
	s.issuer.dial = street{}.dial
	var names []string
	for n := range 6 {
		name := fmt.Sprintf("bad%d.%s.test", n, strings.Repeat("x", 60))
		s.SetDNS(name, "127.0.0.7", "127.0.0.8", "127.0.0.9", "2001:db8::7", "2001:db8::8")
		names = append(names, name)
	}
	req, _ := s.request(names...)
	_, err := s.issuer.Obtain(t.Context(), req)
	e := failed(t, err)
	if n := len(e.Hint); strings.Count(e.Hint, " did not answer") != 3 || n > maxExplanation {
		t.Errorf("the hint has %d bytes (%q), want what is seen from here of three names in at most %d", n, e.Hint, maxExplanation)
	}
	if len(e.Failed) != 6 {
		t.Errorf("%d names failed, want all six still named", len(e.Failed))
	}
}

func TestWhatDecidesIsSaidFirst(t *testing.T) {
	const general = "the general advice"
	path := func(level cert.Level) cert.Finding {
		return cert.Finding{Level: level, Topic: pathTopic, Text: "path", Hint: "serve it"}
	}
	dns := func(level cert.Level) cert.Finding {
		return cert.Finding{Level: level, Topic: dnsTopic, Text: "dns", Hint: "add it"}
	}
	caa := func(level cert.Level) cert.Finding {
		return cert.Finding{Level: level, Topic: caaTopic, Text: "caa", Hint: "allow it"}
	}
	for _, row := range []struct {
		kind     string
		findings []cert.Finding
		want     string
	}{
		{"unauthorized", []cert.Finding{path(cert.Fine), path(cert.Bad), dns(cert.Bad), caa(cert.Unknown)}, "serve it; seen from here: path"},
		{"incorrectResponse", []cert.Finding{path(cert.Unknown), dns(cert.Unknown), caa(cert.Bad)}, general + "; seen from here: caa: allow it; path: serve it"},
		{"unauthorized", []cert.Finding{path(cert.Fine), dns(cert.Bad)}, "from here the challenge path works: the CA sees something else (firewall, AAAA, geo-blocking)"},
		{"dns", []cert.Finding{path(cert.Bad), dns(cert.Bad), caa(cert.Bad)}, "add it; seen from here: dns; path: serve it; caa: allow it"},
		{"dns", []cert.Finding{path(cert.Fine), dns(cert.Fine)}, general + "; from here the challenge path works: the CA sees something else (firewall, AAAA, geo-blocking)"},
		{"connection", []cert.Finding{path(cert.Unknown), dns(cert.Doubtful), caa(cert.Bad)}, "add it; seen from here: dns; caa: allow it"},
		{"caa", []cert.Finding{path(cert.Bad), dns(cert.Unknown), caa(cert.Bad)}, "allow it; seen from here: caa; path: serve it"},
		{"tls", nil, general},
	} {
		failed := &cert.Error{Hint: general, Err: &xacme.Error{ProblemType: "urn:ietf:params:acme:error:" + row.kind}}
		if got := diagnosis(failed, row.findings); got != row.want {
			t.Errorf("of %s with %v: %q, want %q", row.kind, row.findings, got, row.want)
		}
	}
}

// TestNameThatIsNotInTheDNSIsToldBesideOneThatIsRefused has the CA refuse two names, each for another reason.
func TestNameThatIsNotInTheDNSIsToldBesideOneThatIsRefused(t *testing.T) {
	failed := &cert.Error{Failed: []string{"a.test", "b.test"}, Err: &xacme.Error{ProblemType: "urn:ietf:params:acme:error:unauthorized"}}
	got := diagnosis(failed, []cert.Finding{
		{Level: cert.Bad, Topic: pathTopic, About: "a.test", Text: "a.test answered 404", Hint: "serve it"},
		{Level: cert.Bad, Topic: dnsTopic, About: "b.test", Text: "b.test does not exist", Hint: "add a record"},
	})
	if !strings.HasPrefix(got, "serve it") || !strings.Contains(got, "b.test does not exist: add a record") {
		t.Errorf("the hint is %q, want what to do about a.test first, and about b.test too", got)
	}
}

// A web server that never answers must not hold the failure up, nor the withdrawal of the challenges, which comes first.
func TestExplanationEndsInTimeAndAfterTheWithdrawal(t *testing.T) {
	s := newSite(t, acmetest.Config{})
	s.SetDNS("example.test", "127.0.0.9") // nothing listens where the CA looks
	left := make(chan []string, 1)
	stuck := listen(t, http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		left <- s.leftovers(t)
		<-r.Context().Done()
	}))
	s.issuer.dial = street{"127.0.0.9:80": stuck}.dial
	req, kept := s.request("example.test")
	begun := time.Now()
	_, err := s.issuer.Obtain(t.Context(), req)
	if failed(t, err); kept.order != nil {
		t.Error("the dead order was kept")
	}
	if took := time.Since(begun); took > 3*time.Second {
		t.Errorf("took %s, want at most the limit (0.2 s here)", took)
	}
	if files := <-left; len(files) != 1 || !strings.Contains(files[0], "sidecert-") {
		t.Errorf("while it looked the webroot had %v, want its own probe file alone", files)
	}
}

func TestInterruptedAttemptExaminesNothing(t *testing.T) {
	ctx, cancel := context.WithCancel(t.Context())
	s := newSite(t, acmetest.Config{Wrap: answer("authorization", func(w http.ResponseWriter, r *http.Request) {
		cancel()
		<-r.Context().Done()
	})})
	asked := false
	s.issuer.config.Upstreams = func(context.Context, cert.Spec) []string { asked = true; return nil }
	req, _ := s.request("example.test")
	_, err := s.issuer.Obtain(ctx, req)
	if e := failed(t, err); e.Kind != cert.KindInterrupted || asked {
		t.Errorf("kind %q and examined %t, want an interruption alone", e.Kind, asked)
	}
}
