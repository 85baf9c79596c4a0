package main

import (
	"context"
	"errors"
	"flag"
	"fmt"
	"sync"

	"github.com/sidecert/sidecert/internal/cert"
	"github.com/sidecert/sidecert/internal/config"
	"github.com/sidecert/sidecert/internal/report"
)

var notifyCommand = command{
	name:  "notify",
	short: "try whether NOTIFY_URLS works",
	help: `Example: docker compose exec sidecert sidecert notify --test

Sends a message to every URL of NOTIFY_URLS, and says of each whether it was taken. Of the URLs only the service and its server are shown.

  --test  required: the command does nothing else
`,
	run: runNotify,
}

func runNotify(ctx context.Context, in *invocation, flags *flag.FlagSet) error {
	test := flags.Bool("test", false, "")
	if err := noArguments(in, flags); err != nil {
		return err
	}
	if !*test {
		return &usageError{"notify does nothing without --test", "see `sidecert help notify`"}
	}
	c, _, err := config.Parse(in.environ, in.world)
	if err != nil {
		return err
	}
	all, err := receivers(c)
	if err != nil {
		return err
	}
	if len(all) == 0 {
		return &cert.Error{Op: "notify", Err: errors.New("NOTIFY_URLS is not set"), Hint: "e.g. NOTIFY_URLS=ntfy://ntfy.sh/YOUR-TOPIC; the README has more at \"Notifications\""}
	}
	m := report.Message{Title: "sidecert: a test message", Text: "This is a test of sidecert's notifications, asked for at " + stamp(in.now()) + ". Nothing is wrong."}
	outcomes := make([]error, len(all))
	var sending sync.WaitGroup
	for i, r := range all {
		sending.Go(func() { outcomes[i] = r.Send(ctx, m) })
	}
	sending.Wait()
	failed := false
	for i, r := range all {
		if outcomes[i] == nil {
			fmt.Fprintf(in.stdout, "%s: sent\n", r)
			continue
		}
		failed = true
		fmt.Fprintf(in.stdout, "%s: not sent: %v\n", r, outcomes[i])
	}
	if failed {
		return &hinted{"not every message was sent", "the server must be reached from sidecert's container, and the URL be as https://shoutrrr.nickfedor.com has it for the service"}
	}
	return nil
}

// receivers are those of NOTIFY_URLS, whose form is checked already.
func receivers(c config.Config) (all []*report.Receiver, err error) {
	for _, address := range c.Notify.URLs {
		some, err := report.NewReceivers(string(address))
		if err != nil {
			return nil, fmt.Errorf("NOTIFY_URLS: one of its URLs %w", err)
		}
		all = append(all, some...)
	}
	return all, nil
}

// startTelling has people told of what the manager finds, and the heartbeat beat, until ctx ends.
func (p *parts) startTelling(ctx context.Context, helpers *sync.WaitGroup) {
	n := p.notifier(p.config)
	if p.config.Notify.Heartbeat != "" {
		h := report.NewHeartbeat(p.config.Notify.Heartbeat, p.log)
		n.Beat = h.Beat
		helpers.Go(func() { h.Run(ctx) })
	}
	p.manager.Tell = func(news cert.News) { n.Tell(news) } // what cannot be written is logged
	helpers.Go(func() { n.Run(ctx) })
}

func (p *parts) notifier(c config.Config) *report.Notifier {
	all, err := receivers(c)
	if err != nil {
		p.log.Error("nobody is notified", cert.AttrErr, err)
	}
	return report.NewNotifier(report.NotifierConfig{
		Receivers: all, On: report.On{Failure: c.Notify.Failure, Expiry: c.Notify.Expiry, Recovery: c.Notify.Recovery, Renewal: c.Notify.Renewal},
		Memory: p.store, Now: p.now, Log: p.log,
	})
}

// tellMistakes notifies people that the daemon does not run, by as much of the configuration as can be used.
func tellMistakes(ctx context.Context, in *invocation, err error) {
	mistakes, ok := errors.AsType[config.Mistakes](err)
	if !ok {
		return
	}
	c, _, _ := config.Parse(in.environ, in.world)
	if len(c.Notify.URLs) == 0 || !c.Notify.Failure {
		return
	}
	p, err := build(in, c)
	if err != nil {
		return // the mistakes are on stderr
	}
	var texts []string
	for _, m := range mistakes {
		texts = append(texts, m.String())
	}
	if err := p.notifier(c).TellMistakes(ctx, texts); err != nil {
		p.log.Warn("notification of the mistakes was not sent: that it was could not be remembered", cert.AttrErr, err, cert.AttrHint, p.store.Hint(err))
	}
}
