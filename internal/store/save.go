package store

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"io/fs"
	"path"
	"slices"
	"strings"
	"syscall"

	"github.com/sidecert/sidecert/internal/cert"
)

// publicPerm is the mode of what is no secret.
const publicPerm = 0o644

// Save stores a bundle as the newest version of a lineage and makes it live. A bundle that is stored already is only made live.
// When it returns without an error everything is on disk; when it fails, what was live before still is.
func (s *Store) Save(ctx context.Context, name string, spec cert.Spec, b cert.Bundle) (cert.Lineage, error) {
	return s.save(ctx, name, spec, b, func(version) error { return nil })
}

// SaveOver is Save in the place of a lineage that was read before the order. It refuses, with cert.KindInterrupted, where somebody else
// has given the lineage other names since, or has deleted it: what a person tells certbot while an order is under way counts. That
// certbot has renewed it is no reason.
func (s *Store) SaveOver(ctx context.Context, over cert.Lineage, spec cert.Spec, b cert.Bundle) (cert.Lineage, error) {
	return s.save(ctx, over.Name, spec, b, func(now version) error {
		var did string
		switch {
		case now.number > 0:
			is := cert.NamesOf(now.bundle.Chain[0])
			if over.Issued() && cert.SameNames(is, over.Names()) || cert.SameNames(is, cert.NamesOf(b.Chain[0])) {
				return nil
			}
			did = "was changed by somebody else meanwhile: its names are " + strings.Join(is, ", ")
		case over.Issued() && !exists(s.certs, confName(over.Name)) && len(s.numbers(over.Name)) == 0:
			did = "was deleted by somebody else meanwhile"
		default:
			return nil
		}
		return &cert.Error{Op: "store certificate", Name: over.Name, Kind: cert.KindInterrupted, Err: errors.New("it " + did),
			Hint: "nothing was stored; the next look goes by what is there now"}
	})
}

// save asks may about what is live, under the lock, before it writes anything.
func (s *Store) save(ctx context.Context, name string, spec cert.Spec, b cert.Bundle, may func(live version) error) (cert.Lineage, error) {
	err := s.change(ctx, name, func() error {
		// Read again under the lock: an order takes its time, and somebody may have put files of their own there.
		live, err := s.live(name)
		if err != nil && !errors.Is(err, ErrBroken) {
			return err
		}
		if err := may(live); err != nil {
			return err
		}
		n, err := s.archive(name, b)
		if err != nil {
			return err
		}
		// The settings come before the links: whoever finds the version also finds which CA gave it.
		if err := s.writeConf(name, spec, b); err != nil {
			return err
		}
		return s.point(name, n)
	})
	if err != nil {
		return cert.Lineage{}, s.saveError(name, err)
	}
	return s.Lineage(name)
}

// RecordConf brings the conf of the live version up to date, where a kill kept Save from doing it.
func (s *Store) RecordConf(ctx context.Context, name string, spec cert.Spec) (cert.Lineage, error) {
	err := s.change(ctx, name, func() error {
		live, err := s.live(name)
		if err != nil || live.number == 0 {
			return err
		}
		return s.writeConf(name, spec, live.bundle)
	})
	if err != nil {
		return cert.Lineage{}, s.saveError(name, err)
	}
	return s.Lineage(name)
}

func (s *Store) saveError(name string, err error) error {
	if _, ok := errors.AsType[*cert.Error](err); ok {
		return err
	}
	failed := &cert.Error{Op: "store certificate", Name: name, Err: err,
		Hint: cmp.Or(s.ownerHint(err), fmt.Sprintf("make sure that the volume at %s is writable and has space; what was served before is untouched", s.CertDir))}
	switch {
	case errors.Is(err, context.Canceled):
		failed.Kind = cert.KindInterrupted
	case errors.Is(err, ErrLocked):
		failed.Kind = cert.KindInterrupted // the certificate is there and only waits: no failure of the CA's or ours
		failed.Hint = "it is tried again; if no certbot runs there, see who holds the lock on " + path.Join(s.CertDir, ".certbot.lock")
	}
	return failed
}

// archive writes the four files of a new version, and has them on disk before any link may point to them.
func (s *Store) archive(name string, b cert.Bundle) (n int, err error) {
	if n := s.numberWith(name, b); n > 0 {
		return n, nil
	}
	files, err := b.PEM()
	if err != nil {
		return 0, err
	}
	if err := s.archiveFolder(name); err != nil {
		return 0, err
	}
	n = 1
	if numbers := s.numbers(name); len(numbers) > 0 {
		n = numbers[0] + 1
	}
	defer func() {
		if err != nil {
			for _, file := range cert.Files {
				removeIfThere(s.certs, archived(name, file, n)) // best effort: Mend sets aside what stays
			}
		}
	}()
	access := s.keyAccess(name)
	for _, file := range []string{cert.PrivkeyPEM, cert.CertPEM, cert.ChainPEM, cert.FullchainPEM} {
		if err := s.write(archived(name, file, n), file, files[file], access); err != nil {
			return 0, err
		}
	}
	return n, s.certs.SyncDir(path.Join("archive", name))
}

// archiveFolder makes archive/NAME, to which nobody else may write names where a key is to go.
func (s *Store) archiveFolder(name string) error {
	if err := mkdirAll(s.certs, path.Join("archive", name), s.foldersPerms(), s.own); err != nil {
		return err
	}
	_, err := s.narrow(name)
	return err
}

// write writes one of the four files, with the owner and mode that a key or a certificate has.
func (s *Store) write(at, file string, data []byte, key access) error {
	if file == cert.PrivkeyPEM {
		return writeKey(s.certs, at, data, key)
	}
	return writeNew(s.certs, at, data, publicPerm, unowned)
}

// Placeholder makes a placeholder live in a lineage that has nothing, only an older placeholder, or only what no web server can
// start with.
func (s *Store) Placeholder(ctx context.Context, name string, names []string) (cert.Lineage, error) {
	b, err := cert.Placeholder(name, names, s.Now())
	if err != nil {
		return cert.Lineage{}, err
	}
	files, err := b.PEM()
	if err != nil {
		return cert.Lineage{}, err
	}
	err = s.change(ctx, name, func() error {
		live, err := s.live(name)
		if err != nil && (!errors.Is(err, ErrBroken) || s.Servable(name)) || live.number > 0 {
			return err
		}
		access := s.keyAccess(name)
		return s.install(name, b, func(dir, file string) error {
			return s.write(path.Join(dir, file+".pem"), file, files[file], access)
		})
	})
	if err != nil {
		return cert.Lineage{}, s.saveError(name, err)
	}
	return s.Lineage(name)
}

// point makes version n live.
func (s *Store) point(name string, n int) error {
	b, err := s.version(name, n)
	if err != nil {
		return err
	}
	access := s.keyAccess(name)
	return s.install(name, b, func(dir, file string) error {
		target := path.Join("..", "..", archived(name, file, n))
		err := s.certs.Symlink(target, path.Join(dir, file+".pem"))
		if err == nil || !noLinks(err) {
			return err
		}
		data, err := s.certs.ReadFile(archived(name, file, n))
		if err != nil {
			return err
		}
		return s.write(path.Join(dir, file+".pem"), file, data, access)
	})
}

// noLinks reports that the file system has no symbolic links (SMB, 9p, vfat), so that copies must stand in.
func noLinks(err error) bool {
	return unsupported(err) || errors.Is(err, fs.ErrPermission)
}

// staging is where the next live/NAME is built. Only install and finish touch it.
func staging(name string) string { return path.Join("live", "."+name+".next") }

// install builds live/NAME anew, with put for each of the four files of a bundle, with haproxy.pem where that is ours, and with the files
// of others that stand in the present one, and then exchanges the two folders, so that a web server finds all old or all new files at
// every instant. Where the file system cannot exchange, the files change one by one.
func (s *Store) install(name string, b cert.Bundle, put func(dir, file string) error) error {
	live, next := path.Join("live", name), staging(name)
	if _, err := s.finish(name); err != nil {
		return err
	}
	if err := mkdirAll(s.certs, "live", s.foldersPerms(), s.own); err != nil {
		return err
	}
	if _, err := s.narrow(name); err != nil {
		return err
	}
	if err := s.keepKey(name); err != nil {
		return err
	}
	if err := s.mkdirLike(next, live); err != nil {
		return err
	}
	for _, file := range cert.Files {
		if err := put(next, file); err != nil {
			return err
		}
	}
	haproxy := s.keepsHaproxy(name)
	if haproxy {
		if err := s.putHaproxy(next, b, s.haproxyAccess(name)); err != nil {
			return err
		}
	}
	if err := s.carryOver(live, next, func(file string) bool { return isOurs(file) || haproxy && file == haproxyPEM }); err != nil {
		return err
	}
	if !exists(s.certs, path.Join(next, "README")) {
		if err := writeNew(s.certs, path.Join(next, "README"), []byte(readme), publicPerm, unowned); err != nil {
			return err
		}
	}
	if err := s.certs.SyncDir(next); err != nil {
		return err
	}
	if err := s.swap(name); err != nil {
		return err
	}
	if err := s.certs.SyncDir("live"); err != nil {
		return err
	}
	_, err := s.finish(name)
	return err
}

func (s *Store) swap(name string) error {
	live, next := path.Join("live", name), staging(name)
	if !exists(s.certs, live) {
		return s.certs.Rename(next, live)
	}
	err := s.certs.Exchange(next, live)
	if !errors.Is(err, ErrNoExchange) {
		return err
	}
	// From the mark on, an interrupted change is finished forward.
	if err := writeNew(s.certs, path.Join(next, swapping), nil, publicPerm, unowned); err != nil {
		return err
	}
	if err := s.certs.SyncDir(next); err != nil {
		return err
	}
	return s.swapEach(name)
}

// swapping marks a folder whose four files are moved to live/NAME one by one.
const swapping = ".swapping"

// swapEach moves what has not been moved yet. Key and chain, which a server reads together, change next to each other.
func (s *Store) swapEach(name string) error {
	live, next := path.Join("live", name), staging(name)
	for _, file := range []string{cert.ChainPEM, cert.CertPEM, cert.PrivkeyPEM, cert.FullchainPEM} {
		from := path.Join(next, file+".pem")
		if !exists(s.certs, from) {
			continue
		}
		if err := s.certs.Rename(from, path.Join(live, file+".pem")); err != nil {
			return err
		}
	}
	if s.stagesHaproxy(name) && s.keepsHaproxy(name) {
		if err := s.certs.Rename(path.Join(next, haproxyPEM), haproxyName(name)); err != nil {
			return err
		}
	}
	return s.certs.SyncDir(live)
}

// stagesHaproxy reports whether the folder that is to replace live/NAME, or was replaced by it, has a haproxy.pem of ours.
func (s *Store) stagesHaproxy(name string) bool {
	data, err := s.certs.ReadFile(path.Join(staging(name), haproxyPEM))
	return err == nil && s.isOurHaproxy(name, data)
}

// mkdirLike makes a folder with the mode and owner of the one that it will replace, if there is one.
func (s *Store) mkdirLike(next, live string) error {
	info, err := s.certs.Lstat(live)
	if err != nil || !info.IsDir() {
		return mkdir(s.certs, next, s.foldersPerms(), s.own)
	}
	if err := s.certs.Mkdir(next, info.Mode().Perm()); err != nil {
		return err
	}
	stat, ok := info.Sys().(*syscall.Stat_t)
	if !ok {
		return nil
	}
	err = s.certs.Chown(next, int(stat.Uid), int(stat.Gid))
	if errors.Is(err, fs.ErrPermission) {
		return nil // it was another user's; we can only make our own
	}
	return err
}

// carryOver gives the files in live/NAME that are others' a second name in the folder that will replace it.
// Their folders have no second name: finish moves them.
func (s *Store) carryOver(live, next string, ours func(file string) bool) error {
	entries, err := s.certs.ReadDir(live)
	if errors.Is(err, fs.ErrNotExist) {
		return nil
	}
	if err != nil {
		return err
	}
	for _, e := range entries {
		if ours(e.Name()) || e.IsDir() {
			continue
		}
		if err := s.certs.Link(path.Join(live, e.Name()), path.Join(next, e.Name())); err != nil && !noLinks(err) {
			return err
		}
	}
	return nil
}

// isOurs reports whether a name in live/NAME is one of the four files, or of one that was to be haproxy.pem. README is carried over like
// anybody's.
func isOurs(name string) bool {
	return name == newHaproxy || path.Ext(name) == ".pem" && slices.Contains(cert.Files, name[:len(name)-len(".pem")])
}

// finish ends a change of live/NAME that was interrupted, before or after the exchange: what others had in the left-over
// folder goes back to live/NAME if it is missing there, the rest is removed. It reports whether there was one.
func (s *Store) finish(name string) (bool, error) {
	live, next := path.Join("live", name), staging(name)
	entries, err := s.certs.ReadDir(next)
	if errors.Is(err, fs.ErrNotExist) {
		return false, nil
	}
	if err != nil {
		return false, err
	}
	if exists(s.certs, path.Join(next, swapping)) {
		if err := s.swapEach(name); err != nil {
			return true, err
		}
		if entries, err = s.certs.ReadDir(next); err != nil {
			return true, err
		}
	}
	// The mark goes last: a folder that has lost it counts as one that was never to be used.
	slices.SortFunc(entries, func(a, b fs.DirEntry) int { return cmp.Compare(b.Name(), a.Name()) })
	moved := false
	spent := s.stagesHaproxy(name) // of another version than live/NAME may be
	for _, e := range entries {
		from, to := path.Join(next, e.Name()), path.Join(live, e.Name())
		ours := isOurs(e.Name()) || e.Name() == swapping || spent && e.Name() == haproxyPEM
		if !ours && exists(s.certs, live) && !exists(s.certs, to) {
			err, moved = s.certs.Rename(from, to), true
		} else {
			err = s.certs.Remove(from)
		}
		if err != nil {
			return true, err
		}
	}
	if moved { // before the folder that they stood in is gone
		if err := s.certs.SyncDir(live); err != nil {
			return true, err
		}
	}
	return true, s.certs.Remove(next)
}

const readme = `This folder shows the newest version of a certificate. It is kept by sidecert, in the layout of certbot.

  privkey.pem    the private key
  fullchain.pem  the certificate and those between it and the root: what nginx and httpd want
  chain.pem      those between alone
  cert.pem       the certificate alone
  haproxy.pem    fullchain.pem and privkey.pem in one, with EXTRA_FILES=haproxy

The first four are links into archive/. Point your web server at the files here: they change when the certificate is renewed.
Without renewal/ having a file for this certificate, what is here is a placeholder until the real one comes.
`
