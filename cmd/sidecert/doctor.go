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
	"time"

	"github.com/sidecert/sidecert/internal/cert"
	"github.com/sidecert/sidecert/internal/config"
	"github.com/sidecert/sidecert/internal/renewal"
)

var doctorCommand = command{
	name:  "doctor",
	short: "look at everything that can go wrong, and say what to do",
	help: `Example: docker compose exec sidecert sidecert doctor
         docker compose exec sidecert sidecert doctor shop.example.org

Looks at the configuration, the volumes, the Docker engine and the web containers, the CA and the clock, and at the challenge path, DNS
and CAA records of every name, or of the names of the certificates named; then at what is left of the CA's limits. It orders nothing and
tells no web container anything. Each line begins with ok, unknown, warning or error; what is not well comes with what to do. Of the names
it looks at as many as it can in two minutes. Exit status 1 if there is an error.

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
	c, notices, mistakes := config.Parse(in.environ, in.world)
	d := &doctor{in: in, out: in.stdout, problems: *only}
	if isTerminal(in.stderr) {
		d.progress = in.stderr
	}
	d.tell(d.configuration(notices, mistakes)...)
	stored := true
	if d.parts, err = build(in, c); err != nil {
		stored = false
		d.tell(notBuilt(c, err))
		if d.parts, err = outward(in, c, lost{err}); err != nil {
			return d.conclude()
		}
	}
	wishes, err := d.meant(names)
	if err != nil {
		return err
	}
	if len(wishes) == 0 && mistakes == nil {
		d.tell(cert.Finding{Level: cert.Doubtful, Topic: topicConfiguration, Text: renewal.NothingAsked, Hint: renewal.HintNothingAsked})
	}
	looks := []func(context.Context) []cert.Finding{
		func(context.Context) []cert.Finding { return d.labels() },
		func(context.Context) []cert.Finding { return d.store.Examine() },
		func(context.Context) []cert.Finding { return d.certificates(names) },
		func(ctx context.Context) []cert.Finding { return d.web.Examine(ctx, d.kept(wishes)) },
		func(context.Context) []cert.Finding { return d.hooks() },
		func(ctx context.Context) []cert.Finding { return d.cas(ctx, wishes) },
		func(ctx context.Context) []cert.Finding { return d.names(ctx, wishes) },
		func(context.Context) []cert.Finding { return d.limits(wishes) },
	}
	if !stored {
		looks = looks[3 : len(looks)-1]
	}
	for _, look := range looks {
		findings := look(ctx)
		if ctx.Err() != nil { // what was cut short says nothing
			return errors.New("interrupted")
		}
		d.tell(findings...)
	}
	return d.conclude()
}

// doctor tells findings as they come, and counts them.
type doctor struct {
	*parts
	in       *invocation
	out      io.Writer
	problems bool // only what is not well is told
	// progress is where a person sees how far it is; nil where nobody looks.
	progress io.Writer
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
		fmt.Fprintf(d.out, "  %-8s %s\n", f.Level, oneLine(about+f.Text))
		if f.Hint != "" {
			fmt.Fprintf(d.out, "           hint: %s\n", oneLine(f.Hint))
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

// notBuilt is a finding about what could not even be opened.
func notBuilt(c config.Config, err error) cert.Finding {
	e, _ := errors.AsType[*cert.Error](err)
	switch {
	case e != nil && e.Op == "open STATE_DIR":
		return broken("volume", c.StateDir, err)
	case e != nil && e.Op == "open CERT_DIR":
		return broken("volume", c.CertDir, err)
	}
	return broken("engine", c.Docker.Host, err)
}

// lost is a store that could not be opened: of whatever it is asked it says so.
type lost struct{ error }

func (l lost) Target(string) (cert.TargetState, error)       { return cert.TargetState{}, l.error }
func (l lost) SetTarget(string, cert.TargetState) error      { return l.error }
func (l lost) Targets() (map[string]cert.TargetState, error) { return nil, l.error }
func (l lost) ForgetTarget(string) error                     { return l.error }
func (l lost) Account(cert.CA) (cert.Account, error)         { return cert.Account{}, l.error }
func (l lost) SaveAccount(cert.CA, cert.Account) error       { return l.error }

// broken is a finding about what failed.
func broken(topic, about string, err error) cert.Finding {
	return cert.Finding{Level: cert.Bad, Topic: topic, About: about, Text: err.Error(), Hint: hintOf(err)}
}

const topicConfiguration = "configuration"

func (d *doctor) configuration(notices []config.Notice, err error) (all []cert.Finding) {
	var mistakes config.Mistakes
	errors.As(err, &mistakes)
	for _, m := range mistakes {
		all = append(all, cert.Finding{Level: cert.Bad, Topic: topicConfiguration, Text: m.String()})
	}
	for _, n := range notices {
		if n.Level >= slog.LevelWarn {
			all = append(all, cert.Finding{Level: cert.Doubtful, Topic: topicConfiguration, About: n.Variable, Text: n.Text})
		}
	}
	if len(all) == 0 {
		all = append(all, cert.Finding{Topic: topicConfiguration, Text: "no mistakes"})
	}
	return all
}

// labels are those of containers that do nothing, or not what they say.
func (d *doctor) labels() (all []cert.Finding) {
	labelled, err := d.store.Labelled()
	if err != nil {
		return []cert.Finding{broken("labels", "", err)}
	}
	_, doubts := wishes(d.in, d.config).With(labelled)
	for _, doubt := range doubts {
		all = append(all, cert.Finding{Level: cert.Doubtful, Topic: "labels", Text: doubt.Text, Hint: doubt.Hint})
	}
	return all
}

// meant are the certificates to be looked at: all that are kept, or those that a person names.
func (d *doctor) meant(names []string) ([]cert.Wish, error) {
	wishes, _ := wishes(d.in, d.config).Plan(nil)
	if d.store != nil {
		wishes, _ = d.plan()
	}
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
		l := cert.Lineage{Name: w.Lineage}
		if d.store != nil {
			l, _ = d.store.Lineage(w.Lineage) // one that cannot be read is told by certificates
		}
		kept = append(kept, cert.Kept{Spec: w.Spec, Lineage: l})
	}
	return kept
}

// certificates tells what ails of what is stored, as check does, and what is not kept.
func (d *doctor) certificates(names []string) (all []cert.Finding) {
	const topic = "certificates"
	now := d.in.now()
	rows, err := list(d.store, wishes(d.in, d.config), now)
	if err == nil && len(names) > 0 {
		rows, err = pick(rows, names)
	}
	if err != nil {
		return []cert.Finding{broken(topic, "", err)}
	}
	check := checker{d.config.ExpiryWarning, d.config.ExpiryCritical, now}
	levels := map[level]cert.Level{levelOK: cert.Fine, levelWarning: cert.Doubtful, levelCritical: cert.Bad, levelUnknown: cert.Unknown}
	for _, row := range rows {
		f := cert.Finding{Topic: topic, About: row.Name, Text: check.judgement(row).state, Hint: hintOf(row.err)}
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
		all = append(all, f)
	}
	plan, _ := d.plan()
	for _, w := range plan {
		for _, doubt := range w.Doubts {
			all = append(all, cert.Finding{Level: cert.Doubtful, Topic: topic, About: w.Lineage, Text: doubt.Text, Hint: doubt.Hint})
		}
	}
	return all
}

// hooks sees that their programs are in this image.
func (d *doctor) hooks() (all []cert.Finding) {
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
		all = append(all, f)
	}
	return all
}

// cas looks at each CA once.
func (d *doctor) cas(ctx context.Context, wishes []cert.Wish) (all []cert.Finding) {
	byID := map[string]cert.CA{}
	for _, w := range wishes {
		byID[w.Spec.CA.ID()] = w.Spec.CA
	}
	for _, id := range slices.Sorted(maps.Keys(byID)) {
		all = append(all, d.issuer.ExamineCA(ctx, byID[id])...)
	}
	return all
}

const (
	// together is how many names are looked at side by side.
	together = 8
	// namesLimit is for all names.
	namesLimit = 2 * time.Minute
)

// question is a name to be looked at.
type question struct {
	spec cert.Spec
	name string
}

// names looks at the challenge path, DNS and CAA of every name, and returns what it finds topic by topic.
func (d *doctor) names(ctx context.Context, wishes []cert.Wish) []cert.Finding {
	var asked []question
	for _, w := range wishes {
		for _, name := range w.Spec.Names {
			asked = append(asked, question{w.Spec, name})
		}
	}
	look := d.issuer.Look()
	findings := d.ask(ctx, asked, func(ctx context.Context, q question) []cert.Finding { return look.Examine(ctx, q.spec, q.name) })
	order := []string{"challenge path", "DNS", "CAA"}
	slices.SortStableFunc(findings, func(a, b cert.Finding) int { return slices.Index(order, a.Topic) - slices.Index(order, b.Topic) })
	return findings
}

// ask has questions answered, and says of how many there was no time for.
func (d *doctor) ask(ctx context.Context, asked []question, examine func(context.Context, question) []cert.Finding) []cert.Finding {
	ctx, cancel := context.WithTimeout(ctx, namesLimit)
	defer cancel()
	answers := make([][]cert.Finding, len(asked))
	looked := make(chan bool)
	seats := make(chan struct{}, together)
	for i, q := range asked {
		go func() {
			seats <- struct{}{}
			defer func() { <-seats }()
			var answer []cert.Finding
			if ctx.Err() == nil {
				answer = examine(ctx, q)
			}
			whole := ctx.Err() == nil
			if whole {
				answers[i] = answer
			}
			looked <- whole
		}()
	}
	within := 0
	for n := range asked {
		d.show("looking at the names: %d of %d", n, len(asked))
		if <-looked {
			within++
		}
	}
	d.show("")
	all := slices.Concat(answers...)
	if left := len(asked) - within; left > 0 {
		all = append(all, cert.Finding{Level: cert.Unknown, Topic: "challenge path",
			Text: fmt.Sprintf("%d of %d names could not be looked at within %v", left, len(asked), namesLimit),
			Hint: "name certificates to look at fewer: `sidecert doctor NAME…`"})
	}
	return all
}

// show tells a person how far it is, in a line that the next one replaces.
func (d *doctor) show(format string, args ...any) {
	if d.progress != nil {
		fmt.Fprintf(d.progress, "\r\x1b[K"+format, args...)
	}
}

// limits tells what is left of the CA's limits, as far as we have used them ourselves.
func (d *doctor) limits(wishes []cert.Wish) (all []cert.Finding) {
	const topic = "limits"
	now := d.in.now()
	for _, w := range wishes {
		l, _ := d.store.Lineage(w.Lineage)
		waits, err := waitsOf(d.store, w.Spec, l)
		if err != nil {
			all = append(all, broken(topic, w.Lineage, err))
			continue
		}
		left := waits.Left(w.Spec.Names, now)
		f := cert.Finding{Topic: topic, About: w.Lineage, Text: left.String()}
		if left.Orders == 0 || left.Certificates == 0 || left.Failures == 0 {
			f.Level, f.Hint = cert.Doubtful, "find out why so many were made (`sidecert history "+w.Lineage+"`); it goes on by itself when the oldest is past"
		}
		if at, held := waits.Until(w.Spec.Names, now); at.After(now) {
			f.Level, f.Text = cert.Doubtful, fmt.Sprintf("nothing is ordered before %s: %s; %s", stamp(at), held, f.Text)
		}
		all = append(all, f)
	}
	return all
}
