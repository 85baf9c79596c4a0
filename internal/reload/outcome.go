package reload

import (
	"errors"
	"fmt"
	"time"

	"github.com/sidecert/sidecert/internal/cert"
)

// end remembers what became of the container and says so.
func (t *task) end() (outcomes []cert.Outcome, next time.Time) {
	now := t.r.now()
	for _, v := range t.views {
		if at := t.again(v, now); !at.IsZero() {
			next = earliest(next, at)
		}
	}
	if t.forgot == nil || t.unsafe {
		t.forgot = t.remember(t.Name, &t.state, t.views, t.unsafe)
	}
	for _, v := range t.views {
		o := v.outcome(t.found)
		if t.stopped && o.Err == nil {
			o.Hint = hintStopped
		}
		if t.forgot != nil && o.Err == nil {
			o.Err, o.Hint = fmt.Errorf("what %s was told is not known: %w", t.Name, t.forgot), "see that STATE_DIR can be written"
		}
		outcomes = append(outcomes, o)
	}
	return outcomes, next
}

// again is when a certificate wants another look, and sets the backoff of one that was told in vain.
func (t *task) again(v *view, now time.Time) time.Time {
	pending := v.class == cert.Stale || v.err != nil || now.Before(v.next)
	if v.told && pending {
		v.next = now.Add(backoff[min(v.tries(), len(backoff))-1])
	}
	switch {
	case !v.kept.Lineage.Issued(), v.class == cert.Current:
		v.next = time.Time{}
		return time.Time{}
	case t.stopped:
		at, _ := t.patience.wait("stopped "+t.Name, soon, later)
		return at
	case pending && !v.spared:
		return v.next
	case v.kept.Spec.Verify.Off && v.tells():
		return time.Time{}
	}
	return t.growing(v, now)
}

// growing is when a container that is not seen, or serves something else, is looked at again after its start: it may be on its
// way. Once told and some time up it is left in peace.
func (t *task) growing(v *view, now time.Time) time.Time {
	up := t.State.StartedAt
	age := now.Sub(up)
	switch {
	case up.IsZero() || v.spared:
	case t.young(now), v.class == cert.Unseen && age < unseenFor:
		return now.Add(doubling(age, soon, later))
	}
	return time.Time{}
}

// tells reports whether the container has been told of the stored version.
func (v *view) tells() bool {
	return v.told && v.err == nil || v.was.Told == v.kept.Lineage.Fingerprint()
}

// tries counts the actions for the stored version.
func (v *view) tries() int {
	n := v.was.Tries
	if v.was.Stored != v.kept.Lineage.Fingerprint() {
		n = 0
	}
	if v.told {
		n++
	}
	return n
}

// served is what is to be remembered.
func (v *view) served(now time.Time) cert.Served {
	s := v.was
	fp := v.kept.Lineage.Fingerprint()
	if s.Seen != v.class || s.Stored != fp || s.Since.IsZero() {
		s.Since = now
	}
	s.Seen, s.Stored, s.Tries, s.Next = v.class, fp, v.tries(), v.next
	if v.told {
		s.At, s.Action = v.at, v.done
		s.Err = ""
		if v.err != nil {
			s.Err = v.err.Error()
		}
		if v.err == nil || v.restarted {
			s.Told = fp
		}
	}
	if v.class == cert.Current {
		s.Err, s.Tries = "", 0
	}
	return s
}

// outcome puts into words what became of a certificate.
func (v *view) outcome(f found) cert.Outcome {
	o := cert.Outcome{
		Cert: v.kept.Lineage.Name, Container: f.Name, Version: v.kept.Lineage.Number, Action: v.done, Class: v.class, Bare: v.bare, Err: v.err, Hint: v.hint,
		// One that went back to an older certificate and was told, all since the last look, is as it was, and yet there is something to tell.
		Changed: v.was.Seen != v.class || v.was.Stored != v.kept.Lineage.Fingerprint() || v.told && v.class == cert.Current,
	}
	if o.Err != nil || v.class == cert.Current || v.spared || !v.kept.Lineage.Issued() {
		return o
	}
	switch v.class {
	case cert.Stale:
		o.Err = errors.New("an older certificate is still served")
		if v.was.Err != "" && !v.told {
			o.Err = errors.New(v.was.Err)
		}
		if o.Hint == "" {
			o.Hint = hintOfStale(f, v.was.Action)
		}
	case cert.Foreign:
		o.Err, o.Hint = v.sight.err, hintOfForeign(f, v.kept)
	case cert.Unseen:
		if o.Err = v.sight.err; o.Err != nil {
			o.Hint = hintUnseen
		}
	}
	return o
}
