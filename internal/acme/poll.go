package acme

import (
	"context"
	"errors"
	"fmt"
	"math/rand/v2"
	"net/http"
	"strconv"
	"time"
)

const (
	firstPoll = 100 * time.Millisecond
	maxPoll   = 5 * time.Second
	// patience is the longest Retry-After that is waited for inside an attempt. What is longer ends the attempt, and the
	// schedule has it then.
	patience = 30 * time.Second
	// maxLost is how many polls in a row may get no answer.
	maxLost = 3
	// maxRetryAfter bounds what a CA can make us wait.
	maxRetryAfter = 7 * 24 * time.Hour
)

// poll asks until ask says that it is done: soon at first, then at growing intervals, and not before a Retry-After.
func (i *Issuer) poll(ctx context.Context, limit time.Duration, ask func(context.Context) (done bool, err error)) error {
	ctx, cancel := context.WithTimeoutCause(ctx, i.pace(limit), fmt.Errorf("the CA had not decided after %s", limit))
	defer cancel()
	pause, lost := firstPoll, 0
	for {
		if err := sleep(ctx, i.pace(pause)); err != nil {
			return err
		}
		var last heard
		done, err := ask(hearing(ctx, &last))
		switch {
		case ctx.Err() != nil:
			return context.Cause(ctx)
		case err == nil && done:
			return nil
		case err == nil:
			lost = 0
		case lost+1 == maxLost || !isLost(err):
			return err
		default:
			lost++
		}
		pause = max(min(pause*3/2, maxPoll), min(i.untilRetryAfter(last.header), patience))
	}
}

// sleep returns why it ended early, nil if it did not.
func sleep(ctx context.Context, d time.Duration) error {
	timer := time.NewTimer(d)
	defer timer.Stop()
	select {
	case <-ctx.Done():
		return context.Cause(ctx)
	case <-timer.C:
		return nil
	}
}

// again repeats a question whose answer got lost; only for what may be asked twice.
func (i *Issuer) again(ctx context.Context, ask func() error) error {
	for n := 1; ; n++ {
		err := ask()
		if err == nil || n == maxLost || !isLost(err) || ctx.Err() != nil {
			return err
		}
		if err := sleep(ctx, i.pace(time.Duration(n)*time.Second)); err != nil {
			return err
		}
	}
}

// backoff is the pause before a request is repeated for the nth time because of its answer; 0 ends it. The library asks it too,
// with status 400 only for a bad nonce: "On receiving such a response, a client SHOULD retry the request using the new nonce."
// RFC 8555 §6.5. Those are quick, since nothing is wrong. Of a 5xx, a Retry-After within our patience is waited for here.
func (i *Issuer) backoff(n int, resp *http.Response) time.Duration {
	switch {
	case resp.StatusCode == http.StatusBadRequest && n <= 8:
		return i.pace(jittered(5 * time.Millisecond << (n - 1)))
	case resp.StatusCode >= 500 && n <= 3:
		asked := i.untilRetryAfter(resp.Header)
		if asked > patience {
			return 0
		}
		return i.pace(max(jittered(time.Second<<(n-1)), asked))
	}
	return 0
}

// jittered adds up to a quarter, so that clients which failed together do not return together.
func jittered(d time.Duration) time.Duration { return d + rand.N(d/4+1) }

// retryAfter is the time that a Retry-After header names, as seconds or as a date (RFC 9110 §10.2.3), at most 7 days ahead
// and never in the past; zero if there is none or it cannot be read.
func retryAfter(header http.Header, now time.Time) time.Time {
	value := header.Get("Retry-After")
	seconds, err := strconv.ParseInt(value, 10, 64)
	if errors.Is(err, strconv.ErrRange) && value[0] != '-' {
		return now.Add(maxRetryAfter)
	}
	if err == nil {
		seconds = min(max(seconds, 0), int64(maxRetryAfter/time.Second))
		return now.Add(time.Duration(seconds) * time.Second)
	}
	at, err := http.ParseTime(value)
	switch {
	case err != nil:
		return time.Time{}
	case at.Before(now):
		return now
	case at.After(now.Add(maxRetryAfter)):
		return now.Add(maxRetryAfter)
	}
	return at
}

func (i *Issuer) untilRetryAfter(header http.Header) time.Duration {
	now := i.config.Now()
	if at := retryAfter(header, now); !at.IsZero() {
		return at.Sub(now)
	}
	return 0
}
