package cert

import "time"

// Event is one line of the journal.
type Event struct {
	Time      time.Time `json:"time"`
	Kind      EventKind `json:"kind"`
	Cert      string    `json:"cert,omitempty"`
	Names     []string  `json:"names,omitempty"`
	Version   int       `json:"version,omitempty"`
	NotAfter  time.Time `json:"not_after,omitzero"`
	CA        string    `json:"ca,omitempty"`
	Container string    `json:"container,omitempty"`
	Action    string    `json:"action,omitempty"`
	Class     Class     `json:"class,omitempty"`
	Attempt   int       `json:"attempt,omitempty"`
	Next      time.Time `json:"next,omitzero"`
	Err       string    `json:"err,omitempty"`
	Hint      string    `json:"hint,omitempty"`
}

// EventKind is the sort of an Event.
type EventKind string

const (
	EventPlaceholder EventKind = "placeholder"
	EventObtained    EventKind = "obtained"
	EventFailed      EventKind = "failed"
	EventRepaired    EventKind = "repaired"
	EventServed      EventKind = "served"
	EventRevoked     EventKind = "revoked"
	EventDeleted     EventKind = "deleted"
)
