package config

import (
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"path/filepath"
	"slices"
	"strings"

	"github.com/sidecert/sidecert/internal/cert"
)

// World is what Parse asks of the machine.
type World struct {
	InContainer bool
	// Mounted reports whether a path is at or below a mount other than the root file system's. It is asked only in a container.
	Mounted func(path string) bool
	// ReadFile is for NAME_FILE and ACME_CA_BUNDLE.
	ReadFile func(path string) ([]byte, error)
	// Adoptable reports whether certbot has made a certificate in a CERT_DIR.
	Adoptable func(certDir string) bool
	// Engine reports whether there may be an engine at a DOCKER_HOST, and Remembers whether a STATE_DIR knows of containers with labels.
	Engine    func(host string) bool
	Remembers func(stateDir string) bool
	// Receiver says what is wrong with a URL for messages, in words that go on from it and show nothing of it; nil takes all for right.
	Receiver func(url string) error
}

// HostWorld is the machine that we run on.
func HostWorld() World {
	return World{
		InContainer: inContainer() && byEngine(os.Getpid(), os.Getppid()),
		Mounted: func(path string) bool {
			mounts, err := os.ReadFile("/proc/self/mountinfo")
			return err != nil || mounted(string(mounts), path) // where nothing is known, nothing is held against it
		},
		ReadFile:  readFile,
		Adoptable: adoptable,
		Engine:    engine,
		Remembers: func(stateDir string) bool { return exists(filepath.Join(stateDir, "labels.json")) },
	}
}

// engine takes an address in a network for one: who wrote it meant it.
func engine(host string) bool {
	socket, ok := strings.CutPrefix(host, "unix://")
	if !ok {
		return true
	}
	info, err := os.Stat(socket)
	return err == nil && info.Mode()&fs.ModeSocket != 0
}

// inContainer looks for Docker's mark and Podman's.
func inContainer() bool { return exists("/.dockerenv") || exists("/run/.containerenv") }

// byEngine reports whether the container's engine started this process: as the first one, below an init, or by exec, whose parent is
// outside. A developer's shell in a container of another purpose did not, and its folders need be no volumes.
func byEngine(pid, parent int) bool { return pid == 1 || parent == 1 || parent == 0 }

func exists(path string) bool {
	_, err := os.Stat(path)
	return err == nil
}

// mounted looks a path up in a mountinfo, whose fifth field is the mount point (proc_pid_mountinfo(5)).
func mounted(mountinfo, path string) bool {
	for line := range strings.Lines(mountinfo) {
		fields := strings.Fields(line)
		if len(fields) < 5 {
			continue
		}
		if point := unescape.Replace(fields[4]); point != "/" && within(path, point) {
			return true
		}
	}
	return false
}

// unescape undoes what the kernel does to white space and backslashes in a mountinfo.
var unescape = strings.NewReplacer(`\040`, " ", `\011`, "\t", `\012`, "\n", `\134`, `\`)

// readFile reads a regular file of bounded size.
func readFile(path string) ([]byte, error) {
	data, err := readStart(path, maxFile+1)
	if err == nil && len(data) > maxFile {
		return nil, fmt.Errorf("it is longer than %d bytes", maxFile)
	}
	return data, err
}

var errNoFile = errors.New("it is no regular file")

// readStart reads at most so many bytes of a regular file. It is looked at before it is opened, since opening a pipe waits for its
// writer.
func readStart(path string, most int64) ([]byte, error) {
	info, err := os.Stat(path)
	if err != nil {
		return nil, err
	}
	if !info.Mode().IsRegular() {
		return nil, errNoFile
	}
	f, err := os.Open(path)
	if err != nil {
		return nil, err
	}
	defer f.Close()
	return io.ReadAll(io.LimitReader(f, most))
}

const (
	// maxConfs is how many files in renewal/ are looked at, and maxConf how far into each, in bytes: certbot's have some 2,000.
	maxConfs = 10 * maxCerts
	maxConf  = 64 << 10
)

// adoptable looks for a renewal/NAME.conf without our mark.
func adoptable(certDir string) bool {
	folder := filepath.Join(certDir, "renewal")
	f, err := os.Open(folder)
	if err != nil {
		return false
	}
	defer f.Close()
	entries, _ := f.ReadDir(maxConfs) // what was read before an error counts
	return slices.ContainsFunc(entries, func(e os.DirEntry) bool {
		return filepath.Ext(e.Name()) == ".conf" && e.Name()[0] != '.' && !ours(filepath.Join(folder, e.Name()))
	})
}

// ours reports whether a conf is none of certbot's. One that cannot be read may be: its adoption says what is wrong with it.
func ours(conf string) bool {
	text, err := readStart(conf, maxConf)
	if errors.Is(err, errNoFile) || errors.Is(err, fs.ErrNotExist) {
		return true
	}
	for line := range strings.Lines(string(text)) {
		if strings.HasPrefix(strings.TrimSpace(line), cert.ConfMark) {
			return true
		}
	}
	return false
}
