package main

import (
	"strings"
	"testing"
	"time"

	"golang.org/x/sys/unix"

	"github.com/sidecert/sidecert/internal/cert"
	"github.com/sidecert/sidecert/internal/cert/certtest"
)

// sampleRows are in the order of a configuration, the problems last.
func sampleRows(now time.Time) []listed {
	const day = 24 * time.Hour
	of := func(name string, age time.Duration, change func(*listed)) listed {
		b := certtest.New().Issue(now.Add(-age), 90*day, name)
		r := listed{Name: name, Names: []string{name}, Configured: true, Stored: true, KeyType: "ec-256", NotBefore: b.Chain[0].NotBefore, NotAfter: b.Chain[0].NotAfter,
			Next: now.Add(60*day - age), spec: &cert.Spec{}, lineage: cert.Lineage{Name: name, Number: 1, Chain: b.Chain}, Served: []servedAt{{Container: "web", Class: cert.Current}}}
		change(&r)
		return r
	}
	return []listed{
		of("young.example", day, func(r *listed) { r.Names = append(r.Names, "www.young.example") }),
		of("older.example", 50*day, func(*listed) {}),
		{Name: "new.example", Names: []string{"new.example"}, Configured: true, Placeholder: true, spec: &cert.Spec{}, Next: now},
		of("lost.example", 31*day, func(r *listed) { r.spec, r.Configured, r.Served, r.Next = nil, false, nil, time.Time{} }),
		of("shop.example", 78*day, func(r *listed) {
			r.Failure = &failure{now, 3, "shop.example: 404: http://shop.example/.well-known/acme-challenge/\x1b[31m is not found, says the CA", "mount it"}
			r.Next = now.Add(5 * time.Hour)
		}),
		of("gone.example", 91*day, func(r *listed) { r.Served[0].Class, r.Next = cert.Foreign, now }),
	}
}

func TestTableHasProblemsFirstAndFitsTheScreen(t *testing.T) {
	now := time.Date(2026, 11, 28, 12, 0, 0, 0, time.UTC)
	for _, test := range []struct {
		name string
		on   screen
		want string
	}{
		{"a pipe", screen{}, `
NAME           NAMES                            KEY     EXPIRES     LEFT     SERVED   NEXT RENEWAL  STATE
gone.example   gone.example                     ec-256  2026-11-27  expired  foreign  now           EXPIRED
shop.example   shop.example                     ec-256  2026-12-10  12 days  current  in 5 h        failed 3 times: shop.example: 404: http://shop.example/.wel…
lost.example   lost.example                     ec-256  2027-01-26  59 days  -        -             not configured, not renewed
new.example    new.example                      -       -           -        -        now           placeholder, certificate to come
older.example  older.example                    ec-256  2027-01-07  40 days  current  in 10 days    ok
young.example  young.example,www.young.example  ec-256  2027-02-25  89 days  current  in 59 days    ok
`},
		{"a wide terminal", screen{terminal: true, columns: 160}, `
NAME           NAMES                            KEY     EXPIRES     LEFT              SERVED   NEXT RENEWAL  STATE
gone.example   gone.example                     ec-256  2026-11-27  ░░░░░░░░ expired  foreign  now           EXPIRED
shop.example   shop.example                     ec-256  2026-12-10  ██░░░░░░ 12 days  current  in 5 h        failed 3 times: shop.example: 404: http://shop.exa…
lost.example   lost.example                     ec-256  2027-01-26  ██████░░ 59 days  -        -             not configured, not renewed
new.example    new.example                      -       -           -                 -        now           placeholder, certificate to come
older.example  older.example                    ec-256  2027-01-07  ████░░░░ 40 days  current  in 10 days    ok
young.example  young.example,www.young.example  ec-256  2027-02-25  ████████ 89 days  current  in 59 days    ok

` + "`sidecert certificates NAME` says all of it.\n"},
		{"a narrow terminal", screen{terminal: true, columns: 80}, `
NAME           LEFT              SERVED   NEXT RENEWAL  STATE
gone.example   ░░░░░░░░ expired  foreign  now           EXPIRED
shop.example   ██░░░░░░ 12 days  current  in 5 h        failed 3 times: shop.ex…
lost.example   ██████░░ 59 days  -        -             not configured, not ren…
new.example    -                 -        now           placeholder, certificat…
older.example  ████░░░░ 40 days  current  in 10 days    ok
young.example  ████████ 89 days  current  in 59 days    ok

` + "`sidecert certificates NAME` says all of it.\n"},
	} {
		t.Run(test.name, func(t *testing.T) {
			var b strings.Builder
			check := checker{20 * 24 * time.Hour, 7 * 24 * time.Hour, now}
			if err := check.writeTable(&b, sampleRows(now), test.on); err != nil {
				t.Fatal(err)
			}
			if got := "\n" + b.String(); got != test.want {
				t.Errorf("got%s\nwant%s", got, test.want)
			}
			var coloured strings.Builder
			test.on.colour = true
			check.writeTable(&coloured, sampleRows(now), test.on)
			if got := coloured.String(); !strings.Contains(got, "\x1b[31mEXPIRED\x1b[0m\n") || !strings.Contains(got, "\x1b[32mok\x1b[0m\n") || !strings.Contains(got, "\x1b[33mnot configured") {
				t.Errorf("in colour: %q", got)
			}
			plain := coloured.String()
			for _, ink := range []string{"0", "31", "32", "33", "36"} {
				plain = strings.ReplaceAll(plain, "\x1b["+ink+"m", "")
			}
			if plain != b.String() {
				t.Errorf("without its colours it is\n%s\nwant\n%s", plain, b.String())
			}
		})
	}
}

func TestColourAndWidthAreTheTerminals(t *testing.T) {
	_, program := terminal(t)
	if err := unix.IoctlSetWinsize(int(program.Fd()), unix.TIOCSWINSZ, &unix.Winsize{Row: 24, Col: 97}); err != nil {
		t.Fatal(err)
	}
	for _, test := range []struct {
		environ []string
		colour  bool
	}{
		{nil, true},
		{[]string{"TERM=xterm"}, true},
		{[]string{"TERM=dumb"}, false},
		{[]string{"TERM=xterm", "NO_COLOR=1"}, false},
		{[]string{"TERM=xterm", "NO_COLOR=0"}, false},
		{[]string{"TERM=xterm", "NO_COLOR="}, true},
	} {
		if got, want := screenOf(program, test.environ), (screen{terminal: true, columns: 97, colour: test.colour}); got != want {
			t.Errorf("%q: %+v, want %+v", test.environ, got, want)
		}
	}
	if got := screenOf(&strings.Builder{}, nil); got != (screen{}) {
		t.Errorf("a pipe: %+v", got)
	}
}
