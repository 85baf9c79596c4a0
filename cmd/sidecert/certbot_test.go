package main

import (
	"bytes"
	"cmp"
	"encoding/json"
	"errors"
	"fmt"
	"io/fs"
	"maps"
	"math/rand/v2"
	"net"
	"net/http"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"slices"
	"strconv"
	"strings"
	"testing"
	"time"

	"github.com/sidecert/sidecert/internal/acmetest"
	"github.com/sidecert/sidecert/internal/cert"
	"github.com/sidecert/sidecert/internal/config"
)

// Three lineages of certbot's and one of ours in one CERT_DIR go through the hands of both in turn. After each step both must list the
// same, and it must be what the step was to bring about. SEED makes another choice of steps.
func TestTwentyRoundTripsWithCertbot(t *testing.T) {
	if _, err := exec.LookPath("certbot"); err != nil {
		give := t.Skipf
		if os.Getenv("CI") == "true" {
			give = t.Fatalf
		}
		give("certbot: %v", err)
	}
	t.Parallel() // certbot sleeps most of the time
	seed, err := strconv.ParseUint(cmp.Or(os.Getenv("SEED"), "1"), 10, 64)
	if err != nil {
		t.Fatal(err)
	}
	t.Logf("SEED=%d", seed)
	r := &roundTrips{T: t, random: rand.New(rand.NewPCG(seed, 0)), lineages: map[string]*wanted{}}
	r.start()
	r.settle()

	ours := r.deck(map[string]func(string, *wanted){"renew": r.weRenew, "names": r.weChangeNames, "key": r.weChangeKey, "revoke": r.weReplaceAndRevoke})
	theirs := r.deck(map[string]func(string, *wanted){
		"renew": r.certbotRenews, "names": r.certbotChangesNames, "key": r.certbotChangesKey, "revoke": r.certbotRevokes, "edit": r.personEdits,
	})
	for round := range rounds {
		r.step(fmt.Sprintf("round %d, ours", round), ours[round])
		r.step(fmt.Sprintf("round %d, certbot's", round), theirs[round])
	}
	r.deletions()
	if made := r.ca.Requests()["newAccount"]; made != 2 {
		t.Errorf("%d accounts were asked for, want 2: certbot's and ours", made)
	}
	t.Logf("%d certificates issued", r.ca.Issued())
}

const rounds = 20

// roundTrips is the world of the test.
type roundTrips struct {
	*testing.T
	random              *rand.Rand
	ca                  *acmetest.CA
	dir, certs, webroot string
	lineages            map[string]*wanted
	extra, edits        int
	// deployed is the file that the deploy hook of hookSite writes to, deploys how often it is to have run.
	deployed string
	deploys  int
}

// wanted is what a lineage is to be.
type wanted struct {
	// revoked says that certbot has revoked what is live.
	revoked bool
	names   []string
	key     cert.KeyType
	// serial is that of the version that both listed last.
	serial string
	// configured says that our environment names it, and keyed that it has a key type there. Otherwise it is adopted.
	configured, keyed bool
	// renewed says that the step under way is to bring a new version.
	renewed bool
	// notes stand in its conf, and neither program knows what they mean. Certbot drops the passing ones when it writes the conf.
	notes, passing []string
}

const (
	rsaSite  = "rsa.example.org"
	ecSite   = "ec.example.org"
	hookSite = "hooked.example.org"
	ourSite  = "ours.example.org"
)

func (r *roundTrips) start() {
	r.dir = r.TempDir()
	r.certs, r.webroot = filepath.Join(r.dir, "certs"), filepath.Join(r.dir, "webroot")
	for _, folder := range []string{r.certs, r.webroot, filepath.Join(r.dir, "state")} {
		r.check(os.Mkdir(folder, 0o755))
	}
	var err error
	r.ca, err = acmetest.Start(acmetest.Config{})
	r.check(err)
	r.Cleanup(func() { r.ca.Close() })
	r.check(os.WriteFile(filepath.Join(r.dir, "ca.pem"), []byte(r.ca.HTTPRoots), 0o644))
	listener, err := net.Listen("tcp", net.JoinHostPort("127.0.0.1", strconv.Itoa(r.ca.HTTPPort)))
	r.check(err)
	r.Cleanup(func() { listener.Close() })
	go http.Serve(listener, http.FileServer(http.Dir(r.webroot)))
}

// settle has both make what the rounds begin with. Ours is the first, so that both have an account of their own.
func (r *roundTrips) settle() {
	r.lineages[ourSite] = &wanted{names: []string{ourSite}, key: cert.EC256, configured: true, renewed: true}
	r.sidecert("renew")
	r.deployed = filepath.Join(r.dir, "deployed")
	r.issue(rsaSite, cert.RSA2048, "--agree-tos", "--register-unsafely-without-email")
	r.issue(ecSite, cert.EC256)
	r.issue(hookSite, cert.EC384, "--pre-hook", "true", "--post-hook", "true")
	r.note(hookSite)

	keys, err := filepath.Glob(filepath.Join(r.dir, "state", "accounts", "*", "key.pem"))
	if err != nil || len(keys) != 1 {
		r.Fatalf("keys of our accounts: %v (%v), want one", keys, err)
	}
	r.sidecert("account", "export", "--certbot", "--account", filepath.Base(filepath.Dir(keys[0])))
	r.judge("the beginning")
}

// issue has certbot make a lineage.
func (r *roundTrips) issue(name string, key cert.KeyType, more ...string) {
	w := &wanted{names: []string{name, "www." + name}, key: key}
	r.lineages[name] = w
	r.certonly(name, w, more...)
}

// deck is a hand of as many steps as there are rounds, each kind as often as the others, in random order.
func (r *roundTrips) deck(kinds map[string]func(string, *wanted)) (hand []func() string) {
	names := slices.Sorted(maps.Keys(kinds))
	for i := range rounds {
		kind := names[i%len(names)]
		hand = append(hand, func() string {
			lineage := slices.Sorted(maps.Keys(r.lineages))[r.random.IntN(len(r.lineages))]
			kinds[kind](lineage, r.lineages[lineage])
			return kind + " " + lineage
		})
	}
	r.random.Shuffle(len(hand), func(i, j int) { hand[i], hand[j] = hand[j], hand[i] })
	return hand
}

func (r *roundTrips) step(when string, do func() string) {
	r.Helper()
	what := do()
	r.Logf("%s: %s", when, what)
	r.judge(when + ": " + what)
}

func (r *roundTrips) weRenew(name string, _ *wanted) {
	r.expectNew(name)
	r.sidecert("renew", "--force", name)
}

func (r *roundTrips) weChangeNames(name string, w *wanted) {
	r.changeNames(w)
	w.configured = true
	r.expectNew(name)
	r.sidecert("renew", name)
}

// weChangeKey by force: after three orders for the same names within an hour our guard of the CA's limits would hold this one.
func (r *roundTrips) weChangeKey(name string, w *wanted) {
	r.changeKey(w)
	w.configured, w.keyed = true, true
	r.expectNew(name)
	r.sidecert("renew", "--force", name)
}

// weReplaceAndRevoke is a day later for our guard of the CA's limits, which holds a successor too.
func (r *roundTrips) weReplaceAndRevoke(name string, _ *wanted) {
	r.expectNew(name)
	if err := os.Remove(filepath.Join(r.dir, "state", "guard.json")); err != nil && !errors.Is(err, fs.ErrNotExist) {
		r.Fatal(err)
	}
	r.sidecert("revoke", name, "--reason", "superseded")
}

func (r *roundTrips) certbotRenews(name string, w *wanted) {
	w.passing = nil
	r.expectNew(name)
	r.certbot("renew", "--force-renewal", "--no-random-sleep-on-renew", "--cert-name", name)
}

// certbotChangesNames also takes the lineage out of our environment, as a person would who wants certbot's names to stay; or names
// the same ones there, since what we made is not adopted.
func (r *roundTrips) certbotChangesNames(name string, w *wanted) {
	r.changeNames(w)
	w.configured, w.keyed = name == ourSite, false
	r.certonly(name, w, append(r.accountOf(name), "--renew-with-new-domains")...)
}

func (r *roundTrips) certbotChangesKey(name string, w *wanted) {
	r.changeKey(w)
	w.keyed = false
	r.certonly(name, w, append(r.accountOf(name), "--force-renewal")...)
}

// certonly repeats all that certbot would forget otherwise.
func (r *roundTrips) certonly(name string, w *wanted, more ...string) {
	key := map[cert.KeyType][]string{
		cert.RSA2048: {"--key-type", "rsa", "--rsa-key-size", "2048"}, cert.RSA3072: {"--key-type", "rsa", "--rsa-key-size", "3072"},
		cert.EC256: {"--key-type", "ecdsa", "--elliptic-curve", "secp256r1"}, cert.EC384: {"--key-type", "ecdsa", "--elliptic-curve", "secp384r1"},
	}[w.key]
	args := append([]string{"certonly", "--server", r.ca.Directory, "--webroot", "--webroot-path", r.webroot, "--cert-name", name, "--domains", strings.Join(w.names, ",")}, key...)
	if name == hookSite {
		args = append(args, "--deploy-hook", `echo "$RENEWED_LINEAGE" >>`+r.deployed)
	}
	r.expectNew(name)
	r.certbot(append(args, more...)...)
	w.passing = nil
}

// certbotRevokes renews what certbot has revoked already: of a second revocation certbot dies.
func (r *roundTrips) certbotRevokes(name string, w *wanted) {
	if w.revoked {
		r.certbotRenews(name, w)
		return
	}
	w.revoked = true
	args := []string{"revoke", "--no-delete-after-revoke", "--reason", "superseded", "--cert-name", name}
	r.certbot(append(args, r.accountOf(name)...)...)
}

func (r *roundTrips) personEdits(name string, _ *wanted) { r.note(name) }

// expectNew says that the step under way is to bring a new version.
func (r *roundTrips) expectNew(name string) {
	r.lineages[name].renewed, r.lineages[name].revoked = true, false
	if name == hookSite {
		r.deploys++
	}
}

// changeNames adds a name that was never there, or takes the oldest such one away: no set of names comes so often that our guard
// of the CA's limits holds it.
func (r *roundTrips) changeNames(w *wanted) {
	if len(w.names) > 2 && r.random.IntN(2) == 0 {
		w.names = slices.Delete(slices.Clone(w.names), 1, 2)
		return
	}
	r.extra++
	w.names = append(slices.Clone(w.names), fmt.Sprintf("n%d.example.org", r.extra))
}

func (r *roundTrips) changeKey(w *wanted) {
	others := slices.DeleteFunc([]cert.KeyType{cert.EC256, cert.EC384, cert.RSA2048, cert.RSA3072}, func(k cert.KeyType) bool { return k == w.key })
	w.key = others[r.random.IntN(len(others))]
}

// note writes comments and keys into a conf that mean nothing to anybody. Certbot itself keeps neither keys that it does not know in
// [renewalparams] nor comments at the top of the file.
func (r *roundTrips) note(name string) {
	r.edits++
	w, text := r.lineages[name], r.conf(name)
	before := func(key string, notes ...string) []string {
		at := regexp.MustCompile(`(?m)^` + key + ` = `).FindStringIndex(text)
		if at == nil {
			r.Fatalf("the conf of %s has no %s:\n%s", name, key, text)
		}
		text = text[:at[0]] + strings.Join(notes, "\n") + "\n" + text[at[0]:]
		return notes
	}
	w.notes = append(w.notes, before("cert", fmt.Sprintf("# who asks: phone %d", r.edits), fmt.Sprintf("note_%d = of a person", r.edits))...)
	w.notes = append(w.notes, before("server", fmt.Sprintf("# since ticket %d", r.edits))...)
	w.passing = append(w.passing, before("account", fmt.Sprintf("ticket_%d = open, # not for long", r.edits))...)
	r.check(os.WriteFile(r.confPath(name), []byte(text), 0o644))
}

func (r *roundTrips) deletions() {
	r.certbot("delete", "--cert-name", ecSite)
	delete(r.lineages, ecSite)
	r.judge("certbot deletes " + ecSite)
	delete(r.lineages, rsaSite) // out of our environment first
	r.sidecert("delete", rsaSite, "--yes")
	r.judge("we delete " + rsaSite)
}

// judge compares what both list with each other and with what is wanted.
func (r *roundTrips) judge(step string) {
	r.Helper()
	ours, theirs := r.listed(), r.certbots()
	if !maps.Equal(ours, theirs) {
		r.Errorf("%s: certbot lists\n%s\nand we\n%s", step, listings(theirs), listings(ours))
	}
	if got, want := slices.Sorted(maps.Keys(ours)), slices.Sorted(maps.Keys(r.lineages)); !slices.Equal(got, want) {
		r.Errorf("%s: lineages %v, want %v", step, got, want)
	}
	for name, w := range r.lineages {
		if w.revoked && !w.renewed && ours[name].serial != w.serial {
			r.expectNew(name) // the CA suggests to replace what certbot has revoked, and we heed it when we ask next
		}
		if problem := w.compare(ours[name]); problem != "" {
			r.Errorf("%s: %s %s", step, name, problem)
		}
		for _, note := range slices.Concat(w.notes, w.passing) {
			if !strings.Contains(r.conf(name), note+"\n") {
				r.Errorf("%s: %q was lost from the conf of %s:\n%s", step, note, name, r.conf(name))
			}
		}
		w.serial, w.renewed = ours[name].serial, false
	}
	r.checkFolders(step)
	r.checkDeploys(step)
	if r.Failed() {
		r.Fatalf("%s: the rest is not tried", step)
	}
}

func (w *wanted) compare(got row) string {
	switch {
	case got.names != sortedNames(w.names):
		return fmt.Sprintf("has the names %s, want %s", got.names, sortedNames(w.names))
	case got.key != w.key:
		return fmt.Sprintf("has a key %s, want %s", got.key, w.key)
	case w.renewed && got.serial == w.serial:
		return "was not renewed"
	case !w.renewed && got.serial != w.serial:
		return fmt.Sprintf("was renewed unasked: serial %s, want %s", got.serial, w.serial)
	}
	return ""
}

// checkFolders finds lineages that nobody lists.
func (r *roundTrips) checkFolders(step string) {
	for folder, suffix := range map[string]string{"live": "", "archive": "", "renewal": ".conf"} {
		entries, err := os.ReadDir(filepath.Join(r.certs, folder))
		r.check(err)
		for _, e := range entries {
			name := strings.TrimSuffix(e.Name(), suffix)
			if _, known := r.lineages[name]; !known && !(folder == "live" && name == "README") {
				r.Errorf("%s: %s/%s belongs to no lineage", step, folder, e.Name())
			}
		}
	}
}

func (r *roundTrips) checkDeploys(step string) {
	data, err := os.ReadFile(r.deployed)
	r.check(err)
	want := strings.Repeat(filepath.Join(r.certs, "live", hookSite)+"\n", r.deploys)
	if string(data) != want {
		r.Errorf("%s: the deploy hook wrote\n%swant\n%s", step, data, want)
	}
}

// row is a lineage as both list it.
type row struct {
	names, serial, path string
	key                 cert.KeyType
	notAfter            int64
}

func listings(rows map[string]row) string {
	var b strings.Builder
	for _, name := range slices.Sorted(maps.Keys(rows)) {
		fmt.Fprintf(&b, "%s %+v\n", name, rows[name])
	}
	return b.String()
}

func sortedNames(names []string) string {
	return strings.Join(slices.Sorted(slices.Values(names)), " ")
}

func (r *roundTrips) listed() map[string]row {
	var all []listed
	r.check(json.Unmarshal([]byte(r.sidecert("certificates", "--json")), &all))
	rows := map[string]row{}
	for _, l := range all {
		rows[l.Name] = row{sortedNames(l.Names), l.Serial, filepath.Join(l.Path, "fullchain.pem"), cert.KeyType(l.KeyType), l.NotAfter.Unix()}
	}
	return rows
}

var certbotsRow = regexp.MustCompile(`Certificate Name: (\S+)
    Serial Number: (\S+)
    Key Type: (\S+)
    Domains: (.+)
    Expiry Date: (\S+ \S+) .*
    Certificate Path: (\S+)
    Private Key Path: (\S+)
`)

// certbots is what `certbot certificates` lists. The size of a key, which it does not say, is looked up in the file that it names.
func (r *roundTrips) certbots() map[string]row {
	out := r.certbot("certificates")
	rows := map[string]row{}
	for _, m := range certbotsRow.FindAllStringSubmatch(out+"\n", -1) {
		expiry, err := time.Parse("2006-01-02 15:04:05-07:00", m[5])
		r.check(err)
		data, err := os.ReadFile(m[6])
		r.check(err)
		chain, err := cert.ParseChain(data)
		r.check(err)
		key := cert.KeyTypeOf(chain[0].PublicKey)
		if algorithm := map[string]string{"RSA": "rsa-", "ECDSA": "ec-"}[m[3]]; !strings.HasPrefix(string(key), cmp.Or(algorithm, "?")) {
			r.Errorf("certbot says that the key of %s is %s, and it is %s", m[1], m[3], key)
		}
		rows[m[1]] = row{sortedNames(strings.Fields(m[4])), m[2], m[6], key, expiry.Unix()}
	}
	if len(rows) != strings.Count(out, "Certificate Name:") || strings.Contains(out, "invalid") {
		r.Errorf("certbot's list was not understood:\n%s", out)
	}
	return rows
}

func (r *roundTrips) certbot(args ...string) string {
	r.Helper()
	cmd := exec.CommandContext(r.Context(), "certbot", append(args, "--non-interactive",
		"--config-dir", r.certs, "--work-dir", filepath.Join(r.dir, "work"), "--logs-dir", filepath.Join(r.dir, "logs"))...)
	cmd.Env = append(os.Environ(), "REQUESTS_CA_BUNDLE="+filepath.Join(r.dir, "ca.pem"))
	var stdout, stderr bytes.Buffer
	cmd.Stdout, cmd.Stderr = &stdout, &stderr
	if err := cmd.Run(); err != nil {
		log, _ := os.ReadFile(filepath.Join(r.dir, "logs", "letsencrypt.log"))
		r.Fatalf("certbot %s: %v\n%s%s%s", strings.Join(args, " "), err, stdout.String(), stderr.String(), log[max(0, len(log)-6000):])
	}
	return stdout.String()
}

// sidecert runs a command of ours as it runs without a daemon.
func (r *roundTrips) sidecert(args ...string) string {
	r.Helper()
	var stdout, stderr bytes.Buffer
	in := &invocation{args: args, environ: r.environ(), stdin: strings.NewReader(""), stdout: &stdout, stderr: &stderr, world: config.HostWorld(), now: time.Now}
	if status := run(r.Context(), in); status != exitDone {
		r.Fatalf("sidecert %s: exit status %d\n%s%s", strings.Join(args, " "), status, stdout.String(), stderr.String())
	}
	return stdout.String()
}

// environ has no CA: certbot's lineages bring theirs. Nor an engine: nobody serves what is made here.
func (r *roundTrips) environ() []string {
	environ := []string{
		"PATH=" + os.Getenv("PATH"), "CERT_DIR=" + r.certs, "STATE_DIR=" + filepath.Join(r.dir, "state"), "WEBROOT=" + r.webroot,
		"ACME_CA_BUNDLE=" + filepath.Join(r.dir, "ca.pem"), "RELOAD=off", "PREFLIGHT=off", "DOCKER_HOST=unix://" + filepath.Join(r.dir, "no.sock"), "LISTEN=off",
	}
	i := 0
	for _, name := range slices.Sorted(maps.Keys(r.lineages)) {
		w := r.lineages[name]
		if !w.configured {
			continue
		}
		prefix := fmt.Sprintf("CERT_%d_", i)
		environ = append(environ, prefix+"NAME="+name, prefix+"DOMAINS="+strings.Join(w.names, ","))
		if w.keyed {
			environ = append(environ, prefix+"KEY_TYPE="+string(w.key))
		}
		if name == ourSite {
			environ = append(environ, prefix+"ACME_CA="+r.ca.Directory)
		}
		i++
	}
	return environ
}

func (r *roundTrips) confPath(name string) string {
	return filepath.Join(r.certs, "renewal", name+".conf")
}

func (r *roundTrips) conf(name string) string {
	data, err := os.ReadFile(r.confPath(name))
	r.check(err)
	return string(data)
}

var accountLine = regexp.MustCompile(`(?m)^account = (\S+)$`)

// accountOf is for commands of certbot that ask which of two accounts is meant.
func (r *roundTrips) accountOf(name string) []string {
	m := accountLine.FindStringSubmatch(r.conf(name))
	if m == nil {
		r.Fatalf("the conf of %s names no account:\n%s", name, r.conf(name))
	}
	return []string{"--account", m[1]}
}

func (r *roundTrips) check(err error) {
	r.Helper()
	if err != nil {
		r.Fatal(err)
	}
}
