package cert

import (
	"strings"
	"time"
)

// Reload says which web containers are told about a new version, and what else may be done if that does not help.
type Reload struct {
	// Off is a person's choice that nobody is told.
	Off     bool
	Targets []Target
	// Fallback is done when a stale certificate is still served after the action; its zero value is nothing.
	Fallback Action
}

// Target is one entry of RELOAD: a selector of containers and what is done with them.
type Target struct {
	// Word is a Compose service of the own project, else an exact container name.
	// With Project it is that project's service.
	Word    string
	Project string
	// Label is KEY or KEY=VALUE and stands instead of Word.
	Label  string
	Action Action
	// Labelled says that its own label made it a target: where it has gone, nobody is missed.
	Labelled bool
	// Port is where it serves TLS inside; 0 leaves it to the port that it publishes as 443, else 443.
	Port int
}

// String writes the target's selector as RELOAD spells it.
func (t Target) String() string {
	switch {
	case t.Label != "":
		return "label=" + t.Label
	case t.Project != "":
		return t.Project + "/" + t.Word
	}
	return t.Word
}

// Action is what is done with a container so that it reads its certificate again.
type Action struct {
	Kind ActionKind
	// Signal without "SIG", of an ActionSignal.
	Signal string
	// Command of an ActionExec, already split into words.
	Command []string
}

// ActionKind is the sort of an Action.
type ActionKind string

const (
	ActionNone    ActionKind = ""
	ActionAuto    ActionKind = "auto"
	ActionSignal  ActionKind = "signal"
	ActionRestart ActionKind = "restart"
	ActionExec    ActionKind = "exec"
)

// String writes the action as RELOAD spells it, for logs: "HUP", "restart", "exec nginx -s reload".
func (a Action) String() string {
	switch a.Kind {
	case ActionSignal:
		return a.Signal
	case ActionExec:
		return "exec " + strings.Join(a.Command, " ")
	}
	return string(a.Kind)
}

// Verify says where the handshake is made that proves a reload.
type Verify struct {
	Off bool
	// Endpoints are HOST:PORT to dial in place of the targets' own addresses; empty means auto.
	Endpoints []string
}

// Class is how a served leaf stands to the stored one.
type Class string

const (
	// Current: the stored version is served.
	Current Class = "current"
	// Stale: an older version or the placeholder of this lineage is served. Only this is acted on again and again.
	Stale Class = "stale"
	// Foreign: something else is served.
	Foreign Class = "foreign"
	// Unseen: no connection, or no network in common.
	Unseen Class = "unseen"
)

// TargetState is what a container was last told and last showed, kept on disk under its name.
type TargetState struct {
	// Unsafe are actions after which the container had stopped, with what was seen.
	Unsafe map[string]string `json:"unsafe,omitempty"`
	// Certs are by lineage name.
	Certs map[string]Served `json:"certs,omitempty"`
	// GoneSince is since when the engine knows no container of that name; zero while it does.
	GoneSince time.Time `json:"gone_since,omitzero"`
}

// Served is what a container was told and showed of one lineage.
type Served struct {
	// Told is the fingerprint of the version that the container was last told about, At when, Action how.
	Told   string    `json:"told,omitempty"`
	At     time.Time `json:"told_at,omitzero"`
	Action string    `json:"action,omitempty"`
	// Seen is the class of what it served at SeenAt, of the version with the fingerprint Stored.
	Seen   Class     `json:"seen,omitempty"`
	SeenAt time.Time `json:"seen_at,omitzero"`
	Stored string    `json:"stored,omitempty"`
	// Since is when Seen was first seen of that version.
	Since time.Time `json:"since,omitzero"`
	// Tries counts the actions for the version Stored; Next is when a stale one is acted on again.
	Tries int       `json:"tries,omitempty"`
	Next  time.Time `json:"next,omitzero"`
	Err   string    `json:"err,omitempty"`
}
