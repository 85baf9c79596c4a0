package compose_test

import (
	"crypto/x509"
	"fmt"
	"os"
	"path/filepath"
	"regexp"
	"strings"
	"syscall"
	"testing"
	"time"
)

// nonRoot is compose/nginx-nonroot.yaml with its ports published as a user would, on this machine alone: only what is published as 443 is
// found by VERIFY=auto. So none of these tests is parallel.
func nonRoot(t *testing.T) *project {
	t.Helper()
	p := newProject(t, domain, "nginx-nonroot.yaml", "testdata/pebble.yaml", "testdata/nonroot.yaml")
	info, err := os.Stat("/var/run/docker.sock")
	if err != nil {
		t.Skipf("no socket to be in the group of: %v", err)
	}
	p.environ = append(p.environ, "HTTP_PORT=127.0.0.1:80", "HTTPS_PORT=127.0.0.1:443", fmt.Sprintf("DOCKER_GID=%d", info.Sys().(*syscall.Stat_t).Gid))
	return p
}

func TestSiteIsServedWithoutRoot(t *testing.T) {
	p := nonRoot(t)
	p.compose("up", "--detach")
	p.awaitCertificate(60 * time.Second)
	p.said("certificate served")
	checkRedirect(t, p)
	checkChallengePath(t, p, servers[0])
	checkHardening(t, p)
	checkWeb(t, p, servers[0])
	for service, uid := range map[string]string{"sidecert": "65532", "web": "101"} {
		status, err := p.docker("run", "--rm", "--network=none", "--pid=container:"+p.mustInspect(service).ID, "nginx:1", "cat", "/proc/1/status")
		if err != nil || !strings.Contains(status, "Uid:\t"+uid+"\t"+uid+"\t"+uid+"\t"+uid+"\n") || !strings.Contains(status, "CapBnd:\t0000000000000000") {
			t.Errorf("%s: %v, its process has\n%s\nwant user %s and no capabilities", service, err, status, uid)
		}
	}
	p.checkKeyModes("640 65532 101")
	if log := p.logs("sidecert"); strings.Contains(log, "level=WARN") || strings.Contains(log, "level=ERROR") {
		t.Errorf("sidecert's log has a warning:\n%s", log)
	}
	checkRestarts(t, p, servers[0])
	p.renewedAndServed()
}

// renewedAndServed has a new certificate made, and returns when web is seen to serve it.
func (p *project) renewedAndServed() {
	p.t.Helper()
	var before []*x509.Certificate
	p.eventually(30*time.Second, func() (err error) { // the web container may just have been started
		before, err = p.served()
		return err
	})
	p.sidecert("renew", "--force")
	if after, err := p.served(); err != nil || after[0].Equal(before[0]) || p.trusted(after) != nil {
		p.t.Errorf("after a renewal: %v, want another certificate of the CA served", err)
	}
	if all := p.certificates(); all[p.domain].Serial == fmt.Sprintf("%x", before[0].SerialNumber) {
		p.t.Error("the certificate before the renewal is still listed")
	}
}

// checkKeyModes looks at all private keys of the domain: mode, owner and group.
func (p *project) checkKeyModes(want string) {
	p.t.Helper()
	out, err := p.docker("run", "--rm", "--network=none", "--volume="+p.mustInspect("sidecert").source("/etc/letsencrypt")+":/v:ro", "nginx:1",
		"sh", "-c", "stat -c '%a %u %g' /v/archive/"+p.domain+"/privkey*.pem")
	if err != nil {
		p.t.Fatal(err)
	}
	for line := range strings.Lines(out) {
		if strings.TrimSpace(line) != want {
			p.t.Errorf("a private key is %q (mode, user, group), want %q", strings.TrimSpace(line), want)
		}
	}
}

// A root sidecert's volumes are given to user 65532 by the README's one command, which the log names too, and back by the same with 0.
func TestVolumesOfRootAreGivenAway(t *testing.T) {
	p := nonRoot(t)
	without := p.files
	p.files = []string{"nginx.yaml", "testdata/pebble.yaml"}
	p.compose("up", "--detach")
	leaf := p.awaitCertificate(60 * time.Second)
	p.compose("rm", "--stop", "--force", "web", "sidecert")

	p.files = without
	p.compose("up", "--detach", "--no-deps", "sidecert")
	p.awaitLog("sidecert", "user 65532 may not write there; give it the volumes, once: docker run --rm --volumes-from $(docker compose ps -aq sidecert) nginx:1 chown -Rh 65532 /etc/letsencrypt /var/www/certbot /var/lib/sidecert")
	if status, err := p.docker("exec", p.mustInspect("sidecert").ID, "sidecert", "doctor", "--problems"); err == nil || strings.Count(status, "chown -Rh 65532 ") < 2 {
		t.Errorf("doctor: %v, want the command told for the account and the webroot in\n%s", err, status)
	}

	readme, err := os.ReadFile("../README.md")
	if err != nil {
		t.Fatal(err)
	}
	command := regexp.MustCompile(`(?m)^docker run --rm --volumes-from .*chown -Rh 65532.*$`).Find(readme)
	if command == nil {
		t.Fatal("the README has no command that gives the volumes away")
	}
	p.shell(t, string(command))
	p.compose("up", "--detach")
	p.eventually(30*time.Second, func() error {
		chain, err := p.served()
		if err == nil && !chain[0].Equal(leaf) {
			t.Fatalf("%v is served, want the certificate that root had", chain[0].Issuer)
		}
		return err
	})
	p.checkKeyModes("640 65532 101")
	p.renewedAndServed()
	p.checkKeyModes("640 65532 101")

	p.files = []string{"nginx.yaml", "testdata/pebble.yaml"}
	p.compose("up", "--detach", "--no-deps", "sidecert")
	p.awaitLog("sidecert", "user 0 may not write there")
	p.shell(t, strings.ReplaceAll(string(command), "65532", "0"))
	p.compose("up", "--detach")
	p.renewedAndServed()
}

// shell runs a command of the README in the project's folder, as it stands there, with the compose that the tests use.
func (p *project) shell(t *testing.T, command string) {
	t.Helper()
	var files []string
	for _, file := range p.files {
		path, err := filepath.Abs(file)
		if err != nil {
			t.Fatal(err)
		}
		files = append(files, path)
	}
	command = strings.Replace(command, "docker compose ps", strings.Join(composeCommand(), " ")+" ps", 1)
	if _, err := run(t.Context(), append(p.environ, "COMPOSE_PROJECT_NAME="+p.name, "COMPOSE_FILE="+strings.Join(files, ":")), "sh", "-euc", command); err != nil {
		t.Fatal(err)
	}
}

// Root without capabilities and user 65532 write to new volumes alike.
func TestFreshVolumesAreWritableForBoth(t *testing.T) {
	t.Parallel()
	requireDocker(t)
	if err := images(); err != nil {
		t.Fatalf("build images: %v", err)
	}
	for _, user := range []string{"0:0", "65532:65532"} {
		p := &project{t: t}
		out, err := p.docker("run", "--rm", "--network=none", "--user="+user, "--read-only", "--cap-drop=ALL", "--security-opt=no-new-privileges",
			"--volume=/etc/letsencrypt", "--volume=/var/www/certbot", "--volume=/var/lib/sidecert", "--env=DOMAINS="+domain, "--env=RELOAD=off", "--env=PREFLIGHT=off", "--env=ACME_CA=https://127.0.0.1:1/dir",
			"sidecert", "renew")
		if err == nil || !strings.Contains(err.Error(), "placeholder stored") || strings.Contains(err.Error(), "denied") {
			t.Errorf("user %s: %v %s, want the placeholder stored", user, err, out)
		}
	}
}
