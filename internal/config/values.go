package config

import (
	"errors"
	"fmt"
	"io/fs"
	"net/mail"
	"regexp"
	"slices"
	"strconv"
	"strings"
	"time"
	"unicode"

	"github.com/sidecert/sidecert/internal/cert"
)

var (
	apiVersion     = regexp.MustCompile(`^[0-9]{1,3}\.[0-9]{1,3}$`)
	composeProject = regexp.MustCompile(`^[a-z0-9][a-z0-9_-]{0,127}$`)
	profileName    = regexp.MustCompile(`^[A-Za-z0-9._-]{1,64}$`)
	span           = regexp.MustCompile(`^([0-9]+)([dhm])$`)
	octal          = regexp.MustCompile(`^[0-7]+$`)
)

func isOneOf(text string, values ...string) bool { return slices.Contains(values, text) }

// choice is one of a few words, in any case; the first is the default, for where another one is written.
func (p *parser) choice(variable, text string, values ...string) string {
	if word := strings.ToLower(text); isOneOf(word, values...) {
		return word
	}
	p.wrong(variable, text, "is none of its values; write %s", or(values))
	return values[0]
}

// or joins words as a sentence does: "a, b or c".
func or(values []string) string {
	last := len(values) - 1
	return strings.Join(values[:last], ", ") + " or " + values[last]
}

// boolean is the default where there is a mistake.
func (p *parser) boolean(variable, text string) bool {
	if !isTrue(text) && !isFalse(text) {
		p.wrong(variable, text, "is neither yes nor no; write true or false")
		text = defaultOf(variable)
	}
	return isTrue(text)
}

func isTrue(text string) bool  { return isOneOf(strings.ToLower(text), "1", "true", "yes", "on") }
func isFalse(text string) bool { return isOneOf(strings.ToLower(text), "0", "false", "no", "off") }

// maxSpan is longer than any certificate lives.
const maxSpan = 3650

// renewBefore is 0 for auto.
func (p *parser) renewBefore(variable, text string) time.Duration {
	if strings.EqualFold(text, "auto") {
		return 0
	}
	d, err := Duration(text)
	if err == nil && d == 0 {
		err = errors.New("would renew after the expiry; write e.g. 30d")
	}
	if err != nil {
		wrong := err.Error()
		if strings.Contains(wrong, "e.g.") {
			wrong += ", or auto"
		}
		p.wrong(variable, text, "%s", wrong)
	}
	return d
}

// expiry is a number of days, hours or minutes before expiry from which on a certificate is ailing.
func (p *parser) expiry(variable, text string) time.Duration {
	d, err := Duration(text)
	if err != nil {
		p.wrong(variable, text, "%v", err)
	}
	return d
}

// Duration reads "30d", "12h" or "90m". Its error goes on from the text, as a Mistake's does.
func Duration(text string) (time.Duration, error) {
	m := span.FindStringSubmatch(strings.ToLower(text))
	if m == nil {
		if _, err := strconv.ParseUint(text, 10, 64); err == nil {
			return 0, fmt.Errorf("has no unit; write %.10sd for days, or h for hours, m for minutes", text)
		}
		return 0, errors.New("is no duration; write e.g. 30d, 12h or 90m")
	}
	unit := map[string]time.Duration{"d": 24 * time.Hour, "h": time.Hour, "m": time.Minute}[m[2]]
	n, err := strconv.ParseInt(m[1], 10, 32)
	if err != nil || n > int64(maxSpan*24*time.Hour/unit) {
		return 0, fmt.Errorf("is longer than %d days, which no certificate lives; write e.g. 30d", maxSpan)
	}
	return time.Duration(n) * unit, nil
}

func (p *parser) keyType(variable, text string) cert.KeyType {
	kind := cert.KeyType(strings.ToLower(text))
	if slices.Contains(cert.KeyTypes, kind) {
		return kind
	}
	p.wrong(variable, text, "is no key type; write ec-256, ec-384, rsa-2048, rsa-3072 or rsa-4096")
	return ""
}

func (p *parser) profile(variable, text string) string {
	if text != "" && !profileName.MatchString(text) {
		p.wrong(variable, text, "is no profile; write e.g. classic, tlsserver or shortlived")
		return ""
	}
	return text
}

// email is a bare address: a CA takes no display name.
func (p *parser) email(text string) string {
	if text == "" {
		return ""
	}
	bare := text
	if len(text) > 7 && strings.EqualFold(text[:7], "mailto:") {
		bare = text[7:]
		p.mend("EMAIL", "mailto: was left out", bare)
	}
	address, err := mail.ParseAddress(bare)
	if err == nil && address.Address == bare && len(bare) <= 254 {
		return bare
	}
	if err == nil && address.Name != "" {
		p.wrong("EMAIL", text, "has more than the address; write %s", address.Address)
		return ""
	}
	p.wrong("EMAIL", text, "is not one address; write e.g. admin@example.org")
	return ""
}

// id is the number of a user or group.
func (p *parser) id(variable, text string, otherwise int) int {
	// The highest number stands for "unchanged" in chown(2).
	if n, err := strconv.ParseUint(text, 10, 32); err == nil && n < 1<<32-1 {
		return int(n)
	}
	p.wrong(variable, text, "is no number; write the one that `id` shows in the web container, e.g. 101")
	return otherwise
}

func (p *parser) mode(variable, text string) (fs.FileMode, bool) {
	if text == "" {
		return 0, false
	}
	n, err := strconv.ParseUint(text, 8, 32)
	if err != nil || !octal.MatchString(text) {
		p.wrong(variable, text, "is no octal mode; write e.g. %s", defaultOf(variable))
		return 0, false
	}
	if n > 0o777 {
		p.wrong(variable, text, "has more than the bits for owner, group and others; write e.g. %s", defaultOf(variable))
		return 0, false
	}
	return fs.FileMode(n), true
}

// filesPerms is 0 where nothing is set, or nothing right.
func (p *parser) filesPerms(text string) fs.FileMode {
	mode, ok := p.mode("FILES_PERMS", text)
	switch {
	case !ok:
		return 0
	case mode&0o007 != 0:
		p.wrong("FILES_PERMS", text, "gives private keys to everybody on the machine; write 640 and FILES_GID=GROUP, with the web container in that group")
		return 0
	case mode&0o600 != 0o600 || mode&0o111 != 0:
		p.wrong("FILES_PERMS", text, "is no mode for a file that its owner reads and writes; write 600 or 640")
		return 0
	}
	return mode
}

// foldersPerms is 0 where nothing is set, or nothing right.
func (p *parser) foldersPerms(text string) fs.FileMode {
	mode, ok := p.mode("FOLDERS_PERMS", text)
	switch {
	case !ok:
		return 0
	case mode&0o002 != 0:
		p.wrong("FOLDERS_PERMS", text, "lets everybody on the machine replace private keys; write 755, 750 or 700")
		return 0
	case mode&0o700 != 0o700:
		p.wrong("FOLDERS_PERMS", text, "shuts the owner out; write 755, 750 or 700")
		return 0
	}
	return mode
}

// Haproxy is the word of EXTRA_FILES for live/NAME/haproxy.pem.
const Haproxy = "haproxy"

// extraFiles are words with commas, newlines, semicolons or spaces between.
func (p *parser) extraFiles(text string) []string {
	var words []string
	for word := range strings.FieldsFuncSeq(text, func(r rune) bool { return r == ',' || r == ';' || unicode.IsSpace(r) }) {
		switch kind := strings.ToLower(word); {
		case kind != Haproxy:
			p.wrong("EXTRA_FILES", word, "is no extra file that sidecert makes; write haproxy, or leave it out")
		case slices.Contains(words, kind):
			p.mend("EXTRA_FILES", "words written twice were left out", word)
		default:
			words = append(words, kind)
		}
	}
	return words
}

// line is a text of one line with a bound, for what is compared or sent and follows no grammar.
func (p *parser) line(variable, text string) string {
	if strings.ContainsAny(text, "\n\t") || len(text) > 253 {
		p.wrong(variable, text, "is not one line of at most 253 bytes")
		return ""
	}
	return text
}
