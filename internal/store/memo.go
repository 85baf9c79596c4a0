package store

import (
	"crypto/sha256"
	"crypto/tls"
	"crypto/x509"
	"encoding/binary"
	"slices"
	"sync"

	"github.com/sidecert/sidecert/internal/cert"
)

// parsed keeps what whole files were parsed to, so that what is read again is not parsed and its signatures are not checked again.
// Nothing in it can be out of date: it goes by the contents. What it returns is shared, and nobody changes it.
type parsed struct {
	chains  memo[[]*x509.Certificate]
	bundles memo[cert.Bundle]
	confs   memo[*conf]
	// pairs are those that a web server can start with, which asks for less than a bundle.
	pairs memo[struct{}]
}

// conf returns one that is the caller's to change.
func (p *parsed) conf(data []byte) (*conf, error) {
	c, err := p.confs.of(sumOf(data), func() (*conf, error) { return parseConf(data) })
	if err != nil {
		return nil, err
	}
	return &conf{lines: slices.Clone(c.lines), bom: c.bom, read: c.read}, nil
}

func (p *parsed) servable(chainPEM, keyPEM []byte) bool {
	_, err := p.pairs.of(sumOf(chainPEM, keyPEM), func() (none struct{}, err error) {
		_, err = tls.X509KeyPair(chainPEM, keyPEM)
		return none, err
	})
	return err == nil
}

func (p *parsed) chain(data []byte) ([]*x509.Certificate, error) {
	return p.chains.of(sumOf(data), func() ([]*x509.Certificate, error) { return cert.ParseChain(data) })
}

// pair is a bundle of what fullchain.pem and privkey.pem hold, if it is whole.
func (p *parsed) pair(chainPEM, keyPEM []byte) (cert.Bundle, error) {
	return p.bundles.of(sumOf(chainPEM, keyPEM), func() (cert.Bundle, error) {
		chain, err := p.chain(chainPEM)
		if err != nil {
			return cert.Bundle{}, err
		}
		key, err := cert.ParseKey(keyPEM)
		if err != nil {
			return cert.Bundle{}, err
		}
		b := cert.Bundle{Key: key, Chain: chain}
		return b, b.Whole()
	})
}

// digestOf is the SHA-256 of files' contents.
type digestOf [sha256.Size]byte

func sumOf(files ...[]byte) (sum digestOf) {
	h := sha256.New()
	for _, data := range files {
		h.Write(binary.BigEndian.AppendUint64(nil, uint64(len(data)))) // so that where one ends is part of it
		h.Write(data)
	}
	h.Sum(sum[:0])
	return sum
}

// maxKnown is how many things a memo holds, of about 5 kB each. 1,000 lineages have 1,000 live versions and some older ones that every
// pass reads.
const maxKnown = 8192

// memo remembers what was made of contents, not that nothing could be made. When it is full it forgets what was not asked for lately.
// It may be used by several at once.
type memo[T any] struct {
	mu            sync.Mutex
	recent, older map[digestOf]T
}

// of returns what make returns, or has returned for the same contents.
func (m *memo[T]) of(sum digestOf, make func() (T, error)) (T, error) {
	if v, ok := m.known(sum); ok {
		return v, nil
	}
	v, err := make()
	if err == nil {
		m.remember(sum, v)
	}
	return v, err
}

func (m *memo[T]) known(sum digestOf) (v T, ok bool) {
	m.mu.Lock()
	defer m.mu.Unlock()
	if v, ok = m.recent[sum]; ok {
		return v, true
	}
	if v, ok = m.older[sum]; ok {
		m.put(sum, v)
	}
	return v, ok
}

func (m *memo[T]) remember(sum digestOf, v T) {
	m.mu.Lock()
	defer m.mu.Unlock()
	m.put(sum, v)
}

func (m *memo[T]) put(sum digestOf, v T) {
	if m.recent == nil || len(m.recent) >= maxKnown/2 {
		m.recent, m.older = map[digestOf]T{}, m.recent
	}
	m.recent[sum] = v
}
