package reload

import (
	"context"
	"strings"
	"time"
	"unicode"

	"github.com/sidecert/sidecert/internal/cert"
)

// maxSaid is how much of a server's words is shown, in characters: the end of them, where the reason stands.
const maxSaid = 300

// said puts what a server printed into one line that goes on from an error; "" where it said nothing.
func said(output string) string {
	line := strings.Join(strings.Fields(strings.Map(printable, strings.ToValidUTF8(output, "?"))), " ")
	if line == "" {
		return ""
	}
	if all := []rune(line); len(all) > maxSaid {
		line = "…" + string(all[len(all)-maxSaid:])
	}
	return ": " + line
}

// printable makes a space of what could change the look of a terminal.
func printable(r rune) rune {
	if unicode.IsControl(r) || !unicode.IsPrint(r) && r != '\n' {
		return ' '
	}
	return r
}

// complaint is why a server that was told goes on with the old certificate, in its own words: those of a test of its configuration, else
// what it has logged since it was told. "" where neither says anything, or may be asked for.
func (r *Reloader) complaint(ctx context.Context, f found, since time.Time) string {
	if f.blind {
		return ""
	}
	if test := serverIn(f.Container).test; test != nil {
		if possible, err := r.exec(ctx, f, test); possible {
			if err != nil {
				return err.Error()
			}
			return ""
		}
	}
	return strings.TrimPrefix(said(r.logged(ctx, f, since)), ": ")
}

// grave are marks of a line by which a server says that something failed.
var grave = []string{"[emerg]", "[alert]", "[crit]", "[error]", "[ALERT]", "[WARNING]", ":error]", ":emerg]", ":alert]", ":crit]", "AH0", "rror"}

// logged are the grave lines of a container's log since a time. The engine's clock may be a little behind ours.
func (r *Reloader) logged(ctx context.Context, f found, since time.Time) string {
	log, err := r.engine.Logs(ctx, f.ref(), since.Add(-time.Second))
	if err != nil {
		r.log.Debug("log of a container not read", cert.AttrContainer, f.Name, cert.AttrErr, err)
		return ""
	}
	var out []string
	for line := range strings.Lines(log) {
		for _, mark := range grave {
			if strings.Contains(line, mark) {
				out = append(out, line)
				break
			}
		}
	}
	return strings.Join(out, " ")
}
