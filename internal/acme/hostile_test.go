package acme

import (
	"context"
	"crypto"
	"crypto/x509"
	"errors"
	"fmt"
	"io/fs"
	"log/slog"
	"maps"
	"math/rand/v2"
	"net"
	"net/http"
	"os"
	"path/filepath"
	"runtime"
	"runtime/debug"
	"slices"
	"strconv"
	"strings"
	"sync"
	"testing"
	"testing/synctest"
	"time"
	"unicode"

	"github.com/sidecert/sidecert/internal/acmetest"
	"github.com/sidecert/sidecert/internal/cert"
)

const (
	// mostRequests is for an attempt at which the CA comes to a decision within longWait, mostPolls for one at which it says "pending" and
	// "processing" until our patience is over.
	mostRequests = 60
	longWait     = time.Minute
	mostPolls    = 250
	// requestsOfAuthorization is for each that the CA asks for beyond those of the names.
	requestsOfAuthorization = 4
	// longestAttempt is the attempt's own limit, what is given back after it, and the look from here.
	longestAttempt = attemptLimit + deactivationLimit + explainLimit
	// longestError and longestHint are in bytes.
	longestError = 2 << 10
	longestHint  = 3 << 10
)

// A conversation is an attempt at a certificate from a CA whose answers are tampered with, and another when the CA is well again.
// CONVERSATIONS is how many there are and SEED what they are; a failure names the one that failed: SEED=1 CONVERSATION=4711 repeats
// that alone.
func TestHostileAnswersNeverLeadToAWrongCertificateNorPreventARightOne(t *testing.T) {
	seed, first, last := environ(t, "SEED", 1), 0, environ(t, "CONVERSATIONS", defaultConversations())
	if one := environ(t, "CONVERSATION", -1); one >= 0 {
		first, last = one, one+1
	}
	sum := &summary{kinds: map[cert.Kind]int{}, tricks: map[string]int{}}
	t.Run("conversations", func(t *testing.T) {
		for worker := range runtime.GOMAXPROCS(0) {
			t.Run(strconv.Itoa(worker), func(t *testing.T) {
				t.Parallel()
				folder := memoryFolder(t)
				for n := first + worker; n < last; n += runtime.GOMAXPROCS(0) {
					talk(t, sum, uint64(seed), n, folder)
				}
			})
		}
	})
	t.Logf("seed %d: %s", seed, sum)
	if first+1 < last && (sum.certificates == 0 || len(sum.tricks) < len(tricks)) {
		t.Errorf("%d certificates and %d of %d tricks: this tries too little", sum.certificates, len(sum.tricks), len(tricks))
	}
}

func environ(t *testing.T, name string, otherwise int) int {
	t.Helper()
	text := os.Getenv(name)
	if text == "" {
		return otherwise
	}
	n, err := strconv.Atoi(text)
	if err != nil {
		t.Fatalf("%s: %v", name, err)
	}
	return n
}

// defaultConversations keeps a run under a minute.
func defaultConversations() int {
	if testing.Short() {
		return 500
	}
	if info, ok := debug.ReadBuildInfo(); ok && slices.Contains(info.Settings, debug.BuildSetting{Key: "-race", Value: "true"}) {
		return 2_000
	}
	return 10_000
}

// memoryFolder is a folder for a webroot, in memory where the machine has such.
func memoryFolder(t *testing.T) string {
	t.Helper()
	folder, err := os.MkdirTemp("/dev/shm", "sidecert")
	if err != nil {
		return t.TempDir()
	}
	t.Cleanup(func() { os.RemoveAll(folder) })
	return folder
}

// summary of many conversations.
type summary struct {
	mu                                sync.Mutex
	conversations, certificates, kept int
	kinds                             map[cert.Kind]int
	tricks                            map[string]int
	requests, polls, wrong            int
	elapsed                           time.Duration
	read                              int64
}

func (s *summary) String() string {
	var kinds []string
	for _, kind := range slices.Sorted(maps.Keys(s.kinds)) {
		kinds = append(kinds, fmt.Sprintf("%d %s", s.kinds[kind], orWord(string(kind), "passing")))
	}
	return fmt.Sprintf("%d conversations, %d certificates in spite of it all, errors: %s; %d orders kept over the trouble; at most %d requests (%d where the CA takes over a minute), %s of virtual time, %d bytes read of an answer; wrong = %d",
		s.conversations, s.certificates, strings.Join(kinds, ", "), s.kept, s.requests, s.polls, s.elapsed, s.read, s.wrong)
}

func orWord(word, otherwise string) string {
	if word == "" {
		return otherwise
	}
	return word
}

// conversation has one CA, one webroot and the stores of one sidecert.
type conversation struct {
	seed     uint64
	n        int
	rand     *rand.Rand
	parent   string
	webroot  string
	fake     *acmetest.Fake
	meddler  *meddler
	accounts *memory
	issuer   *Issuer
	req      cert.Request
	kept     *saved
	faults   []string
}

func talk(t *testing.T, sum *summary, seed uint64, n int, parent string) {
	t.Helper()
	c := &conversation{seed: seed, n: n, rand: rand.New(rand.NewPCG(seed, uint64(n))), parent: parent,
		webroot: filepath.Join(parent, "webroot"), accounts: &memory{}, kept: &saved{}}
	synctest.Test(t, func(t *testing.T) {
		defer func() {
			if p := recover(); p != nil {
				c.wrong("panic: %v\n%s", p, debug.Stack())
			}
		}()
		if err := os.RemoveAll(c.webroot); err != nil {
			t.Fatal(err)
		}
		c.begin()
		c.hostile(sum)
		c.well()
	})
	if len(c.faults) > 0 {
		t.Errorf("SEED=%d CONVERSATION=%d (%s):\n\t%s", seed, n, c.meddler, strings.Join(c.faults, "\n\t"))
	}
	sum.mu.Lock()
	defer sum.mu.Unlock()
	sum.conversations++
	sum.wrong += len(c.faults)
	sum.read = max(sum.read, c.meddler.mostRead)
	for _, p := range c.meddler.picks {
		sum.tricks[p.trick.name]++
	}
}

func (c *conversation) wrong(format string, args ...any) {
	c.faults = append(c.faults, fmt.Sprintf(format, args...))
}

func (c *conversation) begin() {
	c.fake = acmetest.NewFake(acmetest.FakeConfig{Validate: c.fetch})
	names := []string{"example.test", "www.example.test", "shop.example.test"}[:1+max(0, c.rand.IntN(8)-5)]
	c.meddler = newMeddler(c, len(names) > 1)
	c.start()
	spec := cert.Spec{Name: names[0], Names: names, Webroot: c.webroot, CA: cert.CA{Directory: c.fake.Directory(), AgreeTOS: true, Email: "admin@sidecert.test"}}
	if c.rand.IntN(4) == 0 {
		spec.PreferredChain = "another root"
	}
	c.req = cert.Request{Spec: spec, Save: c.kept.save}
}

// start is a new process with the same stores.
func (c *conversation) start() {
	c.issuer = c.newIssuer(c.accounts, c.meddler)
}

func (c *conversation) newIssuer(accounts Accounts, transport http.RoundTripper) *Issuer {
	i := New(Config{Accounts: accounts, Transport: transport, Log: slog.New(slog.DiscardHandler), UserAgent: "sidecert-test"})
	i.dial = func(context.Context, string, string) (net.Conn, error) { return nil, errors.New("no network") }
	i.resolver.servers = []string{}
	return i
}

// fetch is the CA's view of the webroot, as a web server gives it.
func (c *conversation) fetch(name, token, keyAuthorization string) error {
	got, err := os.ReadFile(filepath.Join(c.webroot, challengePath, token))
	if err != nil {
		return &acmetest.Problem{Type: "unauthorized", Detail: "404 for " + name}
	}
	if string(got) != keyAuthorization {
		return &acmetest.Problem{Type: "unauthorized", Detail: "something else at " + name}
	}
	return nil
}

// hostile is the attempt that is tampered with.
func (c *conversation) hostile(sum *summary) {
	begun := time.Now()
	bundle, err := c.issuer.Obtain(context.Background(), c.req)
	elapsed, requests := time.Since(begun), c.meddler.count()
	if elapsed > longestAttempt {
		c.wrong("it took %s", elapsed)
	}
	most := mostRequests + requestsOfAuthorization*c.meddler.more
	if elapsed > longWait {
		most = mostPolls
	}
	if requests > most {
		c.wrong("%d requests, want at most %d", requests, most)
	}
	c.checkFiles(err == nil || c.kept.order == nil)
	if err == nil {
		c.checkBundle(bundle)
	} else {
		c.checkError(err)
	}
	sum.mu.Lock()
	defer sum.mu.Unlock()
	sum.elapsed = max(sum.elapsed, elapsed)
	if elapsed <= longWait && c.meddler.more == 0 {
		sum.requests = max(sum.requests, requests)
	} else {
		sum.polls = max(sum.polls, requests)
	}
	if err == nil {
		sum.certificates++
		return
	}
	if e, ok := err.(*cert.Error); ok {
		sum.kinds[e.Kind]++
	}
	if c.kept.order != nil && c.kept.order.URL != "" {
		sum.kept++
	}
}

// well is the next attempt, when nothing stands between us and the CA any more. An order that the CA still has is gone on with.
func (c *conversation) well() {
	c.meddler.stop()
	before := c.fake.Counts()
	lives := c.kept.order != nil && !isDead(c.fake.OrderStatus(c.kept.order.URL)) && !slices.Contains(c.meddler.strangers, c.kept.order.URL)
	key := c.accountKey()
	time.Sleep(time.Minute)
	if order := c.kept.order; order != nil && order.URL != "" && !strings.HasPrefix(order.URL, "https://ca.fake.example/") {
		time.Sleep(orderLife) // nobody will ever answer there
	}
	if c.rand.IntN(2) == 0 {
		c.start()
	}
	c.req.Order = c.kept.order
	bundle, err := c.issuer.Obtain(context.Background(), c.req)
	if err != nil {
		c.wrong("the CA is well, and yet: %v", err)
		return
	}
	c.checkBundle(bundle)
	if key != nil && !sameKey(key.Public(), c.accountKey().Public()) {
		c.wrong("the account's key was replaced")
	}
	if after := c.fake.Counts(); lives && len(after.Orders) != len(before.Orders) {
		c.wrong("%d orders after %d, although the CA still had the one that was saved", len(after.Orders), len(before.Orders))
	}
	// One order may have been dropped because of what was said of it, and one more have lapsed: each in words of the CA.
	if n := len(c.fake.Counts().Certificates) - len(c.meddler.strangers); n > 3 || n > 1 && !slices.Contains(c.kept.history, "-") && !c.meddler.lapsed() {
		c.wrong("%d certificates; orders saved as %q", n, c.kept.history)
	}
}

// accountKey is nil as long as there is none.
func (c *conversation) accountKey() crypto.Signer {
	account, err := c.accounts.Account(c.req.Spec.CA)
	if err != nil {
		return nil
	}
	return account.Key
}

// checkFiles sees that nothing is outside of the challenges' folder, and nothing in it either when the attempt ended for good.
func (c *conversation) checkFiles(ended bool) {
	err := filepath.WalkDir(c.parent, func(path string, entry fs.DirEntry, err error) error {
		if err != nil || entry.IsDir() {
			return err
		}
		if filepath.Dir(path) != filepath.Join(c.webroot, challengePath) {
			c.wrong("a file at %s", path)
		} else if ended {
			c.wrong("a challenge file was left behind: %s", entry.Name())
		}
		return nil
	})
	if err != nil {
		c.wrong("look at the files: %v", err)
	}
}

// checkBundle does not lean on cert.Bundle's own check.
func (c *conversation) checkBundle(bundle cert.Bundle) {
	leaf, now := bundle.Chain[0], time.Now()
	if !sameKey(bundle.Key.Public(), leaf.PublicKey) {
		c.wrong("the certificate is for another key")
	}
	if got := slices.Sorted(slices.Values(leaf.DNSNames)); !slices.Equal(got, slices.Sorted(slices.Values(c.req.Spec.Names))) || len(leaf.IPAddresses) > 0 {
		c.wrong("the certificate is for %q", got)
	}
	options := x509.VerifyOptions{Roots: x509.NewCertPool(), Intermediates: x509.NewCertPool(), CurrentTime: now}
	options.Roots.AddCert(c.fake.Roots()[0])
	for _, one := range bundle.Chain[1:] {
		options.Intermediates.AddCert(one)
	}
	if _, err := leaf.Verify(options); err != nil || leaf.IsCA {
		c.wrong("the certificate does not verify: %v", err)
	}
	serial := acmetest.Serial(leaf)
	if !slices.ContainsFunc(c.fake.Counts().Certificates, func(issued acmetest.FakeIssue) bool { return issued.Serial == serial }) {
		c.wrong("the CA issued no certificate %s", serial)
	}
}

func (c *conversation) checkError(err error) {
	e, ok := err.(*cert.Error)
	if !ok {
		c.wrong("the error is a %T: %v", err, err)
		return
	}
	c.checkText("error", err.Error(), longestError)
	c.checkText("hint", e.Hint, longestHint)
	if e.Kind == cert.KindInterrupted {
		c.wrong("nobody interrupted it: %v", err)
	}
	if latest := time.Now().Add(maxRetryAfter); e.NotBefore.After(latest) {
		c.wrong("to be tried again at %s", e.NotBefore)
	}
	for _, name := range e.Failed {
		if !slices.Contains(c.req.Spec.Names, name) {
			c.wrong("the validation of %q is said to have failed", name)
		}
	}
}

func (c *conversation) checkText(what, text string, most int) {
	if len(text) > most {
		c.wrong("%s of %d bytes: %.200q", what, len(text), text)
	}
	if strings.ContainsFunc(text, func(r rune) bool { return !unicode.IsPrint(r) }) {
		c.wrong("%s with what cannot be printed: %q", what, text)
	}
}
