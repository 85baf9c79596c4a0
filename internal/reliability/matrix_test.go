package reliability

import (
	"fmt"
	"strings"
	"sync"
	"testing"
	"text/tabwriter"
	"time"

	"github.com/sidecert/sidecert/internal/cert"
	"github.com/sidecert/sidecert/internal/docker/enginetest"
)

// anything is what is not looked at.
const anything = ""

// What a client is shown after a look.
const (
	newOne  = "the new one"
	oldOne  = "the old one"
	nothing = "nothing"
)

// What became of the container.
const (
	untouched = "untouched"
	started   = "started again"
	ended     = "ended"
	recreated = "recreated"
)

// want is what is to be so after a look: how sidecert finds the container, how it has told it, and what words are in its error and its hint;
// then what is really served, and what became of the container, as the test itself sees them.
type want struct {
	class        cert.Class
	action       string
	says         []string
	served, fate string
}

func (w want) number(newest int) int {
	return map[string]int{newOne: newest, oldOne: newest - 1, nothing: 0}[w.served]
}

// fine is a renewal that went well.
func fine(action string) want { return want{cert.Current, action, nil, newOne, untouched} }

// calm is one where nothing is told, and nothing is wrong any more.
func calm(fate string) want { return want{cert.Current, "", nil, newOne, fate} }

func stale(action string, says ...string) want {
	return want{cert.Stale, action, says, oldOne, untouched}
}

// cells are the matrix. then is of the second look, of faults that are mended in between.
var cells = []struct {
	kind
	fault       mishap
	way         way
	first, then want
}{
	{nginx, none, bySocket, fine("HUP"), want{}},
	{nginxNoRoot, none, bySocket, fine("HUP"), want{}},
	{httpd, none, bySocket, fine("exec httpd -k graceful"), want{}},
	{haproxy, none, bySocket, fine("HUP"), want{}},
	{other, none, bySocket, want{cert.Current, "restart", nil, newOne, started}, want{}},
	{nginx, none, bySocketProxy, fine("HUP"), want{}},
	{httpd, none, bySocketProxy, fine("exec httpd -k graceful"), want{}},
	{haproxy, none, bySocketProxy, fine("HUP"), want{}},
	{other, none, bySocketProxy, want{cert.Current, "restart", nil, newOne, started}, want{}},
	{nginx, none, byName, fine("HUP"), want{}},
	{httpd, none, byName, fine("USR1"), want{}},
	{haproxy, none, byName, fine("HUP"), want{}},
	{other, none, byName, want{cert.Current, "restart", nil, newOne, started}, want{}},
	{nginx, reloadsItself, off, want{fate: untouched}, calm(untouched)},

	{nginx, broken, bySocket, stale("HUP", `unexpected "}"`, "docker compose exec web nginx -t"), want{}},
	{httpd, broken, bySocket, stale("exec httpd -k graceful", "Invalid command 'Nonsense'", "docker compose exec web httpd -t"), want{}},
	{haproxy, broken, bySocket, stale("HUP", "unknown keyword 'nonsense'", "docker compose logs web"), want{}},
	{other, broken, bySocket, want{cert.Unseen, "restart", []string{"does not run after a restart", `unexpected "}"`, "docker compose logs web"}, nothing, anything}, want{}},
	{nginx, broken, bySocketProxy, stale("HUP", `unexpected "}"`, "docker compose exec web nginx -t"), want{}},
	{httpd, broken, bySocketProxy, stale("exec httpd -k graceful", "Invalid command 'Nonsense'", "docker compose exec web httpd -t"), want{}},
	{nginx, broken, byName, stale("HUP", "an older certificate is still served"), want{}},
	{nginx, selfBroken, off, want{cert.Stale, "", []string{"nobody is told", "by itself"}, oldOne, untouched}, calm(untouched)},

	{nginx, recreatedMeanwhile, bySocket, want{cert.Unseen, "", []string{"reads the certificate when it starts"}, newOne, recreated}, calm(recreated)},
	{httpd, recreatedMeanwhile, bySocketProxy, want{cert.Unseen, "", []string{"reads the certificate when it starts"}, newOne, recreated}, calm(recreated)},
	{nginx, stopped, bySocket, want{cert.Unseen, "", []string{"does not run"}, nothing, ended}, calm(started)},
	{httpd, stopped, bySocketProxy, want{cert.Unseen, "", []string{"does not run"}, nothing, ended}, calm(started)},
	{nginx, stopped, byName, want{cert.Unseen, "", []string{"does not run"}, nothing, ended}, calm(started)},
	{nginx, oneOfThree, bySocket, stale("HUP", `unexpected "}"`), want{}},
	{nginx, sameName, bySocket, fine("HUP"), want{}},
	{other, sameName, bySocketProxy, want{cert.Current, "restart", nil, newOne, started}, want{}},
	{nginx, endedBySignal, bySocketProxy, want{cert.Unseen, "HUP", []string{"HUP ended the container", "it is restarted in place of HUP"}, anything, started}, want{cert.Current, "restart", nil, newOne, started}},
	{nginx, ignored, bySocket, stale("HUP", "a shell that swallows the signal", "RELOAD=web:exec=nginx -s reload"), want{}},
	{nginx, ignoredFallback, bySocketProxy, want{cert.Current, "HUP, restart", nil, newOne, started}, want{}},
	{other, unhealthy, bySocket, want{cert.Unseen, "restart", []string{"not healthy after a restart", "docker compose logs web"}, nothing, started}, want{}},
	{nginx, engineAway, bySocket, stale("HUP", "does not answer"), fine("HUP")},
	{nginx, engineAway, bySocketProxy, stale("HUP", "does not reach the engine"), fine("HUP")},
	{nginx, proxyAway, bySocketProxy, stale("HUP", "does not answer", "see that the proxy runs"), fine("HUP")},
	{nginx, refused, reading, stale("HUP", "refused by the socket proxy", "allow POST /containers/{id}/kill in the socket proxy"), want{}},
	{httpd, refused, withoutExec, want{cert.Current, "USR1", []string{"which ends httpd if its configuration is broken: allow", "/exec/{id}/"}, newOne, untouched}, want{}},
	{nginx, oldCopy, bySocket, stale("HUP", "cannot load certificate", "docker compose exec web nginx -t"), want{}},
}

// together is how many cells are played at once: most of the time they wait.
const together = 6

// TestMatrixOfServersFaultsAndWaysHolds has real servers in a real engine, each of which meets a fault at a renewal on one of the ways to
// the engine. What they serve is seen by the test itself. It ends with a table.
func TestMatrixOfServersFaultsAndWaysHolds(t *testing.T) {
	if underRace() {
		t.Skip("most of what happens here does so in other processes: run it without the race detector")
	}
	enginetest.New(t, enginetest.Nginx.Image, enginetest.Httpd.Image, enginetest.Haproxy.Image)
	began := time.Now()
	results := make([]result, len(cells))
	next := make(chan int)
	var players sync.WaitGroup
	for range together {
		players.Go(func() {
			for i := range next {
				cell := cells[i]
				t.Run(fmt.Sprintf("%s/%s/%s", cell.kind.name, cell.fault.name, cell.way.name), func(t *testing.T) {
					c := &scene{T: t, Stage: enginetest.New(t), kind: cell.kind, fault: cell.fault}
					results[i] = c.play(cell.way, cell.first, cell.then)
				})
			}
		})
	}
	for i := range cells {
		next <- i
	}
	close(next)
	players.Wait()

	var table strings.Builder
	w := tabwriter.NewWriter(&table, 0, 0, 2, ' ', 0)
	fmt.Fprintln(w, "server\tfault\tway\ttold by\tserved\tsays\tok")
	well := 0
	for i, r := range results {
		ok := "NO"
		if r.ok {
			ok = "yes"
			well++
		}
		fmt.Fprintf(w, "%s\t%s\t%s\t%s\t%s\t%s\t%s\n", cells[i].kind.name, cells[i].fault.name, cells[i].way.name, r.told, r.served, r.says, ok)
	}
	w.Flush()
	elapsed := time.Since(began).Round(time.Second)
	t.Logf("%d of %d cells as wanted in %v\n%s", well, len(cells), elapsed, table.String())
	if elapsed > 5*time.Minute {
		t.Errorf("it took %v, want 5 minutes at most", elapsed)
	}
}

// result is a cell's row: what came of its looks, one after the other.
type result struct {
	told, served, says string
	ok                 bool
}

// note adds a look.
func (r *result) note(action string, served, newest int, says string) {
	shown := "old"
	switch served {
	case 0:
		shown = "none"
	case newest:
		shown = "new"
	}
	if action == "" {
		action = "-"
	}
	if r.told == "" {
		r.told, r.served, r.says = action, shown, says
		return
	}
	r.told += " → " + action
	r.served += " → " + shown
}
