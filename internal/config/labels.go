package config

import (
	"cmp"
	"fmt"
	"maps"
	"path"
	"regexp"
	"slices"
	"strings"

	"github.com/sidecert/sidecert/internal/cert"
)

// Discover says whose labels are heard.
type Discover string

const (
	DiscoverProject Discover = "project"
	DiscoverAll     Discover = "all"
	DiscoverOff     Discover = "off"
)

func (p *parser) discover(v vars) Discover {
	return Discover(p.choice("DISCOVER", v.Discover, string(DiscoverProject), string(DiscoverAll), string(DiscoverOff)))
}

// labels are cert.Labels, for a slip to be compared with.
var labels = wordsOf(cert.Labels)

func wordsOf(names []string) words {
	w := words{}
	for _, name := range names {
		w[name] = true
	}
	return w
}

// webrootLabel is one folder below WEBROOT. A path of several would lead through folders that the web container can put links in.
var webrootLabel = regexp.MustCompile(`^[A-Za-z0-9_-][A-Za-z0-9._-]{0,199}$`)

// Labels reads what containers ask for by label. A mistake in a label costs what that label asks for and nothing else; what the
// environment says of the same certificate stands.
func (c Config) Labels(all []cert.Labelled) cert.Asked {
	r := &labelReader{c: c, p: &parser{}, taken: slices.Clone(c.Specs)}
	// Who came first goes before, so that nobody takes away what another one has.
	all = slices.SortedFunc(slices.Values(all), func(a, b cert.Labelled) int {
		return cmp.Or(a.Since.Compare(b.Since), strings.Compare(a.Key(), b.Key()))
	})
	for _, l := range all {
		if r.bounded(l) {
			r.target(l)
		}
	}
	for _, l := range all {
		r.certificates(l)
	}
	return r.asked
}

// bounded reports whether no label is too long.
func (r *labelReader) bounded(l cert.Labelled) bool {
	for _, label := range slices.Sorted(maps.Keys(l.Labels)) {
		if len(l.Labels[label]) > cert.MaxLabel {
			r.doubt(l, label, fmt.Sprintf("is longer than %d KiB, so that the container is not heard", cert.MaxLabel>>10), "share its names out over several containers, or write them in DOMAINS")
			return false
		}
	}
	return true
}

type labelReader struct {
	c     Config
	p     *parser
	asked cert.Asked
	// targets are by project, "" standing for containers that Compose did not make.
	targets map[string][]cert.Target
	// taken are the certificates that there are already.
	taken []cert.Spec
}

// doubt says of a container's label what is wrong with it.
func (r *labelReader) doubt(l cert.Labelled, label, text, hint string) {
	if !l.GoneSince.IsZero() {
		return // it is not there to be mended
	}
	value := ""
	if v := l.Labels[label]; v != "" {
		value = fmt.Sprintf(": %q", shorten(v))
	}
	r.asked.Doubts = append(r.asked.Doubts, cert.Doubt{
		Text: fmt.Sprintf("label %s of %s%s %s", shorten(label), l.Container, value, text), Hint: hint,
	})
}

// target reads what is told to the container itself.
func (r *labelReader) target(l cert.Labelled) {
	for label := range l.Labels {
		if near, distance := nearest(label, labels); !labels.has(label) && distance <= 2 {
			r.doubt(l, label, "is unknown and does nothing", fmt.Sprintf("did you mean %s?", near))
		} else if !labels.has(label) {
			r.doubt(l, label, "is unknown and does nothing", "there are "+strings.Join(slices.Sorted(maps.Keys(labels)), ", "))
		}
	}
	port, ok := cert.VerifyPort(l.Labels)
	if !ok {
		r.doubt(l, cert.LabelVerify, "is no port and does nothing", "write the one on which the container itself serves TLS, e.g. 8443")
	}
	text, ok := l.Labels[cert.LabelReload]
	text = strings.TrimSpace(text)
	if !ok || strings.EqualFold(text, "off") {
		return
	}
	t := l.Target()
	t.Port = port
	var err error
	t.Action, err = parseAction(cmp.Or(text, "auto"))
	switch {
	case err != nil:
		r.doubt(l, cert.LabelReload, err.Error()+"; it is told by auto", "")
		t.Action = cert.Action{Kind: cert.ActionAuto}
	case t.Action.Kind == cert.ActionExec:
		r.doubt(l, cert.LabelReload, "asks for a command, which is never taken from a label; it is told by auto", "write the command in RELOAD, in sidecert's own environment")
		t.Action = cert.Action{Kind: cert.ActionAuto}
	}
	if r.targets == nil {
		r.targets = map[string][]cert.Target{}
	}
	r.targets[l.Project] = added(r.targets[l.Project], t)
	if _, asks := l.Labels[cert.LabelDomains]; !asks { // one that asks for certificates means those
		r.asked.Targets = added(r.asked.Targets, t)
	}
}

// added is a list with one target more, unless it is there.
func added(targets []cert.Target, t cert.Target) []cert.Target {
	if slices.ContainsFunc(targets, func(o cert.Target) bool { return o.String() == t.String() }) {
		return targets
	}
	return append(targets, t)
}

// certificates reads sidecert.domains and what refines it.
func (r *labelReader) certificates(l cert.Labelled) {
	text, ok := l.Labels[cert.LabelDomains]
	if !ok || len(text) > cert.MaxLabel {
		return
	}
	defer r.tell(l)
	general := r.c.General
	if !r.refine(l, &general) {
		return
	}
	text = r.p.clean(cert.LabelDomains, text)
	if len(entries(text)) == 0 && len(r.p.mistakes) == 0 {
		r.doubt(l, cert.LabelDomains, "names nothing", "write e.g. sidecert.domains: example.org,www.example.org")
	}
	for _, entry := range entries(text) {
		d := &draft{spec: general, variable: cert.LabelDomains}
		name := r.p.names(d, entry)
		r.p.lineage(d, cert.LabelDomains, name)
		if !d.broken {
			r.take(l, d.spec)
		}
	}
}

// tell turns what the parser has found in a container's labels into doubts.
func (r *labelReader) tell(l cert.Labelled) {
	if l.GoneSince.IsZero() {
		for _, m := range r.p.mistakes {
			r.asked.Doubts = append(r.asked.Doubts, cert.Doubt{Text: fmt.Sprintf("label of %s: %s", l.Container, m)})
		}
		for _, n := range r.p.warnings {
			r.asked.Doubts = append(r.asked.Doubts, cert.Doubt{Text: fmt.Sprintf("label of %s: %s", l.Container, n.Text)})
		}
	}
	r.p.mistakes, r.p.warnings = nil, nil
}

// refine reads the labels beside sidecert.domains into what holds for its certificates. It reports whether they can be had.
func (r *labelReader) refine(l cert.Labelled, s *cert.Spec) bool {
	if text := strings.TrimSpace(l.Labels[cert.LabelKeyType]); text != "" {
		s.KeyType = r.p.keyType(cert.LabelKeyType, text)
	}
	if text := strings.TrimSpace(l.Labels[cert.LabelProfile]); text != "" {
		s.Profile = r.p.profile(cert.LabelProfile, text)
	}
	if text := strings.TrimSpace(l.Labels[cert.LabelWebroot]); text != "" {
		folder := strings.Trim(strings.TrimPrefix(path.Clean(text)+"/", s.Webroot+"/"), "/")
		if folder == "" { // WEBROOT itself
			return true
		}
		if !webrootLabel.MatchString(folder) {
			r.doubt(l, cert.LabelWebroot, "is no folder in "+s.Webroot+", so that its certificates are not kept", "write the name of one, without slashes")
			return false
		}
		s.Webroot, s.Webroots, s.Open.Webroot = path.Join(s.Webroot, folder), nil, false
	}
	return true
}

// take adds a certificate, unless there is one already that stands in its way.
func (r *labelReader) take(l cert.Labelled, s cert.Spec) {
	own := r.targets[l.Project]
	for i, other := range r.taken {
		same := cert.SameNames(other.Names, s.Names)
		switch {
		case same && i >= len(r.c.Specs): // two containers ask for the same
			j := i - len(r.c.Specs)
			r.asked.Specs[j] = toldToo(r.asked.Specs[j], own)
			return
		case same:
			for _, t := range own { // the environment has it, for whom all its targets are one
				r.asked.Targets = added(r.asked.Targets, t)
			}
			return
		case strings.EqualFold(other.Name, s.Name):
			r.doubt(l, cert.LabelDomains, fmt.Sprintf("asks for a certificate of the name %s, which there is already with other names, and is not heard", s.Name),
				fmt.Sprintf("give it another name: %.20s-2=%s", s.Name, strings.Join(s.Names, ",")))
			return
		}
	}
	if len(r.taken) >= maxCerts {
		r.doubt(l, cert.LabelDomains, fmt.Sprintf("asks for one certificate more than the %d that there may be, and is not heard", maxCerts), "")
		return
	}
	s = toldToo(s, own)
	s.Verify = r.c.VerifyFor(s.Name)
	r.taken, r.asked.Specs = append(r.taken, s), append(r.asked.Specs, s)
}

// toldToo adds targets that a certificate has not yet.
func toldToo(s cert.Spec, targets []cert.Target) cert.Spec {
	if s.Reload.Off {
		return s
	}
	s.Reload.Targets = slices.Clone(s.Reload.Targets)
	for _, t := range targets {
		s.Reload.Targets = added(s.Reload.Targets, t)
	}
	return s
}
