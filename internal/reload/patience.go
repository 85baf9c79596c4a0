package reload

import (
	"sync"
	"time"
)

// patience knows since when things have been waited for. It is kept in memory only: after a restart of ours everything is
// looked for eagerly again.
type patience struct {
	now time.Time

	mu     sync.Mutex
	before map[string]time.Time // as the last look left it
	after  map[string]time.Time // what this look met
}

func (r *Reloader) patience() *patience {
	r.mu.Lock()
	defer r.mu.Unlock()
	return &patience{now: r.now(), before: r.pending, after: map[string]time.Time{}}
}

// keep forgets what this look did not meet any more.
func (r *Reloader) keep(p *patience) {
	r.mu.Lock()
	defer r.mu.Unlock()
	r.pending = p.after
}

// noteTold remembers when a container was told, for where that cannot be written down.
func (r *Reloader) noteTold(container string, at time.Time) {
	r.mu.Lock()
	defer r.mu.Unlock()
	r.told[container] = at
}

func (r *Reloader) lastTold(container string) time.Time {
	r.mu.Lock()
	defer r.mu.Unlock()
	return r.told[container]
}

// wait says when something pending is looked at again: after as long as it has been pending, between least and most, so that
// the waits double. isNew says that it was not pending at the last look.
func (p *patience) wait(what string, least, most time.Duration) (next time.Time, isNew bool) {
	p.mu.Lock()
	defer p.mu.Unlock()
	since, ok := p.before[what]
	if !ok {
		since = p.now
	}
	p.after[what] = since
	return p.now.Add(doubling(p.now.Sub(since), least, most)), !ok
}

// age is how long what this look has met has been pending.
func (p *patience) age(what string) time.Duration {
	p.mu.Lock()
	defer p.mu.Unlock()
	return p.now.Sub(p.after[what])
}

// doubling is the wait for something that has been waited for since age.
func doubling(age, least, most time.Duration) time.Duration {
	return min(max(age, least), most)
}

// earliest of times that may be zero, which means never.
func earliest(a, b time.Time) time.Time {
	if a.IsZero() || !b.IsZero() && b.Before(a) {
		return b
	}
	return a
}
