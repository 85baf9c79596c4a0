package renewal

import (
	"context"
	"maps"
	"slices"
	"strings"
	"time"

	"github.com/sidecert/sidecert/internal/cert"
)

// What containers ask for by label is kept on disk, so that it holds while the engine is away, and for other processes than the daemon.

const (
	// remembered is how long a container that has gone is still heard: it may only be made anew, or its project be down for the night.
	remembered = 24 * time.Hour
	// A service whose labels have changed so often within the window is heard as it was before: each change is an order, and the CA counts.
	maxChanges    = 20
	changesWindow = 24 * time.Hour
	// maxLabelled bounds the book.
	maxLabelled = 1000
)

// wishes are what the environment and containers ask for.
func (m *Manager) wishes() (cert.Wishes, []cert.Doubt) {
	if m.Labels == nil {
		return m.Wishes, nil
	}
	all, err := m.Store.Labelled()
	if err != nil {
		return m.Wishes, []cert.Doubt{{Text: "what containers ask for by label cannot be read: " + err.Error(), Hint: "see that STATE_DIR can be read"}}
	}
	return m.With(all)
}

// Plan is Wishes.Plan with what containers ask for.
func (m *Manager) Plan(lineages []cert.Lineage) ([]cert.Wish, map[string]string) {
	w, _ := m.wishes()
	return w.Plan(lineages)
}

// discover asks which containers bear labels, and reports whether that is another thing than before. Where that is not known, what they
// last asked for stands.
func (m *Manager) discover(ctx context.Context) (changed bool) {
	if m.Discover == nil || m.Labels == nil {
		return false
	}
	err := m.guarded("labels", "", func() error {
		seen, err := m.Discover(ctx)
		if err != nil || ctx.Err() != nil {
			return err
		}
		before, err := m.Store.Labelled()
		if err != nil {
			return err
		}
		after, differs, worth := m.merge(before, seen)
		if !worth {
			return nil
		}
		if err := m.Store.SaveLabelled(after); err != nil {
			return err
		}
		changed = differs
		return nil
	})
	if ctx.Err() == nil {
		m.unheard = err
	}
	return changed
}

// merge brings what is seen into the book. differs says that something else is asked for, worth that the book is to be written.
func (m *Manager) merge(before, seen []cert.Labelled) (after []cert.Labelled, differs, worth bool) {
	now := m.Now().UTC()
	byKey := map[string]cert.Labelled{} // a replica stands for all, and a container that was made anew for the one before
	for _, l := range before {
		byKey[l.Key()] = l
	}
	here := map[string]bool{}
	for _, l := range seen {
		l.Labels = cert.Bounded(l.Labels)
		was, known := byKey[l.Key()]
		if here[l.Key()] && was.Container < l.Container || !known && len(byKey) >= maxLabelled {
			continue
		}
		here[l.Key()] = true
		l.Since, l.Changed = now, nil
		if known {
			l.Since, l.Changed = was.Since, within(was.Changed, changesWindow, now)
		}
		same := maps.Equal(was.Labels, l.Labels)
		if known && !same && len(l.Changed) >= maxChanges {
			m.warnOnce("flaps "+l.Key(), "labels of a container change too often, what they said before holds", cert.AttrContainer, l.Container,
				cert.AttrHint, "see who starts it with other labels again and again; they are heard again when a day has passed")
			l.Labels, same = was.Labels, true
		}
		if known && !same {
			l.Changed = append(l.Changed, now)
		}
		differs = differs || !known || !same
		worth = worth || differs || was.Container != l.Container || !was.GoneSince.IsZero()
		byKey[l.Key()] = l
	}
	for key, l := range byKey {
		switch {
		case here[key]:
		case l.GoneSince.IsZero():
			l.GoneSince, worth = now, true
			byKey[key] = l
		case now.Sub(l.GoneSince) > remembered:
			delete(byKey, key)
			differs, worth = true, true
		}
	}
	for _, key := range slices.Sorted(maps.Keys(byKey)) {
		after = append(after, byKey[key])
	}
	return after, differs, worth
}

// NothingAsked is said where there is nothing to keep, and HintNothingAsked how that is changed.
const (
	NothingAsked     = "no certificate is asked for yet"
	HintNothingAsked = "set DOMAINS=example.org,www.example.org, or the label sidecert.domains of a web container"
)

// tellLabels warns of labels that do nothing, and, where labels are all that there could be, that there are none.
func (m *Manager) tellLabels(doubts []cert.Doubt, works []*work) {
	now := map[string]bool{}
	for _, d := range doubts {
		now["label "+d.Text] = true
		m.warnOnce("label "+d.Text, d.Text, cert.AttrHint, d.Hint)
	}
	for key := range m.warned {
		if strings.HasPrefix(key, "label ") && !now[key] {
			delete(m.warned, key) // mended; it is told anew if it comes back
		}
	}
	msg := ""
	if m.Labels != nil && len(works) == 0 && m.unheard == nil {
		msg = NothingAsked
	}
	m.warnOnce("nothing", msg, cert.AttrHint, HintNothingAsked)
	m.tellUnheard(works)
}

// tellUnheard warns that labels cannot be read, where that can make a difference: most people use none.
func (m *Manager) tellUnheard(works []*work) {
	if m.unheard == nil || len(works) > 0 && !slices.ContainsFunc(works, untold) && len(m.labelled()) == 0 {
		m.warnOnce("unheard", "")
		return
	}
	text, hint := ErrorText(m.unheard)
	m.warnOnce("unheard", "labels of web containers are not known, going by what they last asked for", cert.AttrErr, text, cert.AttrHint, hint)
}

func (m *Manager) labelled() []cert.Labelled {
	all, _ := m.Store.Labelled() // an error is told where the wishes are made
	return all
}

func untold(w *work) bool {
	return w.lineage.Issued() && !w.spec.Reload.Off && len(w.spec.Reload.Targets) == 0
}

// tellUntold warns of stored certificates that no web container is told of, though nobody has chosen that.
func (m *Manager) tellUntold(works []*work) {
	var names []string
	for _, w := range works {
		if untold(w) {
			names = append(names, w.name)
		}
	}
	msg := ""
	if m.Labels != nil && m.unheard == nil && len(names) > 0 { // without labels the configuration has said so
		msg = "no web container is told of new certificates"
	}
	m.warnOnce("untold", msg, "certs", strings.Join(names, " "), cert.AttrHint,
		"name the Compose service of the web container: RELOAD=web, or give it the label sidecert.reload; RELOAD=off if it is told otherwise")
}
