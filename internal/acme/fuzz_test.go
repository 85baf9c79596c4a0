package acme

import (
	"bytes"
	"context"
	"crypto/x509"
	"io"
	"log/slog"
	"net/http"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"
	"unicode"

	xacme "golang.org/x/crypto/acme"

	"github.com/sidecert/sidecert/internal/cert"
	"github.com/sidecert/sidecert/internal/cert/certtest"
)

// canned is a CA that gives every GET and every POST an answer of its own.
type canned struct {
	directory, body []byte
	status          int
	header          http.Header
}

func (c *canned) RoundTrip(req *http.Request) (*http.Response, error) {
	closeBody(req)
	resp := &http.Response{StatusCode: http.StatusOK, Header: http.Header{}, Proto: "HTTP/1.1", ProtoMajor: 1, ProtoMinor: 1, Request: req, Body: http.NoBody}
	switch req.Method {
	case http.MethodHead:
		resp.Header.Set(nonceHeader, "nonce")
	case http.MethodGet:
		resp.Body = io.NopCloser(bytes.NewReader(c.directory))
	default:
		resp.StatusCode = c.status
		resp.Body = io.NopCloser(bytes.NewReader(c.body))
		if c.header != nil {
			resp.Header = c.header.Clone()
		}
	}
	return resp, nil
}

const plainDirectory = `{"newNonce":"https://ca.test/n","newAccount":"https://ca.test/a","newOrder":"https://ca.test/o"}`

// cannedClient is signed in.
func cannedClient(t testing.TB, ca *canned) *client {
	t.Helper()
	ca.directory = []byte(plainDirectory)
	c, err := discoverAt(ca)
	if err != nil {
		t.Fatal(err)
	}
	c.use(cert.Account{Key: newTestKey(), URI: "https://ca.test/account/1"})
	return c
}

func discoverAt(ca *canned) (*client, error) {
	i := New(Config{Transport: ca, Log: slog.New(slog.DiscardHandler), UserAgent: "sidecert-test"})
	i.pace = func(time.Duration) time.Duration { return 1 }
	a, err := i.authority(cert.CA{Directory: "https://ca.test/directory"})
	if err != nil {
		return nil, err
	}
	return i.discover(context.Background(), a)
}

// readable fails unless an error is nil or fit for people, as every failure is.
func readable(t *testing.T, err error) {
	t.Helper()
	if err == nil {
		return
	}
	e := failed(t, err)
	for _, text := range []string{err.Error(), e.Hint, e.Name} {
		if len(text) > longestHint || strings.ContainsFunc(text, func(r rune) bool { return !unicode.IsPrint(r) }) {
			t.Errorf("a text that nobody can read: %q", text)
		}
	}
	if wait := time.Until(e.NotBefore); wait > maxRetryAfter {
		t.Errorf("to be tried again in %s", wait)
	}
}

// maxSeed keeps what is tried from being long for its own sake: the limit in bytes is the transport's, and tried elsewhere.
const maxSeed = 4 << 10

// addAll has each text as a seed, and the garbage that every kind of answer can be.
func addAll(f *testing.F, seeds ...string) {
	for _, seed := range append(seeds, garbage()...) {
		f.Add([]byte(seed[:min(len(seed), maxSeed)]))
	}
}

// FuzzDirectory: a directory that is taken has what an account needs, and its profiles and terms are shown as readable text.
func FuzzDirectory(f *testing.F) {
	addAll(f, plainDirectory, `{"newNonce":"https://ca.test/n","newAccount":"https://ca.test/a","newOrder":"o","renewalInfo":"https://ca.test/r","meta":{"termsOfService":"\u001b[31m","profiles":{"a\nb":"x"},"caaIdentities":["x"],"externalAccountRequired":true}}`,
		`{"newNonce":"http://ca.test/n","newAccount":"file:///a","newOrder":7}`, `{"meta":{"profiles":[]}}`)
	f.Fuzz(func(t *testing.T, body []byte) {
		c, err := discoverAt(&canned{directory: body})
		readable(t, err)
		if err != nil {
			return
		}
		if c.dir.NonceURL == "" || c.dir.RegURL == "" || c.dir.OrderURL == "" {
			t.Errorf("a directory with the URLs %q, %q, %q was taken", c.dir.NonceURL, c.dir.RegURL, c.dir.OrderURL)
		}
		readable(t, c.checkProfile(cert.Spec{Name: "example.test", Profile: "none of theirs"}))
		_, err = c.registration()
		readable(t, err)
	})
}

// FuzzOrder: an order asks for a bounded number of authorizations, and both ways to read one agree.
func FuzzOrder(f *testing.F) {
	addAll(f, `{"status":"pending","expires":"2026-11-22T00:00:00Z","authorizations":["https://ca.test/z/1"],"finalize":"https://ca.test/f/1"}`,
		`{"status":"valid","certificate":"https://ca.test/c"}`, `{"status":"\u001b[31m","error":{"type":"urn:ietf:params:acme:error:caa","detail":"\r\n","subproblems":[{"identifier":{"value":"\u0000"}}]}}`,
		`{"authorizations":["x"`+strings.Repeat(`,"x"`, 300)+`]}`, `{"status":"valid","STATUS":"invalid"}`)
	ca := &canned{status: http.StatusOK}
	c := cannedClient(f, ca)
	f.Fuzz(func(t *testing.T, body []byte) {
		ca.body = body
		ours, err := readOrder(&http.Response{Body: io.NopCloser(bytes.NewReader(body))}, "https://ca.test/o/1")
		if err != nil {
			readable(t, c.failure("order", "example.test", err))
		} else if len(ours.AuthzURLs) > maxAuthorizations {
			t.Errorf("an order with %d authorizations was taken", len(ours.AuthzURLs))
		}
		theirs, theirErr := c.getOrder(t.Context(), "https://ca.test/o/1")
		if theirErr != nil {
			readable(t, c.failure("order", "example.test", theirErr))
			return
		}
		if err == nil && (ours.Status != theirs.Status || ours.FinalizeURL != theirs.FinalizeURL || ours.CertURL != theirs.CertURL) {
			t.Errorf("read as %+v and as %+v", ours, theirs)
		}
		readable(t, alive(c.endedOrder(&work{spec: cert.Spec{Name: "example.test"}, order: theirs})))
	})
}

// FuzzAuthorization: whatever is decided of it is readable, and its token is refused or becomes a file in the challenges' folder.
func FuzzAuthorization(f *testing.F) {
	addAll(f, `{"status":"pending","identifier":{"type":"dns","value":"example.test"},"challenges":[{"type":"http-01","url":"https://ca.test/ch/1","token":"aaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaa","status":"pending"}]}`,
		`{"status":"invalid","identifier":{"type":"dns","value":"\u001b]0;x"},"challenges":[{"type":"http-01","status":"invalid","error":{"type":"x","detail":"\u202e","status":400}}]}`,
		`{"status":"pending","wildcard":true,"identifier":{"type":"dns","value":"example.test"},"challenges":[null,{},{"type":"http-01","token":"../../x"}]}`,
		`{"status":"expired","identifier":{"type":"ip","value":"::ffff:127.0.0.1"}}`)
	ca := &canned{status: http.StatusOK}
	c := cannedClient(f, ca)
	parent := f.TempDir()
	f.Fuzz(func(t *testing.T, body []byte) {
		ca.body = body
		a, err := c.getAuthorization(t.Context(), "https://ca.test/z/1")
		if err != nil {
			readable(t, c.undecided("example.test", err).err)
			return
		}
		if name := nameOf(a); name != strings.ToLower(name) {
			t.Errorf("a name in capitals: %q", name)
		}
		readable(t, c.decided("example.test", a).err)
		if ch := http01(a); ch != nil {
			presentAndWithdraw(t, c, parent, ch.Token)
		}
	})
}

// FuzzChallengeToken: a token is refused, or one file of its name appears in the challenges' folder and goes again.
func FuzzChallengeToken(f *testing.F) {
	for _, token := range hostileTokens() {
		f.Add(token[:min(len(token), 1000)])
	}
	f.Add("aaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaa")
	c := cannedClient(f, &canned{})
	parent := f.TempDir()
	f.Fuzz(func(t *testing.T, token string) { presentAndWithdraw(t, c, parent, token) })
}

func presentAndWithdraw(t *testing.T, c *client, parent, token string) {
	t.Helper()
	folder := filepath.Join(parent, "webroot")
	if err := c.present(folder, token); err == nil {
		if !tokenForm.MatchString(token) {
			t.Errorf("token %q was taken", token)
		}
		if got := filesBelow(t, parent); len(got) != 1 || got[0] != filepath.Join(folder, challengePath, token) {
			t.Errorf("token %q made %q", token, got)
		}
	} else if len(clean(err.Error(), maxWords)) > maxWords {
		t.Errorf("error of %d bytes", len(err.Error()))
	}
	c.withdraw(folder, token)
	if got := filesBelow(t, parent); len(got) != 0 {
		t.Errorf("token %q left %q behind", token, got)
	}
}

func filesBelow(t *testing.T, folder string) (files []string) {
	t.Helper()
	err := filepath.WalkDir(folder, func(path string, entry os.DirEntry, err error) error {
		if err == nil && !entry.IsDir() {
			files = append(files, path)
		}
		return err
	})
	if err != nil {
		t.Fatal(err)
	}
	return files
}

// FuzzProblem: an error answer becomes one readable failure, whatever it is the answer to.
func FuzzProblem(f *testing.F) {
	for _, text := range hostileTexts {
		for _, kind := range []string{"rateLimited", "caa", "userActionRequired", "unauthorized", "\x1b"} {
			f.Add(403, mustJSON(map[string]any{"type": "urn:ietf:params:acme:error:" + kind, "detail": text[:min(len(text), 2000)], "instance": "https://ca.test/" + kind}), "60", "order")
		}
	}
	for n, body := range garbage() {
		f.Add(400+n, []byte(body[:min(len(body), maxSeed)]), "-1", []string{"directory", "account", "authorization", "finalize", "download", "revoke"}[n%6])
	}
	c := cannedClient(f, &canned{})
	f.Fuzz(func(t *testing.T, status int, body []byte, retryAfter, op string) {
		resp := &http.Response{StatusCode: status, Header: http.Header{"Retry-After": {retryAfter}}, Body: io.NopCloser(bytes.NewReader(body))}
		switch op {
		case "directory", "account", "order", "authorization", "finalize", "download", "revoke":
		default:
			op = "order"
		}
		err := problemOf(resp)
		if isLost(err) {
			t.Errorf("an answer is taken for none: %v", err)
		}
		readable(t, c.failure(op, "example.test", err))
		isGone(err)
		refusesReplaces(err)
	})
}

// FuzzCertificate: a chain is refused, or its leaf is for the key and the names and each certificate is signed by the next.
func FuzzCertificate(f *testing.F) {
	authority, now := certtest.New(), time.Now()
	right := authority.Issue(now.Add(-time.Hour), 90*24*time.Hour, "example.test")
	other := authority.Issue(now.Add(-time.Hour), 90*24*time.Hour, "example.test", "evil.test")
	text := cert.EncodeChain(right.Chain)
	addAll(f, string(text), string(cert.EncodeChain(right.Chain[:1])), string(cert.EncodeChain(other.Chain)), string(bytes.Repeat(text, 20)),
		strings.ReplaceAll(string(text), "\n", "\r\n"), "-----BEGIN PRIVATE KEY-----\nAAAA\n-----END PRIVATE KEY-----\n"+string(text), string(right.Chain[0].Raw))
	ca := &canned{status: http.StatusOK}
	c := cannedClient(f, ca)
	f.Fuzz(func(t *testing.T, body []byte) {
		ca.body = body
		spec := cert.Spec{Name: "example.test", Names: []string{"example.test"}}
		w := &work{spec: spec, keys: keys{key: right.Key}, order: &xacme.Order{CertURL: "https://ca.test/c/1"}}
		bundle, err := c.download(t.Context(), w)
		if err != nil {
			readable(t, alive(err))
			return
		}
		leaf := bundle.Chain[0]
		if !cert.Fits(right.Key, leaf) || !cert.SameNames(cert.NamesOf(leaf), spec.Names) || len(bundle.Chain) < 2 || len(bundle.Chain) > cert.MaxChain {
			t.Errorf("taken: %d certificates, the first for %q", len(bundle.Chain), cert.NamesOf(leaf))
		}
		roots := x509.NewCertPool()
		roots.AddCert(authority.Intermediate)
		if _, err := leaf.Verify(x509.VerifyOptions{Roots: roots}); err != nil {
			t.Errorf("taken, and yet: %v", err)
		}
	})
}

// FuzzRetryAfter: a wait is none, or ends between now and in 7 days.
func FuzzRetryAfter(f *testing.F) {
	for _, value := range retryAfters {
		f.Add(value, int64(0))
	}
	f.Add("Sat, 01 Jan 2000 00:00:00 GMT", int64(946684799))
	f.Fuzz(func(t *testing.T, value string, unix int64) {
		now := time.Unix(unix%(1<<40), 0)
		at := retryAfter(http.Header{"Retry-After": {value}}, now)
		if !at.IsZero() && (at.Before(now) || at.After(now.Add(maxRetryAfter))) {
			t.Errorf("Retry-After %q at %s means %s", value, now, at)
		}
	})
}

// FuzzRenewalInfo: a suggestion is refused, or its window has a length and its explanation is a short readable link.
func FuzzRenewalInfo(f *testing.F) {
	addAll(f, `{"suggestedWindow":{"start":"2026-11-01T00:00:00Z","end":"2026-11-02T00:00:00Z"},"explanationURL":"https://ca.test/why"}`,
		`{"suggestedWindow":{"start":"2026-11-02T00:00:00Z","end":"2026-11-02T00:00:00Z"}}`, `{"suggestedWindow":{"start":"9999-12-31T23:59:59+23:59","end":"0001-01-01T00:00:00Z"}}`,
		`{"suggestedWindow":{"start":"2026-11-01T00:00:00Z","end":"9999-11-02T00:00:00Z"},"explanationURL":"https://ca.test/\u001b[31m"}`, `{"suggestedWindow":null}`)
	f.Fuzz(func(t *testing.T, body []byte) {
		start, end, explanation, err := readWindow(body)
		if err != nil {
			if text := clean(err.Error(), maxWords); len(text) > maxWords {
				t.Errorf("error of %d bytes", len(text))
			}
			return
		}
		if start.IsZero() || !start.Before(end) {
			t.Errorf("a window from %s to %s was taken", start, end)
		}
		if len(explanation) > maxWords || strings.ContainsFunc(explanation, func(r rune) bool { return !unicode.IsPrint(r) }) {
			t.Errorf("explanation %q", explanation)
		}
	})
}
