package acme

import (
	"context"
	"errors"
	"net/http"
	"testing"
	"testing/synctest"
	"time"
)

func TestRetryAfterInEveryForm(t *testing.T) {
	now := time.Date(2026, 11, 21, 12, 0, 0, 0, time.UTC)
	rows := map[string]time.Time{
		"":                              {},
		"0":                             now,
		"120":                           now.Add(2 * time.Minute),
		"-5":                            now,
		"31536000":                      now.Add(maxRetryAfter),
		"100000000000000000000":         now.Add(maxRetryAfter),
		"-100000000000000000000":        {},
		"soon":                          {},
		"1.5":                           {},
		"Sat, 21 Nov 2026 13:00:00 GMT": now.Add(time.Hour),
		"Sat, 21 Nov 2020 13:00:00 GMT": now,
		"Sun, 21 Nov 2027 13:00:00 GMT": now.Add(maxRetryAfter),
	}
	for value, want := range rows {
		if got := retryAfter(http.Header{"Retry-After": {value}}, now); !got.Equal(want) {
			t.Errorf("Retry-After %q = %v, want %v", value, got, want)
		}
	}
	if got := retryAfter(nil, now); !got.IsZero() {
		t.Errorf("no header = %v, want none", got)
	}
}

func TestBackoffEnds(t *testing.T) {
	rows := []struct {
		name       string
		status     int
		retryAfter string
		tries      int
		least      time.Duration
		most       time.Duration
	}{
		{"bad nonce", 400, "", 8, 0, 3 * time.Second},
		{"server error", 500, "", 3, 7 * time.Second, 9 * time.Second},
		{"server error that asks for patience", 503, "20", 3, time.Minute, time.Minute},
		{"server error that asks for too much", 503, "31", 0, 0, 0},
		{"rate limit", 429, "1", 0, 0, 0},
		{"strange success", 202, "", 0, 0, 0},
	}
	for _, row := range rows {
		issuer := New(Config{Now: func() time.Time { return time.Unix(0, 0) }})
		resp := &http.Response{StatusCode: row.status, Header: http.Header{"Retry-After": {row.retryAfter}}}
		var sum time.Duration
		n := 1
		for pause := issuer.backoff(n, resp); pause > 0; pause = issuer.backoff(n, resp) {
			sum += pause
			n++
		}
		if n-1 != row.tries || sum < row.least || sum > row.most {
			t.Errorf("%s: %d repetitions in %s, want %d in %s to %s", row.name, n-1, sum, row.tries, row.least, row.most)
		}
	}
}

func TestPollGrowsAndHonoursRetryAfter(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		issuer := New(Config{})
		var asked []time.Duration
		begun := time.Now()
		answers := []string{"", "", "7", "99999", "-1", ""}
		err := issuer.poll(t.Context(), time.Hour, func(ctx context.Context) (bool, error) {
			asked = append(asked, time.Since(begun))
			begun = time.Now()
			note(ctx, heard{header: http.Header{"Retry-After": {answers[len(asked)-1]}}})
			return len(asked) == len(answers), nil
		})
		if err != nil {
			t.Fatal(err)
		}
		want := []time.Duration{100 * time.Millisecond, 150 * time.Millisecond, 225 * time.Millisecond, 7 * time.Second, patience, maxPoll}
		for n := range want {
			if asked[n] != want[n] {
				t.Errorf("pause %d was %s, want %s", n+1, asked[n], want[n])
			}
		}
	})
}

func TestPollEndsAtItsLimitAndAfterThreeLostAnswers(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		issuer := New(Config{})
		begun := time.Now()
		err := issuer.poll(t.Context(), authorizationLimit, func(context.Context) (bool, error) { return false, nil })
		if got := time.Since(begun); got != authorizationLimit || err == nil {
			t.Errorf("ended after %s with %v, want %s", got, err, authorizationLimit)
		}
		lost, n := errors.New("connection reset"), 0
		err = issuer.poll(t.Context(), authorizationLimit, func(context.Context) (bool, error) { n++; return false, lost })
		if n != maxLost || !errors.Is(err, lost) {
			t.Errorf("%d polls and %v, want %d and the last error", n, err, maxLost)
		}
	})
}
