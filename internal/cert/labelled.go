package cert

import "time"

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
	Project string            `json:"project,omitempty"`
	Service string            `json:"service,omitempty"`
	Labels  map[string]string `json:"labels"`
	// SeenAt is when the engine last showed it.
	SeenAt time.Time `json:"seen_at"`
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
	// Specs are certificates, Targets web containers to be told of those that the environment names and those that are adopted.
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
	specs := make([]Spec, 0, len(w.Specs)+len(asked.Specs))
	for _, s := range w.Specs {
		specs = append(specs, s.toldTo(asked.Targets))
	}
	general := w.General
	w.General = func(lineage string) Spec { return general(lineage).toldTo(asked.Targets) }
	w.Specs = append(specs, asked.Specs...)
	return w, asked.Doubts
}

func (s Spec) toldTo(targets []Target) Spec {
	if !s.Reload.Off && len(targets) > 0 {
		s.Reload.Targets = append(s.Reload.Targets[:len(s.Reload.Targets):len(s.Reload.Targets)], targets...)
	}
	return s
}
