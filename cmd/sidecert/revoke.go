package main

import (
	"context"
	"flag"
	"fmt"
	"maps"
	"slices"
	"strings"

	"github.com/sidecert/sidecert/internal/cert"
	"github.com/sidecert/sidecert/internal/renewal"
)

var revokeCommand = command{
	name:  "revoke",
	short: "have the CA revoke a certificate",
	help: `Example: docker compose exec sidecert sidecert revoke example.org --reason keyCompromise

Has the CA revoke the live version of the certificate NAME. One that is kept (configured, or adopted from certbot) is replaced first,
and the new one seen to be served, so that no site is left with a revoked certificate; if that fails, nothing is revoked yet, and the same
command goes on with the same certificate. keyCompromise makes a new key, and revokes all versions that have the old one.

  --reason  unspecified (default), keyCompromise, affiliationChanged, superseded or cessationOfOperation (RFC 5280 §5.3.1)
  --delete  then forget the certificate, as ` + "`sidecert delete`" + ` does; refused while it is configured or served
  --yes     do not ask (without a terminal only --delete asks for it)
  --force   revoke at once, without a replacement; with --delete also what is configured or served
`,
	run: runRevoke,
}

func runRevoke(ctx context.Context, in *invocation, flags *flag.FlagSet) error {
	r := renewal.Revoke{Reason: cert.Unspecified}
	flags.Func("reason", "", func(text string) (err error) {
		r.Reason, err = parseReason(text)
		return err
	})
	flags.BoolVar(&r.Delete, "delete", false, "")
	flags.BoolVar(&r.Force, "force", false, "")
	yes := flags.Bool("yes", false, "")
	name, err := oneName(in, flags)
	if err != nil {
		return err
	}
	r.Name = name
	question := fmt.Sprintf("Revoke the certificate %s, for good?", name)
	if r.Delete {
		question = fmt.Sprintf("Revoke the certificate %s and delete its files?", name)
	}
	if r.Delete || isTerminal(in.stdin) {
		if err := confirm(ctx, in, *yes, question); err != nil {
			return err
		}
	}
	return doAndTell(ctx, in, deed{Kind: "revoke", Revoke: r})
}

func parseReason(text string) (cert.Reason, error) {
	known := slices.Sorted(maps.Keys(cert.Reasons))
	for _, r := range known {
		if strings.EqualFold(string(r), text) {
			return r, nil
		}
	}
	return "", fmt.Errorf("%q is none of %v", text, known)
}

var deleteCommand = command{
	name:  "delete",
	short: "forget a certificate and its files",
	help: `Example: docker compose exec sidecert sidecert delete old.example.org

Removes live/NAME, archive/NAME and renewal/NAME.conf with all keys in them, and what is remembered of the certificate. It is not
revoked by that. Refused while it is configured, or served by a web container: nginx does not reload, and httpd does not start, without
the files that its configuration names.

  --yes    do not ask
  --force  delete what is configured or served too
`,
	run: runDelete,
}

func runDelete(ctx context.Context, in *invocation, flags *flag.FlagSet) error {
	yes, force := flags.Bool("yes", false, ""), flags.Bool("force", false, "")
	name, err := oneName(in, flags)
	if err != nil {
		return err
	}
	if err := confirm(ctx, in, *yes, fmt.Sprintf("Delete the certificate %s, its keys and its settings?", name)); err != nil {
		return err
	}
	return doAndTell(ctx, in, deed{Kind: "delete", Name: name, Force: *force})
}

// oneName is parse for a command that takes exactly one certificate.
func oneName(in *invocation, flags *flag.FlagSet) (string, error) {
	names, err := parse(in, flags)
	if err != nil {
		return "", err
	}
	if len(names) != 1 {
		return "", &usageError{fmt.Sprintf("%s takes the name of one certificate", flags.Name()), "`sidecert certificates` lists them"}
	}
	return names[0], nil
}

// doAndTell does a deed and prints what was done, also where something failed after it.
func doAndTell(ctx context.Context, in *invocation, d deed) error {
	a, err := do(ctx, in, d)
	if err != nil {
		return err
	}
	for _, line := range a.Did {
		fmt.Fprintln(in.stdout, line)
	}
	return a.failure()
}
