package docker_test

import (
	"context"
	"errors"
	"fmt"
	"io"
	"net/http"
	"net/http/httptest"
	"runtime"
	"strings"
	"testing"
	"time"

	"github.com/sidecert/sidecert/internal/docker"
)

// calls are all that we make, and whether an answer that makes no sense must be an error: of a signal's answer only the status counts, and
// a log may hold anything.
var calls = []struct {
	name   string
	parsed bool
	do     func(context.Context, *docker.Engine) error
}{
	{"ping", false, func(ctx context.Context, e *docker.Engine) error { _, err := e.Ping(ctx); return err }},
	{"version", true, func(ctx context.Context, e *docker.Engine) error { _, err := e.Version(ctx); return err }},
	{"list", true, func(ctx context.Context, e *docker.Engine) error {
		_, err := e.List(ctx, docker.Filter{Project: "p"})
		return err
	}},
	{"inspect", true, func(ctx context.Context, e *docker.Engine) error { _, err := e.Inspect(ctx, "web"); return err }},
	{"kill", false, func(ctx context.Context, e *docker.Engine) error { return e.Kill(ctx, "web", "HUP") }},
	{"restart", false, func(ctx context.Context, e *docker.Engine) error { return e.Restart(ctx, "web") }},
	{"exec", true, func(ctx context.Context, e *docker.Engine) error {
		_, err := e.ExecCreate(ctx, "web", []string{"nginx", "-t"})
		return err
	}},
	{"exec start", false, func(ctx context.Context, e *docker.Engine) error { _, err := e.ExecStart(ctx, "a"); return err }},
	{"exec inspect", true, func(ctx context.Context, e *docker.Engine) error { _, _, err := e.ExecInspect(ctx, "a"); return err }},
	{"logs", false, func(ctx context.Context, e *docker.Engine) error {
		_, err := e.Logs(ctx, "web", time.Now())
		return err
	}},
	{"events", true, func(ctx context.Context, e *docker.Engine) error {
		return e.Events(ctx, time.Time{}, nil, func() {}, func(docker.Event) {})
	}},
}

// nonsense are answers in JSON, by their headers, which are no answer to any call.
var nonsense = map[string]func(w io.Writer){
	"nothing":           func(io.Writer) {},
	"half an object":    func(w io.Writer) { io.WriteString(w, `{"Id": "a", "Na`) },
	"half a list":       func(w io.Writer) { io.WriteString(w, `[{"Id": "a"}, `) },
	"a number":          func(w io.Writer) { io.WriteString(w, `7`) },
	"no JSON":           func(w io.Writer) { w.Write([]byte{0xff, 0, 0x1b, '[', '2', 'J'}) },
	"things of no kind": func(w io.Writer) { io.WriteString(w, `[{"Id": {"a": []}, "Names": 7, "State": [[]]}]`) },
	"an object of no use": func(w io.Writer) {
		io.WriteString(w, `{"Id": 7, "State": "up", "Version": [], "Running": "no", "timeNano": "x"}`)
	},
	"an empty object": func(w io.Writer) { io.WriteString(w, `{}`) },
	"deep": func(w io.Writer) {
		io.WriteString(w, strings.Repeat("[", 2<<20))
	},
	"endless text":    func(w io.Writer) { endless(w, `{"Id": "`, strings.Repeat("x", 64<<10)) },
	"endless objects": func(w io.Writer) { endless(w, `[{}`, strings.Repeat(",{}", 16<<10)) },
	"endless objects within 8 MiB": func(w io.Writer) {
		io.WriteString(w, "[{}"+strings.Repeat(",{}", 8<<20/3-16)+"]")
	},
	"endless ports within 8 MiB": func(w io.Writer) {
		io.WriteString(w, `{"Id": "a", "NetworkSettings": {"Ports": {"443/tcp": [{}`+strings.Repeat(",{}", 8<<20/3-100)+"]}}}")
	},
	"a frame of 4 GiB":  func(w io.Writer) { endless(w, "\x01\x00\x00\x00\xff\xff\xff\xff", strings.Repeat("x", 64<<10)) },
	"endless new lines": func(w io.Writer) { endless(w, "", strings.Repeat("\n", 64<<10)) },
}

func endless(w io.Writer, head, more string) {
	_, err := io.WriteString(w, head)
	for err == nil {
		_, err = io.WriteString(w, more)
	}
}

// TestNoAnswerDoesHarm has every call answered with nonsense. That an engine would lie to do harm is not the point, since it could do so
// much more easily; but what answers may be broken, or none.
func TestNoAnswerDoesHarm(t *testing.T) {
	const most = 300 << 20 // all that is allocated, and mostly given back, for an answer of 8 MiB at most
	for what, write := range nonsense {
		for _, status := range []int{http.StatusOK, http.StatusInternalServerError} {
			srv := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
				w.Header().Set("Api-Version", "1.41")
				w.Header().Set("Content-Type", "application/json")
				w.WriteHeader(status)
				if r.Method != http.MethodHead { // whose answer has no body, and whose writer would take it for ever
					write(w)
				}
			}))
			for _, call := range calls {
				t.Run(fmt.Sprintf("%s/%s/%d", call.name, what, status), func(t *testing.T) {
					e := client(t, docker.Config{Host: "tcp://" + srv.Listener.Addr().String(), APIVersion: "1.41"})
					ctx, cancel := context.WithTimeout(t.Context(), 30*time.Second)
					defer cancel()
					var before, after runtime.MemStats
					runtime.ReadMemStats(&before)
					err := call.do(ctx, e)
					runtime.ReadMemStats(&after)
					if got := after.TotalAlloc - before.TotalAlloc; got > most {
						t.Errorf("%d MiB were allocated, want %d at most", got>>20, most>>20)
					}
					harmless := what == "an empty object" && (call.name == "version" || call.name == "exec inspect" || call.name == "events")
					if err == nil && (status != http.StatusOK || call.parsed && !harmless) {
						t.Error("no error")
					}
					if ctx.Err() != nil {
						t.Errorf("it took longer than 30 s: %v", err)
					}
					if err != nil && len(err.Error()) > 1000 {
						t.Errorf("an error of %d bytes: %.200q", len(err.Error()), err)
					}
				})
			}
			srv.CloseClientConnections()
			srv.Close()
		}
	}
}

func TestEngineThatNeverAnswersIsTakenForAway(t *testing.T) {
	done := make(chan struct{})
	srv := httptest.NewServer(http.HandlerFunc(func(http.ResponseWriter, *http.Request) { <-done }))
	defer srv.Close()
	defer close(done)
	for _, call := range calls {
		ctx, cancel := context.WithTimeout(t.Context(), 50*time.Millisecond) // in place of our own limits
		err := call.do(ctx, client(t, docker.Config{Host: "tcp://" + srv.Listener.Addr().String(), APIVersion: "1.41"}))
		cancel()
		if !errors.Is(err, docker.ErrUnavailable) {
			t.Errorf("%s: error = %v, want ErrUnavailable", call.name, err)
		}
	}
}
