package compose_test

import (
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"net/mail"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"slices"
	"strings"
	"testing"
	"time"
)

// mailbox is a Maildir into which a mail server delivers that is not ours.
type mailbox struct {
	dir, port string
}

// newMailbox starts the server; it listens to containers alone.
func newMailbox(t *testing.T) mailbox {
	t.Helper()
	program, err := exec.LookPath("aiosmtpd")
	if err != nil {
		if os.Getenv("CI") == "true" {
			t.Fatal(err)
		}
		t.Skipf("no mail server (Debian: python3-aiosmtpd): %v", err)
	}
	host, err := bridgeAddress()
	if err != nil {
		if os.Getenv("CI") == "true" {
			t.Fatal(err)
		}
		t.Skipf("the engine's bridge is not on this machine: %v", err)
	}
	l, err := net.Listen("tcp", net.JoinHostPort(host, "0"))
	if err != nil {
		t.Fatal(err)
	}
	_, port, _ := net.SplitHostPort(l.Addr().String())
	l.Close()
	m := mailbox{filepath.Join(t.TempDir(), "Maildir"), port}
	server := exec.CommandContext(t.Context(), program, "--nosetuid", "--listen", net.JoinHostPort(host, port), "--class", "aiosmtpd.handlers.Mailbox", m.dir)
	server.Stderr = os.Stderr
	if err := server.Start(); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		server.Process.Kill()
		server.Wait()
	})
	return m
}

// bridgeAddress is where containers find the host by "host-gateway".
func bridgeAddress() (string, error) {
	bridge, err := net.InterfaceByName("docker0")
	if err != nil {
		return "", err
	}
	all, err := bridge.Addrs()
	for _, a := range all {
		if n, ok := a.(*net.IPNet); ok && n.IP.To4() != nil {
			return n.IP.String(), nil
		}
	}
	return "", errors.Join(err, errors.New("docker0 has no IPv4 address"))
}

// mails are those that were delivered, the oldest first.
func (m mailbox) mails() (all []*mail.Message, err error) {
	files, err := filepath.Glob(filepath.Join(m.dir, "new", "*")) // their names begin with the time
	for _, file := range files {
		f, err := os.Open(file)
		if err != nil {
			return nil, err
		}
		defer f.Close()
		message, err := mail.ReadMessage(f)
		if err != nil {
			return nil, fmt.Errorf("%s: %w", file, err)
		}
		text, err := io.ReadAll(message.Body)
		if err != nil {
			return nil, err
		}
		message.Body = strings.NewReader(string(text))
		all = append(all, message)
	}
	return all, err
}

func (m mailbox) await(p *project, n int) []*mail.Message {
	p.t.Helper()
	var all []*mail.Message
	p.eventually(60*time.Second, func() (err error) {
		if all, err = m.mails(); err == nil && len(all) < n {
			err = fmt.Errorf("%d mails, want %d", len(all), n)
		}
		return err
	})
	return all
}

// page is what sidecert shows on a path of its own.
func (p *project) page(path string) (string, error) {
	addr, err := p.address("sidecert", "9180")
	if err != nil {
		return "", err
	}
	resp, err := http.Get("http://" + addr + path)
	if err != nil {
		return "", err
	}
	defer resp.Body.Close()
	text, err := io.ReadAll(resp.Body)
	return string(text), err
}

// awaitPage waits until a page has, or has not, what matches an expression.
func (p *project) awaitPage(path, expression string, wanted bool) {
	p.t.Helper()
	p.eventually(30*time.Second, func() error {
		text, err := p.page(path)
		if err == nil && regexp.MustCompile(expression).MatchString(text) != wanted {
			err = fmt.Errorf("%s of %s is there: %v, want %v, in\n%s", expression, path, !wanted, wanted, text)
		}
		return err
	})
}

// TestFailingRenewalIsSeenAndHeard takes the challenge path away from the demo's nginx until a renewal fails, and puts it back.
func TestFailingRenewalIsSeenAndHeard(t *testing.T) {
	t.Parallel()
	box := newMailbox(t)
	p := newProject(t, "demo.example.test", "demo.yaml", "testdata/glance.yaml")
	p.environ = append(p.environ, "SMTP_PORT="+box.port)
	p.compose("up", "--detach")
	p.awaitCertificate(60 * time.Second)
	check := func() (string, int) {
		out, err := run(p.t.Context(), p.environ, p.command("exec", "-T", "sidecert", "sidecert", "check")...)
		if exit, ok := errors.AsType[*exec.ExitError](err); ok {
			return out, exit.ExitCode()
		} else if err != nil {
			t.Fatal(err)
		}
		return out, 0
	}
	const (
		red    = `<header class="failing">[^§]*<details class="failing" open>`
		metric = `(?m)^sidecert_certificate_consecutive_failures\{cert="demo.example.test"\} [1-9]`
		warn   = `(?m)level=WARN msg="renewal failed" cert=demo\.example\.test attempt=1 next=\S+ not_after=\S+ err=".*demo\.example\.test.*(404|301).*" hint=".*demo\.example\.test.*acme-challenge.*"$`
	)
	p.awaitPage("/", `The certificate is well`, true)
	p.awaitPage("/", red, false)
	p.awaitPage("/metrics", metric, false)
	if out, status := check(); status != 0 {
		t.Errorf("check: exit status %d, %s", status, out)
	}

	web := p.mustInspect("web").ID
	inWeb := func(script string) {
		t.Helper()
		if _, err := p.docker("exec", web, "sh", "-euc", script); err != nil {
			t.Fatal(err)
		}
	}
	inWeb("cp /etc/nginx/conf.d/default.conf /root/; sed -i /acme-challenge.conf/d /etc/nginx/conf.d/default.conf; nginx -s reload")
	told := box.await(p, 1)
	p.awaitLog("sidecert", `msg="renewal failed"`)
	if log := p.logs("sidecert"); !regexp.MustCompile(warn).MatchString(log) {
		t.Errorf("the log has nothing like %s:\n%s", warn, log)
	}
	p.awaitPage("/", red, true)
	p.awaitPage("/metrics", metric, true)
	p.eventually(60*time.Second, func() error { // as long as there is time to try again, a failed attempt is no matter for a pager
		if out, status := check(); status != 1 && status != 2 || !strings.Contains(out, ": demo.example.test: ") {
			return fmt.Errorf("check: exit status %d, %s", status, out)
		}
		return nil
	})

	inWeb("cp /root/default.conf /etc/nginx/conf.d/; nginx -s reload")
	failed := p.certificates()["demo.example.test"].Version
	p.sidecert("renew", "demo.example.test")
	box.await(p, 2)
	p.awaitPage("/", red, false)
	p.awaitPage("/metrics", metric, false)
	if out, status := check(); status != 0 {
		t.Errorf("check: exit status %d after the cause is gone, %s", status, out)
	}
	p.eventually(90*time.Second, func() error { // the next renewals are no news
		if v := p.certificates()["demo.example.test"].Version; v < failed+2 {
			return fmt.Errorf("version %d after %d", v, failed)
		}
		return nil
	})

	var subjects []string
	all, err := box.mails()
	if err != nil {
		t.Fatal(err)
	}
	for _, m := range all {
		subjects = append(subjects, m.Header.Get("Subject"))
	}
	if want := []string{"sidecert: demo.example.test is not renewed", "sidecert: well again: demo.example.test"}; !slices.Equal(subjects, want) {
		t.Errorf("the mailbox has %q, want %q", subjects, want)
	}
	if text, err := io.ReadAll(told[0].Body); err != nil || !strings.Contains(string(text), "What to do: ") || !strings.Contains(string(text), "demo.example.test") {
		t.Errorf("the mail does not say what to do (%v):\n%s", err, text)
	}
}
