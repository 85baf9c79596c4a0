package reliability

import (
	"errors"
	"fmt"
	"math/rand/v2"
	"net/http"
	"os"
	"path"
	"strings"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"github.com/sidecert/sidecert/internal/acmetest"
	"github.com/sidecert/sidecert/internal/cert"
	"github.com/sidecert/sidecert/internal/renewal"
)

const (
	day  = 24 * time.Hour
	year = 365 * day
)

// decade is ten years of a number of machines with some certificates each.
type decade struct {
	life                   time.Duration
	machines, certificates int
	// outage is how long the CA is away, once a year at any time.
	outage time.Duration
	// patience is how long a machine sleeps at least, where the daemon would look sooner.
	patience time.Duration
	// sample is how many years one machine is kept where nobody asks for all.
	sample int
	// tell hears what people should hear of, of each machine; nil where nobody does.
	tell func(m *machine) func(cert.News)
}

var decades = map[string]decade{
	"90 d":  {life: 90 * day, machines: 100, certificates: 10, outage: 14 * day, patience: 15 * time.Minute, sample: 5},
	"45 d":  {life: 45 * day, machines: 100, certificates: 10, outage: 14 * day, patience: 15 * time.Minute, sample: 3},
	"160 h": {life: 160 * time.Hour, machines: 20, certificates: 5, outage: 48 * time.Hour, patience: 10 * time.Minute, sample: 2},
	"24 h":  {life: 24 * time.Hour, machines: 100, certificates: 1, outage: 4 * time.Hour, patience: time.Minute, sample: 1},
}

// ages are the figures of all machines of a decade.
type ages struct {
	mu                                           sync.Mutex
	orders, requests, attempts, failed, expiries int
	certificates                                 int
	worst                                        time.Duration
}

// TestTenYears keeps certificates for ten years of which nothing is ever looked at: three of ten validations fail, and every year the
// CA is away for long. Without DECADE=full one machine is kept for some years.
func TestTenYears(t *testing.T) {
	for name, d := range decades {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			random := seed(t)
			machines, years := 1, d.sample
			switch {
			case os.Getenv("DECADE") == "full":
				machines, years = d.machines, 10
			case underRace() && name != "90 d":
				t.Skip("one lifetime is enough for the race detector")
			case underRace():
				years = 1
			}
			all := &ages{worst: d.life}
			t.Run("machines", func(t *testing.T) {
				for n := range machines {
					own := rand.New(rand.NewPCG(random.Uint64(), 0))
					t.Run(fmt.Sprint(n), func(t *testing.T) {
						t.Parallel()
						synctest.Test(t, func(t *testing.T) { d.run(t, years, own, all) })
					})
				}
			})
			t.Logf("%d certificates of %v for %d years, the CA away for %v each year: %d orders, %d requests, %d of %d validations failed: %d expiries, worst margin %v (%.0f %% of the lifetime)",
				all.certificates, d.life, years, d.outage, all.orders, all.requests, all.failed, all.attempts, all.expiries, all.worst.Round(time.Minute), 100*float64(all.worst)/float64(d.life))
			if all.expiries > 0 {
				t.Errorf("%d certificates have expired", all.expiries)
			}
			// Of 3 of 10 that fail, a sample of a hundred has less than 2 once in a hundred times.
			if all.certificates != machines*d.certificates || all.failed*5 < all.attempts {
				t.Errorf("%d certificates, %d of %d validations failed: this was no decade", all.certificates, all.failed, all.attempts)
			}
		})
	}
}

// run is one machine's decade. It does what the daemon's loop does, but looks less often: once a day where that looks every hour, and later
// after a failure.
func (d decade) run(t *testing.T, years int, random *rand.Rand, all *ages) {
	begin := time.Now()
	var outages []time.Time
	for y := range years {
		outages = append(outages, begin.Add(time.Duration(y)*year+d.life+time.Duration(random.Int64N(int64(year-2*d.outage-d.life)))))
	}
	attempts, failed := 0, 0
	m := newMachine(t, acmetest.FakeConfig{
		Life: d.life,
		Before: func(*http.Request) *http.Response {
			for _, from := range outages {
				if since := time.Since(from); since >= 0 && since < d.outage {
					return acmetest.ReturnError(errors.New("connection refused"))
				}
			}
			return nil
		},
		Validate: func(string, string, string) error {
			attempts++
			if random.IntN(10) < 3 {
				failed++
				return errors.New("connection refused")
			}
			return nil
		},
	}, many(d.certificates)...)
	p := m.start(nil)
	if d.tell != nil {
		p.Tell = d.tell(m)
	}
	tidied := time.Now()
	for time.Since(begin) < time.Duration(years)*year {
		next := m.now().Add(day)
		for _, c := range p.Once(t.Context(), renewal.Ask{}).Certs {
			if c.Next.Before(next) {
				next = c.Next
			}
		}
		time.Sleep(max(next.Sub(m.now()), d.patience))
		if time.Since(tidied) > 60*d.life {
			m.tidy()
			tidied = time.Now()
		}
	}

	all.mu.Lock()
	defer all.mu.Unlock()
	c := m.ca.Counts()
	all.orders, all.requests, all.attempts, all.failed = all.orders+len(c.Orders), all.requests+c.Requests, all.attempts+attempts, all.failed+failed
	expires := map[string]time.Time{}
	look := func(name string, at time.Time) {
		if until, ok := expires[name]; ok {
			all.worst = min(all.worst, until.Sub(at))
			if !until.After(at) {
				all.expiries++
			}
		}
	}
	for _, issued := range c.Certificates {
		name := strings.Join(issued.Names, ",")
		look(name, issued.At)
		expires[name] = issued.At.Add(d.life - min(time.Hour, d.life/10))
	}
	for name := range expires {
		look(name, m.right())
		all.certificates++
	}
}

// tidy removes versions that are long expired, as a person with short-lived certificates would: sidecert never does.
func (m *machine) tidy() {
	for name, l := range m.lineages() {
		dir := path.Join("archive", name)
		entries, err := m.certs.ReadDir(dir)
		if err != nil {
			m.t.Fatal(err)
		}
		for _, e := range entries {
			var n int
			stem := strings.TrimSuffix(e.Name(), ".pem")
			if _, err := fmt.Sscanf(strings.TrimLeft(stem, "abcdefghijklmnopqrstuvwxyz"), "%d", &n); err == nil && n < l.Number-10 {
				if err := m.certs.Remove(path.Join(dir, e.Name())); err != nil {
					m.t.Fatal(err)
				}
			}
		}
	}
}
