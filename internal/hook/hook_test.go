package hook

import (
	"bytes"
	"context"
	"crypto/x509"
	"fmt"
	"log/slog"
	"os"
	"os/exec"
	"path/filepath"
	"strconv"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/sidecert/sidecert/internal/cert"
)

// bench is a Runner whose log can be read, with a folder for its hooks to write in.
type bench struct {
	*Runner
	logged *bytes.Buffer
	dir    string
}

func newBench(t *testing.T, c Config) *bench {
	t.Helper()
	b := &bench{logged: &bytes.Buffer{}, dir: t.TempDir()}
	if c.Environ == nil {
		c.Environ = []string{"PATH=" + os.Getenv("PATH"), "OUT=" + filepath.Join(b.dir, "out")}
	}
	c.Log = slog.New(slog.NewTextHandler(b.logged, nil))
	b.Runner = New(c)
	b.grace = time.Second
	return b
}

// out is what hooks have written to $OUT.
func (b *bench) out(t *testing.T) string {
	t.Helper()
	data, err := os.ReadFile(filepath.Join(b.dir, "out"))
	if err != nil {
		t.Fatalf("no hook wrote anything: %v; log:\n%s", err, b.logged)
	}
	return strings.TrimSpace(string(data))
}

// lines are those of the log that contain all the words.
func (b *bench) lines(words ...string) []string {
	var found []string
	for line := range strings.Lines(b.logged.String()) {
		all := true
		for _, w := range words {
			all = all && strings.Contains(line, w)
		}
		if all {
			found = append(found, line)
		}
	}
	return found
}

// wantOne is the only line of the log with the words.
func (b *bench) wantOne(t *testing.T, words ...string) {
	t.Helper()
	if got := b.lines(words...); len(got) != 1 {
		t.Errorf("%d lines with %q, want 1; log:\n%s", len(got), words, b.logged)
	}
}

// script puts a file into one of certbot's folders.
func script(t *testing.T, dir, name, text string, perm os.FileMode) string {
	t.Helper()
	path := filepath.Join(dir, name)
	if err := os.MkdirAll(filepath.Dir(path), 0o755); err != nil {
		t.Fatal(err)
	}
	if err := os.WriteFile(path, []byte(text), perm); err != nil {
		t.Fatal(err)
	}
	return path
}

func TestHooksRunOnceEachInCertbotsOrder(t *testing.T) {
	dir := t.TempDir()
	first := script(t, dir, "pre/10-first", "#!/bin/sh\necho first >> $OUT\n", 0o755)
	script(t, dir, "pre/20-second", "echo second >> $OUT\n", 0o755) // certbot's shell runs it too
	script(t, dir, "pre/20-second~", "#!/bin/sh\necho backup >> $OUT\n", 0o755)
	script(t, dir, "pre/README", "#!/bin/sh\necho readme >> $OUT\n", 0o644)
	script(t, dir, "post/10-post", "#!/bin/sh\necho post >> $OUT\n", 0o755)
	if err := os.Mkdir(filepath.Join(dir, "pre", "30-folder"), 0o755); err != nil {
		t.Fatal(err)
	}
	b := newBench(t, Config{Dir: dir, Pre: []string{"sh", "-c", "echo own >> $OUT"}})
	b.Pre(t.Context(), []string{"echo conf >> $OUT", first, "", " echo conf >> $OUT ", "echo other >> $OUT"})
	if got, want := b.out(t), "first\nsecond\nconf\nother\nown"; got != want {
		t.Errorf("hooks wrote %q, want %q", got, want)
	}
}

// lineage is one whose live version has the names.
func lineage(names ...string) cert.Lineage {
	return cert.Lineage{Name: names[0], Dir: "/etc/letsencrypt/live/" + names[0], Chain: []*x509.Certificate{{DNSNames: names}}}
}

func TestDeployHookIsToldItsCertificate(t *testing.T) {
	b := newBench(t, Config{})
	l := lineage("a.test", "www.a.test")
	l.Conf.Hooks.Deploy = `echo "$RENEWED_LINEAGE: $RENEWED_DOMAINS" >> $OUT`
	b.Deploy(t.Context(), l)
	if got, want := b.out(t), "/etc/letsencrypt/live/a.test: a.test www.a.test"; got != want {
		t.Errorf("the hook was told %q, want %q", got, want)
	}
	b.wantOne(t, `msg="hook ran"`, "cert=a.test", "hook=deploy")
}

func TestDeployHookRunsForEachCertificate(t *testing.T) {
	b := newBench(t, Config{Deploy: []string{"sh", "-c", "echo $RENEWED_DOMAINS >> $OUT"}})
	for _, name := range []string{"a.test", "b.test"} {
		b.Deploy(t.Context(), lineage(name))
	}
	if got, want := b.out(t), "a.test\nb.test"; got != want {
		t.Errorf("hooks wrote %q, want %q", got, want)
	}
}

func TestPostHookIsToldWhatWasRenewedAndWhatFailed(t *testing.T) {
	b := newBench(t, Config{Post: []string{"sh", "-c", `echo "$RENEWED_DOMAINS; $FAILED_DOMAINS" >> $OUT`}})
	b.Post(t.Context(), nil, []string{"a.test", "b.test"}, []string{"c.test"})
	if got, want := b.out(t), "a.test b.test; c.test"; got != want {
		t.Errorf("the hook was told %q, want %q", got, want)
	}
}

func TestHooksGetTheirEnvironmentAndNothingOfOurs(t *testing.T) {
	t.Setenv("CANARY", "secret")
	b := newBench(t, Config{Pre: []string{"env"}, Environ: []string{}})
	b.Pre(t.Context(), nil)
	b.wantOne(t, `msg="hook ran"`)
	if got := b.lines("hook said"); len(got) != 0 {
		t.Errorf("a hook with an empty environment printed %q", got)
	}
}

func TestMoreNamesThanAVariableHoldsAreCutAtAName(t *testing.T) {
	var names []string
	for i := range 10_000 {
		names = append(names, fmt.Sprintf("host-%05d.test", i))
	}
	b := newBench(t, Config{Post: []string{"sh", "-c", `echo "${#RENEWED_DOMAINS} ${RENEWED_DOMAINS##* }" >> $OUT`}})
	b.Post(t.Context(), nil, names, nil)
	if got, want := b.out(t), "99999 host-06249.test"; got != want {
		t.Errorf("length and last name = %q, want %q", got, want)
	}
	b.wantOne(t, "level=WARN", "given=6250", "all=10000")
}

func TestFailingHookIsOneWarningAndTheNextOneRuns(t *testing.T) {
	dir := t.TempDir()
	script(t, dir, "pre/10-text", "\x7fno program\n", 0o755)
	for _, tt := range []struct {
		name  string
		hook  []string
		words string
	}{
		{"exit status", []string{"false"}, `"exit status 1"`},
		{"killed", []string{"sh", "-c", "kill -9 $$"}, `"signal: killed"`},
		{"unknown program", []string{"no-such-program"}, "there is no such program"},
		{"unknown path", []string{"/no/such/program"}, "no such file"},
		{"folder", []string{dir}, "permission denied"},
		{"no executable", []string{script(t, dir, "plain", "text", 0o644)}, "permission denied"},
		{"no program", []string{script(t, dir, "pre/10-text", "\x7fno program\n", 0o755)}, "exec format error"},
	} {
		t.Run(tt.name, func(t *testing.T) {
			b := newBench(t, Config{Pre: tt.hook})
			b.Pre(t.Context(), []string{"exit 7", "echo next >> $OUT"})
			b.wantOne(t, "level=WARN", "hook failed", tt.words, "hook=pre")
			b.wantOne(t, "level=WARN", "exit status 7")
			if got := b.out(t); got != "next" {
				t.Errorf("the hook after a failing one wrote %q", got)
			}
		})
	}
}

func TestLogsShowOnlyTheProgram(t *testing.T) {
	for text, want := range map[string]string{
		"/usr/bin/curl -u me:secret https://x": "/usr/bin/curl",
		"TOKEN='a secret' notify":              "(not shown)",
		"$(cat secret)":                        "(not shown)",
		" \t":                                  "(not shown)",
		"\x1b[2Jsh":                            "?[2Jsh",
		strings.Repeat("x", 1000) + " y":       strings.Repeat("x", maxShown),
	} {
		if got := program(text); got != want {
			t.Errorf("program(%q) = %q, want %q", text, got, want)
		}
	}
}

func TestNoPartOfACommandLineComesIntoTheLog(t *testing.T) {
	b := newBench(t, Config{Pre: []string{"/no/such/program secret1", "secret2"}})
	b.Pre(t.Context(), []string{"KEY=secret3 true secret4", "false secret5"})
	b.Runner.own[pre] = []string{"KEY=secret6"}
	b.Pre(t.Context(), nil)
	if got := b.lines("secret"); len(got) != 0 {
		t.Errorf("secrets were logged: %q", got)
	}
	if got := b.lines("level=WARN"); len(got) != 3 {
		t.Errorf("%d warnings, want 3:\n%s", len(got), b.logged)
	}
}

// pids reads numbers that a hook has written.
func (b *bench) pids(t *testing.T) []int {
	t.Helper()
	var pids []int
	for _, text := range strings.Fields(b.out(t)) {
		pid, err := strconv.Atoi(text)
		if err != nil {
			t.Fatal(err)
		}
		pids = append(pids, pid)
	}
	return pids
}

// alive is false for a zombie, which waits only for its parent to ask after it.
func alive(pid int) bool {
	stat, err := os.ReadFile(fmt.Sprintf("/proc/%d/stat", pid))
	if err != nil {
		return false
	}
	_, after, _ := strings.Cut(string(stat), ") ")
	return !strings.HasPrefix(after, "Z")
}

func TestHookThatTakesTooLongIsEndedWithAllThatItStarted(t *testing.T) {
	b := newBench(t, Config{Limit: 500 * time.Millisecond})
	b.grace = 200 * time.Millisecond
	b.Pre(t.Context(), []string{`trap "" TERM; sleep 1000 & echo $$ $! >> $OUT; (sleep 1000 > /dev/null 2>&1); wait`})
	b.wantOne(t, "level=WARN", "hook failed", "took longer than 500ms")
	for _, pid := range b.pids(t) {
		if alive(pid) {
			t.Errorf("process %d of the hook lives", pid)
		}
	}
}

func TestChildThatHeedsTermIsGivenTimeThoughItsParentHasEnded(t *testing.T) {
	b := newBench(t, Config{Limit: 500 * time.Millisecond})
	b.grace = 10 * time.Second
	b.Pre(t.Context(), []string{`sh -c 'trap "sleep 0.3; echo tidied >> $OUT; exit" TERM; while :; do sleep 0.05; done' > /dev/null 2>&1 & wait`})
	if got := b.out(t); got != "tidied" {
		t.Errorf("the child wrote %q, want that it has tidied up", got)
	}
}

func TestHookIsEndedWhenSidecertStops(t *testing.T) {
	b := newBench(t, Config{})
	ctx, cancel := context.WithTimeout(t.Context(), time.Hour)
	b.environ = append(b.environ, "FIFO="+filepath.Join(b.dir, "fifo"))
	if err := syscall.Mkfifo(filepath.Join(b.dir, "fifo"), 0o600); err != nil {
		t.Fatal(err)
	}
	go func() {
		os.ReadFile(filepath.Join(b.dir, "fifo")) // returns when the hook runs
		cancel()
	}()
	start := time.Now()
	b.Pre(ctx, []string{"echo $$ >> $OUT; : > $FIFO; sleep 1000", "echo never >> $OUT"})
	if elapsed := time.Since(start); elapsed > 5*time.Second {
		t.Errorf("the hook was ended after %v, want 5 s at most", elapsed)
	}
	if got := b.lines("level=WARN", "sidecert stops"); len(got) != 2 {
		t.Errorf("%d warnings, want one for each hook that did not end by itself:\n%s", len(got), b.logged)
	}
	for _, pid := range b.pids(t) { // fails too if the second one ran
		if alive(pid) {
			t.Errorf("process %d of the hook lives", pid)
		}
	}
}

func TestBackgroundProcessThatKeepsTheOutputHoldsNobodyUp(t *testing.T) {
	b := newBench(t, Config{})
	b.grace = 200 * time.Millisecond
	b.Pre(t.Context(), []string{"sleep 1000 & echo $! >> $OUT"})
	b.wantOne(t, `msg="hook ran"`)
	for _, pid := range b.pids(t) {
		if !alive(pid) {
			t.Errorf("process %d was ended, though its hook had done well", pid)
		}
		syscall.Kill(pid, syscall.SIGKILL)
	}
}

func TestOutputIsLoggedWithinLimits(t *testing.T) {
	for _, tt := range []struct {
		name, hook string
		said       int
		words      []string // each in one line alone
	}{
		{"both streams", "echo one; echo two >&2", 2, []string{"output=one", "output=two"}},
		{"no end of line", "printf last", 1, []string{"output=last"}},
		{"empty lines", "printf '\\n\\n \\t\\r\\n'", 0, nil},
		{"one line of 1 MB", "head -c 1000000 /dev/zero | tr '\\0' x", 2, []string{strings.Repeat("x", maxLine), `output="(999500 bytes more)"`}},
		{"half a million lines", "yes | head -n 500000", maxLines + 1, []string{`output="(499900 bytes more)"`}},
		{"terminal's controls", "printf 'a\\033[2Jb\\rc\\td\\302\\233e\\n'", 1, []string{`output="a?[2Jb c d?e"`}},
		{"no UTF-8", "printf 'gr\\374n \\377\\n'", 1, []string{`output="gr?n ?"`}},
		{"UTF-8", "printf 'gr\\303\\274n\\n'", 1, []string{"output=grün"}},
	} {
		t.Run(tt.name, func(t *testing.T) {
			b := newBench(t, Config{})
			b.Pre(t.Context(), []string{tt.hook})
			if got := len(b.lines("hook said")); got != tt.said {
				t.Errorf("%d lines, want %d; log:\n%.2000s", got, tt.said, b.logged)
			}
			for _, words := range tt.words {
				b.wantOne(t, "level=INFO", words)
			}
			if b.logged.Len() > 200*1024 {
				t.Errorf("the log has %d bytes", b.logged.Len())
			}
		})
	}
}

func TestBinaryOutputIsHarmlessAndShort(t *testing.T) {
	b := newBench(t, Config{Pre: []string{"head", "-c", "1000000", "/dev/urandom"}})
	b.Pre(t.Context(), nil)
	for i, c := range b.logged.Bytes() {
		if c < ' ' && c != '\n' {
			t.Fatalf("byte %d of the log is %#x", i, c)
		}
	}
	for _, line := range b.lines("hook said") {
		if len(line) > 3*maxLine {
			t.Errorf("a line of the log has %d bytes", len(line))
		}
	}
	if got := len(b.lines("hook said")); got != maxLines+1 {
		t.Errorf("%d lines, want %d", got, maxLines+1)
	}
}

func TestWithoutAShellIsSaidOnceAndProgramsRunStill(t *testing.T) {
	dir := t.TempDir()
	script(t, dir, "pre/10-python", "#!/no/such/interpreter\n", 0o755)
	script(t, dir, "pre/20-nothing", "echo never >> $OUT\n", 0o755)
	b := newBench(t, Config{Dir: dir, Pre: []string{"sh", "-c", "echo own >> $OUT"}})
	b.shell = "/no/such/shell"
	for range 2 {
		b.Pre(t.Context(), []string{"systemctl reload secret"})
	}
	b.wantOne(t, "level=WARN", "hook not run", "command=systemctl", "there is no /no/such/shell", "Dockerfile", "RELOAD")
	b.wantOne(t, "level=WARN", "hook not run", "10-python", "its interpreter is not there", "Dockerfile")
	b.wantOne(t, "level=WARN", "hook not run", "20-nothing", "its interpreter is not there", "Dockerfile")
	if got, want := b.out(t), "own\nown"; got != want {
		t.Errorf("hooks wrote %q, want the environment's in both passes", got)
	}
}

// asFirst names the variable that makes this test binary the first process of a container.
const asFirst = "HOOK_TEST_AS_FIRST"

func TestFirstProcessLeavesNoZombies(t *testing.T) {
	if os.Getenv(asFirst) != "" {
		beFirst(t)
		return
	}
	if out, err := exec.Command("unshare", "--pid", "--fork", "--mount-proc", "true").CombinedOutput(); err != nil {
		t.Skipf("no process namespace can be made: %v %s", err, out)
	}
	cmd := exec.Command("unshare", "--pid", "--fork", "--mount-proc", "--kill-child", os.Args[0], "-test.v", "-test.run=^TestFirstProcessLeavesNoZombies$")
	cmd.Env = append(os.Environ(), asFirst+"=1")
	if out, err := cmd.CombinedOutput(); err != nil {
		t.Errorf("as process 1: %v\n%s", err, out)
	}
}

// beFirst runs hooks that leave others behind: in their own group and out of it, such as end at once, later, and not at all.
func beFirst(t *testing.T) {
	if os.Getpid() != 1 {
		t.Fatalf("this is process %d, want 1", os.Getpid())
	}
	b := newBench(t, Config{})
	const left = "(exec >/dev/null 2>&1; sleep 0.01 & sleep 0.3 & setsid sleep 0.3 & setsid sleep 1000 & echo $! >> $OUT)"
	for range 20 {
		b.Pre(t.Context(), []string{left, "(true &) ; sleep 0.02", "(sleep 0.01 &) ; exit 7"})
	}
	if ran, failed := len(b.lines(`msg="hook ran"`)), len(b.lines(`msg="hook failed"`, "exit status 7")); ran != 40 || failed != 20 {
		t.Errorf("%d hooks ran and %d failed with 7, want 40 and 20; log:\n%s", ran, failed, b.logged)
	}
	for end := time.Now().Add(10 * time.Second); len(zombies(t)) > 0; time.Sleep(20 * time.Millisecond) {
		if time.Now().After(end) {
			t.Fatalf("zombies are left: %v", zombies(t))
		}
	}
	for _, pid := range b.pids(t) {
		if !alive(pid) {
			t.Errorf("process %d was ended, though it was to live on", pid)
		}
	}
}

func zombies(t *testing.T) (all []string) {
	t.Helper()
	stats, err := filepath.Glob("/proc/[0-9]*/stat")
	if err != nil {
		t.Fatal(err)
	}
	for _, file := range stats {
		stat, _ := os.ReadFile(file) // it may be gone by now
		if _, after, _ := strings.Cut(string(stat), ") "); strings.HasPrefix(after, "Z") {
			all = append(all, string(stat))
		}
	}
	return all
}
