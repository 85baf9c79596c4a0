package main

import (
	"context"
	"errors"
	"flag"
	"fmt"
	"io/fs"
	"net/mail"
	"path"
	"slices"
	"strings"
	"time"

	"github.com/sidecert/sidecert/internal/cert"
	"github.com/sidecert/sidecert/internal/config"
	"github.com/sidecert/sidecert/internal/store"
)

var accountCommand = command{
	name:  "account",
	short: "show, update, deactivate or export the accounts at CAs",
	help: `Example: docker compose exec sidecert sidecert account show
         docker compose exec sidecert sidecert account export --certbot

  show                    every stored account, where its key is, and what the CA says of it
  update --email ADDRESS  tell the CA another contact; "" takes it away. Where EMAIL is set, change EMAIL: it is told at the next start
  deactivate              give the account up at the CA, for good; its key is set aside. The next order registers a new account
  export --certbot        write the account where certbot looks for it, CERT_DIR/accounts, and name it in the renewal configurations, so that
                          certbot can renew and revoke. CERT_DIR is mounted in web containers: only root may read the key there

  --ca CA    which, where there are several: letsencrypt, zerossl … or the URL of the directory
  --account  which of several accounts of certbot at one CA, by its ID
  --yes      deactivate: do not ask
`,
	run: runAccount,
}

func runAccount(ctx context.Context, in *invocation, flags *flag.FlagSet) error {
	ca, id := flags.String("ca", "", ""), flags.String("account", "", "")
	email := flags.String("email", "", "")
	yes, certbot := flags.Bool("yes", false, ""), flags.Bool("certbot", false, "")
	words, err := parse(in, flags)
	if err != nil {
		return err
	}
	emailSet := false
	flags.Visit(func(f *flag.Flag) { emailSet = emailSet || f.Name == "email" })
	usage := func(msg string) error { return &usageError{msg, "see `sidecert help account`"} }
	if len(words) != 1 {
		return usage("account takes one of show, update, deactivate and export")
	}
	c, _, mistakes := config.Parse(in.environ, in.world)
	if words[0] == "show" {
		if err := showAccounts(ctx, in, c); err != nil {
			return err
		}
		return mistakes
	}
	if mistakes != nil {
		return mistakes
	}
	d := deed{Kind: words[0] + " account", Directory: config.Directory(*ca), Account: *id, Email: *email}
	switch words[0] {
	case "update":
		if !emailSet {
			return usage("account update needs --email ADDRESS")
		}
		if parsed, err := mail.ParseAddress(*email); *email != "" && (err != nil || parsed.Address != *email) {
			return usage(fmt.Sprintf("%q is no mail address", *email))
		}
		if own := c.General.CA.Email; own != "" && own != *email {
			return &usageError{fmt.Sprintf("EMAIL is set to %s, and would be told to the CA again", own), "change EMAIL and start sidecert again: it tells the CA"}
		}
	case "deactivate":
		if err := confirm(ctx, in, *yes, "Give up the account at the CA, for good?"); err != nil {
			return err
		}
	case "export":
		if !*certbot {
			return usage("account export needs --certbot: there is no other form")
		}
	default:
		return usage(fmt.Sprintf("account knows no %q", words[0]))
	}
	return doAndTell(ctx, in, d)
}

// statusTime limits the question to one CA.
const statusTime = 10 * time.Second

func showAccounts(ctx context.Context, in *invocation, c config.Config) error {
	p, err := build(in, c)
	if err != nil {
		return err
	}
	all := p.accounts()
	if len(all) == 0 {
		fmt.Fprintln(in.stdout, "no account yet: the first order registers one")
		return nil
	}
	t := newDetails(in.stdout)
	line := t.line
	for i, a := range all {
		if i > 0 {
			fmt.Fprintln(t)
		}
		line("CA", a.Directory)
		line("account", a.Account.URI)
		line("contact", a.Account.Contact)
		line("key", a.Dir)
		if a.Certbot {
			line("made by", "certbot, its ID is "+a.ID)
		}
		if a.exported != "" {
			line("for certbot", a.exported)
		}
		if !a.Account.Created.IsZero() {
			line("created", stamp(a.Account.Created))
		}
		if a.Err != nil {
			line("unusable", a.Err.Error())
			line("what to do", hintOf(a.Err))
			continue
		}
		line("status", p.accountStatus(ctx, a))
	}
	return t.Flush()
}

func (p *parts) accountStatus(ctx context.Context, a account) string {
	ctx, cancel := context.WithTimeout(ctx, statusTime)
	defer cancel()
	status, contact, err := p.issuer.AccountStatus(ctx, p.caOf(a))
	if err != nil {
		return "not known: " + err.Error()
	}
	if len(contact) > 0 {
		status += ", contact " + strings.Join(contact, ", ")
	}
	return status
}

// account is a stored one; exported is where certbot's copy of it is, if it has one.
type account struct {
	store.StoredAccount
	exported string
}

// accounts are all that are stored, one that was exported once.
func (p *parts) accounts() []account {
	var all []account
	for _, a := range p.store.Accounts() { // ours come before certbot's
		i := slices.IndexFunc(all, func(ours account) bool { return a.Certbot && a.Account.URI != "" && ours.Account.URI == a.Account.URI })
		if i >= 0 {
			all[i].exported = a.Dir
			continue
		}
		all = append(all, account{StoredAccount: a})
	}
	return all
}

// caOf is the CA of a stored account as the certificates name it, or as they would.
func (p *parts) caOf(a account) cert.CA {
	wishes, _ := p.plan()
	for _, w := range wishes {
		if ca := w.Spec.CA; ca.Directory == a.Directory && (a.Certbot && ca.Account == a.ID || !a.Certbot && ca.ID() == a.ID) {
			return ca
		}
	}
	ca := p.config.General.CA
	ca.Directory, ca.EABKID, ca.EABKey = a.Directory, "", ""
	if a.Certbot {
		ca.Account = a.ID
	} else {
		ca.StoredAs = a.ID // it may be bound to an external account that is not configured any more
	}
	return ca
}

// account finds the one that a deed is about.
func (p *parts) account(d deed) (account, error) {
	all := slices.DeleteFunc(p.accounts(), func(a account) bool {
		return d.Directory != "" && a.Directory != d.Directory || d.Account != "" && a.ID != d.Account
	})
	failed := func(err error, hint string) (account, error) {
		return account{}, &cert.Error{Op: d.Kind, Name: d.Directory, Err: err, Hint: hint}
	}
	if len(all) == 0 {
		return failed(fmt.Errorf("there is no such account: %w", fs.ErrNotExist), "`sidecert account show` lists them")
	}
	if len(all) > 1 {
		return failed(errors.New("there are several accounts"), "say which by --ca, and by --account where certbot has several at one CA: `sidecert account show` lists them")
	}
	return all[0], all[0].Err
}

func (p *parts) updateAccount(ctx context.Context, d deed) ([]string, error) {
	a, err := p.account(d)
	if err != nil {
		return nil, err
	}
	if err := p.issuer.UpdateAccount(ctx, p.caOf(a), d.Email); err != nil {
		return nil, err
	}
	if d.Email == "" {
		return []string{"the account has no contact any more"}, nil
	}
	return []string{"the contact is now " + d.Email}, nil
}

func (p *parts) deactivateAccount(ctx context.Context, d deed) ([]string, error) {
	a, err := p.account(d)
	if err != nil {
		return nil, err
	}
	if err := p.issuer.DeactivateAccount(ctx, p.caOf(a)); err != nil {
		return nil, err
	}
	did := []string{"the account is deactivated at the CA; the next order there registers a new one"}
	places := []cert.CA{p.caOf(a)}
	if a.exported != "" {
		copied := p.caOf(a)
		copied.Account = path.Base(a.exported)
		places = append(places, copied)
	}
	for _, ca := range places {
		to, err := p.store.RetireAccount(ca)
		if err != nil {
			return did, err
		}
		did = append(did, "its key is kept in "+to)
	}
	return did, nil
}

func (p *parts) exportAccount(ctx context.Context, d deed) ([]string, error) {
	a, err := p.account(d)
	if err != nil {
		return nil, err
	}
	if a.Certbot {
		return []string{"it is certbot's own account already, in " + a.Dir}, nil
	}
	dir, confs, err := p.store.ExportAccount(ctx, p.caOf(a))
	if err != nil {
		return nil, err
	}
	did := []string{"the account is in " + dir}
	if len(confs) > 0 {
		did = append(did, "named in the renewal configuration of "+strings.Join(confs, ", "))
	}
	return append(did, "whoever reads that folder can issue and revoke for your names: it is readable by root alone, keep it so"), nil
}

// updateContacts tells the CAs of the certificates that EMAIL has changed.
func (p *parts) updateContacts(ctx context.Context) {
	wishes, _ := p.plan()
	var told []string
	for _, w := range wishes {
		ca := w.Spec.CA
		account, err := p.store.Account(ca)
		if ca.Email == "" || err != nil || account.URI == "" || account.Contact == ca.Email || slices.Contains(told, ca.ID()) {
			continue
		}
		told = append(told, ca.ID())
		if err := p.issuer.UpdateAccount(ctx, ca, ca.Email); err != nil && ctx.Err() == nil {
			p.log.Warn("contact of the account not updated", cert.AttrCA, ca.Directory, cert.AttrErr, err, cert.AttrHint, hintOf(err))
		}
	}
}
