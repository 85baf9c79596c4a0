// Package acmetest runs CAs inside the process, for our tests and for the demo: Pebble, Let's Encrypt's CA for tests (CA), and one in
// memory without a network whose answers a test can change (Fake). It is never linked into the product, and not secure.
package acmetest

import (
	"crypto"
	"crypto/tls"
	"crypto/x509"
	"encoding/base64"
	"errors"
	"fmt"
	"io"
	"log"
	"math/rand/v2"
	"net"
	"net/http"
	"os"
	"strconv"
	"sync"
	"sync/atomic"
	"time"

	"github.com/letsencrypt/pebble/v2/ca"
	"github.com/letsencrypt/pebble/v2/core"
	"github.com/letsencrypt/pebble/v2/db"
	"github.com/letsencrypt/pebble/v2/va"
	"github.com/letsencrypt/pebble/v2/wfe"

	"github.com/sidecert/sidecert/internal/cert"
)

// Config of a CA. Its zero value is a friendly one: no nonce is rejected, no authorization is used again, no external account
// is needed.
type Config struct {
	// Listen is where the API listens; empty takes a free port of 127.0.0.1.
	Listen string
	// Host is the name that clients reach the API by, beside localhost and 127.0.0.1; empty for tests.
	Host string
	// HTTPPort is where challenges are fetched; 0 chooses a port that was free a moment ago, see CA.HTTPPort.
	HTTPPort int
	// Lifetime of certificates; 0 takes Pebble's 90 days. Profiles, where set, have lifetimes of their own, and an order that
	// names none gets any of them.
	Lifetime time.Duration
	Profiles map[string]time.Duration
	// NonceReject is the percentage of good nonces that are refused.
	NonceReject int
	// AuthzReuse is the percentage of identifiers for which a valid authorization is used again. Pebble rounds up: 0 is 1.
	AuthzReuse int
	// EAB are the external accounts, key by key ID. If there are any, an account needs one.
	EAB map[string][]byte
	// AlternateRoots is the number of chains beside the default one, ChainLength that of the intermediates (0 is 1).
	AlternateRoots int
	ChainLength    int
	// Wrap stands before the API and can make it fail.
	Wrap func(http.Handler) http.Handler
	// Log gets Pebble's own words; nil drops them.
	Log *log.Logger
}

// CA is a running one.
type CA struct {
	// Directory is the URL that an ACME client starts from.
	Directory string
	// HTTPRoots is the PEM certificate that signs the API's own HTTPS. It is made anew by each Start.
	HTTPRoots string
	// HTTPPort is where challenges are fetched.
	HTTPPort int
	// Nameserver is ADDRESS:PORT, over UDP and TCP, of the name server that the CA asks.
	Nameserver string

	config Config
	names  *nameserver
	server *http.Server
	counts counter
	pebble atomic.Pointer[pebble]
	// turn is held alone by requests for authorizations, see inTurn.
	turn sync.RWMutex
}

// pebble is everything that the CA forgets in a restart.
type pebble struct {
	api    http.Handler
	issuer *ca.CAImpl
	store  *db.MemoryStore
}

// Start runs a CA until Close.
func Start(config Config) (*CA, error) {
	if config.Log == nil {
		config.Log = log.New(io.Discard, "", 0)
	}
	port, err := challengePort(config.HTTPPort)
	if err != nil {
		return nil, err
	}
	names, err := startNameserver()
	if err != nil {
		return nil, fmt.Errorf("start the name server: %w", err)
	}
	c := &CA{HTTPPort: port, Nameserver: names.address(), config: config, names: names}
	if err := c.Forget(); err != nil {
		names.close()
		return nil, err
	}
	if err := c.serve(); err != nil {
		names.close()
		return nil, err
	}
	return c, nil
}

// Forget does what a restart does to Pebble: accounts, orders and roots are lost. URLs and HTTPRoots stay.
func (c *CA) Forget() error {
	p, err := newPebble(c.config, c.HTTPPort, c.names.address())
	if err != nil {
		return err
	}
	c.pebble.Store(p)
	return nil
}

// Close ends the API and the name server. Pebble has no end of its own: one goroutine of it stays.
func (c *CA) Close() error {
	c.names.close()
	return c.server.Close()
}

// SetDNS makes a name resolve to addresses of IPv4 and IPv6; without any it exists with other records only, and "" stands for a name
// that does not exist. Names that were not set are 127.0.0.1.
func (c *CA) SetDNS(name string, addresses ...string) { c.names.set(name, addresses) }

// SetCAA gives a name CAA records. Pebble itself does not look at them.
func (c *CA) SetCAA(name string, records ...CAA) { c.names.setCAA(name, records) }

// FailDNS answers questions for a name's records of a type ("A", "AAAA", "CAA") with SERVFAIL.
func (c *CA) FailDNS(name, kind string) { c.names.fail(name, kind) }

// Suggest has the CA answer with a text, whatever it is, when it is asked when to renew a certificate.
func (c *CA) Suggest(leaf *x509.Certificate, text string) error {
	return c.pebble.Load().store.SetARIResponse(leaf.SerialNumber, text)
}

// Revoked is the reason for which a certificate was revoked, by its code; -1 if it was not.
func (c *CA) Revoked(leaf *x509.Certificate) int {
	revoked := c.pebble.Load().store.GetRevokedCertificateBySerial(leaf.SerialNumber)
	if revoked == nil || revoked.Reason == nil {
		return -1
	}
	return int(*revoked.Reason)
}

// Authorizations are the numbers of an account's authorizations by status; its key tells which account.
func (c *CA) Authorizations(account crypto.PublicKey) (map[string]int, error) {
	c.turn.RLock()
	defer c.turn.RUnlock()
	store := c.pebble.Load().store
	known, err := store.GetAccountByKey(account)
	if err != nil {
		return nil, fmt.Errorf("find the account: %w", err)
	}
	if known == nil {
		return nil, errors.New("no account has this key")
	}
	seen := map[*core.Authorization]bool{}
	byStatus := map[string]int{}
	for _, order := range store.GetOrdersByAccountID(known.ID) {
		order.RLock()
		for _, a := range order.AuthorizationObjects {
			if !seen[a] {
				seen[a] = true
				a.RLock()
				byStatus[a.Status]++
				a.RUnlock()
			}
		}
		order.RUnlock()
	}
	return byStatus, nil
}

// Block makes the CA reject a name and those below it. Pebble crashes on orders for names with fewer labels than a blocked one.
func (c *CA) Block(name string) error { return c.pebble.Load().store.AddBlockedDomain(name) }

// RootPEM is the root of the default chain, which Forget changes.
func (c *CA) RootPEM() string { return c.RootsPEM()[0] }

// RootsPEM are the roots of all chains, the default one first.
func (c *CA) RootsPEM() []string {
	issuer := c.pebble.Load().issuer
	var roots []string
	for i := range issuer.GetNumberOfRootCerts() {
		roots = append(roots, string(issuer.GetRootCert(i).PEM()))
	}
	return roots
}

// Roots is the pool with the roots of all chains.
func (c *CA) Roots() *x509.CertPool {
	pool := x509.NewCertPool()
	for _, root := range c.RootsPEM() {
		pool.AppendCertsFromPEM([]byte(root))
	}
	return pool
}

// Requests are the numbers of requests that reached the API, by kind: directory, newNonce, newAccount, account, newOrder,
// order, authorization, challenge, finalize, certificate, renewalInfo, revokeCert, keyChange, other.
func (c *CA) Requests() map[string]int { return c.counts.requests() }

// Total is the number of all requests that reached the API.
func (c *CA) Total() int { return c.counts.total() }

// Issued is the number of certificates that were issued, seen by their clients or not.
func (c *CA) Issued() int { return c.counts.issued() }

func (c *CA) serve() error {
	listen := c.config.Listen
	if listen == "" {
		listen = "127.0.0.1:0"
	}
	listener, err := net.Listen("tcp", listen)
	if err != nil {
		return fmt.Errorf("listen for the API: %w", err)
	}
	host, names := "127.0.0.1", []string{"localhost", "127.0.0.1"}
	if c.config.Host != "" {
		host, names = c.config.Host, append(names, c.config.Host)
	}
	pair, err := cert.Placeholder("acmetest", names, time.Now())
	if err != nil {
		listener.Close()
		return fmt.Errorf("make the API's certificate: %w", err)
	}
	c.HTTPRoots = string(cert.EncodeChain(pair.Chain[1:]))
	c.Directory = "https://" + net.JoinHostPort(host, strconv.Itoa(listener.Addr().(*net.TCPAddr).Port)) + wfe.DirectoryPath
	c.server = &http.Server{Handler: c.handler(), TLSConfig: tlsConfig(pair), ErrorLog: c.config.Log}
	go c.server.ServeTLS(listener, "", "")
	return nil
}

// handler counts what comes in before Wrap may spoil it, and what was issued even if Wrap keeps the answer from the client.
func (c *CA) handler() http.Handler {
	var api http.Handler = http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		c.pebble.Load().api.ServeHTTP(w, r)
	})
	api = c.counts.certificates(c.inTurn(api))
	if c.config.Wrap != nil {
		api = c.config.Wrap(api)
	}
	return c.counts.all(api)
}

// inTurn keeps Pebble from locking itself up: for a request about an authorization it locks that and then its store, for others
// the store and then the authorizations in it.
func (c *CA) inTurn(next http.Handler) http.Handler {
	return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		if Kind(r.URL.Path) == "authorization" {
			c.turn.Lock()
			defer c.turn.Unlock()
		} else {
			c.turn.RLock()
			defer c.turn.RUnlock()
		}
		next.ServeHTTP(w, r)
	})
}

func tlsConfig(pair cert.Bundle) *tls.Config {
	chain := tls.Certificate{PrivateKey: pair.Key}
	for _, c := range pair.Chain {
		chain.Certificate = append(chain.Certificate, c.Raw)
	}
	return &tls.Config{Certificates: []tls.Certificate{chain}, MinVersion: tls.VersionTLS12}
}

// environment guards the variables that Pebble reads while it is made, and nowhere else. They are set back afterwards, but
// whoever else in the process reads them meanwhile sees them.
var environment sync.Mutex

func newPebble(config Config, port int, resolver string) (*pebble, error) {
	environment.Lock()
	defer environment.Unlock()
	defer setenv("PEBBLE_VA_NOSLEEP", "1")()
	defer setenv("PEBBLE_WFE_NONCEREJECT", strconv.Itoa(config.NonceReject))()
	defer setenv("PEBBLE_AUTHZREUSE", strconv.Itoa(config.AuthzReuse))()

	store := db.NewMemoryStore()
	for kid, key := range config.EAB {
		if err := store.AddExternalAccountKeyByID(kid, base64.RawURLEncoding.EncodeToString(key)); err != nil {
			return nil, err
		}
	}
	issuer := ca.New(config.Log, store, "", "ecdsa", config.AlternateRoots, max(config.ChainLength, 1), profiles(config))
	validation := va.New(config.Log, port, 0, true, resolver, store)
	const strict = true
	api := wfe.New(config.Log, store, validation, issuer, []string{"pebble.letsencrypt.org"}, strict, len(config.EAB) > 0, 0, 0)
	return &pebble{api: api.Handler(), issuer: issuer, store: store}, nil
}

func setenv(name, value string) (restore func()) {
	old, was := os.LookupEnv(name)
	os.Setenv(name, value)
	return func() {
		if was {
			os.Setenv(name, old)
			return
		}
		os.Unsetenv(name)
	}
}

func profiles(config Config) map[string]ca.Profile {
	out := map[string]ca.Profile{}
	for name, life := range config.Profiles {
		out[name] = ca.Profile{Description: "lasts " + life.String(), ValidityPeriod: uint64(life / time.Second)}
	}
	if len(out) == 0 {
		out["default"] = ca.Profile{Description: "the only one", ValidityPeriod: uint64(config.Lifetime / time.Second)}
	}
	return out
}

func challengePort(wanted int) (int, error) {
	if wanted != 0 {
		return wanted, nil
	}
	// Not one of those that the kernel gives to whoever dials: it could be his when the web server comes.
	var err error
	for range 20 {
		port := 10_000 + rand.IntN(20_000)
		var listener net.Listener
		if listener, err = net.Listen("tcp", fmt.Sprintf("127.0.0.1:%d", port)); err == nil {
			return port, listener.Close()
		}
	}
	return 0, fmt.Errorf("find a port for challenges: %w", err)
}
