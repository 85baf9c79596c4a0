package report

import (
	"fmt"
	"strings"
	"time"
	"unicode"

	"github.com/sidecert/sidecert/internal/cert"
)

// maxTold is how many conditions a message tells of in full, and maxMessage how long it is, in bytes.
const (
	maxTold    = 5
	maxMessage = 3 << 10
)

const titleEnd = "sidecert: well again"

// begun composes the message that conditions stand which did not.
func begun(now time.Time) func([]Told) Message {
	return func(all []Told) Message {
		return compose("sidecert: ", all, func(t Told) string { return t.tell(now) })
	}
}

// reminding composes the message that they still stand.
func reminding(now time.Time) func([]Told) Message {
	return func(all []Told) Message {
		return compose("sidecert: still: ", all, func(t Told) string { return t.tell(now) })
	}
}

// ended composes the message that they stand no more.
func ended(renewed []cert.Renewed) func([]Told) Message {
	return func(all []Told) Message {
		return compose(titleEnd+": ", all, func(t Told) string {
			for _, r := range renewed {
				if r.Cert == t.Cert && t.Kind == cert.ConditionFailing {
					return fmt.Sprintf("%s is renewed: the new certificate is valid until %s.", t.Cert, Minute(r.NotAfter))
				}
			}
			return t.over() + "."
		})
	}
}

func renewed(all []cert.Renewed) Message {
	var lines []string
	for _, r := range all {
		lines = append(lines, fmt.Sprintf("%s: a new certificate is stored, valid until %s.", r.Cert, Minute(r.NotAfter)))
	}
	title := "sidecert: renewed: " + all[0].Cert
	if more := len(all) - 1; more > 0 {
		title += fmt.Sprintf(" and %d more", more)
	}
	return Message{title, cut(joined(lines, "\n"), maxMessage)}
}

func compose(prefix string, all []Told, tell func(Told) string) Message {
	all = byUrgency(all)
	title := prefix + all[0].what()
	if strings.HasPrefix(prefix, titleEnd) {
		title = prefix + all[0].whose()
	}
	if more := len(all) - 1; more > 0 {
		title += fmt.Sprintf(" (and %d more)", more)
	}
	var parts []string
	for _, t := range all {
		parts = append(parts, tell(t))
	}
	return Message{cut(title, 150), cut(joined(parts, "\n\n"), maxMessage)}
}

// joined are the first few of many.
func joined(parts []string, between string) string {
	if more := len(parts) - maxTold; more > 1 {
		parts = append(parts[:maxTold:maxTold], fmt.Sprintf("And %d more: `docker compose exec sidecert sidecert certificates` lists them.", more))
	}
	return strings.Join(parts, between)
}

// tell says what, which name, since when, until when it still works, why, and what to do.
func (t Told) tell(now time.Time) string {
	var b strings.Builder
	line := func(format string, args ...any) { fmt.Fprintf(&b, format+"\n", args...) }
	b.WriteString(t.what())
	if others := t.others(); others != "" {
		fmt.Fprintf(&b, " (also for %s)", others)
	}
	line(", since %s.", Minute(t.Since))
	switch left := t.Until.Sub(now); {
	case t.Kind == cert.ConditionMistakes || t.Kind == cert.ConditionNoEngine:
		line("Web servers go on with the certificates that they have.")
	case t.Until.IsZero() && t.Kind == cert.ConditionFailing:
		line("There is no certificate that works.")
	case t.Until.IsZero():
	case left <= 0:
		line("The certificate that is served has EXPIRED at %s. This is the last reminder.", Minute(t.Until))
	default:
		line("What is served works until %s, for %s.", Minute(t.Until), spanWords(left))
	}
	if t.Err != "" {
		line("Why: %s", t.Err)
	}
	if t.Hint != "" {
		line("What to do: %s", t.Hint)
	}
	if t.Next.After(now) {
		line("Next try: %s.", Minute(t.Next))
	}
	if t.Kind != cert.ConditionMistakes {
		line("More: docker compose exec sidecert sidecert doctor")
	}
	return strings.TrimSuffix(b.String(), "\n")
}

// what is a condition as a clause.
func (t Told) what() string {
	switch t.Kind {
	case cert.ConditionFailing:
		if t.Until.IsZero() {
			return t.Cert + " gets no certificate"
		}
		if t.Extends {
			return t.Cert + " does not get the names that it is to have"
		}
		return t.Cert + " is not renewed"
	case cert.ConditionExpiring:
		return t.Cert + " nears its expiry and is not renewed"
	case cert.ConditionStale:
		return t.Container + " still serves an old certificate of " + t.Cert
	case cert.ConditionUnverified:
		return "nobody is seen to serve the new certificate of " + t.Cert
	case cert.ConditionUnkept:
		return t.Cert + " is configured no more, so that it is not renewed, and " + t.Container + " still serves it"
	case cert.ConditionNoEngine:
		return "the web containers cannot be reached, so that none is reloaded"
	case cert.ConditionMistakes:
		return "the configuration has mistakes, and no certificate is kept"
	}
	return strings.TrimSpace(t.Cert + " " + string(t.Kind))
}

// over is what has become of it where nothing more is known than that it is no more.
func (t Told) over() string {
	switch t.Kind {
	case cert.ConditionFailing, cert.ConditionExpiring:
		return t.Cert + " waits for no renewal any more"
	case cert.ConditionStale:
		return t.Container + " serves no old certificate of " + t.Cert + " any more"
	case cert.ConditionUnverified:
		return "the certificate of " + t.Cert + " is seen to be served"
	case cert.ConditionUnkept:
		return t.Cert + " is kept again, or served no more"
	case cert.ConditionNoEngine:
		return "the web containers can be reached again"
	case cert.ConditionMistakes:
		return "the configuration is right, and certificates are kept"
	}
	return t.whose()
}

func (t Told) whose() string {
	switch t.Kind {
	case cert.ConditionNoEngine:
		return "web containers"
	case cert.ConditionMistakes:
		return "configuration"
	}
	return t.Cert
}

// others are the names of the certificate but that by which it goes.
func (t Told) others() string {
	var names []string
	for _, name := range t.Names {
		if name != t.Cert {
			names = append(names, name)
		}
	}
	if len(t.Names) == maxNames {
		names = append(names, "...")
	}
	return strings.Join(names, ", ")
}

// cut makes a text one of at most so many characters, without those that control a terminal or end a header.
func cut(text string, most int) string {
	text = strings.Map(func(r rune) rune {
		if unicode.IsControl(r) && r != '\n' {
			return ' '
		}
		return r
	}, strings.ToValidUTF8(text, "?"))
	if runes := []rune(text); len(runes) > most {
		return string(runes[:most-1]) + "…"
	}
	return text
}
