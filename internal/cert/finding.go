package cert

// Finding is one thing that was looked at before it does harm, or after it did.
type Finding struct {
	Level Level
	// Topic is what was looked at: "volume", "engine", "challenge path", "DNS", "CAA", "CA", "clock", "limits" …
	Topic string
	// About is the name, container, folder or CA that it is about; may be empty.
	About string
	// Text says what was found, Hint what to do; both are sentences, and a good finding has no hint.
	Text string
	Hint string
}

// Level says how bad a finding is.
type Level int

const (
	// Fine: as it should be.
	Fine Level = iota
	// Unknown: it could not be looked at from here.
	Unknown
	// Doubtful: it works, but not for ever or not for everybody.
	Doubtful
	// Bad: it does not work.
	Bad
)

func (l Level) String() string { return [...]string{"ok", "unknown", "warning", "error"}[l] }
