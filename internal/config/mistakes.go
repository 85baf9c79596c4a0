package config

import (
	"fmt"
	"log/slog"
	"slices"
	"strings"
	"unicode/utf8"
)

// Mistake is a variable that cannot be right.
type Mistake struct {
	Variable string
	// Value is the part of the variable's value that is wrong, shortened; "[redacted]" of a secret, empty where none is set.
	Value string
	// Text says what is wrong and what would be right, as a sentence that goes on from Value.
	Text string
}

// String is a line that can be read alone.
func (m Mistake) String() string {
	switch m.Value {
	case "":
		return fmt.Sprintf("%s %s", m.Variable, m.Text)
	case redacted:
		return fmt.Sprintf("%s: %s %s", m.Variable, m.Value, m.Text)
	}
	return fmt.Sprintf("%s: %q %s", m.Variable, m.Value, m.Text)
}

// Mistakes are all that were found.
type Mistakes []Mistake

// Error has one line per mistake.
func (m Mistakes) Error() string {
	lines := make([]string, len(m))
	for i, mistake := range m {
		lines[i] = mistake.String()
	}
	return strings.Join(lines, "\n")
}

// Notice is something that a person should read but need not act on at once: INFO for what was put right, WARN for the rest.
type Notice struct {
	Level    slog.Level
	Variable string
	Text     string
}

const (
	redacted = "[redacted]"
	// maxShown is how many characters of a value are quoted, maxListed how many examples of what was put right, and maxMistakes
	// how many lines a person is given to read.
	maxShown    = 120
	maxListed   = 5
	maxMistakes = 100
)

// parser gathers what is to be said while the variables are read.
type parser struct {
	world World
	// adopting says that certbot has left something that is to be kept.
	adopting bool
	mistakes Mistakes
	warnings []Notice
	// mended is what was put right, in the order of its first example.
	mended   []mending
	examples map[mending][]string
}

// mending is one kind of thing put right in one variable.
type mending struct{ variable, kind string }

func (p *parser) wrong(variable, value, format string, args ...any) {
	p.mistakes = append(p.mistakes, Mistake{variable, shorten(value), fmt.Sprintf(format, args...)})
}

// missing is for a variable that should be set, unless a mistake says already why its value does not count.
func (p *parser) missing(variable, format string, args ...any) {
	if !slices.ContainsFunc(p.mistakes, func(m Mistake) bool { return m.Variable == variable }) {
		p.wrong(variable, "", format, args...)
	}
}

func (p *parser) warn(variable, format string, args ...any) {
	p.warnings = append(p.warnings, Notice{slog.LevelWarn, variable, fmt.Sprintf(format, args...)})
}

// mend notes that something was put right. All examples of one kind in one variable become one notice.
func (p *parser) mend(variable, kind, example string) {
	m := mending{variable, kind}
	if p.examples == nil {
		p.examples = map[mending][]string{}
	}
	if p.examples[m] == nil {
		p.mended = append(p.mended, m)
	}
	p.examples[m] = append(p.examples[m], shorten(example))
}

func (p *parser) allNotices() []Notice {
	var notices []Notice
	for _, m := range p.mended {
		notices = append(notices, Notice{slog.LevelInfo, m.variable, m.kind + list(p.examples[m])})
	}
	return append(notices, p.warnings...)
}

// list writes examples for the end of a sentence; a sole empty one says that the sentence needs none.
func list(examples []string) string {
	if examples[0] == "" {
		return ""
	}
	shown := examples[:min(len(examples), maxListed)]
	text := ": " + strings.Join(shown, ", ")
	if more := len(examples) - len(shown); more > 0 {
		text += fmt.Sprintf(" and %d more", more)
	}
	return text
}

func (p *parser) err() error {
	if len(p.mistakes) == 0 {
		return nil
	}
	if more := len(p.mistakes) - maxMistakes; more > 0 {
		return append(p.mistakes[:maxMistakes:maxMistakes], Mistake{Variable: "the environment", Text: fmt.Sprintf("holds %d more mistakes", more)})
	}
	return p.mistakes
}

func shorten(text string) string {
	text = strings.ToValidUTF8(text, "\uFFFD")
	if utf8.RuneCountInString(text) <= maxShown {
		return text
	}
	return string([]rune(text)[:maxShown]) + "…"
}
