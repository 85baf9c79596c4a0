package main

import (
	"fmt"
	"os"
	"os/signal"
	"strings"
	"syscall"
	"testing"
	"time"

	"golang.org/x/sys/unix"
)

// terminal returns both ends of one: that of a person, and that of a program.
func terminal(t *testing.T) (person, program *os.File) {
	t.Helper()
	person, err := os.OpenFile("/dev/ptmx", os.O_RDWR|syscall.O_NOCTTY, 0)
	if err != nil {
		t.Skipf("no terminal can be made: %v", err)
	}
	t.Cleanup(func() { person.Close() })
	if err := unix.IoctlSetPointerInt(int(person.Fd()), unix.TIOCSPTLCK, 0); err != nil {
		t.Fatal(err)
	}
	n, err := unix.IoctlGetInt(int(person.Fd()), unix.TIOCGPTN)
	if err != nil {
		t.Fatal(err)
	}
	program, err = os.OpenFile(fmt.Sprintf("/dev/pts/%d", n), os.O_RDWR|syscall.O_NOCTTY, 0)
	if err != nil {
		t.Skipf("no terminal can be made: %v", err)
	}
	t.Cleanup(func() { program.Close() })
	return person, program
}

// reply does something once a question was asked.
type reply func()

func (r reply) Write(p []byte) (int, error) {
	if strings.HasSuffix(string(p), "? [y/N] ") {
		r()
	}
	return len(p), nil
}

func TestQuestionIsAnsweredOrInterrupted(t *testing.T) {
	for _, row := range []struct {
		name, typed string
		want        error
	}{{"yes", "Yes \n", nil}, {"no", "n\n", errSaid}, {"nothing", "\n", errSaid}, {"end", "y\x04\x04", errSaid}, {"Ctrl-C", "", errSaid}} {
		t.Run(row.name, func(t *testing.T) {
			person, program := terminal(t)
			ctx, stop := signal.NotifyContext(t.Context(), os.Interrupt) // as main has it
			defer stop()
			asked := reply(func() {
				if row.typed != "" {
					person.WriteString(row.typed)
				} else if err := syscall.Kill(os.Getpid(), syscall.SIGINT); err != nil {
					t.Error(err)
				}
			})
			ended := make(chan error, 1)
			go func() { ended <- confirm(ctx, &invocation{stdin: program, stdout: asked}, false, "Delete it?") }()
			select {
			case got := <-ended:
				if got != row.want {
					t.Errorf("confirm() = %v, want %v", got, row.want)
				}
			case <-time.After(10 * time.Second):
				t.Error("the question does not end")
			}
		})
	}
}
