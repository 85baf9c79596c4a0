package docker_test

import (
	"context"
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/tls"
	"crypto/x509"
	"encoding/pem"
	"errors"
	"io"
	"math/big"
	"net"
	"net/http"
	"net/http/httptest"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/sidecert/sidecert/internal/docker"
	"github.com/sidecert/sidecert/internal/docker/dockertest"
)

// authority is a CA for engines and their clients.
type authority struct {
	cert *x509.Certificate
	key  *ecdsa.PrivateKey
}

func newAuthority(t *testing.T) authority {
	t.Helper()
	key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		t.Fatal(err)
	}
	template := &x509.Certificate{
		SerialNumber: big.NewInt(1), NotAfter: time.Now().Add(time.Hour), IsCA: true, BasicConstraintsValid: true, KeyUsage: x509.KeyUsageCertSign,
	}
	der, err := x509.CreateCertificate(rand.Reader, template, template, key.Public(), key)
	if err != nil {
		t.Fatal(err)
	}
	cert, err := x509.ParseCertificate(der)
	if err != nil {
		t.Fatal(err)
	}
	return authority{cert, key}
}

// issue writes {ca,cert,key}.pem for both sides of a connection: ca.pem is the one whom the holder trusts.
func (a authority) issue(t *testing.T, trusts authority, host string, notAfter time.Time) (dir string) {
	t.Helper()
	key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		t.Fatal(err)
	}
	template := &x509.Certificate{
		SerialNumber: big.NewInt(2), NotBefore: notAfter.Add(-2 * time.Hour), NotAfter: notAfter, KeyUsage: x509.KeyUsageDigitalSignature,
		ExtKeyUsage: []x509.ExtKeyUsage{x509.ExtKeyUsageServerAuth, x509.ExtKeyUsageClientAuth},
	}
	if ip := net.ParseIP(host); ip != nil {
		template.IPAddresses = []net.IP{ip}
	} else {
		template.DNSNames = []string{host}
	}
	der, err := x509.CreateCertificate(rand.Reader, template, a.cert, key.Public(), a.key)
	if err != nil {
		t.Fatal(err)
	}
	pkcs8, err := x509.MarshalPKCS8PrivateKey(key)
	if err != nil {
		t.Fatal(err)
	}
	dir = t.TempDir()
	for name, block := range map[string]*pem.Block{
		"ca.pem": {Type: "CERTIFICATE", Bytes: trusts.cert.Raw}, "cert.pem": {Type: "CERTIFICATE", Bytes: der}, "key.pem": {Type: "PRIVATE KEY", Bytes: pkcs8},
	} {
		if err := os.WriteFile(filepath.Join(dir, name), pem.EncodeToMemory(block), 0o600); err != nil {
			t.Fatal(err)
		}
	}
	return dir
}

// wantAdvice lists the containers of an engine, which works or fails with advice.
func wantAdvice(t *testing.T, c docker.Config, advice string) {
	t.Helper()
	e := client(t, c)
	_, err := e.List(t.Context(), docker.Filter{})
	if advice == "" {
		if err != nil {
			t.Errorf("List() failed: %v", err)
		}
		return
	}
	if !errors.Is(err, docker.ErrUnavailable) || !strings.Contains(e.Advice(err), advice) || strings.Contains(err.Error(), "\n") {
		t.Errorf("List() failed with %v and the advice %q, want %q", err, e.Advice(err), advice)
	}
}

func TestEnginesCertificateIsSaidToBeWhatIsWrong(t *testing.T) {
	f, _ := fake(t)
	ours := newAuthority(t)
	for name, tt := range map[string]struct {
		host     string
		notAfter time.Time
		advice   string
	}{
		"expired":          {"127.0.0.1", time.Now().Add(-time.Minute), "out of date"},
		"for another name": {"engine.test", time.Now().Add(time.Hour), "for another name"},
		"as it should be":  {"127.0.0.1", time.Now().Add(time.Hour), ""},
	} {
		t.Run(name, func(t *testing.T) {
			dir := ours.issue(t, ours, tt.host, tt.notAfter)
			pair, err := tls.LoadX509KeyPair(dir+"/cert.pem", dir+"/key.pem")
			if err != nil {
				t.Fatal(err)
			}
			srv := httptest.NewUnstartedServer(f)
			srv.TLS = &tls.Config{Certificates: []tls.Certificate{pair}}
			srv.Config.ErrorLog = quiet()
			srv.StartTLS()
			defer srv.Close()
			wantAdvice(t, docker.Config{Host: "tcp://" + srv.Listener.Addr().String(), CertPath: ours.issue(t, ours, "me", time.Now().Add(time.Hour)), TLSVerify: true}, tt.advice)
		})
	}
}

// TestPlainHTTPToATLSPortOfAnotherKindIsRecognized has the answers of nginx and httpd, and of what knows nothing but TLS.
func TestPlainHTTPToATLSPortOfAnotherKindIsRecognized(t *testing.T) {
	for name, answer := range map[string]string{
		"nginx": "HTTP/1.1 400 Bad Request\r\nContent-Type: text/html\r\nConnection: close\r\n\r\n<html><title>400 The plain HTTP request was sent to HTTPS port</title></html>",
		"httpd": "HTTP/1.1 400 Bad Request\r\nContent-Type: text/html\r\nConnection: close\r\n\r\nReason: You're speaking plain HTTP to an SSL-enabled server port.",
		"alert": "\x15\x03\x01\x00\x02\x02\x46",
	} {
		t.Run(name, func(t *testing.T) {
			l, err := net.Listen("tcp", "127.0.0.1:0")
			if err != nil {
				t.Fatal(err)
			}
			defer l.Close()
			go func() {
				for {
					conn, err := l.Accept()
					if err != nil {
						return
					}
					conn.Read(make([]byte, 1024))
					io.WriteString(conn, answer)
					conn.Close()
				}
			}()
			wantAdvice(t, docker.Config{Host: "tcp://" + l.Addr().String()}, "speaks TLS only")
		})
	}
}

func TestProxyWithoutAnEngineBehindItIsToldFromNobody(t *testing.T) {
	for _, status := range []int{http.StatusBadGateway, http.StatusServiceUnavailable, http.StatusGatewayTimeout} {
		srv := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, _ *http.Request) { http.Error(w, "<html>", status) }))
		wantAdvice(t, docker.Config{Host: "tcp://" + srv.Listener.Addr().String()}, "answers, but not the engine behind it")
		srv.Close()
	}
	wantAdvice(t, docker.Config{Host: "tcp://127.0.0.1:1"}, "nothing answers")
}

func TestListenerThatOnlyClosesMaySpeakTLS(t *testing.T) { // as HAProxy does
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	defer l.Close()
	go func() {
		for {
			conn, err := l.Accept()
			if err != nil {
				return
			}
			conn.Read(make([]byte, 1024))
			conn.Close()
		}
	}()
	wantAdvice(t, docker.Config{Host: "tcp://" + l.Addr().String()}, "ends the connection: where it speaks TLS only, set DOCKER_TLS_VERIFY=1")
}

func TestRefusedVersionComesWithTheVariableToSet(t *testing.T) {
	f, e := fake(t)
	f.Versions("1.24", "1.41")
	wantAdvice(t, docker.Config{Host: f.Host(), APIVersion: "1.51"}, "unset DOCKER_API_VERSION, so that a version is agreed upon, or set it to 1.41")
	f.Versions("1.60", "1.65")
	wantAdvice(t, docker.Config{Host: f.Host(), APIVersion: "1.51"}, "or set it to 1.60")
	if _, err := e.List(t.Context(), docker.Filter{}); err != nil {
		t.Errorf("List() with an engine that speaks nothing older than 1.60: %v", err)
	}

	never := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		w.Header().Set("Api-Version", "2.1")
		w.Header().Set("Content-Type", "application/json")
		w.WriteHeader(http.StatusBadRequest)
		io.WriteString(w, `{"message": "client version 1.51 is too old. Minimum supported API version is 2.0, please upgrade your client to a newer version"}`)
	}))
	defer never.Close()
	wantAdvice(t, docker.Config{Host: "tcp://" + never.Listener.Addr().String()}, "update sidecert, or set DOCKER_API_VERSION=2.0")
}

func TestEventsAreToldByAnOlderEngineWhoseProxyRefusesThePing(t *testing.T) {
	f, e := fake(t)
	f.Forbid("HEAD /_ping", "GET /_ping")
	f.Add(dockertest.Container{Name: "web"})
	ctx, cancel := context.WithCancel(t.Context())
	opened := false
	err := e.Events(ctx, time.Time{}, nil, func() { opened = true; cancel() }, func(docker.Event) {})
	if !opened || !errors.Is(err, context.Canceled) {
		t.Errorf("Events() = %v, opened: %v; want it opened and ended by us", err, opened)
	}
}
