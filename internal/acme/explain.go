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
	explained.Hint = strings.TrimPrefix(failed.Hint+"; "+fromHere(slices.Concat(seen...)), "; ")
	explained.Hint = strings.TrimSuffix(explained.Hint, "; ")
	return &explained
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

// fromHere says what was found, the worst first. That everything is well from here is worth saying too: it is then not.
func fromHere(findings []cert.Finding) string {
	slices.SortStableFunc(findings, func(a, b cert.Finding) int { return cmp.Compare(b.Level, a.Level) })
	works, fails := false, false
	var parts []string
	said := map[string]bool{}
	for _, f := range findings {
		if f.Topic == pathTopic {
			works = works || f.Level == cert.Fine
			fails = fails || f.Level > cert.Unknown
		}
		switch {
		case f.Level == cert.Fine:
		case said[f.Hint]: // the same over another way
			parts = append(parts, f.Text)
		default:
			parts = append(parts, f.Text+": "+f.Hint)
			said[f.Hint] = true
		}
	}
	seen := strings.Join(parts, "; ")
	switch {
	case works && !fails && seen == "":
		seen = "from here the challenge path works: the CA sees something else (firewall, AAAA, geo-blocking)"
	case works && !fails:
		seen = "from here the challenge path works; also seen: " + seen
	case seen != "":
		seen = "seen from here: " + seen
	}
	return clean(seen, maxExplanation)
}
