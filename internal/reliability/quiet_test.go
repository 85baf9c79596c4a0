package reliability

import (
	"bytes"
	"errors"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"github.com/sidecert/sidecert/internal/acmetest"
)

// TestLogIsQuietWhileNothingHappens counts the lines of weeks in which nothing is due: none of what is well, and of what fails one that it is
// ordered and one that it failed for each attempt.
func TestLogIsQuietWhileNothingHappens(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		const fails = "b.example.org"
		m := newMachine(t, acmetest.FakeConfig{Validate: func(name, _, _ string) error {
			if name == fails {
				return errors.New("connection refused")
			}
			return nil
		}}, named("a.example.org", fails)...)
		var log bytes.Buffer
		m.log = &log
		defer m.daemon()()
		time.Sleep(day)
		synctest.Wait()
		if !strings.Contains(log.String(), `msg="certificate obtained" cert=a.example.org`) {
			t.Fatalf("nothing was obtained:\n%s", &log)
		}
		before, orders := log.Len(), len(m.ca.Counts().Orders)
		time.Sleep(50 * day)
		synctest.Wait()
		since, attempts := log.String()[before:], len(m.ca.Counts().Orders)-orders
		for _, msg := range []string{`level=INFO msg="certificate ordered" cert=` + fails, `level=WARN msg="certificate not obtained" cert=` + fails} {
			if n := strings.Count(since, msg); n != attempts || n == 0 {
				t.Errorf("%d times %s, want it at each of %d attempts", n, msg, attempts)
			}
		}
		if n := strings.Count(since, "\n"); n != 2*attempts {
			t.Errorf("%d lines of 50 days in which %d attempts failed, want two of each attempt and none beside:\n%s", n, attempts, since)
		}
	})
}
