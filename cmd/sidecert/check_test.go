package main

import (
	"bytes"
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/tls"
	"crypto/x509"
	"math/big"
	"net"
	"strings"
	"testing"
	"time"

	"github.com/sidecert/sidecert/internal/config"
)

// impostor serves a certificate with names of its own choice.
func impostor(t *testing.T, names ...string) (port string) {
	t.Helper()
	key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		t.Fatal(err)
	}
	template := &x509.Certificate{SerialNumber: big.NewInt(1), NotBefore: time.Now().Add(-time.Hour), NotAfter: time.Now().Add(2000 * time.Hour), DNSNames: names}
	der, err := x509.CreateCertificate(rand.Reader, template, template, key.Public(), key)
	if err != nil {
		t.Fatal(err)
	}
	l, err := tls.Listen("tcp", "127.0.0.1:0", &tls.Config{Certificates: []tls.Certificate{{Certificate: [][]byte{der}, PrivateKey: key}}})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { l.Close() })
	go func() {
		for {
			conn, err := l.Accept()
			if err != nil {
				return
			}
			conn.(*tls.Conn).Handshake() // the other side says what came of it
			conn.Close()
		}
	}()
	_, port, err = net.SplitHostPort(l.Addr().String())
	if err != nil {
		t.Fatal(err)
	}
	return port
}

func TestCheckIsOneLineWhateverIsServed(t *testing.T) {
	port := impostor(t, "a\x1b[2J\nSIDECERT OK: all is well | 'x'=1")
	var out bytes.Buffer
	status := run(t.Context(), &invocation{args: []string{"check", "localhost:" + port}, stdout: &out, stderr: &out, world: config.HostWorld(), now: time.Now})
	line, rest, _ := strings.Cut(out.String(), "\n")
	if status != int(levelCritical) || rest != "" || !strings.HasPrefix(line, "SIDECERT CRITICAL: localhost:"+port+": ") ||
		strings.Count(line, "|") != 1 || strings.ContainsAny(line, "\x1b\r") {
		t.Errorf("status %d and %q, want one line that is CRITICAL", status, out.String())
	}
}

func TestDaysOfPerformanceDataAreShort(t *testing.T) {
	for d, want := range map[time.Duration]string{
		90 * 24 * time.Hour: "90", 89*24*time.Hour + 22*time.Hour: "89.9", 42 * time.Second: "0.0005", -time.Second: "0", -26 * time.Hour: "-1.0833",
	} {
		if got := days(d); got != want {
			t.Errorf("%v is %s days, want %s", d, got, want)
		}
	}
}
