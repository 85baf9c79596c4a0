package main

import (
	"io"
	"net"
	"net/http"
	"strings"
	"testing"
	"time"

	"github.com/rogpeppe/go-internal/testscript"

	"github.com/sidecert/sidecert/internal/cert"
	"github.com/sidecert/sidecert/internal/cert/certtest"
	"github.com/sidecert/sidecert/internal/report"
)

// freePort is an address that nobody listens at.
func freePort(t testing.TB) string {
	t.Helper()
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	defer l.Close()
	return l.Addr().String()
}

// get is an answer with its status line and headers, as far as they may hold anything.
func get(t testing.TB, url string) string {
	t.Helper()
	text, err := fetch(url)
	if err != nil {
		t.Fatal(err)
	}
	return text
}

func fetch(url string) (string, error) {
	resp, err := http.Get(url)
	if err != nil {
		return "", err
	}
	defer resp.Body.Close()
	body, err := io.ReadAll(resp.Body)
	var header strings.Builder
	resp.Header.Write(&header)
	return resp.Status + "\n" + header.String() + "\n" + string(body), err
}

// listen puts an address for the status page in $LISTEN.
func listen(ts *testscript.TestScript, _ bool, _ []string) {
	l, err := net.Listen("tcp", "127.0.0.1:0")
	ts.Check(err)
	ts.Check(l.Close())
	ts.Setenv("LISTEN", l.Addr().String())
}

// shows waits until a page of the daemon has a text, or, negated, looks that it has none: shows PATH TEXT.
func shows(ts *testscript.TestScript, neg bool, args []string) {
	url := "http://" + ts.Getenv("LISTEN") + args[0]
	has := func() bool {
		text, err := fetch(url)
		return err == nil && strings.Contains(text, args[1])
	}
	if !neg {
		poll(ts, args[0]+" has "+args[1], has)
	} else if has() {
		ts.Fatalf("%s has %s", args[0], args[1])
	}
}

// same checks that a page of the daemon is a command's output: same PATH FILE.
func same(ts *testscript.TestScript, _ bool, args []string) {
	text, err := fetch("http://" + ts.Getenv("LISTEN") + args[0])
	ts.Check(err)
	if _, body, _ := strings.Cut(text, "\n\n"); body != ts.ReadFile(args[1]) {
		ts.Fatalf("%s is\n%s\nwant\n%s", args[0], body, ts.ReadFile(args[1]))
	}
}

// history has the same sentences with times as machines read them, see testdata/story.text.golden.
func TestJournalOnThePageHasItsTimesAsAllOthers(t *testing.T) {
	at := time.Date(2027, 2, 14, 12, 0, 7, 0, time.UTC)
	for _, row := range []struct {
		event cert.Event
		want  string
	}{
		{cert.Event{Kind: cert.EventObtained, Version: 4, Names: []string{"a.example", "b.example"}, NotAfter: at}, "version 4 obtained for a.example, b.example, valid until 2027-02-14 12:00 UTC"},
		{cert.Event{Kind: cert.EventFailed, Attempt: 2, Err: "404", Next: at, Hint: "mount it"}, "attempt 2 failed: 404; next try 2027-02-14 12:00 UTC"},
		{cert.Event{Kind: cert.EventServed, Version: 4, Container: "web", Class: cert.Current, Action: "HUP"}, "web serves version 4, after HUP"},
		{cert.Event{Kind: cert.EventServed, Version: 4, Container: "web", Class: cert.Stale, Err: "syntax error"}, "web still serves an older certificate than version 4: syntax error"},
		{cert.Event{Kind: cert.EventServed, Version: 4, Container: "web", Class: cert.Foreign}, "web serves another certificate than version 4"},
		{cert.Event{Kind: cert.EventServed, Version: 4, Container: "web", Class: cert.Unseen, Err: "timeout"}, "whether web serves version 4 could not be seen: timeout"},
	} {
		if got := eventText(row.event, report.Minute); got != row.want {
			t.Errorf("%s %s is %q, want %q", row.event.Kind, row.event.Class, got, row.want)
		}
	}
}

func TestPageJudgesACertificateAsAPersonWould(t *testing.T) {
	now := time.Now()
	of := func(age time.Duration, change func(*listed)) listed {
		b := certtest.New().Issue(now.Add(-age), 90*24*time.Hour, "a.example")
		r := listed{Name: "a.example", Stored: true, NotBefore: b.Chain[0].NotBefore, NotAfter: b.Chain[0].NotAfter, spec: &cert.Spec{}, lineage: cert.Lineage{Name: "a.example", Number: 1, Chain: b.Chain}}
		change(&r)
		return r
	}
	const day = 24 * time.Hour
	check := checker{20 * day, 7 * day, now}
	for _, test := range []struct {
		name  string
		row   listed
		level report.Level
		state string
	}{
		{"young", of(day, func(*listed) {}), report.Well, "It is well."},
		{"due today", of(60*day, func(r *listed) { r.Why = "it is due for renewal" }), report.Well, "It is well."},
		{"a failed attempt", of(61*day, func(r *listed) { r.Failure = &failure{now, 1, "404", "mount it"} }), report.Failing, "The last attempt failed at "},
		{"some failed attempts", of(61*day, func(r *listed) { r.Failure = &failure{now, 3, "404", ""} }), report.Failing, "The last 3 attempts failed, most recently at "},
		{"a CA that is away", of(61*day, func(r *listed) { r.Held = "the CA did not answer" }), report.Doubtful, "It is wanted and waits: the CA did not answer."},
		{"a CA that is away for long", of(72*day, func(r *listed) { r.Held = "the CA did not answer" }), report.Failing, "It is wanted and waits: "},
		{"overdue for no known reason", of(71*day, func(*listed) {}), report.Doubtful, "It should have been renewed by now."},
		{"about to expire", of(84*day, func(*listed) {}), report.Failing, "It expires soon."},
		{"expired", of(91*day, func(*listed) {}), report.Failing, "It has expired."},
		{"a placeholder", listed{Name: "a.example", spec: &cert.Spec{}, Placeholder: true}, report.Coming, "A placeholder "},
		{"no answer before the first", listed{Name: "a.example", spec: &cert.Spec{}, Held: "the CA did not answer"}, report.Failing, "It is wanted and waits: "},
		{"damaged files", of(day, func(r *listed) { r.Err = "no key" }), report.Failing, "Its files cannot be used: no key."},
		{"revoked", of(day, func(r *listed) { r.Revoked = "it was revoked" }), report.Failing, "Of what is stored: it was revoked, "},
		{"an older one is served", of(day, func(r *listed) { r.Unserved, r.Served = "old", []servedAt{{Container: "web", Class: cert.Stale}} }), report.Failing, "It is not served: old."},
		{"another one is served", of(day, func(r *listed) {
			r.Unserved, r.Served = "foreign in web", []servedAt{{Container: "web", Class: cert.Foreign}}
		}), report.Doubtful, "It was not seen to be served: foreign in web."},
		{"an older one where nobody is told", of(day, func(r *listed) { r.Served = []servedAt{{Container: "web", Class: cert.Stale}} }), report.Well, "It is well."},
		{"not configured", of(day, func(r *listed) { r.spec = nil }), report.Doubtful, "It is stored, not configured, and not renewed."},
		{"left to certbot", of(day, func(r *listed) { r.spec, r.Left = nil, "it is a wildcard" }), report.Well, "It is left to certbot: it is a wildcard."},
		{"left to a certbot that does nothing", of(75*day, func(r *listed) { r.spec, r.Left = nil, "it is a wildcard" }), report.Doubtful, "It is left to certbot: it is a wildcard."},
	} {
		if v := check.judgement(test.row); v.level != test.level || !strings.HasPrefix(v.sentence, test.state) {
			t.Errorf("%s is %v, %q, want %v, %q", test.name, v.level, v.sentence, test.level, test.state)
		}
	}
}
