package acmetest

import (
	"maps"
	"net/http"
	"strings"
	"sync"
)

// kinds are Pebble's paths by what RFC 8555 calls them.
var kinds = map[string]string{
	"dir": "directory", "nonce-plz": "newNonce", "sign-me-up": "newAccount", "my-account": "account",
	"order-plz": "newOrder", "my-order": "order", "authZ": "authorization", "chalZ": "challenge",
	"finalize-order": "finalize", "certZ": "certificate", "draft-ietf-acme-ari-03": "renewalInfo",
	"revoke-cert": "revokeCert", "rollover-account-key": "keyChange",
}

// Kind is what a path of the API is for, as Requests names it; for Wrap.
func Kind(path string) string {
	first, _, _ := strings.Cut(strings.TrimPrefix(path, "/"), "/")
	if kind, ok := kinds[first]; ok {
		return kind
	}
	return "other"
}

// counter counts requests and certificates.
type counter struct {
	mu     sync.Mutex
	byKind map[string]int
	certs  int
}

func (c *counter) requests() map[string]int {
	c.mu.Lock()
	defer c.mu.Unlock()
	return maps.Clone(c.byKind)
}

func (c *counter) total() int {
	sum := 0
	for _, n := range c.requests() {
		sum += n
	}
	return sum
}

func (c *counter) issued() int {
	c.mu.Lock()
	defer c.mu.Unlock()
	return c.certs
}

func (c *counter) all(next http.Handler) http.Handler {
	return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		c.mu.Lock()
		if c.byKind == nil {
			c.byKind = map[string]int{}
		}
		c.byKind[Kind(r.URL.Path)]++
		c.mu.Unlock()
		next.ServeHTTP(w, r)
	})
}

// certificates counts finalize requests that Pebble took: each leads to one certificate.
func (c *counter) certificates(next http.Handler) http.Handler {
	return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		if Kind(r.URL.Path) != "finalize" {
			next.ServeHTTP(w, r)
			return
		}
		status := &statusWriter{ResponseWriter: w, status: http.StatusOK}
		next.ServeHTTP(status, r)
		if status.status == http.StatusOK {
			c.mu.Lock()
			c.certs++
			c.mu.Unlock()
		}
	})
}

type statusWriter struct {
	http.ResponseWriter
	status int
}

func (w *statusWriter) WriteHeader(status int) {
	w.status = status
	w.ResponseWriter.WriteHeader(status)
}
