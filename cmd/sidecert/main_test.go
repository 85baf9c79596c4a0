package main

import (
	"os"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/rogpeppe/go-internal/testscript"

	"github.com/sidecert/sidecert/internal/acmetest"
	"github.com/sidecert/sidecert/internal/cert"
	"github.com/sidecert/sidecert/internal/docker/dockertest"
)

// The scripts in testdata run the real program as a process of its own, beside a real CA (Pebble), a web server and a stand-in for
// the engine, all in the test's process.
func TestMain(m *testing.M) {
	testscript.Main(m, map[string]func(){"sidecert": main})
}

func TestScripts(t *testing.T) {
	testscript.Run(t, testscript.Params{
		Dir:   "testdata",
		Setup: setup,
		Cmds: map[string]func(ts *testscript.TestScript, neg bool, args []string){
			"serve": serve, "healthy": healthy, "orders": orders, "served": served, "signal": send, "root": root, "outside": outside,
			"contact": contact, "listen": listen, "shows": shows, "same": same, "probing": probing, "examine": examine,
		},
	})
}

// around is what stands around sidecert in one script.
type around struct {
	ca     *acmetest.CA
	engine *dockertest.Engine
	web    *dockertest.Web
}

func setup(env *testscript.Env) error {
	// A unix socket's path has at most 107 bytes, which the test's own folder may exceed.
	dir, err := os.MkdirTemp("", "sc")
	if err != nil {
		return err
	}
	env.Defer(func() { os.RemoveAll(dir) })
	ca, err := acmetest.Start(acmetest.Config{})
	if err != nil {
		return err
	}
	env.Defer(func() { ca.Close() })
	engine, err := dockertest.Start(filepath.Join(dir, "docker.sock"))
	if err != nil {
		return err
	}
	env.Defer(func() { engine.Close() })
	for _, volume := range []string{"certs", "state", "webroot"} {
		if err := os.Mkdir(filepath.Join(dir, volume), 0o755); err != nil {
			return err
		}
	}
	if err := os.WriteFile(filepath.Join(dir, "ca.pem"), []byte(ca.HTTPRoots), 0o644); err != nil {
		return err
	}
	env.Vars = append(env.Vars,
		"DOMAINS=a.example.test,www.a.example.test", "RELOAD=web", "ACME_CA="+ca.Directory, "ACME_CA_BUNDLE="+filepath.Join(dir, "ca.pem"),
		"CERT_DIR="+filepath.Join(dir, "certs"), "STATE_DIR="+filepath.Join(dir, "state"), "WEBROOT="+filepath.Join(dir, "webroot"),
		"DOCKER_HOST="+engine.Host(), "LISTEN=off")
	env.Values["around"] = &around{ca: ca, engine: engine}
	return nil
}

// serve starts the web server on the certificate of a lineage: serve NAME. It waits for its files, as Compose waits for health.
func serve(ts *testscript.TestScript, _ bool, args []string) {
	a := ts.Value("around").(*around)
	live := filepath.Join(ts.Getenv("CERT_DIR"), "live", args[0])
	poll(ts, "the web server starts", func() bool {
		web, err := dockertest.StartWeb(live, ts.Getenv("WEBROOT"), a.ca.HTTPPort)
		a.web = web
		return err == nil
	})
	ts.Defer(a.web.Close)
	a.engine.OnKill(func(_, signal string) { a.web.Signal(signal) })
	a.engine.Add(a.web.Container("web"))
}

// healthy waits until `sidecert healthcheck` says so.
func healthy(ts *testscript.TestScript, _ bool, _ []string) {
	poll(ts, "sidecert is healthy", func() bool { return ts.Exec("sidecert", "healthcheck") == nil })
}

// orders checks how many certificates the CA was asked for, N or M: orders N [M].
func orders(ts *testscript.TestScript, _ bool, args []string) {
	if got := strconv.Itoa(ts.Value("around").(*around).ca.Requests()["newOrder"]); !slices.Contains(args, got) {
		ts.Fatalf("the CA got %s orders, want %s", got, strings.Join(args, " or "))
	}
}

// served waits until the web server shows the stored certificate of a lineage: served NAME.
func served(ts *testscript.TestScript, _ bool, args []string) {
	a := ts.Value("around").(*around)
	poll(ts, "the stored certificate is served", func() bool {
		data, err := os.ReadFile(filepath.Join(ts.Getenv("CERT_DIR"), "live", args[0], "cert.pem"))
		if err != nil {
			return false
		}
		chain, err := cert.ParseChain(data)
		return err == nil && !cert.IsPlaceholder(chain[0]) && chain[0].Equal(a.web.Seen(args[0]))
	})
}

// outside puts the web server's HTTPS address in $OUTSIDE.
func outside(ts *testscript.TestScript, _ bool, _ []string) {
	ts.Setenv("OUTSIDE", ts.Value("around").(*around).web.Address())
}

// contact waits until the account's contact is stored as one that the CA was told: contact ADDRESS.
func contact(ts *testscript.TestScript, _ bool, args []string) {
	poll(ts, "the contact is "+args[0], func() bool {
		files, _ := filepath.Glob(filepath.Join(ts.Getenv("STATE_DIR"), "accounts", "*", "account.json"))
		if len(files) != 1 {
			return false
		}
		data, err := os.ReadFile(files[0])
		return err == nil && strings.Contains(string(data), `"contact": "`+args[0]+`"`)
	})
}

// probing waits until a test file for the web server is in the webroot.
func probing(ts *testscript.TestScript, _ bool, _ []string) {
	poll(ts, "the challenge path is probed", func() bool {
		files, _ := filepath.Glob(filepath.Join(ts.Getenv("WEBROOT"), ".well-known", "acme-challenge", "sidecert-*"))
		return len(files) > 0
	})
}

// examine runs the doctor, however it ends: examine [--problems] [NAME…].
func examine(ts *testscript.TestScript, _ bool, args []string) {
	if err := ts.Exec("sidecert", append([]string{"doctor"}, args...)...); err != nil {
		ts.Logf("doctor: %v", err)
	}
}

// root writes the root that the CA's chains lead to: root FILE.
func root(ts *testscript.TestScript, _ bool, args []string) {
	pem := ts.Value("around").(*around).ca.RootPEM()
	ts.Check(os.WriteFile(ts.MkAbs(args[0]), []byte(pem), 0o644))
}

// send sends TERM, as Docker does, or HUP to what runs in the background: signal TERM.
func send(ts *testscript.TestScript, _ bool, args []string) {
	signals := map[string]syscall.Signal{"TERM": syscall.SIGTERM, "HUP": syscall.SIGHUP}
	for _, cmd := range ts.BackgroundCmds() {
		ts.Check(cmd.Process.Signal(signals[args[0]]))
	}
}

func poll(ts *testscript.TestScript, what string, done func() bool) {
	for end := time.Now().Add(60 * time.Second); !done(); time.Sleep(50 * time.Millisecond) {
		if time.Now().After(end) {
			ts.Fatalf("gave up waiting until %s", what)
		}
	}
}
