package main

import (
	"cmp"
	"fmt"
	"io"
	"slices"
	"strings"
	"time"

	"github.com/sidecert/sidecert/internal/cert"
	"github.com/sidecert/sidecert/internal/report"
)

// writeTable shows what wants a person first.
func (c checker) writeTable(w io.Writer, all []listed, s screen) error {
	if len(all) == 0 {
		_, err := fmt.Fprintln(w, "no certificates")
		return err
	}
	judged := map[string]judgement{}
	for _, r := range all {
		judged[r.Name] = c.judgement(r)
	}
	slices.SortStableFunc(all, func(a, b listed) int {
		return cmp.Or(cmp.Compare(judged[b.Name].level, judged[a.Name].level), a.NotAfter.Compare(b.NotAfter))
	})
	t := table{head: []string{"NAME", "NAMES", "KEY", "EXPIRES", "LEFT", "SERVED", "NEXT RENEWAL", "STATE"}, spare: []string{"KEY", "NAMES", "EXPIRES"}}
	for _, r := range all {
		v := judged[r.Name]
		ink := inks[v.level]
		t.row(cell{text: r.Name}, cell{text: namesText(r)}, cell{text: orDash(r.KeyType)}, cell{text: expiryText(r)}, cell{c.leftText(r, s), ink},
			cell{text: servedText(r)}, cell{text: c.nextText(r)}, cell{v.state, ink})
	}
	cut, err := t.write(w, s)
	if err == nil && cut && s.terminal {
		_, err = fmt.Fprintln(w, "\n`sidecert certificates NAME` says all of it.")
	}
	return err
}

// inks are the colours of the levels, as SGR parameters (ECMA-48 §8.3.117).
var inks = map[report.Level]string{report.Well: "32", report.Coming: "36", report.Doubtful: "33", report.Failing: "31"}

func expiryText(r listed) string {
	if !r.Stored {
		return "-"
	}
	return r.NotAfter.UTC().Format(time.DateOnly)
}

// leftText is for how long it still works; for a person there is a bar, whole when the certificate is new.
func (c checker) leftText(r listed, s screen) string {
	if !r.Stored {
		return "-"
	}
	left := r.NotAfter.Sub(c.now)
	text := span(left)
	if left <= 0 {
		text = "expired"
	}
	if !s.terminal {
		return text
	}
	const length = 8
	full := 0
	if life := r.NotAfter.Sub(r.NotBefore); life > 0 && left > 0 {
		full = min(length, int((length*left+life-1)/life)) // rounded up: only what has expired has none
	}
	return strings.Repeat("█", full) + strings.Repeat("░", length-full) + " " + text
}

func (c checker) nextText(r listed) string {
	switch {
	case r.Next.IsZero():
		return "-"
	case !r.Next.After(c.now):
		return "now"
	}
	return "in " + span(r.Next.Sub(c.now))
}

func orDash(s string) string {
	if s == "" {
		return "-"
	}
	return s
}

func namesText(r listed) string {
	if len(r.Names) > 3 {
		return fmt.Sprintf("%s and %d more", strings.Join(r.Names[:2], ","), len(r.Names)-2)
	}
	return orDash(strings.Join(r.Names, ","))
}

// servedText sums the containers up: the class they all show, or how many show the stored version.
func servedText(r listed) string {
	current := 0
	for _, s := range r.Served {
		if s.Class == cert.Current {
			current++
		}
	}
	switch {
	case len(r.Served) == 0:
		return "-"
	case current == len(r.Served):
		return "current"
	case len(r.Served) == 1:
		return string(r.Served[0].Class)
	}
	return fmt.Sprintf("%d of %d", current, len(r.Served))
}

func (c checker) writeDetails(w io.Writer, all []listed) error {
	t := newDetails(w)
	line := t.line
	for i, r := range all {
		if i > 0 {
			fmt.Fprintln(t)
		}
		line("name", r.Name)
		line("names", strings.Join(r.Names, ", "))
		line("state", c.judgement(r).state)
		line("path", r.Path)
		if r.Stored {
			line("key", r.KeyType)
			line("serial", r.Serial)
			line("issuer", r.Issuer)
			line("chain", strings.Join(r.Chain, ", "))
			line("CA", r.CA)
			line("valid from", stamp(r.NotBefore))
			line("expires", when(r.NotAfter, c.now))
		}
		if !r.Next.IsZero() {
			line("next renewal", fmt.Sprintf("%s: %s", when(r.Next, c.now), r.Why))
		}
		for _, v := range r.Versions {
			line(fmt.Sprintf("version %d", v.Version), versionText(v))
		}
		for _, s := range r.Served {
			told := ""
			if s.Action != "" {
				told = fmt.Sprintf(", told by %s at %s", s.Action, stamp(s.Told))
			}
			line("served by "+s.Container, fmt.Sprintf("%s since %s%s", s.Class, stamp(s.Since), told))
		}
		if f := r.Failure; f != nil {
			line("last failure", fmt.Sprintf("%s, %d in a row: %s", stamp(f.Time), f.Attempts, f.Err))
			line("what to do", f.Hint)
		}
	}
	return t.Flush()
}

func versionText(v stored) string {
	if v.Err != "" {
		return "not whole: " + v.Err
	}
	text := fmt.Sprintf("%s to %s, serial %s", stamp(v.NotBefore), stamp(v.NotAfter), v.Serial)
	if v.Live {
		text += ", live"
	}
	return text
}
