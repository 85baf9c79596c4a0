package store

import (
	"bytes"
	"errors"
	"fmt"
	"io/fs"
	"path"
	"slices"

	"github.com/sidecert/sidecert/internal/cert"
)

// haproxyPEM in live/NAME is chain and key of the live version in one file, as haproxy's "crt" wants it. It is a file and no link, and
// archive/NAME has nothing of it: it can be made of a version at any time, certbot's too. A person's own of that name is never touched.
// Ours is known by what it holds, so that no book of it can be lost. One that stands is kept up to date whether new ones are made or not:
// an old one that nobody follows up would be found out by visitors.
const haproxyPEM = "haproxy.pem"

func haproxyName(name string) string { return path.Join("live", name, haproxyPEM) }

// newHaproxy is where the next one is written. It holds a key, and nobody but us looks for it.
var newHaproxy = nextTo(haproxyPEM)

// haproxyOf are the contents for a bundle.
func haproxyOf(b cert.Bundle) ([]byte, error) {
	files, err := b.PEM()
	if err != nil {
		return nil, err
	}
	return append(files[cert.FullchainPEM], files[cert.PrivkeyPEM]...), nil
}

// keepsHaproxy reports whether the haproxy.pem of live/NAME is ours to make or to replace.
func (s *Store) keepsHaproxy(name string) bool {
	info, err := s.certs.Lstat(haproxyName(name))
	if errors.Is(err, fs.ErrNotExist) {
		return s.Haproxy
	}
	if err != nil || !info.Mode().IsRegular() {
		return false
	}
	data, err := s.certs.ReadFile(haproxyName(name))
	return err == nil && (s.isOurHaproxy(name, data) || s.Haproxy && s.isHalfHaproxy(name, data))
}

// isOurHaproxy reports whether data is a chain and its key, written as we write it, of which nothing is lost with the file: the key is in
// archive/NAME, or a placeholder's.
func (s *Store) isOurHaproxy(name string, data []byte) bool {
	chain, err := cert.ParseChain(data)
	if err != nil {
		return false
	}
	key, err := cert.ParseKey(data)
	if err != nil || !cert.Fits(key, chain[0]) {
		return false
	}
	ours, err := haproxyOf(cert.Bundle{Key: key, Chain: chain})
	if err != nil || !bytes.Equal(data, ours) {
		return false
	}
	if cert.IsPlaceholder(chain[0]) {
		return true
	}
	keyPEM, err := cert.EncodeKey(key)
	return err == nil && s.isStored(name, keyPEM)
}

// isHalfHaproxy reports whether data is the beginning of one of ours, or nothing: what a full disk or a bad copy has left of it.
func (s *Store) isHalfHaproxy(name string, data []byte) bool {
	data = bytes.TrimRight(data, "\x00")
	begins := func(b cert.Bundle, err error) bool {
		if err != nil {
			return false
		}
		whole, err := haproxyOf(b)
		return err == nil && bytes.HasPrefix(whole, data)
	}
	return len(data) == 0 || begins(s.livePair(name)) ||
		slices.ContainsFunc(s.numbers(name), func(n int) bool { return begins(s.version(name, n)) })
}

// haproxyDue reports whether live/NAME is to get a haproxy.pem of what is live, or to lose what a kill has left of one.
func (s *Store) haproxyDue(name string, live version) bool {
	if live.bundle.Chain == nil {
		return false
	}
	if exists(s.certs, nextTo(haproxyName(name))) {
		return true
	}
	if !s.Haproxy && !exists(s.certs, haproxyName(name)) {
		return false
	}
	return !s.showsHaproxy(name, live.bundle) && s.keepsHaproxy(name)
}

// showsHaproxy reports whether live/NAME/haproxy.pem is that of a bundle.
func (s *Store) showsHaproxy(name string, b cert.Bundle) bool {
	data, err := s.certs.ReadFile(haproxyName(name))
	if err != nil {
		return false
	}
	want, err := haproxyOf(b)
	return err == nil && bytes.Equal(data, want)
}

// mendHaproxy brings live/NAME/haproxy.pem up to what is live: it was not wanted before, certbot has renewed, or it is damaged.
func (s *Store) mendHaproxy(name string) (did string, err error) {
	live, err := s.live(name)
	if err != nil || !s.haproxyDue(name, live) {
		return "", nil // what is wrong with the others is met by whoever reads the lineage
	}
	if !s.keepsHaproxy(name) || s.showsHaproxy(name, live.bundle) {
		return "", removeIfThere(s.certs, nextTo(haproxyName(name)))
	}
	if err := s.putHaproxy(path.Join("live", name), live.bundle, s.haproxyAccess(name)); err != nil {
		return "", err
	}
	of := fmt.Sprintf("version %d", live.number)
	if live.number == 0 {
		of = "the placeholder"
	}
	return fmt.Sprintf("made live/%s/%s of %s", name, haproxyPEM, of), nil
}

// putHaproxy puts a haproxy.pem into a folder in one step: whoever finds it finds the whole of it.
func (s *Store) putHaproxy(dir string, b cert.Bundle, a access) error {
	data, err := haproxyOf(b)
	if err != nil {
		return err
	}
	next := path.Join(dir, newHaproxy)
	if err := removeIfThere(s.certs, next); err != nil {
		return err
	}
	if err := writeKey(s.certs, next, data, a); err != nil {
		return err
	}
	if err := s.certs.Rename(next, path.Join(dir, haproxyPEM)); err != nil {
		return err
	}
	return s.certs.SyncDir(dir)
}

// haproxyAccess is what the next haproxy.pem gets: what a private key does, but that rights are kept from the one before, if there is one.
func (s *Store) haproxyAccess(name string) access {
	if info, err := s.certs.Lstat(haproxyName(name)); err == nil && info.Mode().IsRegular() {
		return s.accessAfter(info)
	}
	return s.keyAccess(name)
}

// HaproxyIsForeign reports whether a haproxy.pem is wanted and a file of somebody else's stands in its place.
func (s *Store) HaproxyIsForeign(name string) bool {
	return s.Haproxy && exists(s.certs, haproxyName(name)) && !s.keepsHaproxy(name)
}

// HaproxyIsOpen is KeyIsOpen for haproxy.pem, whoever made it.
func (s *Store) HaproxyIsOpen(name string) bool {
	info, err := s.certs.Lstat(haproxyName(name))
	if err != nil || !info.Mode().IsRegular() || info.Mode()&0o004 == 0 || !s.openToAll(path.Join("live", name)) {
		return false
	}
	data, err := s.certs.ReadFile(haproxyName(name))
	if err != nil {
		return false
	}
	_, err = cert.ParseKey(data)
	return err == nil
}

// Ready reports whether live/NAME has all that a web server can start with: Servable, and haproxy.pem where it is to be ours.
func (s *Store) Ready(name string) bool {
	if !s.Servable(name) || !s.Haproxy {
		return s.Servable(name)
	}
	_, err := s.live(name)
	return err != nil || exists(s.certs, haproxyName(name))
}
