package reload

import (
	"context"
	"crypto/tls"
	"crypto/x509"
	"errors"
	"fmt"
	"net"
	"strings"
	"sync"

	"github.com/sidecert/sidecert/internal/cert"
)

// parallel is how many names are asked for at once in one place. A certificate may have 100.
const parallel = 8

// sight is what is served for one lineage in one container or endpoint, over all its names.
type sight struct {
	class cert.Class
	// other says that everything foreign is another lineage of ours: this server has nothing to do with this one.
	other bool
	// bare says that the stored leaf was served without the rest of its chain.
	bare bool
	// err says of a foreign one whose it is, and of an unseen one why.
	err error
}

// rank is the order in which one name's class stands for the whole: one stale name makes the lineage stale.
var rank = map[cert.Class]int{cert.Unseen: 1, cert.Foreign: 2, cert.Current: 3, cert.Stale: 4}

func (s sight) and(t sight) sight {
	switch {
	case rank[t.class] > rank[s.class]:
		return t
	case t.class == s.class:
		s.other, s.bare = s.other && t.other, s.bare || t.bare
	}
	return s
}

// see dials the places with each of the certificate's names and says what is served. kept are all certificates, ours.
func (r *Reloader) see(ctx context.Context, k cert.Kept, places []place, kept []cert.Kept) sight {
	s := sight{class: cert.Unseen, err: errors.New("no network in common, and port 443 is not published")}
	for i, p := range places {
		t := r.seePlace(ctx, k, p, kept)
		if i == 0 {
			s = t
			continue
		}
		s = s.and(t)
	}
	return s
}

// seePlace asks for the first name alone: where nobody answers, the other names need not wait for that too.
func (r *Reloader) seePlace(ctx context.Context, k cert.Kept, p place, kept []cert.Kept) sight {
	names := k.Spec.Names
	if len(names) == 0 {
		return sight{class: cert.Unseen, err: errors.New("the certificate has no name to ask for")}
	}
	conn, err := r.connect(ctx, p)
	if err != nil {
		return sight{class: cert.Unseen, err: err}
	}
	addr := place{conn.RemoteAddr().String()}
	s := classify(k, kept, names[0], r.handshake(ctx, conn, names[0]))

	var mu sync.Mutex
	each(parallel, names[1:], func(name string) {
		conn, err := r.connect(ctx, addr)
		t := sight{class: cert.Unseen, err: err}
		if err == nil {
			t = classify(k, kept, name, r.handshake(ctx, conn, name))
		}
		mu.Lock()
		defer mu.Unlock()
		s = s.and(t)
	})
	return s
}

func classify(k cert.Kept, kept []cert.Kept, name string, a answer) sight {
	if a.refused {
		return sight{class: cert.Foreign, other: true, err: a.err}
	}
	s := sight{class: k.Lineage.Classify(a.leaf), err: a.err}
	s.bare = s.class == cert.Current && a.alone && len(k.Lineage.Chain) > 1
	if s.class != cert.Foreign {
		return s
	}
	for _, o := range kept {
		if class := o.Lineage.Classify(a.leaf); class == cert.Current || class == cert.Stale {
			s.other, s.err = true, fmt.Errorf("the certificate %q is served for %s", o.Lineage.Name, name)
			return s
		}
	}
	s.err = fmt.Errorf("another certificate is served for %s: %s", name, describe(a.leaf))
	return s
}

// describe a foreign certificate, which may say of itself whatever it likes at any length.
func describe(c *x509.Certificate) string {
	names := strings.Join(cert.NamesOf(c), ", ")
	if names == "" {
		names = c.Subject.String()
	}
	return fmt.Sprintf("for %.200q, issued by %.200q", names, c.Issuer.String())
}

// answer is the leaf that a server showed, or why it showed none.
type answer struct {
	leaf *x509.Certificate
	// alone says that no other certificate came with it.
	alone bool
	// refused says that the server has no such name, as nginx with ssl_reject_handshake has it.
	refused bool
	err     error
}

// connect takes the first of a place's addresses that answers.
func (r *Reloader) connect(ctx context.Context, p place) (net.Conn, error) {
	dialer := net.Dialer{Timeout: r.pace.handshake}
	err := errors.New("no address")
	for _, addr := range p {
		conn, dialErr := dialer.DialContext(ctx, "tcp", addr)
		if dialErr == nil {
			return conn, nil
		}
		err = dialErr
	}
	return nil, err
}

// handshake asks for a name and closes the connection. What is made of a leaf is the caller's: an answer has one even if the
// handshake failed afterwards, as it does where the server wants a certificate of the client.
func (r *Reloader) handshake(ctx context.Context, conn net.Conn, name string) answer {
	ctx, cancel := context.WithTimeout(ctx, r.pace.handshake)
	defer cancel()
	defer conn.Close()
	var a answer
	client := tls.Client(conn, &tls.Config{
		ServerName: name, // an IP address is not sent as SNI, as RFC 6066 §3 has it
		MinVersion: tls.VersionTLS10,
		// Whether the certificate is to be trusted is not asked here: a placeholder or an expired one must be recognized too.
		// Nothing is sent over the connection, and the leaf is compared with the stored one byte for byte.
		InsecureSkipVerify: true,
		VerifyPeerCertificate: func(raw [][]byte, _ [][]*x509.Certificate) (err error) {
			if len(raw) > 0 {
				a.alone = len(raw) == 1
				a.leaf, err = x509.ParseCertificate(raw[0])
			}
			return err
		},
	})
	err := client.HandshakeContext(ctx)
	if a.leaf == nil {
		a.refused = err != nil && strings.HasSuffix(err.Error(), alertUnknownName)
		a.err = fmt.Errorf("TLS handshake for %s with %s: %w", name, conn.RemoteAddr(), err)
	}
	return a
}

// alertUnknownName is how crypto/tls spells a server's alert unrecognized_name(112), RFC 6066 §3.
const alertUnknownName = "tls: unrecognized name"

// each does something with every item, at most limit at a time, and returns when all is done.
func each[T any](limit int, items []T, do func(T)) {
	var wg sync.WaitGroup
	free := make(chan struct{}, limit)
	for _, item := range items {
		free <- struct{}{}
		wg.Go(func() {
			defer func() { <-free }()
			do(item)
		})
	}
	wg.Wait()
}
