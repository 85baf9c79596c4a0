package renewal

import (
	"context"
	"errors"
	"slices"
	"strings"
	"time"

	"github.com/sidecert/sidecert/internal/cert"
)

// What a person should hear of is told as it stands at each look. Whether it was told already is others' business.

// news gathers what a pass has found.
func (m *Manager) news(ctx context.Context, works []*work, left map[string]string, look cert.Look) cert.News {
	n := cert.News{Pass: true}
	for _, w := range works {
		if w.result.Obtained {
			n.Renewed = append(n.Renewed, cert.Renewed{Cert: w.name, Names: w.lineage.Names(), NotAfter: w.lineage.Leaf().NotAfter})
		}
		if c, ok := m.trouble(w); ok {
			n.Conditions = append(n.Conditions, c)
		}
	}
	unkept, known := m.unkeptServed(ctx, left)
	n.Conditions = append(n.Conditions, unkept...)
	if !known {
		n.Unknown = append(n.Unknown, cert.ConditionUnkept)
	}
	m.troubles, m.unknown = n.Conditions, n.Unknown
	m.addServed(&n, look)
	return n
}

// glimpse is the news of a look at the web containers alone: all else is as the last pass has found it.
func (m *Manager) glimpse(look cert.Look) cert.News {
	n := cert.News{Conditions: slices.Clone(m.troubles), Unknown: slices.Clone(m.unknown)}
	m.addServed(&n, look)
	return n
}

func (m *Manager) tellGlimpse(ctx context.Context, look cert.Look) {
	if m.Tell != nil && ctx.Err() == nil {
		m.Tell(m.glimpse(look))
	}
}

// trouble is what ails a certificate that is kept.
func (m *Manager) trouble(w *work) (cert.Condition, bool) {
	c := cert.Condition{Kind: cert.ConditionFailing, Cert: w.name, Names: w.spec.Names, Next: w.result.Next}
	if w.lineage.Issued() && w.condemned == "" {
		c.Until = w.lineage.Leaf().NotAfter
		c.Extends = !w.again.IsZero() || !cert.SameNames(w.lineage.Names(), w.spec.Names)
	}
	switch {
	case !w.again.IsZero(): // the stored names are renewed in place of the wanted ones, which fail
		c.Names, c.Next, c.Err, c.Hint = w.lacking.Names, w.again, w.lacking.Err, w.lacking.Hint
		if w.result.Err != nil {
			c.Err, c.Hint = ErrorText(w.result.Err)
		}
		return c, true
	case w.result.Obtained || w.result.Err == nil && w.result.Why == "" || w.paced:
		c.Kind, c.Err = cert.ConditionExpiring, w.result.Held
		return c, !w.result.Obtained && w.lineage.Issued() && m.ailing(w.lineage, w.spec.RenewBefore)
	case w.result.Err != nil:
		c.Err, c.Hint = ErrorText(w.result.Err)
	case w.attempts.Failures > 0:
		c.Err, c.Hint = w.attempts.Err, w.attempts.Hint
	default:
		c.Err = w.result.Held
	}
	e, _ := errors.AsType[*cert.Error](w.result.Err)
	return c, e == nil || e.Kind != cert.KindInterrupted // which goes on in the next pass
}

func (m *Manager) ailing(l cert.Lineage, renewBefore time.Duration) bool {
	return m.ExpiryWarning > 0 && cert.Ailing(l.Leaf(), renewBefore, m.ExpiryWarning, m.ExpiryWarning, m.Now()) > 0
}

// addServed adds what ails in the web containers.
func (m *Manager) addServed(n *cert.News, look cert.Look) {
	if look.Err != nil {
		n.Unknown = append(n.Unknown, cert.ConditionStale, cert.ConditionUnverified)
		text, hint := ErrorText(look.Err)
		c := cert.Condition{Kind: cert.ConditionNoEngine, Err: text, Hint: look.Hint}
		if c.Hint == "" {
			c.Hint = hint
		}
		if slices.ContainsFunc(m.kept, func(k cert.Kept) bool { return k.Spec.Told() }) {
			n.Conditions = append(n.Conditions, c)
		}
		return
	}
	for _, k := range m.kept {
		if !k.Lineage.Issued() || !k.Spec.ToBeServed() {
			continue
		}
		stale := false
		for _, o := range look.Outcomes {
			// Who reloads by himself has his time until the look finds an error in it.
			if o.Cert != k.Lineage.Name || o.Class != cert.Stale || !k.Spec.Told() && o.Err == nil {
				continue
			}
			stale = true
			c := cert.Condition{Kind: cert.ConditionStale, Cert: o.Cert, Names: k.Spec.Names, Container: o.Container, Next: look.Next, Hint: o.Hint}
			if o.Err != nil {
				c.Err = o.Err.Error()
			}
			if before := m.Store.Leaf(o.Cert, k.Lineage.Number-1); before != nil {
				c.Until = before.NotAfter
			}
			n.Conditions = append(n.Conditions, c)
		}
		if why, hint := unserved(k.Lineage.Name, look); why != "" && !stale && !waited(k, look) {
			n.Conditions = append(n.Conditions, cert.Condition{Kind: cert.ConditionUnverified, Cert: k.Lineage.Name, Names: k.Spec.Names,
				Until: k.Lineage.Leaf().NotAfter, Err: why, Hint: hint})
		}
	}
}

// waited reports whether a web server that nobody tells is still given time to read its files by itself.
func waited(k cert.Kept, look cert.Look) bool {
	return !k.Spec.Told() && slices.ContainsFunc(look.Outcomes, func(o cert.Outcome) bool {
		return o.Cert == k.Lineage.Name && o.Class == cert.Stale && o.Err == nil
	})
}

// unkeptServed are the certificates that nobody renews and somebody needs: those that are configured no more and still served, and
// those left to certbot that near their expiry. known is false where it was not to be seen whether they are served.
func (m *Manager) unkeptServed(ctx context.Context, left map[string]string) (all []cert.Condition, known bool) {
	var dropped []cert.Lineage
	for _, l := range m.unkept {
		switch {
		case left[l.Name] == "":
			dropped = append(dropped, l)
		case m.ailing(l, 0):
			all = append(all, cert.Condition{Kind: cert.ConditionExpiring, Cert: l.Name, Names: l.Names(), Until: l.Leaf().NotAfter,
				Err: "it is left to certbot: " + left[l.Name], Hint: "let a certbot renew it, or name what HTTP-01 can prove in DOMAINS"})
		}
	}
	if len(dropped) == 0 || m.General == nil {
		return all, true
	}
	var served map[string]string
	err := m.guarded("look", "", func() (err error) {
		served, err = m.servers(ctx, dropped)
		return err
	})
	for _, l := range dropped {
		if container := served[l.Name]; container != "" {
			all = append(all, cert.Condition{Kind: cert.ConditionUnkept, Cert: l.Name, Names: l.Names(), Container: container, Until: l.Leaf().NotAfter,
				Hint: "name it in DOMAINS to keep it, or take it out of the web server and then forget it by `sidecert delete " + l.Name + "`"})
		}
	}
	return all, err == nil
}

// servers are the containers that serve lineages which are not kept, by lineage: those that would be told of them, and those that were
// once seen to serve them.
func (m *Manager) servers(ctx context.Context, lineages []cert.Lineage) (map[string]string, error) {
	targets, _ := m.Store.Targets() // what cannot be read tells nothing
	var kept []cert.Kept
	for _, l := range lineages {
		spec := m.General(l.Name)
		spec.Name, spec.Names = l.Name, l.Names()
		for container, state := range targets {
			if _, known := state.Certs[l.Name]; known && !strings.Contains(container, ":") && !spec.Verify.Off { // an endpoint has a port
				spec.Reload.Off = false
				spec.Reload.Targets = append(slices.Clone(spec.Reload.Targets), cert.Target{Word: container, Action: cert.Action{Kind: cert.ActionAuto}})
			}
		}
		kept = append(kept, cert.Kept{Spec: spec, Lineage: l})
	}
	look := m.Reloader.Show(ctx, kept)
	served := map[string]string{}
	for _, o := range look.Outcomes {
		if o.Class == cert.Current || o.Class == cert.Stale {
			served[o.Cert] = o.Container
		}
	}
	return served, look.Err
}
