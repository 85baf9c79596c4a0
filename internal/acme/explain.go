package acme

import (
	"cmp"
	"context"
	"errors"
	"slices"
	"strings"
	"time"

	"github.com/sidecert/sidecert/internal/cert"
)

const (
	// explainLimit is what a failed attempt may be longer for it, and maxExplained how many of its names are looked at.
	explainLimit = 10 * time.Second
	maxExplained = 3
	// maxExplanation bounds what is added to a hint, in bytes.
	maxExplanation = 1200
)

// explain adds to the CA's words what is seen from here of the names that failed. It costs no request to the CA. Whoever ends the
// attempt ends this too, and the failure stands.
func (i *Issuer) explain(ctx context.Context, spec cert.Spec, err error) error {
	failed, ok := errors.AsType[*cert.Error](err)
	if !ok || i.config.Transport != nil { // then there is no network here
		return err
	}
	names := blamed(spec, failed)
	if len(names) == 0 {
		return err
	}
	ctx, cancel := context.WithTimeout(ctx, i.pace(explainLimit))
	defer cancel()
	seen := make([][]cert.Finding, len(names))
	look := i.Look()
	each(len(names), func(n int) { seen[n] = look.Examine(ctx, spec, names[n]) })
	explained := *failed
	explained.Hint = diagnosis(failed, slices.Concat(seen...))
	return &explained
}

// causes are the topics that a refusal can come from, by the type of the problem. A CA that got an answer has found the name in the DNS,
// whatever is found there from here.
var causes = map[string][]string{
	"dns": {dnsTopic}, "caa": {caaTopic}, "connection": {pathTopic, dnsTopic}, "tls": {pathTopic, dnsTopic},
	"unauthorized": {pathTopic}, "incorrectresponse": {pathTopic},
}

// diagnosis is what to do about a failure, with what decides it first. A cause that is seen from here gives the advice in the place of the CA's
// words, with which goes less, and nothing comes after it that is not known.
func diagnosis(failed *cert.Error, findings []cert.Finding) string {
	possible := causes[problemType(failed)]
	// Of several names the problem is the first one's, and the CA may have found another for the next.
	answered := len(failed.Failed) < 2 && !slices.Contains(possible, dnsTopic) && slices.Contains(possible, pathTopic)
	findings = slices.DeleteFunc(findings, func(f cert.Finding) bool { return answered && f.Topic == dnsTopic })
	rank := func(f cert.Finding) int {
		if f.Level > cert.Unknown && slices.Contains(possible, f.Topic) {
			return int(f.Level) + int(cert.Bad)
		}
		return int(f.Level)
	}
	slices.SortStableFunc(findings, func(a, b cert.Finding) int { return cmp.Compare(rank(b), rank(a)) })
	if len(findings) > 0 && rank(findings[0]) > int(cert.Bad) {
		return remedy(slices.DeleteFunc(findings, func(f cert.Finding) bool { return f.Level == cert.Unknown }))
	}
	seen, works := seenFromHere(findings), pathWorks(findings)
	switch {
	case works && seen == "":
		seen = "from here the challenge path works: the CA sees something else (firewall, AAAA, geo-blocking)"
	case works:
		seen = "from here the challenge path works; also " + seen
	}
	if answered && works || failed.Hint == "" { // advice about a path that does not work would lead astray
		return seen
	}
	return strings.TrimSuffix(failed.Hint+"; "+seen, "; ")
}

func pathWorks(findings []cert.Finding) (works bool) {
	for _, f := range findings {
		if f.Topic == pathTopic && f.Level > cert.Unknown {
			return false
		}
		works = works || f.Topic == pathTopic && f.Level == cert.Fine
	}
	return works
}

// blamed are the names whose DNS or web server a failure is about.
func blamed(spec cert.Spec, failed *cert.Error) []string {
	names := failed.Failed
	switch {
	case len(names) > 0 && isProblem(failed, "dns", "connection", "tls", "caa", "unauthorized", "incorrectResponse"):
	case len(names) == 0 && isProblem(failed, "dns", "connection", "tls", "caa"):
		names = spec.Names
		if slices.Contains(spec.Names, failed.Name) {
			names = []string{failed.Name}
		}
	default:
		return nil
	}
	names = slices.DeleteFunc(slices.Clone(names), func(name string) bool { return !slices.Contains(spec.Names, name) })
	return names[:min(len(names), maxExplained)]
}

// seenFromHere tells all but what is as it should be.
func seenFromHere(findings []cert.Finding) string {
	if seen := told(findings); len(seen) > 0 {
		return clean("seen from here: "+strings.Join(seen, "; "), maxExplanation)
	}
	return ""
}

// remedy is what to do about the first of the findings, and then what is seen from here.
func remedy(findings []cert.Finding) string {
	first := findings[0]
	if first.Hint == "" {
		return seenFromHere(findings)
	}
	seen := told(findings)
	seen[0] = first.Text
	return clean(first.Hint+"; seen from here: "+strings.Join(seen, "; "), maxExplanation)
}

// told are findings in words. What is to be done about several of them is said once, and of one name it is then the same over another way,
// which is not said.
func told(findings []cert.Finding) (words []string) {
	said := map[string]bool{}
	for _, f := range findings {
		switch {
		case f.Level == cert.Fine, said[f.About+" "+f.Hint]:
			continue
		case said[f.Hint]:
			words = append(words, f.Text)
		default:
			words = append(words, f.Text+": "+f.Hint)
		}
		said[f.Hint], said[f.About+" "+f.Hint] = true, true
	}
	return words
}
