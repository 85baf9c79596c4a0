package acme

import (
	"bytes"
	"context"
	"crypto/tls"
	"crypto/x509"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"net"
	"net/http"
	"strings"
	"sync"
	"time"

	"github.com/sidecert/sidecert/internal/cert"
)

const (
	// requestTimeout is for a request from dial to the last byte, headerTimeout for the CA's first word.
	requestTimeout = 30 * time.Second
	headerTimeout  = 10 * time.Second
	// maxBody is far above any ACME object; a chain of 10 certificates has some 20 KiB.
	maxBody = 1 << 20
	// maxRedirects is for the directory alone, which CAs have moved before.
	maxRedirects = 3
	// workers is how many authorizations of one order are worked at a time, and probes of one preflight.
	workers = 8
)

// newHTTPClient makes what carries every request to a CA, the library's and ours.
func newHTTPClient(ca cert.CA, base http.RoundTripper, log *slog.Logger, asked func(Asked)) (*http.Client, error) {
	roots, err := rootsOf(ca)
	if err != nil {
		return nil, err
	}
	if base == nil {
		base = network(roots)
	}
	return &http.Client{
		Transport:     &transport{base: base, nonces: &nonces{}, clock: &clock{}, log: log, directory: ca.Directory, asked: asked},
		Timeout:       requestTimeout,
		CheckRedirect: redirectDirectory(ca.Directory),
	}, nil
}

func network(roots *x509.CertPool) http.RoundTripper {
	return &http.Transport{
		Proxy:                  http.ProxyFromEnvironment,
		DialContext:            (&net.Dialer{Timeout: headerTimeout}).DialContext,
		TLSClientConfig:        &tls.Config{RootCAs: roots, MinVersion: tls.VersionTLS12},
		TLSHandshakeTimeout:    headerTimeout,
		ResponseHeaderTimeout:  headerTimeout,
		MaxResponseHeaderBytes: 64 << 10,
		DisableCompression:     true,
		ForceAttemptHTTP2:      true,
		MaxIdleConnsPerHost:    workers,
		IdleConnTimeout:        30 * time.Second,
	}
}

// rootsOf are the system's roots and those of the CA's own; nil stands for the system's alone, which sign every public CA's HTTPS.
func rootsOf(ca cert.CA) (*x509.CertPool, error) {
	if ca.Roots == "" || cert.Public(ca.Directory) {
		return nil, nil
	}
	pool, err := x509.SystemCertPool()
	if err != nil {
		pool = x509.NewCertPool() // an image without roots: those of the private CA are all there are
	}
	if !pool.AppendCertsFromPEM([]byte(ca.Roots)) {
		return nil, errors.New("the roots for the CA's HTTPS hold no certificate")
	}
	return pool, nil
}

// redirectDirectory follows no redirect but the directory's: a POST is signed for its URL.
func redirectDirectory(directory string) func(*http.Request, []*http.Request) error {
	return func(req *http.Request, via []*http.Request) error {
		if via[0].URL.String() != directory || via[0].Method != http.MethodGet {
			return fmt.Errorf("the CA redirects %s %s", via[0].Method, via[0].URL.Path)
		}
		if len(via) > maxRedirects {
			return fmt.Errorf("the directory was redirected more than %d times", maxRedirects)
		}
		return nil
	}
}

// transport enforces what holds for every request to a CA: https only, bounded bodies, no compression, one pool of nonces,
// a line in the debug log. Bodies are read here as a whole, so that a connection is used again whatever its reader does.
type transport struct {
	base   http.RoundTripper
	nonces *nonces
	clock  *clock
	log    *slog.Logger

	directory string
	asked     func(Asked)
}

func (t *transport) RoundTrip(req *http.Request) (*http.Response, error) {
	if req.URL.Scheme != "https" {
		closeBody(req)
		return nil, fmt.Errorf("the CA sends us to %q, which is not https", clean(req.URL.Redacted(), maxWords))
	}
	if resp := t.nonces.answer(req); resp != nil {
		return resp, nil
	}
	req = req.Clone(req.Context())
	req.Header.Set("Accept-Encoding", "identity")
	begun := time.Now()
	resp, body, err := t.exchange(req)
	asked := Asked{Directory: t.directory, Method: req.Method, Elapsed: time.Since(begun)}
	if err == nil {
		asked.Status, asked.Date = resp.StatusCode, heard{header: resp.Header}.date()
	}
	t.asked(asked)
	if err != nil {
		t.log.Debug("request to the CA failed", "method", req.Method, "path", req.URL.Path, cert.AttrElapsed, time.Since(begun), cert.AttrErr, err)
		return nil, err
	}
	t.log.Debug("request to the CA", "method", req.Method, "path", req.URL.Path, "status", resp.StatusCode, cert.AttrElapsed, time.Since(begun))
	if isHTML(resp) {
		return nil, fmt.Errorf("a web page came where the CA's answer was to be, perhaps from a proxy or portal in between: %q", clean(string(body), 200))
	}
	t.nonces.learn(req, resp, body)
	said := heard{resp.Header, body}
	t.clock.set(said.date())
	note(req.Context(), said)
	return resp, nil
}

func (t *transport) exchange(req *http.Request) (*http.Response, []byte, error) {
	resp, err := t.base.RoundTrip(req)
	if err != nil {
		return nil, nil, err
	}
	defer resp.Body.Close()
	body, err := io.ReadAll(io.LimitReader(resp.Body, maxBody+1))
	if err != nil {
		return nil, nil, fmt.Errorf("read the CA's answer: %w", err)
	}
	if len(body) > maxBody {
		return nil, nil, fmt.Errorf("the CA's answer has more than %d bytes", maxBody)
	}
	resp.Body = io.NopCloser(bytes.NewReader(body))
	return resp, body, nil
}

func isHTML(resp *http.Response) bool {
	return resp.StatusCode < 300 && strings.HasPrefix(resp.Header.Get("Content-Type"), "text/html")
}

func closeBody(req *http.Request) {
	if req.Body != nil {
		req.Body.Close()
	}
}

// heard is the last answer of a CA, of which the library passes on only what it knows itself.
type heard struct {
	header http.Header
	body   []byte
}

type heardKey struct{}

// hearing lets a caller of the library see what the library heard.
func hearing(ctx context.Context, to *heard) context.Context {
	return context.WithValue(ctx, heardKey{}, to)
}

// hears is where a context's answers are seen; one that nobody listens to gets a listener.
func hears(ctx context.Context) (context.Context, *heard) {
	if to, ok := ctx.Value(heardKey{}).(*heard); ok {
		return ctx, to
	}
	to := &heard{}
	return hearing(ctx, to), to
}

func note(ctx context.Context, h heard) {
	if to, ok := ctx.Value(heardKey{}).(*heard); ok {
		*to = h
	}
}

// date is when the CA says that it has answered; zero if it does not.
func (h heard) date() time.Time {
	date, err := http.ParseTime(h.header.Get("Date"))
	if err != nil {
		return time.Time{}
	}
	return date
}

// clock is the CA's, as far as it was heard and no time was slept through.
type clock struct {
	mu    sync.Mutex
	said  time.Time
	heard time.Time // by our monotonic clock
}

func (c *clock) set(date time.Time) {
	if date.IsZero() {
		return
	}
	c.mu.Lock()
	defer c.mu.Unlock()
	c.said, c.heard = date, time.Now()
}

// now is zero where the CA has never said.
func (c *clock) now() time.Time {
	c.mu.Lock()
	defer c.mu.Unlock()
	if c.said.IsZero() {
		return time.Time{}
	}
	return c.said.Add(time.Since(c.heard))
}
