package report

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"net"
	"net/http"
	"time"

	"github.com/prometheus/client_golang/prometheus/promhttp"
	"golang.org/x/net/netutil"

	"github.com/sidecert/sidecert/internal/cert"
)

// ServerConfig is what a Server tells of. Nothing in it is changed.
type ServerConfig struct {
	// Address is HOST:PORT.
	Address string
	// Standing and Journal, the newest line last, are read at most once in 2 s, however many ask.
	Standing func() (Standing, error)
	Journal  func() ([]Entry, error)
	// Health is what HealthFile holds.
	Health  func() ([]byte, error)
	Metrics *Metrics
	Version string
	Log     *slog.Logger
}

// Server shows people and machines how things stand. It takes no commands, and nothing that is asked of it changes anything.
type Server struct {
	ServerConfig
	standing shared[Standing]
	journal  shared[[]Entry]
	handler  http.Handler
	relisten time.Duration
}

// The limits of what comes from outside. Nothing that is asked for here has a body or long headers.
const (
	maxConns     = 64
	maxHeader    = 8 << 10
	readTime     = 5 * time.Second
	writeTime    = 30 * time.Second
	idleTime     = time.Minute
	shutdownTime = 2 * time.Second
	// relisten is how often a port that was taken is tried again.
	relisten = 30 * time.Second
)

// NewServer makes one; Run opens its port. The metrics can be of one server only.
func NewServer(c ServerConfig) *Server {
	s := &Server{ServerConfig: c, standing: shared[Standing]{make: c.Standing}, journal: shared[[]Entry]{make: c.Journal}, relisten: relisten}
	c.Metrics.collect(s.standing.get)
	mux := http.NewServeMux()
	mux.HandleFunc("GET /{$}", s.page)
	mux.HandleFunc("GET /style.css", asset("text/css; charset=utf-8", stylesheet))
	mux.HandleFunc("GET /icon.svg", asset("image/svg+xml", icon))
	mux.HandleFunc("GET /healthz", s.healthz)
	mux.HandleFunc("GET /api/status", s.status)
	mux.Handle("GET /metrics", promhttp.HandlerFor(c.Metrics.registry, promhttp.HandlerOpts{
		ErrorHandling: promhttp.ContinueOnError, MaxRequestsInFlight: 4, ErrorLog: slog.NewLogLogger(c.Log.Handler(), slog.LevelDebug),
	}))
	s.handler = guarded(mux)
	return s
}

// guarded lets a browser do no more with the answers than show them, and nobody keep them.
func guarded(next http.Handler) http.Handler {
	return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		h := w.Header()
		h.Set("Content-Security-Policy", "default-src 'none'; style-src 'self'; img-src 'self'; base-uri 'none'; form-action 'none'; frame-ancestors 'none'")
		h.Set("X-Content-Type-Options", "nosniff")
		h.Set("Referrer-Policy", "no-referrer")
		h.Set("Cross-Origin-Resource-Policy", "same-origin")
		h.Set("Cache-Control", "no-store")
		next.ServeHTTP(w, r)
	})
}

// Run answers until ctx ends. That the port cannot be had is a WARN and tried again: certificates matter more.
func (s *Server) Run(ctx context.Context) {
	said := ""
	for {
		err := s.serve(ctx, func() {
			if said != "" {
				s.Log.Info("status page can be reached now", "listen", s.Address)
			}
			said = ""
		})
		if ctx.Err() != nil {
			return
		}
		if text := err.Error(); text != said {
			said = text
			s.Log.Warn("status page and metrics cannot be reached", "listen", s.Address, cert.AttrErr, err,
				cert.AttrHint, "set LISTEN to an address of this container and a port that nobody else has, or to off; it is tried again every "+s.relisten.String())
		}
		select {
		case <-ctx.Done():
			return
		case <-time.After(s.relisten):
		}
	}
}

func (s *Server) serve(ctx context.Context, listening func()) error {
	listener, err := net.Listen("tcp", s.Address)
	if err != nil {
		return err
	}
	listening()
	s.Log.Debug("status page and metrics can be reached", "listen", listener.Addr().String())
	server := &http.Server{
		Handler: s.handler, MaxHeaderBytes: maxHeader, ReadHeaderTimeout: readTime, ReadTimeout: readTime, WriteTimeout: writeTime, IdleTimeout: idleTime,
		ErrorLog: slog.NewLogLogger(s.Log.Handler(), slog.LevelDebug), // whoever reaches the port could fill the log
	}
	ended := make(chan struct{})
	stop := context.AfterFunc(ctx, func() {
		defer close(ended)
		last, cancel := context.WithTimeout(context.Background(), shutdownTime)
		defer cancel()
		server.Shutdown(last)
		server.Close()
	})
	err = server.Serve(netutil.LimitListener(listener, maxConns))
	if !stop() {
		<-ended
	}
	return err
}

// healthz is `sidecert healthcheck` for those who ask by HTTP. It names no certificate.
func (s *Server) healthz(w http.ResponseWriter, _ *http.Request) {
	w.Header().Set("Content-Type", "text/plain; charset=utf-8")
	if err := s.health(); err != nil {
		w.WriteHeader(http.StatusServiceUnavailable)
		fmt.Fprintln(w, err)
		return
	}
	fmt.Fprintln(w, "healthy")
}

func (s *Server) health() error {
	data, err := s.Health()
	if err != nil {
		return errors.New("the daemon has given no sign of life yet")
	}
	h, err := decode(data)
	if err == nil {
		err = h.alive(SinceBoot())
	}
	if err == nil && len(h.Missing) > 0 {
		err = fmt.Errorf("no files to serve for %s", count(len(h.Missing), "certificate"))
	}
	return err
}

// status is `sidecert certificates --json`.
func (s *Server) status(w http.ResponseWriter, _ *http.Request) {
	standing, err := s.standing.get()
	if err != nil {
		s.fail(w, err)
		return
	}
	w.Header().Set("Content-Type", "application/json")
	w.Write(standing.Listed)
}

// fail says that it cannot be said how things stand.
func (s *Server) fail(w http.ResponseWriter, err error) {
	s.Log.Debug("request not answered", cert.AttrErr, err)
	http.Error(w, "how the certificates stand cannot be read: "+err.Error(), http.StatusInternalServerError)
}

func asset(kind string, content []byte) http.HandlerFunc {
	return func(w http.ResponseWriter, _ *http.Request) {
		w.Header().Set("Content-Type", kind)
		w.Write(content)
	}
}
