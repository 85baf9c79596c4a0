package store

import (
	"bytes"
	"errors"
	"fmt"
	"path"

	"github.com/sidecert/sidecert/internal/cert"
)

// What the tests in store_test use of the others' and of what is inside.
var (
	CA      = ca
	Names   = names
	Spec    = spec
	Bundle  = bundle
	Conf    = certbotsConf
	Life    = life
	Missing = missing
)

// OptionsFor are those that the tests open volumes with.
var OptionsFor = options

// WholeLive returns an error unless live/NAME shows four files of one version to a web server.
func (s *Store) WholeLive(name string) error {
	_, err := s.bundle(func(file string) string { return path.Join("live", name, file+".pem") })
	return err
}

// HoldsKey reports whether archive/NAME or live/NAME has a private key.
func (s *Store) HoldsKey(name string, b cert.Bundle) bool {
	data, err := cert.EncodeKey(b.Key)
	return err == nil && (s.isStored(name, data) || s.holds(path.Join("live", name, "privkey.pem"), data))
}

// InArchive are the numbers in archive/NAME, newest first.
func (s *Store) InArchive(name string) []int { return s.numbers(name) }

// Knows reports whether anything is stored under a name.
func (s *Store) Knows(name string) bool { return s.knows(name) }

// HaproxyIsOfLive returns an error unless live/NAME/haproxy.pem is the chain and the key that live/NAME shows.
func (s *Store) HaproxyIsOfLive(name string) error {
	data, err := s.certs.ReadFile(haproxyName(name))
	if err != nil {
		return fmt.Errorf("haproxy.pem cannot be read: %w", err)
	}
	chain, errChain := s.readLive(name, cert.FullchainPEM)
	key, errKey := s.readLive(name, cert.PrivkeyPEM)
	if err := errors.Join(errChain, errKey); err != nil {
		return err
	}
	if !bytes.Equal(data, append(bytes.Clone(chain), key...)) {
		return errors.New("haproxy.pem is not of what is live")
	}
	return nil
}
