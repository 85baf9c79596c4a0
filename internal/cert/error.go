package cert

import (
	"fmt"
	"time"
)

// Error is a failure that a person may have to act on.
type Error struct {
	// Op is the deed that failed: "order", "authorization", "preflight", "save" …
	Op string
	// Name is the certificate's or the one of its names that failed.
	Name string
	Kind Kind
	Err  error
	// Hint says what to do, as a sentence; may be empty.
	Hint string
	// Failed are the names whose validation the CA has refused; they count for its limit of failures by name.
	Failed []string
	// NotBefore is the CA's Retry-After as a time; zero if it named none.
	NotBefore time.Time
}

// Kind says what a failure means for the next try.
type Kind string

const (
	// KindPassing: the usual backoff.
	KindPassing Kind = ""
	// KindUnreachable: the CA did not answer before an order was made, so no attempt is counted.
	KindUnreachable Kind = "unreachable"
	// KindPerson: only a person can mend it, so the backoff starts at its last step.
	KindPerson Kind = "person"
	// KindBusy: the CA asks all its clients to wait (429 or 503 with Retry-After): every certificate of that CA waits.
	KindBusy Kind = "busy"
	// KindClock: our clock calls for an order and the CA's does not, so that none was made and no attempt is counted.
	KindClock Kind = "clock"
	// KindInterrupted: we were told to stop; nothing is counted and the order goes on at the next start.
	KindInterrupted Kind = "interrupted"
)

func (e *Error) Error() string {
	if e.Name == "" {
		return fmt.Sprintf("%s: %v", e.Op, e.Err)
	}
	return fmt.Sprintf("%s %s: %v", e.Op, e.Name, e.Err)
}

func (e *Error) Unwrap() error { return e.Err }
