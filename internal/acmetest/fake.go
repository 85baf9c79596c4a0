package acmetest

import (
	"bytes"
	"crypto/x509"
	"errors"
	"fmt"
	"io"
	"maps"
	"net/http"
	"slices"
	"strings"
	"sync"
	"time"

	"github.com/sidecert/sidecert/internal/cert"
	"github.com/sidecert/sidecert/internal/cert/certtest"
)

// FakeConfig of a Fake. Its zero value is a friendly CA without profiles and without renewalInfo. The functions are called without a
// lock: they may sleep, and call the Fake.
type FakeConfig struct {
	// Now is the CA's clock; nil is time.Now.
	Now func() time.Time
	// Life of certificates from notBefore to notAfter; 0 is 90 days.
	Life time.Duration
	// Backdate is how long before its issuance a certificate is valid; 0 is an hour, and never more than a tenth of Life.
	Backdate time.Duration
	// Validate stands for the CA's fetch of a challenge: an error makes it invalid. A *Problem is told as it is, the text of any
	// other error as a problem of type connection. Nil finds every challenge answered.
	Validate func(name, token, keyAuthorization string) error
	// Window is the suggested renewal window of a certificate, RFC 9773 §4.2. Where it is nil, the directory has no renewalInfo and
	// an order with "replaces" is refused.
	Window func(leaf *x509.Certificate) (start, end time.Time)
	// RetryAfter is the header of renewalInfo answers; empty is "21600", six hours.
	RetryAfter string
	// Profiles are those of the directory, with their descriptions.
	Profiles map[string]string
	// Before may answer in the CA's place, which then hears nothing of the request; nil leaves it to the CA. See ReturnError.
	Before func(*http.Request) *http.Response
	// After changes an answer, or loses it by an error, when the CA has done its work.
	After func(*http.Request, *http.Response) (*http.Response, error)
}

const (
	fakeHost = "https://ca.fake.example"
	// fakePending is how long orders and authorizations are open; Let's Encrypt's value.
	fakePending = 7 * 24 * time.Hour
)

// Fake is a whole ACME CA in memory (RFC 8555, RFC 9773) behind http.RoundTripper: no network, no goroutine, no waiting, so that it
// works in a synctest bubble. It checks every request as a strict CA does. It decides at once: a challenge is valid or invalid when
// its answer comes, an order valid when finalize answers. All Fakes of a process have one root.
type Fake struct {
	config FakeConfig

	mu sync.Mutex
	// last numbers everything that gets a URL, over Forget too.
	last     int
	nonces   map[string]bool
	accounts map[string]*fakeAccount // by kid
	orders   map[string]*fakeOrder   // by ID, as the rest
	authzs   map[string]*fakeAuthz
	certs    map[string]*fakeCert
	// byCertID are the certificates as RFC 9773 §4.1 names them.
	byCertID map[string]*fakeCert
	counts   FakeCounts
}

// FakeCounts is what has happened at a Fake since it was made.
type FakeCounts struct {
	// Requests are all that came, those answered by Before too; Accounts are those registered, the forgotten ones too.
	Requests, Accounts int
	// Orders in the order they were made; Serial is empty as long as no certificate came of one.
	Orders, Certificates []FakeIssue
	// FailedValidations are the times of them by name.
	FailedValidations map[string][]time.Time
	// Revoked are the serials of revoked certificates with the reason's code, RFC 5280 §5.3.1.
	Revoked map[string]int
}

// FakeIssue is an order or a certificate.
type FakeIssue struct {
	// Names are sorted.
	Names []string
	At    time.Time
	// Serial is in lower-case hex.
	Serial string
	// Replaces is the order's field of RFC 9773 §5.
	Replaces string
}

// fakeRoot is made once: keys are what costs time.
var fakeRoot = sync.OnceValue(func() *certtest.CA { return certtest.New() })

// fakeChain is what follows the leaf.
var fakeChain = sync.OnceValue(func() []byte {
	return cert.EncodeChain([]*x509.Certificate{fakeRoot().Intermediate})
})

// NewFake makes a CA that nobody knows yet.
func NewFake(config FakeConfig) *Fake {
	if config.Now == nil {
		config.Now = time.Now
	}
	if config.Life == 0 {
		config.Life = 90 * 24 * time.Hour
	}
	if config.Backdate == 0 {
		config.Backdate = time.Hour
	}
	config.Backdate = min(config.Backdate, config.Life/10)
	if config.RetryAfter == "" {
		config.RetryAfter = "21600"
	}
	f := &Fake{config: config, counts: FakeCounts{FailedValidations: map[string][]time.Time{}, Revoked: map[string]int{}}}
	f.Forget()
	return f
}

// Directory is the URL that a client starts from.
func (f *Fake) Directory() string { return fakeHost + "/directory" }

// Roots are what the certificates lead to.
func (f *Fake) Roots() []*x509.Certificate { return []*x509.Certificate{fakeRoot().Root} }

// Counts is a copy.
func (f *Fake) Counts() FakeCounts {
	f.mu.Lock()
	defer f.mu.Unlock()
	counts := f.counts
	counts.Orders, counts.Certificates = slices.Clone(counts.Orders), slices.Clone(counts.Certificates)
	counts.Revoked = maps.Clone(counts.Revoked)
	counts.FailedValidations = map[string][]time.Time{}
	for name, times := range f.counts.FailedValidations {
		counts.FailedValidations[name] = slices.Clone(times)
	}
	return counts
}

// Forget loses the database: accounts, orders, authorizations and certificates are unknown from now on, and so are nonces. Counts
// and the root stay.
func (f *Fake) Forget() {
	f.mu.Lock()
	defer f.mu.Unlock()
	f.nonces = map[string]bool{}
	f.accounts = map[string]*fakeAccount{}
	f.orders = map[string]*fakeOrder{}
	f.authzs = map[string]*fakeAuthz{}
	f.certs = map[string]*fakeCert{}
	f.byCertID = map[string]*fakeCert{}
}

// FakeKind is what a request to a Fake is for, as the directory and RFC 8555 §7.1 name it: directory, newNonce, newAccount, account,
// newOrder, order, authorization, challenge, finalize, certificate, renewalInfo, revokeCert.
func FakeKind(r *http.Request) string {
	kind, _, _ := strings.Cut(strings.TrimPrefix(r.URL.Path, "/"), "/")
	return kind
}

// RoundTrip answers one request; at another host there is nobody.
func (f *Fake) RoundTrip(req *http.Request) (*http.Response, error) {
	if err := req.Context().Err(); err != nil {
		closeBody(req)
		return nil, err
	}
	body, err := readBody(req)
	if err != nil {
		return nil, err
	}
	if req.URL.Scheme+"://"+req.URL.Host != fakeHost {
		return nil, fmt.Errorf("nobody answers at %.100q", req.URL.Host)
	}
	f.mu.Lock()
	f.counts.Requests++
	f.mu.Unlock()

	seen := req.Clone(req.Context())
	resp := f.before(seen, body)
	if resp == nil {
		resp = f.answer(req, body)
	}
	if lost, ok := resp.Body.(lostAnswer); ok {
		return nil, lost.err
	}
	resp.Request = req
	if f.config.After == nil {
		return resp, nil
	}
	seen.Body = io.NopCloser(bytes.NewReader(body))
	resp, err = f.config.After(seen, resp)
	if err != nil {
		return nil, err
	}
	if resp.Request == nil {
		resp.Request = req
	}
	return resp, nil
}

func (f *Fake) before(seen *http.Request, body []byte) *http.Response {
	if f.config.Before == nil {
		return nil
	}
	seen.Body = io.NopCloser(bytes.NewReader(body))
	return f.config.Before(seen)
}

// answer is the CA's own. It has a nonce whenever it is one to a POST: "The server MUST include a Replay-Nonce header field in every
// successful response to a POST request and SHOULD provide it in error responses as well." RFC 8555 §6.5
func (f *Fake) answer(req *http.Request, body []byte) *http.Response {
	resp, err := f.serve(req, body)
	if err != nil {
		problem, ok := errors.AsType[*Problem](err)
		if !ok {
			problem = &Problem{Status: http.StatusInternalServerError, Type: "serverInternal", Detail: err.Error()}
		}
		resp = problem.response()
	}
	resp.Header.Set("Date", f.config.Now().UTC().Format(http.TimeFormat))
	resp.Header.Add("Link", `<`+f.Directory()+`>;rel="index"`)
	if req.Method == http.MethodPost || FakeKind(req) == "newNonce" {
		resp.Header.Set("Replay-Nonce", f.newNonce())
		resp.Header.Set("Cache-Control", "no-store")
	}
	return resp
}

// serve routes a request. Only the directory, nonces and renewalInfo are there for the asking.
func (f *Fake) serve(req *http.Request, body []byte) (*http.Response, error) {
	if req.Header.Get("User-Agent") == "" {
		return nil, malformed("a client must send User-Agent, RFC 8555 §6.1")
	}
	kind := FakeKind(req)
	_, id, _ := strings.Cut(strings.TrimPrefix(req.URL.Path, "/"), "/")
	if req.Method == http.MethodPost {
		return f.post(kind, id, req, body)
	}
	switch {
	case kind == "newNonce" && req.Method == http.MethodHead:
		return response(http.StatusOK, "", nil), nil
	case kind == "newNonce" && req.Method == http.MethodGet:
		return response(http.StatusNoContent, "", nil), nil
	case kind == "directory" && req.Method == http.MethodGet:
		return object(http.StatusOK, f.directory()), nil
	case kind == "renewalInfo" && req.Method == http.MethodGet:
		return f.renewalInfo(id)
	}
	return nil, &Problem{Status: http.StatusMethodNotAllowed, Type: "malformed", Detail: req.Method + " is not for " + req.URL.Path}
}

// post serves what needs a signature.
func (f *Fake) post(kind, id string, req *http.Request, body []byte) (*http.Response, error) {
	s, err := f.verify(kind, req, body)
	if err != nil {
		return nil, err
	}
	if kind == "challenge" {
		return f.challenge(s, id)
	}
	f.mu.Lock()
	defer f.mu.Unlock()
	switch kind {
	case "newAccount":
		return f.newAccount(s)
	case "account":
		return f.account(s)
	case "newOrder":
		return f.newOrder(s)
	case "order":
		return f.order(s, id)
	case "authorization":
		return f.authorization(s, id)
	case "finalize":
		return f.finalize(s, id)
	case "certificate":
		return f.certificate(s, id)
	case "revokeCert":
		return f.revokeCert(s)
	}
	return nil, notFound(req.URL.Path)
}

func (f *Fake) directory() map[string]any {
	meta := map[string]any{"termsOfService": fakeHost + "/terms", "website": fakeHost, "caaIdentities": []string{"ca.fake.example"}}
	if len(f.config.Profiles) > 0 {
		meta["profiles"] = f.config.Profiles
	}
	directory := map[string]any{"meta": meta}
	for _, kind := range []string{"newNonce", "newAccount", "newOrder", "revokeCert"} {
		directory[kind] = fakeHost + "/" + kind
	}
	if f.config.Window != nil {
		directory["renewalInfo"] = fakeHost + "/renewalInfo"
	}
	return directory
}

func (f *Fake) newNonce() string {
	f.mu.Lock()
	defer f.mu.Unlock()
	nonce := "nonce-" + f.number()
	f.nonces[nonce] = true
	return nonce
}

// number is the next ID. f.mu is held.
func (f *Fake) number() string {
	f.last++
	return fmt.Sprintf("%06d", f.last)
}

func readBody(req *http.Request) ([]byte, error) {
	if req.Body == nil {
		return nil, nil
	}
	defer req.Body.Close()
	return io.ReadAll(req.Body)
}

func closeBody(req *http.Request) {
	if req.Body != nil {
		req.Body.Close()
	}
}
