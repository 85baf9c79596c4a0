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
	program, err := exec.LookPath("aiosmtpd") // Debian: python3-aiosmtpd
	require(t, err)
	host, err := bridgeAddress()
	require(t, err)
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
	for try := range 4 {
		spoilt := false
		t.Run(fmt.Sprint("try ", try), func(t *testing.T) { failingRenewal(t, &spoilt) })
		if t.Failed() || !spoilt {
			return
		}
	}
	t.Error("the CA never refused for long enough")
}

// failingRenewal is one try. It is spoilt where Pebble takes a validation of before for one of now, as it does with one of a hundred even if
// it is told not to, so that the renewal that was to fail does not.
func failingRenewal(t *testing.T, spoilt *bool) {
	const (
		site   = "demo.example.test"
		red    = `<header class="failing">(?s:.*)<details class="failing" open>`
		metric = `(?m)^sidecert_certificate_consecutive_failures\{cert="demo.example.test"\} [1-9]`
		warn   = `(?m)level=WARN msg="renewal failed" cert=demo\.example\.test attempt=1 next=\S+ not_after=\S+ err="authorization demo\.example\.test: .* 404 .*" hint="serve this path .*; seen from here: http://demo\.example\.test/\.well-known/acme-challenge/.*"$`
	)
	box := newMailbox(t)
	p := newProject(t, site, "demo.yaml", "testdata/glance.yaml")
	p.environ = append(p.environ, "SMTP_PORT="+box.port)
	p.compose("up", "--detach")
	p.awaitCertificate(60 * time.Second)
	version := func() int { return p.certificates()[site].Version }
	refused := func() {
		t.Helper()
		if version() > 1 {
			*spoilt = true
			t.Skip("Pebble did not validate")
		}
	}
	check := func(want ...int) error {
		out, err := run(p.t.Context(), p.environ, p.command("exec", "-T", "sidecert", "sidecert", "check")...)
		status := 0
		if exit, ok := errors.AsType[*exec.ExitError](err); ok {
			status, err = exit.ExitCode(), nil
		}
		if err == nil && !slices.Contains(want, status) {
			err = fmt.Errorf("check: exit status %d, want one of %v: %s", status, want, out)
		}
		return err
	}
	inWeb := func(script string) {
		t.Helper()
		if _, err := p.docker("exec", p.mustInspect("web").ID, "sh", "-euc", script); err != nil {
			t.Fatal(err)
		}
	}
	heard := func(n int) []*mail.Message {
		t.Helper()
		var all []*mail.Message
		p.eventually(90*time.Second, func() (err error) {
			if all, err = box.mails(); err == nil && len(all) < n {
				refused()
				err = fmt.Errorf("%d mails, want %d", len(all), n)
			}
			return err
		})
		return all
	}
	p.awaitPage("/", `The certificate is well`, true)
	p.awaitPage("/", red, false)
	p.awaitPage("/metrics", metric, false)
	if err := check(0); err != nil {
		t.Error(err)
	}

	inWeb("cp /etc/nginx/conf.d/default.conf /root/; sed -i /acme-challenge.conf/d /etc/nginx/conf.d/default.conf; nginx -s reload")
	told := heard(1)
	p.awaitPage("/", red, true)
	p.awaitPage("/metrics", metric, true)
	if log := p.logs("sidecert"); !regexp.MustCompile(warn).MatchString(log) {
		t.Errorf("the log has nothing like %s:\n%s", warn, log)
	}
	p.eventually(60*time.Second, func() error { // while there is time to try again a failure is nothing for a pager
		refused()
		return check(1, 2)
	})
	refused()

	inWeb("cp /root/default.conf /etc/nginx/conf.d/; nginx -s reload")
	p.eventually(30*time.Second, func() error { // an attempt of before may be under way
		if _, err := run(t.Context(), p.environ, p.command("exec", "-T", "sidecert", "sidecert", "renew", site)...); err != nil && version() < 2 {
			return err
		}
		return nil
	})
	p.eventually(30*time.Second, func() error {
		if all, err := box.mails(); err != nil || len(all) < 2 {
			return fmt.Errorf("%d mails, want 2: %v", len(all), err)
		}
		return nil
	})
	p.awaitPage("/", red, false)
	p.awaitPage("/metrics", metric, false)
	if err := check(0); err != nil {
		t.Errorf("after the cause is gone: %v", err)
	}
	p.eventually(90*time.Second, func() error { // the next renewal is no news
		if v := version(); v < 3 {
			return fmt.Errorf("version %d", v)
		}
		return nil
	})

	all, err := box.mails()
	if err != nil {
		t.Fatal(err)
	}
	var subjects []string
	for _, m := range all {
		subjects = append(subjects, m.Header.Get("Subject"))
	}
	if want := []string{"sidecert: demo.example.test is not renewed", "sidecert: well again: demo.example.test"}; !slices.Equal(subjects, want) {
		t.Errorf("the mailbox has %q, want %q", subjects, want)
	}
	text, err := io.ReadAll(told[0].Body)
	if err != nil {
		t.Fatal(err)
	}
	for _, words := range []string{"demo.example.test is not renewed, since ", "Why: authorization demo.example.test: ", "What to do: "} {
		if !strings.Contains(string(text), words) {
			t.Errorf("the mail does not say %q:\n%s", words, text)
		}
	}
}
