package main

import (
	"bufio"
	"context"
	"fmt"
	"io"
	"os"
	"slices"
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

// screen is what a stream can show. The zero value is a file or a pipe.
type screen struct {
	terminal bool
	columns  int // 0 for as many as there are
	colour   bool
}

func screenOf(stream any, environ []string) screen {
	if !isTerminal(stream) {
		return screen{}
	}
	s := screen{terminal: true}
	if size, err := unix.IoctlGetWinsize(int(stream.(*os.File).Fd()), unix.TIOCGWINSZ); err == nil {
		s.columns = int(size.Col)
	}
	value := func(name string) (value string) {
		for _, pair := range environ {
			if v, ok := strings.CutPrefix(pair, name+"="); ok {
				value = v
			}
		}
		return value
	}
	// "Command-line software which adds ANSI color to its output by default should check for a NO_COLOR environment variable that, when
	// present and not an empty string (regardless of its value), prevents the addition of ANSI color." no-color.org
	s.colour = value("NO_COLOR") == "" && value("TERM") != "dumb"
	return s
}

// table is rows of cells under their heads, aligned.
type table struct {
	head []string
	// spare are the columns that a narrow screen does without, the first one first.
	spare []string
	rows  [][]cell
}

// cell is a text and its colour, an SGR parameter.
type cell struct{ text, ink string }

func (t *table) row(cells ...cell) {
	for i := range cells {
		cells[i].text = oneLine(cells[i].text)
	}
	t.rows = append(t.rows, cells)
}

const (
	// maxLast is how many characters of the last column are shown where no screen has a width, minLast how many are shown on any.
	maxLast = 60
	minLast = 24
)

// write shows each row on one line: the last column has what the screen leaves it, and whether that was too little is returned.
func (t *table) write(w io.Writer, s screen) (cut bool, err error) {
	rows := [][]cell{nil}
	for _, head := range t.head {
		rows[0] = append(rows[0], cell{text: head})
	}
	rows = append(rows, t.rows...)
	last := len(t.head) - 1
	widths := make([]int, last)
	left := s.columns
	for i := range widths {
		for _, row := range rows {
			widths[i] = max(widths[i], utf8.RuneCountInString(row[i].text)+2)
		}
		left -= widths[i]
	}
	for _, head := range t.spare {
		if i := slices.Index(t.head, head); s.columns > 0 && left < minLast {
			left += widths[i]
			widths[i] = 0
		}
	}
	if left = max(left, minLast); s.columns == 0 {
		left = maxLast
	}
	var b strings.Builder
	for _, row := range rows {
		for i, c := range row {
			width := utf8.RuneCountInString(c.text)
			switch {
			case i == last && width > left:
				c.text = string([]rune(c.text)[:left-1]) + "…"
				cut = true
			case i < last && widths[i] == 0:
				continue
			}
			if s.colour && c.ink != "" {
				c.text = "\x1b[" + c.ink + "m" + c.text + "\x1b[0m"
			}
			b.WriteString(c.text)
			if i < last {
				b.WriteString(strings.Repeat(" ", widths[i]-width))
			}
		}
		b.WriteByte('\n')
	}
	_, err = io.WriteString(w, b.String())
	return cut, err
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
