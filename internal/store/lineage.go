package store

import (
	"bytes"
	"crypto"
	"crypto/sha256"
	"crypto/x509"
	"encoding/hex"
	"errors"
	"fmt"
	"io/fs"
	"path"
	"slices"
	"strconv"
	"strings"

	"github.com/sidecert/sidecert/internal/cert"
)

// Lineages returns every lineage that has files, by name. One that cannot be read, or has a renewal configuration and nothing
// else, is in errs under its name and does not keep the others from being read.
func (s *Store) Lineages() (lineages []cert.Lineage, errs map[string]error) {
	errs = map[string]error{}
	names := append(s.lineageNames(), s.confNames()...)
	slices.Sort(names)
	for _, name := range slices.Compact(names) {
		l, err := s.Lineage(name)
		if err == nil && l.Leaf() == nil && exists(s.certs, confName(name)) {
			err = s.nothingError(name)
		} else if err == nil && l.Leaf() == nil && s.hasArchive(name) {
			err = s.leftoverError(name)
		}
		if err != nil {
			errs[name] = err
			continue
		}
		lineages = append(lineages, l)
	}
	return lineages, errs
}

// hasArchive reports whether archive/NAME has anything: versions, or keys that were set aside.
func (s *Store) hasArchive(name string) bool {
	entries, _ := s.certs.ReadDir(path.Join("archive", name)) // no folder, nothing in it
	return len(entries) > 0
}

// ErrLeftover says that archive/NAME has files, and nothing else is left of the lineage.
var ErrLeftover = errors.New("an interrupted delete, or a loss of files, has left private keys")

func (s *Store) leftoverError(name string) error {
	return &cert.Error{Op: "read lineage", Name: name, Kind: cert.KindPerson, Err: fmt.Errorf("%w in %s", ErrLeftover, path.Join(s.CertDir, "archive", name)),
		Hint: "`sidecert delete " + name + "` removes them; named in DOMAINS it is used again"}
}

func (s *Store) nothingError(name string) error {
	return &cert.Error{Op: "read lineage", Name: name, Kind: cert.KindPerson,
		Err: fmt.Errorf("renewal/%s.conf has no certificate in live/ or archive/: %w", name, fs.ErrNotExist),
		Hint: fmt.Sprintf("restore %s and %s from a backup, or forget it: `sidecert delete %s`",
			path.Join(s.CertDir, "live", name), path.Join(s.CertDir, "archive", name), name)}
}

// confNames are the lineages that have a renewal configuration, as certbot finds them.
func (s *Store) confNames() []string {
	entries, _ := s.certs.ReadDir("renewal") // no folder, no configurations
	var names []string
	for _, e := range entries {
		if name, ok := strings.CutSuffix(e.Name(), ".conf"); ok && name != "" && !strings.HasPrefix(name, ".") {
			names = append(names, name)
		}
	}
	return names
}

func (s *Store) lineageNames() []string {
	var names []string
	for _, dir := range []string{"live", "archive"} {
		entries, _ := s.certs.ReadDir(dir) // a folder that is not there yet has no lineage
		for _, e := range entries {
			if e.IsDir() && !strings.HasPrefix(e.Name(), ".") {
				names = append(names, e.Name())
			}
		}
	}
	slices.Sort(names)
	return slices.Compact(names)
}

// Lineage reads what is live under a name; one that has nothing is no error. With ErrBroken, what is there is to be replaced; with
// any other error it is to be left alone.
func (s *Store) Lineage(name string) (cert.Lineage, error) {
	l := cert.Lineage{Name: name, Dir: path.Join(s.CertDir, "live", name)}
	live, err := s.live(name)
	if err != nil {
		return l, err
	}
	if live.bundle.Chain == nil {
		return l, nil
	}
	l.Chain, l.Key, l.Number = live.bundle.Chain, live.bundle.Key, live.number
	if live.number == 0 {
		l.Placeholder, l.Key = true, nil
		return l, nil
	}
	l.Older = s.olderThan(name, live.number)
	c, err := s.readConf(name)
	if err != nil {
		return l, s.confError(name, err)
	}
	if c != nil {
		l.Conf = c.settings(l)
	}
	return l, nil
}

func (s *Store) confError(name string, err error) error {
	return &cert.Error{Op: "read lineage", Name: name, Err: err,
		Hint: fmt.Sprintf("put %s right; one that is damaged is set aside and built anew when its lineage is next looked at for renewal",
			path.Join(s.CertDir, confName(name)))}
}

// version is the four files of one number in archive/NAME, or those in live/NAME.
type version struct {
	number int // 0: a placeholder, or nothing
	bundle cert.Bundle
	// astray says that live/NAME does not show it by four links as we make them, so that they are to be made anew; copies that it
	// is four plain files, which is right only where the file system has no links.
	astray, copies bool
}

// ErrForeign says that live/NAME has files which neither we nor certbot put there.
var ErrForeign = errors.New("the files there are neither sidecert's nor certbot's")

// ErrBroken says that live/NAME does not show one whole version and archive/NAME has none either.
var ErrBroken = errors.New("the four files are not of one whole version")

// live reads what live/NAME shows; a zero version if it is empty or not there. A version is known by its contents: links to it
// may be absolute, for another place of the volume, or copies.
func (s *Store) live(name string) (version, error) {
	if info, err := s.certs.Lstat(path.Join("live", name)); err == nil && !info.IsDir() {
		return version{}, s.liveError(name, ErrForeign) // a link to another lineage's, say
	}
	numbers := map[int]bool{}
	plain, missing, absolute := 0, 0, false
	for _, file := range cert.Files {
		link := path.Join("live", name, file+".pem")
		info, err := s.certs.Lstat(link)
		switch {
		case errors.Is(err, fs.ErrNotExist):
			missing++
		case err != nil:
			return version{}, err
		case info.Mode().IsRegular():
			plain++
		case info.Mode()&fs.ModeSymlink == 0:
			return version{}, s.liveError(name, ErrForeign)
		default:
			target, err := s.certs.Readlink(link)
			if err != nil {
				return version{}, err
			}
			numbers[numberOf(name, file, target)] = true
			absolute = absolute || path.IsAbs(target)
		}
	}
	switch {
	case missing == len(cert.Files):
		return version{}, nil
	case plain > 0:
		return s.livePlain(name, plain)
	case missing > 0 || len(numbers) != 1 || numbers[0]:
		return version{}, s.liveError(name, ErrBroken)
	}
	for n := range numbers {
		b, err := s.version(name, n)
		if err != nil {
			return version{}, s.liveError(name, fmt.Errorf("%w: version %d: %w", ErrBroken, n, err))
		}
		return version{number: n, bundle: b, astray: absolute}, nil
	}
	panic("unreachable")
}

// livePlain reads a live/NAME of which some or all are plain files: a placeholder, or copies of a version. Others are a person's
// own, unless there is a renewal configuration: then they are what is left of a lineage.
func (s *Store) livePlain(name string, plain int) (version, error) {
	b, err := s.bundle(func(file string) string { return path.Join("live", name, file+".pem") })
	whole := err == nil && plain == len(cert.Files)
	if whole && cert.IsPlaceholder(b.Chain[0]) {
		return version{bundle: b}, nil
	}
	pair, errPair := s.livePair(name)
	if errPair == nil {
		if n := s.numberWith(name, pair); n > 0 {
			return version{number: n, bundle: pair, astray: !whole, copies: whole}, nil
		}
	}
	if exists(s.certs, confName(name)) {
		return version{}, s.liveError(name, fmt.Errorf("%w: some are no links", ErrBroken))
	}
	if err != nil {
		return version{}, s.liveError(name, fmt.Errorf("%w: %w", ErrForeign, err))
	}
	return version{}, s.liveError(name, ErrForeign)
}

// livePair reads the key and the chain that a web server would, whatever the other two files hold.
func (s *Store) livePair(name string) (cert.Bundle, error) {
	data, err := s.readLive(name, cert.FullchainPEM)
	if err != nil {
		return cert.Bundle{}, err
	}
	key, err := s.readLive(name, cert.PrivkeyPEM)
	if err != nil {
		return cert.Bundle{}, err
	}
	return s.parsed.pair(data, key)
}

// Shown is the chain that live/NAME shows to a web server, whatever is wrong with the rest; nil if it cannot be read.
func (s *Store) Shown(name string) []*x509.Certificate {
	data, err := s.readLive(name, cert.FullchainPEM)
	if err != nil {
		return nil
	}
	chain, _ := s.parsed.chain(data)
	return chain
}

// readLive reads one of the four; where an absolute link means archive/NAME, from there.
func (s *Store) readLive(name, file string) ([]byte, error) {
	at := path.Join("live", name, file+".pem")
	if target, err := s.certs.Readlink(at); err == nil && path.IsAbs(target) {
		if n := numberOf(name, file, target); n > 0 {
			at = archived(name, file, n)
		}
	}
	return s.certs.ReadFile(at)
}

func (s *Store) liveError(name string, err error) error {
	return &cert.Error{Op: "read lineage", Name: name, Kind: cert.KindPerson, Err: err,
		Hint: fmt.Sprintf("nothing in %s is overwritten, and no certificate is obtained in its place: move it away, or give the certificate another name (shop=shop.example.org in DOMAINS)", path.Join(s.CertDir, "live", name))}
}

// maxDigits is how many digits a version's number has at most.
const maxDigits = 9

// versionOf reads the name of a file in archive/NAME, as privkey3.pem; n is 0 if it is that of no version's.
func versionOf(base string) (file string, n int) {
	stem, isPEM := strings.CutSuffix(base, ".pem")
	file = strings.TrimRight(stem, "0123456789")
	digits := stem[len(file):]
	if !isPEM || !slices.Contains(cert.Files, file) || digits == "" || digits[0] == '0' || len(digits) > maxDigits {
		return "", 0
	}
	n, _ = strconv.Atoi(digits)
	return file, n
}

// numberOf is the version that a link in live/NAME points to; 0 if it points elsewhere. Of an absolute link the last components
// count: the volume may have been mounted at another place.
func numberOf(name, file, target string) int {
	dir := path.Join("archive", name)
	inside := path.Join("live", name, target) == path.Join(dir, path.Base(target))
	if path.IsAbs(target) {
		inside = strings.HasSuffix(path.Dir(path.Clean(target)), "/"+dir)
	}
	if of, n := versionOf(path.Base(target)); inside && of == file {
		return n
	}
	return 0
}

// numbers are those of which archive/NAME has any file, newest first.
func (s *Store) numbers(name string) []int {
	entries, _ := s.certs.ReadDir(path.Join("archive", name)) // no folder, no versions
	var numbers []int
	for _, e := range entries {
		if _, n := versionOf(e.Name()); n > 0 {
			numbers = append(numbers, n)
		}
	}
	slices.Sort(numbers)
	numbers = slices.Compact(numbers)
	slices.Reverse(numbers)
	return numbers
}

// version reads the four files of a number and returns an error unless they are whole and belong together.
func (s *Store) version(name string, n int) (cert.Bundle, error) {
	return s.bundle(func(file string) string { return archived(name, file, n) })
}

func archived(name, file string, n int) string {
	return path.Join("archive", name, fmt.Sprintf("%s%d.pem", file, n))
}

func (s *Store) bundle(at func(file string) string) (cert.Bundle, error) {
	data := map[string][]byte{}
	for _, file := range cert.Files {
		d, err := s.certs.ReadFile(at(file))
		if err != nil {
			return cert.Bundle{}, err
		}
		data[file] = d
	}
	contents := sumOf(data[cert.CertPEM], data[cert.ChainPEM], data[cert.FullchainPEM], data[cert.PrivkeyPEM])
	return s.parsed.bundles.of(contents, func() (cert.Bundle, error) { return parseBundle(data, at) })
}

// parseBundle says of which file an error is.
func parseBundle(data map[string][]byte, at func(file string) string) (cert.Bundle, error) {
	chain, err := cert.ParseChain(data[cert.FullchainPEM])
	if err != nil {
		return cert.Bundle{}, fmt.Errorf("%s: %w", at(cert.FullchainPEM), err)
	}
	key, err := cert.ParseKey(data[cert.PrivkeyPEM])
	if err != nil {
		return cert.Bundle{}, fmt.Errorf("%s: %w", at(cert.PrivkeyPEM), err)
	}
	b := cert.Bundle{Key: key, Chain: chain}
	if err := b.Whole(); err != nil {
		return cert.Bundle{}, err
	}
	for file, want := range map[string][]byte{cert.CertPEM: cert.EncodeChain(chain[:1]), cert.ChainPEM: cert.EncodeChain(chain[1:])} {
		got, err := cert.ParseChain(data[file])
		if err != nil && len(data[file]) > 0 || !bytes.Equal(cert.EncodeChain(got), want) { // an empty chain.pem goes with a leaf alone
			return cert.Bundle{}, fmt.Errorf("%s does not belong to %s", at(file), at(cert.FullchainPEM))
		}
	}
	return b, nil
}

// Version is one that archive/NAME holds.
type Version struct {
	Number int
	// Chain is nil where Err says why the version is not whole.
	Chain []*x509.Certificate
	Err   error
}

// Versions returns all that archive/NAME holds, newest first.
func (s *Store) Versions(name string) []Version {
	var all []Version
	for _, n := range s.numbers(name) {
		b, err := s.version(name, n)
		all = append(all, Version{n, b.Chain, err})
	}
	return all
}

// Leaf is the certificate of a version; nil if it cannot be read.
func (s *Store) Leaf(name string, number int) *x509.Certificate {
	b, err := s.version(name, number)
	if err != nil || len(b.Chain) == 0 {
		return nil
	}
	return b.Chain[0]
}

// Key is the private key of a version; nil if it cannot be read.
func (s *Store) Key(name string, number int) crypto.Signer {
	b, err := s.version(name, number)
	if err != nil {
		return nil
	}
	return b.Key
}

// numberWith is the number of the version that holds the same certificate and key; 0 if none does.
func (s *Store) numberWith(name string, b cert.Bundle) int {
	for _, n := range s.numbers(name) {
		if v, err := s.version(name, n); err == nil && v.Chain[0].Equal(b.Chain[0]) {
			return n
		}
	}
	return 0
}

// remembered is how many older versions a served certificate is compared with.
const remembered = 10

func (s *Store) olderThan(name string, live int) []string {
	var older []string
	for _, n := range s.numbers(name) {
		if n == live || len(older) == remembered {
			continue
		}
		data, err := s.certs.ReadFile(archived(name, cert.CertPEM, n))
		if err != nil {
			continue
		}
		if chain, err := s.parsed.chain(data); err == nil {
			older = append(older, cert.Fingerprint(chain[0]))
		}
	}
	return older
}

// Servable reports whether live/NAME has a pair that a web server can start with, whoever made it.
func (s *Store) Servable(name string) bool {
	chain, err := s.certs.ReadFile(path.Join("live", name, cert.FullchainPEM+".pem"))
	if err != nil {
		return false
	}
	key, err := s.certs.ReadFile(path.Join("live", name, cert.PrivkeyPEM+".pem"))
	if err != nil {
		return false
	}
	return s.parsed.servable(chain, key)
}

// digest tells whether what people and web servers see of a lineage has changed: the live files and the renewal settings.
// It does not look at times, so that a file written again with the same contents is no change.
func (s *Store) digest(lineage string) string {
	h := sha256.New()
	names := []string{confName(lineage), haproxyName(lineage)}
	for _, file := range cert.Files {
		names = append(names, path.Join("live", lineage, file+".pem"))
	}
	for _, name := range names {
		data, err := s.certs.ReadFile(name)
		fmt.Fprintf(h, "%s %d %v\n", name, len(data), err == nil)
		h.Write(data)
	}
	return hex.EncodeToString(h.Sum(nil))
}

// digests are those of all lineages, by name.
func (s *Store) digests() map[string]string {
	all := map[string]string{}
	for _, name := range s.lineageNames() {
		all[name] = s.digest(name)
	}
	return all
}
