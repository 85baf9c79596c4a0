package report

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"net/http"
	"slices"
	"strings"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"github.com/sidecert/sidecert/internal/cert"
)

// desk is a bubble's: a disk, a log, and a receiver that can be away.
type desk struct {
	t     *testing.T
	begin time.Time

	mu     sync.Mutex
	disk   json.RawMessage
	broken error
	away   bool
	asked  int
	got    []string
	log    bytes.Buffer
}

func newDesk(t *testing.T) *desk { return &desk{t: t, begin: time.Now()} }

func (d *desk) now() time.Time { return begin.Add(time.Since(d.begin)) }

func (d *desk) Notices() (json.RawMessage, error) {
	d.mu.Lock()
	defer d.mu.Unlock()
	return d.disk, nil
}

func (d *desk) SaveNotices(data json.RawMessage) error {
	d.mu.Lock()
	defer d.mu.Unlock()
	if d.broken == nil {
		d.disk = slices.Clone(data)
	}
	return d.broken
}

func (d *desk) Write(line []byte) (int, error) {
	d.mu.Lock()
	defer d.mu.Unlock()
	return d.log.Write(line)
}

func (d *desk) set(away bool) {
	d.mu.Lock()
	defer d.mu.Unlock()
	d.away = away
}

// RoundTrip takes a message, or is away.
func (d *desk) RoundTrip(req *http.Request) (*http.Response, error) {
	body, _ := io.ReadAll(req.Body)
	d.mu.Lock()
	defer d.mu.Unlock()
	d.asked++
	if d.away {
		return nil, errors.New("connection refused")
	}
	first, _, _ := strings.Cut(string(body), ",")
	d.got = append(d.got, first)
	return &http.Response{StatusCode: 200, Status: "200 OK", Body: io.NopCloser(strings.NewReader("ok")), Request: req}, nil
}

func (d *desk) messages() []string {
	d.mu.Lock()
	defer d.mu.Unlock()
	return slices.Clone(d.got)
}

func (d *desk) said(words string) int {
	d.mu.Lock()
	defer d.mu.Unlock()
	return strings.Count(d.log.String(), words)
}

// notifier is what a start makes.
func (d *desk) notifier() *Notifier {
	r := receiver(d.t, "generic+http://hook.example/"+canary)
	r.transport = d
	return NewNotifier(NotifierConfig{Receivers: []*Receiver{r}, On: always, Memory: d, Now: d.now, Log: slog.New(slog.NewTextHandler(d, nil))})
}

// run keeps a notifier delivering until the function is called.
func (d *desk) run(n *Notifier) (stop func()) {
	ctx, cancel := context.WithCancel(d.t.Context())
	ended := make(chan struct{})
	go func() {
		n.Run(ctx)
		close(ended)
	}()
	return func() {
		cancel()
		<-ended
	}
}

func (d *desk) want(messages ...string) {
	d.t.Helper()
	synctest.Wait()
	if got := d.messages(); !slices.Equal(got, messages) {
		d.t.Errorf("delivered %q, want %q; the log:\n%s", got, messages, d.log.String())
	}
}

func of(conditions ...cert.Condition) cert.News { return cert.News{Conditions: conditions, Pass: true} }

// grave is one that is told at once.
func grave(name string) cert.Condition { return failing(name, 90*oneDay) }

func TestAReceiverThatIsAwayForHoursGetsItOnceItIsBack(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		d := newDesk(t)
		d.away = true
		n := d.notifier()
		stop := d.run(n)
		n.Tell(of(grave("a")))
		time.Sleep(5 * time.Hour)
		n.Tell(of(grave("a")))
		d.want()
		if d.asked > 20 || d.said("level=WARN") != 1 {
			t.Errorf("in 5 hours it was asked %d times, with %d warnings; want at most 20 and 1", d.asked, d.said("level=WARN"))
		}
		d.set(false)
		time.Sleep(time.Hour)
		d.want("a is not renewed")
		n.Tell(of())
		d.want("a is not renewed", "a waits for no renewal any more.")
		stop()
	})
}

func TestWhatWaitsOutlivesARestartAndNothingIsToldTwice(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		d := newDesk(t)
		d.away = true
		n := d.notifier()
		stop := d.run(n)
		n.Tell(of(grave("a")))
		time.Sleep(time.Hour)
		stop()
		d.set(false)
		for range 5 {
			n = d.notifier()
			stop = d.run(n)
			n.Tell(of(grave("a")))
			time.Sleep(time.Hour)
			stop()
		}
		d.want("a is not renewed")
	})
}

func TestWhatNobodyTakesForADayIsGivenUpWithOneError(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		d := newDesk(t)
		d.away = true
		n := d.notifier()
		defer d.run(n)()
		n.Tell(of(grave("a")))
		time.Sleep(26 * time.Hour)
		d.set(false)
		time.Sleep(26 * time.Hour)
		d.want()
		if d.said("level=ERROR") != 1 || d.said(canary) > 0 {
			t.Errorf("the log has %d errors, want 1, and no URL:\n%s", d.said("level=ERROR"), d.log.String())
		}
	})
}

func TestNoMoreThanAHundredWait(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		d := newDesk(t)
		n := d.notifier()
		n.On.Renewal = true
		for i := range 150 {
			n.Tell(cert.News{Renewed: []cert.Renewed{{Cert: fmt.Sprint(i), NotAfter: begin}}})
		}
		defer d.run(n)()
		synctest.Wait()
		if got := d.messages(); len(got) != 100 || !strings.HasPrefix(got[0], "50:") || !strings.HasPrefix(got[99], "149:") {
			t.Errorf("%d messages waited, from %.10q on, want the newest 100", len(got), got)
		}
	})
}

// A container that the engine starts again and again tells its mistakes once, and that they are over.
func TestMistakesAreToldOnceHoweverOftenItStarts(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		d := newDesk(t)
		n := d.notifier()
		n.Tell(of(grave("a"))) // before that somebody made a mistake
		stop := d.run(n)
		synctest.Wait()
		stop()
		for range 100 {
			if err := d.notifier().TellMistakes(t.Context(), []string{"KEY_TYPE: \"x\" is no key type", "another"}); err != nil {
				t.Fatal(err)
			}
			time.Sleep(time.Minute)
		}
		d.want("a is not renewed", "the configuration has mistakes")
		n = d.notifier()
		n.Tell(of(grave("a")))
		stop = d.run(n)
		d.want("a is not renewed", "the configuration has mistakes", "the configuration is right")
		stop()
	})
}

func TestMistakesThatCannotBeRememberedAreNotTold(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		d := newDesk(t)
		d.broken = errors.New("read-only file system")
		for range 3 {
			if err := d.notifier().TellMistakes(t.Context(), []string{"x"}); err == nil {
				t.Error("nothing is said of a state that cannot be written")
			}
		}
		d.want()
	})
}

func TestADamagedBookIsBegunAnew(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		d := newDesk(t)
		d.disk = json.RawMessage(`{"told": 7}`)
		n := d.notifier()
		defer d.run(n)()
		n.Tell(of(grave("a")))
		d.want("a is not renewed")
	})
}

func TestHeartbeatSaysWellOrFailAtMostOnceAMinute(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		var log bytes.Buffer
		var mu sync.Mutex
		var paths []string
		status := 200
		h := NewHeartbeat("https://hc.example/"+canary+"?create=1", slog.New(slog.NewTextHandler(&log, nil)))
		h.transport = handler(func(r *http.Request) (*http.Response, error) {
			mu.Lock()
			defer mu.Unlock()
			paths = append(paths, r.Method+" "+strings.TrimPrefix(r.URL.RequestURI(), "/"+canary))
			return &http.Response{StatusCode: status, Status: fmt.Sprint(status), Body: http.NoBody}, nil
		})
		ctx, cancel := context.WithCancel(t.Context())
		defer cancel()
		go h.Run(ctx)
		want := func(all ...string) {
			t.Helper()
			synctest.Wait()
			mu.Lock()
			defer mu.Unlock()
			if !slices.Equal(paths, all) {
				t.Errorf("fetched %q, want %q", paths, all)
			}
			paths = nil
		}
		h.Beat(true)
		want("GET ?create=1")
		for range 50 {
			h.Beat(true)
		}
		h.Beat(false)
		want()
		time.Sleep(time.Minute)
		want("GET /fail?create=1")
		status = 404
		for range 5 {
			time.Sleep(61 * time.Second)
			h.Beat(true)
		}
		want("GET ?create=1", "GET ?create=1", "GET ?create=1", "GET ?create=1", "GET ?create=1")
		if strings.Count(log.String(), "level=WARN") != 1 || strings.Contains(log.String(), canary) {
			t.Errorf("the log is\n%s\nwant one warning, and no URL", log.String())
		}
	})
}

// Whoever has news waits for nobody, not even for a receiver that never answers.
func TestNewsWaitForNoReceiver(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		d := newDesk(t)
		r := receiver(t, "generic+http://hook.example/x")
		r.transport = handler(func(r *http.Request) (*http.Response, error) {
			<-r.Context().Done()
			return nil, r.Context().Err()
		})
		n := d.notifier()
		n.Receivers = []*Receiver{r}
		stop := d.run(n)
		begun := time.Now()
		n.Tell(of(grave("a")))
		synctest.Wait()
		n.Tell(of())
		if time.Since(begun) > 0 {
			t.Errorf("news took %v", time.Since(begun))
		}
		stop()
	})
}

// The heartbeat fails while something ails, and is well again with it.
func TestHeartbeatFollowsWhatAils(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		d := newDesk(t)
		var beats []bool
		n := d.notifier()
		n.Receivers = nil // it needs none
		n.Beat = func(well bool) { beats = append(beats, well) }
		hiccup := failing("a", time.Minute)
		hiccup.Next = d.now().Add(time.Minute)
		n.Tell(of())
		n.Tell(of(hiccup))
		n.Tell(of(grave("a")))
		n.Tell(cert.News{Conditions: []cert.Condition{grave("a")}}) // a glance, which beats only what is new
		n.Tell(of(grave("a")))
		n.Tell(cert.News{})
		if want := []bool{true, true, false, false, true}; !slices.Equal(beats, want) {
			t.Errorf("beats were %v, want %v", beats, want)
		}
		if d.asked > 0 || bytes.Contains(d.disk, []byte(`"queue"`)) {
			t.Error("messages are kept for nobody")
		}
	})
}
