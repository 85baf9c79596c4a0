package main

import (
	"context"
	"encoding/json"
	"flag"
	"fmt"
	"io"
	"slices"
	"strings"
	"text/tabwriter"
	"time"

	"github.com/sidecert/sidecert/internal/cert"
	"github.com/sidecert/sidecert/internal/config"
)

var historyCommand = command{
	name:  "history",
	short: "tell what was done and what failed",
	help: `Example: docker compose exec sidecert sidecert history example.org

Prints the journal, oldest first: certificates obtained, attempts that failed, files mended, what web containers were told and showed.
It outlives the container, and keeps the last megabyte.

  --json  one object a line; times in UTC (RFC 3339)
`,
	run: runHistory,
}

func runHistory(_ context.Context, in *invocation, flags *flag.FlagSet) error {
	asJSON := flags.Bool("json", false, "")
	names, err := parse(in, flags)
	if err != nil {
		return err
	}
	c, _, mistakes := config.Parse(in.environ, in.world) // the journal is shown all the same
	s, err := openStore(in, c)
	if err != nil {
		return err
	}
	events, err := s.Journal()
	if err != nil {
		return err
	}
	if len(names) > 0 {
		events = slices.DeleteFunc(events, func(e cert.Event) bool { return !slices.Contains(names, e.Cert) })
	}
	if *asJSON {
		err = writeEvents(in.stdout, events)
	} else {
		err = tellEvents(in.stdout, events)
	}
	if err == nil {
		err = mistakes
	}
	return err
}

func writeEvents(w io.Writer, events []cert.Event) error {
	out := json.NewEncoder(w)
	for _, e := range events {
		if err := out.Encode(e); err != nil {
			return err
		}
	}
	return nil
}

func tellEvents(w io.Writer, events []cert.Event) error {
	if len(events) == 0 {
		_, err := fmt.Fprintln(w, "nothing has happened yet")
		return err
	}
	t := tabwriter.NewWriter(w, 0, 0, 2, ' ', 0)
	for _, e := range events {
		text := eventText(e, stamp)
		if e.Hint != "" {
			text += "; " + e.Hint
		}
		fmt.Fprintf(t, "%s\t%s\t%s\n", stamp(e.Time), orDash(e.Cert), text)
	}
	return t.Flush()
}

// eventText is an event as a sentence without what to do about it, with times as stamp writes them.
func eventText(e cert.Event, stamp func(time.Time) string) string {
	var text string
	switch e.Kind {
	case cert.EventPlaceholder:
		text = "placeholder stored for " + strings.Join(e.Names, ", ")
	case cert.EventObtained:
		text = fmt.Sprintf("version %d obtained for %s, valid until %s", e.Version, strings.Join(e.Names, ", "), stamp(e.NotAfter))
	case cert.EventFailed:
		text = "failed"
		if e.Attempt > 0 {
			text = fmt.Sprintf("attempt %d failed", e.Attempt)
		}
	case cert.EventRepaired:
		return e.Action
	case cert.EventServed:
		text = servedSentence(e)
	case cert.EventRevoked:
		return fmt.Sprintf("version %d revoked (%s)", e.Version, e.Action)
	case cert.EventDeleted:
		return "deleted"
	default:
		text = string(e.Kind)
	}
	if e.Err != "" {
		text += ": " + e.Err
	}
	if e.Kind == cert.EventFailed && !e.Next.IsZero() {
		text += "; next try " + stamp(e.Next)
	}
	return text
}

func servedSentence(e cert.Event) string {
	stored := "the stored certificate" // of a journal of old, or of a target that is not there
	if e.Version > 0 {
		stored = fmt.Sprintf("version %d", e.Version)
	}
	format := "whether %s serves %s could not be seen"
	switch e.Class {
	case cert.Current:
		format = "%s serves %s"
	case cert.Stale:
		format = "%s still serves an older certificate than %s"
	case cert.Foreign:
		format = "%s serves another certificate than %s"
	}
	text := fmt.Sprintf(format, e.Container, stored)
	if e.Action != "" {
		text += ", after " + e.Action
	}
	return text
}
