package reliability

import (
	"bytes"
	"context"
	"fmt"
	"os/exec"
	"regexp"
	"strings"
	"syscall"
	"testing"
	"time"
)

// What is traced. Each change of a file is among them; those with a ? are unknown to some architectures.
const (
	roomCalls = "?open,openat,write,pwrite64,writev,fsync,fdatasync,ftruncate,?rename,renameat,renameat2,?symlink,symlinkat,?link,linkat,?mkdir,mkdirat"
	freeCalls = "?unlink,unlinkat,?rmdir,?chmod,fchmod,fchmodat,?chown,fchown,fchownat"
)

// fault is what strace does to a call.
type fault struct {
	name, inject string
	// room says that only calls that need room on the disk can meet it.
	room bool
}

var faults = []fault{{"killed", "signal=KILL", false}, {"disk full", "error=ENOSPC", true}}

// call is a system call in a trace.
type call struct {
	name string
	// nth says how many calls of this name its thread had made, with this one: strace's `when` counts so.
	nth int
	// changes says that the call is of a kind that changes files of the place, done says that it did.
	changes, done bool
	// struck says that the fault was put in its way.
	struck bool
	text   string
}

// trace is a run under strace.
type trace struct {
	calls  []call
	killed bool
	// output and err are the program's own.
	output []byte
	err    error
}

// patience is for one run of a program, which takes 3 s at most on an idle machine.
const patience = 2 * time.Minute

// run runs a command to its end, with or without strace before it.
func run(t *testing.T, c command, before ...string) ([]byte, error) {
	t.Helper()
	ctx, cancel := context.WithTimeout(t.Context(), patience)
	defer cancel()
	args := append(before, c.args...)
	cmd := exec.CommandContext(ctx, args[0], args[1:]...)
	// One processor for Go keeps the files' work on few threads: strace counts calls for each thread by itself.
	cmd.Env = append(c.environ, "GOMAXPROCS=1")
	cmd.SysProcAttr = &syscall.SysProcAttr{Setpgid: true}
	cmd.Cancel = func() error { return syscall.Kill(-cmd.Process.Pid, syscall.SIGKILL) } // strace alone would leave its child alive
	out, err := cmd.CombinedOutput()
	if ctx.Err() != nil {
		t.Fatalf("%s did not end: %v\n%s", strings.Join(args, " "), ctx.Err(), out)
	}
	return out, err
}

var traceLine = regexp.MustCompile(`^(\d+) +(?:<\.\.\. (\w+) resumed>|(\w+)\()(.*)$`)

// parseTrace reads what strace wrote of a program that keeps its files in dir.
func parseTrace(data []byte, dir string) trace {
	tr := trace{killed: bytes.Contains(data, []byte("+++ killed by SIGKILL +++"))}
	made, unfinished := map[string]int{}, map[string]int{}
	for line := range strings.Lines(string(data)) {
		m := traceLine.FindStringSubmatch(strings.TrimSuffix(line, "\n"))
		if m == nil {
			continue
		}
		thread, name, rest := m[1], m[3], m[4]
		if name == "" {
			tr.calls[unfinished[thread]].end(rest)
			continue
		}
		made[thread+name]++
		c := call{name: name, nth: made[thread+name], changes: isChange(name, rest, dir), text: name + "(" + strings.ReplaceAll(rest, dir, "…")}
		c.end(rest)
		tr.calls, unfinished[thread] = append(tr.calls, c), len(tr.calls)
	}
	return tr
}

func isChange(name, rest, dir string) bool {
	return strings.Contains(rest, dir+"/") && (!strings.HasPrefix(name, "open") || strings.Contains(rest, "O_CREAT"))
}

// end takes note of how a call ended, if the rest of its line tells.
func (c *call) end(rest string) {
	i := strings.LastIndex(rest, ") = ")
	if i < 0 {
		return
	}
	result := rest[i+len(") = "):]
	c.done = c.changes && !strings.HasPrefix(result, "-") && !strings.HasPrefix(result, "?")
	c.struck = strings.HasSuffix(result, "(INJECTED)")
}

// changes are the calls that changed a file, in order.
func (tr trace) changes() (done []call) {
	for _, c := range tr.calls {
		if c.done {
			done = append(done, c)
		}
	}
	return done
}

// position is after how many changes the fault struck. It is false where it struck nothing, or what no full disk can strike: a
// connection, say, when another thread than the one meant got as far in its count.
func (tr trace) position(f fault) (at int, met bool) {
	done := 0
	for _, c := range tr.calls {
		switch {
		case c.struck && !c.changes:
			return 0, false
		case c.struck && !met:
			at, met = done, true
		case c.done:
			done++
		}
	}
	if f.room {
		return at, met
	}
	return done, tr.killed
}

// where describes a position for people, by the last change before it.
func where(changes []call, position int) string {
	if position == 0 {
		return "before the first change"
	}
	return fmt.Sprintf("after change %d, %s", position, changes[position-1].text)
}

func TestTraceTellsAfterHowManyChangesAFaultStruck(t *testing.T) {
	const begin = `7 openat(AT_FDCWD</>, "/lib/x", O_RDONLY|O_CLOEXEC) = 3</lib/x>
7 openat(5</place/certs>, "a", O_WRONLY|O_CREAT|O_EXCL, 0600) = 6</place/certs/a>
7 fsync(6</place/certs/a> <unfinished ...>
8 write(1<pipe:[1]>, ""..., 5) = 5
7 <... fsync resumed>) = 0
7 unlinkat(5</place/certs>, "b", 0) = -1 ENOENT (No such file or directory)
`
	kill, full := faults[0], faults[1]
	for _, row := range []struct {
		name, end string
		fault     fault
		at        int
		met       bool
	}{
		{"killed", "8 mkdirat(5</place/certs>, \"c\", 0700 <unfinished ...>) = ?\n7 +++ killed by SIGKILL +++\n", kill, 2, true},
		{"came to its end", "7 +++ exited with 0 +++\n", kill, 2, false},
		{"disk full at a file", "7 write(6</place/certs/a>, \"\"..., 9) = -1 ENOSPC (No space left on device) (INJECTED)\n8 mkdirat(5</place/certs>, \"c\", 0700) = 0\n", full, 2, true},
		{"disk full at a connection", "7 write(9<socket:[4]>, \"\"..., 9) = -1 ENOSPC (No space left on device) (INJECTED)\n", full, 0, false},
		{"disk full at a file that is read", "7 openat(5</place/certs>, \"a\", O_RDONLY) = -1 ENOSPC (No space left on device) (INJECTED)\n", full, 0, false},
	} {
		tr := parseTrace([]byte(begin+row.end), "/place")
		if at, met := tr.position(row.fault); at != row.at && met || met != row.met {
			t.Errorf("%s: after %d changes, met %v; want %d, %v", row.name, at, met, row.at, row.met)
		}
	}
	if last := parseTrace([]byte(begin+"7 fsync(5</place/certs>) = 0\n"), "/place").calls; last[len(last)-1].nth != 2 {
		t.Errorf("the second fsync of its thread is number %d", last[len(last)-1].nth)
	}
}
