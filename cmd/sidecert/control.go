package main

import (
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
	"slices"
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
	mux.HandleFunc("POST /deed", func(w http.ResponseWriter, r *http.Request) { p.serveDeed(ctx, w, r) })
	server := &http.Server{Handler: mux, ReadHeaderTimeout: 10 * time.Second}
	ended := make(chan struct{})
	defer context.AfterFunc(ctx, func() {
		defer close(ended)
		last, cancel := context.WithTimeout(context.Background(), lastDeeds)
		defer cancel()
		server.Shutdown(last)
		server.Close()
	})()
	if err := server.Serve(listener); ctx.Err() == nil {
		p.log.Warn("commands cannot reach this daemon", cert.AttrErr, err)
		return
	}
	<-ended
}

// lastDeeds is what deeds under way have when the daemon is told to stop, to put things back and to answer. Docker gives 10 s in all.
const lastDeeds = 8 * time.Second

func (p *parts) serveDeed(stop context.Context, w http.ResponseWriter, r *http.Request) {
	var d deed
	if err := json.NewDecoder(http.MaxBytesReader(w, r.Body, maxDeed)).Decode(&d); err != nil {
		http.Error(w, err.Error(), http.StatusBadRequest)
		return
	}
	ctx, cancel := context.WithCancel(r.Context())
	defer cancel()
	defer context.AfterFunc(stop, cancel)()
	lines := &lines{}
	if d.Watch {
		defer p.watchers.add(lines)()
	}
	done := make(chan answer, 1)
	go func() { done <- p.perform(ctx, d, p.manager) }()
	out := json.NewEncoder(w)
	send := func(t told) {
		flush := http.NewResponseController(w)
		flush.SetWriteDeadline(time.Now().Add(10 * time.Second))
		if out.Encode(t) == nil {
			flush.Flush()
		}
	}
	for {
		select {
		case <-lines.ready():
			for _, line := range lines.take() {
				send(told{Log: line})
			}
		case a := <-done:
			if stop.Err() != nil && a.Err != "" {
				a.Hint = "the daemon was stopped meanwhile: give the command again once it runs"
			}
			for _, line := range lines.take() {
				send(told{Log: line})
			}
			send(told{Answer: &a})
			return
		}
	}
}

// maxLines is how many lines of the log wait for somebody who watches and does not read.
const maxLines = 1000

// lines are those of the log that a watcher has not been sent yet. Whoever logs never waits for a watcher.
type lines struct {
	mu      sync.Mutex
	waiting []string
	lost    int
	bell    chan struct{}
}

func (l *lines) put(line []byte) {
	l.mu.Lock()
	defer l.mu.Unlock()
	if len(l.waiting) == maxLines {
		l.lost++
		return
	}
	l.waiting = append(l.waiting, string(bytes.TrimRight(line, "\n")))
	select {
	case l.ring() <- struct{}{}:
	default:
	}
}

func (l *lines) ring() chan struct{} {
	if l.bell == nil {
		l.bell = make(chan struct{}, 1)
	}
	return l.bell
}

func (l *lines) ready() <-chan struct{} {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.ring()
}

func (l *lines) take() []string {
	l.mu.Lock()
	defer l.mu.Unlock()
	taken := l.waiting
	if l.lost > 0 {
		taken = append(taken, fmt.Sprintf("(%d lines left out)", l.lost))
	}
	l.waiting, l.lost = nil, 0
	return taken
}

// watchers get a copy of each line of the log.
type watchers struct {
	to io.Writer

	mu  sync.Mutex
	all []*lines
}

func (w *watchers) Write(line []byte) (int, error) {
	w.mu.Lock()
	for _, watcher := range w.all {
		watcher.put(line)
	}
	w.mu.Unlock()
	return w.to.Write(line)
}

// add returns what ends the watch.
func (w *watchers) add(watcher *lines) (end func()) {
	w.mu.Lock()
	defer w.mu.Unlock()
	w.all = append(w.all, watcher)
	return func() {
		w.mu.Lock()
		defer w.mu.Unlock()
		w.all = slices.DeleteFunc(w.all, func(l *lines) bool { return l == watcher })
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
		return answer{}, brokenOff(ctx, err)
	}
	defer resp.Body.Close()
	if resp.StatusCode != http.StatusOK {
		return answer{}, fmt.Errorf("ask the daemon: %s", resp.Status)
	}
	for lines := json.NewDecoder(resp.Body); ; {
		var t told
		if err := lines.Decode(&t); err != nil {
			return answer{}, brokenOff(ctx, err)
		}
		if t.Answer != nil {
			return *t.Answer, nil
		}
		fmt.Fprintln(in.stderr, t.Log)
	}
}

// brokenOff is what is said where the daemon's answer was not waited for, or did not come.
func brokenOff(ctx context.Context, err error) error {
	if ctx.Err() != nil {
		return &cert.Error{Op: "ask the daemon", Err: errors.New("interrupted"), Hint: "what it had begun goes on: `docker compose logs sidecert` tells how it ends"}
	}
	return &cert.Error{Op: "ask the daemon", Err: fmt.Errorf("it broke off: %w", err), Hint: "`docker compose logs sidecert` tells what it did"}
}
