package main

import (
	"errors"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"syscall"
	"testing"
	"time"

	"github.com/sidecert/sidecert/internal/acmetest"
)

// end is a way in which a process is ended while its request is at the CA.
type end struct {
	name string
	// do is called when the request is there. The CA acts on it whatever becomes of who asked.
	do func(c *child)
	// kills says that sidecert has no say in it.
	kills bool
}

var ends = []end{
	{"SIGTERM", func(c *child) { c.signal(syscall.SIGTERM) }, false},
	{"SIGTERM while the CA does not answer", func(c *child) {
		c.signal(syscall.SIGTERM)
		<-c.ended
	}, false},
	{"SIGKILL", func(c *child) {
		c.signal(syscall.SIGKILL)
		<-c.ended
	}, true},
}

// impatient sends SIGTERM until the process is gone, as somebody does who presses a key again and again.
func impatient(c *child) {
	for {
		c.signal(syscall.SIGTERM)
		select {
		case <-c.ended:
			return
		case <-time.After(time.Millisecond):
		}
	}
}

func TestFirstIssueThatEndsAtAnyRequestIsFinishedByTheNextRun(t *testing.T) {
	for _, end := range ends {
		t.Run(end.name, func(t *testing.T) {
			t.Parallel()
			firstIssues(t, []string{"sidecert"}, end)
		})
	}
}

// The program's own answer to a second signal is not that of the scripts' sidecert.
func TestSecondSIGTERMCostsNoCertificate(t *testing.T) {
	t.Parallel()
	program := filepath.Join(t.TempDir(), "sidecert")
	if out, err := exec.Command("go", "build", "-o", program, ".").CombinedOutput(); err != nil {
		t.Fatalf("go build: %v\n%s", err, out)
	}
	firstIssues(t, []string{program}, end{"SIGTERM again and again", impatient, true})
}

func firstIssues(t *testing.T, program []string, end end) {
	for k := 1; ; k++ {
		over := false
		t.Run(fmt.Sprintf("request %d", k), func(t *testing.T) {
			p := newPlace(t, acmetest.Config{})
			p.program = program
			over = !p.endedAt(k, end)
			p.wantIssued(1)
			p.wantSwept()
		})
		if over || t.Failed() {
			t.Logf("%d requests", k-1)
			return
		}
	}
}

// A renewal is what another name asks for: it comes at once, and is one of the same lineage.
func TestRenewalThatEndsAtAnyRequestIsFinishedByTheNextRun(t *testing.T) {
	for _, end := range []end{ends[0], ends[2]} {
		t.Run(end.name, func(t *testing.T) {
			t.Parallel()
			p := newPlace(t, acmetest.Config{})
			p.must("renew")
			for k := 1; ; k++ {
				p.environ = []string{fmt.Sprintf("DOMAINS=%s,n%d.example.test", site, k)}
				before := p.serial()
				over := !p.endedAt(k, end)
				if p.serial() == before {
					t.Errorf("request %d: certificate %s was not renewed", k, before)
				}
				p.wantIssued(k + 1)
				if t.Failed() {
					t.Fatalf("at request %d", k)
				}
				if over {
					p.wantSwept()
					t.Logf("%d requests", k-1)
					return
				}
			}
		})
	}
}

// endedAt ends the daemon at its kth request and has the next one finish. It reports whether there were as many requests.
func (p *place) endedAt(k int, end end) bool {
	p.Helper()
	old := p.serial()
	started := make(chan *child, 1)
	p.watch.at(k, func() { end.do(<-started) })
	c := p.start("run")
	started <- c
	p.until("it is over", func() bool { return p.watch.fired() || p.serial() != old })
	if !p.watch.fired() {
		p.watch.at(0, nil)
		c.stop()
		return false
	}
	if end.kills {
		c.wait()
		if exit, ok := errors.AsType[*exec.ExitError](c.status); ok && exit.ExitCode() != -1 {
			p.Errorf("request %d: %v; it said\n%s", k, c.status, c.log)
		}
	} else {
		c.stopped()
	}
	p.finish(old, end)
	return true
}

// finish is the next run. After a kill a person asks for it: by itself it would come a minute later.
func (p *place) finish(old string, end end) {
	p.Helper()
	if end.kills {
		p.until("it is renewed", func() bool { // the CA may be held for a moment
			_, err := p.run("renew", site)
			return err == nil
		})
	} else {
		next := p.start("run")
		next.says("sidecert started", 1) // from here on it hears signals
		p.until("the next run has finished", func() bool { return p.serial() != old })
		next.stop()
	}
}

// wantSwept wants the next order to take away what those before have left where the CA looks. A file stays when sidecert is ended
// while the CA may still fetch it; one that is young may be in use.
func (p *place) wantSwept() {
	p.Helper()
	old := time.Now().Add(-2 * time.Hour)
	for _, file := range p.challenges() {
		p.check(os.Chtimes(file, old, old))
	}
	p.environ = []string{"DOMAINS=" + site + ",last.example.test"}
	p.must("renew", site)
	if left := p.challenges(); len(left) > 0 {
		p.Errorf("%v are left", left)
	}
}
