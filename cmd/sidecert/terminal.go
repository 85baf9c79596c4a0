package main

import (
	"bufio"
	"context"
	"fmt"
	"io"
	"os"
	"strings"
	"text/tabwriter"
	"unicode"
	"unicode/utf8"

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

// details are lines of a key and a value, aligned; an empty value is left out.
type details struct{ *tabwriter.Writer }

func newDetails(w io.Writer) details { return details{tabwriter.NewWriter(w, 0, 0, 2, ' ', 0)} }

func (d details) line(key, value string) {
	if value != "" {
		fmt.Fprintf(d, "%s\t%s\n", oneLine(key), oneLine(value))
	}
}

// confirm asks a person for a yes. Without a terminal nobody can be asked, and --yes must have said it.
func confirm(ctx context.Context, in *invocation, yes bool, question string) error {
	if yes {
		return nil
	}
	if !isTerminal(in.stdin) {
		return &usageError{"there is no terminal to ask: " + question, "--yes answers it"}
	}
	fmt.Fprintf(in.stdout, "%s [y/N] ", question)
	said := make(chan string, 1) // whoever interrupts leaves the terminal being read
	go func() {
		line, err := bufio.NewReader(io.LimitReader(in.stdin, 100)).ReadString('\n')
		if err != nil {
			line = "" // half a word is none
		}
		said <- strings.ToLower(strings.TrimSpace(line))
	}()
	select {
	case <-ctx.Done():
		fmt.Fprintln(in.stdout)
	case word := <-said:
		if word == "y" || word == "yes" {
			return nil
		}
	}
	fmt.Fprintln(in.stdout, "nothing was done")
	return errSaid
}

// oneLine makes text of anybody's fit for a terminal and for one line: what cannot be printed is a space, and so are ends of lines.
func oneLine(text string) string {
	text = strings.Map(func(r rune) rune {
		if r == utf8.RuneError || !unicode.IsPrint(r) {
			return ' '
		}
		return r
	}, text)
	return strings.Join(strings.Fields(text), " ")
}
