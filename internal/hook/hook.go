// Package hook runs the commands that people want run around renewals, with certbot's meaning. A command that fails is reported and
// changes nothing else. When something is due, and what was obtained, the caller knows.
package hook

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"log/slog"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"time"

	"github.com/sidecert/sidecert/internal/cert"
)

const (
	// defaultLimit is what a command gets where nobody said.
	defaultLimit = 5 * time.Minute
	// grace is what a command that is to end has between TERM and KILL. Docker gives us ten seconds to stop in, for a hook under way
	// and for those of Post after it.
	grace = 2 * time.Second
	// maxList is the most of RENEWED_DOMAINS and FAILED_DOMAINS in bytes: Linux starts no program with a variable of 128 KiB.
	maxList = 100_000
)

// The sorts of hooks, which are also the names of certbot's folders.
const (
	pre    = "pre"
	deploy = "deploy"
	post   = "post"
)

// Config is what a Runner works with.
type Config struct {
	// Pre, Deploy and Post are the environment's commands, split into words, which no shell sees; nil is none.
	Pre, Deploy, Post []string
	// Dir is CERT_DIR/renewal-hooks, with certbot's folders pre, deploy and post; empty where nothing of certbot's is adopted.
	Dir string
	// Environ is what commands inherit. Whoever fills it leaves out our own secrets.
	Environ []string
	// Limit is how long one command may run; 0 is five minutes.
	Limit time.Duration
	Log   *slog.Logger
}

// Runner runs hooks, one at a time.
type Runner struct {
	// running is held while a hook is under way, and while orphans are waited for.
	running sync.Mutex
	orphans sync.Once

	own     map[string][]string // the environment's, by sort
	dir     string
	environ []string
	limit   time.Duration
	grace   time.Duration
	shell   string
	log     *slog.Logger
	warned  map[string]bool // what cannot be run here and was said to be
}

// New returns a Runner. It touches nothing.
func New(c Config) *Runner {
	if c.Limit == 0 {
		c.Limit = defaultLimit
	}
	if c.Log == nil {
		c.Log = slog.New(slog.DiscardHandler)
	}
	return &Runner{
		own: map[string][]string{pre: c.Pre, deploy: c.Deploy, post: c.Post}, dir: c.Dir, environ: c.Environ,
		limit: c.Limit, grace: grace, shell: "/bin/sh", log: c.Log, warned: map[string]bool{},
	}
}

// Pre runs what is to be done before the first order of a pass. commands are the shell commands of the confs of what is due.
func (r *Runner) Pre(ctx context.Context, commands []string) {
	r.all(ctx, occasion{sort: pre, commands: commands, log: r.log})
}

// Deploy runs what is to be done after one certificate was obtained and stored.
func (r *Runner) Deploy(ctx context.Context, l cert.Lineage) {
	log := r.log.With(cert.AttrCert, l.Name)
	r.all(ctx, occasion{
		sort: deploy, commands: []string{l.Conf.Hooks.Deploy}, log: log,
		environ: []string{"RENEWED_LINEAGE=" + l.Dir, list(log, "RENEWED_DOMAINS", l.Names())},
	})
}

// Post runs what is to be done at the end of a pass that Pre was called in; commands are the shell commands of the same confs. What
// Pre has stopped stays stopped without it: it is to be called after an interrupted pass too, with a context that still lives.
func (r *Runner) Post(ctx context.Context, commands, renewed, failed []string) {
	r.all(ctx, occasion{
		sort: post, commands: commands, log: r.log,
		environ: []string{list(r.log, "RENEWED_DOMAINS", renewed), list(r.log, "FAILED_DOMAINS", failed)},
	})
}

// list writes names into a variable, as many as one can hold.
func list(log *slog.Logger, variable string, names []string) string {
	text := strings.Join(names, " ")
	if len(text) > maxList {
		text = text[:max(0, strings.LastIndex(text[:maxList+1], " "))]
		log.Warn("hooks get only some of the names", "variable", variable, "given", len(strings.Fields(text)), "all", len(names))
	}
	return variable + "=" + text
}

// occasion is what hooks are run for.
type occasion struct {
	sort     string
	commands []string // of confs
	environ  []string // what the hooks are told, beside what all inherit
	log      *slog.Logger
}

// command is one hook.
type command struct {
	// text is the whole command; two with the same text are one.
	text string
	// shown stands for it in the log.
	shown string
	// args are what is executed.
	args []string
	// shell says that args are for the shell, file that they are an executable of certbot's folders.
	shell, file bool
}

// all runs the hooks of an occasion, each distinct one once, in certbot's order: its folder's, the confs', then the environment's.
func (r *Runner) all(ctx context.Context, o occasion) {
	r.running.Lock()
	defer r.running.Unlock()
	commands := r.folder(o)
	for _, text := range o.commands {
		if text = strings.TrimSpace(text); text != "" {
			commands = append(commands, command{text: text, shown: program(text), args: []string{r.shell, "-c", text}, shell: true})
		}
	}
	if words := r.own[o.sort]; len(words) > 0 {
		commands = append(commands, command{text: strings.Join(words, " "), shown: program(words[0]), args: words})
	}
	done := map[string]bool{}
	for _, c := range commands {
		if !done[c.text] {
			done[c.text] = true
			r.one(ctx, o, c)
		}
	}
}

// folder returns the executables of certbot's folder in the order of their names. As with certbot, what an editor has left behind is
// not among them.
func (r *Runner) folder(o occasion) []command {
	if r.dir == "" {
		return nil
	}
	dir := filepath.Join(r.dir, o.sort)
	entries, err := os.ReadDir(dir)
	if err != nil && !errors.Is(err, fs.ErrNotExist) {
		o.log.Warn("hooks not found", "hook", o.sort, cert.AttrErr, err)
	}
	var all []command
	for _, e := range entries {
		path := filepath.Join(dir, e.Name())
		info, err := os.Stat(path) // of what a link leads to
		if err != nil || !info.Mode().IsRegular() || info.Mode().Perm()&0o111 == 0 || strings.HasSuffix(path, "~") {
			continue
		}
		all = append(all, command{text: path, shown: harmless(path, maxShown), args: []string{path}, file: true})
	}
	return all
}

// one runs a hook and says what came of it.
func (r *Runner) one(ctx context.Context, o occasion, c command) {
	log := o.log.With("hook", o.sort, "command", c.shown)
	if c.shell && !r.hasShell() {
		r.impossible(log, c, fmt.Errorf("there is no %s to run it", r.shell))
		return
	}
	start := time.Now()
	err := r.run(ctx, c.args, o.environ, log)
	if c.file && errors.Is(err, errNoFormat) && r.hasShell() {
		err = r.run(ctx, []string{r.shell, c.text}, o.environ, log) // a script that names no interpreter is the shell's
	}
	elapsed := time.Since(start).Round(time.Millisecond)
	switch {
	case err == nil:
		log.Info("hook ran", cert.AttrElapsed, elapsed)
	case c.file && (errors.Is(err, fs.ErrNotExist) || errors.Is(err, errNoFormat)):
		r.impossible(log, c, errors.New("its interpreter is not there"))
	default:
		log.Warn("hook failed", cert.AttrElapsed, elapsed, cert.AttrErr, err, cert.AttrHint, hintOf(err))
	}
}

func (r *Runner) hasShell() bool {
	_, err := os.Stat(r.shell)
	return err == nil
}

// hintNoShell is for an image that has nothing but sidecert in it, as ours.
const hintNoShell = "the image has no shell and no interpreters: RELOAD tells web containers without any, DEPLOY_HOOK runs a program, " +
	"and an image with a shell is made by a Dockerfile of three lines, which the README shows"

// impossible says once in this process that a hook cannot be run here.
func (r *Runner) impossible(log *slog.Logger, c command, err error) {
	if r.warned[c.text] {
		return
	}
	r.warned[c.text] = true
	log.Warn("hook not run", cert.AttrErr, err, cert.AttrHint, hintNoShell)
}

func hintOf(err error) string {
	switch {
	case errors.Is(err, fs.ErrNotExist):
		return "a hook runs in the sidecert container, and what it needs must be in the image"
	case errors.Is(err, fs.ErrPermission):
		return "make the file executable for the user that sidecert runs as, and see that its volume is not mounted noexec"
	}
	return ""
}

// maxShown is the most of a command in a log, in bytes.
const maxShown = 100

// program is what a log shows of a command: its first word. The rest may hold secrets, and so may a variable before the program.
func program(text string) string {
	words := strings.Fields(text)
	if len(words) == 0 || slices.ContainsFunc([]string{"=", "$", "`"}, func(s string) bool { return strings.Contains(words[0], s) }) {
		return "(not shown)"
	}
	return harmless(words[0], maxShown)
}
