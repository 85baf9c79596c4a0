package compose_test

import (
	"flag"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"regexp"
	"slices"
	"strconv"
	"strings"
	"sync"
	"testing"
)

// hardened are the compose files that checkHardening has looked at, copies what copies of examples are copies of.
var hardened, copies sync.Map

// In CI a compose file of ours that no test has run checkHardening on fails all of them.
func TestMain(m *testing.M) {
	flag.Set("test.parallel", "4") // they wait for containers more than they work; the flag given goes before
	flag.Parse()
	status := m.Run()
	whole := flag.Lookup("test.run").Value.String() == "" && flag.Lookup("test.skip").Value.String() == ""
	if status == 0 && whole && os.Getenv("CI") == "true" {
		for _, file := range filesWithSidecert() {
			if _, ok := hardened.Load(file); !ok {
				fmt.Printf("--- FAIL: no test calls checkHardening with %s\n", file)
				status = 1
			}
		}
	}
	os.Exit(status)
}

var sidecertImage = regexp.MustCompile(`(?m)^\s+image: "?sidecert"?\s*(#.*)?$`)

// filesWithSidecert are those that a user could start.
func filesWithSidecert() (files []string) {
	for _, root := range []string{".", "../examples"} {
		err := filepath.WalkDir(root, func(path string, d fs.DirEntry, err error) error {
			if err == nil && d.IsDir() && d.Name() == "testdata" {
				return fs.SkipDir
			}
			if err != nil || !strings.HasSuffix(path, ".yaml") && !strings.HasSuffix(path, ".yml") {
				return err
			}
			text, err := os.ReadFile(path)
			if err == nil && sidecertImage.Match(text) {
				files = append(files, path)
			}
			return err
		})
		if err != nil {
			panic(err)
		}
	}
	return files
}

// Else a file that is found nowhere would pass.
func TestFilesWithSidecertAreFound(t *testing.T) {
	files := filesWithSidecert()
	for _, want := range []string{"nginx.yaml", "nginx-nonroot.yaml", "httpd.yaml", "demo.yaml", "../examples/many-sites/compose.yaml", "../examples/adopt-certbot/after.yaml"} {
		if !slices.Contains(files, want) {
			t.Errorf("%s is not among %v", want, files)
		}
	}
}

// maxImage is what the image may weigh, in bytes.
const maxImage = 18_000_000

func TestImageIsSmall(t *testing.T) {
	t.Parallel()
	requireDocker(t)
	if err := images(); err != nil {
		t.Fatalf("build images: %v", err)
	}
	out, err := run(t.Context(), nil, "docker", "image", "inspect", "-f", "{{.Size}}", "sidecert")
	if err != nil {
		t.Fatal(err)
	}
	if size, err := strconv.Atoi(strings.TrimSpace(out)); err != nil || size > maxImage {
		t.Errorf("%d bytes (%v), want at most %d", size, err, maxImage)
	}
}

// checkHardening holds for every compose file of ours, once there is an account at the CA: sidecert's image runs without any rights, and
// who has taken a web container over, as whatever user, finds nothing of sidecert's there but the files that it is to serve, and cannot
// change them. The web containers may be in others' projects too.
func checkHardening(t *testing.T, p *project, others ...*project) {
	t.Helper()
	file := filepath.Clean(p.files[0])
	if original, ok := copies.Load(filepath.Dir(file)); ok {
		file = filepath.Join(original.(string), filepath.Base(file))
	}
	hardened.Store(file, true)

	var all []container
	for _, of := range append(others, p) {
		some, err := of.containers("")
		if err != nil {
			t.Fatal(err)
		}
		all = append(all, some...)
	}
	var daemon container
	for _, c := range all {
		if c.Config.Image != "sidecert" {
			continue
		}
		p.checkPowerless(c)
		if _, _, found := c.mount("/var/lib/sidecert"); found {
			daemon = c
		}
	}
	if daemon.ID == "" {
		t.Fatal("there is no container of sidecert with its state on a volume")
	}
	webs := 0
	for _, c := range all {
		if c.Config.Image != "sidecert" && c.source("/etc/letsencrypt") == daemon.source("/etc/letsencrypt") {
			webs++
			p.checkOutside(c, daemon)
		}
	}
	if webs == 0 {
		t.Error("no web container has the certificates")
	}
}

// TestFileThatCannotRunHereIsHardenedAsItsTwin is about the one whose socket proxy cannot be imitated in a compose file.
func TestFileThatCannotRunHereIsHardenedAsItsTwin(t *testing.T) {
	const twin, file = "../examples/foreign-proxy/compose.yaml", "../examples/foreign-proxy/regexes.yaml"
	reload := regexp.MustCompile(`(?m)^ +RELOAD: .*\n`)
	var services []string
	for _, path := range []string{twin, file} {
		text, err := os.ReadFile(path)
		if err != nil {
			t.Fatal(err)
		}
		_, service, _ := strings.Cut(string(text), "\n  sidecert:\n")
		service, _, _ = strings.Cut(service, "\n\n")
		services = append(services, reload.ReplaceAllString(service, ""))
	}
	if services[0] != services[1] || !strings.Contains(services[0], "cap_drop: [ALL]") {
		t.Errorf("sidecert is\n%s\nin %s and\n%s\nin %s", services[0], twin, services[1], file)
	}
	hardened.Store(file, true)
}

// source is what is mounted at a place: a volume or a folder of the host.
func (c container) source(destination string) string {
	for _, m := range c.Mounts {
		if m.Destination == destination {
			return m.Source
		}
	}
	return ""
}

// checkPowerless looks at a process of sidecert as the kernel has it.
func (p *project) checkPowerless(c container) {
	p.t.Helper()
	status, err := p.docker("run", "--rm", "--network=none", "--pid=container:"+c.ID, "nginx:1", "cat", "/proc/1/status")
	if err != nil {
		p.t.Fatal(err)
	}
	for _, want := range []string{"CapEff:\t0000000000000000", "CapPrm:\t0000000000000000", "CapBnd:\t0000000000000000", "CapAmb:\t0000000000000000", "NoNewPrivs:\t1"} {
		if !strings.Contains(status, want+"\n") {
			p.t.Errorf("%s: the process has\n%s\nwant %q in it", c.Name, status, want)
		}
	}
	if !c.HostConfig.ReadonlyRootfs {
		p.t.Errorf("%s: the root file system is writable", c.Name)
	}
	if len(c.HostConfig.CapAdd) > 0 {
		p.t.Errorf("%s has capabilities added: %v", c.Name, c.HostConfig.CapAdd)
	}
}

// checkOutside tries what somebody in a web container would, as its user, as nobody and as root.
func (p *project) checkOutside(web, daemon container) {
	p.t.Helper()
	for _, m := range web.Mounts {
		if m.Source == daemon.source("/var/lib/sidecert") || strings.Contains(m.Source, "docker.sock") {
			p.t.Errorf("%s sees what is sidecert's alone: %s", web.Name, m.Destination)
		}
	}
	secret, certbots := p.accountKey(daemon)
	users := []string{"--user=65534", "--user=0"}
	if web.Config.User != "" {
		users = append(users, "--user="+web.Config.User)
	}
	for _, user := range users {
		for _, folder := range []string{"/etc/letsencrypt", "/etc/letsencrypt/live", "/etc/letsencrypt/archive", "/var/www/certbot"} {
			if _, err := p.docker("exec", user, web.ID, "touch", folder+"/hostile"); err == nil {
				p.t.Errorf("%s can write to %s/ (%s)", web.Name, folder, user)
			}
		}
		if certbots && user == "--user=0" {
			continue // certbot's account stays where it is, and root in the web container reads it: SECURITY.md
		}
		found, err := p.docker("exec", user, web.ID, "sh", "-c",
			`find / \( -path /proc -o -path /sys -o -path /dev \) -prune -o -type f -size -64k -exec grep -lF -e "$0" {} + 2>/dev/null; true`, secret)
		if err != nil || found != "" {
			p.t.Errorf("%s: looking for the account key (%s): %v; it is in %q", web.Name, user, err, found)
		}
	}
}

// accountKey is a part of the account's private key that stands in no other file, and whether certbot keeps it.
func (p *project) accountKey(daemon container) (secret string, certbots bool) {
	p.t.Helper()
	for _, kept := range []struct {
		source, file string
		part         *regexp.Regexp
	}{
		{daemon.source("/var/lib/sidecert"), "key.pem", regexp.MustCompile(`(?m)^([A-Za-z0-9+/]{40,})$`)},
		{daemon.source("/etc/letsencrypt"), "private_key.json", regexp.MustCompile(`"d": *"([^"]{40,})"`)},
	} {
		text, err := p.docker("run", "--rm", "--network=none", "--volume="+kept.source+":/v:ro", "nginx:1", "sh", "-c",
			`[ ! -d /v/accounts ] || find /v/accounts -name "$0" -exec cat {} +`, kept.file)
		if err != nil {
			p.t.Fatal(err)
		}
		if found := kept.part.FindStringSubmatch(text); found != nil {
			return found[1], kept.file == "private_key.json"
		}
	}
	p.t.Fatal("there is no account key")
	return "", false
}
