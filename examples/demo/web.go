package main

import (
	"crypto/tls"
	"crypto/x509"
	"fmt"
	"net"
	"net/http"
	"path/filepath"
	"strconv"
	"sync/atomic"

	"github.com/sidecert/sidecert/internal/docker/dockertest"
)

// web is a web server that behaves like nginx: it reads its certificate when it starts and at a HUP, and at no other time.
type web struct {
	live    string
	current atomic.Pointer[tls.Certificate]
	http    net.Listener
	https   net.Listener
}

func startWeb(live, webroot string, httpPort int) (*web, error) {
	w := &web{live: live}
	if err := w.load(); err != nil {
		return nil, err
	}
	var err error
	if w.http, err = net.Listen("tcp", net.JoinHostPort("127.0.0.1", strconv.Itoa(httpPort))); err != nil {
		return nil, err
	}
	w.https, err = tls.Listen("tcp", "127.0.0.1:0", &tls.Config{
		GetCertificate: func(*tls.ClientHelloInfo) (*tls.Certificate, error) { return w.current.Load(), nil },
	})
	if err != nil {
		return nil, err
	}
	site := http.NewServeMux()
	site.Handle("/.well-known/acme-challenge/", http.FileServer(http.Dir(webroot)))
	site.HandleFunc("/", func(rw http.ResponseWriter, r *http.Request) {
		http.Redirect(rw, r, "https://"+r.Host+r.URL.Path, http.StatusMovedPermanently)
	})
	go http.Serve(w.http, site) // both end with their listeners
	go http.Serve(w.https, http.HandlerFunc(func(rw http.ResponseWriter, _ *http.Request) { fmt.Fprintln(rw, "hello") }))
	return w, nil
}

func (w *web) close() {
	w.http.Close()
	w.https.Close()
}

func (w *web) load() error {
	pair, err := tls.LoadX509KeyPair(filepath.Join(w.live, "fullchain.pem"), filepath.Join(w.live, "privkey.pem"))
	if err == nil {
		w.current.Store(&pair)
	}
	return err
}

// signal is what the engine calls; a pair that cannot be loaded leaves the old one in use, as with nginx.
func (w *web) signal(signal string) {
	if signal == "HUP" || signal == "SIGHUP" {
		w.load()
	}
}

func (w *web) address() string { return w.https.Addr().String() }

// seen is the leaf that a client is shown.
func (w *web) seen() *x509.Certificate {
	conn, err := tls.Dial("tcp", w.address(), &tls.Config{
		ServerName:         domain,
		InsecureSkipVerify: true, // the placeholder is to be seen too; what the CA gave is verified by watch
	})
	if err != nil {
		return nil
	}
	defer conn.Close()
	return conn.ConnectionState().PeerCertificates[0]
}

// container is how the engine presents the web server.
func (w *web) container() dockertest.Container {
	port := func(l net.Listener) string { return strconv.Itoa(l.Addr().(*net.TCPAddr).Port) + "/tcp" }
	return dockertest.Container{
		Name: "web", Image: "nginx:1", RestartPolicy: "always",
		Ports: map[string][]dockertest.Port{port(w.http): {{HostPort: "80"}}, port(w.https): {{HostPort: "443"}}},
	}
}
