package compose_test

import (
	"os"
	"path/filepath"
	"regexp"
	"strings"
	"testing"
	"time"
)

// The README's own files run as they stand there; only a CA is added, and the names are made the network's. Not in parallel: they
// publish ports 80 and 443.
func TestREADMEFilesRunAsWritten(t *testing.T) {
	readme, err := os.ReadFile("../README.md")
	if err != nil {
		t.Fatal(err)
	}
	pebble, err := os.ReadFile("testdata/pebble.yaml")
	if err != nil {
		t.Fatal(err)
	}
	ca := strings.Replace(string(pebble), `["${DOMAIN}"]`, "[example.org, www.example.org]", 1)
	ca = regexp.MustCompile(`(?m)^ +build:.*\n`).ReplaceAllString(ca, "") // built for the other tests
	dir := t.TempDir()
	files := map[string]string{"compose.yaml": block(t, string(readme), "yaml"), "site.conf": block(t, string(readme), "nginx"), "ca.yaml": ca}
	for name, text := range files {
		if err := os.WriteFile(filepath.Join(dir, name), []byte(text), 0o644); err != nil {
			t.Fatal(err)
		}
	}
	p := newProject(t, "example.org", filepath.Join(dir, "compose.yaml"), filepath.Join(dir, "ca.yaml"))
	p.compose("up", "--detach")
	p.awaitCertificate(60 * time.Second)
	t.Logf("docker compose logs sidecert:\n%s", p.logs("sidecert"))
}

// block is the first code block of a language.
func block(t *testing.T, markdown, language string) string {
	t.Helper()
	_, rest, found := strings.Cut(markdown, "\n```"+language+"\n")
	text, _, ended := strings.Cut(rest, "\n```\n")
	if !found || !ended {
		t.Fatalf("the README has no block of %s", language)
	}
	return text + "\n"
}
