package config

import (
	"fmt"
	"maps"
	"regexp"
	"slices"
	"strconv"
	"strings"
	"unicode"
	"unicode/utf8"
)

const (
	// maxValue is how long a value may be, in bytes; Linux allows 128 KiB.
	maxValue = 64 << 10
	// maxCerts is how many certificates there may be. Certificate managers of whole hosting companies stay below.
	maxCerts = 1000

	byteOrderMark = "\uFEFF"
)

// certVariable is any name that can only be meant for one certificate.
var certVariable = regexp.MustCompile(`^CERT_([0-9]+)_(.+)$`)

// read takes the variables that are ours out of the environment and answers those that nearly are.
func (p *parser) read(environ []string) vars {
	all := names(environ)
	ours := vocabulary()
	texts := p.texts(all, ours)
	p.answer(all, ours)

	var v vars
	numbers := p.numbers(texts)
	fill(&v, dense(texts, numbers))
	for i, number := range numbers {
		v.Certs[i].number = number
	}
	return v
}

// texts are the values, cleaned, of the variables that are ours and set.
func (p *parser) texts(all map[string]string, ours words) map[string]string {
	texts := map[string]string{}
	for _, name := range slices.Sorted(maps.Keys(all)) {
		bare := strings.TrimPrefix(name, byteOrderMark)
		if bare != name && all[bare] == "" && ours.has(bare) {
			p.mend(bare, "a byte order mark before it was left out", "")
			texts[bare] = p.clean(bare, all[name])
		}
		if ours.has(name) {
			texts[name] = p.clean(name, all[name])
		}
	}
	maps.DeleteFunc(texts, func(_, text string) bool { return text == "" })
	return texts
}

// names splits an environment into names and values. As with os.Getenv, the first of two counts.
func names(environ []string) map[string]string {
	all := make(map[string]string, len(environ))
	for _, entry := range environ {
		name, value, _ := strings.Cut(entry, "=")
		if _, seen := all[name]; !seen && name != "" {
			all[name] = value
		}
	}
	return all
}

// clean takes from a value what editors, Windows and env files add to it. A value that nothing can be done with counts as
// unset.
func (p *parser) clean(name, value string) string {
	shown := value
	if hidden(name) {
		shown = redacted
	}
	if len(value) > maxValue {
		p.wrong(name, shown, "is %d bytes long; %d are the most", len(value), maxValue)
		return ""
	}
	if !utf8.ValidString(value) {
		p.wrong(name, shown, "is not UTF-8; save the file that it comes from as UTF-8")
		return ""
	}
	if i := strings.IndexFunc(value, control); i >= 0 {
		r, _ := utf8.DecodeRuneInString(value[i:])
		p.wrong(name, shown, "holds the control character %U; leave it out", r)
		return ""
	}
	text := strings.TrimPrefix(value, byteOrderMark)
	if text != value {
		p.mend(name, "a byte order mark was left out", "")
	}
	if strings.Contains(text, "\r") {
		p.mend(name, "line ends of Windows (CR LF) were put right", "")
		text = strings.ReplaceAll(text, "\r", "\n")
	}
	text = strings.TrimSpace(text)
	if bare, ok := unquote(text); ok {
		p.mend(name, "quotes around the whole value were left out, which env files and lists in YAML keep", "")
		text = strings.TrimSpace(bare)
	}
	return text
}

func control(r rune) bool { return unicode.IsControl(r) && !strings.ContainsRune("\t\n\r", r) }

// unquote strips a pair of quotes that encloses a whole text.
func unquote(text string) (string, bool) {
	for _, quote := range []string{`"`, `'`} {
		bare, opened := strings.CutPrefix(text, quote)
		bare, closed := strings.CutSuffix(bare, quote)
		if opened && closed && !strings.Contains(bare, quote) {
			return bare, true
		}
	}
	return text, false
}

// numbers are the n of all CERT_n_ that are set, ascending.
func (p *parser) numbers(texts map[string]string) []int {
	withNumber := map[int]string{}
	for _, name := range slices.Sorted(maps.Keys(texts)) {
		m := certVariable.FindStringSubmatch(name)
		if m == nil {
			continue
		}
		number, err := strconv.Atoi(m[1])
		if err != nil || number >= maxCerts {
			p.wrong(name, "", "has too high a number; %d certificates are the most", maxCerts)
			continue
		}
		withNumber[number] = name
	}
	numbers := slices.Sorted(maps.Keys(withNumber))
	next := 0
	for _, number := range numbers {
		if number != next {
			p.wrong(fmt.Sprintf("CERT_%d_DOMAINS", next), "", "is missing: the numbers run from 0 without a gap, and %s is set", withNumber[number])
		}
		next = number + 1
	}
	return numbers
}

// dense renumbers the certificates without gaps, since the library silently drops what comes after one.
func dense(texts map[string]string, numbers []int) map[string]string {
	out := make(map[string]string, len(texts))
	for name, text := range texts {
		m := certVariable.FindStringSubmatch(name)
		if m == nil {
			out[name] = text
			continue
		}
		number, _ := strconv.Atoi(m[1]) // one that is too long is none of numbers
		if i, found := slices.BinarySearch(numbers, number); found {
			out[fmt.Sprintf("CERT_%d_%s", i, m[2])] = text
		}
	}
	return out
}
