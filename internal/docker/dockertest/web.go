package dockertest

import (
	"crypto/tls"
	"crypto/x509"
	"net"
	"net/http"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"sync/atomic"
)

// Web is a web server of this process that behaves like an nginx in a container: it reads its certificate when it starts and at
// a HUP, and at no other time; it serves challenge files over HTTP and redirects all else to HTTPS.
type Web struct {
	live    string
	current atomic.Pointer[tls.Certificate]
	hidden  atomic.Value // the names of which it knows nothing, a []string
	http    net.Listener
	https   net.Listener
}

// StartWeb serves the certificate in the folder live, and the challenge files in webroot on a port of 127.0.0.1. As nginx, it does
// not start without a certificate.
func StartWeb(live, webroot string, httpPort int) (*Web, error) {
	w := &Web{live: live}
	w.Hide()
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
		w.http.Close()
		return nil, err
	}
	files := http.FileServer(http.Dir(webroot))
	site := http.NewServeMux()
	site.HandleFunc("/.well-known/acme-challenge/", func(rw http.ResponseWriter, r *http.Request) {
		host, _, _ := strings.Cut(r.Host, ":")
		rw.Header().Set("Server", "nginx/1.28.0")
		if slices.Contains(w.hidden.Load().([]string), host) {
			http.NotFound(rw, r)
			return
		}
		files.ServeHTTP(rw, r)
	})
	site.HandleFunc("/", func(rw http.ResponseWriter, r *http.Request) {
		http.Redirect(rw, r, "https://"+r.Host+r.URL.Path, http.StatusMovedPermanently)
	})
	go http.Serve(w.http, site) // both end with their listeners
	go http.Serve(w.https, http.NotFoundHandler())
	return w, nil
}

// Close ends the server.
func (w *Web) Close() {
	w.http.Close()
	w.https.Close()
}

func (w *Web) load() error {
	pair, err := tls.LoadX509KeyPair(filepath.Join(w.live, "fullchain.pem"), filepath.Join(w.live, "privkey.pem"))
	if err == nil {
		w.current.Store(&pair)
	}
	return err
}

// Signal is what OnKill passes on. A pair that cannot be loaded leaves the old one in use, as with nginx.
func (w *Web) Signal(signal string) {
	if signal == "HUP" || signal == "SIGHUP" {
		w.load()
	}
}

// Hide has no challenge file found under these names from now on, as where an nginx has them in no server_name; without any it ends.
func (w *Web) Hide(names ...string) { w.hidden.Store(names) }

// Address is where it serves HTTPS.
func (w *Web) Address() string { return w.https.Addr().String() }

// Seen is the leaf that a client which asks for name is shown, whoever signed it; nil if there is no answer.
func (w *Web) Seen(name string) *x509.Certificate {
	conn, err := tls.Dial("tcp", w.Address(), &tls.Config{
		ServerName:         name,
		InsecureSkipVerify: true, // a placeholder is to be seen too
	})
	if err != nil {
		return nil
	}
	defer conn.Close()
	return conn.ConnectionState().PeerCertificates[0]
}

// Container is how an engine presents the server.
func (w *Web) Container(name string) Container {
	port := func(l net.Listener) string { return strconv.Itoa(l.Addr().(*net.TCPAddr).Port) + "/tcp" }
	return Container{
		Name: name, Image: "nginx:1", RestartPolicy: "always",
		Ports: map[string][]Port{port(w.http): {{HostPort: "80"}}, port(w.https): {{HostPort: "443"}}},
	}
}
