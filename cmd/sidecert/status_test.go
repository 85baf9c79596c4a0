package main

import (
	"io"
	"net"
	"net/http"
	"strings"
	"testing"

	"github.com/rogpeppe/go-internal/testscript"
)

// freePort is an address that nobody listens at.
func freePort(t testing.TB) string {
	t.Helper()
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	defer l.Close()
	return l.Addr().String()
}

// get is an answer with its status line and headers, as far as they may hold anything.
func get(t testing.TB, url string) string {
	t.Helper()
	text, err := fetch(url)
	if err != nil {
		t.Fatal(err)
	}
	return text
}

func fetch(url string) (string, error) {
	resp, err := http.Get(url)
	if err != nil {
		return "", err
	}
	defer resp.Body.Close()
	body, err := io.ReadAll(resp.Body)
	var header strings.Builder
	resp.Header.Write(&header)
	return resp.Status + "\n" + header.String() + "\n" + string(body), err
}

// listen puts an address for the status page in $LISTEN.
func listen(ts *testscript.TestScript, _ bool, _ []string) {
	l, err := net.Listen("tcp", "127.0.0.1:0")
	ts.Check(err)
	ts.Check(l.Close())
	ts.Setenv("LISTEN", l.Addr().String())
}

// shows waits until a page of the daemon has a text, or, negated, looks that it has none: shows PATH TEXT.
func shows(ts *testscript.TestScript, neg bool, args []string) {
	url := "http://" + ts.Getenv("LISTEN") + args[0]
	has := func() bool {
		text, err := fetch(url)
		return err == nil && strings.Contains(text, args[1])
	}
	if !neg {
		poll(ts, args[0]+" has "+args[1], has)
	} else if has() {
		ts.Fatalf("%s has %s", args[0], args[1])
	}
}

// same checks that a page of the daemon is a command's output: same PATH FILE.
func same(ts *testscript.TestScript, _ bool, args []string) {
	text, err := fetch("http://" + ts.Getenv("LISTEN") + args[0])
	ts.Check(err)
	if _, body, _ := strings.Cut(text, "\n\n"); body != ts.ReadFile(args[1]) {
		ts.Fatalf("%s is\n%s\nwant\n%s", args[0], body, ts.ReadFile(args[1]))
	}
}
