package report

import (
	"cmp"
	"maps"
	"slices"
	"strings"
	"time"

	"github.com/sidecert/sidecert/internal/cert"
)

// The policy of notifications: one message when something begins to ail, further ones as expiry nears, one when it is well again. It is a
// comparison of what stands with what was told, so that a restart repeats nothing and what was missed is told at the next look.

// On says what people want to hear of.
type On struct{ Failure, Expiry, Recovery, Renewal bool }

// Message is one to people, in plain text. Text can be read without Title.
type Message struct{ Title, Text string }

// Told is what was told of one condition, kept on disk.
type Told struct {
	cert.Condition
	// Since is when it was first seen.
	Since time.Time `json:"since"`
	// At is when it was found worth telling; zero where it is not yet, or not again.
	At time.Time `json:"at,omitzero"`
	// Last is when people last heard of it; zero where they have not, say because they do not want to.
	Last time.Time `json:"last,omitzero"`
	// Gone is when it ended; zero while it stands.
	Gone time.Time `json:"gone,omitzero"`
	// Quiet is until when it is not told anew: what comes and goes is told of once a day.
	Quiet time.Time `json:"quiet,omitzero"`
}

// Ledger is all that was told.
type Ledger struct {
	// Told is by the key of the condition.
	Told map[string]Told `json:"told,omitempty"`
	// Sent is when the last message of a sort was made.
	Sent map[sort]time.Time `json:"sent,omitempty"`
}

type sort string

const (
	sortBegin  sort = "begin"
	sortRemind sort = "remind"
	sortEnd    sort = "end"
)

// patience is how long a condition must stand before it is worth telling, at most a twentieth of the time that is left.
var patience = map[cert.ConditionKind]time.Duration{
	// A validation that fails at the first and second try and not at the third, ten minutes later, is nothing to be woken for a month
	// before expiry; nor is a CA that is away for half an hour.
	cert.ConditionFailing: time.Hour,
	// A server may be told three times in five minutes.
	cert.ConditionStale:      5 * time.Minute,
	cert.ConditionUnverified: time.Hour,
	cert.ConditionUnkept:     time.Hour, // the web server's configuration may be next
	cert.ConditionNoEngine:   time.Hour,
}

// patienceFirst is patience for a certificate where nothing works: somebody waits for it.
const patienceFirst = 5 * time.Minute

const (
	// gather is how far apart two messages are that something has begun, or has ended: what comes in between is in the second one.
	gather = time.Hour
	// gatherReminders is the same for reminders.
	gatherReminders = 12 * time.Hour
	// quiet is how long a condition is not told again that was told, and came back.
	quiet = 24 * time.Hour
	// lastDays is when reminders come each day.
	lastDays = 7
	// spacing is the least between two messages about one condition, but for that it has expired.
	spacing = 6 * time.Hour
)

// decide compares what stands with what was told, and returns what is to be told now and what is told then.
func decide(l Ledger, n cert.News, on On, now time.Time) ([]Message, Ledger) {
	told := l.update(n, now)
	after := Ledger{Told: told, Sent: map[sort]time.Time{}}
	for s, at := range l.Sent {
		after.Sent[s] = earlier(at, now)
	}
	messages := after.tell(now,
		round{sort: sortBegin, apart: gather, part: 20, compose: begun(now),
			wanted: func(t Told) bool { return t.ripe(now) },
			loud:   func(t Told) bool { return on.wants(t.Kind) },
			mark: func(t *Told) {
				t.At, t.Quiet = now, now.Add(quiet)
				if left := t.Until.Sub(now); left > 0 {
					t.Quiet = now.Add(min(quiet, left/2))
				}
				if on.wants(t.Kind) {
					t.Last = now
				}
			}},
		round{sort: sortRemind, apart: gatherReminders, part: 4, compose: reminding(now),
			wanted: func(t Told) bool { return on.Expiry && t.reminds(now) },
			loud:   func(Told) bool { return true },
			mark:   func(t *Told) { t.Last = now }},
		round{sort: sortEnd, apart: gather, part: 1, compose: ended(n.Renewed),
			wanted: func(t Told) bool { return !t.Gone.IsZero() && !t.Last.IsZero() },
			loud:   func(Told) bool { return on.Recovery },
			mark:   func(t *Told) { t.At, t.Last = time.Time{}, time.Time{} }})
	if on.Renewal && len(n.Renewed) > 0 {
		messages = append(messages, renewed(n.Renewed))
	}
	maps.DeleteFunc(told, func(_ string, t Told) bool { return !t.Gone.IsZero() && t.Last.IsZero() && !t.Quiet.After(now) })
	return messages, after
}

// round is one of the three things that there are to tell.
type round struct {
	sort sort
	// apart is the least time between two messages of the sort, at most one part of the time that is left to the most urgent.
	apart time.Duration
	part  int
	// wanted are those that are to be told, and marked as told, and loud those of them that people want to hear of.
	wanted, loud func(Told) bool
	mark         func(*Told)
	compose      func([]Told) Message
}

// tell makes at most one message of each round.
func (l Ledger) tell(now time.Time, rounds ...round) (messages []Message) {
	for _, r := range rounds {
		var keys []string
		for _, key := range slices.Sorted(maps.Keys(l.Told)) {
			if t := l.Told[key]; r.wanted(t) {
				keys = append(keys, key)
				left := t.Until.Sub(now)
				if left <= 0 && !t.Until.IsZero() { // it has expired: nobody is to wait for that for half a day, and for its end not longer than it had to live
					left = t.Until.Sub(t.At)
					r.apart = min(r.apart, gather)
				}
				if left > 0 {
					r.apart = min(r.apart, left/time.Duration(r.part))
				}
			}
		}
		if now.Sub(l.Sent[r.sort]) < r.apart {
			continue
		}
		var heard []Told
		for _, key := range keys {
			t := l.Told[key]
			if r.loud(t) {
				heard = append(heard, t)
			}
			r.mark(&t)
			l.Told[key] = t
		}
		if len(heard) > 0 {
			l.Sent[r.sort] = now
			messages = append(messages, r.compose(heard))
		}
	}
	return messages
}

// wants reports whether people want to hear that something of a kind has begun.
func (o On) wants(kind cert.ConditionKind) bool {
	if kind == cert.ConditionExpiring {
		return o.Expiry
	}
	return o.Failure
}

// update is what is known of all conditions after a look.
func (l Ledger) update(n cert.News, now time.Time) map[string]Told {
	told := map[string]Told{}
	for key, t := range l.Told {
		// A clock that was ahead has set it.
		t.Since, t.At, t.Last, t.Gone, t.Quiet = earlier(t.Since, now), earlier(t.At, now), earlier(t.Last, now), earlier(t.Gone, now), earlier(t.Quiet, now.Add(quiet))
		told[key] = t
	}
	stands := map[string]bool{}
	for _, c := range n.Conditions {
		key := c.Key()
		stands[key] = true
		t, known := told[key]
		if !known || !t.Gone.IsZero() && t.Last.IsZero() {
			t.Since, t.At = now, time.Time{}
		}
		t.Condition, t.Gone = shortened(c, len(n.Conditions)), time.Time{}
		told[key] = t
	}
	for key, t := range told {
		if !stands[key] && t.Gone.IsZero() && !slices.Contains(n.Unknown, t.Kind) {
			t.Gone = now
			told[key] = t
		}
	}
	return told
}

// maxNames and maxWords bound what is kept of one condition, maxFew those of which all words are kept, and maxMany those of which enough are: a
// thousand must fit in a file.
const (
	maxNames = 3
	maxWords = 160
	maxFew   = 20
	maxMany  = 300
)

func shortened(c cert.Condition, of int) cert.Condition {
	words := maxWords
	switch {
	case of <= maxFew:
		words *= 4
	case of > maxMany:
		words /= 4
		c.Names, c.Hint = nil, ""
	}
	c.Names = c.Names[:min(len(c.Names), maxNames)]
	c.Err, c.Hint = cut(c.Err, words), cut(c.Hint, words)
	return c
}

// ripe reports whether a condition is worth telling and was not told yet.
func (t Told) ripe(now time.Time) bool {
	if !t.Gone.IsZero() || !t.At.IsZero() || now.Before(t.Quiet) {
		return false
	}
	wait := patience[t.Kind]
	if t.Kind == cert.ConditionFailing && !t.Until.After(now) {
		wait = patienceFirst
	}
	if left := t.Until.Sub(t.Since); left > 0 {
		wait = min(wait, left/20)
	}
	// A failure whose next try is far away is no hiccup: the third in a row, or one that only a person can mend.
	return now.Sub(t.Since) >= wait || t.Kind == cert.ConditionFailing && t.Next.Sub(now) > wait
}

// ails reports whether a condition was found worth telling, stands, and keeps certificates from being renewed or served.
func (t Told) ails() bool {
	return !t.At.IsZero() && t.Gone.IsZero() && t.Kind != cert.ConditionUnkept && t.Kind != cert.ConditionUnverified
}

// reminds reports whether people are to hear again of a condition whose time runs out.
func (t Told) reminds(now time.Time) bool {
	if t.At.IsZero() || !t.Gone.IsZero() || t.Until.IsZero() || !t.At.Before(t.Until) {
		return false
	}
	last := t.Last
	if last.IsZero() {
		last = t.At
	}
	return slices.ContainsFunc(t.moments(), func(at time.Time) bool {
		return at.After(last) && !at.After(now) && (now.Sub(last) >= spacing || at.Equal(t.Until))
	})
}

// moments are when to remind: when 2/3, 1/2, 1/3, 1/4 and 1/6 of the time are left that was left at first, and in the last week each day.
// The last one is the expiry: what has expired is not told of for ever.
func (t Told) moments() []time.Time {
	const day = 24 * time.Hour
	left := t.Until.Sub(t.At)
	var all []time.Time
	for _, part := range []time.Duration{left * 2 / 3, left / 2, left / 3, left / 4, left / 6} {
		if left < lastDays*day || part > lastDays*day {
			all = append(all, t.Until.Add(-part))
		}
	}
	for days := lastDays; days > 0 && left >= lastDays*day; days-- {
		all = append(all, t.Until.Add(-time.Duration(days)*day))
	}
	return append(all, t.Until)
}

func earlier(t, latest time.Time) time.Time {
	if t.After(latest) {
		return latest
	}
	return t
}

// byUrgency puts what ends first to the front, and what has ended before.
func byUrgency(all []Told) []Told {
	return slices.SortedStableFunc(slices.Values(all), func(a, b Told) int {
		return cmp.Or(a.Until.Compare(b.Until), strings.Compare(a.Cert, b.Cert))
	})
}
