package store

import (
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
