package reliability

import (
	"encoding/json"
	"io"
	"log/slog"
	"math/rand/v2"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"github.com/sidecert/sidecert/internal/cert"
	"github.com/sidecert/sidecert/internal/report"
)

// postbox counts the messages that are made, by what they begin with.
type postbox struct {
	disk   json.RawMessage
	seen   map[string]bool
	titles map[string]int
	byDay  map[string]int
}

func (p *postbox) Notices() (json.RawMessage, error) { return p.disk, nil }

func (p *postbox) SaveNotices(data json.RawMessage) error {
	p.disk = append(json.RawMessage{}, data...)
	var book struct {
		Queue []struct {
			Title string
			At    time.Time
		}
	}
	if err := json.Unmarshal(data, &book); err != nil {
		return err
	}
	for _, m := range book.Queue {
		key := m.Title + m.At.String()
		if p.seen[key] {
			continue
		}
		p.seen[key] = true
		kind := "begun"
		switch {
		case strings.HasPrefix(m.Title, "sidecert: still"):
			kind = "reminders"
		case strings.HasPrefix(m.Title, "sidecert: well again"):
			kind = "well again"
		}
		p.titles[kind]++
		p.byDay[m.At.Format(time.DateOnly)]++
	}
	return nil
}

// TestTenYearsAreNoStorm counts the messages of ten years in which three of ten validations fail and the CA is away for 14 days each year:
// people hear of each outage and of what fails three times in a row, and of nothing else.
func TestTenYearsAreNoStorm(t *testing.T) {
	if underRace() {
		t.Skip("the race detector sees the same in a test of one year")
	}
	random := seed(t)
	box := &postbox{seen: map[string]bool{}, titles: map[string]int{}, byDay: map[string]int{}}
	d := decades["90 d"]
	d.certificates = 3
	d.tell = func(m *machine) func(cert.News) {
		receivers, err := report.NewReceivers("ntfy://ntfy.example/topic")
		if err != nil {
			t.Fatal(err)
		}
		n := report.NewNotifier(report.NotifierConfig{Receivers: receivers, On: report.On{Failure: true, Expiry: true, Recovery: true}, Memory: box, Now: m.now,
			Log: slog.New(slog.NewTextHandler(io.Discard, nil))})
		return func(news cert.News) { n.Tell(news) }
	}
	synctest.Test(t, func(t *testing.T) {
		d.run(t, 10, rand.New(rand.NewPCG(random.Uint64(), 0)), &ages{worst: d.life})
	})
	total, most := 0, 0
	for _, n := range box.titles {
		total += n
	}
	for _, n := range box.byDay {
		most = max(most, n)
	}
	t.Logf("ten years, 3 certificates: %d messages (%v), at most %d a day", total, box.titles, most)
	// 10 outages, of which at most all are told of, reminded of once or twice and recovered from; and 180 renewals, of which one in 37 fails
	// three times in a row.
	if total > 100 || total < 5 || most > 4 || box.titles["well again"] > box.titles["begun"] {
		t.Errorf("%d messages (%v), at most %d a day; want some, no more than 100 and 4 a day, and no more recoveries than failures", total, box.titles, most)
	}
}
