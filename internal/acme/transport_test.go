package acme

import (
	"bufio"
	"context"
	"crypto/tls"
	"fmt"
	"log/slog"
	"net"
	"net/http"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"github.com/sidecert/sidecert/internal/acmetest"
	"github.com/sidecert/sidecert/internal/cert"
)

func TestSlowCAIsGivenUp(t *testing.T) {
	rows := []struct {
		name  string
		speak func(conn net.Conn, gone <-chan struct{})
		want  time.Duration
	}{
		{"no header", func(net.Conn, <-chan struct{}) {}, headerTimeout},
		{"a byte a second", func(conn net.Conn, gone <-chan struct{}) {
			fmt.Fprint(conn, "HTTP/1.1 200 OK\r\nContent-Length: 1000\r\n\r\n")
			for {
				select {
				case <-gone:
					return
				case <-time.After(time.Second):
					conn.Write([]byte{' '})
				}
			}
		}, requestTimeout},
	}
	for _, row := range rows {
		t.Run(row.name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				client := pipedClient(t, row.speak)
				begun := time.Now()
				_, err := client.Get("https://ca.test/")
				if got := time.Since(begun); err == nil || got != row.want {
					t.Errorf("given up after %s with %v, want %s", got, err, row.want)
				}
			})
		})
	}
}

// pipedClient is the client that CAs are asked with, connected to a server that speaks as it likes once it has a request.
func pipedClient(t *testing.T, speak func(conn net.Conn, gone <-chan struct{})) *http.Client {
	t.Helper()
	pair, err := cert.Placeholder("ca", []string{"ca.test"}, time.Now())
	if err != nil {
		t.Fatal(err)
	}
	serverTLS := &tls.Config{Certificates: []tls.Certificate{{Certificate: [][]byte{pair.Chain[0].Raw, pair.Chain[1].Raw}, PrivateKey: pair.Key}}}
	client, err := newHTTPClient(cert.CA{Roots: string(cert.EncodeChain(pair.Chain[1:]))}, nil, slog.New(slog.DiscardHandler), func(Asked) {})
	if err != nil {
		t.Fatal(err)
	}
	client.Transport.(*transport).base.(*http.Transport).DialContext = func(context.Context, string, string) (net.Conn, error) {
		ours, theirs := net.Pipe()
		go func() {
			conn := tls.Server(theirs, serverTLS)
			defer theirs.Close()
			in := bufio.NewReader(conn)
			if _, err := http.ReadRequest(in); err != nil {
				return
			}
			gone := make(chan struct{})
			go func() {
				in.ReadByte() // until the client hangs up
				close(gone)
			}()
			speak(conn, gone)
			<-gone
		}()
		return ours, nil
	}
	return client
}

func TestRequestsAreLoggedWithoutWhatTheySay(t *testing.T) {
	var log strings.Builder
	s := newSite(t, acmetest.Config{EAB: map[string][]byte{"kid-1": []byte("canary-eab-key-canary-eab-key-01")}})
	s.log = slog.New(slog.NewTextHandler(&log, &slog.HandlerOptions{Level: slog.LevelDebug}))
	s.restart()
	req, kept := s.request("example.test")
	req.Spec.CA.EABKID, req.Spec.CA.EABKey = "kid-1", "canary-eab-key-canary-eab-key-01"
	must(t, s.issuer, req)

	if got, want := strings.Count(log.String(), `msg="request to the CA"`), s.Total(); got != want {
		t.Errorf("%d requests logged, want %d", got, want)
	}
	if !strings.Contains(log.String(), `level=DEBUG msg="request to the CA" method=POST path=/order-plz status=201 elapsed=`) {
		t.Errorf("newOrder is not logged as it should be:\n%s", log.String())
	}
	if !strings.Contains(log.String(), `level=INFO msg="account registered"`) || !strings.Contains(log.String(), "Do%20what%20thou%20wilt") {
		t.Errorf("the registration is not logged with the terms' URL:\n%s", log.String())
	}
	for _, secret := range []string{"canary", "signature", "PRIVATE KEY", string(kept.order.Key[30:60])} {
		if strings.Contains(log.String(), secret) {
			t.Errorf("the log has %q in it", secret)
		}
	}
}
