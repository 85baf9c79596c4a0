package hook

import (
	"bytes"
	"fmt"
	"log/slog"
	"strings"
	"unicode"
	"unicode/utf8"
)

// The most that is logged of what a hook prints: lines, and bytes of each.
const (
	maxLines = 100
	maxLine  = 500
)

// output logs what a hook prints line by line, as it comes.
type output struct {
	log   *slog.Logger
	lines int
	line  []byte // the one that has not ended yet, maxLine bytes at most
	left  int    // bytes that were not logged
}

func (o *output) Write(p []byte) (int, error) {
	all := len(p)
	for len(p) > 0 {
		line, rest, ended := bytes.Cut(p, []byte("\n"))
		o.add(line)
		if ended {
			o.flush()
		}
		p = rest
	}
	return all, nil
}

func (o *output) add(text []byte) {
	fits := min(len(text), maxLine-len(o.line))
	if o.lines == maxLines {
		fits = 0
	}
	o.line = append(o.line, text[:fits]...)
	o.left += len(text) - fits
}

func (o *output) flush() {
	text := strings.TrimSpace(harmless(string(o.line), maxLine))
	o.line = o.line[:0]
	if text == "" {
		return
	}
	o.lines++
	o.log.Info("hook said", "output", text)
}

// end logs what is without a line's end, and how much was left out.
func (o *output) end() {
	o.flush()
	if o.left > 0 {
		o.log.Info("hook said", "output", fmt.Sprintf("(%d bytes more)", o.left))
	}
}

// harmless makes text of anybody's fit for a terminal: what cannot be printed is a question mark, and what is over the limit is cut.
func harmless(text string, limit int) string {
	text = text[:min(len(text), limit)]
	return strings.Map(func(r rune) rune {
		switch {
		case r == '\t', r == '\r':
			return ' '
		case r == utf8.RuneError || !unicode.IsPrint(r):
			return '?'
		}
		return r
	}, text)
}
