package compose_test

import (
	"errors"
	"fmt"
	"path/filepath"
	"strings"
	"testing"
	"time"
)

// sharing starts one of the projects of examples/shared; the sidecert that it shares is another's.
func sharing(t *testing.T, shared *project, domain, file string) *project {
	t.Helper()
	overlay, err := filepath.Abs("testdata/sharing.yaml")
	if err != nil {
		t.Fatal(err)
	}
	p := newProject(t, domain, "../examples/shared/"+file, overlay)
	p.environ = append(p.environ, "SHARED="+shared.name, "ADDRESS=127.0.0.1")
	p.compose("up", "--detach")
	return p
}

// awaitServed waits until a project's web container serves a certificate of the shared project's CA.
func (p *project) awaitServed(shared *project) {
	p.t.Helper()
	p.eventually(60*time.Second, func() error {
		chain, err := p.served()
		if err == nil && isPlaceholder(chain[0]) {
			err = errors.New("the placeholder is served")
		}
		if err == nil {
			err = shared.trustedFor(p.domain, chain)
		}
		return err
	})
}

func TestOneSidecertServesSeveralProjects(t *testing.T) {
	t.Parallel()
	shared := newProject(t, "", "shared.yaml", "testdata/shared.yaml")
	shared.environ = append(shared.environ, "SHARED="+shared.name)
	shared.compose("up", "--detach")
	shared.awaitLog("sidecert", "no certificate is asked for yet")

	const shopName, blogName = "shop.example.org", "blog.example.net"
	shop := sharing(t, shared, shopName, "shop.yaml")
	shop.awaitServed(shared)
	blog := sharing(t, shared, blogName, "blog.yaml")
	blog.awaitServed(shared)
	checkHardening(t, shared, shop, blog)

	all := shared.certificates()
	if got := all[blogName].KeyType; got != "rsa-2048" {
		t.Errorf("the key of %s is %q, want the one of its label", blogName, got)
	}
	blogFirst, shopStarted := all[blogName].Serial, shop.mustInspect("web").State.StartedAt
	reloads := func() int { return strings.Count(shop.logs("web"), "(SIGHUP) received, reconfiguring") }
	before := reloads()
	shared.sidecert("renew", "--force", blogName)
	if got := shared.certificates()[blogName].Serial; got == blogFirst {
		t.Error("not renewed")
	}
	blog.eventually(30*time.Second, func() error {
		chain, err := blog.served()
		if err == nil && fmt.Sprintf("%x", chain[0].SerialNumber) == blogFirst {
			err = errors.New("the first certificate is still served")
		}
		return err
	})
	if reloads() != before || !shop.mustInspect("web").State.StartedAt.Equal(shopStarted) {
		t.Error("the renewal of one project disturbed the other's web container")
	}

	shop.compose("down")
	shared.sidecert("renew")
	if got := shared.certificates()[shopName].Serial; got != all[shopName].Serial {
		t.Errorf("a project that went took its certificate along: serial %q, want %q", got, all[shopName].Serial)
	}
	shop.compose("up", "--detach")
	shop.awaitServed(shared)
	if orders := shared.orders(); orders != 3 {
		t.Errorf("%d orders, want one for each project and one by hand", orders)
	}
	if log := shared.logs("sidecert"); strings.Contains(log, "level=ERROR") || strings.Contains(log, "not verified") {
		t.Errorf("sidecert's log complains:\n%s", log)
	}
}

func TestWebServerThatReloadsItselfNeedsNoSocket(t *testing.T) {
	t.Parallel()
	p := newProject(t, domain, "no-socket.yaml", "testdata/pebble.yaml")
	p.compose("up", "--detach")
	p.awaitCertificate(100 * time.Second) // it looks every minute
	p.awaitLog("sidecert", "certificate served")
	checkHardening(t, p)
	if log := p.logs("sidecert"); strings.Contains(log, "level=WARN") {
		t.Errorf("sidecert's log complains:\n%s", log)
	}
	if reloads := strings.Count(p.logs("web"), "signal process started"); reloads != 1 {
		t.Errorf("web was reloaded %d times for one certificate", reloads)
	}
}
