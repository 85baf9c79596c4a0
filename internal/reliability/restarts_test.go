package reliability

import (
	"context"
	"errors"
	"math/rand/v2"
	"net/http"
	"os"
	"strconv"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"

	"github.com/sidecert/sidecert/internal/acmetest"
	"github.com/sidecert/sidecert/internal/renewal"
	"github.com/sidecert/sidecert/internal/store/storetest"
)

// seed chooses the random steps of a test, and is printed.
func seed(t *testing.T) *rand.Rand {
	t.Helper()
	n, err := strconv.ParseUint(os.Getenv("SEED"), 10, 64)
	if err != nil {
		n = rand.Uint64()
	}
	t.Logf("SEED=%d", n)
	return rand.New(rand.NewPCG(n, 0))
}

// failures are the ways in which a CA that answers fails every order.
var failures = map[string]func() acmetest.FakeConfig{
	"no validation succeeds": func() acmetest.FakeConfig {
		return acmetest.FakeConfig{Validate: func(string, string, string) error { return errors.New("connection refused") }}
	},
	"newOrder answers 500": func() acmetest.FakeConfig {
		return acmetest.FakeConfig{Before: at("newOrder", &acmetest.Problem{Status: 500, Type: "serverInternal", Detail: "sorry"})}
	},
	"newOrder answers 429 for an hour": func() acmetest.FakeConfig {
		return acmetest.FakeConfig{Before: at("newOrder", &acmetest.Problem{Status: 429, Type: "rateLimited", Detail: "slow down", RetryAfter: "3600"})}
	},
	"newOrder answers 429 without Retry-After": func() acmetest.FakeConfig {
		return acmetest.FakeConfig{Before: at("newOrder", &acmetest.Problem{Status: 429, Type: "rateLimited", Detail: "slow down"})}
	},
	"finalize is refused": func() acmetest.FakeConfig {
		return acmetest.FakeConfig{Before: at("finalize", &acmetest.Problem{Status: 400, Type: "badCSR", Detail: "no"})}
	},
	"finalize answers 500": func() acmetest.FakeConfig {
		return acmetest.FakeConfig{Before: at("finalize", &acmetest.Problem{Status: 500, Type: "serverInternal", Detail: "sorry"})}
	},
	"the answer to newOrder is always lost": func() acmetest.FakeConfig {
		return acmetest.FakeConfig{After: func(req *http.Request, resp *http.Response) (*http.Response, error) {
			if acmetest.FakeKind(req) == "newOrder" {
				return nil, errors.New("connection reset")
			}
			return resp, nil
		}}
	},
}

// TestRestartsMakeNoOrders starts sidecert a thousand times in three hours at a CA where every order fails, and kills most processes at
// a random change of a file or a random request.
func TestRestartsMakeNoOrders(t *testing.T) {
	for name, config := range failures {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			random := seed(t)
			synctest.Test(t, func(t *testing.T) {
				m := newMachine(t, config(), named("example.org")...)
				const starts = 1000
				for range starts {
					m.killedOnce(random)
					time.Sleep(3 * time.Hour / starts)
				}
				c := m.ca.Counts()
				t.Logf("%d starts in %v: %d orders, %d requests, %d accounts", starts, time.Since(m.begin).Round(time.Minute), len(c.Orders), c.Requests, c.Accounts)
				if len(c.Orders) > 4 {
					t.Errorf("%d orders, want at most 4", len(c.Orders))
				}
				if c.Requests > 60 {
					t.Errorf("%d requests, want at most 60", c.Requests)
				}
				if c.Accounts > 1 {
					t.Errorf("%d accounts, want one", c.Accounts)
				}
			})
		})
	}
}

// killedOnce is one pass of a process, which in every other case is killed at a random moment.
func (m *machine) killedOnce(random *rand.Rand) {
	if random.IntN(2) == 0 {
		m.once()
		return
	}
	faults := &storetest.Faults{Harm: storetest.KillBefore + storetest.Harm(random.IntN(3)), At: 1 + random.IntN(60)}
	p := m.start(faults)
	p.lives.Store(int64(random.IntN(30)))
	_ = p.Once(m.t.Context(), renewal.Ask{})
	p.dead.Store(true)
	synctest.Wait()
}

// TestOrdersOfAMonth runs a month at CAs that fail every order.
func TestOrdersOfAMonth(t *testing.T) {
	for name, config := range failures {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			synctest.Test(t, func(t *testing.T) {
				m := newMachine(t, config(), named("example.org")...)
				m.run(30 * 24 * time.Hour)
				c := m.ca.Counts()
				t.Logf("%d orders, %d requests in 30 days", len(c.Orders), c.Requests)
				if len(c.Orders) > 33 {
					t.Errorf("%d orders in 30 days, want at most 33", len(c.Orders))
				}
			})
		})
	}
}

// run keeps a process running for so long.
func (m *machine) run(d time.Duration) {
	ctx, cancel := context.WithCancel(m.t.Context())
	done := make(chan error, 1)
	go func() { done <- m.start(nil).Run(ctx) }()
	time.Sleep(d)
	cancel()
	<-done
}

// TestNameFailsAtMostFourTimesAnHour has three certificates with a name in common that cannot be validated, and a person who asks for
// all of them every minute.
func TestNameFailsAtMostFourTimesAnHour(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		specs := named("a.example.org", "b.example.org", "c.example.org")
		for i := range specs {
			specs[i].Names = append(specs[i].Names, "bad.example.org")
		}
		m := newMachine(t, acmetest.FakeConfig{Validate: func(name, _, _ string) error {
			if name == "bad.example.org" {
				return errors.New("connection refused")
			}
			return nil
		}}, specs...)
		for range 6 * 60 {
			m.start(nil).Once(t.Context(), renewal.Ask{Names: []string{"a.example.org", "b.example.org", "c.example.org"}})
			time.Sleep(time.Minute)
		}
		failed := m.ca.Counts().FailedValidations["bad.example.org"]
		worst := 0
		for i, from := range failed {
			n := 0
			for _, at := range failed[i:] {
				if at.Sub(from) < time.Hour {
					n++
				}
			}
			worst = max(worst, n)
		}
		t.Logf("%d failed validations in 6 hours, at most %d within an hour", len(failed), worst)
		if worst > 4 || worst < 3 {
			t.Errorf("%d failed validations within an hour, want at most 4, and the person heard", worst)
		}
	})
}

// TestBusyCAHoldsBackAllItsCertificates has a CA that asks everybody to wait for an hour.
func TestBusyCAHoldsBackAllItsCertificates(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		var free atomic.Bool
		m := newMachine(t, acmetest.FakeConfig{Before: func(req *http.Request) *http.Response {
			if free.Load() || acmetest.FakeKind(req) != "newOrder" {
				return nil
			}
			return acmetest.ReturnError(&acmetest.Problem{Status: 503, Type: "rateLimited", Detail: "Service busy; retry later.", RetryAfter: "3600"})
		}}, many(5)...)
		for range 59 {
			m.once()
			time.Sleep(time.Minute)
		}
		if c := m.ca.Counts(); len(c.Orders) != 0 || c.Requests > 5*6 {
			t.Errorf("%d orders and %d requests within the hour, want none and those of one attempt each", len(c.Orders), c.Requests)
		}
		free.Store(true)
		time.Sleep(2 * time.Minute)
		m.once()
		if c := m.ca.Counts(); len(c.Certificates) != 5 {
			t.Errorf("%d certificates after the hour, want 5", len(c.Certificates))
		}
	})
}

// at answers requests of a kind with a problem.
func at(kind string, problem *acmetest.Problem) func(*http.Request) *http.Response {
	return func(req *http.Request) *http.Response {
		if acmetest.FakeKind(req) != kind {
			return nil
		}
		return acmetest.ReturnError(problem)
	}
}
