package main

import (
	"bufio"
	"fmt"
	"io"
	"os"
	"strings"

	"golang.org/x/sys/unix"
)

// isTerminal reports whether a person sits at the other end of a stream.
func isTerminal(stream any) bool {
	f, ok := stream.(*os.File)
	if !ok {
		return false
	}
	_, err := unix.IoctlGetTermios(int(f.Fd()), unix.TCGETS)
	return err == nil
}

// confirm asks a person for a yes. Without a terminal nobody can be asked, and --yes must have said it.
func confirm(in *invocation, yes bool, question string) error {
	if yes {
		return nil
	}
	if !isTerminal(in.stdin) {
		return &usageError{"there is no terminal to ask: " + question, "--yes answers it"}
	}
	fmt.Fprintf(in.stdout, "%s [y/N] ", question)
	line, err := bufio.NewReader(io.LimitReader(in.stdin, 100)).ReadString('\n')
	if word := strings.ToLower(strings.TrimSpace(line)); err == nil && (word == "y" || word == "yes") {
		return nil
	}
	fmt.Fprintln(in.stdout, "nothing was done")
	return errSaid
}
