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
		fmt.Fprintf(t, "%s\t%s\t%s\n", e.Time.UTC().Format(time.RFC3339), orDash(e.Cert), eventText(e))
	}
	return t.Flush()
}

// eventText is an event as a sentence.
func eventText(e cert.Event) string {
	var text string
	switch e.Kind {
	case cert.EventPlaceholder:
		text = "placeholder stored for " + strings.Join(e.Names, ", ")
	case cert.EventObtained:
		text = fmt.Sprintf("version %d obtained for %s, valid until %s", e.Version, strings.Join(e.Names, ", "), e.NotAfter.UTC().Format(time.RFC3339))
	case cert.EventFailed:
		text = "failed"
		if e.Attempt > 0 {
			text = fmt.Sprintf("attempt %d failed", e.Attempt)
		}
	case cert.EventRepaired:
		return e.Action
	case cert.EventServed:
		text = fmt.Sprintf("%s in %s", e.Class, e.Container)
		if e.Action != "" {
			text += " after " + e.Action
		}
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
		text += "; next try " + e.Next.UTC().Format(time.RFC3339)
	}
	if e.Hint != "" {
		text += "; " + e.Hint
	}
	return text
}
