package main

import (
	"flag"
	"fmt"
	"os"
	"path/filepath"
	"regexp"
	"strings"
	"testing"
	"time"

	"github.com/sidecert/sidecert/internal/acmetest"
	"github.com/sidecert/sidecert/internal/docker/dockertest"
)

var update = flag.Bool("update", false, "write the golden files of the log anew")

// TestLogTellsTheStory holds to golden files what a person reads of a first start, a renewal, a failure and its end: `docker compose logs`,
// and what `sidecert history` tells of it when the container is another one.
func TestLogTellsTheStory(t *testing.T) {
	for _, row := range []struct{ format, history string }{{"text", "history"}, {"json", "history --json"}} {
		t.Run(row.format, func(t *testing.T) {
			t.Parallel()
			story := ""
			for try := 0; story == "" && try < 3; try++ { // the CA gives one of a hundred authorizations for use again, and then nothing fails
				story = tellStory(t, row.format, row.history)
			}
			golden := filepath.Join("testdata", "story."+row.format+".golden")
			if *update {
				if err := os.WriteFile(golden, []byte(story), 0o644); err != nil {
					t.Fatal(err)
				}
			}
			want, err := os.ReadFile(golden)
			if err != nil {
				t.Fatal(err)
			}
			if story != string(want) {
				t.Errorf("the log is\n%s\nwant (%s; -update writes it anew)\n%s", story, golden, want)
			}
		})
	}
}

// tellStory plays it, and returns the log and the journal without what must vary; "" where the CA did not want to refuse anything.
func tellStory(t *testing.T, format, history string) string {
	p := emptyPlace(t, acmetest.Config{Lifetime: 45 * time.Minute}) // so that the guard lets a fourth order through
	socket, err := os.MkdirTemp("", "sc")                           // whose path has at most 107 bytes
	p.check(err)
	p.Cleanup(func() { os.RemoveAll(socket) })
	engine, err := dockertest.Start(filepath.Join(socket, "docker.sock"))
	p.check(err)
	p.Cleanup(func() { engine.Close() })
	p.environ = []string{"DOMAINS=" + site + ",www." + site, "RELOAD=web", "COMPOSE_PROJECT_NAME=shop", "PREFLIGHT=warn", "TZ=Asia/Tokyo",
		"DOCKER_HOST=" + engine.Host(), "LOG_FORMAT=" + format}
	daemon := p.start("run")
	daemon.says("waiting until the web container", 1)
	web, err := dockertest.StartWeb(filepath.Join(p.certs, "live", site), p.webroot, p.ca.HTTPPort)
	p.check(err)
	p.Cleanup(web.Close)
	engine.OnKill(func(_, signal string) { web.Signal(signal) })
	container := web.Container("shop-web-1")
	container.Project, container.Service = "shop", "web"
	engine.Add(container)
	daemon.says("certificate served", 1)

	p.must("renew", "--force", site)

	web.Hide("www." + site)
	past := time.Now().Add(-time.Hour).UTC()
	p.check(p.ca.Suggest(web.Seen(site), fmt.Sprintf(`{"suggestedWindow": {"start": %q, "end": %q}}`, past.Format(time.RFC3339), past.Add(time.Minute).Format(time.RFC3339))))
	if _, err := p.run("renew"); err == nil {
		return ""
	}
	p.run("renew") // it waits, which is no news

	web.Hide()
	p.must("renew", site)
	p.must("renew") // nothing is to be done
	daemon.stop()
	text := inTokyo(t, daemon.log.String()) + "\n$ sidecert " + history + "\n" + p.must(strings.Fields(history)...)
	return neutral(strings.NewReplacer(p.certs, "/etc/letsencrypt", p.webroot, "/var/www/certbot", p.ca.Directory, "https://ca.example.test/dir").Replace(text))
}

// inTokyo takes the time away that each line of a log begins with.
func inTokyo(t *testing.T, log string) string {
	t.Helper()
	stamp := regexp.MustCompile(`^(time=|\{"time":")(\S{19}\+09:00)( |",)`)
	var lines strings.Builder
	for line := range strings.Lines(log) {
		m := stamp.FindStringSubmatch(line)
		if m == nil {
			t.Fatalf("a line does not begin with its time in TZ=Asia/Tokyo: %s", line)
		}
		if at, err := time.Parse(time.RFC3339, m[2]); err != nil || time.Since(at).Abs() > time.Hour {
			t.Errorf("%v: a line of now has the time %s", err, m[2])
		}
		if strings.HasPrefix(line, "{") {
			lines.WriteString("{")
		}
		lines.WriteString(strings.TrimPrefix(line, m[0]))
	}
	return lines.String()
}

// neutral has everything the same that varies from one run to the next.
func neutral(text string) string {
	for _, r := range []struct{ varies, same string }{
		{`\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d(\.\d+)?Z`, "TIME"},
		{`(elapsed(?:=|":"))[0-9.]+m?s`, "${1}ELAPSED"},
		{`(acme-challenge/)[\w-]{43}`, "${1}TOKEN"},
		{`(127\.0\.0\.1|example\.test):\d+`, "${1}:PORT"},
	} {
		text = regexp.MustCompile(r.varies).ReplaceAllString(text, r.same)
	}
	return text
}

// TestREADMEShowsTheLogAsItIs holds the README's pieces of log to the story, but for the names of things.
func TestREADMEShowsTheLogAsItIs(t *testing.T) {
	story, err := os.ReadFile(filepath.Join("testdata", "story.text.golden"))
	if err != nil {
		t.Fatal(err)
	}
	readme, err := os.ReadFile(filepath.Join("..", "..", "README.md"))
	if err != nil {
		t.Fatal(err)
	}
	same := strings.NewReplacer("\n  ", " ", "example.org:80", site+":PORT", "example.org", site, "172.18.0.3:80", "127.0.0.1:PORT",
		"https://acme-v02.api.letsencrypt.org/directory", "https://ca.example.test/dir", "https://letsencrypt.org/documents/…", "data:text/plain,Do%20what%20thou%20wilt")
	pieces := regexp.MustCompile("(?s)\n```\n(level=.*?)```\n").FindAllStringSubmatch(string(readme), -1)
	if len(pieces) != 2 {
		t.Errorf("the README has %d pieces of log, want the first start and a failure", len(pieces))
	}
	for _, piece := range pieces {
		if want := neutral(same.Replace(piece[1])); !strings.Contains(strings.ReplaceAll(string(story), "TOKEN", "…"), want) {
			t.Errorf("the log in the README is\n%s\nand none of that in the story:\n%s", want, story)
		}
	}
}
