package acme

import (
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"path/filepath"
	"regexp"
	"slices"
	"syscall"
	"time"

	xacme "golang.org/x/crypto/acme"

	"github.com/sidecert/sidecert/internal/cert"
)

const (
	wellKnown     = ".well-known"
	challengePath = ".well-known/acme-challenge"
	// leftoverAge is above the 15 minutes that an attempt lasts: a younger file may be one in use.
	leftoverAge = time.Hour
	// maxLeftovers bounds how much of the folder is looked at, since others can fill it.
	maxLeftovers = 1000
)

// tokenForm is what a token may be. "It MUST NOT contain any characters outside the base64url alphabet", RFC 8555 §8.3, and
// it becomes a file's name: others have been made to write elsewhere by it.
var tokenForm = regexp.MustCompile(`^[A-Za-z0-9_-]{16,512}$`)

// webroot is the folder that the web container serves challenges from. It is hostile ground: whoever has taken the web
// container over can put links and pipes anywhere in it at any time. All goes through an os.Root, which lets none of that
// lead outside, and nothing is opened that could block.
type webroot struct{ root *os.Root }

// openWebroot makes the folder itself where it is missing (a volume may hold one folder per site), but none above it. A link
// in its place is not followed: os.OpenRoot would, wherever it leads.
func openWebroot(path string) (*webroot, error) {
	parent, err := os.OpenRoot(filepath.Dir(path))
	if err != nil {
		return nil, fmt.Errorf("open the webroot: %w", err)
	}
	defer parent.Close()
	base := filepath.Base(path)
	if err := makeFolder(parent, base); err != nil {
		return nil, fmt.Errorf("make the webroot: %w", err)
	}
	if info, err := parent.Lstat(base); err == nil && info.Mode()&fs.ModeSymlink != 0 {
		return nil, fmt.Errorf("the webroot %s is a symbolic link", path)
	}
	root, err := parent.OpenRoot(base)
	if err != nil {
		return nil, fmt.Errorf("open the webroot: %w", err)
	}
	return &webroot{root}, nil
}

func (w *webroot) close() { w.root.Close() }

// put writes what is served at the challenge path under a token. Something that is there already is not ours: removed.
func (w *webroot) put(token, content string) error {
	if !tokenForm.MatchString(token) {
		return fmt.Errorf("the CA's token %q is not one of RFC 8555", clean(token, 100))
	}
	for _, folder := range []string{wellKnown, challengePath} {
		if err := makeFolder(w.root, folder); err != nil {
			return fmt.Errorf("make the folder for challenges: %w", err)
		}
	}
	file, err := w.create(token)
	if errors.Is(err, fs.ErrExist) {
		w.remove(token)
		file, err = w.create(token)
	}
	if err != nil {
		return fmt.Errorf("make the challenge file: %w", err)
	}
	if err := fill(file, content); err != nil {
		w.remove(token)
		return fmt.Errorf("write the challenge file: %w", err)
	}
	return nil
}

// create is exclusive: it follows no link in the file's place and opens no pipe that never answers.
func (w *webroot) create(token string) (*os.File, error) {
	return w.root.OpenFile(filepath.Join(challengePath, token), os.O_CREATE|os.O_EXCL|os.O_WRONLY, 0o644)
}

// fill sets the mode by the descriptor: the umask must not keep the web server's user from reading, and a name could be
// another file by now.
func fill(file *os.File, content string) error {
	defer file.Close()
	if err := setMode(file, 0o644); err != nil {
		return err
	}
	if _, err := file.WriteString(content); err != nil {
		return err
	}
	return file.Close()
}

// remove takes a file away, whatever it is now; a link, not what it leads to.
func (w *webroot) remove(token string) { w.root.Remove(filepath.Join(challengePath, token)) }

// makeFolder makes one folder if it is missing and gives it mode 0755 against the umask. One that is there keeps its mode, unless a
// process that was killed has made it and come no further.
func makeFolder(root *os.Root, name string) error {
	err := root.Mkdir(name, 0o755)
	there := errors.Is(err, fs.ErrExist)
	if err != nil && !there {
		return err
	}
	folder, err := openFolder(root, name)
	if err != nil && there {
		return nil // whoever put it there may have made it a link, and what comes next says so
	}
	if err != nil {
		return err
	}
	defer folder.Close()
	if there && !halfMade(folder) {
		return nil
	}
	return setMode(folder, 0o755)
}

// halfMade reports whether a folder is as a strict umask has left it: empty, ours, and closed to everybody else.
func halfMade(folder *os.File) bool {
	info, err := folder.Stat()
	if err != nil || info.Mode().Perm() != 0o700 && info.Mode().Perm() != 0o750 {
		return false
	}
	stat, ok := info.Sys().(*syscall.Stat_t)
	_, empty := folder.ReadDir(1)
	return ok && int(stat.Uid) == os.Geteuid() && errors.Is(empty, io.EOF)
}

// setMode undoes the umask.
func setMode(f *os.File, mode fs.FileMode) error {
	if info, err := f.Stat(); err == nil && info.Mode().Perm() == mode {
		return nil
	}
	return tolerated(f.Chmod(mode))
}

// tolerated is an error of a change of mode that is a reason to fail. Volumes that know no modes (SMB, 9p) refuse: what is there has
// the mode that their mount options give, and the probe tells where the web server may not read.
func tolerated(err error) error {
	for _, refused := range []error{fs.ErrPermission, syscall.ENOTSUP, syscall.EINVAL, syscall.ENOSYS} {
		if errors.Is(err, refused) {
			return nil
		}
	}
	return err
}

// openFolder does not wait for the other end of a pipe that has been put in the folder's place.
func openFolder(root *os.Root, name string) (*os.File, error) {
	return root.OpenFile(name, os.O_RDONLY|syscall.O_DIRECTORY|syscall.O_NONBLOCK, 0)
}

// sweep removes files that a killed process left behind: old ones that say what ours say under their name.
func (w *webroot) sweep(ours func(token string) []string, before time.Time) {
	folder, err := openFolder(w.root, challengePath)
	if err != nil {
		return
	}
	defer folder.Close()
	entries, _ := folder.ReadDir(maxLeftovers)
	for _, entry := range entries {
		info, err := entry.Info()
		if err != nil || !info.Mode().IsRegular() || !tokenForm.MatchString(entry.Name()) || !info.ModTime().Before(before) {
			continue
		}
		if slices.Contains(ours(entry.Name()), w.head(entry.Name())) {
			w.remove(entry.Name())
		}
	}
}

// head is the beginning of a file, longer than any of ours.
func (w *webroot) head(token string) string {
	file, err := w.root.OpenFile(filepath.Join(challengePath, token), os.O_RDONLY|syscall.O_NONBLOCK, 0)
	if err != nil {
		return ""
	}
	defer file.Close()
	data, _ := io.ReadAll(io.LimitReader(file, 1<<10))
	return string(data)
}

// present puts a challenge's answer, its key authorization (RFC 8555 §8.1), in a webroot.
func (c *client) present(path, token string) error {
	answer, err := c.lib.HTTP01ChallengeResponse(token)
	if err != nil {
		return err
	}
	w, err := openWebroot(path)
	if err != nil {
		return err
	}
	defer w.close()
	return w.put(token, answer)
}

// withdraw removes a challenge's answer.
func (c *client) withdraw(path, token string) {
	if !tokenForm.MatchString(token) {
		return
	}
	w, err := openWebroot(path)
	if err != nil {
		return
	}
	defer w.close()
	w.remove(token)
}

// sweep cleans the webroots of a spec. Files of another account or another program are not touched.
func (c *client) sweep(spec cert.Spec) {
	thumbprint, err := xacme.JWKThumbprint(c.account.Key.Public())
	if err != nil {
		return
	}
	ours := func(token string) []string { return []string{token + "." + thumbprint, probeContent(token)} }
	var paths []string
	for _, name := range spec.Names {
		paths = append(paths, spec.WebrootOf(name))
	}
	slices.Sort(paths)
	for _, path := range slices.Compact(paths) {
		if w, err := openWebroot(path); err == nil {
			w.sweep(ours, c.config.Now().Add(-leftoverAge))
			w.close()
		}
	}
}

// webrootHint says what to do where a challenge file could not be written.
func webrootHint(path string, err error) string {
	switch {
	case errors.Is(err, fs.ErrNotExist):
		return "mount the webroot volume at " + path
	case errors.Is(err, syscall.EROFS):
		return "mount the webroot volume at " + path + " without :ro"
	case errors.Is(err, fs.ErrPermission):
		return cert.OwnerHint(err, path)
	case errors.Is(err, syscall.ENOSPC):
		return "the volume at " + path + " is full"
	}
	return "look at what the web container has put into " + path + ": nothing but challenge files belongs in " + challengePath
}
