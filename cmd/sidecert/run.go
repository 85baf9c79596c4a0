package main

import (
	"context"
	"errors"
	"flag"
	"io"
	"log/slog"
	"os"
	"os/signal"
	"sync"
	"syscall"
	"time"

	"github.com/sidecert/sidecert/internal/cert"
	"github.com/sidecert/sidecert/internal/renewal"
	"github.com/sidecert/sidecert/internal/store"
)

var runCommand = command{
	name:  "run",
	short: "keep the certificates (the daemon)",
	help: `Example: DOMAINS=example.org,www.example.org RELOAD=web sidecert run

Keeps every configured certificate: a placeholder first, so that web servers start, then the CA's, then renewals for ever; and sees
to it that the web containers serve them. How they stand is to be seen at LISTEN: a page, /metrics, /healthz.
SIGHUP: look at everything now. SIGTERM: end within 10 s, nothing half done.
`,
	run: func(ctx context.Context, in *invocation, flags *flag.FlagSet) error {
		if err := noArguments(in, flags); err != nil {
			return err
		}
		p, err := wire(in)
		if err != nil {
			tellMistakes(ctx, in, err)
			return err
		}
		return p.daemon(ctx)
	},
}

// kept is how many certificates there are to keep, configured or adopted.
func (p *parts) kept() int {
	wishes, _ := p.plan()
	return len(wishes)
}

func (p *parts) daemon(ctx context.Context) error {
	p.log.Info("sidecert started", cert.AttrVersion, version, "certs", p.kept(), cert.AttrDir, p.config.CertDir)
	defer p.log.Info("sidecert stopped")
	p.beat(renewal.Health{}) // what an earlier run found may not hold for this configuration
	hangup := make(chan os.Signal, 1)
	signal.Notify(hangup, syscall.SIGHUP) // before anything waits: it would end us
	defer signal.Stop(hangup)
	defer p.showStatus(ctx)() // one that stands by shows it too
	lead, err := p.lead(ctx)
	if err != nil {
		return ended(ctx, err)
	}
	defer lead.Close()

	ctx, cancel := context.WithCancel(ctx)
	defer cancel()
	var helpers sync.WaitGroup
	defer helpers.Wait()
	helpers.Go(func() { p.lookOnHangup(ctx, hangup) })
	helpers.Go(func() { p.lookOnChange(ctx) })
	helpers.Go(func() { p.lookOnEvents(ctx) })
	helpers.Go(func() { p.serveControl(ctx) })
	helpers.Go(func() { p.updateContacts(ctx) })
	p.startTelling(ctx, &helpers)
	err = p.manager.Run(ctx)
	cancel()
	return ended(ctx, err)
}

// ended is nil where the daemon ended because it was told to.
func ended(ctx context.Context, err error) error {
	if ctx.Err() != nil && errors.Is(err, context.Canceled) {
		return nil
	}
	return err
}

// standby is how often a second sidecert looks whether the first is gone.
const standby = 2 * time.Second

// lead waits until this process is the one that changes CERT_DIR. Where that cannot be, on a volume that is read-only or knows no locks,
// it waits too: what is stored is served on, and an end would only have the engine start us again and again.
func (p *parts) lead(ctx context.Context) (io.Closer, error) {
	said := ""
	say := func(level slog.Level, msg, hint string, args ...any) {
		if said != msg {
			p.log.Log(ctx, level, msg, append(args, cert.AttrDir, p.config.CertDir, cert.AttrHint, hint)...)
		}
		said = msg
	}
	for {
		lock, err := p.store.Lead()
		switch {
		case err == nil:
			if said != "" {
				p.log.Info("CERT_DIR is ours now, taking over", cert.AttrDir, p.config.CertDir)
			}
			return lock, nil
		case errors.Is(err, store.ErrLocked):
			say(slog.LevelWarn, "another sidecert keeps this CERT_DIR, standing by",
				"for other certificates name them in the DOMAINS of that one, or give this one volumes of its own")
		default:
			say(slog.LevelError, "CERT_DIR cannot be locked: nothing is ordered or changed until it can", p.store.Hint(err), cert.AttrErr, err)
		}
		p.beat(p.manager.Health())
		select {
		case <-ctx.Done():
			return nil, ctx.Err()
		case <-time.After(standby):
		}
	}
}

func (p *parts) lockError(err error) error {
	return &cert.Error{Op: "lock CERT_DIR", Err: err, Hint: p.store.Hint(err)}
}

func (p *parts) lookOnHangup(ctx context.Context, hangup <-chan os.Signal) {
	for {
		select {
		case <-ctx.Done():
			return
		case <-hangup:
			p.log.Info("told by SIGHUP to look at everything")
			p.manager.Look(ctx)
		}
	}
}

func (p *parts) lookOnChange(ctx context.Context) {
	err := p.store.Watch(ctx, func() {
		p.log.Info("files were changed from outside, looking at everything", cert.AttrDir, p.config.CertDir)
		p.manager.Look(ctx)
	})
	if ctx.Err() == nil {
		p.log.Warn("changes of files are not noticed at once, only every hour", cert.AttrErr, err)
	}
}

// listenAgain is how long after a refusal of a socket proxy the engine's events are asked for again: a person may have changed its rules.
const listenAgain = time.Hour

func (p *parts) lookOnEvents(ctx context.Context) {
	for said := false; ; said = true {
		err := p.web.Watch(ctx, func() {
			p.log.Debug("told by the engine's events to look at everything")
			p.manager.Look(ctx)
		})
		if ctx.Err() == nil && !said {
			p.log.Info("starts of web containers are not noticed at once, only every half minute", cert.AttrErr, err)
		}
		select {
		case <-ctx.Done():
			return
		case <-time.After(listenAgain):
		}
	}
}
