package hook

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"log/slog"
	"os"
	"os/exec"
	"syscall"
	"time"
)

// errNoFormat: the file is neither a program nor a script that names its interpreter.
var errNoFormat error = syscall.ENOEXEC

// run executes a program, logs what it prints, and ends it with all that it has started when the limit or ctx is over. A program
// that leaves something running in the background has ended; nobody listens to that any more then.
func (r *Runner) run(ctx context.Context, args, environ []string, log *slog.Logger) error {
	ctx, cancel := context.WithTimeoutCause(ctx, r.limit, fmt.Errorf("it was ended since it took longer than %v", r.limit))
	defer cancel()
	said := &output{log: log}
	cmd := exec.CommandContext(ctx, args[0], args[1:]...)
	cmd.Env = append(append([]string{}, r.environ...), environ...) // never nil, which would be all of our own
	cmd.Stdout, cmd.Stderr = said, said
	cmd.SysProcAttr = &syscall.SysProcAttr{Setpgid: true}
	cmd.Cancel = func() error {
		if syscall.Kill(-cmd.Process.Pid, syscall.SIGTERM) != nil {
			return os.ErrProcessDone
		}
		return nil
	}
	cmd.WaitDelay = r.grace
	if err := cmd.Start(); err != nil {
		return bare(ctx, err)
	}
	err := cmd.Wait()
	said.end()
	if ctx.Err() != nil {
		r.end(cmd.Process.Pid)
	}
	r.reap()
	if errors.Is(err, exec.ErrWaitDelay) && ctx.Err() == nil {
		return nil
	}
	return bare(ctx, err)
}

// end sees that nothing of a process group is left: the first process may have heeded TERM and its children not.
func (r *Runner) end(group int) {
	if gone(group, r.grace) {
		return
	}
	syscall.Kill(-group, syscall.SIGKILL)
	gone(group, time.Second) // the kernel needs a moment
}

// gone reports whether a process group ends within limit. As the first process of a container we are given the orphans, and
// whoever is not waited for stays in the group for ever.
func gone(group int, limit time.Duration) bool {
	for until := time.Now().Add(limit); ; time.Sleep(10 * time.Millisecond) {
		for pid := 1; pid > 0; {
			pid, _ = syscall.Wait4(-group, nil, syscall.WNOHANG, nil)
		}
		if errors.Is(syscall.Kill(-group, 0), syscall.ESRCH) {
			return true
		}
		if time.Now().After(until) {
			return false
		}
	}
}

// bare leaves out of an error what the command was, since it may hold secrets.
func bare(ctx context.Context, err error) error {
	if err == nil {
		return nil
	}
	if ctx.Err() == context.Canceled {
		return errors.New("it was ended since sidecert stops")
	}
	if ctx.Err() != nil {
		return context.Cause(ctx)
	}
	if e, ok := errors.AsType[*exec.Error](err); ok {
		if errors.Is(e.Err, exec.ErrNotFound) {
			return fmt.Errorf("there is no such program: %w", fs.ErrNotExist)
		}
		return e.Err
	}
	if e, ok := errors.AsType[*fs.PathError](err); ok {
		return e.Err
	}
	return err
}
