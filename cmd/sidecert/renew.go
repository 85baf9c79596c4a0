package main

import (
	"context"
	"errors"
	"flag"
	"fmt"
	"io"
	"time"

	"github.com/sidecert/sidecert/internal/cert"
	"github.com/sidecert/sidecert/internal/config"
	"github.com/sidecert/sidecert/internal/renewal"
	"github.com/sidecert/sidecert/internal/store"
)

var renewCommand = command{
	name:  "renew",
	short: "renew now what is due",
	help: `Example: docker compose exec sidecert sidecert renew example.org

Looks at every configured certificate now, orders what is missing or due, and reloads the web containers. A NAME passes over our own
waiting time after failures, never over the CA's Retry-After or the guard of its rate limits. With the daemon running, the daemon
does it; without, the command does.

  --force  order it (with no NAME: all) whether it is due or not, past the guard. Mind that Let's Encrypt gives 5 certificates for the
           same names in 7 days
`,
	run: runRenew,
}

func runRenew(ctx context.Context, in *invocation, flags *flag.FlagSet) error {
	force := flags.Bool("force", false, "")
	names, err := parse(in, flags)
	if err != nil {
		return err
	}
	c, _, err := config.Parse(in.environ, in.world)
	if err != nil {
		return err
	}
	all, err := renew(ctx, in, c, renewal.Ask{Names: names, Force: *force})
	if err != nil {
		return err
	}
	return tell(in.stdout, all, in.now())
}

// settling is how long a daemon may take from its lock to its socket, or back.
const settling = 5 * time.Second

// renew has the daemon do it, and does it in this process where there is none.
func renew(ctx context.Context, in *invocation, c config.Config, ask renewal.Ask) ([]verdict, error) {
	all, err := askDaemon(ctx, c.StateDir, ask)
	if !errors.Is(err, errNoDaemon) {
		return all, err
	}
	p, err := wire(in)
	if err != nil {
		return nil, err
	}
	for end := time.Now().Add(settling); ; {
		lead, err := p.store.Lead()
		if err == nil {
			defer lead.Close()
			return verdicts(p.manager.Once(ctx, ask)), nil
		}
		if !errors.Is(err, store.ErrLocked) {
			return nil, err
		}
		all, err := askDaemon(ctx, c.StateDir, ask)
		if !errors.Is(err, errNoDaemon) {
			return all, err
		}
		if time.Now().After(end) {
			return nil, &cert.Error{Op: "renew", Err: errors.New("another sidecert keeps this CERT_DIR and does not answer in this STATE_DIR"),
				Hint: "run the command in the container of the daemon: docker compose exec sidecert sidecert renew"}
		}
		time.Sleep(100 * time.Millisecond)
	}
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
			if !v.Next.IsZero() {
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
	return fmt.Sprintf("%s (in %s)", t.UTC().Format(time.RFC3339), span(t.Sub(now)))
}

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
