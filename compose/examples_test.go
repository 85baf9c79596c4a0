package compose_test

import (
	"bytes"
	"crypto/x509"
	"encoding/json"
	"encoding/pem"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"slices"
	"strings"
	"testing"
	"time"
)

// The examples run as they are written; files in testdata add the CA, and make their sites names of the network. Those that publish
// ports 80 and 443 are not parallel.

// example copies one of the examples to where its containers may write.
func example(t *testing.T, name string) string {
	t.Helper()
	dir := t.TempDir()
	if err := os.CopyFS(dir, os.DirFS("../examples/"+name)); err != nil {
		t.Fatal(err)
	}
	copies.Store(dir, "../examples/"+name)
	return dir
}

// listed is what `sidecert certificates --json` says of one.
type listed struct {
	Name     string    `json:"name"`
	Names    []string  `json:"names"`
	Adopted  bool      `json:"adopted"`
	KeyType  string    `json:"key_type"`
	Version  int       `json:"version"`
	Serial   string    `json:"serial"`
	NotAfter time.Time `json:"not_after"`
	Issuer   string    `json:"issuer"`
}

func (p *project) certificates() map[string]listed {
	p.t.Helper()
	var all []listed
	if err := json.Unmarshal([]byte(p.sidecert("certificates", "--json")), &all); err != nil {
		p.t.Fatal(err)
	}
	byName := map[string]listed{}
	for _, l := range all {
		byName[l.Name] = l
	}
	return byName
}

// sidecert runs a command beside the daemon.
func (p *project) sidecert(args ...string) string {
	p.t.Helper()
	return p.compose(append([]string{"exec", "-T", "sidecert", "sidecert"}, args...)...)
}

// awaitLog waits until a service has logged a text.
func (p *project) awaitLog(service, text string) {
	p.t.Helper()
	p.eventually(60*time.Second, func() error {
		if !strings.Contains(p.logs(service), text) {
			return fmt.Errorf("%s has not logged %q", service, text)
		}
		return nil
	})
}

func TestCertbotIsReplacedAndComesBack(t *testing.T) {
	requireCertbotImage(t)
	dir := example(t, "adopt-certbot")
	with := func(file, adds string) []string {
		return []string{filepath.Join(dir, file), "testdata/ca.yaml", "testdata/adopt-certbot.yaml", "testdata/" + adds}
	}
	before, after := with("before.yaml", "certbot.yaml"), with("after.yaml", "sidecert.yaml")
	p := newProject(t, "example.org", before...)
	a := &adoption{p, filepath.Join(dir, "data/certbot/conf/live")}
	a.issue(dir)
	made := a.stored()

	p.files = after
	p.compose("up", "--detach", "--remove-orphans")
	p.awaitLog("sidecert", "sidecert started")
	p.sidecert("renew") // returns when the daemon has looked at everything
	a.checkListed(made)
	checkHardening(t, p)
	p.sidecert("renew", "--dry-run")
	if got := a.stored(); got["example.org"] != made["example.org"] || got["shop.example.org"] != made["shop.example.org"] {
		t.Errorf("stored are %v, want what certbot made: %v", got, made)
	}
	ours := a.renewed(made, func() { p.sidecert("renew", "--force") })
	a.awaitServed(ours)
	t.Logf("docker compose logs sidecert:\n%s", p.logs("sidecert"))

	p.files = before
	p.compose("up", "--detach", "--remove-orphans")
	p.awaitLog("certbot", "No renewals were attempted")
	theirs := a.renewed(ours, func() {
		p.compose("exec", "-T", "certbot", "certbot", "renew", "--force-renewal", "--no-random-sleep-on-renew")
	})
	if _, err := os.Stat(filepath.Join(dir, "data/certbot/conf/deployed")); err != nil {
		t.Errorf("certbot did not run the deploy hook of its conf: %v", err)
	}

	p.files = after
	p.compose("up", "--detach", "--remove-orphans")
	p.awaitLog("sidecert", "sidecert started")
	a.checkListed(theirs)
	a.awaitServed(a.renewed(theirs, func() { p.sidecert("renew", "--force") }))
	if accounts := p.accounts(); accounts != 1 {
		t.Errorf("%d accounts at the CA, want certbot's alone", accounts)
	}
}

// requireCertbotImage skips a test where there is no certbot to run.
func requireCertbotImage(t *testing.T) {
	t.Helper()
	requireDocker(t)
	_, err := run(t.Context(), nil, "../docker/certbot/make-image")
	require(t, err)
}

// adoption is the project of examples/adopt-certbot with the folder of its lineages.
type adoption struct {
	*project
	live string
}

// sites are the lineages of the example with the names of each.
var sites = map[string][]string{"example.org": {"example.org", "www.example.org"}, "shop.example.org": {"shop.example.org"}}

// issue does what its users have done once: nginx with HTTP alone, two certificates, then nginx with HTTPS, and certbot in its loop.
func (a *adoption) issue(dir string) {
	a.t.Helper()
	https := filepath.Join(dir, "nginx/https.conf")
	rename := func(from, to string) {
		if err := os.Rename(from, to); err != nil {
			a.t.Fatal(err)
		}
	}
	rename(https, https+".later")
	a.compose("up", "--detach", "--no-deps", "pebble", "nginx")
	a.awaitLog("pebble", "Listening")
	for name, more := range map[string][]string{
		"example.org":      {"--key-type", "rsa"},
		"shop.example.org": {"--key-type", "ecdsa", "--deploy-hook", "touch /etc/letsencrypt/deployed"},
	} {
		args := []string{"run", "--rm", "-T", "--entrypoint", "certbot", "certbot", "certonly", "--webroot", "--webroot-path", "/var/www/certbot", "--server",
			"https://pebble:14000/dir", "--agree-tos", "--register-unsafely-without-email", "--non-interactive", "--domains", strings.Join(sites[name], ",")}
		a.compose(append(args, more...)...)
	}
	if err := os.Remove(filepath.Join(dir, "data/certbot/conf/deployed")); err != nil {
		a.t.Fatal(err)
	}
	rename(https+".later", https)
	a.compose("restart", "--timeout", "1", "nginx")
	a.compose("up", "--detach")
	a.awaitServed(a.stored())
}

// stored are the serials of what live/ leads to.
func (a *adoption) stored() map[string]string {
	a.t.Helper()
	entries, err := os.ReadDir(a.live)
	if err != nil {
		a.t.Fatal(err)
	}
	serials := map[string]string{}
	for _, e := range entries {
		if e.IsDir() {
			serials[e.Name()] = fmt.Sprintf("%x", a.leaf(e.Name()).SerialNumber)
		}
	}
	if len(serials) != len(sites) {
		a.t.Errorf("live/ has %v, want two lineages", serials)
	}
	return serials
}

func (a *adoption) leaf(name string) *x509.Certificate {
	a.t.Helper()
	data, err := os.ReadFile(filepath.Join(a.live, name, "cert.pem"))
	if err != nil {
		a.t.Fatal(err)
	}
	block, _ := pem.Decode(data)
	if block == nil {
		a.t.Fatalf("cert.pem of %s is none: %q", name, data)
	}
	leaf, err := x509.ParseCertificate(block.Bytes)
	if err != nil {
		a.t.Fatal(err)
	}
	return leaf
}

// renewed has both certificates renewed, and checks that they were, in the same lineages and with the same sort of key.
func (a *adoption) renewed(was map[string]string, renew func()) map[string]string {
	a.t.Helper()
	keys := map[string]x509.PublicKeyAlgorithm{}
	for name := range sites {
		keys[name] = a.leaf(name).PublicKeyAlgorithm
	}
	renew()
	is := a.stored()
	for name := range sites {
		leaf := a.leaf(name)
		if is[name] == was[name] || leaf.PublicKeyAlgorithm != keys[name] {
			a.t.Errorf("%s: serial %s after %s, key %s after %s; want another one with the same sort of key", name, is[name], was[name], leaf.PublicKeyAlgorithm, keys[name])
		}
	}
	return is
}

// checkListed compares what sidecert lists with what is stored.
func (a *adoption) checkListed(serials map[string]string) {
	a.t.Helper()
	all := a.certificates()
	for name, names := range sites {
		slices.Sort(all[name].Names)
		got := all[name]
		if got.Serial != serials[name] || !slices.Equal(got.Names, names) || !got.NotAfter.Equal(a.leaf(name).NotAfter) || !got.Adopted {
			a.t.Errorf("%s is listed as %+v, want serial %s, names %v, until %v, adopted", name, got, serials[name], names, a.leaf(name).NotAfter)
		}
	}
	if len(all) != len(sites) {
		a.t.Errorf("%d certificates are listed, want %d", len(all), len(sites))
	}
}

// awaitServed waits until nginx serves these.
func (a *adoption) awaitServed(serials map[string]string) {
	a.t.Helper()
	a.eventually(30*time.Second, func() error {
		for name, names := range sites {
			for _, domain := range names {
				chain, err := a.servedBy("nginx", domain)
				if err != nil {
					return err
				}
				if got := fmt.Sprintf("%x", chain[0].SerialNumber); got != serials[name] {
					return fmt.Errorf("%s serves serial %s, want %s", domain, got, serials[name])
				}
			}
		}
		return nil
	})
}

var accountsLine = regexp.MustCompile(`There are now (\d+) accounts in memory`)

// accounts is how many Pebble has.
func (p *project) accounts() int {
	p.t.Helper()
	return len(accountsLine.FindAllString(p.logs("pebble"), -1))
}

func TestManySitesAreNotHeldUpByOne(t *testing.T) {
	servers := map[string][]string{
		"nginx": {"example.org", "blog.example.org", "docs.example.org", "status.example.org"},
		"httpd": {"shop.example.net", "cloud.example.net", "forum.example.net", "photos.example.net", "wiki.example.net"},
	}
	const elsewhere = "old.example.org"
	p := newProject(t, "", filepath.Join(example(t, "many-sites"), "compose.yaml"), "testdata/ca.yaml", "testdata/sidecert.yaml", "testdata/many-sites.yaml")
	p.environ = append(p.environ, "NGINX_ADDRESS=127.0.0.1", "HTTPD_ADDRESS=127.0.0.2", "ACME_CA=https://pebble:14000/dir")
	began := time.Now()
	p.compose("up", "--detach")
	p.eventually(60*time.Second, func() error {
		for server, names := range servers {
			for _, name := range names {
				chain, err := p.servedBy(server, name)
				if err == nil {
					err = p.trustedFor(name, chain)
				}
				if err != nil {
					return fmt.Errorf("%s in %s: %w", name, server, err)
				}
			}
		}
		return nil
	})
	t.Logf("nine certificates are served after %v", time.Since(began).Round(time.Second))
	chain, err := p.servedBy("nginx", elsewhere)
	if err != nil || !isPlaceholder(chain[0]) {
		t.Errorf("%s: %v, want its placeholder, without which nginx would not start", elsewhere, err)
	}

	p.eventually(100*time.Second, func() error {
		for line := range strings.Lines(p.logs("sidecert")) {
			if strings.Contains(line, `msg="renewal failed"`) || strings.Contains(line, `msg="certificate not obtained"`) {
				if !strings.Contains(line, "cert="+elsewhere) || !strings.Contains(line, "hint=") {
					t.Errorf("what failed is %q, want %s with a hint", line, elsewhere)
				}
				t.Log(line)
				return nil
			}
		}
		return errors.New("nothing has failed")
	})
	p.checkTold(servers)
	checkHardening(t, p)
}

// checkTold reads in the journal that each server was told of what it serves, and of nothing else.
func (p *project) checkTold(servers map[string][]string) {
	p.t.Helper()
	told := map[string][]string{}
	for line := range strings.Lines(p.sidecert("history", "--json")) {
		var event struct{ Kind, Cert, Container, Action string }
		if err := json.Unmarshal([]byte(line), &event); err != nil {
			p.t.Fatal(err)
		}
		for server := range servers {
			if event.Action != "" && strings.Contains(event.Container, server) && !slices.Contains(told[server], event.Cert) {
				told[server] = append(told[server], event.Cert)
			}
		}
	}
	for server, names := range servers {
		slices.Sort(told[server])
		slices.Sort(names)
		if !slices.Equal(told[server], names) {
			p.t.Errorf("%s was told of %v, want %v", server, told[server], names)
		}
	}
}

func TestBackupIsRestoredOnANewServer(t *testing.T) {
	t.Parallel()
	old := newProject(t, domain, "nginx.yaml", "testdata/pebble.yaml")
	old.compose("up", "--detach")
	leaf := old.awaitCertificate(60 * time.Second)
	file := filepath.Join(t.TempDir(), "certificates.tar.gz")
	if _, err := run(t.Context(), nil, "../examples/backup/backup.sh", old.name, file); err != nil {
		t.Fatal(err)
	}
	if info, err := os.Stat(file); err != nil || info.Mode().Perm() != 0o600 {
		t.Errorf("the backup has mode %v (%v), want it readable by its owner alone", info.Mode(), err)
	}
	old.compose("rm", "--stop", "--force", "web", "sidecert")

	p := newProject(t, domain, "nginx.yaml", "testdata/restored.yaml")
	p.environ = append(p.environ, "CA_PROJECT="+old.name)
	restore := func() error {
		_, err := run(t.Context(), nil, "../examples/backup/restore.sh", p.name, file)
		return err
	}
	if err := restore(); err == nil || !strings.Contains(err.Error(), "up --no-start") {
		t.Errorf("restoring before there are volumes: %v, want it to say what makes them", err)
	}
	p.compose("up", "--no-start")
	if err := restore(); err != nil {
		t.Fatal(err)
	}
	p.compose("up", "--detach")
	p.eventually(30*time.Second, func() error {
		chain, err := p.served()
		if err == nil && !chain[0].Equal(leaf) {
			t.Fatalf("%v is served, want the certificate of the backup", chain[0].Issuer)
		}
		return err
	})
	if out := p.sidecert("renew"); !strings.Contains(out, "not due") {
		t.Errorf("sidecert renew said %q, want it not due", out)
	}
	if orders := old.orders(); orders != 1 {
		t.Errorf("%d orders after the restore, want the first one alone", orders)
	}
	p.sidecert("renew", "--force")
	if chain, err := p.served(); err != nil || chain[0].Equal(leaf) || old.trusted(chain) != nil {
		t.Errorf("after a renewal there: %v, want another certificate of the same CA served", err)
	}
	if accounts, orders := old.accounts(), old.orders(); accounts != 1 || orders != 2 {
		t.Errorf("%d accounts and %d orders, want the one account of the backup and a second order", accounts, orders)
	}
	if err := restore(); err == nil || !strings.Contains(err.Error(), "not empty") {
		t.Errorf("restoring over what is there: %v, want a refusal", err)
	}
}

func TestMonitoringPluginSpeaksForTheProject(t *testing.T) {
	t.Parallel()
	p := newProject(t, domain, "../examples/monitoring-plugin/compose.yaml", "testdata/ca.yaml", "testdata/sidecert.yaml", "testdata/web.yaml")
	p.environ = append(p.environ, "ACME_CA=https://pebble:14000/dir")
	p.compose("up", "--detach")
	p.awaitCertificate(60 * time.Second)
	p.sidecert("renew") // returns when it is known to be served
	checkHardening(t, p)
	p.checkPlugin(0, `^SIDECERT OK: 1 certificates?, .*`+domain+` in 89 days \| '`+domain+`'=(89\.\d|90);20:;7:$`)
	p.checkPlugin(3, `^SIDECERT UNKNOWN: .*absent\.example\.test`, "absent.example.test")
	p.checkPlugin(2, `^SIDECERT CRITICAL: .*web:443`, "web:443") // no usual root signed it
	p.compose("stop", "web")
	p.sidecertFails("renew")
	p.checkPlugin(1, `^SIDECERT WARNING: .*not served`)
	p.compose("stop", "sidecert")
	p.checkPlugin(3, `^SIDECERT UNKNOWN: it cannot be asked`)
}

// sidecertFails is for a command that is to end with 1.
func (p *project) sidecertFails(args ...string) {
	p.t.Helper()
	_, err := run(p.t.Context(), p.environ, p.command(append([]string{"exec", "-T", "sidecert", "sidecert"}, args...)...)...)
	if exit, ok := errors.AsType[*exec.ExitError](err); !ok || exit.ExitCode() != 1 {
		p.t.Errorf("sidecert %v: %v, want exit status 1", args, err)
	}
}

// checkPlugin runs the plugin as a monitoring system would, and checks its exit status and its one line.
func (p *project) checkPlugin(status int, line string, args ...string) {
	p.t.Helper()
	var files []string
	for _, file := range p.files {
		path, err := filepath.Abs(file)
		if err != nil {
			p.t.Fatal(err)
		}
		files = append(files, path)
	}
	cmd := exec.CommandContext(p.t.Context(), "../examples/monitoring-plugin/check_sidecert", append([]string{"."}, args...)...)
	cmd.Env = append(append(os.Environ(), p.environ...), "COMPOSE="+strings.Join(composeCommand(), " "),
		"COMPOSE_PROJECT_NAME="+p.name, "COMPOSE_FILE="+strings.Join(files, ":"))
	var stdout, stderr bytes.Buffer
	cmd.Stdout, cmd.Stderr = &stdout, &stderr
	err := cmd.Run()
	if got := cmd.ProcessState.ExitCode(); got != status || !regexp.MustCompile(line).MatchString(strings.TrimSuffix(stdout.String(), "\n")) {
		p.t.Errorf("check_sidecert %v: exit status %d (%v), %q, want %d and a line like %s\n%s", args, got, err, stdout.String(), status, line, stderr.String())
	}
}

// TestForeignProxyIsToldByNameAlone has sidecert find web by DNS, since the proxy lets nothing be looked up. The proxy is HAProxy with
// rules like those of the image that the example names.
func TestForeignProxyIsToldByNameAlone(t *testing.T) {
	p := newProject(t, "example.org", "../examples/foreign-proxy/compose.yaml", "testdata/ca.yaml", "testdata/sidecert.yaml", "testdata/foreign-proxy.yaml")
	web := p.name + "-shop-web"
	told := func(reload string) { p.environ = append(p.environ, "RELOAD_TARGET="+reload) }
	p.environ = append(p.environ, "ACME_CA=https://pebble:14000/dir", "WEB_NAME="+web)
	told(web + ":HUP")
	p.compose("up", "--detach")
	p.awaitCertificate(60 * time.Second)
	p.awaitLog("sidecert", fmt.Sprintf(`msg="certificate served" cert=example.org version=1 container=%s action=HUP`, web))
	t.Logf("docker compose logs sidecert:\n%s", p.logs("sidecert"))
	if log := p.logs("sidecert"); strings.Contains(log, "level=WARN") {
		t.Errorf("sidecert warns of what was chosen:\n%s", log)
	}
	checkHardening(t, p)
	findings, _ := run(t.Context(), p.environ, p.command("exec", "-T", "sidecert", "sidecert", "doctor")...)
	problems, _ := run(t.Context(), p.environ, p.command("exec", "-T", "sidecert", "sidecert", "doctor", "--problems")...)
	t.Logf("sidecert doctor:\n%s\nsidecert doctor --problems:\n%s", findings, problems)
	if !strings.Contains(findings, "told blind") || !strings.Contains(findings, "serves the stored certificate") || strings.Contains(problems, "allow ") {
		t.Error("doctor does not tell that web is told blind, or finds fault with that")
	}

	told(web) // "auto" has to look
	p.compose("up", "--detach", "--no-deps", "sidecert")
	p.awaitLog("sidecert", "RELOAD="+web+":HUP")
	told("web:HUP") // a service, which has a name in DNS and none for the engine
	p.compose("up", "--detach", "--no-deps", "sidecert")
	p.awaitLog("sidecert", "sidecert started")
	run(t.Context(), p.environ, p.command("exec", "-T", "sidecert", "sidecert", "renew", "--force")...)
	p.awaitLog("sidecert", "container_name: web")
	told(web + ":restart")
	p.compose("up", "--detach", "--no-deps", "sidecert")
	p.awaitLog("sidecert", fmt.Sprintf(`container=%s action=restart`, web))
	p.awaitCertificate(10 * time.Second)
	t.Logf("docker compose logs sidecert:\n%s", p.logs("sidecert"))
}
