package config

import (
	"errors"
	"fmt"
	"io"
	"os"
	"strings"
)

// World is what Parse asks of the machine.
type World struct {
	InContainer bool
	// Mounted reports whether a path is at or below a mount other than the root file system's. It is asked only in a container.
	Mounted func(path string) bool
	// ReadFile is for NAME_FILE and ACME_CA_BUNDLE.
	ReadFile func(path string) ([]byte, error)
}

// HostWorld is the machine that we run on.
func HostWorld() World {
	return World{
		InContainer: inContainer() && byEngine(os.Getpid(), os.Getppid()),
		Mounted: func(path string) bool {
			mounts, err := os.ReadFile("/proc/self/mountinfo")
			return err != nil || mounted(string(mounts), path) // where nothing is known, nothing is held against it
		},
		ReadFile: readFile,
	}
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

// readFile reads a regular file of bounded size. It is looked at before it is opened, since opening a pipe waits for its writer.
func readFile(path string) ([]byte, error) {
	info, err := os.Stat(path)
	if err != nil {
		return nil, err
	}
	if !info.Mode().IsRegular() {
		return nil, errors.New("it is no regular file")
	}
	f, err := os.Open(path)
	if err != nil {
		return nil, err
	}
	defer f.Close()
	data, err := io.ReadAll(io.LimitReader(f, maxFile+1))
	if err == nil && len(data) > maxFile {
		return nil, fmt.Errorf("it is longer than %d bytes", maxFile)
	}
	return data, err
}
