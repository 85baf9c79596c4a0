package main

import (
	"context"
	"errors"
	"flag"
	"fmt"
	"io"
	"log/slog"
	"maps"
	"os/exec"
	"slices"
	"strings"
	"sync"
	"time"

	"github.com/sidecert/sidecert/internal/cert"
	"github.com/sidecert/sidecert/internal/config"
)

var doctorCommand = command{
	name:  "doctor",
	short: "look at everything that can go wrong, and say what to do",
	help: `Example: docker compose exec sidecert sidecert doctor
         docker compose exec sidecert sidecert doctor shop.example.org

Looks at the configuration, the volumes, the Docker engine and the web containers, the CA and the clock, and at the challenge path, DNS
and CAA records of every name, or of the names of the certificates named; then at what is left of the CA's limits. It orders nothing and
tells no web container anything. What is well is a line each; what is not comes with what to do. Exit status 1 if something does not work.

  --problems  only what is not well
`,
	run: runDoctor,
}

func runDoctor(ctx context.Context, in *invocation, flags *flag.FlagSet) error {
	only := flags.Bool("problems", false, "")
	names, err := parse(in, flags)
	if err != nil {
		return err
	}
	c, notices, err := config.Parse(in.environ, in.world)
	d := &doctor{in: in, out: in.stdout, problems: *only}
	d.configuration(notices, err)
	p, err := build(in, c)
	if err != nil {
		d.tell(broken("volume", c.CertDir, err))
		return d.conclude()
	}
	d.parts = p
	wishes, err := d.meant(names)
	if err != nil {
		return err
	}
	d.tell(p.store.Examine()...)
	d.certificates(names)
	d.tell(p.web.Examine(ctx, d.kept(wishes))...)
	d.hooks()
	d.cas(ctx, wishes)
	d.names(ctx, wishes)
	d.limits(wishes)
	return d.conclude()
}

// doctor tells findings as they come, and counts them.
type doctor struct {
	*parts
	in       *invocation
	out      io.Writer
	problems bool // only what is not well is told
	topic    string
	count    map[cert.Level]int
}

func (d *doctor) tell(findings ...cert.Finding) {
	for _, f := range findings {
		if d.count == nil {
			d.count = map[cert.Level]int{}
		}
		d.count[f.Level]++
		if d.problems && f.Level == cert.Fine {
			continue
		}
		if f.Topic != d.topic {
			fmt.Fprintf(d.out, "%s\n", f.Topic)
			d.topic = f.Topic
		}
		about := ""
		if !strings.Contains(f.Text, f.About) {
			about = f.About + ": "
		}
		fmt.Fprintf(d.out, "  %-8s %s%s\n", f.Level, about, f.Text)
		if f.Hint != "" {
			fmt.Fprintf(d.out, "           hint: %s\n", f.Hint)
		}
	}
}

func (d *doctor) conclude() error {
	fmt.Fprintf(d.out, "%d errors, %d warnings, %d unknown, %d ok\n", d.count[cert.Bad], d.count[cert.Doubtful], d.count[cert.Unknown], d.count[cert.Fine])
	if d.count[cert.Bad] > 0 {
		return errSaid
	}
	return nil
}

// broken is a finding about what failed.
func broken(topic, about string, err error) cert.Finding {
	return cert.Finding{Level: cert.Bad, Topic: topic, About: about, Text: err.Error(), Hint: hintOf(err)}
}

func (d *doctor) configuration(notices []config.Notice, err error) {
	const topic = "configuration"
	var mistakes config.Mistakes
	errors.As(err, &mistakes)
	for _, m := range mistakes {
		d.tell(cert.Finding{Level: cert.Bad, Topic: topic, Text: m.String()})
	}
	for _, n := range notices {
		if n.Level >= slog.LevelWarn {
			d.tell(cert.Finding{Level: cert.Doubtful, Topic: topic, About: n.Variable, Text: n.Text})
		}
	}
	if d.count[cert.Bad]+d.count[cert.Doubtful] == 0 {
		d.tell(cert.Finding{Topic: topic, Text: "no mistakes"})
	}
}

// meant are the certificates to be looked at: all that are kept, or those that a person names.
func (d *doctor) meant(names []string) ([]cert.Wish, error) {
	wishes, _ := d.plan()
	if len(names) == 0 {
		return wishes, nil
	}
	var meant []cert.Wish
	for _, name := range names {
		i := slices.IndexFunc(wishes, func(w cert.Wish) bool {
			return w.Lineage == name || slices.Contains(w.Spec.Names, strings.ToLower(name))
		})
		if i < 0 {
			return nil, &usageError{fmt.Sprintf("no certificate %s is kept", name), "`sidecert certificates` lists them"}
		}
		meant = append(meant, wishes[i])
	}
	return meant, nil
}

func (d *doctor) kept(wishes []cert.Wish) []cert.Kept {
	var kept []cert.Kept
	for _, w := range wishes {
		l, _ := d.store.Lineage(w.Lineage) // one that cannot be read is told by certificates
		kept = append(kept, cert.Kept{Spec: w.Spec, Lineage: l})
	}
	return kept
}

// certificates tells what ails of what is stored, as check does, and what is not kept.
func (d *doctor) certificates(names []string) {
	const topic = "certificates"
	now := d.in.now()
	rows, err := list(d.store, wishes(d.in, d.config), now)
	if err == nil && len(names) > 0 {
		rows, err = pick(rows, names)
	}
	if err != nil {
		d.tell(broken(topic, "", err))
		return
	}
	check := checker{d.config.ExpiryWarning, d.config.ExpiryCritical, now}
	levels := map[level]cert.Level{levelOK: cert.Fine, levelWarning: cert.Doubtful, levelCritical: cert.Bad, levelUnknown: cert.Unknown}
	for _, row := range rows {
		f := cert.Finding{Topic: topic, About: row.Name, Text: stateText(row, now), Hint: hintOf(row.err)}
		switch {
		case row.Configured || row.Adopted:
			f.Level = levels[check.row(row).level]
			if row.Failure != nil {
				f.Level, f.Hint = max(f.Level, cert.Doubtful), row.Failure.Hint
			}
			if f.Level == cert.Fine {
				f.Text = "expires " + when(row.NotAfter, now)
			}
		case row.err != nil:
			f.Level = cert.Bad
		default:
			f.Level, f.Hint = cert.Doubtful, "it is renewed by nobody here: name it in DOMAINS, or `sidecert delete "+row.Name+"` once no web server uses it"
		}
		d.tell(f)
	}
	plan, _ := d.plan()
	for _, w := range plan {
		for _, doubt := range w.Doubts {
			d.tell(cert.Finding{Level: cert.Doubtful, Topic: topic, About: w.Lineage, Text: doubt.Text, Hint: doubt.Hint})
		}
	}
}

// hooks sees that their programs are in this image.
func (d *doctor) hooks() {
	for _, h := range []struct {
		variable string
		words    []string
	}{{"PRE_HOOK", d.config.Hooks.Pre}, {"DEPLOY_HOOK", d.config.Hooks.Deploy}, {"POST_HOOK", d.config.Hooks.Post}} {
		if len(h.words) == 0 {
			continue
		}
		f := cert.Finding{Topic: "hooks", About: h.variable, Text: h.words[0] + " is there"}
		if _, err := exec.LookPath(h.words[0]); err != nil {
			f.Level, f.Text = cert.Bad, h.words[0]+" is not in this image, or cannot be run"
			f.Hint = "hooks run in the container of sidecert: build an image FROM one that has it, and COPY sidecert into that (README, \"Hooks\")"
		}
		d.tell(f)
	}
}

// cas looks at each CA once.
func (d *doctor) cas(ctx context.Context, wishes []cert.Wish) {
	byID := map[string]cert.CA{}
	for _, w := range wishes {
		byID[w.Spec.CA.ID()] = w.Spec.CA
	}
	for _, id := range slices.Sorted(maps.Keys(byID)) {
		d.tell(d.issuer.ExamineCA(ctx, byID[id])...)
	}
}

// together is how many names are looked at side by side.
const together = 8

// names looks at the challenge path, DNS and CAA of every name, and tells topic by topic.
func (d *doctor) names(ctx context.Context, wishes []cert.Wish) {
	type question struct {
		spec cert.Spec
		name string
	}
	var asked []question
	for _, w := range wishes {
		for _, name := range w.Spec.Names {
			asked = append(asked, question{w.Spec, name})
		}
	}
	answers := make([][]cert.Finding, len(asked))
	seats := make(chan struct{}, together)
	var all sync.WaitGroup
	for i, q := range asked {
		seats <- struct{}{}
		all.Go(func() {
			defer func() { <-seats }()
			answers[i] = d.issuer.Examine(ctx, q.spec, q.name)
		})
	}
	all.Wait()
	findings := slices.Concat(answers...)
	order := []string{"challenge path", "DNS", "CAA"}
	slices.SortStableFunc(findings, func(a, b cert.Finding) int { return slices.Index(order, a.Topic) - slices.Index(order, b.Topic) })
	d.tell(findings...)
}

// limits tells what is left of the CA's limits, as far as we have used them ourselves.
func (d *doctor) limits(wishes []cert.Wish) {
	const topic = "limits"
	now := d.in.now()
	for _, w := range wishes {
		l, _ := d.store.Lineage(w.Lineage)
		waits, err := waitsOf(d.store, w.Spec, l)
		if err != nil {
			d.tell(broken(topic, w.Lineage, err))
			continue
		}
		left := waits.Left(w.Spec.Names, now)
		f := cert.Finding{Topic: topic, About: w.Lineage, Text: left.String()}
		if left.Orders == 0 || left.Certificates == 0 || left.Failures == 0 {
			f.Level, f.Hint = cert.Doubtful, "find out why so many were made (`sidecert history "+w.Lineage+"`); it goes on by itself when the oldest is past"
		}
		if at, held := waits.Until(w.Spec.Names, now); at.After(now) {
			f.Level, f.Text = cert.Doubtful, fmt.Sprintf("nothing is ordered before %s: %s; %s", at.UTC().Format(time.RFC3339), held, f.Text)
		}
		d.tell(f)
	}
}
