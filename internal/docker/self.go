package docker

import (
	"context"
	"errors"
	"fmt"
	"os"
	"regexp"
	"slices"
	"strings"
)

// Self returns the container that we run in, or one that shares its network with ours: then the files that tell us are the
// other's, which has the same Compose project and the same networks, but another name and image.
func (e *Engine) Self(ctx context.Context) (Container, error) {
	mountinfo, _ := os.ReadFile("/proc/self/mountinfo")
	cgroup, _ := os.ReadFile("/proc/self/cgroup")
	hostname, _ := os.Hostname()
	ids := selfIDs(string(mountinfo), string(cgroup), hostname)
	for _, id := range ids {
		c, err := e.Inspect(ctx, id)
		if errors.Is(err, ErrNotFound) {
			continue
		}
		return c, err
	}
	return Container{}, fmt.Errorf("look for our own container: %w", ErrNotFound)
}

var (
	// Field 4 and 5 of a line are what is mounted and where; the engine mounts these three files from the container's own folder.
	mountedID  = regexp.MustCompile(`(?m)^\S+ \S+ \S+ \S*/containers/([0-9a-f]{64})/\S* /etc/(?:hostname|hosts|resolv\.conf) `)
	cgroupID   = regexp.MustCompile(`(?m)[/-]([0-9a-f]{64})(?:\.scope)?$`)
	hostnameID = regexp.MustCompile(`^[0-9a-f]{12}$`)
)

// selfIDs are what may be our ID, the surest first: the mounts tell with a hostname of one's own and under cgroup v2 too.
// A hostname that is no ID is no candidate, since a container may be called as this host is.
func selfIDs(mountinfo, cgroup, hostname string) []string {
	var ids []string
	for _, m := range mountedID.FindAllStringSubmatch(mountinfo, -1) {
		ids = append(ids, m[1])
	}
	for _, m := range cgroupID.FindAllStringSubmatch(strings.TrimSpace(cgroup), -1) {
		ids = append(ids, m[1])
	}
	if hostnameID.MatchString(hostname) {
		ids = append(ids, hostname)
	}
	var once []string
	for _, id := range ids {
		if !slices.Contains(once, id) {
			once = append(once, id)
		}
	}
	return once
}
