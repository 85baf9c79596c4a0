package renewal

import (
	"context"
	"errors"
	"log/slog"
	"maps"
	"slices"
	"strings"

	"github.com/sidecert/sidecert/internal/cert"
	"github.com/sidecert/sidecert/internal/store"
)

// plan reads what is kept, without a change to anything.
func (m *Manager) plan() (works []*work, left map[string]string, lineages []cert.Lineage) {
	lineages, _ = m.Store.Lineages() // one that cannot be read is met by whoever opens it
	plan, left := m.Plan(lineages)
	return worksOf(plan), left, lineages
}

func worksOf(wishes []cert.Wish) []*work {
	works := make([]*work, len(wishes))
	for i, wish := range wishes {
		works[i] = &work{spec: wish.Spec, name: wish.Lineage, book: wish.Lineage, adopted: wish.Adopted}
		works[i].result.Cert = wish.Lineage
	}
	return works
}

// survey reads every lineage, mends what was interrupted or damaged, and puts placeholders where there is nothing.
func (m *Manager) survey(ctx context.Context) (works []*work, left map[string]string) {
	wishes, doubts := m.wishes()
	lineages := m.lineages(ctx, slices.Concat(wishes.Specs, wishes.Asked))
	doubts = append(doubts, wishes.Refused(lineages)...)
	plan, left := wishes.Plan(lineages)
	works = worksOf(plan)
	m.tellLabels(doubts, works)
	for i, w := range works {
		w.result.Err = m.guarded("files", w.name, func() (err error) {
			w.lineage, err = m.open(ctx, w, lineages)
			return err
		})
		if err := w.result.Err; err != nil {
			text, hint := ErrorText(err)
			m.warnOnce("open "+w.name, "certificate held: its files cannot be used", cert.AttrCert, w.name, cert.AttrErr, text, cert.AttrHint, hint)
		} else {
			m.warnOnce("open "+w.name, "")
		}
		m.welcome(w, plan[i].Doubts)
		m.tellOpenKey(w)
		m.tellForeignFile(w)
	}
	m.tellUnkept(works, lineages, left)
	m.tellVanished(works)
	m.tellUntold(works)
	return works, left
}

// prepare puts placeholders for what containers ask for that came while a pass is under way, which may wait a minute for a challenge path
// and longer for a CA: a web server does not start without its files. All else is the next pass's, which the same event has called for.
func (m *Manager) prepare(ctx context.Context, works []*work) {
	if !m.discover(ctx) {
		return
	}
	now, _, lineages := m.plan()
	for _, w := range now {
		if slices.ContainsFunc(works, func(o *work) bool { return o.name == w.name || o.spec.Name == w.spec.Name }) {
			continue // its files may be changing under us
		}
		m.guarded("files", w.name, func() error { // an error is told by the next pass, which tries again
			_, err := m.open(ctx, w, lineages)
			return err
		})
	}
	m.beat(m.healthOf(now))
}

// tellVanished warns of certificates that were kept and are not there any more: a person may have deleted them, or a volume is lost.
func (m *Manager) tellVanished(works []*work) {
	before, err := m.Store.Kept()
	if err != nil {
		return // it is for people, and told again when it can be read
	}
	now, configured := map[string]bool{}, map[string]bool{}
	for _, w := range works {
		configured[w.name] = !w.adopted
		damaged := w.result.Err != nil || m.warned["broken "+w.name] != "" // what cannot be read is there
		if w.lineage.Issued() || damaged && keeps(before, w.name) {
			now[w.name] = w.adopted
		}
	}
	var gone []string
	for _, name := range slices.Sorted(maps.Keys(before)) {
		switch {
		case keeps(now, name):
		case m.isThere(name): // left to certbot, say
			now[name] = before[name]
		default:
			gone = append(gone, name)
		}
	}
	if maps.Equal(before, now) || !m.saveKept(now) {
		return // what cannot be remembered would be told at each pass
	}
	for _, name := range gone {
		m.tellGone(name, before[name], configured[name])
	}
}

// isThere reports whether a lineage has a certificate, or files that cannot be read.
func (m *Manager) isThere(name string) bool {
	l, err := m.Store.Lineage(name)
	return err != nil || l.Issued()
}

func keeps(lineages map[string]bool, name string) bool {
	_, ok := lineages[name]
	return ok
}

// tellGone warns of a lineage whose certificate is gone. One that nobody wants any more is no matter.
func (m *Manager) tellGone(name string, adopted, configured bool) {
	switch {
	case configured:
		m.Log.Warn("stored certificate is not there any more and ordered anew", cert.AttrCert, name,
			cert.AttrHint, "if nobody has deleted it on purpose, look whether the right volume is mounted, and restore it from a backup")
	case adopted && m.Adopt:
		m.Log.Warn("adopted certificate is not there any more and not renewed", cert.AttrCert, name,
			cert.AttrHint, "if nobody has deleted it on purpose, look whether the right volume is mounted, and restore renewal/"+name+".conf, live/ and archive/ from a backup")
	default:
		return
	}
	m.journal(cert.Event{Kind: cert.EventDeleted, Cert: name, Err: "it is not there any more, and it was not sidecert that deleted it"})
}

// noteKept has a certificate missed from now on when it is not there any more.
func (m *Manager) noteKept(w *work) {
	before, err := m.Store.Kept()
	if err != nil || keeps(before, w.name) {
		return
	}
	now := map[string]bool{w.name: w.adopted}
	maps.Copy(now, before)
	m.saveKept(now)
}

func (m *Manager) forgetKept(name string) {
	if before, err := m.Store.Kept(); err == nil && keeps(before, name) {
		delete(before, name)
		m.saveKept(before)
	}
}

func (m *Manager) saveKept(lineages map[string]bool) bool {
	err := m.Store.SaveKept(lineages)
	if err != nil {
		m.warnOnce("kept", "state not written", cert.AttrErr, err)
		return false
	}
	m.warnOnce("kept", "")
	return true
}

// lineages are all that can be read. What certbot, or a copy of its folder, has left in a bad state is mended first, since nobody knows
// the settings of a lineage that cannot be read. One that stays so and shows names that are wanted is among them by its certificate
// alone, so that it is held and no other is made in its place.
func (m *Manager) lineages(ctx context.Context, specs []cert.Spec) []cert.Lineage {
	lineages, broken := m.Store.Lineages()
	if len(broken) == 0 {
		return lineages
	}
	for _, name := range slices.Sorted(maps.Keys(broken)) {
		err := broken[name]
		if !m.Adopt && !m.wants(specs, name) {
			continue
		}
		if !errors.Is(err, store.ErrLeftover) { // which mending would bring back to life
			if _, err = m.mend(ctx, name); err == nil {
				_, err = m.Store.Lineage(name)
			}
		}
		if err != nil && !configured(specs, name) && !errors.Is(err, store.ErrForeign) {
			text, hint := ErrorText(err)
			m.warnOnce("open "+name, "stored certificate cannot be used and is not renewed", cert.AttrCert, name, cert.AttrErr, text, cert.AttrHint, hint)
		}
	}
	lineages, broken = m.Store.Lineages()
	for name, err := range broken {
		if m.wants(specs, name) && !errors.Is(err, store.ErrForeign) {
			lineages = append(lineages, cert.Lineage{Name: name, Chain: m.Store.Shown(name)})
		}
	}
	return lineages
}

// wants reports whether one of the certificates is for a name that a lineage shows.
func (m *Manager) wants(specs []cert.Spec, lineage string) bool {
	chain := m.Store.Shown(lineage)
	if len(chain) == 0 {
		return false
	}
	shown := cert.NamesOf(chain[0])
	return slices.ContainsFunc(specs, func(s cert.Spec) bool {
		return slices.ContainsFunc(s.Names, func(name string) bool { return slices.Contains(shown, name) })
	})
}

func configured(specs []cert.Spec, lineage string) bool {
	return slices.ContainsFunc(specs, func(s cert.Spec) bool { return s.Name == lineage })
}

// welcome tells once what was taken over from certbot, and what was taken otherwise than its conf says.
func (m *Manager) welcome(w *work, doubts []cert.Doubt) {
	if w.adopted && m.warned["adopted "+w.name] == "" && w.lineage.Issued() {
		m.warned["adopted "+w.name] = "yes"
		m.Log.Info("certificate of certbot adopted", cert.AttrCert, w.name, cert.AttrNames, w.spec.Names,
			cert.AttrNotAfter, w.lineage.Leaf().NotAfter, cert.AttrCA, w.spec.CA.Directory)
	}
	for _, d := range doubts {
		m.warnOnce("doubt "+w.name+" "+d.Text, d.Text, cert.AttrCert, w.name, cert.AttrHint, d.Hint)
	}
}

// tellOpenKey warns of a private key that everybody may read: some volumes have no modes but those of their mount.
func (m *Manager) tellOpenKey(w *work) {
	msg := ""
	if w.lineage.Number > 0 && (m.Store.KeyIsOpen(w.name, w.lineage.Number) || m.Store.HaproxyIsOpen(w.name)) {
		msg = "private key can be read by everybody"
	}
	m.warnOnce("key "+w.name, msg, cert.AttrCert, w.name, cert.AttrHint, "see `sidecert doctor`; a volume without modes is to be mounted with others, or to be one of the engine's own")
}

// tellForeignFile warns of a file in the place of one that EXTRA_FILES asks for: nobody keeps it up to date.
func (m *Manager) tellForeignFile(w *work) {
	msg := ""
	if w.lineage.Leaf() != nil && m.Store.HaproxyIsForeign(w.name) {
		msg = "haproxy.pem is not sidecert's and is left as it is"
	}
	m.warnOnce("haproxy "+w.name, msg, cert.AttrCert, w.name, cert.AttrDir, w.lineage.Dir,
		cert.AttrHint, "move it away, and sidecert makes one; or take haproxy out of EXTRA_FILES and keep yours up to date yourself")
}

// tellUnkept warns of what is stored and not renewed.
func (m *Manager) tellUnkept(works []*work, lineages []cert.Lineage, left map[string]string) {
	m.unkept = nil
	for _, l := range lineages {
		kept := slices.ContainsFunc(works, func(w *work) bool { return w.name == l.Name })
		switch {
		case kept || !l.Issued():
			continue
		case left[l.Name] != "":
			m.warnOnce("unkept "+l.Name, "certificate is left to certbot", cert.AttrCert, l.Name, cert.AttrErr, left[l.Name],
				cert.AttrNotAfter, l.Leaf().NotAfter, cert.AttrHint, "let a certbot renew it, or name what HTTP-01 can prove in DOMAINS")
		default:
			m.warnOnce("unkept "+l.Name, "stored certificate is not configured and not renewed", cert.AttrCert, l.Name, cert.AttrNames, l.Names(),
				cert.AttrNotAfter, l.Leaf().NotAfter, cert.AttrHint, "name it in DOMAINS to keep it, or forget it by `sidecert delete "+l.Name+"` once no web server uses it")
		}
		m.unkept = append(m.unkept, l)
	}
}

// mend has the store put right what it can, and tells what it did.
func (m *Manager) mend(ctx context.Context, name string) (mended bool, err error) {
	defer m.step()
	did, err := m.Store.Mend(ctx, name)
	if err == nil && did != "" {
		level := slog.LevelInfo
		if strings.Contains(did, "renewal/") { // settings may be lost
			level = slog.LevelWarn
		}
		m.Log.Log(ctx, level, "files mended", cert.AttrCert, name, "did", did)
		m.journal(cert.Event{Kind: cert.EventRepaired, Cert: name, Action: did})
	}
	return did != "", err
}

// open reads a lineage, with a placeholder where there is nothing yet. One that was read a moment ago and is sound is not read again.
func (m *Manager) open(ctx context.Context, w *work, known []cert.Lineage) (cert.Lineage, error) {
	mended, err := m.mend(ctx, w.name)
	if err != nil {
		return cert.Lineage{}, err
	}
	if i := slices.IndexFunc(known, func(l cert.Lineage) bool { return l.Name == w.name }); i >= 0 && !mended && known[i].Number > 0 {
		return known[i], nil
	}
	l, err := m.Store.Lineage(w.name)
	if errors.Is(err, store.ErrBroken) {
		m.warnOnce("broken "+w.name, "stored files are damaged, the certificate is ordered anew", cert.AttrCert, w.name, cert.AttrErr, err)
		if l = (cert.Lineage{Name: w.name, Dir: l.Dir}); m.Store.Servable(w.name) {
			return l, nil // what a web server can start with stays until there is better
		}
	} else if err != nil || l.Issued() || m.placeholderFits(l, w.spec) {
		return l, err
	}
	if l, err = m.Store.Placeholder(ctx, w.name, w.spec.Names); err != nil {
		return l, err
	}
	m.Log.Info("placeholder stored, so that the web server can start", cert.AttrCert, w.name, cert.AttrDir, l.Dir)
	m.journal(cert.Event{Kind: cert.EventPlaceholder, Cert: w.name, Names: w.spec.Names})
	return l, nil
}

func (m *Manager) placeholderFits(l cert.Lineage, s cert.Spec) bool {
	return l.Placeholder && cert.SameNames(l.Names(), s.Names) && m.Now().Before(l.Leaf().NotAfter)
}

// Health looks which certificates have no files to serve. It changes nothing.
func (m *Manager) Health() Health {
	works, _, _ := m.plan()
	return m.healthOf(works)
}

func (m *Manager) healthOf(works []*work) Health {
	h := Health{Ready: true}
	for _, w := range works {
		if !m.Store.Ready(w.name) {
			h.Missing = append(h.Missing, w.name)
		}
	}
	return h
}
