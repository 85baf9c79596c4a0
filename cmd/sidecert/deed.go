package main

import (
	"context"
	"errors"
	"time"

	"github.com/sidecert/sidecert/internal/cert"
	"github.com/sidecert/sidecert/internal/config"
	"github.com/sidecert/sidecert/internal/renewal"
	"github.com/sidecert/sidecert/internal/store"
)

// deed is what a command wants done to the certificates. The daemon does it, or where there is none the command's own process.
type deed struct {
	Kind string
	// Renew is for "renew"; of "rehearse" only its names.
	Renew  renewal.Ask    `json:",omitzero"`
	Revoke renewal.Revoke `json:",omitzero"`
	// Name and Force are for "delete".
	Name  string `json:",omitempty"`
	Force bool   `json:",omitempty"`
	// Directory and Account name an account, Email is its new contact.
	Directory, Account, Email string `json:",omitempty"`
	// Watch has the daemon's log told while the deed lasts.
	Watch bool `json:",omitempty"`
}

// answer is what became of a deed.
type answer struct {
	Certs []verdict `json:"certs,omitempty"`
	// Did are sentences for people, also beside an Err.
	Did  []string `json:"did,omitempty"`
	Err  string   `json:"err,omitempty"`
	Hint string   `json:"hint,omitempty"`
}

// failure is what a command ends with, nil if all went well.
func (a answer) failure() error {
	if a.Err == "" {
		return nil
	}
	return &hinted{a.Err, a.Hint}
}

// hinted is an error that has come from the daemon as text.
type hinted struct{ text, hint string }

func (e *hinted) Error() string { return e.text }

// verdict is what became of one certificate.
type verdict struct {
	Cert     string    `json:"cert"`
	CA       string    `json:"ca,omitempty"`
	Obtained bool      `json:"obtained,omitempty"`
	Why      string    `json:"why,omitempty"`
	Held     string    `json:"held,omitempty"`
	Next     time.Time `json:"next,omitzero"`
	Err      string    `json:"err,omitempty"`
	Hint     string    `json:"hint,omitempty"`
	Unserved string    `json:"unserved,omitempty"`
}

func verdicts(r renewal.Result) []verdict {
	var all []verdict
	for _, c := range r.Certs {
		v := verdict{Cert: c.Cert, CA: c.CA, Obtained: c.Obtained, Why: string(c.Why), Held: c.Held, Next: c.Next, Unserved: c.Unserved, Hint: c.UnservedHint}
		if c.Err != nil {
			v.Err, v.Hint = renewal.ErrorText(c.Err)
		}
		all = append(all, v)
	}
	return all
}

// runner is a manager that runs, or one that does a single thing.
type runner interface {
	Renew(ctx context.Context, a renewal.Ask) (renewal.Result, error)
	Between(ctx context.Context, do func(context.Context)) error
}

// alone is a manager in a process that holds the lock for one deed.
type alone struct{ *renewal.Manager }

func (a alone) Renew(ctx context.Context, ask renewal.Ask) (renewal.Result, error) {
	return a.Once(ctx, ask), ctx.Err()
}

func (a alone) Between(ctx context.Context, do func(context.Context)) error {
	do(ctx)
	return ctx.Err()
}

// perform does a deed.
func (p *parts) perform(ctx context.Context, d deed, by runner) answer {
	var a answer
	var err error
	between := func(do func(context.Context) ([]string, error)) {
		type result struct {
			did []string
			err error
		}
		done := make(chan result, 1)
		if err = by.Between(ctx, func(ctx context.Context) {
			did, err := do(ctx)
			done <- result{did, err}
		}); err == nil {
			r := <-done
			a.Did, err = r.did, r.err
		}
	}
	switch d.Kind {
	case "renew":
		var r renewal.Result
		r, err = by.Renew(ctx, d.Renew)
		a.Certs = verdicts(r)
	case "rehearse":
		a.Certs = verdicts(p.manager.Rehearse(ctx, d.Renew.Names))
		err = ctx.Err()
	case "revoke":
		between(func(ctx context.Context) ([]string, error) { return p.manager.Revoke(ctx, d.Revoke) })
	case "delete":
		between(func(ctx context.Context) ([]string, error) { return p.manager.Delete(ctx, d.Name, d.Force) })
	case "update account":
		between(func(ctx context.Context) ([]string, error) { return p.updateAccount(ctx, d) })
	case "deactivate account":
		between(func(ctx context.Context) ([]string, error) { return p.deactivateAccount(ctx, d) })
	case "export account":
		between(func(ctx context.Context) ([]string, error) { return p.exportAccount(ctx, d) })
	default:
		err = &cert.Error{Op: "perform", Name: d.Kind, Err: errors.New("this sidecert does not know it"),
			Hint: "the daemon is of another version: start it anew"}
	}
	if err != nil {
		a.Err, a.Hint = renewal.ErrorText(err)
	}
	return a
}

// settling is how long a daemon may take from its lock to its socket, or back.
const settling = 5 * time.Second

// do has the daemon do a deed, and does it in this process where there is none.
func do(ctx context.Context, in *invocation, d deed) (answer, error) {
	c, _, err := config.Parse(in.environ, in.world)
	if err != nil {
		return answer{}, err
	}
	d.Watch = isTerminal(in.stdout)
	a, err := askDaemon(ctx, in, c.StateDir, d)
	if !errors.Is(err, errNoDaemon) {
		return a, err
	}
	p, err := wire(in)
	if err != nil {
		return answer{}, err
	}
	for end := time.Now().Add(settling); ; {
		lead, err := p.store.Lead()
		if err == nil {
			defer lead.Close()
			return p.perform(ctx, d, alone{p.manager}), nil
		}
		if !errors.Is(err, store.ErrLocked) {
			return answer{}, p.lockError(err)
		}
		a, err := askDaemon(ctx, in, c.StateDir, d)
		if !errors.Is(err, errNoDaemon) {
			return a, err
		}
		if time.Now().After(end) {
			return answer{}, &cert.Error{Op: d.Kind, Err: errors.New("another sidecert keeps this CERT_DIR and does not answer in this STATE_DIR"),
				Hint: "run the command in the container of the daemon: docker compose exec sidecert sidecert …"}
		}
		time.Sleep(100 * time.Millisecond)
	}
}
