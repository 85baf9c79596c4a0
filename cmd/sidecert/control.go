package main

import (
	"bufio"
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"os"
	"path/filepath"
	"sync"
	"time"

	"github.com/sidecert/sidecert/internal/cert"
)

// The daemon answers commands on a unix socket in STATE_DIR, which only those reach who may read the account keys anyway.
// It works from `docker compose exec` and from another container with the same volume.
const controlSocket = "control.sock"

// maxDeed is the size in bytes of the longest request: the names of a hundred certificates.
const maxDeed = 64 << 10

// told is a line of the daemon's answer: lines of its log while it is at work, and the answer at the end.
type told struct {
	Log    string  `json:"log,omitempty"`
	Answer *answer `json:"answer,omitempty"`
}

func (p *parts) serveControl(ctx context.Context) {
	path := filepath.Join(p.config.StateDir, controlSocket)
	os.Remove(path) // of a process that was killed; we hold the lock, so nobody listens there
	listener, err := net.Listen("unix", path)
	if err == nil {
		err = os.Chmod(path, 0o600)
	}
	if err != nil {
		p.log.Warn("commands cannot reach this daemon", cert.AttrErr, err)
		return
	}
	mux := http.NewServeMux()
	mux.HandleFunc("POST /deed", p.serveDeed)
	server := &http.Server{Handler: mux, ReadHeaderTimeout: 10 * time.Second, BaseContext: func(net.Listener) context.Context { return ctx }}
	defer context.AfterFunc(ctx, func() { server.Close() })()
	if err := server.Serve(listener); ctx.Err() == nil {
		p.log.Warn("commands cannot reach this daemon", cert.AttrErr, err)
	}
}

func (p *parts) serveDeed(w http.ResponseWriter, r *http.Request) {
	var d deed
	if err := json.NewDecoder(http.MaxBytesReader(w, r.Body, maxDeed)).Decode(&d); err != nil {
		http.Error(w, err.Error(), http.StatusBadRequest)
		return
	}
	out := &lineWriter{to: w}
	if d.Watch {
		defer p.watchers.add(func(line []byte) { out.send(told{Log: string(bytes.TrimRight(line, "\n"))}) })()
	}
	a := p.perform(r.Context(), d, p.manager)
	if r.Context().Err() != nil && a.Err != "" {
		a = answer{Did: a.Did, Err: d.Kind + ": the daemon is stopping", Hint: "see `docker compose logs sidecert`; what was under way goes on at its next start"}
	}
	out.send(told{Answer: &a})
}

// lineWriter sends one JSON object a line, at once; log lines may come from several goroutines.
type lineWriter struct {
	mu sync.Mutex
	to http.ResponseWriter
}

func (l *lineWriter) send(t told) {
	l.mu.Lock()
	defer l.mu.Unlock()
	if json.NewEncoder(l.to).Encode(t) == nil {
		http.NewResponseController(l.to).Flush()
	}
}

// watchers get a copy of each line of the log.
type watchers struct {
	to io.Writer

	mu   sync.Mutex
	next int
	all  map[int]func(line []byte)
}

func (w *watchers) Write(line []byte) (int, error) {
	w.mu.Lock()
	for _, tell := range w.all {
		tell(line)
	}
	w.mu.Unlock()
	return w.to.Write(line)
}

// add returns what ends the watch.
func (w *watchers) add(tell func(line []byte)) (end func()) {
	w.mu.Lock()
	defer w.mu.Unlock()
	if w.all == nil {
		w.all = map[int]func([]byte){}
	}
	id := w.next
	w.next++
	w.all[id] = tell
	return func() {
		w.mu.Lock()
		defer w.mu.Unlock()
		delete(w.all, id)
	}
}

// errNoDaemon says that no daemon listens in STATE_DIR.
var errNoDaemon = errors.New("no daemon is running")

// askDaemon has the daemon do a deed, and shows its log meanwhile if that is watched.
func askDaemon(ctx context.Context, in *invocation, stateDir string, d deed) (answer, error) {
	conn, err := net.Dial("unix", filepath.Join(stateDir, controlSocket))
	if err != nil {
		return answer{}, errNoDaemon
	}
	client := &http.Client{Transport: &http.Transport{DialContext: func(context.Context, string, string) (net.Conn, error) { return conn, nil }}}
	defer client.CloseIdleConnections()
	body, err := json.Marshal(d)
	if err != nil {
		return answer{}, err
	}
	req, err := http.NewRequestWithContext(ctx, http.MethodPost, "http://sidecert/deed", bytes.NewReader(body))
	if err != nil {
		return answer{}, err
	}
	resp, err := client.Do(req)
	if err != nil {
		return answer{}, fmt.Errorf("ask the daemon: %w", err)
	}
	defer resp.Body.Close()
	if resp.StatusCode != http.StatusOK {
		return answer{}, fmt.Errorf("ask the daemon: %s", resp.Status)
	}
	for lines := json.NewDecoder(bufio.NewReader(resp.Body)); ; {
		var t told
		if err := lines.Decode(&t); err != nil {
			return answer{}, &cert.Error{Op: "ask the daemon", Err: fmt.Errorf("it broke off: %w", err), Hint: "`docker compose logs sidecert` tells what it did"}
		}
		if t.Answer != nil {
			return *t.Answer, nil
		}
		fmt.Fprintln(in.stderr, t.Log)
	}
}
