package main

import (
	"bytes"
	"context"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"github.com/sidecert/sidecert/internal/cert"
)

// slowly answers after a while, with an error if it is cut short.
func slowly(ctx context.Context, q question) []cert.Finding {
	select {
	case <-time.After(15 * time.Second):
		return []cert.Finding{{Topic: "DNS", About: q.name}}
	case <-ctx.Done():
		return []cert.Finding{{Level: cert.Bad, Topic: "DNS", About: q.name, Text: "invented"}}
	}
}

func TestDoctorLooksAtNamesForTwoMinutes(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		var seen bytes.Buffer
		d := &doctor{progress: &seen}
		begun := time.Now()
		findings := d.ask(t.Context(), make([]question, 100), slowly)
		if took := time.Since(begun); took != namesLimit {
			t.Errorf("it took %v, want %v", took, namesLimit)
		}
		levels := map[cert.Level]int{}
		for _, f := range findings {
			levels[f.Level]++
		}
		last := findings[len(findings)-1]
		if levels[cert.Bad] > 0 || levels[cert.Unknown] != 1 || levels[cert.Fine] < 7*together || levels[cert.Fine] > 8*together ||
			!strings.HasSuffix(last.Text, " of 100 names could not be looked at within 2m0s") {
			t.Errorf("found %v, the last %+v; want what was looked at, and one that says how many were not", levels, last)
		}
		if got := seen.String(); !strings.HasPrefix(got, "\r\x1b[Klooking at the names: 0 of 100\r") || !strings.HasSuffix(got, "\r\x1b[K") {
			t.Errorf("a person sees %q, want a count that is cleared at the end", got)
		}
	})
}

func TestDoctorThatIsInterruptedEndsAtOnce(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		ctx, cancel := context.WithTimeout(t.Context(), time.Second)
		defer cancel()
		begun := time.Now()
		findings := (&doctor{}).ask(ctx, make([]question, 100), slowly)
		if took := time.Since(begun); took != time.Second || len(findings) > 1 {
			t.Errorf("after %v it found %+v", took, findings)
		}
	})
}

func TestDoctorTellsWhatComesFromOutsideInOneLine(t *testing.T) {
	var out bytes.Buffer
	d := &doctor{out: &out}
	d.tell(cert.Finding{Level: cert.Bad, Topic: "served", About: "a\x1b[2Jb", Text: "x\nserved\n  ok       all is well", Hint: "do\r\u202ethis"})
	if got, want := out.String(), "served\n  error    a [2Jb: x served ok all is well\n           hint: do this\n"; got != want {
		t.Errorf("doctor tells %q, want %q", got, want)
	}
}
