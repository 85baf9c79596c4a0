package storetest

import (
	"maps"
	"math/rand/v2"
	"slices"
)

// Reopen is the volume as the next process of the same machine finds it after a kill: all that was written, and no locks. What the
// killed process still does to m fails with ErrKilled.
func (m *Memory) Reopen() *Memory {
	m.mu.Lock()
	defer m.mu.Unlock()
	m.gone = true
	return &Memory{now: m.now, root: m.root, inodes: m.inodes, pending: m.pending, locked: map[*node]bool{}, space: m.space}
}

// Copy is another volume with the same contents, of which the same is on disk. Nothing in it is locked.
func (m *Memory) Copy() *Memory {
	m.mu.Lock()
	defer m.mu.Unlock()
	twins := map[*node]*node{}
	c := &Memory{now: m.now, root: twin(m.root, twins), inodes: m.inodes, locked: map[*node]bool{}, space: m.space}
	for _, d := range m.pending {
		copied := make(deed, len(d))
		for i, p := range d {
			copied[i] = place{twin(p.dir, twins), p.name, twin(p.node, twins)}
		}
		c.pending = append(c.pending, copied)
	}
	return c
}

func twin(n *node, twins map[*node]*node) *node {
	if n == nil || twins[n] != nil {
		return twins[n]
	}
	t := *n
	twins[n] = &t
	t.data = slices.Clip(n.data) // what either appends is not the other's
	t.entries, t.stored = twinAll(n.entries, twins), twinAll(n.stored, twins)
	return &t
}

func twinAll(entries map[string]*node, twins map[*node]*node) map[string]*node {
	if entries == nil {
		return nil
	}
	all := make(map[string]*node, len(entries))
	for name, n := range entries {
		all[name] = twin(n, twins)
	}
	return all
}

// PowerCut is the volume as the next boot finds it; m itself goes on. With r nil nothing has survived that was not synced. Else r
// says what has: an entry without the contents of its file, a file that is torn or ends in zeros, a rename whose file is empty. A
// change of entries has never survived without the one before it to the same entry, and a rename or an exchange only as a whole.
func (m *Memory) PowerCut(r *rand.Rand) *Memory {
	c := m.Copy()
	if r != nil {
		c.storeSome(r)
	}
	c.pending = nil
	boot(c.root, r, map[*node]bool{})
	return c
}

// storeSome puts on disk some of what waits for it.
func (m *Memory) storeSome(r *rand.Rand) {
	lost, share := map[entry]bool{}, r.Float64()
	for _, d := range m.pending {
		survives := r.Float64() < share && !slices.ContainsFunc(d, func(p place) bool { return lost[entry{p.dir, p.name}] })
		if survives {
			d.store()
			continue
		}
		for _, p := range d {
			lost[entry{p.dir, p.name}] = true
		}
	}
}

// boot gives a node the entries and contents that are on disk.
func boot(n *node, r *rand.Rand, seen map[*node]bool) {
	if n.names++; seen[n] {
		return
	}
	seen[n], n.names = true, 1
	if n.data = n.survivor(r); !n.mode.IsDir() {
		n.synced = len(n.data)
		return
	}
	n.entries = maps.Clone(n.stored)
	for _, name := range slices.Sorted(maps.Keys(n.entries)) {
		boot(n.entries[name], r, seen)
	}
}

// survivor is what a file holds: what was synced, and of the rest nothing, a part, all, or its length alone.
func (n *node) survivor(r *rand.Rand) []byte {
	unsynced := len(n.data) - n.synced
	if unsynced == 0 {
		return n.data
	}
	if r == nil {
		return slices.Clip(n.data[:n.synced])
	}
	reached := n.synced + []int{0, r.IntN(unsynced), unsynced}[r.IntN(3)]
	data := slices.Clone(n.data[:reached])
	if r.IntN(2) == 0 {
		data = append(data, make([]byte, len(n.data)-reached)...)
	}
	return data
}
