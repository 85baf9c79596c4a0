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
	// remembered is how long a container that has vanished is still heard: it may only be made anew, or its project be down for the night.
	remembered = 24 * time.Hour
	// reseen is how old the time at which a container was last seen may be on disk.
	reseen = time.Hour
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

// discover asks which containers bear labels, and reports whether that is another thing than before. Where the engine does not answer,
// what they last asked for stands.
func (m *Manager) discover(ctx context.Context) (changed bool) {
	if m.Discover == nil || m.Labels == nil {
		return false
	}
	seen, err := m.Discover(ctx)
	if err != nil || ctx.Err() != nil {
		m.Log.Debug("labels of containers not read", cert.AttrErr, err)
		return false
	}
	before, err := m.Store.Labelled()
	if err != nil {
		return false // the pass says so
	}
	after, changed, stale := m.merge(before, seen)
	if !changed && !stale {
		return false
	}
	if err := m.Store.SaveLabelled(after); err != nil {
		m.warnOnce("labels", "state not written", cert.AttrErr, err)
		return false
	}
	m.warnOnce("labels", "")
	return changed
}

// merge brings what is seen into the book. stale says that the book's times are to be brought up to date.
func (m *Manager) merge(before, seen []cert.Labelled) (after []cert.Labelled, changed, stale bool) {
	now := m.Now().UTC()
	byName := map[string]cert.Labelled{}
	for _, l := range before {
		byName[l.Container] = l
	}
	for _, l := range seen {
		was, known := byName[l.Container]
		changed = changed || !known || was.Key() != l.Key() || !maps.Equal(was.Labels, l.Labels)
		stale = stale || now.Sub(was.SeenAt).Abs() > reseen
		l.SeenAt = now
		byName[l.Container] = l
	}
	for name, l := range byName {
		here := slices.ContainsFunc(seen, func(s cert.Labelled) bool { return s.Container == name })
		// One of the same service stands for a replica that has gone, or for a container that was made anew under another name.
		replaced := slices.ContainsFunc(seen, func(s cert.Labelled) bool { return s.Key() == l.Key() })
		if !here && (replaced || now.Sub(l.SeenAt) > remembered) {
			delete(byName, name)
			changed = true
		}
	}
	for _, l := range byName {
		after = append(after, l)
	}
	slices.SortFunc(after, func(a, b cert.Labelled) int { return strings.Compare(a.Container, b.Container) })
	return after, changed, stale
}

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
	if m.Labels != nil && len(works) == 0 {
		msg = "no certificate is asked for yet"
	}
	m.warnOnce("nothing", msg, cert.AttrHint, "set DOMAINS=example.org,www.example.org, or the label sidecert.domains of a web container")
}

// tellUntold warns of stored certificates that no web container is told of, though nobody has chosen that.
func (m *Manager) tellUntold(works []*work) {
	var names []string
	for _, w := range works {
		if w.lineage.Issued() && !w.spec.Reload.Off && len(w.spec.Reload.Targets) == 0 {
			names = append(names, w.name)
		}
	}
	msg := ""
	if m.Labels != nil && len(names) > 0 { // without labels the configuration has said so
		msg = "no web container is told of new certificates"
	}
	m.warnOnce("untold", msg, "certs", strings.Join(names, " "), cert.AttrHint,
		"name the Compose service of the web container: RELOAD=web, or give it the label sidecert.reload; RELOAD=off if it is told otherwise")
}
