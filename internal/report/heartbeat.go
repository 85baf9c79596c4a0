package report

import (
	"context"
	"errors"
	"log/slog"
	"net/http"
	"net/url"
	"strings"
	"time"

	"github.com/sidecert/sidecert/internal/cert"
)

// Heartbeat fetches a URL as long as all is well, so that somebody else notices when sidecert is gone. When something ails it fetches
// URL/fail, as healthchecks.io and its kin have it.
type Heartbeat struct {
	url   cert.Secret
	log   *slog.Logger
	beats chan bool
	// transport is another one in tests.
	transport http.RoundTripper
}

// apart is the least time between two beats.
const apart = time.Minute

// NewHeartbeat makes a heartbeat; Run has it beat.
func NewHeartbeat(address cert.Secret, log *slog.Logger) *Heartbeat {
	return &Heartbeat{url: address, log: log, beats: make(chan bool, 1), transport: transport}
}

// Beat has the URL fetched soon, and waits for nothing. Of several within a minute the last one counts.
func (h *Heartbeat) Beat(well bool) {
	for {
		select {
		case h.beats <- well:
			return
		default:
		}
		select {
		case <-h.beats:
		default:
		}
	}
}

// Run beats until ctx ends.
func (h *Heartbeat) Run(ctx context.Context) {
	for failures := 0; ; {
		select {
		case <-ctx.Done():
			return
		case well := <-h.beats:
			if err := h.fetch(ctx, well); err == nil {
				failures = 0
			} else if failures++; ctx.Err() == nil {
				level := slog.LevelDebug
				if failures == 2 {
					level = slog.LevelWarn
				}
				h.log.Log(ctx, level, "heartbeat not taken", "well", well, cert.AttrErr, err, cert.AttrHint, "see that HEARTBEAT_URL is right and can be reached")
			}
		}
		select {
		case <-ctx.Done():
			return
		case <-time.After(apart):
		}
	}
}

// fetch makes one request. Its error shows nothing of the URL.
func (h *Heartbeat) fetch(ctx context.Context, well bool) error {
	u, err := url.Parse(string(h.url))
	if err != nil {
		return errors.New("no URL")
	}
	if !well {
		u = u.JoinPath("fail")
	}
	client := &outward{ctx: ctx, client: http.Client{Transport: h.transport, Timeout: answerTime, CheckRedirect: noRedirects}}
	req, err := http.NewRequest(http.MethodGet, u.String(), nil)
	if err != nil {
		return errors.New("no URL")
	}
	if resp, err := client.Do(req); err == nil {
		resp.Body.Close()
	}
	if client.heard != "" {
		return errors.New(strings.ReplaceAll(anyURL.ReplaceAllString(client.heard, "$1[redacted]"), string(h.url), "[redacted]"))
	}
	return nil
}
