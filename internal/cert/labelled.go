package cert

import (
	"maps"
	"slices"
	"strconv"
	"strings"
	"time"
)

// The labels by which a container asks for something, and what each asks for.
const (
	// LabelReload makes it a target; its value is an action, empty for auto. A command is none: it never comes from a label.
	LabelReload = "sidecert.reload"
	// LabelDomains asks for certificates, with the grammar of DOMAINS; the others refine them and, of a target, where it is dialled.
	LabelDomains = "sidecert.domains"
	LabelKeyType = "sidecert.key-type"
	LabelProfile = "sidecert.profile"
	LabelWebroot = "sidecert.webroot"
	LabelVerify  = "sidecert.verify"
)

// Labelled is a container that bears labels of ours.
type Labelled struct {
	Container string `json:"container"`
	// Project and Service are Compose's; empty where Compose did not make the container.
	Project string `json:"project,omitempty"`
	Service string `json:"service,omitempty"`
	// Labels are ours, each at most MaxLabel bytes and one, so that it is seen to be too long; of those that mean nothing the names.
	Labels map[string]string `json:"labels"`
	// Since is when it was first seen: of two who ask for the same name, the first one is heard. GoneSince is when an engine that answered
	// first did not show it any more.
	Since     time.Time `json:"since"`
	GoneSince time.Time `json:"gone_since,omitzero"`
	// Changed are when its labels were others than before, in the last day.
	Changed []time.Time `json:"changed,omitempty"`
}

const (
	// MaxLabel is how long a label may be, in bytes: the names of a hundred certificates.
	MaxLabel = 8 << 10
	// maxUnknown is how many labels that mean nothing are told of.
	maxUnknown = 5
)

// Labels are all that mean something.
var Labels = []string{LabelReload, LabelDomains, LabelKeyType, LabelProfile, LabelWebroot, LabelVerify}

// Bounded keeps of labels what is worth remembering.
func Bounded(all map[string]string) map[string]string {
	kept := map[string]string{}
	for _, label := range Labels {
		if text, ok := all[label]; ok {
			kept[label] = text[:min(len(text), MaxLabel+1)]
		}
	}
	unknown := 0
	for _, label := range slices.Sorted(maps.Keys(all)) {
		if _, known := kept[label]; !known && unknown < maxUnknown && len(label) <= 100 {
			kept[label] = ""
			unknown++
		}
	}
	return kept
}

// VerifyPort is where a container says that it serves TLS, 0 where it does not say. ok is false where what it says is no port.
func VerifyPort(labels map[string]string) (port int, ok bool) {
	text := strings.TrimSpace(labels[LabelVerify])
	n, err := strconv.ParseUint(text, 10, 16)
	if err != nil || n == 0 {
		return 0, text == ""
	}
	return int(n), true
}

// Target is the container, with all the replicas of its service, as RELOAD would name it.
func (l Labelled) Target() Target {
	if l.Project == "" || l.Service == "" {
		return Target{Word: l.Container, Labelled: true}
	}
	return Target{Project: l.Project, Word: l.Service, Labelled: true}
}

// Key is one for all replicas of a service.
func (l Labelled) Key() string { return l.Target().String() }

// Asked is what containers ask for by their labels.
type Asked struct {
	// Specs are certificates, Targets web containers to be told of those that the environment names and those that are adopted: those that
	// ask for no certificate of their own.
	Specs   []Spec
	Targets []Target
	// Doubts are labels that do nothing, or not what they say.
	Doubts []Doubt
}

// With adds what containers ask for to what a person has configured.
func (w Wishes) With(all []Labelled) (Wishes, []Doubt) {
	if w.Labels == nil || len(all) == 0 {
		return w, nil
	}
	asked := w.Labels(all)
	specs := make([]Spec, 0, len(w.Specs))
	for _, s := range w.Specs {
		specs = append(specs, s.toldTo(asked.Targets))
	}
	general := w.General
	w.General = func(lineage string) Spec { return general(lineage).toldTo(asked.Targets) }
	w.Specs, w.Asked = specs, asked.Specs
	return w, asked.Doubts
}

func (s Spec) toldTo(targets []Target) Spec {
	if !s.Reload.Off && len(targets) > 0 {
		s.Reload.Targets = append(s.Reload.Targets[:len(s.Reload.Targets):len(s.Reload.Targets)], targets...)
	}
	return s
}
