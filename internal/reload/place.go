package reload

import (
	"maps"
	"net"
	"net/netip"
	"slices"
	"strconv"

	"github.com/sidecert/sidecert/internal/cert"
	"github.com/sidecert/sidecert/internal/docker"
)

// place is one listener: addresses that all lead to it, of which the first that answers is asked.
type place []string

// places are where a container answers on a public port (443 or 80), seen from where we are: inside on the port that a person has
// named for TLS, else on the ports that it publishes as the public one, else on that one itself. self is our own container; its zero
// value means that we reach everything.
func places(self docker.Container, c found, public int) []place {
	ports := inside(c.Container, public)
	if c.port != 0 && public == httpsPort {
		ports = []int{c.port}
	}
	if c.ID == "" { // told blind: by DNS
		return []place{{join(c.Name, ports[0])}}
	}
	if addrs := shared(self, c.Container); len(addrs) > 0 {
		var out []place
		for _, port := range ports {
			out = append(out, placeOf(addrs, port))
		}
		return out
	}
	if outer := published(self, c.Container, ports); len(outer) > 0 {
		return []place{outer}
	}
	return nil
}

// httpsPort is where clients look for a site, httpPort where a CA does.
const (
	httpsPort = 443
	httpPort  = 80
)

func endpoints(v cert.Verify) []place {
	var out []place
	for _, e := range v.Endpoints {
		out = append(out, place{e})
	}
	return out
}

// inside are the container's ports that are published as the public one, or that itself.
func inside(c docker.Container, public int) []int {
	var ports []int
	for _, p := range c.Ports {
		if p.Host == public && !slices.Contains(ports, p.Container) {
			ports = append(ports, p.Container)
		}
	}
	if len(ports) == 0 {
		return []int{public}
	}
	return ports
}

// shared are the container's addresses in networks that we are in too.
func shared(self, c docker.Container) []netip.Addr {
	known := self.ID != "" && !self.HostNetwork // the host reaches every bridge
	loopback := []netip.Addr{netip.AddrFrom4([4]byte{127, 0, 0, 1})}
	switch {
	case c.HostNetwork && !known, c.NetworkOf != "" && c.NetworkOf == self.ID:
		return loopback
	case c.HostNetwork:
		return gateways(self)
	}
	var addrs []netip.Addr
	for _, name := range slices.Sorted(maps.Keys(c.Networks)) {
		if _, ok := self.Networks[name]; ok || !known {
			addrs = append(addrs, c.Networks[name].Addrs...)
		}
	}
	return addrs
}

// published are the host's addresses that lead to ports of a container whose networks we are not in.
func published(self, c docker.Container, ports []int) place {
	var out place
	for _, p := range c.Ports {
		switch {
		case !slices.Contains(ports, p.Container) || p.HostIP.IsLoopback():
		case !p.HostIP.IsValid() || p.HostIP.IsUnspecified():
			out = append(out, placeOf(gateways(self), p.Host)...)
		default:
			out = append(out, join(p.HostIP.String(), p.Host))
		}
	}
	slices.Sort(out)
	return slices.Compact(out)
}

// gateways are the host's addresses in our networks.
func gateways(self docker.Container) []netip.Addr {
	var addrs []netip.Addr
	for _, name := range slices.Sorted(maps.Keys(self.Networks)) {
		addrs = append(addrs, self.Networks[name].Gateways...)
	}
	return addrs
}

func placeOf(addrs []netip.Addr, port int) place {
	var out place
	for _, a := range addrs {
		out = append(out, join(a.String(), port))
	}
	return out
}

func join(host string, port int) string { return net.JoinHostPort(host, strconv.Itoa(port)) }
