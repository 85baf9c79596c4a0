package main

import (
	"net/http"
	"net/http/httptest"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/sidecert/sidecert/internal/acmetest"
	"github.com/sidecert/sidecert/internal/report/mailtest"
)

// pager is where people hear of things: a mailbox, a webhook and a watchman who misses heartbeats.
type pager struct {
	*mailtest.Server
	hook *httptest.Server

	mu   sync.Mutex
	hits []string
}

const canaryHookToken = "canaryHookToken42"

func newPager(p *place) *pager {
	p.Helper()
	s, err := mailtest.Start("")
	p.check(err)
	p.Cleanup(func() { s.Close() })
	g := &pager{Server: s}
	g.hook = httptest.NewServer(http.HandlerFunc(func(_ http.ResponseWriter, r *http.Request) {
		g.mu.Lock()
		defer g.mu.Unlock()
		g.hits = append(g.hits, r.Method+" "+r.URL.Path)
	}))
	p.Cleanup(g.hook.Close)
	p.environ = append([]string{
		"NOTIFY_URLS=smtp://" + s.Address() + "/?from=sidecert@example.org&to=admin@example.org\ngeneric+" + g.hook.URL + "/" + canaryHookToken,
		"HEARTBEAT_URL=" + g.hook.URL + "/beat",
	}, p.environ...)
	return g
}

func (g *pager) subjects() []string {
	var all []string
	for _, m := range g.Mails() {
		all = append(all, m.Header.Get("Subject"))
	}
	return all
}

func (g *pager) count(hit string) (n int) {
	g.mu.Lock()
	defer g.mu.Unlock()
	for _, h := range g.hits {
		if h == hit {
			n++
		}
	}
	return n
}

// TestAFailingRenewalIsOneMailAndItsEndAnother has a renewal fail since the CA refuses it, over several starts of the daemon, until the
// CA does so no more.
func TestAFailingRenewalIsOneMailAndItsEndAnother(t *testing.T) {
	t.Parallel()
	p := newPlace(t, acmetest.Config{Lifetime: 80 * time.Second})
	g := newPager(p)
	daemon := p.start("run")
	p.until("the first certificate is there", func() bool { return p.serial() != "" })
	first := p.serial()
	p.must("check")

	p.watch.refuse("serverInternal", "the signer is under repair")
	p.until("a mail says that it fails", func() bool { return len(g.Mails()) > 0 })
	daemon.says("renewal failed", 1)
	if !strings.Contains(daemon.log.String(), "level=WARN msg=\"renewal failed\" cert="+site) {
		t.Errorf("no warning in the log:\n%s", daemon.log)
	}
	p.until("the plugin says that it ails", func() bool {
		out, err := p.run("check")
		return err != nil && (strings.Contains(out, "SIDECERT WARNING: "+site) || strings.Contains(out, "SIDECERT CRITICAL: "+site))
	})
	for range 2 { // it goes on, and is no news
		daemon.stop()
		daemon = p.start("run")
		daemon.says("the signer is under repair", 1)
	}
	p.until("the watchman hears of it", func() bool { return g.count("GET /beat/fail") > 0 })

	p.watch.refuse("", "")
	p.until("it is renewed", func() bool { return p.serial() != first })
	p.until("a mail says so", func() bool { return len(g.Mails()) > 1 })
	p.until("the webhook too", func() bool { return g.count("POST /"+canaryHookToken) > 1 })
	p.must("check")
	daemon.stop()

	if want := []string{"sidecert: " + site + " is not renewed", "sidecert: well again: " + site}; !slices.Equal(g.subjects(), want) {
		t.Errorf("the mails are %q, want %q", g.subjects(), want)
	}
	if n := g.count("POST /" + canaryHookToken); n != 2 {
		t.Errorf("the webhook got %d messages, want 2", n)
	}
	mail := g.Mails()[0]
	for _, words := range []string{site + " is not renewed, since ", "What is served works until ", "Why: ", "the signer is under repair", "sidecert doctor"} {
		if !strings.Contains(mail.Body, words) {
			t.Errorf("the mail does not say %q:\n%s", words, mail.Body)
		}
	}
	if strings.Contains(daemon.log.String(), canaryHookToken) {
		t.Errorf("the log gives the webhook away:\n%s", daemon.log)
	}
	t.Logf("the mails:\n%s\n\n%s", mail.Body, g.Mails()[1].Body)
}

// A container with a mistake in its configuration is started again and again by the engine: that is one mail, and one when it is right.
func TestMistakesAreOneMailHoweverOftenTheContainerStarts(t *testing.T) {
	t.Parallel()
	p := newPlace(t, acmetest.Config{})
	g := newPager(p)
	right := p.environ
	p.environ = append(slices.Clone(right), "KEY_TYPE=rsa-1")
	for range 3 {
		c := p.start("run")
		c.wait()
		if c.cmd.ProcessState.ExitCode() != exitUsage {
			t.Fatalf("exit status %d with a mistake, want 2:\n%s", c.cmd.ProcessState.ExitCode(), c.log)
		}
	}
	if want := []string{"sidecert: the configuration has mistakes, and no certificate is kept"}; !slices.Equal(g.subjects(), want) {
		t.Errorf("three starts with a mistake sent %q, want %q", g.subjects(), want)
	}
	if body := g.Mails()[0].Body; !strings.Contains(body, `KEY_TYPE: "rsa-1" is no key type`) {
		t.Errorf("the mail does not name the mistake:\n%s", body)
	}
	p.environ = right
	daemon := p.start("run")
	p.until("a mail says that it is right", func() bool { return len(g.Mails()) == 2 })
	daemon.stop()
	if got := g.subjects()[1]; got != "sidecert: well again: configuration" {
		t.Errorf("the second mail is %q", got)
	}
}

func TestNotifyTestSaysOfEachURLWhetherItWorks(t *testing.T) {
	t.Parallel()
	p := newPlace(t, acmetest.Config{})
	g := newPager(p)
	out := p.must("notify", "--test")
	if want := "smtp://" + g.Address() + ": sent\ngeneric://" + strings.TrimPrefix(g.hook.URL, "http://") + ": sent\n"; out != want {
		t.Errorf("it says %q, want %q", out, want)
	}
	if got := g.subjects(); !slices.Equal(got, []string{"sidecert: a test message"}) {
		t.Errorf("the mails are %q", got)
	}
	g.hook.Close()
	out, err := p.run("notify", "--test")
	if err == nil || !strings.Contains(out, ": sent\n") || !strings.Contains(out, ": not sent: dial tcp ") || strings.Contains(out, canaryHookToken) {
		t.Errorf("with a receiver that is away: %v\n%s", err, out)
	}
	p.environ = append(p.environ, "NOTIFY_URLS=mqtt://"+canaryHookToken)
	if out, err := p.run("notify", "--test"); err == nil || strings.Contains(out, canaryHookToken) || !strings.Contains(out, "NOTIFY_URLS number 1 of its URLs begins with no service that is known here") {
		t.Errorf("with a URL that is none: %v\n%s", err, out)
	}
}
