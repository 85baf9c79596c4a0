// Package reload makes web servers use new certificates and sees that they do: it finds their containers, compares what they
// serve with what is stored, tells those that serve something older, and compares again. It keeps no schedule: Look says when it
// wants to be called again. It gets no certificates, and what it found it returns rather than logs.
package reload

import (
	"context"
	"log/slog"
	"sync"
	"time"

	"github.com/sidecert/sidecert/internal/cert"
	"github.com/sidecert/sidecert/internal/docker"
)

// Memory keeps on disk what each container was told and showed, by its name (an endpoint by its HOST:PORT).
type Memory interface {
	// Target returns the zero TargetState for one that nothing is known of.
	Target(container string) (cert.TargetState, error)
	SetTarget(container string, s cert.TargetState) error
	Targets() (map[string]cert.TargetState, error)
	ForgetTarget(container string) error
}

// Engine is what is needed of *docker.Engine.
type Engine interface {
	Self(ctx context.Context) (docker.Container, error)
	List(ctx context.Context, f docker.Filter) ([]docker.Container, error)
	Inspect(ctx context.Context, nameOrID string) (docker.Container, error)
	Kill(ctx context.Context, nameOrID, signal string) error
	Restart(ctx context.Context, nameOrID string) error
	Exec(ctx context.Context, nameOrID string, command []string) (docker.Ended, error)
	Logs(ctx context.Context, nameOrID string, since time.Time) (said string, err error)
	Events(ctx context.Context, after time.Time, actions []string, opened func(), heard func(docker.Event)) error
	// Version and ExecInVain are for Examine.
	Version(ctx context.Context) (docker.Version, error)
	ExecInVain(ctx context.Context, id string) error
	Advice(err error) string
}

// Config is what a Reloader works with.
type Config struct {
	// Engine may be nil: then no container is told anything, and only endpoints are looked at.
	Engine Engine
	// Project is our own Compose project where our own container cannot tell.
	Project string
	Memory  Memory
	// Discover says whose labels are heard, and in which projects a label that RELOAD names is looked for.
	Discover Discover
	// CertDir and StateDir are our volumes' folders, for Examine.
	CertDir, StateDir string
	// Now is the wall clock; nil is time.Now.
	Now func() time.Time
	Log *slog.Logger
}

// Reloader looks at web containers. One goroutine calls Look; the other methods may be called beside it.
type Reloader struct {
	engine  Engine
	project string
	hears   Discover
	memory  Memory
	certs   string // CERT_DIR
	private string // STATE_DIR
	now     func() time.Time
	log     *slog.Logger
	pace    pace
	sorted  time.Time // when Look has last sorted out the containers that are gone

	mu      sync.Mutex
	pending map[string]time.Time // since when something has been waited for, by what it is
	own     string               // our project as the last look knew it
	targets []cert.Target        // of the last look
	told    map[string]time.Time // when a container was last told, by its name
	stops   map[string]time.Time // when somebody stopped a container, by its ID, as the engine's events tell
}

// pace is how long things are waited for.
type pace struct {
	// handshake limits one TLS connection.
	handshake time.Duration
	// settle is how long a container is dialled, and watched, after it was told; poll is the first pause between two dials.
	settle, poll time.Duration
	// boot is what it gets in place of settle where a restart is under way: its health check says so, or it does not listen yet.
	boot time.Duration
	// grace is what a stopped container gets to be started or removed by somebody else before we start it.
	grace time.Duration
	// calm is how old a container must be to be told something because it is not seen: it may not listen yet.
	calm time.Duration
}

// backoff is the wait after the first, second … action that left a stale certificate in service; the last one repeats.
var backoff = []time.Duration{5 * time.Second, 15 * time.Second, time.Minute, 5 * time.Minute, 15 * time.Minute, time.Hour}

// The waits for what must come by itself double from the first to the second.
const (
	soon, later         = 5 * time.Second, 5 * time.Minute // a container that is stopped, missing or not up yet
	engineSoon, engLate = time.Minute, time.Hour           // an engine that does not answer
	// bringUp is what Compose gets to make the containers of a project: it may make those that depend on us last.
	bringUp = time.Minute
	// unseenFor is how long after its start an unseen container is expected to show up yet.
	unseenFor = 10 * time.Minute
)

// New returns a Reloader. It touches nothing.
func New(c Config) *Reloader {
	if c.Now == nil {
		c.Now = time.Now
	}
	if c.Log == nil {
		c.Log = slog.New(slog.DiscardHandler)
	}
	return &Reloader{
		engine: c.Engine, project: c.Project, own: c.Project, hears: c.Discover, memory: c.Memory, certs: c.CertDir, private: c.StateDir, now: c.Now, log: c.Log,
		pace: pace{
			handshake: 5 * time.Second, settle: 10 * time.Second, poll: 200 * time.Millisecond, boot: time.Minute,
			grace: time.Second, calm: 10 * time.Second,
		},
		pending: map[string]time.Time{}, stops: map[string]time.Time{}, told: map[string]time.Time{},
	}
}
