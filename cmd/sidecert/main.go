// Command sidecert keeps HTTPS certificates for the web containers of a Docker Compose project.
package main

import (
	"context"
	"errors"
	"flag"
	"fmt"
	"io"
	"io/fs"
	"os"
	"os/signal"
	"slices"
	"strings"
	"syscall"
	"time"

	"github.com/sidecert/sidecert/internal/cert"
	"github.com/sidecert/sidecert/internal/config"
	"github.com/sidecert/sidecert/internal/report"
)

// The exit statuses.
const (
	exitDone   = 0
	exitFailed = 1
	exitUsage  = 2 // wrong usage or configuration
)

func main() {
	ctx, stop := signal.NotifyContext(context.Background(), syscall.SIGTERM, syscall.SIGINT)
	// A second signal ends the process at once.
	context.AfterFunc(ctx, stop)
	world := config.HostWorld()
	world.Receiver = report.CheckURL
	os.Exit(run(ctx, &invocation{
		args: os.Args[1:], environ: os.Environ(), stdin: os.Stdin, stdout: os.Stdout, stderr: os.Stderr,
		world: world, now: time.Now,
	}))
}

// invocation is what a command gets from outside.
type invocation struct {
	args           []string
	environ        []string
	stdin          io.Reader
	stdout, stderr io.Writer
	world          config.World
	now            func() time.Time
}

// command is one subcommand. Its help begins with an example.
type command struct {
	name, short, help string
	run               func(ctx context.Context, in *invocation, flags *flag.FlagSet) error
}

// commands in the order in which help lists them. A function, for help lists itself.
func commands() []command {
	return []command{
		runCommand, certificatesCommand, renewCommand, doctorCommand, historyCommand, checkCommand,
		revokeCommand, deleteCommand, accountCommand, notifyCommand, healthcheckCommand, socketProxyCommand, versionCommand, helpCommand,
	}
}

// usageError is a mistake in the command line.
type usageError struct{ msg, hint string }

func (e *usageError) Error() string { return e.msg }

func run(ctx context.Context, in *invocation) int {
	err := dispatch(ctx, in)
	if err == nil {
		return exitDone
	}
	if status, ok := errors.AsType[exitStatus](err); ok {
		return int(status)
	}
	var mistakes config.Mistakes
	if errors.As(err, &mistakes) {
		for _, m := range mistakes {
			fmt.Fprintf(in.stderr, "sidecert: error: %s\n", m)
		}
		fmt.Fprintln(in.stderr, "sidecert: hint: nothing was asked of a CA; put the environment right and start again")
		return exitUsage
	}
	if usage, ok := errors.AsType[*usageError](err); ok {
		fmt.Fprintf(in.stderr, "sidecert: error: %s\nsidecert: hint: %s\n", usage.msg, usage.hint)
		return exitUsage
	}
	if !errors.Is(err, errSaid) {
		fmt.Fprintf(in.stderr, "sidecert: error: %v\n", err)
	}
	if hint := hintOf(err); hint != "" {
		fmt.Fprintf(in.stderr, "sidecert: hint: %s\n", hint)
	}
	return exitFailed
}

func hintOf(err error) string {
	if e, ok := errors.AsType[*cert.Error](err); ok {
		return e.Hint
	}
	if e, ok := errors.AsType[*hinted](err); ok {
		return e.hint
	}
	if errors.Is(err, fs.ErrPermission) {
		return fmt.Sprintf("this process is user %d and may not: run it as the user of the daemon; whose the volumes must be, and how they become so, tells the README at \"A web server that is not root?\"", os.Getuid())
	}
	return ""
}

// exitStatus is the end of a command that has said all itself.
type exitStatus int

func (s exitStatus) Error() string { return fmt.Sprintf("exit status %d", int(s)) }

// errSaid is a failure that the command's output has told already.
var errSaid = errors.New("failed")

func dispatch(ctx context.Context, in *invocation) error {
	if len(in.args) == 0 {
		return &usageError{"no command", "`sidecert help` lists the commands; the daemon is `sidecert run`"}
	}
	name := in.args[0]
	switch name {
	case "--help", "-h":
		name = helpCommand.name
	case "--version":
		name = versionCommand.name
	}
	i := slices.IndexFunc(commands(), func(c command) bool { return c.name == name })
	if i < 0 {
		return &usageError{fmt.Sprintf("unknown command %q", name), "`sidecert help` lists the commands"}
	}
	c := commands()[i]
	flags := flag.NewFlagSet(c.name, flag.ContinueOnError)
	flags.SetOutput(io.Discard)
	in = &invocation{in.args[1:], in.environ, in.stdin, in.stdout, in.stderr, in.world, in.now}
	err := c.run(ctx, in, flags)
	if errors.Is(err, flag.ErrHelp) {
		fmt.Fprint(in.stdout, c.help)
		return nil
	}
	return err
}

// parse reads flags wherever they stand among the arguments and returns the others.
func parse(in *invocation, flags *flag.FlagSet) ([]string, error) {
	var words []string
	for args := in.args; ; {
		if err := flags.Parse(args); errors.Is(err, flag.ErrHelp) {
			return nil, err
		} else if err != nil {
			return nil, &usageError{err.Error(), fmt.Sprintf("see `sidecert help %s`", flags.Name())}
		}
		args = flags.Args()
		if len(args) == 0 {
			return words, nil
		}
		words, args = append(words, args[0]), args[1:]
	}
}

// noArguments is parse for a command that takes none.
func noArguments(in *invocation, flags *flag.FlagSet) error {
	words, err := parse(in, flags)
	if err == nil && len(words) > 0 {
		err = &usageError{fmt.Sprintf("%s takes no argument: %q", flags.Name(), words[0]), fmt.Sprintf("see `sidecert help %s`", flags.Name())}
	}
	return err
}

var helpCommand = command{
	name:  "help",
	short: "say what a command does",
	help:  "Example: sidecert help renew\n\nWithout a command it lists them all.\n",
}

func init() { helpCommand.run = runHelp } // breaks the circle of help listing itself

func runHelp(_ context.Context, in *invocation, flags *flag.FlagSet) error {
	words, err := parse(in, flags)
	if err != nil {
		return err
	}
	if len(words) > 0 {
		for _, c := range commands() {
			if c.name == words[0] {
				fmt.Fprint(in.stdout, c.help)
				return nil
			}
		}
		return &usageError{fmt.Sprintf("unknown command %q", words[0]), "`sidecert help` lists the commands"}
	}
	var b strings.Builder
	b.WriteString("Example: docker compose exec sidecert sidecert certificates\n\nsidecert keeps HTTPS certificates for the web containers of a Docker Compose project.\nIt is configured by environment variables; the README lists them.\n\n")
	for _, c := range commands() {
		fmt.Fprintf(&b, "  %-14s%s\n", c.name, c.short)
	}
	b.WriteString("\n`sidecert help COMMAND` says more of one. Exit status: 0 done, 1 failed, 2 wrong usage or configuration.\n")
	fmt.Fprint(in.stdout, b.String())
	return nil
}
