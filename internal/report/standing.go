package report

import (
	"sync"
	"time"

	"github.com/sidecert/sidecert/internal/cert"
)

// Standing is how every certificate stands at one time.
type Standing struct {
	At    time.Time
	Certs []Certificate
	// Listed is the same as `certificates --json` prints it.
	Listed []byte
}

// Level is how much a certificate wants a person, the least first.
type Level int

const (
	// Well wants nobody. Coming is on its way for the first time.
	Well Level = iota
	Coming
	// Doubtful may come right by itself, or is as a person wanted it and may yet be missed. Failing does not work now.
	Doubtful
	Failing
)

// String is the word for it on the page.
func (l Level) String() string {
	return [...]string{"well", "coming", "look", "failing"}[l]
}

// Certificate is how one of them stands.
type Certificate struct {
	Name  string
	Names []string
	Level Level
	// State says in a sentence how it stands, Hint what to do.
	State, Hint string
	// Kept is false for what is stored and renewed by nobody here.
	Kept bool
	// Stored is false where there is none of a CA; nothing is known then of what is between here and Path.
	Stored    bool
	KeyType   string
	Issuer    string
	Version   int
	NotBefore time.Time
	NotAfter  time.Time
	// Due is from when on the stored one is to be renewed; zero where nobody keeps it.
	Due  time.Time
	Path string
	// Next is when it is ordered next, Why then, and Held what holds it back until then.
	Next time.Time
	Why  string
	Held string
	// Failures are those in a row.
	Failures int
	Served   []Served
	// Told is false where no web container is told of it, by choice.
	Told bool
}

// Served is what a web container is seen to serve of a certificate since a time, and what it was told.
type Served struct {
	Container string
	Class     cert.Class
	Since     time.Time
	Action    string
	Told      time.Time
	Err       string
}

// Entry is one line of the journal.
type Entry struct {
	Time time.Time
	Cert string
	// Text is a sentence without its end.
	Text string
	// Bad says that it tells of something that did not work.
	Bad bool
}

// reuse is how long what was read from the disk answers for: whoever asks again and again must not keep it busy.
const reuse = 2 * time.Second

// shared makes a value at most once in reuse, whoever asks for it, and one at a time. An error is asked for again at once.
type shared[T any] struct {
	make func() (T, error)

	mu    sync.Mutex
	value T
	made  time.Time
}

func (s *shared[T]) get() (T, error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	if !s.made.IsZero() && time.Since(s.made) < reuse {
		return s.value, nil
	}
	value, err := s.make()
	if err != nil {
		return value, err
	}
	s.value, s.made = value, time.Now()
	return value, nil
}
