package acmetest

import (
	"bytes"
	"context"
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/sha256"
	"crypto/x509"
	"encoding/base64"
	"encoding/json"
	"errors"
	"io"
	"net/http"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"golang.org/x/crypto/acme"
)

// subscriber is x/crypto/acme's client with an account.
func subscriber(t testing.TB, f *Fake) *acme.Client {
	t.Helper()
	key := newKey(t)
	client := &acme.Client{Key: key, DirectoryURL: f.Directory(), HTTPClient: &http.Client{Transport: f},
		RetryBackoff: func(int, *http.Request, *http.Response) time.Duration { return 0 }}
	if _, err := client.Register(t.Context(), &acme.Account{Contact: []string{"mailto:admin@sidecert.test"}}, acme.AcceptTOS); err != nil {
		t.Fatal(err)
	}
	return client
}

func newKey(t testing.TB) *ecdsa.PrivateKey {
	t.Helper()
	key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		t.Fatal(err)
	}
	return key
}

// validated is an order whose challenges are answered.
func validated(t testing.TB, client *acme.Client, names ...string) *acme.Order {
	t.Helper()
	order, err := client.AuthorizeOrder(t.Context(), acme.DomainIDs(names...))
	if err != nil {
		t.Fatal(err)
	}
	for _, url := range order.AuthzURLs {
		authz, err := client.GetAuthorization(t.Context(), url)
		if err != nil {
			t.Fatal(err)
		}
		if _, err := client.Accept(t.Context(), authz.Challenges[0]); err != nil {
			t.Fatal(err)
		}
	}
	return order
}

func issue(t testing.TB, client *acme.Client, order *acme.Order, names ...string) ([]*x509.Certificate, error) {
	t.Helper()
	csr, err := x509.CreateCertificateRequest(rand.Reader, &x509.CertificateRequest{DNSNames: names}, newKey(t))
	if err != nil {
		t.Fatal(err)
	}
	ders, _, err := client.CreateOrderCert(t.Context(), order.FinalizeURL, csr, true)
	var chain []*x509.Certificate
	for _, der := range ders {
		one, err := x509.ParseCertificate(der)
		if err != nil {
			t.Fatal(err)
		}
		chain = append(chain, one)
	}
	return chain, err
}

func obtain(t testing.TB, client *acme.Client, names ...string) []*x509.Certificate {
	t.Helper()
	chain, err := issue(t, client, validated(t, client, names...), names...)
	if err != nil {
		t.Fatal(err)
	}
	return chain
}

func TestFakeIssuesInABubble(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		f := NewFake(FakeConfig{Life: 47 * 24 * time.Hour})
		chain := obtain(t, subscriber(t, f), "www.example.test", "example.test")
		leaf := chain[0]
		roots, between := x509.NewCertPool(), x509.NewCertPool()
		roots.AddCert(f.Roots()[0])
		between.AddCert(chain[1])
		if _, err := leaf.Verify(x509.VerifyOptions{DNSName: "example.test", Roots: roots, Intermediates: between, CurrentTime: time.Now()}); err != nil {
			t.Error(err)
		}
		if life := leaf.NotAfter.Sub(leaf.NotBefore); life != 47*24*time.Hour || !leaf.NotBefore.Equal(time.Now().Add(-time.Hour)) {
			t.Errorf("from %s for %s, want an hour ago and 47 days", leaf.NotBefore, life)
		}
		counts := f.Counts()
		if counts.Accounts != 1 || len(counts.Orders) != 1 || len(counts.Certificates) != 1 || counts.Orders[0].Serial != Serial(leaf) {
			t.Errorf("counts %+v, want one of each", counts)
		}
	})
}

func TestFakeBackdatesShortLivesLess(t *testing.T) {
	now := time.Date(2026, 11, 1, 12, 0, 0, 0, time.UTC)
	f := NewFake(FakeConfig{Life: time.Hour, Now: func() time.Time { return now }})
	leaf := obtain(t, subscriber(t, f), "example.test")[0]
	if got := now.Sub(leaf.NotBefore); got != 6*time.Minute {
		t.Errorf("backdated by %s, want 6m0s", got)
	}
}

func TestFakeTellsWhyAValidationFailed(t *testing.T) {
	rows := map[string]struct {
		err  error
		want string
	}{
		"plain":   {errors.New("nobody listens"), "urn:ietf:params:acme:error:connection"},
		"problem": {&Problem{Type: "caa", Detail: "forbidden"}, "urn:ietf:params:acme:error:caa"},
	}
	for name, row := range rows {
		t.Run(name, func(t *testing.T) {
			f := NewFake(FakeConfig{Validate: func(string, string, string) error { return row.err }})
			client := subscriber(t, f)
			order := validated(t, client, "bad.test")
			authz, err := client.GetAuthorization(t.Context(), order.AuthzURLs[0])
			if err != nil {
				t.Fatal(err)
			}
			problem, _ := errors.AsType[*acme.Error](authz.Challenges[0].Error)
			if authz.Status != "invalid" || problem == nil || problem.ProblemType != row.want {
				t.Errorf("authorization %+v with %v, want invalid with %s", authz, problem, row.want)
			}
			if again, err := client.GetOrder(t.Context(), order.URI); err != nil || again.Status != "invalid" {
				t.Errorf("order %+v (%v), want it invalid", again, err)
			}
			if n := len(f.Counts().FailedValidations["bad.test"]); n != 1 {
				t.Errorf("%d failed validations, want 1", n)
			}
		})
	}
}

func TestFakeValidatesWhatTheClientShouldServe(t *testing.T) {
	var got string
	f := NewFake(FakeConfig{Validate: func(name, token, keyAuthorization string) error {
		got = keyAuthorization
		return nil
	}})
	client := subscriber(t, f)
	order, err := client.AuthorizeOrder(t.Context(), acme.DomainIDs("example.test"))
	if err != nil {
		t.Fatal(err)
	}
	authz, err := client.GetAuthorization(t.Context(), order.AuthzURLs[0])
	if err != nil {
		t.Fatal(err)
	}
	if _, err := client.Accept(t.Context(), authz.Challenges[0]); err != nil {
		t.Fatal(err)
	}
	want, err := client.HTTP01ChallengeResponse(authz.Challenges[0].Token)
	if err != nil || got != want {
		t.Errorf("key authorization %q, want %q (%v)", got, want, err)
	}
}

func TestFakeForgetsItsAccounts(t *testing.T) {
	f := NewFake(FakeConfig{})
	client := subscriber(t, f)
	f.Forget()
	_, err := client.AuthorizeOrder(t.Context(), acme.DomainIDs("example.test"))
	if problem, ok := errors.AsType[*acme.Error](err); !ok || !strings.HasSuffix(problem.ProblemType, ":badNonce") {
		t.Fatalf("%v, want badNonce: nonces are forgotten too", err)
	}
	_, err = client.AuthorizeOrder(t.Context(), acme.DomainIDs("example.test"))
	if problem, ok := errors.AsType[*acme.Error](err); !ok || !strings.HasSuffix(problem.ProblemType, ":accountDoesNotExist") {
		t.Errorf("%v, want accountDoesNotExist", err)
	}
}

func TestFakeSuggestsAWindowAndReplacesOnce(t *testing.T) {
	start := time.Date(2026, 11, 1, 0, 0, 0, 0, time.UTC)
	f := NewFake(FakeConfig{Window: func(*x509.Certificate) (time.Time, time.Time) { return start, start.Add(time.Hour) }})
	client := subscriber(t, f)
	leaf := obtain(t, client, "example.test")[0]
	resp := send(t, f, http.MethodGet, fakeHost+"/renewalInfo/"+CertID(leaf), "", nil)
	body, _ := io.ReadAll(resp.Body)
	want := `{"suggestedWindow":{"end":"2026-11-01T01:00:00Z","start":"2026-11-01T00:00:00Z"}}`
	if string(body) != want || resp.Header.Get("Retry-After") != "21600" {
		t.Errorf("%s with Retry-After %q, want %s and 21600", body, resp.Header.Get("Retry-After"), want)
	}
	for _, want := range []int{http.StatusCreated, http.StatusConflict} {
		order := map[string]any{"identifiers": []any{map[string]string{"type": "dns", "value": "example.test"}}, "replaces": CertID(leaf)}
		if resp := post(t, f, client, "/newOrder", order); resp.StatusCode != want {
			t.Errorf("status %d, want %d", resp.StatusCode, want)
		}
	}
}

func TestFakeRevokesByTheAccount(t *testing.T) {
	f := NewFake(FakeConfig{})
	client := subscriber(t, f)
	leaf := obtain(t, client, "example.test")[0]
	stranger := subscriber(t, f)
	if err := stranger.RevokeCert(t.Context(), nil, leaf.Raw, acme.CRLReasonSuperseded); err == nil {
		t.Error("another account revoked it")
	}
	if err := client.RevokeCert(t.Context(), nil, leaf.Raw, acme.CRLReasonSuperseded); err != nil {
		t.Fatal(err)
	}
	if got := f.Counts().Revoked; len(got) != 1 || got[Serial(leaf)] != 4 {
		t.Errorf("revoked %v, want %s for reason 4", got, Serial(leaf))
	}
}

func TestFakeRefusesWhatAStrictCARefuses(t *testing.T) {
	f := NewFake(FakeConfig{})
	client := subscriber(t, f)
	url := fakeHost + "/newOrder"
	order := map[string]any{"identifiers": []any{map[string]string{"type": "dns", "value": "example.test"}}}
	head := func() map[string]any {
		return map[string]any{"alg": "ES256", "kid": string(client.KID), "nonce": f.newNonce(), "url": url}
	}
	used := head()
	send(t, f, http.MethodPost, url, "application/jose+json", jwsOf(t, client, used, order))
	with := func(name string, value any) map[string]any {
		h := head()
		h[name] = value
		return h
	}
	broken := jwsOf(t, client, head(), order)
	broken = bytes.Replace(broken, []byte(`"signature":"`), []byte(`"signature":"AAAA`), 1)
	forged := jwsOf(t, &acme.Client{Key: newKey(t)}, head(), order)
	rows := map[string]struct {
		contentType string
		body        []byte
		status      int
		want        string
	}{
		"good":                  {"application/jose+json", jwsOf(t, client, head(), order), 201, ""},
		"content type":          {"application/json", jwsOf(t, client, head(), order), 415, "malformed"},
		"used nonce":            {"application/jose+json", jwsOf(t, client, used, order), 400, "badNonce"},
		"no nonce":              {"application/jose+json", jwsOf(t, client, with("nonce", ""), order), 400, "badNonce"},
		"other url":             {"application/jose+json", jwsOf(t, client, with("url", fakeHost+"/newAccount"), order), 403, "unauthorized"},
		"unknown kid":           {"application/jose+json", jwsOf(t, client, with("kid", fakeHost+"/account/9"), order), 400, "accountDoesNotExist"},
		"no algorithm":          {"application/jose+json", jwsOf(t, client, with("alg", "none"), order), 400, "badSignatureAlgorithm"},
		"long signature":        {"application/jose+json", broken, 400, "malformed"},
		"another key":           {"application/jose+json", forged, 400, "malformed"},
		"no JWS":                {"application/jose+json", []byte("{}"), 400, "malformed"},
		"unknown field":         {"application/jose+json", jwsOf(t, client, head(), map[string]string{"resource": "new-order"}), 400, "malformed"},
		"replaces without info": {"application/jose+json", jwsOf(t, client, head(), map[string]any{"identifiers": order["identifiers"], "replaces": "a.b"}), 400, "malformed"},
		"wildcard": {"application/jose+json", jwsOf(t, client, head(), map[string]any{"identifiers": []any{
			map[string]string{"type": "dns", "value": "*.example.test"}}}), 400, "rejectedIdentifier"},
	}
	for name, row := range rows {
		t.Run(name, func(t *testing.T) {
			resp := send(t, f, http.MethodPost, url, row.contentType, row.body)
			var problem struct{ Type, Detail string }
			if err := json.NewDecoder(resp.Body).Decode(&problem); err != nil {
				t.Fatal(err)
			}
			if kind := strings.TrimPrefix(problem.Type, "urn:ietf:params:acme:error:"); resp.StatusCode != row.status || kind != row.want {
				t.Errorf("%d %q (%s), want %d %q", resp.StatusCode, kind, problem.Detail, row.status, row.want)
			}
			if resp.Header.Get("Replay-Nonce") == "" {
				t.Error("the answer has no nonce")
			}
		})
	}
	if resp := send(t, f, http.MethodGet, fakeHost+"/newOrder", "", nil); resp.StatusCode != http.StatusMethodNotAllowed {
		t.Errorf("GET of newOrder gave %d, want 405", resp.StatusCode)
	}
}

func TestFakeIssuesOnlyWhatWasOrderedAndValidated(t *testing.T) {
	f := NewFake(FakeConfig{})
	client := subscriber(t, f)
	open, err := client.AuthorizeOrder(t.Context(), acme.DomainIDs("example.test"))
	if err != nil {
		t.Fatal(err)
	}
	if _, err := issue(t, client, open, "example.test"); err == nil {
		t.Error("an order that was not validated was finalized")
	}
	if _, err := issue(t, client, validated(t, client, "example.test"), "example.test", "other.test"); err == nil {
		t.Error("a name that was not ordered is in a certificate")
	}
	stranger := subscriber(t, f)
	if _, err := issue(t, stranger, validated(t, client, "example.test"), "example.test"); err == nil {
		t.Error("another account finalized the order")
	}
	if n := len(f.Counts().Certificates); n != 0 {
		t.Errorf("%d certificates, want none", n)
	}
}

func TestFakeAnswersAreChangedAndLost(t *testing.T) {
	lost := errors.New("lost")
	var before, after error
	f := NewFake(FakeConfig{
		Before: func(r *http.Request) *http.Response {
			if before != nil && FakeKind(r) == "newOrder" {
				return ReturnError(before)
			}
			return nil
		},
		After: func(r *http.Request, resp *http.Response) (*http.Response, error) {
			if FakeKind(r) == "newOrder" {
				return resp, after
			}
			return resp, nil
		},
	})
	client := subscriber(t, f)
	for _, before = range []error{lost, &Problem{Status: 429, Type: "rateLimited", Detail: "later", RetryAfter: "60"}} {
		_, err := client.AuthorizeOrder(t.Context(), acme.DomainIDs("example.test"))
		if problem, ok := errors.AsType[*acme.Error](err); err == nil || ok && problem.Header.Get("Retry-After") != "60" {
			t.Errorf("Before returned %v, the client got %v", before, err)
		}
	}
	if n := len(f.Counts().Orders); n != 0 {
		t.Errorf("%d orders, want none: the CA heard nothing", n)
	}
	before, after = nil, lost
	if _, err := client.AuthorizeOrder(t.Context(), acme.DomainIDs("example.test")); !errors.Is(err, lost) {
		t.Errorf("%v, want %v", err, lost)
	}
	if n := len(f.Counts().Orders); n != 1 {
		t.Errorf("%d orders, want 1: the CA has done its work", n)
	}
}

// post signs for an account.
func post(t testing.TB, f *Fake, client *acme.Client, path string, payload any) *http.Response {
	t.Helper()
	head := map[string]any{"alg": "ES256", "kid": string(client.KID), "nonce": f.newNonce(), "url": fakeHost + path}
	return send(t, f, http.MethodPost, fakeHost+path, "application/jose+json", jwsOf(t, client, head, payload))
}

func jwsOf(t testing.TB, client *acme.Client, head, payload any) []byte {
	t.Helper()
	encode := func(v any) string {
		data, err := json.Marshal(v)
		if err != nil {
			t.Fatal(err)
		}
		return base64.RawURLEncoding.EncodeToString(data)
	}
	protected, said := encode(head), encode(payload)
	signature := signES256(t, client.Key.(*ecdsa.PrivateKey), protected+"."+said)
	data, err := json.Marshal(map[string]string{"protected": protected, "payload": said, "signature": base64.RawURLEncoding.EncodeToString(signature)})
	if err != nil {
		t.Fatal(err)
	}
	return data
}

// signES256 is RFC 7518 §3.4.
func signES256(t testing.TB, key *ecdsa.PrivateKey, message string) []byte {
	t.Helper()
	digest := sha256.Sum256([]byte(message))
	r, s, err := ecdsa.Sign(rand.Reader, key, digest[:])
	if err != nil {
		t.Fatal(err)
	}
	signature := make([]byte, 64)
	r.FillBytes(signature[:32])
	s.FillBytes(signature[32:])
	return signature
}

func send(t testing.TB, f *Fake, method, url, contentType string, body []byte) *http.Response {
	t.Helper()
	req, err := http.NewRequestWithContext(context.Background(), method, url, bytes.NewReader(body))
	if err != nil {
		t.Fatal(err)
	}
	req.Header.Set("Content-Type", contentType)
	req.Header.Set("User-Agent", "test")
	resp, err := f.RoundTrip(req)
	if err != nil {
		t.Fatal(err)
	}
	return resp
}

func BenchmarkFakeIssuance(b *testing.B) {
	f := NewFake(FakeConfig{})
	client := subscriber(b, f)
	for b.Loop() {
		obtain(b, client, "example.test")
	}
	if n := len(f.Counts().Certificates); n != b.N {
		b.Fatalf("%d certificates, want %d", n, b.N)
	}
}
