package renewal

import (
	"os"
	"path/filepath"
	"strings"
	"testing"
	"testing/synctest"
)

func TestExtraFileIsMadeAtTheNextPassWithoutAnOrder(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		w := newWorld(t, "a.example")
		w.once(Ask{})
		ordered := len(w.issuer.requests)
		m := w.manager()
		m.Store.Haproxy = true
		if h := m.Health(); len(h.Missing) != 1 {
			t.Errorf("Health() before = %+v, want that a.example misses a file", h)
		}
		m.Once(t.Context(), Ask{})
		file := filepath.Join(w.certDir, "live/a.example/haproxy.pem")
		if _, err := os.Stat(file); err != nil || len(m.Health().Missing) > 0 || len(w.issuer.requests) != ordered {
			t.Errorf("after a pass: %v, missing %v, %d orders; want the file and no order", err, m.Health().Missing, len(w.issuer.requests)-ordered)
		}

		if err := os.WriteFile(file, []byte("mine\n"), 0o600); err != nil {
			t.Fatal(err)
		}
		for range 2 {
			m.Once(t.Context(), Ask{})
		}
		data, err := os.ReadFile(file)
		if told := strings.Count(w.log.String(), "haproxy.pem is not sidecert's"); told != 1 || string(data) != "mine\n" {
			t.Errorf("a person's own is now %.40q (%v) and was told %d times, want once:\n%s", data, err, told, w.log)
		}
	})
}
