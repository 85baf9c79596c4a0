package docker

import (
	"context"
	"net/netip"
	"path"
	"slices"
	"strings"
	"time"

	"github.com/docker/docker/api/types/container"
	"github.com/docker/docker/api/types/filters"
	"github.com/docker/docker/api/types/network"
	"github.com/docker/docker/client"
	"github.com/docker/go-connections/nat"
)

// Compose's labels, and the beginning of ours.
const (
	LabelProject = "com.docker.compose.project"
	LabelService = "com.docker.compose.service"
	LabelOneOff  = "com.docker.compose.oneoff"
	LabelOwn     = "sidecert."
)

// Container is one as Inspect shows it. List leaves Command, EnvNames, RestartPolicy, StopSignal, NetworkOf and Mounts empty, and of
// State knows the status only.
type Container struct {
	ID    string
	Name  string // without the API's slash
	Image string // as it was asked for: "nginx:1-alpine"
	// ImageID is the image itself, whatever bears its name meanwhile.
	ImageID string
	Command []string
	// EnvNames are the names of the environment's variables. Their values, passwords among them, are not kept.
	EnvNames []string
	// Project and Service are Compose's; empty for a container that Compose did not make.
	Project, Service string
	// OneOff says that "docker compose run" has made it for a single command.
	OneOff bool
	// Labels are those that begin with "sidecert.". Others, passwords of basic auth among them, are not kept.
	Labels map[string]string
	State  State
	// RestartPolicy is "no", "on-failure", "always" or "unless-stopped".
	RestartPolicy string
	// StopSignal is the image's or the service's own; empty where neither names one. See Kill.
	StopSignal string
	// HostNetwork says that the container uses the host's network; NetworkOf is the ID of the container whose network it uses.
	HostNetwork bool
	NetworkOf   string
	Networks    map[string]Network
	Ports       []Port
	Mounts      []Mount
}

// Mount is a folder or file from outside in a container.
type Mount struct {
	// Type is "volume", "bind" or "tmpfs".
	Type string
	// Name is a volume's.
	Name string
	// Source is where it lies on the host: of a volume the folder that the engine keeps it in, or the part of it that is mounted.
	Source string
	// Destination is where it is in the container.
	Destination string
	ReadOnly    bool
}

// State says whether and since when a container runs, or when and how it ended.
type State struct {
	// Status is "created", "running", "paused", "restarting", "removing", "exited" or "dead".
	Status                string
	StartedAt, FinishedAt time.Time
	// ExitCode of the last end, where it has ended.
	ExitCode int
	// Health is "starting", "healthy" or "unhealthy" by its health check; empty where it has none.
	Health string
}

// Running leaves out a paused container, which neither answers nor reads anything.
func (s State) Running() bool { return s.Status == container.StateRunning }

// Network is a container's place in one network.
type Network struct {
	// Addrs are IPv4 and IPv6, none while the container does not run.
	Addrs []netip.Addr
	// Gateways are the host's own addresses in the network.
	Gateways []netip.Addr
}

// Port is a TCP port that is published on the host.
type Port struct {
	// Container is the port inside, Host the one outside.
	Container, Host int
	// HostIP is the host's address that it is published on; unspecified means all of them.
	HostIP netip.Addr
}

// Filter narrows List; its zero value is every container.
type Filter struct {
	Project, Service string
	// Label is KEY or KEY=VALUE.
	Label string
}

// List returns containers, running or not, in the order of their names. The ones that "docker compose run" makes for a single
// command are never among them, though they bear the service's labels.
func (e *Engine) List(ctx context.Context, f Filter) ([]Container, error) {
	args := filters.NewArgs()
	if f.Project != "" {
		args.Add("label", LabelProject+"="+f.Project)
	}
	if f.Service != "" {
		args.Add("label", LabelService+"="+f.Service)
	}
	if f.Label != "" {
		args.Add("label", f.Label)
	}
	var listed []container.Summary
	err := e.call(ctx, callTimeout, "GET /containers/json", func(ctx context.Context, api *client.Client) (err error) {
		listed, err = api.ContainerList(ctx, container.ListOptions{All: true, Filters: args})
		return err
	})
	if err != nil {
		return nil, err
	}
	var out []Container
	for _, s := range listed {
		if oneOff(s.Labels) || len(s.Names) == 0 {
			continue
		}
		out = append(out, ofSummary(s))
	}
	slices.SortFunc(out, func(a, b Container) int { return strings.Compare(a.Name, b.Name) })
	return out, nil
}

// Inspect returns one container. The engine takes the beginning of an ID for the container too: compare Name where a name was meant.
func (e *Engine) Inspect(ctx context.Context, nameOrID string) (Container, error) {
	var seen container.InspectResponse
	err := e.call(ctx, callTimeout, "GET /containers/{id}/json", func(ctx context.Context, api *client.Client) (err error) {
		seen, err = api.ContainerInspect(ctx, nameOrID)
		if err == nil && (seen.ContainerJSONBase == nil || seen.ID == "") {
			return errNoID
		}
		return err
	})
	if err != nil {
		return Container{}, err
	}
	return ofInspect(seen), nil
}

func ofSummary(s container.Summary) Container {
	c := Container{
		ID: s.ID, Name: bareName(s.Names), Image: s.Image, ImageID: s.ImageID, Project: s.Labels[LabelProject], Service: s.Labels[LabelService],
		Labels: ownLabels(s.Labels), State: State{Status: s.State}, HostNetwork: s.HostConfig.NetworkMode == "host",
	}
	if s.NetworkSettings != nil {
		c.Networks = networksOf(s.NetworkSettings.Networks)
	}
	for _, p := range s.Ports {
		if p.Type == "tcp" && p.PublicPort != 0 {
			ip, _ := netip.ParseAddr(p.IP)
			c.Ports = append(c.Ports, Port{Container: int(p.PrivatePort), Host: int(p.PublicPort), HostIP: ip})
		}
	}
	return c
}

func oneOff(labels map[string]string) bool { return strings.EqualFold(labels[LabelOneOff], "true") }

// ownLabels are those that are meant for us; nil if there are none.
func ownLabels(all map[string]string) map[string]string {
	var own map[string]string
	for key, value := range all {
		if strings.HasPrefix(key, LabelOwn) {
			if own == nil {
				own = map[string]string{}
			}
			own[key] = value
		}
	}
	return own
}

// bareName leaves out the names that "--link" of other containers gives, which have a second slash.
func bareName(names []string) string {
	for _, n := range names {
		if name := strings.TrimPrefix(n, "/"); !strings.Contains(name, "/") {
			return name
		}
	}
	return strings.TrimPrefix(names[0], "/")
}

// ofInspect expects holes: a socket proxy may have cut something out, and an answer is never worth a crash.
func ofInspect(r container.InspectResponse) Container {
	var c Container
	if base := r.ContainerJSONBase; base != nil {
		c.ID, c.Name, c.ImageID = base.ID, strings.TrimPrefix(base.Name, "/"), base.Image
		c.Command = append([]string{base.Path}, base.Args...)
		if s := base.State; s != nil {
			started, _ := time.Parse(time.RFC3339Nano, s.StartedAt)
			finished, _ := time.Parse(time.RFC3339Nano, s.FinishedAt)
			c.State = State{Status: s.Status, StartedAt: started, FinishedAt: finished, ExitCode: s.ExitCode}
			if s.Health != nil && s.Health.Status != container.NoHealthcheck {
				c.State.Health = s.Health.Status
			}
		}
		if h := base.HostConfig; h != nil {
			c.RestartPolicy = string(h.RestartPolicy.Name)
			c.HostNetwork = h.NetworkMode.IsHost()
			c.NetworkOf = h.NetworkMode.ConnectedContainer()
		}
	}
	c.Mounts = mountsOf(r)
	if config := r.Config; config != nil {
		c.Image, c.StopSignal = config.Image, config.StopSignal
		c.Project, c.Service, c.Labels = config.Labels[LabelProject], config.Labels[LabelService], ownLabels(config.Labels)
		c.OneOff = oneOff(config.Labels)
		for _, v := range config.Env {
			if name, _, set := strings.Cut(v, "="); set { // a name alone takes the image's variable away
				c.EnvNames = append(c.EnvNames, name)
			}
		}
	}
	if n := r.NetworkSettings; n != nil {
		c.Networks = networksOf(n.Networks)
		c.Ports = portsOf(n.Ports)
	}
	return c
}

func mountsOf(r container.InspectResponse) []Mount {
	var out []Mount
	for _, m := range r.Mounts {
		out = append(out, Mount{Type: string(m.Type), Name: m.Name, Source: m.Source, Destination: m.Destination, ReadOnly: !m.RW})
	}
	if r.ContainerJSONBase == nil || r.HostConfig == nil {
		return out
	}
	for _, asked := range r.HostConfig.Mounts { // the engine tells of a volume's part here only
		i := slices.IndexFunc(out, func(m Mount) bool { return m.Destination == asked.Target })
		if i >= 0 && asked.VolumeOptions != nil && asked.VolumeOptions.Subpath != "" {
			out[i].Source = path.Join(out[i].Source, asked.VolumeOptions.Subpath)
		}
	}
	return out
}

func networksOf(endpoints map[string]*network.EndpointSettings) map[string]Network {
	out := make(map[string]Network, len(endpoints))
	for name, ep := range endpoints {
		if ep != nil {
			out[name] = Network{Addrs: addrs(ep.IPAddress, ep.GlobalIPv6Address), Gateways: addrs(ep.Gateway, ep.IPv6Gateway)}
		}
	}
	return out
}

func addrs(texts ...string) []netip.Addr {
	var out []netip.Addr
	for _, text := range texts {
		if a, err := netip.ParseAddr(text); err == nil {
			out = append(out, a)
		}
	}
	return out
}

func portsOf(m nat.PortMap) []Port {
	var out []Port
	for inside, bindings := range m {
		for _, b := range bindings {
			outside, err := nat.ParsePort(b.HostPort)
			if err != nil || inside.Proto() != "tcp" {
				continue
			}
			ip, _ := netip.ParseAddr(b.HostIP)
			out = append(out, Port{Container: inside.Int(), Host: outside, HostIP: ip})
		}
	}
	slices.SortFunc(out, func(a, b Port) int { return a.Container - b.Container })
	return out
}
