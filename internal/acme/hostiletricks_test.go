package acme

import (
	"bytes"
	"compress/gzip"
	"context"
	"crypto/ecdsa"
	"crypto/elliptic"
	cryptorand "crypto/rand"
	"crypto/rsa"
	"crypto/x509"
	"crypto/x509/pkix"
	"encoding/json"
	"encoding/pem"
	"errors"
	"fmt"
	"io"
	"maps"
	"math/big"
	"math/rand/v2"
	"net/http"
	"slices"
	"strings"
	"sync"
	"time"

	"github.com/sidecert/sidecert/internal/acmetest"
	"github.com/sidecert/sidecert/internal/cert"
)

// meddler stands between an issuer and its CA and plays tricks on some answers.
type meddler struct {
	conversation *conversation
	picks        []*pick

	mu       sync.Mutex
	stopped  bool
	requests int
	// strangers are orders of other accounts.
	strangers []string
	// mostRead is what was read of one answer.
	mostRead int64
	// more is how many authorizations were added to orders.
	more int
	// dies says that the CA was made to say neither that something is open nor that it is well.
	dies bool
}

// pick is a trick for some answers of a kind.
type pick struct {
	kind        string
	skip, times int
	trick       trick
}

// forever is how often a trick is played on every answer of a kind.
const forever = 1 << 30

func (m *meddler) String() string {
	var picks []string
	for _, p := range m.picks {
		picks = append(picks, fmt.Sprintf("%s of %s", p.trick.name, p.kind))
	}
	return strings.Join(picks, ", ")
}

// kindsOfAnswers are those of a whole conversation, see acmetest.FakeKind.
var kindsOfAnswers = []string{"directory", "newNonce", "newAccount", "newOrder", "order", "authorization", "challenge", "finalize", "certificate"}

func newMeddler(c *conversation, parallel bool) *meddler {
	m := &meddler{conversation: c}
	for range 1 + c.rand.IntN(3) {
		t := tricks[c.rand.IntN(len(tricks))]
		kinds := t.kinds
		if kinds == nil {
			kinds = kindsOfAnswers
		}
		p := &pick{kind: kinds[c.rand.IntN(len(kinds))], skip: max(0, c.rand.IntN(4)-2), times: []int{1, 1, 3, forever}[c.rand.IntN(4)], trick: t}
		// The library asks for nonces one after the other, holding a mutex: in a bubble, whoever waits for that stops the time.
		if p.kind == "newNonce" && parallel && t.slow {
			p.kind = "newAccount"
		}
		m.picks = append(m.picks, p)
	}
	return m
}

func (m *meddler) add(authorizations int) {
	m.mu.Lock()
	defer m.mu.Unlock()
	m.more += authorizations
}

func (m *meddler) stop() {
	m.mu.Lock()
	defer m.mu.Unlock()
	m.stopped = true
}

func (m *meddler) count() int {
	m.mu.Lock()
	defer m.mu.Unlock()
	return m.requests
}

// lapsed reports whether the CA was made to say that an order or authorization had come to nothing.
func (m *meddler) lapsed() bool {
	m.mu.Lock()
	defer m.mu.Unlock()
	return m.dies
}

// answered is an answer that is tampered with.
type answered struct {
	*meddler
	rand *rand.Rand
	req  *http.Request
	resp *http.Response
	body []byte
	// stream is in place of body.
	stream io.Reader
	err    error
}

func (m *meddler) RoundTrip(req *http.Request) (*http.Response, error) {
	p, dice := m.next(req)
	if p == nil {
		return m.conversation.fake.RoundTrip(req)
	}
	a := &answered{meddler: m, rand: dice, req: req}
	if p.trick.before {
		closeBody(req)
		a.resp = &http.Response{StatusCode: http.StatusOK, Header: http.Header{}, Proto: "HTTP/1.1", ProtoMajor: 1, ProtoMinor: 1, Request: req}
	} else if err := a.hear(); err != nil {
		return nil, err
	}
	p.trick.play(a)
	a.notice()
	if a.err != nil {
		return nil, a.err
	}
	if a.stream == nil {
		a.stream = bytes.NewReader(a.body)
	}
	a.resp.Body = &metered{m: m, from: a.stream}
	a.resp.ContentLength = -1
	return a.resp, nil
}

// notice sees whether the issuer is told that an order came to nothing.
func (a *answered) notice() {
	var v struct{ Status string }
	json.Unmarshal(a.body, &v)
	a.mu.Lock()
	defer a.mu.Unlock()
	switch v.Status {
	case "pending", "processing", "ready", "valid":
	default:
		a.dies = true
	}
}

// hear has the CA do its work.
func (a *answered) hear() error {
	resp, err := a.conversation.fake.RoundTrip(a.req)
	if err != nil {
		return err
	}
	a.resp = resp
	a.body, err = io.ReadAll(resp.Body)
	return err
}

// next is the trick to be played on the answer to a request; nil for none.
func (m *meddler) next(req *http.Request) (*pick, *rand.Rand) {
	m.mu.Lock()
	defer m.mu.Unlock()
	if m.stopped {
		return nil, nil
	}
	m.requests++
	kind := acmetest.FakeKind(req)
	for _, p := range m.picks {
		switch {
		case p.kind != kind || p.times == 0:
		case p.skip > 0:
			p.skip--
		default:
			p.times--
			return p, rand.New(rand.NewPCG(m.conversation.seed+uint64(m.requests), uint64(m.conversation.n)))
		}
	}
	return nil, nil
}

// metered counts what is read of a body.
type metered struct {
	m    *meddler
	from io.Reader
	read int64
}

func (b *metered) Read(p []byte) (int, error) {
	n, err := b.from.Read(p)
	b.read += int64(n)
	b.m.mu.Lock()
	defer b.m.mu.Unlock()
	b.m.mostRead = max(b.m.mostRead, b.read)
	return n, err
}

func (b *metered) Close() error { return nil }

// trick is one way to tamper with an answer.
type trick struct {
	name string
	// kinds are the answers that it is for; nil for all.
	kinds []string
	// before the CA has heard of the request: it never does.
	before bool
	// slow takes time.
	slow bool
	play func(*answered)
}

var objects = []string{"directory", "newAccount", "newOrder", "order", "authorization", "challenge", "finalize"}

// orders are the answers that hold an order.
var orders = []string{"newOrder", "order", "finalize"}

var tricks = []trick{
	{name: "lost before", before: true, play: func(a *answered) { a.err = errors.New("connection refused") }},
	{name: "lost after", play: func(a *answered) { a.err = io.ErrUnexpectedEOF }},
	{name: "no headers", slow: true, before: true, play: stalled},
	{name: "no headers after", slow: true, play: stalled},
	{name: "slow body", slow: true, play: func(a *answered) { a.stream = &drip{a.req.Context(), bytes.NewReader(a.body)} }},
	{name: "cut body", play: func(a *answered) {
		a.stream = io.MultiReader(bytes.NewReader(a.body[:a.rand.IntN(len(a.body)+1)]), cutOff{})
	}},
	{name: "short body", play: func(a *answered) { a.body = a.body[:a.rand.IntN(len(a.body)+1)] }},
	{name: "endless body", play: func(a *answered) { a.stream = io.MultiReader(strings.NewReader(`{"detail":"`), endless{}) }},
	{name: "huge body", play: func(a *answered) {
		a.stream = io.MultiReader(bytes.NewReader(a.body), io.LimitReader(endless{}, 10<<20))
	}},
	{name: "status", play: func(a *answered) { a.status(200 + a.rand.IntN(400)) }},
	{name: "server error", before: true, play: func(a *answered) { a.problem(500+a.rand.IntN(5), "serverInternal", "sorry") }},
	{name: "problem", before: true, play: aProblem},
	{name: "badNonce", before: true, play: func(a *answered) { a.problem(400, "badNonce", "no"); a.nonce() }},
	{name: "rate limit", before: true, play: func(a *answered) {
		a.problem(of(a.rand, 429, 503, 403), "rateLimited", of(a.rand, hostileTexts...))
		a.resp.Header.Set("Retry-After", of(a.rand, retryAfters...))
	}},
	{name: "Retry-After", play: func(a *answered) {
		a.resp.Header["Retry-After"] = []string{of(a.rand, retryAfters...), of(a.rand, retryAfters...)}
	}},
	{name: "page", play: func(a *answered) {
		a.status(of(a.rand, 200, 200, 302, 403, 511))
		a.resp.Header.Set("Content-Type", of(a.rand, "text/html", "text/html; charset=utf-8", "application/json"))
		a.body = []byte("<html><body>\x1b[31mLog in\r\n</body></html>")
	}},
	{name: "gzip", play: func(a *answered) {
		a.resp.Header.Set("Content-Encoding", "gzip")
		var to bytes.Buffer
		w := gzip.NewWriter(&to)
		w.Write(a.body)
		w.Close()
		a.body = to.Bytes()
	}},
	{name: "garbage", play: func(a *answered) { a.body = []byte(of(a.rand, garbage()...)) }},
	{name: "wrong type", kinds: objects, play: func(a *answered) {
		a.edit(func(v map[string]any) {
			v[a.field(v)] = of[any](a.rand, nil, 1.5, -1, "", "x", true, []any{}, []any{1, nil}, map[string]any{"a": 1})
		})
	}},
	{name: "missing field", kinds: objects, play: func(a *answered) { a.edit(func(v map[string]any) { delete(v, a.field(v)) }) }},
	{name: "doubled field", kinds: objects, play: func(a *answered) {
		if a.body = bytes.TrimSuffix(a.body, []byte("}")); len(a.body) > 0 {
			a.body = fmt.Appendf(a.body, `,%s}`, of(a.rand, `"status":"valid"`, `"STATUS":"invalid"`, `"status":"pending"`, `"finalize":"https://evil.example/"`, `"authorizations":[]`, `"newOrder":""`))
		}
	}},
	{name: "URL", kinds: objects, play: func(a *answered) { a.edit(func(v map[string]any) { a.bend(v) }) }},
	{name: "Location", kinds: []string{"newAccount", "newOrder", "order", "finalize"}, play: func(a *answered) {
		a.resp.Header.Set("Location", of(a.rand, hostileURLs()...))
	}},
	{name: "redirect", play: func(a *answered) {
		a.status(of(a.rand, 301, 302, 303, 307, 308))
		a.resp.Header.Set("Location", of(a.rand, append(hostileURLs(), a.req.URL.String())...))
	}},
	{name: "nonce", play: func(a *answered) {
		if a.nonce(); a.rand.IntN(3) == 0 {
			a.resp.Header.Del("Replay-Nonce")
		}
	}},
	{name: "links", kinds: []string{"certificate", "newOrder"}, play: func(a *answered) {
		for n := range 1000 {
			a.resp.Header.Add("Link", fmt.Sprintf(`<%s>;rel="alternate"`, of(a.rand, append(hostileURLs(), a.req.URL.String(), fmt.Sprint("https://ca.fake.example/certificate/", n))...)))
		}
	}},
	{name: "loop of links", kinds: []string{"certificate"}, play: func(a *answered) {
		a.resp.Header.Add("Link", `<`+a.req.URL.String()+`>;rel="alternate"`)
	}},
	{name: "strange status", kinds: []string{"newOrder", "order", "finalize", "authorization", "challenge", "newAccount"}, play: func(a *answered) {
		a.edit(func(v map[string]any) {
			v["status"] = of(a.rand, "pending", "processing", "ready", "valid", "invalid", "expired", "revoked", "deactivated", "asleep", "", "\x1b[31m\r\nred", strings.Repeat("x", 1000))
		})
	}},
	{name: "stranger's URL", kinds: orders, play: func(a *answered) {
		a.resp.Header.Set("Location", a.stranger())
	}},
	{name: "many authorizations", kinds: orders, play: func(a *answered) {
		a.edit(func(v map[string]any) {
			all, _ := v["authorizations"].([]any)
			more := of(a.rand, 1, 2, 20, 300)
			a.add(more)
			for range more {
				all = append(all, of(a.rand, append([]string{"https://ca.fake.example/authorization/000001"}, hostileURLs()...)...))
			}
			v["authorizations"] = all
		})
	}},
	{name: "doubled authorization", kinds: orders, play: func(a *answered) {
		a.edit(func(v map[string]any) {
			all, _ := v["authorizations"].([]any)
			a.add(len(all))
			v["authorizations"] = append(all, all...)
		})
	}},
	{name: "token", kinds: []string{"authorization", "challenge"}, play: func(a *answered) {
		a.challenges(func(ch map[string]any) {
			token, _ := ch["token"].(string)
			ch["token"] = of(a.rand, append(hostileTokens(), strings.ToUpper(token), token+"\r\n", "../"+token)...)
		})
	}},
	{name: "challenges", kinds: []string{"authorization"}, play: func(a *answered) {
		a.edit(func(v map[string]any) {
			all, _ := v["challenges"].([]any)
			for range of(a.rand, 0, 1, 1000) {
				all = append(all, of[any](a.rand, nil, map[string]any{}, map[string]any{"type": "dns-01", "token": "x"}, map[string]any{"type": "http-01"}, 7))
			}
			v["challenges"] = all[a.rand.IntN(len(all)+1):]
		})
	}},
	{name: "challenge URL", kinds: []string{"authorization"}, play: func(a *answered) {
		a.challenges(func(ch map[string]any) { ch["url"] = of(a.rand, hostileURLs()...) })
	}},
	{name: "identifier", kinds: []string{"authorization"}, play: func(a *answered) {
		a.edit(func(v map[string]any) {
			v["identifier"] = of[any](a.rand, nil, "example.test", map[string]any{"type": "dns", "value": "evil.test"}, map[string]any{"type": "dns", "value": "EXAMPLE.test"},
				map[string]any{"type": "dns", "value": "\x1b]0;x\x07"}, map[string]any{"type": "ip", "value": "127.0.0.1"}, map[string]any{})
		})
	}},
	{name: "wildcard", kinds: []string{"authorization"}, play: func(a *answered) { a.edit(func(v map[string]any) { v["wildcard"] = true }) }},
	{name: "order's error", kinds: orders, play: func(a *answered) {
		a.edit(func(v map[string]any) {
			v["status"] = "invalid"
			v["error"] = map[string]any{"type": of(a.rand, problemTypes...), "detail": of(a.rand, hostileTexts...), "status": 403,
				"subproblems": []any{map[string]any{"type": "x", "detail": of(a.rand, hostileTexts...), "identifier": map[string]any{"type": "dns", "value": of(a.rand, hostileTexts...)}}}}
		})
	}},
	{name: "another's certificate", kinds: []string{"certificate"}, play: forged(func(a *answered, leaf *x509.Certificate) any { return newTestKey().Public() })},
	{name: "other names", kinds: []string{"certificate"}, play: forged(func(a *answered, leaf *x509.Certificate) any {
		leaf.DNSNames = of(a.rand, nil, []string{"evil.test"}, append(slices.Clone(leaf.DNSNames), "evil.test"), leaf.DNSNames[1:], []string{"*.test"})
		return nil
	})},
	{name: "other dates", kinds: []string{"certificate"}, play: forged(func(a *answered, leaf *x509.Certificate) any {
		at := of(a.rand, time.Now().Add(-100*24*time.Hour), time.Now().Add(2*time.Hour), time.Date(9990, 1, 1, 0, 0, 0, 0, time.UTC), time.Date(1901, 1, 1, 0, 0, 0, 0, time.UTC))
		leaf.NotBefore, leaf.NotAfter = at, at.Add(24*time.Hour)
		return nil
	})},
	{name: "CA as leaf", kinds: []string{"certificate"}, play: forged(func(a *answered, leaf *x509.Certificate) any {
		leaf.IsCA, leaf.BasicConstraintsValid = true, true
		return nil
	})},
	{name: "weak signature", kinds: []string{"certificate"}, play: weak},
	{name: "chain", kinds: []string{"certificate"}, play: aChain},
}

func of[T any](dice *rand.Rand, from ...T) T { return from[dice.IntN(len(from))] }

var problemTypes = []string{"accountDoesNotExist", "alreadyRevoked", "badCSR", "badNonce", "badPublicKey", "badRevocationReason", "badSignatureAlgorithm", "caa",
	"compound", "connection", "dns", "externalAccountRequired", "incorrectResponse", "invalidContact", "malformed", "orderNotReady", "rateLimited",
	"rejectedIdentifier", "serverInternal", "tls", "unauthorized", "unsupportedContact", "unsupportedIdentifier", "userActionRequired",
	"alreadyReplaced", "invalidProfile", "", "\x1b[31mred\r\n", "neverHeardOf"}

var hostileTexts = []string{"", "no", "\x1b[31mred\x1b[0m\r\nlevel=ERROR msg=forged", strings.Repeat("long ", 20_000), "\u202ereversed\u2028", "\x00\x07\x7f\u0085",
	"temporarily prevented from requesting certificates, see https://ca.fake.example/unpause?" + strings.Repeat("x", 1500),
	"temporarily prevented from requesting certificates, see https://ca.fake.example/" + strings.Repeat("x", 100_000), "%s%d%!(EXTRA)", "retry after 2100-01-01"}

var retryAfters = []string{"0", "1", "29", "31", "3600", "31536000", "-1", "-99999999999999999999", "99999999999999999999", "1e9", "soon", "", " 5", "5, 6",
	"Sat, 01 Jan 2000 00:00:00 GMT", "Sun, 02 Jan 2000 00:00:00 GMT", "Fri, 31 Dec 9999 23:59:59 GMT", "\x1b[31m"}

// long texts are made once.
var (
	hostileURLs = sync.OnceValue(func() []string {
		return []string{"", "/relative", "x", "http://ca.fake.example/order/1", "file:///etc/passwd", "https://evil.example/x", "https://ca.fake.example:99999/x",
			"https://ca.fake.example/nothing", "https://ca.fake.example/" + strings.Repeat("a", 100<<10), "https://user:pw@ca.fake.example/order/1", "https://[::1",
			"https://ca.fake.example/\x00", "https://ca.fake.example/%zz", "javascript:alert(1)", "https://", "\r\nHost: evil", "https://ca.fake.example/order/1\x1b[31m"}
	})
	hostileTokens = sync.OnceValue(func() []string {
		return []string{"", "../../x", "..", "/etc/passwd", "a/b", "aaaaaaaaaaaaaaaaaaaaaaaa\x00", "aaaaaaaaaaaaaaaaaaaaaaaa\r\n", "short", "ＡＡＡＡＡＡＡＡＡＡＡＡＡＡＡＡＡＡＡ",
			strings.Repeat("a", 513), strings.Repeat("a", 512), strings.Repeat("a", 255), strings.Repeat("a", 10<<20), "-aaaaaaaaaaaaaaaaaaaaaaaaaaa"}
	})
	garbage = sync.OnceValue(func() []string {
		return []string{"", "null", "[]", "7", `"text"`, "{}", "{", "\x00\x01\x02", "\xff\xfe", "<?xml?>", strings.Repeat("[", 20_000), strings.Repeat(`{"a":`, 20_000),
			`{"status":` + strings.Repeat("9", 10_000) + `}`, `{"expires":"yesterday"}`, `{"status":"valid"}`, `{"type":1}`}
	})
)

func stalled(a *answered) {
	if a.err = sleep(a.req.Context(), headerTimeout); a.err == nil {
		a.err = errors.New("timeout awaiting response headers")
	}
}

func aProblem(a *answered) {
	a.problem(of(a.rand, 400, 401, 403, 404, 409, 429, 500, 503), of(a.rand, problemTypes...), of(a.rand, hostileTexts...))
	a.nonce()
}

// nonce puts one that is of no use.
func (a *answered) nonce() {
	a.resp.Header.Set("Replay-Nonce", of(a.rand, "", "AAAA", "nonce-000001", "not base64!", "\x1b\r\n", strings.Repeat("a", 60_000)))
}

func (a *answered) status(code int) {
	a.resp.StatusCode, a.resp.Status = code, fmt.Sprintf("%d %s", code, http.StatusText(code))
}

func (a *answered) problem(code int, kind, detail string) {
	a.status(code)
	a.resp.Header.Set("Content-Type", "application/problem+json")
	v := map[string]any{"type": "urn:ietf:params:acme:error:" + kind, "detail": detail, "instance": of(a.rand, hostileURLs()...)}
	if a.rand.IntN(4) == 0 {
		v["subproblems"] = []any{map[string]any{"type": kind, "detail": detail, "identifier": map[string]any{"type": "dns", "value": of(a.rand, hostileTexts...)}}}
	}
	a.body = mustJSON(v)
}

func mustJSON(v any) []byte {
	data, err := json.Marshal(v)
	if err != nil {
		panic(err)
	}
	return data
}

// edit changes an answer that is an object.
func (a *answered) edit(change func(map[string]any)) {
	var v map[string]any
	if json.Unmarshal(a.body, &v) == nil && v != nil {
		change(v)
		a.body = mustJSON(v)
	}
}

// field is one of an object's.
func (a *answered) field(v map[string]any) string {
	return of(a.rand, append(slices.Sorted(maps.Keys(v)), "status")...)
}

// bend changes one of the URLs in an object, or all.
func (a *answered) bend(v map[string]any) {
	all := a.rand.IntN(3) == 0
	to := of(a.rand, hostileURLs()...)
	for _, name := range slices.Sorted(maps.Keys(v)) {
		switch value := v[name].(type) {
		case string:
			if strings.HasPrefix(value, "https://") && (all || a.rand.IntN(3) == 0) {
				v[name] = to
			}
		case []any:
			if len(value) > 0 && (all || a.rand.IntN(3) == 0) {
				value[a.rand.IntN(len(value))] = to
			}
		}
	}
}

// challenges changes each challenge of an authorization, or the one that is the answer.
func (a *answered) challenges(change func(map[string]any)) {
	a.edit(func(v map[string]any) {
		list, ok := v["challenges"].([]any)
		if !ok {
			list = []any{v}
		}
		for _, one := range list {
			if ch, ok := one.(map[string]any); ok {
				change(ch)
			}
		}
	})
}

// stranger is an order of another account's.
func (a *answered) stranger() string {
	kept := &saved{}
	req := a.conversation.req
	req.Spec.Names, req.Save, req.Order = []string{"stranger.test"}, kept.save, nil
	i := a.conversation.newIssuer(&memory{}, a.conversation.fake)
	if _, err := i.Obtain(context.Background(), req); err != nil {
		return ""
	}
	a.strangers = append(a.strangers, kept.order.URL)
	return kept.order.URL
}

// drip is a body that comes byte by byte.
type drip struct {
	ctx  context.Context
	from io.Reader
}

func (d *drip) Read(p []byte) (int, error) {
	if err := sleep(d.ctx, time.Second); err != nil {
		return 0, err
	}
	return d.from.Read(p[:min(len(p), 1)])
}

// cutOff is a connection that breaks.
type cutOff struct{}

func (cutOff) Read([]byte) (int, error) { return 0, io.ErrUnexpectedEOF }

// endless is a body without end.
type endless struct{}

func (endless) Read(p []byte) (int, error) {
	for n := range p {
		p[n] = 'A'
	}
	return len(p), nil
}

func newTestKey() *ecdsa.PrivateKey {
	key, err := ecdsa.GenerateKey(elliptic.P256(), cryptorand.Reader)
	if err != nil {
		panic(err)
	}
	return key
}

// newForger is a CA that nobody has asked.
func newForger(key any, pub any) (*x509.Certificate, any) {
	template := &x509.Certificate{SerialNumber: big.NewInt(1), Subject: pkix.Name{CommonName: "forger"}, NotBefore: time.Unix(0, 0), NotAfter: time.Date(2200, 1, 1, 0, 0, 0, 0, time.UTC),
		IsCA: true, BasicConstraintsValid: true, KeyUsage: x509.KeyUsageCertSign}
	return signed(template, template, pub, key), key
}

func signed(template, parent *x509.Certificate, pub, key any) *x509.Certificate {
	der, err := x509.CreateCertificate(cryptorand.Reader, template, parent, pub, key)
	if err != nil {
		panic(err)
	}
	c, err := x509.ParseCertificate(der)
	if err != nil {
		panic(err)
	}
	return c
}

var ecForger = sync.OnceValues(func() (*x509.Certificate, any) {
	key := newTestKey()
	return newForger(key, key.Public())
})

var rsaForger = sync.OnceValues(func() (*x509.Certificate, any) {
	key, err := rsa.GenerateKey(cryptorand.Reader, 2048)
	if err != nil {
		panic(err)
	}
	return newForger(key, key.Public())
})

// forged gives the certificate for the right key and names, but for what change changes; the key if it returns one.
func forged(change func(a *answered, leaf *x509.Certificate) (pub any)) func(*answered) {
	return func(a *answered) {
		chain, err := cert.ParseChain(a.body)
		if err != nil {
			return
		}
		template := &x509.Certificate{SerialNumber: chain[0].SerialNumber, DNSNames: chain[0].DNSNames, NotBefore: chain[0].NotBefore, NotAfter: chain[0].NotAfter}
		pub := change(a, template)
		if pub == nil {
			pub = chain[0].PublicKey
		}
		root, key := ecForger()
		a.body = cert.EncodeChain([]*x509.Certificate{signed(template, root, pub, key), root})
	}
}

// weak is a certificate that says to be signed with MD5 or SHA-1: its algorithm's OID of PKCS #1 is changed in place.
func weak(a *answered) {
	chain, err := cert.ParseChain(a.body)
	if err != nil {
		return
	}
	root, key := rsaForger()
	template := &x509.Certificate{SerialNumber: chain[0].SerialNumber, DNSNames: chain[0].DNSNames, NotBefore: chain[0].NotBefore, NotAfter: chain[0].NotAfter}
	leaf := signed(template, root, chain[0].PublicKey, key)
	pkcs1 := []byte{0x2a, 0x86, 0x48, 0x86, 0xf7, 0x0d, 1, 1}
	der := bytes.ReplaceAll(leaf.Raw, append(slices.Clone(pkcs1), 11), append(slices.Clone(pkcs1), of(a.rand, byte(4), 5)))
	a.body = append(pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE", Bytes: der}), cert.EncodeChain([]*x509.Certificate{root})...)
}

// aChain puts the certificates in a wrong order, too few or too many of them, or something else among them.
func aChain(a *answered) {
	chain, err := cert.ParseChain(a.body)
	if err != nil {
		return
	}
	leaf, next, root := chain[0], chain[len(chain)-1], a.conversation.fake.Roots()[0]
	key := pem.EncodeToMemory(&pem.Block{Type: "PRIVATE KEY", Bytes: []byte("secret")})
	pems := func(chain ...*x509.Certificate) []byte { return cert.EncodeChain(chain) }
	alien, _ := ecForger()
	a.body = of(a.rand,
		pems(leaf), pems(next, leaf), pems(leaf, leaf, next), pems(leaf, next, root), pems(leaf, root), pems(leaf, alien), pems(leaf, next, alien), pems(root),
		bytes.Repeat(pems(next), 50), append(pems(leaf), bytes.Repeat(pems(next), 49)...), leaf.Raw, append(key, a.body...), append(bytes.Clone(a.body), key...),
		append(bytes.Clone(a.body), "trailing\x1b[31m"...), bytes.ReplaceAll(a.body, []byte("\n"), []byte("\r\n")), append([]byte("Bag attributes\n"), a.body...),
		pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE", Bytes: []byte("no DER")}), pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE", Headers: map[string]string{"Proc-Type": "4,ENCRYPTED"}, Bytes: leaf.Raw}))
}
