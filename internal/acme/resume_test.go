package acme

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"net/http"
	"net/http/httptest"
	"path/filepath"
	"sync/atomic"
	"testing"
	"time"

	"github.com/sidecert/sidecert/internal/acmetest"
	"github.com/sidecert/sidecert/internal/cert"
)

// outage lets requests through until one, and from then on cuts every connection.
type outage struct {
	seen, at atomic.Int64
	// heard has the CA take in the request at which it begins, so that only the answer is lost.
	heard bool
}

func (o *outage) wrap(next http.Handler) http.Handler {
	return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		n, at := o.seen.Add(1), o.at.Load()
		switch {
		case at == 0 || n < at:
			next.ServeHTTP(w, r)
		case n == at && o.heard:
			next.ServeHTTP(httptest.NewRecorder(), r)
			cut()
		default:
			cut()
		}
	})
}

func TestInterruptedAtEachRequestNeverGetsASecondCertificate(t *testing.T) {
	for _, heard := range []bool{false, true} {
		for at := int64(1); at <= 9; at++ {
			t.Run(fmt.Sprintf("request %d heard=%t", at, heard), func(t *testing.T) {
				t.Parallel()
				o := &outage{heard: heard}
				s := newSite(t, acmetest.Config{Wrap: o.wrap})
				s.obtain(t, "account.test")
				s.restart()
				before := s.Issued()
				req, kept := s.request("example.test", "www.example.test")

				o.seen.Store(0)
				o.at.Store(at)
				if _, err := s.issuer.Obtain(context.Background(), req); err == nil {
					t.Fatal("Obtain succeeded although the CA was gone")
				}
				o.at.Store(0)
				s.restart()
				req.Order = kept.order
				bundle := must(t, s.issuer, req)
				if n := s.Issued() - before; n != 1 {
					t.Errorf("the CA issued %d certificates, want 1; order saved as %q", n, kept.history)
				}
				if kept.order == nil {
					t.Error("the order was dropped after success: that is the caller's to do")
				}
				req.Order = kept.order
				if again := must(t, s.issuer, req); !bytes.Equal(again.Chain[0].Raw, bundle.Chain[0].Raw) {
					t.Error("until the order is forgotten, Obtain must return the same certificate")
				}
			})
		}
	}
}

func TestSingleLostAnswersHealWithoutANewAttempt(t *testing.T) {
	for _, kind := range []string{"order", "certificate", "finalize", "authorization"} {
		t.Run(kind, func(t *testing.T) {
			t.Parallel()
			var seen atomic.Int64
			s := newSite(t, acmetest.Config{Wrap: func(next http.Handler) http.Handler {
				return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
					if acmetest.Kind(r.URL.Path) == kind && seen.Add(1) == 1 {
						next.ServeHTTP(httptest.NewRecorder(), r)
						cut()
					}
					next.ServeHTTP(w, r)
				})
			}})
			s.obtain(t, "example.test")
			if n := s.Issued(); n != 1 {
				t.Errorf("the CA issued %d certificates, want 1", n)
			}
		})
	}
}

func TestCancelledAttemptIsInterruptedAndItsOrderKept(t *testing.T) {
	ctx, cancel := context.WithCancel(context.Background())
	defer cancel()
	s := newSite(t, acmetest.Config{Wrap: answer("challenge", func(w http.ResponseWriter, r *http.Request) {
		cancel()
		<-r.Context().Done()
	})})
	req, kept := s.request("example.test")
	_, err := s.issuer.Obtain(ctx, req)
	if e := failed(t, err); e.Kind != cert.KindInterrupted || !errors.Is(err, context.Canceled) {
		t.Errorf("a cancelled attempt gave %v of kind %q, want interrupted", err, e.Kind)
	}
	if kept.order == nil || kept.order.URL == "" {
		t.Error("the order of a cancelled attempt was not kept")
	}
}

func TestOrderThatDoesNotFitIsReplaced(t *testing.T) {
	rows := map[string]func(*cert.Request){
		"other names":       func(r *cert.Request) { r.Order.Names = []string{"other.test"} },
		"other CA":          func(r *cert.Request) { r.Order.Account = "elsewhere" },
		"other profile":     func(r *cert.Request) { r.Order.Profile = "shortlived" },
		"other type of key": func(r *cert.Request) { r.Spec.KeyType = cert.EC384 },
		"broken key":        func(r *cert.Request) { r.Order.Key = []byte("no key") },
		"broken request":    func(r *cert.Request) { r.Order.CSR = nil },
		"gone at the CA":    func(r *cert.Request) { r.Order.URL += "x" },
	}
	for name, change := range rows {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			o := &outage{}
			s := newSite(t, acmetest.Config{Wrap: o.wrap})
			req, kept := s.request("example.test")
			o.at.Store(9) // with the registration, that is before finalize
			if _, err := s.issuer.Obtain(context.Background(), req); err == nil {
				t.Fatal("the outage did not come")
			}
			o.at.Store(0)
			order := *kept.order
			req.Order = &order
			change(&req)
			kept.history = nil
			must(t, s.issuer, req)
			if len(kept.history) != 3 || kept.history[0] != "-" {
				t.Errorf("saved %q, want nil first and then a new order", kept.history)
			}
		})
	}
}

func TestOrderThatDiedMeanwhileIsReplaced(t *testing.T) {
	var asked atomic.Int64
	s := newSite(t, acmetest.Config{Wrap: answerFirst("order", &asked, func(w http.ResponseWriter, r *http.Request) {
		w.Write([]byte(`{"status":"invalid"}`))
	})})
	req, kept := s.request("example.test")
	req.Spec.Webroot = filepath.Join(s.webroot, "not", "mounted")
	if _, err := s.issuer.Obtain(context.Background(), req); err == nil || kept.order == nil {
		t.Fatalf("error %v and order %v, want a failure that keeps the order", err, kept.order)
	}
	req.Order, req.Spec.Webroot = kept.order, s.webroot
	must(t, s.issuer, req)
	if asked.Load() < 2 || s.Requests()["newOrder"] != 2 {
		t.Errorf("%d orders, want the dead one replaced", s.Requests()["newOrder"])
	}
}

func TestCertificateThatTheCADeniesIsOrderedAnew(t *testing.T) {
	var asked atomic.Int64
	s := newSite(t, acmetest.Config{Wrap: answerFirst("certificate", &asked, func(w http.ResponseWriter, r *http.Request) {
		problem(w, http.StatusNotFound, "malformed", "no such certificate")
	})})
	req, kept := s.request("example.test")
	if _, err := s.issuer.Obtain(context.Background(), req); err == nil || kept.order != nil {
		t.Errorf("error %v and order %v, want a failure that drops the order", err, kept.order)
	}
}

func TestOrderWithoutURLIsMadeAgainWithItsKey(t *testing.T) {
	o := &outage{heard: true}
	s := newSite(t, acmetest.Config{Wrap: o.wrap})
	req, kept := s.request("example.test")
	o.at.Store(4) // directory, newNonce, newAccount, newOrder
	if _, err := s.issuer.Obtain(context.Background(), req); err == nil {
		t.Fatal("the outage did not come")
	}
	o.at.Store(0)
	if kept.order == nil || kept.order.URL != "" {
		t.Fatalf("saved order %v, want one without URL", kept.order)
	}
	key, err := cert.ParseKey(kept.order.Key)
	if err != nil {
		t.Fatal(err)
	}
	req.Order = kept.order
	if !reused(cert.Bundle{Key: key}, must(t, s.issuer, req)) {
		t.Error("the certificate has another key than the order that was saved")
	}
}

func TestNothingIsOrderedThatCannotBeSaved(t *testing.T) {
	s := newSite(t, acmetest.Config{})
	req, kept := s.request("example.test")
	kept.err = errors.New("disk full")
	_, err := s.issuer.Obtain(context.Background(), req)
	if e := failed(t, err); e.Op != "save" || !errors.Is(err, kept.err) {
		t.Errorf("error %v with op %q, want the disk's with op save", err, e.Op)
	}
	if n := s.Requests()["newOrder"]; n != 0 {
		t.Errorf("%d orders were made", n)
	}
}

// A CA that takes its time answers finalize with "processing" or still "ready", and says orderNotReady where the
// authorizations have not got through to the order yet.
func TestSlowCAIsWaitedFor(t *testing.T) {
	var early atomic.Int64
	s := newSite(t, acmetest.Config{Wrap: answerFirst("finalize", &early, func(w http.ResponseWriter, r *http.Request) {
		problem(w, http.StatusForbidden, "orderNotReady", "not yet")
	})})
	s.obtain(t, "example.test")
	if n := s.Issued(); n != 1 {
		t.Errorf("the CA issued %d certificates, want 1", n)
	}
}

func TestOrderStuckInProcessingIsKept(t *testing.T) {
	s := newSite(t, acmetest.Config{Wrap: answer("order", func(w http.ResponseWriter, r *http.Request) {
		w.Header().Set("Content-Type", "application/json")
		w.Write([]byte(`{"status":"processing"}`))
	})})
	s.issuer.pace = func(d time.Duration) time.Duration { return d / 1000 }
	req, kept := s.request("example.test")
	_, err := s.issuer.Obtain(context.Background(), req)
	if e := failed(t, err); e.Kind != cert.KindPassing || e.Op != "finalize" {
		t.Errorf("error %v: op %q kind %q, want a passing failure to finalize", err, e.Op, e.Kind)
	}
	if kept.order == nil || kept.order.URL == "" {
		t.Error("the order was dropped although its certificate may still come")
	}
}

// answerFirst is answer for the first request of a kind alone.
func answerFirst(kind string, seen *atomic.Int64, h http.HandlerFunc) func(http.Handler) http.Handler {
	return func(next http.Handler) http.Handler {
		return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
			if acmetest.Kind(r.URL.Path) == kind && seen.Add(1) == 1 {
				h(w, r)
				return
			}
			next.ServeHTTP(w, r)
		})
	}
}
