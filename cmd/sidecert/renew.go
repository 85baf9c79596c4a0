package main

import (
	"context"
	"flag"
	"fmt"
	"io"
	"time"

	"github.com/sidecert/sidecert/internal/renewal"
)

var renewCommand = command{
	name:  "renew",
	short: "renew now what is due",
	help: `Example: docker compose exec sidecert sidecert renew example.org
         docker compose exec sidecert sidecert renew --dry-run

Looks at every certificate now, orders what is missing or due, and reloads the web containers. A NAME passes over our own waiting time
after failures, never over the CA's Retry-After or the guard of its rate limits. With the daemon running, the daemon does it; without,
the command does.

  --force    order it (with no NAME: all) whether it is due or not, past the guard. Mind that Let's Encrypt gives 5 certificates for the
             same names in 7 days
  --dry-run  make a whole order at the CA's staging directory (at the CA itself if it is a private one), run PRE_HOOK and POST_HOOK,
             and keep nothing: no file in CERT_DIR changes, no web container is told, no authorization is left pending
`,
	run: runRenew,
}

func runRenew(ctx context.Context, in *invocation, flags *flag.FlagSet) error {
	force, dry := flags.Bool("force", false, ""), flags.Bool("dry-run", false, "")
	names, err := parse(in, flags)
	if err != nil {
		return err
	}
	if *force && *dry {
		return &usageError{"--force and --dry-run do not go together", "a dry run makes an order whether one is due or not"}
	}
	d := deed{Kind: "renew", Renew: renewal.Ask{Names: names, Force: *force}}
	if *dry {
		d.Kind = "rehearse"
	}
	a, err := do(ctx, in, d)
	if err == nil {
		err = a.failure()
	}
	if err != nil {
		return err
	}
	if len(a.Certs) == 0 {
		_, err := fmt.Fprintln(in.stdout, nothingAsked)
		return err
	}
	if *dry {
		return tellRehearsal(in.stdout, a.Certs, in.now())
	}
	return tell(in.stdout, a.Certs, in.now())
}

// nothingAsked is the answer of commands about certificates where there are none.
const nothingAsked = renewal.NothingAsked + ": " + renewal.HintNothingAsked

// tellRehearsal says in a line each how a dry run went.
func tellRehearsal(w io.Writer, all []verdict, now time.Time) error {
	var failed error
	for _, v := range all {
		switch {
		case v.Held != "":
			failed = errSaid
			fmt.Fprintf(w, "%s: dry run held: %s; try again %s\n", v.Cert, v.Held, when(v.Next, now))
		case v.Err != "":
			failed = errSaid
			fmt.Fprintf(w, "%s: dry run failed: %s\n", v.Cert, v.Err)
		default:
			fmt.Fprintf(w, "%s: dry run succeeded at %s\n", v.Cert, v.CA)
		}
		if v.Hint != "" {
			fmt.Fprintf(w, "  hint: %s\n", v.Hint)
		}
	}
	return failed
}

// tell says in a line each what became of the certificates, and fails if one that is wanted was not obtained, or is not served.
func tell(w io.Writer, all []verdict, now time.Time) error {
	var failed error
	for _, v := range all {
		switch {
		case v.Obtained:
			fmt.Fprintf(w, "%s: obtained; next renewal %s\n", v.Cert, when(v.Next, now))
		case v.Err != "":
			failed = errSaid
			fmt.Fprintf(w, "%s: not obtained: %s\n", v.Cert, v.Err)
			switch {
			case v.Why == renewal.ByHand:
				fmt.Fprintln(w, "  it is not due, so it is not tried again by itself")
			case v.Next.After(now):
				fmt.Fprintf(w, "  next try %s\n", when(v.Next, now))
			}
		case v.Held != "":
			failed = errSaid
			fmt.Fprintf(w, "%s: held: %s; next try %s\n", v.Cert, v.Held, when(v.Next, now))
		default:
			fmt.Fprintf(w, "%s: not due; renewal %s\n", v.Cert, when(v.Next, now))
		}
		if v.Unserved != "" {
			failed = errSaid
			fmt.Fprintf(w, "  not seen to be served: %s\n", v.Unserved)
		}
		if v.Hint != "" {
			fmt.Fprintf(w, "  hint: %s\n", v.Hint)
		}
	}
	return failed
}

// when writes a time and how far away it is.
func when(t, now time.Time) string {
	if !t.After(now) {
		return "now"
	}
	return fmt.Sprintf("%s (in %s)", stamp(t), span(t.Sub(now)))
}

// stamp is a time for people and programs alike.
func stamp(t time.Time) string { return t.UTC().Format(time.RFC3339) }

// span writes a duration as people say it: the largest unit that fits.
func span(d time.Duration) string {
	switch {
	case d <= 0:
		return "no time"
	case d < time.Minute:
		return fmt.Sprintf("%d s", int(d.Seconds()))
	case d < time.Hour:
		return fmt.Sprintf("%d min", int(d.Minutes()))
	case d < 48*time.Hour:
		return fmt.Sprintf("%d h", int(d.Hours()))
	}
	return fmt.Sprintf("%d days", int(d.Hours()/24))
}
