package socketproxy

import (
	"context"
	"crypto/rand"
	"encoding/binary"
	"encoding/hex"
	"errors"
	"net/http"
	"strings"
	"sync"
	"time"

	"github.com/sidecert/sidecert/internal/cert"
	"github.com/sidecert/sidecert/internal/docker"
)

const (
	// maxCommands is how many prepared commands are remembered, and commandLife for how long.
	maxCommands = 64
	commandLife = 5 * time.Minute
)

var errStarted = errors.New("the command has been started already")

// commands are those that were prepared here, by IDs of our own. The engine hears of one when it is started: what is prepared and
// never started would stay in its memory.
type commands struct {
	mu  sync.Mutex
	all map[string]*command
}

type command struct {
	to       docker.Container
	words    []string
	since    time.Time
	started  bool
	running  bool
	exitCode *int
}

func (c *commands) add(to docker.Container, words []string, now time.Time) (id string) {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.forget(now)
	if c.all == nil {
		c.all = map[string]*command{}
	}
	var random [32]byte
	rand.Read(random[:])
	id = hex.EncodeToString(random[:])
	c.all[id] = &command{to: to, words: words, since: now}
	return id
}

// forget drops what is too old, and the oldest where there is no room for another.
func (c *commands) forget(now time.Time) {
	oldest := ""
	for id, command := range c.all {
		if now.Sub(command.since) > commandLife {
			delete(c.all, id)
		} else if oldest == "" || command.since.Before(c.all[oldest].since) {
			oldest = id
		}
	}
	if len(c.all) >= maxCommands {
		delete(c.all, oldest)
	}
}

// start returns a command that is to be run now, once.
func (c *commands) start(id string, now time.Time) (command, error) {
	c.mu.Lock()
	defer c.mu.Unlock()
	known := c.all[id]
	switch {
	case known == nil || now.Sub(known.since) > commandLife:
		return command{}, errNoCommand
	case known.started:
		return command{}, errStarted
	}
	known.started, known.running = true, true
	return *known, nil
}

// end notes how a command has ended; nil where nobody knows.
func (c *commands) end(id string, exitCode *int) {
	c.mu.Lock()
	defer c.mu.Unlock()
	if known := c.all[id]; known != nil {
		known.running, known.exitCode = false, exitCode
	}
}

func (c *commands) look(id string) (command, error) {
	c.mu.Lock()
	defer c.mu.Unlock()
	if known := c.all[id]; known != nil {
		return *known, nil
	}
	return command{}, errNoCommand
}

// execStart runs a command to its end, and answers with what it printed.
func (p *Proxy) execStart(ctx context.Context, w http.ResponseWriter, c call) error {
	command, err := p.commands.start(c.id, time.Now())
	if err != nil {
		return err
	}
	// RELOAD may have come to name another one, or the container may have gone, since the command was prepared.
	if _, err := p.meant(ctx, call{what: c.what, id: command.to.ID}); err != nil {
		p.commands.end(c.id, nil)
		return err
	}
	ended, err := p.engine.Exec(ctx, command.to.ID, command.words)
	p.acted(command.to, cert.Action{Kind: cert.ActionExec, Command: command.words}.String(), err)
	if err != nil {
		p.commands.end(c.id, nil)
		return err
	}
	p.commands.end(c.id, &ended.ExitCode)
	http.NewResponseController(w).SetWriteDeadline(time.Now().Add(writeLimit))
	w.Header().Set("Content-Type", "application/vnd.docker.raw-stream")
	w.Write(frame(ended.Output))
	return nil
}

// frame is the API's form of what came by a command's standard output: "[8]byte{STREAM_TYPE, 0, 0, 0, SIZE1, SIZE2, SIZE3, SIZE4}", then
// the text (Engine API, ContainerAttach).
func frame(output string) []byte {
	if output == "" {
		return nil
	}
	output = strings.ToValidUTF8(output, "?")
	head := []byte{1, 0, 0, 0, 0, 0, 0, 0}
	binary.BigEndian.PutUint32(head[4:], uint32(len(output)))
	return append(head, output...)
}

func (p *Proxy) execInspect(w http.ResponseWriter, c call) error {
	command, err := p.commands.look(c.id)
	if err != nil {
		return err
	}
	return tellJSON(w, http.StatusOK, struct {
		ID          string
		Running     bool
		ExitCode    *int
		ContainerID string
	}{c.id, command.running, command.exitCode, command.to.ID})
}
