package compose_test

import (
	"context"
	"fmt"
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

// The README's image with a shell is built as it stands there, and its hook runs in it.
func TestHookRunsInTheREADMEsImageWithAShell(t *testing.T) {
	requireDocker(t)
	if err := images(); err != nil {
		t.Fatalf("build images: %v", err)
	}
	if err := busybox(t); err != nil {
		t.Fatal(err)
	}
	readme, err := os.ReadFile("../README.md")
	if err != nil {
		t.Fatal(err)
	}
	hook := regexp.MustCompile("`(DEPLOY_HOOK: .*?)` works").FindSubmatch(readme)
	if hook == nil {
		t.Fatal("the README has no DEPLOY_HOOK that works")
	}
	dir := t.TempDir()
	dockerfile, override := filepath.Join(dir, "Dockerfile"), filepath.Join(dir, "hooks.yaml")
	if err := os.WriteFile(dockerfile, []byte(block(t, string(readme), "dockerfile")), 0o644); err != nil {
		t.Fatal(err)
	}
	if err := os.WriteFile(override, fmt.Appendf(nil, hooksYAML, hook[1]), 0o644); err != nil {
		t.Fatal(err)
	}
	if _, err := run(t.Context(), nil, "docker", "build", "--quiet", "--tag", "sidecert-test-hooks", dir); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { run(context.Background(), nil, "docker", "image", "rm", "sidecert-test-hooks") })
	p := newProject(t, "site.example.test", "nginx.yaml", "testdata/pebble.yaml", override)
	p.compose("up", "--detach")
	p.awaitCertificate(60 * time.Second)
	if got := p.compose("exec", "-T", "sidecert", "sh", "-c", "grep -c BEGIN /srv/mail/tls.pem"); strings.TrimSpace(got) == "0" {
		t.Errorf("the hook wrote %q blocks, want the key and the chain", got)
	}
	if log := p.logs("sidecert"); !strings.Contains(log, `msg="hook ran"`) {
		t.Errorf("the log does not tell of the hook:\n%s", log)
	}
}

const hooksYAML = `
services:
  sidecert:
    image: sidecert-test-hooks
    environment:
      %s
    volumes: ["mail:/srv/mail"]
volumes: {mail: {}}
`

// busybox sees to it that busybox:musl is there: what cannot be pulled is made of Debian's static one.
func busybox(t *testing.T) error {
	if _, err := run(t.Context(), nil, "docker", "image", "inspect", "busybox:musl"); err == nil {
		return nil
	}
	if _, err := run(t.Context(), nil, "docker", "pull", "--quiet", "busybox:musl"); err == nil {
		return nil
	}
	root := t.TempDir()
	_, err := run(t.Context(), nil, "sh", "-c", "mkdir $0/bin && cp $(command -v busybox) $0/bin/ && tar -c -C $0 bin | docker import - busybox:musl", root)
	return err
}
