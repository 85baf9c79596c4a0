package cert

import "time"

// Condition is something that stands and that a person should hear of: it is told by its state at each look, and whoever tells it
// further compares that with what was told before.
type Condition struct {
	Kind ConditionKind `json:"kind"`
	// Cert is the lineage; "" where it is not about one.
	Cert  string   `json:"cert,omitempty"`
	Names []string `json:"names,omitempty"`
	// Container is the one that it is about, or HOST:PORT of an endpoint; may be empty.
	Container string `json:"container,omitempty"`
	// Until is when what works all the same will work no more; zero where nothing works, or where that is not known.
	Until time.Time `json:"until,omitzero"`
	// Next is when it is tried again; zero where nothing is.
	Next time.Time `json:"next,omitzero"`
	// Extends says of one that is failing that it is to have other names, and that the names that it has are still renewed.
	Extends bool   `json:"extends,omitempty"`
	Err     string `json:"err,omitempty"`
	Hint    string `json:"hint,omitempty"`
}

// Key tells conditions apart: one that has the same at the next look still stands.
func (c Condition) Key() string { return string(c.Kind) + " " + c.Cert + " " + c.Container }

// ConditionKind is the sort of a Condition.
type ConditionKind string

const (
	// ConditionFailing: a certificate is wanted now and does not come, for whatever reason.
	ConditionFailing ConditionKind = "failing"
	// ConditionExpiring: a certificate that nobody renews nears its expiry.
	ConditionExpiring ConditionKind = "expiring"
	// ConditionStale: a web container serves an older version, or the placeholder.
	ConditionStale ConditionKind = "stale"
	// ConditionUnverified: nobody was seen to serve a certificate.
	ConditionUnverified ConditionKind = "unverified"
	// ConditionUnkept: a certificate is configured no more, and still served.
	ConditionUnkept ConditionKind = "unkept"
	// ConditionNoEngine: the web containers cannot be reached, so that nobody is reloaded.
	ConditionNoEngine ConditionKind = "no engine"
	// ConditionMistakes: the configuration has mistakes, and the daemon does not run.
	ConditionMistakes ConditionKind = "mistakes"
)

// News is what one look of the manager has found.
type News struct {
	Conditions []Condition
	// Unknown are the kinds that this look says nothing of: what stood of them stands.
	Unknown []ConditionKind
	// Renewed are the certificates that were obtained, first ones too.
	Renewed []Renewed
	// Pass says that it was a whole pass, and not a look at the web containers alone.
	Pass bool
}

// Renewed is a certificate that was obtained.
type Renewed struct {
	Cert     string
	Names    []string
	NotAfter time.Time
}
