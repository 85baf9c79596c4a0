package reliability

import (
	"bytes"
	"context"
	"fmt"
	"math/rand/v2"
	"os"
	"slices"
	"strings"
	"syscall"
	"testing"
	"testing/synctest"
	"time"

	"github.com/sidecert/sidecert/internal/acmetest"
	"github.com/sidecert/sidecert/internal/cert"
	"github.com/sidecert/sidecert/internal/renewal"
	"github.com/sidecert/sidecert/internal/store/storetest"
)

// story is what a process is at when a fault befalls it.
type story struct {
	prepare func(m *machine)
	deed    func(ctx context.Context, p *process)
	// done reports whether a person who looks finds the deed done, and would not give the command again; nil where a pass does it.
	done func(m *machine) bool
	// certificates the CA has given in the end, and the names that are live.
	certificates int
	live         []string
}

const site = "site0.example.org"

var stories = map[string]story{
	"first issue": {prepare: func(m *machine) { m.haproxy = true }, deed: pass, certificates: 1, live: []string{site}},
	"renewal": {prepare: func(m *machine) {
		m.haproxy = true
		m.once()
		time.Sleep(61 * day)
	}, deed: pass, certificates: 2, live: []string{site}},
	"a name is added": {prepare: func(m *machine) {
		m.once()
		time.Sleep(10 * day)
		m.specs[0].Names = []string{site, "www.example.org"}
	}, deed: pass, certificates: 2, live: []string{site, "www.example.org"}},
	"revoked and replaced": {prepare: func(m *machine) {
		m.once()
		time.Sleep(10 * day)
	}, deed: func(ctx context.Context, p *process) {
		_, _ = p.Revoke(ctx, renewal.Revoke{Name: site, Reason: cert.KeyCompromise})
	}, done: func(m *machine) bool { return len(m.ca.Counts().Revoked) == 1 }, certificates: 2, live: []string{site}},
}

func pass(ctx context.Context, p *process) { p.Once(ctx, renewal.Ask{}) }

// blow is a fault, and what is left of the volumes after it.
type blow struct {
	name  string
	harm  storetest.Harm
	err   error
	power func() *rand.Rand // of a power cut
}

func blows() []blow {
	all := []blow{
		{"killed before", storetest.KillBefore, nil, nil}, {"killed after", storetest.KillAfter, nil, nil}, {"killed within", storetest.KillTorn, nil, nil},
		{"disk full once", storetest.FailOnce, syscall.ENOSPC, nil}, {"disk full from then on", storetest.FailOn, syscall.ENOSPC, nil},
		{"quota", storetest.FailOnce, syscall.EDQUOT, nil}, {"I/O error", storetest.FailOnce, syscall.EIO, nil},
		{"read-only from then on", storetest.FailOn, syscall.EROFS, nil}, {"short write", storetest.WriteShort, syscall.ENOSPC, nil},
		{"power cut", storetest.KillAfter, nil, func() *rand.Rand { return nil }},
	}
	for n := range uint64(3) {
		all = append(all, blow{fmt.Sprintf("power cut, chance %d", n), storetest.KillAfter, nil, func() *rand.Rand { return rand.New(rand.NewPCG(n, n)) }})
	}
	return all
}

// TestNothingIsLostAtAnyOperation has every kind of fault befall a process at every change of a file on both volumes. Another start, a
// little later, finishes what it was at: the live files are one whole certificate, the CA gave no more than the story needs and knows
// one account, and there is no other lineage. Without SWEEP=full a sample of the operations is tried.
func TestNothingIsLostAtAnyOperation(t *testing.T) {
	for name, st := range stories {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			points, wrong := 0, 0
			for i, b := range blows() {
				step := stride()
				for n, reached := 1+i%step, true; reached; n += step {
					var faults []string
					synctest.Test(t, func(t *testing.T) { reached, faults = st.strike(t, b, n) })
					if !reached {
						break
					}
					points++
					if len(faults) > 0 {
						wrong++
						t.Errorf("%s at operation %d: %s", b.name, n, strings.Join(faults, "; "))
					}
				}
			}
			t.Logf("%s: %d points, %d wrong", name, points, wrong)
			if points < 30 {
				t.Errorf("only %d points were tried", points)
			}
		})
	}
}

// stride is how far apart the operations are that are tried.
func stride() int {
	switch {
	case os.Getenv("SWEEP") == "full":
		return 1
	case underRace():
		return 25
	}
	return 5
}

// strike tells one story with a fault at an operation, and what is wrong in the end; reached is false where the story has fewer.
func (st story) strike(t *testing.T, b blow, n int) (reached bool, wrong []string) {
	m := newMachine(t, acmetest.FakeConfig{}, many(1)...)
	st.prepare(m)
	faults := &storetest.Faults{At: n, Harm: b.harm, Err: b.err}
	p := m.start(faults)
	st.deed(t.Context(), p)
	p.dead.Store(true)
	m.reboot(b)
	if live, err := m.live(); err != nil {
		wrong = append(wrong, fmt.Sprintf("at once %v", err))
	} else if live == nil && st.certificates > 1 {
		wrong = append(wrong, "at once nothing is live")
	}
	// Past every wait: a minute after a failure, with its jitter.
	time.Sleep(2 * time.Minute)
	m.once()
	if st.done == nil || !st.done(m) {
		st.deed(t.Context(), m.start(nil))
	}
	m.once()

	live, err := m.live()
	switch {
	case err != nil:
		wrong = append(wrong, err.Error())
	case live == nil:
		wrong = append(wrong, "nothing is live")
	case !cert.SameNames(live.Names(), st.live):
		wrong = append(wrong, fmt.Sprintf("live is %v", live.Names()))
	}
	c := m.ca.Counts()
	if len(c.Certificates) != st.certificates {
		wrong = append(wrong, fmt.Sprintf("%d certificates, want %d", len(c.Certificates), st.certificates))
	}
	if st.done != nil && !st.done(m) {
		wrong = append(wrong, fmt.Sprintf("%d revoked, want the first", len(c.Revoked)))
	}
	if c.Accounts > 1 {
		wrong = append(wrong, fmt.Sprintf("%d accounts", c.Accounts))
	}
	if all := m.lineages(); len(all) != 1 {
		wrong = append(wrong, fmt.Sprintf("%d lineages", len(all)))
	}
	if len(wrong) > 0 {
		wrong = append(wrong, "struck "+faults.Reached())
	}
	return faults.Reached() != "", wrong
}

// reboot is what comes after a fault: the next process of the machine, after a power cut with what had been synced.
func (m *machine) reboot(b blow) {
	certs, state := m.certs.(*storetest.Memory), m.state.(*storetest.Memory)
	if b.power != nil {
		certs, state = certs.PowerCut(b.power()), state.PowerCut(b.power())
	} else {
		certs, state = certs.Reopen(), state.Reopen()
	}
	m.certs, m.state = certs, state
}

// live is the certificate that a web server would load now, nil where there is none but a placeholder.
func (m *machine) live() (*cert.Lineage, error) {
	read := func(file string) []byte {
		data, _ := m.certs.ReadFile("live/" + site + "/" + file + ".pem")
		return data
	}
	fullchain, privkey := read(cert.FullchainPEM), read(cert.PrivkeyPEM)
	if fullchain == nil && privkey == nil {
		return nil, nil
	}
	if got := read("haproxy"); m.haproxy && !bytes.Equal(got, append(bytes.Clone(fullchain), privkey...)) {
		return nil, fmt.Errorf("haproxy.pem, of %d bytes, is not live chain and key", len(got))
	}
	chain, err := cert.ParseChain(fullchain)
	if err != nil {
		return nil, fmt.Errorf("live chain: %w", err)
	}
	key, err := cert.ParseKey(privkey)
	if err != nil {
		return nil, fmt.Errorf("live key: %w", err)
	}
	if err := (cert.Bundle{Chain: chain, Key: key}).Whole(); err != nil {
		return nil, fmt.Errorf("live pair: %w", err)
	}
	if cert.IsPlaceholder(chain[0]) {
		return nil, nil
	}
	if !slices.Contains(cert.NamesOf(chain[0]), site) {
		return nil, fmt.Errorf("live is of %v", cert.NamesOf(chain[0]))
	}
	return &cert.Lineage{Name: site, Chain: chain, Key: key}, nil
}
