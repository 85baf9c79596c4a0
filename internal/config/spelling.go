package config

import (
	"maps"
	"regexp"
	"slices"
	"strings"

	"github.com/sidecert/sidecert/internal/cert"
)

// words are the names of all variables that mean something to sidecert, those of CERT_n_ with the number 0.
type words map[string]bool

func vocabulary() words {
	w := words{}
	for _, param := range params(&vars{}) {
		w[param.Key] = true
	}
	for _, param := range params(&certVars{}) {
		w["CERT_0_"+param.Key] = true
	}
	return w
}

// has reports whether a name is one of those that act.
func (w words) has(name string) bool {
	if m := certVariable.FindStringSubmatch(name); m != nil {
		return w["CERT_0_"+m[2]] && (m[1] == "0" || m[1][0] != '0')
	}
	return w[name]
}

// notOurs are names near one of ours that others use. Farther ones need no mention.
var notOurs = []string{"MAIL"}

// nearlyCert is how CERT_n_… is written from memory.
var nearlyCert = regexp.MustCompile(`^CERTS?_?([0-9]{1,3})_?([A-Z_]+)$`)

// plainName is what can be near one of ours, and what can be shown.
var plainName = regexp.MustCompile(`^[A-Za-z0-9_.-]{1,64}$`)

// answer says something to every variable that does nothing but looks as if somebody had meant it for sidecert. Their values
// are not shown: a misspelled secret is one too.
func (p *parser) answer(all map[string]string, ours words) {
	for _, name := range slices.Sorted(maps.Keys(all)) {
		advice, peer := peers[name]
		switch {
		case all[name] == "" || !plainName.MatchString(name) || slices.Contains(notOurs, name):
		case ours.has(name):
		case peer:
			p.warn(name, "%s does nothing here; %s", name, advice)
		case certVariable.MatchString(name):
			p.answerCert(name, ours)
		default:
			p.answerNear(name, all, ours)
		}
	}
}

// answerCert needs no nearness: a name with CERT_n_ is for nobody else.
func (p *parser) answerCert(name string, ours words) {
	m := certVariable.FindStringSubmatch(name)
	if m[1] != "0" && m[1][0] == '0' {
		number := strings.TrimLeft(m[1][:len(m[1])-1], "0") + m[1][len(m[1])-1:]
		p.wrong(name, "", "has a number that begins with 0; write CERT_%s_%s", number, m[2])
		return
	}
	if near, distance := nearest("CERT_0_"+m[2], ours); distance <= 2 {
		p.wrong(name, "", "is unknown; did you mean %s?", strings.Replace(near, "_0_", "_"+m[1]+"_", 1))
		return
	}
	var suffixes []string
	for word := range ours {
		if suffix, ok := strings.CutPrefix(word, "CERT_0_"); ok {
			suffixes = append(suffixes, suffix)
		}
	}
	slices.Sort(suffixes)
	p.wrong(name, "", "is unknown; a certificate has %s", strings.Join(suffixes, ", "))
}

// answerNear takes one edit for a slip, and two for a suspicion. Of names as short as EMAIL two edits make any other word.
func (p *parser) answerNear(name string, all map[string]string, ours words) {
	if suffix, ok := strings.CutPrefix(name, "CERT_"); ok && ours["CERT_0_"+suffix] {
		p.warn(name, "%s does nothing; did you mean CERT_0_%s?", name, suffix)
		return
	}
	if m := nearlyCert.FindStringSubmatch(name); m != nil && ours["CERT_0_"+m[2]] {
		p.wrong(name, "", "is unknown; did you mean CERT_%s_%s?", m[1], m[2])
		return
	}
	near, distance := nearest(name, ours)
	switch {
	case strings.EqualFold(near, name):
		p.warn(name, "%s does nothing; did you mean %s?", name, near)
	case distance == 1 && all[near] == "":
		p.wrong(name, "", "is unknown; did you mean %s?", near)
	case distance == 1 || distance == 2 && len(near) > 5:
		p.warn(name, "%s is unknown and does nothing; did you mean %s?", name, near)
	}
}

// nearest is cert.Nearest of our words.
func nearest(name string, ours words) (string, int) {
	return cert.Nearest(name, slices.Sorted(maps.Keys(ours)))
}
