// Package docker speaks to a Docker engine: it finds containers, signals and restarts them, and runs commands in them. Which
// container is told what, and whether that helped, is not its business; it knows nothing of certificates.
package docker

import (
	"cmp"
	"context"
	"crypto/tls"
	"crypto/x509"
	"errors"
	"fmt"
	"net"
	"net/http"
	"net/url"
	"os"
	"path/filepath"
	"regexp"
	"strings"
	"sync"
	"time"

	"github.com/docker/docker/client"
)

const (
	// callTimeout is the longest that the engine may take for one call: the library has no limit of its own.
	callTimeout = 10 * time.Second
	// stopTimeout is what a container gets to end by itself before a restart kills it, as "docker restart" has it.
	stopTimeout = 10 * time.Second
)

// Config is the standard DOCKER_* environment; its zero value means the local socket.
type Config struct {
	// Host is DOCKER_HOST: unix:///path or tcp://host:port. Empty means unix:///var/run/docker.sock.
	Host string
	// APIVersion is DOCKER_API_VERSION, which switches the negotiation off; empty negotiates.
	APIVersion string
	// CertPath is DOCKER_CERT_PATH, the folder of {ca,cert,key}.pem. With it, tcp:// speaks TLS.
	CertPath string
	// TLSVerify is DOCKER_TLS_VERIFY: without it the engine's own certificate is not verified, as the docker command has it.
	TLSVerify bool
}

// Engine is a Docker engine, or what answers in its place behind a socket proxy. It may be used by many goroutines.
type Engine struct {
	host  string
	fixed bool   // the version is a person's choice
	certs string // the folder of the client's certificate
	http  http.RoundTripper
	base  url.URL // what calls of our own begin with, beside the library

	mu  sync.Mutex
	api *client.Client // nil until a version has been agreed upon
}

// New reads the client's certificates, if there are any, and does not speak to the engine.
func New(c Config) (*Engine, error) {
	e := &Engine{host: cmp.Or(c.Host, client.DefaultDockerHost), fixed: c.APIVersion != ""}
	at, err := client.ParseHostURL(e.host)
	if err != nil {
		return nil, fmt.Errorf("docker host %q: %w", e.host, err)
	}
	if at.Scheme != "unix" && at.Scheme != "tcp" {
		return nil, fmt.Errorf("docker host %q: want unix:///path or tcp://host:port", e.host)
	}
	// The environment's HTTP proxy is not asked: it is there for the CA, and the engine's API is not for its eyes.
	transport := &http.Transport{IdleConnTimeout: 30 * time.Second, TLSHandshakeTimeout: callTimeout}
	e.base = url.URL{Scheme: "http", Host: at.Host, Path: at.Path}
	if at.Scheme == "unix" {
		var dialer net.Dialer
		transport.DialContext = func(ctx context.Context, _, _ string) (net.Conn, error) {
			return dialer.DialContext(ctx, "unix", at.Host)
		}
		e.base = url.URL{Scheme: "http", Host: client.DummyHost}
	} else if c.CertPath != "" || c.TLSVerify {
		e.base.Scheme = "https"
		e.certs = cmp.Or(c.CertPath, filepath.Join(os.Getenv("HOME"), ".docker"))
		if transport.TLSClientConfig, err = clientTLS(e.certs, c.TLSVerify); err != nil {
			return nil, err
		}
	}
	e.http = capped{transport}
	if e.fixed {
		e.api, err = e.speak(c.APIVersion)
	}
	return e, err
}

func clientTLS(dir string, verify bool) (*tls.Config, error) {
	pair, err := tls.LoadX509KeyPair(filepath.Join(dir, "cert.pem"), filepath.Join(dir, "key.pem"))
	if err != nil {
		return nil, fmt.Errorf("read docker client certificate: %w", err)
	}
	config := &tls.Config{Certificates: []tls.Certificate{pair}, InsecureSkipVerify: !verify}
	if !verify {
		return config, nil
	}
	ca := filepath.Join(dir, "ca.pem")
	data, err := os.ReadFile(ca)
	if err != nil {
		return nil, fmt.Errorf("read docker CA: %w", err)
	}
	config.RootCAs = x509.NewCertPool()
	if !config.RootCAs.AppendCertsFromPEM(data) {
		return nil, fmt.Errorf("read docker CA %q: no certificate in PEM form", ca)
	}
	return config, nil
}

// Ping agrees upon the API version again and returns it. It need not be called before anything else; it is for saying at the
// start that the engine is there.
func (e *Engine) Ping(ctx context.Context) (apiVersion string, err error) {
	ctx, cancel := context.WithTimeout(ctx, callTimeout)
	defer cancel()
	api, err := e.speak("")
	if err != nil {
		return "", err
	}
	ping, err := api.Ping(ctx)
	if err != nil {
		return "", refine(ctx, "GET /_ping", err)
	}
	if e.fixed {
		return e.agreed().ClientVersion(), nil
	}
	api.NegotiateAPIVersionPing(ping)
	e.agree(api)
	return api.ClientVersion(), nil
}

// Version is what answers and how it is spoken to.
type Version struct {
	// Host is the address as DOCKER_HOST spells it.
	Host string
	// Engine is the engine's own version, empty where a socket proxy refuses to pass the question on.
	Engine string
	// API is the version that calls are made with.
	API string
}

// Version asks the engine what it is. Host is there with an error too.
func (e *Engine) Version(ctx context.Context) (Version, error) {
	v := Version{Host: e.host}
	err := e.call(ctx, callTimeout, "GET /version", func(ctx context.Context, api *client.Client) error {
		seen, err := api.ServerVersion(ctx)
		v.Engine, v.API = seen.Version, api.ClientVersion()
		return err
	})
	if !errors.Is(err, ErrForbidden) {
		return v, err
	}
	v.Engine, v.API = "", e.agreed().ClientVersion()
	return v, nil
}

// call does one call under a time limit and gives its error a meaning. what is the call as a socket proxy's rule would name it.
func (e *Engine) call(ctx context.Context, limit time.Duration, what string, do func(context.Context, *client.Client) error) error {
	api, err := e.client(ctx)
	if err != nil {
		return err
	}
	ctx, cancel := context.WithTimeout(ctx, limit)
	defer cancel()
	err = do(ctx, api)
	if again := e.agreeAfter(err); again != nil {
		api, err = again, do(ctx, again)
	}
	if version := supported(err); version != "" {
		err = &versionError{spoken: api.ClientVersion(), wanted: version, err: err}
	}
	return refine(ctx, what, err)
}

// client returns the one agreed upon. A refused ping is no reason to stop, since a socket proxy may let nothing through but the
// call that is to be made: the library's newest version is spoken then, until the engine names its own (see supported).
func (e *Engine) client(ctx context.Context) (*client.Client, error) {
	if api := e.agreed(); api != nil {
		return api, nil
	}
	_, err := e.Ping(ctx)
	_, strange := errors.AsType[*strangerError](err) // a proxy's own refusal may look like that
	if errors.Is(err, ErrUnavailable) && !strange || ctx.Err() != nil {
		return nil, err
	}
	if err == nil {
		return e.agreed(), nil
	}
	api, err := e.speak("")
	if err != nil {
		return nil, err
	}
	e.agree(api)
	return api, nil
}

// agreeAfter agrees upon the version that the engine named in refusing ours; nil if it did not, or a person chose.
func (e *Engine) agreeAfter(err error) *client.Client {
	version := supported(err)
	if version == "" || e.fixed {
		return nil
	}
	api, err := e.speak(version)
	if err != nil {
		return nil
	}
	e.agree(api)
	return api
}

// speak makes a client for one version; "" stands for the library's newest. We agree upon the version ourselves: the library
// would swallow the errors of doing so, and writes its version while others read it.
func (e *Engine) speak(version string) (*client.Client, error) {
	return client.NewClientWithOpts(
		client.WithHost(e.host),
		client.WithHTTPClient(&http.Client{Transport: e.http, CheckRedirect: client.CheckRedirect}),
		client.WithScheme(e.base.Scheme),
		client.WithVersion(version),
	)
}

func (e *Engine) agreed() *client.Client {
	e.mu.Lock()
	defer e.mu.Unlock()
	return e.api
}

func (e *Engine) agree(api *client.Client) {
	e.mu.Lock()
	defer e.mu.Unlock()
	e.api = api
}

var supportedVersion = regexp.MustCompile(`(?:Maximum|Minimum) supported API version is (\d+\.\d+)`)

// supported is the version that the engine names when it refuses ours: the ping was refused, so that we sent the library's
// newest, or the engine was replaced by another while we ran.
func supported(err error) string {
	if err == nil {
		return ""
	}
	if m := supportedVersion.FindStringSubmatch(err.Error()); m != nil {
		return m[1]
	}
	return ""
}

// socket is the path of the engine's unix socket, "" for tcp://.
func (e *Engine) socket() string {
	path, ok := strings.CutPrefix(e.host, "unix://")
	if !ok {
		return ""
	}
	return path
}
