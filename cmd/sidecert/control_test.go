package main

import (
	"bytes"
	"fmt"
	"net/http"
	"net/http/httptest"
	"strings"
	"testing"
)

// A watcher that reads nothing must not hold up whoever logs.
func TestWatcherThatDoesNotReadHoldsNobodyUp(t *testing.T) {
	var log bytes.Buffer
	w := &watchers{to: &log}
	slow := &lines{}
	end := w.add(slow)
	for n := range 3 * maxLines {
		fmt.Fprintf(w, "line %d\n", n)
	}
	if got := strings.Count(log.String(), "\n"); got != 3*maxLines {
		t.Errorf("%d lines were logged, want %d", got, 3*maxLines)
	}
	taken := slow.take()
	if len(taken) != maxLines+1 || taken[maxLines] != fmt.Sprintf("(%d lines left out)", 2*maxLines) {
		t.Errorf("the watcher has %d lines, the last %q; want %d and how many were left out", len(taken), taken[len(taken)-1], maxLines)
	}
	end()
	fmt.Fprintln(w, "later")
	if len(slow.take()) > 0 {
		t.Error("one that has ended its watch is still told")
	}
}

func TestDeedThatNobodyKnowsIsRefused(t *testing.T) {
	p := &parts{watchers: &watchers{to: new(bytes.Buffer)}}
	rec := httptest.NewRecorder()
	p.serveDeed(t.Context(), rec, httptest.NewRequest(http.MethodPost, "/deed", strings.NewReader(`{"Kind":"dance"}`)))
	if !strings.Contains(rec.Body.String(), "does not know it") {
		t.Errorf("answered %d %q", rec.Code, rec.Body)
	}
	rec = httptest.NewRecorder()
	p.serveDeed(t.Context(), rec, httptest.NewRequest(http.MethodPost, "/deed", strings.NewReader(strings.Repeat("x", maxDeed+1))))
	if rec.Code != http.StatusBadRequest {
		t.Errorf("a request without sense is answered %d", rec.Code)
	}
}
