package renewal

import (
	"fmt"
	"slices"
	"time"

	"github.com/sidecert/sidecert/internal/cert"
)

// pace leaves to later passes what an account's pace has no room for now: those that expire first go first. What is resumed is no
// further order.
func (m *Manager) pace(wanted []*work) []*work {
	if len(wanted) == 0 {
		return nil
	}
	m.books.Lock()
	defer m.books.Unlock()
	now := m.Now()
	g, err := m.loadGuard(now)
	if err != nil {
		return wanted // which is told where each of them enters
	}
	ordered, held := map[string]int{}, map[string]int{}
	wanted = slices.DeleteFunc(wanted, func(w *work) bool {
		id := w.spec.CA.ID()
		held[w.spec.CA.Directory] += 0 // heard of, so that a warning that is over is taken back
		if w.force || !cert.Public(w.spec.CA.Directory) || w.attempts.Order != nil && w.attempts.Order.URL != "" {
			return false
		}
		ordered[id]++
		if ordered[id]+len(within(g.Orders[id], accountWindow, now)) <= accountOrders {
			return false
		}
		held[w.spec.CA.Directory]++
		w.paced = true
		w.result.Next = later(freeAt(g.Orders[id], accountOrders, accountWindow, now), now.Add(time.Minute))
		w.result.Held = fmt.Sprintf("%d orders are made at this CA in 3 hours, and others expire earlier", accountOrders)
		return true
	})
	for ca, n := range held {
		msg := ""
		if n > 0 {
			msg = "more certificates are due than one account may order: those that expire first come first"
		}
		m.warnOnce("pace "+ca, msg, cert.AttrCA, ca, "waiting", n,
			cert.AttrHint, "this protects the CA's limit of orders for an account; the others follow within hours")
	}
	return wanted
}

// expiry is when what is served expires: nothing, or a placeholder, has expired already.
func (w *work) expiry() time.Time {
	if !w.lineage.Issued() {
		return time.Time{}
	}
	return w.lineage.Leaf().NotAfter
}
