package main

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"net"
	"net/http"
	"os"
	"path/filepath"
	"time"

	"github.com/sidecert/sidecert/internal/cert"
	"github.com/sidecert/sidecert/internal/renewal"
)

// The daemon answers commands on a unix socket in STATE_DIR, which only those reach who may read the account keys anyway.
// It works from `docker compose exec` and from another container with the same volume.
const controlSocket = "control.sock"

// verdict is what became of one certificate, as the socket tells it.
type verdict struct {
	Cert     string    `json:"cert"`
	Obtained bool      `json:"obtained,omitempty"`
	Why      string    `json:"why,omitempty"`
	Held     string    `json:"held,omitempty"`
	Next     time.Time `json:"next,omitzero"`
	Err      string    `json:"err,omitempty"`
	Hint     string    `json:"hint,omitempty"`
	Unserved string    `json:"unserved,omitempty"`
}

func verdicts(r renewal.Result) []verdict {
	var all []verdict
	for _, c := range r.Certs {
		v := verdict{Cert: c.Cert, Obtained: c.Obtained, Why: string(c.Why), Held: c.Held, Next: c.Next, Unserved: c.Unserved, Hint: c.UnservedHint}
		if c.Err != nil {
			v.Err, v.Hint = renewal.ErrorText(c.Err)
		}
		all = append(all, v)
	}
	return all
}

// maxAsk is the size in bytes of the longest request: the names of a hundred certificates.
const maxAsk = 64 << 10

func (p *parts) serveControl(ctx context.Context) {
	path := filepath.Join(p.config.StateDir, controlSocket)
	os.Remove(path) // of a process that was killed; we hold the lock, so nobody listens there
	listener, err := net.Listen("unix", path)
	if err == nil {
		err = os.Chmod(path, 0o600)
	}
	if err != nil {
		p.log.Warn("`sidecert renew` cannot reach this daemon", cert.AttrErr, err)
		return
	}
	mux := http.NewServeMux()
	mux.HandleFunc("POST /renew", func(w http.ResponseWriter, r *http.Request) {
		var ask renewal.Ask
		if err := json.NewDecoder(http.MaxBytesReader(w, r.Body, maxAsk)).Decode(&ask); err != nil {
			http.Error(w, err.Error(), http.StatusBadRequest)
			return
		}
		result, err := p.manager.Renew(r.Context(), ask)
		if err != nil {
			http.Error(w, "the daemon is stopping", http.StatusServiceUnavailable)
			return
		}
		json.NewEncoder(w).Encode(verdicts(result))
	})
	server := &http.Server{Handler: mux, ReadHeaderTimeout: 10 * time.Second, BaseContext: func(net.Listener) context.Context { return ctx }}
	defer context.AfterFunc(ctx, func() { server.Close() })()
	if err := server.Serve(listener); ctx.Err() == nil {
		p.log.Warn("`sidecert renew` cannot reach this daemon", cert.AttrErr, err)
	}
}

// errNoDaemon says that no daemon listens in STATE_DIR.
var errNoDaemon = errors.New("no daemon is running")

// askDaemon has the daemon do a pass.
func askDaemon(ctx context.Context, stateDir string, ask renewal.Ask) ([]verdict, error) {
	path := filepath.Join(stateDir, controlSocket)
	conn, err := net.Dial("unix", path)
	if err != nil {
		return nil, errNoDaemon
	}
	client := &http.Client{Transport: &http.Transport{DialContext: func(context.Context, string, string) (net.Conn, error) { return conn, nil }}}
	defer client.CloseIdleConnections()
	body, err := json.Marshal(ask)
	if err != nil {
		return nil, err
	}
	req, err := http.NewRequestWithContext(ctx, http.MethodPost, "http://sidecert/renew", bytes.NewReader(body))
	if err != nil {
		return nil, err
	}
	resp, err := client.Do(req)
	if err != nil {
		return nil, fmt.Errorf("ask the daemon: %w", err)
	}
	defer resp.Body.Close()
	if resp.StatusCode != http.StatusOK {
		return nil, fmt.Errorf("ask the daemon: %s", resp.Status)
	}
	var all []verdict
	if err := json.NewDecoder(resp.Body).Decode(&all); err != nil {
		return nil, fmt.Errorf("ask the daemon: %w", err)
	}
	return all, nil
}
