package main

import (
	"fmt"
	"io"
	"strings"
	"text/tabwriter"
	"time"

	"github.com/sidecert/sidecert/internal/cert"
)

func writeTable(w io.Writer, all []listed, now time.Time) error {
	if len(all) == 0 {
		_, err := fmt.Fprintln(w, "no certificates")
		return err
	}
	t := tabwriter.NewWriter(w, 0, 0, 2, ' ', 0)
	fmt.Fprintln(t, "NAME\tNAMES\tKEY\tEXPIRES\tLEFT\tSERVED\tNEXT RENEWAL\tSTATE")
	for _, r := range all {
		expires, left := "-", "-"
		if r.Stored {
			expires, left = r.NotAfter.UTC().Format(time.DateOnly), span(r.NotAfter.Sub(now))
		}
		next := "-"
		if !r.Next.IsZero() {
			next = "in " + span(r.Next.Sub(now))
			if !r.Next.After(now) {
				next = "now"
			}
		}
		cells := []string{r.Name, namesText(r), orDash(r.KeyType), expires, left, servedText(r), next, short(oneLine(stateText(r, now)))}
		for i, cell := range cells {
			cells[i] = oneLine(cell)
		}
		fmt.Fprintln(t, strings.Join(cells, "\t"))
	}
	return t.Flush()
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

func stateText(r listed, now time.Time) string {
	switch {
	case r.Err != "":
		return "unusable: " + r.Err
	case r.Failure != nil:
		return fmt.Sprintf("failed %s: %s", times(r.Failure.Attempts), r.Failure.Err)
	case r.Held != "":
		return "held: " + r.Held
	case r.Placeholder:
		return "placeholder, certificate to come"
	case !r.Stored:
		return "configured, nothing stored yet"
	case !now.Before(r.NotAfter):
		return "EXPIRED"
	case r.Revoked == "it was revoked":
		return "REVOKED"
	case r.Revoked != "":
		return r.Revoked
	case r.unfinished:
		return "the revocation of an older version is not done, give it again"
	case r.Left != "":
		return "left to certbot: " + r.Left
	case !r.Configured && !r.Adopted:
		return "not configured, not renewed"
	case r.Unserved != "":
		return "not served: " + r.Unserved
	}
	return "ok"
}

func times(n int) string {
	if n == 1 {
		return "once"
	}
	return fmt.Sprintf("%d times", n)
}

// maxState is how many characters of a state the table shows; all of it is in the long form.
const maxState = 60

func short(text string) string {
	if r := []rune(text); len(r) > maxState {
		return string(r[:maxState-1]) + "…"
	}
	return text
}

func writeDetails(w io.Writer, all []listed, now time.Time) error {
	t := newDetails(w)
	line := t.line
	for i, r := range all {
		if i > 0 {
			fmt.Fprintln(t)
		}
		line("name", r.Name)
		line("names", strings.Join(r.Names, ", "))
		line("state", stateText(r, now))
		line("path", r.Path)
		if r.Stored {
			line("key", r.KeyType)
			line("serial", r.Serial)
			line("issuer", r.Issuer)
			line("chain", strings.Join(r.Chain, ", "))
			line("CA", r.CA)
			line("valid from", r.NotBefore.UTC().Format(time.RFC3339))
			line("expires", when(r.NotAfter, now))
		}
		if !r.Next.IsZero() {
			line("next renewal", fmt.Sprintf("%s: %s", when(r.Next, now), r.Why))
		}
		for _, v := range r.Versions {
			line(fmt.Sprintf("version %d", v.Version), versionText(v))
		}
		for _, s := range r.Served {
			told := ""
			if s.Action != "" {
				told = fmt.Sprintf(", told by %s at %s", s.Action, s.Told.UTC().Format(time.RFC3339))
			}
			line("served by "+s.Container, fmt.Sprintf("%s at %s%s", s.Class, s.Seen.UTC().Format(time.RFC3339), told))
		}
		if f := r.Failure; f != nil {
			line("last failure", fmt.Sprintf("%s, %d in a row: %s", f.Time.UTC().Format(time.RFC3339), f.Attempts, f.Err))
			line("what to do", f.Hint)
		}
	}
	return t.Flush()
}

func versionText(v stored) string {
	if v.Err != "" {
		return "not whole: " + v.Err
	}
	text := fmt.Sprintf("%s to %s, serial %s", v.NotBefore.UTC().Format(time.RFC3339), v.NotAfter.UTC().Format(time.RFC3339), v.Serial)
	if v.Live {
		text += ", live"
	}
	return text
}
