package report

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"log/slog"
	"slices"
	"sync"
	"time"

	"github.com/sidecert/sidecert/internal/cert"
)

// Memory keeps what people were told, and what they are still to be told, over a restart.
type Memory interface {
	// Notices returns what was saved last; nil where nothing was.
	Notices() (json.RawMessage, error)
	SaveNotices(json.RawMessage) error
}

// NotifierConfig is what a Notifier works with.
type NotifierConfig struct {
	Receivers []*Receiver
	On        On
	Memory    Memory
	// Beat hears after each whole pass, and when that changes, whether all is well; nil where nobody does.
	Beat func(well bool)
	Now  func() time.Time
	Log  *slog.Logger
}

// Notifier tells people what they should hear of. Whoever has news for it never waits for a receiver.
type Notifier struct {
	NotifierConfig
	// bells wake the deliveries, each that of one receiver.
	bells []chan struct{}

	mu     sync.Mutex
	loaded bool
	book   book
	// saved is the book as it is on disk.
	saved []byte
	// unsaved says that it was told that the book cannot be written.
	unsaved bool
	well    bool
}

// book is what is kept on disk.
type book struct {
	Ledger
	Queue []queued `json:"queue,omitempty"`
}

// queued is a message that is not delivered everywhere.
type queued struct {
	Message
	At time.Time `json:"at"`
	// To are the IDs of the receivers that have not got it.
	To []string `json:"to"`
}

const (
	// maxQueue is how many messages wait, and maxAge how long one of them does.
	maxQueue = 100
	maxAge   = 24 * time.Hour
	// A receiver that does not take a message is asked again after firstAgain, then twice as long each time, up to lastAgain.
	firstAgain = time.Minute
	lastAgain  = time.Hour
)

// NewNotifier makes a notifier; Run has it deliver.
func NewNotifier(c NotifierConfig) *Notifier {
	if c.Beat == nil {
		c.Beat = func(bool) {}
	}
	n := &Notifier{NotifierConfig: c, well: true}
	for range c.Receivers {
		n.bells = append(n.bells, make(chan struct{}, 1))
	}
	return n
}

// Tell takes the news of a look. What people are to be told is on disk when it returns; an error means that it could not be written.
func (n *Notifier) Tell(news cert.News) error {
	n.mu.Lock()
	defer n.mu.Unlock()
	n.load()
	now := n.Now()
	messages, ledger := decide(n.book.Ledger, news, n.On, now)
	n.book.Ledger = ledger
	if len(n.Receivers) > 0 {
		for _, m := range messages {
			n.queue(m, now)
		}
	}
	err := n.save()
	for _, bell := range n.bells {
		select {
		case bell <- struct{}{}:
		default:
		}
	}
	well := true
	for _, t := range ledger.Told {
		well = well && !t.ails()
	}
	if news.Pass || well != n.well {
		n.Beat(well)
	}
	n.well = well
	return err
}

func (n *Notifier) queue(m Message, now time.Time) {
	q := queued{Message: m, At: now.UTC()}
	for _, r := range n.Receivers {
		q.To = append(q.To, r.ID())
	}
	n.book.Queue = append(n.book.Queue, q)
	if lost := len(n.book.Queue) - maxQueue; lost > 0 {
		n.Log.Error("notifications given up: too many wait", "lost", lost, cert.AttrHint, "see that the receivers of NOTIFY_URLS can be reached: `sidecert notify --test`")
		n.book.Queue = slices.Delete(n.book.Queue, 0, lost)
	}
}

// load reads the book once. What is for receivers that are no more is dropped.
func (n *Notifier) load() {
	if n.loaded {
		return
	}
	n.loaded = true
	data, err := n.Memory.Notices()
	if err == nil && data != nil {
		err = json.Unmarshal(data, &n.book)
	}
	if err != nil { // what was told already is told once more
		n.book = book{}
		n.Log.Warn("what was notified before cannot be read", cert.AttrErr, err)
	}
	n.saved, _ = json.Marshal(n.book)
	for i := range n.book.Queue {
		n.book.Queue[i].To = slices.DeleteFunc(n.book.Queue[i].To, func(id string) bool {
			return !slices.ContainsFunc(n.Receivers, func(r *Receiver) bool { return r.ID() == id })
		})
	}
	n.tidy()
}

func (n *Notifier) tidy() {
	n.book.Queue = slices.DeleteFunc(n.book.Queue, func(q queued) bool { return len(q.To) == 0 })
}

func (n *Notifier) save() error {
	data, err := json.Marshal(n.book)
	if err != nil || bytes.Equal(data, n.saved) {
		return err
	}
	if err = n.Memory.SaveNotices(data); err == nil {
		n.saved = data
	} else if !n.unsaved {
		n.Log.Warn("what was notified is not remembered over a restart", cert.AttrErr, err)
	}
	n.unsaved = err != nil
	return err
}

// Run delivers until ctx ends.
func (n *Notifier) Run(ctx context.Context) {
	var all sync.WaitGroup
	for i, r := range n.Receivers {
		all.Go(func() { n.deliver(ctx, r, n.bells[i]) })
	}
	all.Wait()
}

// Flush delivers for a while what waits, for a process that ends: each receiver is asked once.
func (n *Notifier) Flush(ctx context.Context) {
	var all sync.WaitGroup
	for _, r := range n.Receivers {
		all.Go(func() {
			for {
				m, ok := n.oldest(r)
				if !ok || r.Send(ctx, m.Message) != nil {
					return
				}
				n.delivered(r, m)
			}
		})
	}
	all.Wait()
}

// deliver sends to one receiver what waits for it, oldest first. One that fails is asked again later and later; those that wait meanwhile
// do not hasten that.
func (n *Notifier) deliver(ctx context.Context, r *Receiver, bell <-chan struct{}) {
	failures := 0
	for ctx.Err() == nil {
		m, ok := n.oldest(r)
		if !ok {
			select {
			case <-bell:
			case <-ctx.Done():
			}
			continue
		}
		err := r.Send(ctx, m.Message)
		if err == nil {
			if failures > 1 {
				n.Log.Info("notifications are taken again", "to", r)
			}
			failures = 0
			n.delivered(r, m)
			continue
		}
		if ctx.Err() != nil {
			return
		}
		failures++
		wait := min(firstAgain<<min(failures-1, 10), lastAgain)
		level := slog.LevelDebug
		if failures == 2 {
			level = slog.LevelWarn
		}
		n.Log.Log(ctx, level, "notification not delivered, trying again", "to", r, cert.AttrErr, err, cert.AttrNext, n.Now().Add(wait), cert.AttrHint, "`sidecert notify --test` tries it by hand")
		select {
		case <-time.After(wait):
		case <-ctx.Done():
		}
	}
}

// oldest is the message that waits longest for a receiver. Those that have waited for too long are given up.
func (n *Notifier) oldest(r *Receiver) (queued, bool) {
	n.mu.Lock()
	defer n.mu.Unlock()
	n.load()
	now := n.Now()
	for i := range n.book.Queue {
		q := &n.book.Queue[i]
		if !slices.Contains(q.To, r.ID()) {
			continue
		}
		q.At = earlier(q.At, now) // a clock that was ahead has set it
		if now.Sub(q.At) < maxAge {
			return queued{q.Message, q.At, nil}, true
		}
		n.Log.Error("notification given up: nobody took it for a day", "to", r, "title", q.Title, cert.AttrHint, "`sidecert notify --test` tries the receivers of NOTIFY_URLS")
		n.drop(q, r)
	}
	n.tidy()
	n.save()
	return queued{}, false
}

func (n *Notifier) delivered(r *Receiver, m queued) {
	n.mu.Lock()
	defer n.mu.Unlock()
	n.Log.Debug("notification delivered", "to", r, "title", m.Title)
	for i := range n.book.Queue {
		if q := &n.book.Queue[i]; q.Message == m.Message && q.At.Equal(m.At) {
			n.drop(q, r)
		}
	}
	n.tidy()
	n.save()
}

func (n *Notifier) drop(q *queued, r *Receiver) {
	q.To = slices.DeleteFunc(slices.Clone(q.To), func(id string) bool { return id == r.ID() })
}

// TellMistakes tells that the daemon does not run because its configuration has mistakes: once, not at each start of a container that the
// engine starts again and again. Where that cannot be remembered nobody is told.
func (n *Notifier) TellMistakes(ctx context.Context, mistakes []string) error {
	c := cert.Condition{Kind: cert.ConditionMistakes, Hint: "put the environment right and start again: `docker compose logs sidecert` has it all"}
	if len(mistakes) > 0 {
		c.Err = mistakes[0]
		if more := len(mistakes) - 1; more > 0 {
			c.Err = cut(c.Err, maxWords-20) + fmt.Sprintf(" (and %d more)", more)
		}
	}
	err := n.Tell(cert.News{Conditions: []cert.Condition{c}, Unknown: []cert.ConditionKind{cert.ConditionFailing, cert.ConditionExpiring, cert.ConditionStale,
		cert.ConditionUnverified, cert.ConditionUnkept, cert.ConditionNoEngine}})
	if err != nil {
		return errors.Join(errors.New("nobody is notified"), err)
	}
	n.Flush(ctx)
	return nil
}
