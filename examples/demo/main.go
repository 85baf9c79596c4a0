// Command demo shows sidecert's whole job on one machine without Docker, a domain or root: a CA (Pebble, in this process), a web
// server, a stand-in for the Docker engine, and the real sidecert beside them. It ends with 0 only if the web server served
// each time the certificate that was stored.
package main

import (
	"bufio"
	"bytes"
	"context"
	"crypto/x509"
	"errors"
	"fmt"
	"io"
	"os"
	"os/exec"
	"os/signal"
	"path/filepath"
	"strings"
	"syscall"
	"time"

	"github.com/sidecert/sidecert/internal/acmetest"
	"github.com/sidecert/sidecert/internal/cert"
	"github.com/sidecert/sidecert/internal/docker/dockertest"
)

const (
	domain   = "demo.example.test"
	lifetime = 10 * time.Second // renewed when half of it is left
	renewals = 2
	patience = 90 * time.Second // for all of it, once sidecert is built
)

func main() {
	ctx, stop := signal.NotifyContext(context.Background(), os.Interrupt, syscall.SIGTERM)
	defer stop()
	if err := run(ctx); err != nil {
		fmt.Fprintln(os.Stderr, "demo: error:", err)
		os.Exit(1)
	}
}

// say tells a person what just happened, apart from sidecert's own log lines.
func say(format string, args ...any) { fmt.Printf("\n* "+format+"\n", args...) }

func run(ctx context.Context) (err error) {
	dir, err := os.MkdirTemp("", "sidecert-demo-")
	if err != nil {
		return err
	}
	defer os.RemoveAll(dir)

	say("Building sidecert.")
	binary := filepath.Join(dir, "sidecert")
	if out, err := exec.CommandContext(ctx, "go", "build", "-o", binary, "github.com/sidecert/sidecert/cmd/sidecert").CombinedOutput(); err != nil {
		return fmt.Errorf("build sidecert: %w\n%s", err, out)
	}
	ctx, cancel := context.WithTimeout(ctx, patience)
	defer cancel()

	ca, err := acmetest.Start(acmetest.Config{Lifetime: lifetime})
	if err != nil {
		return fmt.Errorf("start Pebble: %w", err)
	}
	defer ca.Close()
	say("Started a CA (Pebble) at %s. Its certificates live for %v.", ca.Directory, lifetime)

	engine, err := dockertest.Start(filepath.Join(dir, "docker.sock"))
	if err != nil {
		return fmt.Errorf("start the engine stand-in: %w", err)
	}
	defer engine.Close()

	environ, err := environment(dir, ca, engine)
	if err != nil {
		return err
	}
	say("Starting sidecert with\n    %s", strings.Join(environ, "\n    "))
	daemon, err := start(binary, environ)
	if err != nil {
		return fmt.Errorf("start sidecert: %w", err)
	}
	ctx, failed := context.WithCancelCause(ctx)
	go func() {
		<-daemon.exited
		failed(errors.New("sidecert has ended"))
	}()
	defer func() { err = errors.Join(err, daemon.stop()) }()

	if err := until(ctx, "sidecert is healthy", func() bool { return sidecert(binary, environ, "healthcheck").Run() == nil }); err != nil {
		return err
	}
	web, err := dockertest.StartWeb(filepath.Join(dir, "certs", "live", domain), filepath.Join(dir, "webroot"), ca.HTTPPort)
	if err != nil {
		return fmt.Errorf("start the web server: %w", err)
	}
	defer web.Close()
	engine.OnKill(func(_, signal string) { web.Signal(signal) })
	engine.Add(web.Container("web"))
	say("sidecert has stored a placeholder, so the web server could start on https://%s.\n  It serves: %s", web.Address(), describe(web.Seen(domain)))

	if err := watch(ctx, ca.Roots, web, filepath.Join(dir, "certs", "live", domain, "fullchain.pem")); err != nil {
		return err
	}
	var list []byte
	var listErr error
	err = until(ctx, "sidecert has seen it too", func() bool {
		list, listErr = sidecert(binary, environ, "certificates").Output()
		return listErr != nil || bytes.Contains(list, []byte(" current "))
	})
	if err := errors.Join(err, listErr); err != nil {
		return fmt.Errorf("list the certificates: %w", err)
	}
	say("`sidecert certificates` says:\n%s", bytes.TrimSpace(list))
	say("Done: %d certificates were issued, and each was served as soon as it was stored. Stopping sidecert.", ca.Issued())
	return nil
}

// environment makes the folders that would be volumes, and sidecert's settings.
func environment(dir string, ca *acmetest.CA, engine *dockertest.Engine) ([]string, error) {
	bundle := filepath.Join(dir, "ca.pem")
	if err := os.WriteFile(bundle, []byte(ca.HTTPRoots), 0o644); err != nil {
		return nil, err
	}
	for _, volume := range []string{"certs", "state", "webroot"} {
		if err := os.Mkdir(filepath.Join(dir, volume), 0o755); err != nil {
			return nil, err
		}
	}
	return []string{
		"DOMAINS=" + domain,
		"RELOAD=web",
		"ACME_CA=" + ca.Directory,
		"ACME_CA_BUNDLE=" + bundle,
		"CERT_DIR=" + filepath.Join(dir, "certs"),
		"STATE_DIR=" + filepath.Join(dir, "state"),
		"WEBROOT=" + filepath.Join(dir, "webroot"),
		"DOCKER_HOST=" + engine.Host(),
		"LISTEN=off",
	}, nil
}

// watch follows what the web server shows until it has served the first certificate and all renewals.
func watch(ctx context.Context, roots func() *x509.CertPool, web *dockertest.Web, stored string) error {
	last := web.Seen(domain)
	for n := 0; n <= renewals; n++ {
		if err := until(ctx, "another certificate is served", func() bool { return !web.Seen(domain).Equal(last) }); err != nil {
			return err
		}
		last = web.Seen(domain)
		data, err := os.ReadFile(stored)
		if err != nil {
			return err
		}
		chain, err := cert.ParseChain(data)
		if err != nil {
			return fmt.Errorf("%s: %w", stored, err)
		}
		if !last.Equal(chain[0]) {
			return fmt.Errorf("the web server serves serial %x, but serial %x is stored", last.SerialNumber, chain[0].SerialNumber)
		}
		intermediates := x509.NewCertPool()
		for _, c := range chain[1:] {
			intermediates.AddCert(c)
		}
		if _, err := last.Verify(x509.VerifyOptions{DNSName: domain, Roots: roots(), Intermediates: intermediates}); err != nil {
			return fmt.Errorf("verify what is served: %w", err)
		}
		what := "The CA's certificate is served"
		if n > 0 {
			what = fmt.Sprintf("Renewal %d of %d is served", n, renewals)
		}
		say("%s, and it is the stored one:\n  %s", what, describe(last))
	}
	return nil
}

func describe(c *x509.Certificate) string {
	if cert.IsPlaceholder(c) {
		return "a placeholder"
	}
	return fmt.Sprintf("serial %x from %s, until %s", c.SerialNumber, c.Issuer.CommonName, c.NotAfter.Local().Format(time.TimeOnly))
}

// until polls for what other processes bring about.
func until(ctx context.Context, what string, done func() bool) error {
	for !done() {
		select {
		case <-ctx.Done():
			return fmt.Errorf("waiting until %s: %w", what, context.Cause(ctx))
		case <-time.After(50 * time.Millisecond):
		}
	}
	return nil
}

func sidecert(binary string, environ []string, args ...string) *exec.Cmd {
	cmd := exec.Command(binary, args...)
	cmd.Env = environ
	return cmd
}

// daemon is `sidecert run`, with its log on our output.
type daemon struct {
	cmd    *exec.Cmd
	exited chan struct{}
	err    error // once exited is closed
}

func start(binary string, environ []string) (*daemon, error) {
	d := &daemon{cmd: sidecert(binary, environ, "run"), exited: make(chan struct{})}
	r, w := io.Pipe()
	d.cmd.Stdout, d.cmd.Stderr = w, w
	if err := d.cmd.Start(); err != nil {
		return nil, err
	}
	go func() {
		d.err = d.cmd.Wait()
		w.Close()
		close(d.exited)
	}()
	go func() {
		for lines := bufio.NewScanner(r); lines.Scan(); {
			fmt.Println("  | " + lines.Text())
		}
	}()
	return d, nil
}

// stop ends the daemon as Docker does, and expects it to go in peace.
func (d *daemon) stop() error {
	d.cmd.Process.Signal(syscall.SIGTERM)
	select {
	case <-d.exited:
		return d.err
	case <-time.After(10 * time.Second):
		return errors.Join(errors.New("sidecert did not end within 10 s of SIGTERM"), d.cmd.Process.Kill())
	}
}
