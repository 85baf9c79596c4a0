package docker

import (
	"slices"
	"strings"
	"testing"
)

func TestOwnIDIsFoundInAllSettings(t *testing.T) {
	id := strings.Repeat("0123456789abcdef", 4)
	other := strings.Repeat("f", 64)
	mounts := "1020 1010 254:1 /var/lib/docker/containers/" + id + "/hostname /etc/hostname rw,relatime - ext4 /dev/vda1 rw\n" +
		"1021 1010 254:1 /var/lib/docker/containers/" + id + "/hosts /etc/hosts rw,relatime - ext4 /dev/vda1 rw\n"
	for _, tt := range []struct {
		name, mountinfo, cgroup, hostname string
		want                              []string
	}{
		{"default of cgroup v1", mounts, "12:cpu:/docker/" + id + "\n1:name=systemd:/docker/" + id + "\n", id[:12], []string{id, id[:12]}},
		{"hostname of one's own, cgroup v2", mounts, "0::/\n", "cert.example.org", []string{id}},
		{"systemd's cgroups without mounts", "", "0::/system.slice/docker-" + id + ".scope\n", "host", []string{id}},
		{"mounts of somebody else's path", "1 1 1:1 /srv/containers/" + other + "/hosts /srv/x rw - ext4 /dev/vda1 rw\n", "0::/", "web", nil},
		{"no container at all", "22 1 0:1 / / rw - ext4 /dev/vda1 rw\n", "0::/init.scope\n", "server-7", nil},
	} {
		if got := selfIDs(tt.mountinfo, tt.cgroup, tt.hostname); !slices.Equal(got, tt.want) {
			t.Errorf("%s: selfIDs() = %v, want %v", tt.name, got, tt.want)
		}
	}
}
