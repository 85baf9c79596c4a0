package socketproxy

import (
	"fmt"
	"net/netip"
	"slices"
	"strings"
	"time"

	"github.com/sidecert/sidecert/internal/docker"
)

// The answers have the API's form with what docker.Container knows, and nothing else: no environment, and no labels but Compose's three
// and ours.

type summary struct {
	ID              string `json:"Id"`
	Names           []string
	Image, ImageID  string
	Command         string
	Labels          map[string]string
	State, Status   string
	Ports           []port
	HostConfig      struct{ NetworkMode string }
	NetworkSettings struct{ Networks map[string]network }
	Mounts          []mount
}

type port struct {
	IP                      string `json:",omitempty"`
	PrivatePort, PublicPort int
	Type                    string
}

type network struct {
	IPAddress, Gateway, GlobalIPv6Address, IPv6Gateway string
}

type mount struct {
	Type              string
	Name              string `json:",omitempty"`
	Source            string
	Destination, Mode string
	RW                bool
}

type inspection struct {
	ID    string `json:"Id"`
	Name  string
	Path  string
	Args  []string
	Image string
	State struct {
		Status                            string
		Running, Paused, Restarting, Dead bool
		ExitCode                          int
		StartedAt, FinishedAt             time.Time
		Health                            *health `json:",omitempty"`
	}
	HostConfig struct {
		NetworkMode   string
		RestartPolicy struct{ Name string }
	}
	Config struct {
		Image      string
		Labels     map[string]string
		StopSignal string `json:",omitempty"`
	}
	NetworkSettings struct {
		Networks map[string]network
		Ports    map[string][]binding
	}
	Mounts []mount
}

type health struct{ Status string }

type binding struct {
	HostIP   string `json:"HostIp"`
	HostPort string
}

func summaryOf(c docker.Container) summary {
	s := summary{
		ID: c.ID, Names: []string{"/" + c.Name}, Image: c.Image, ImageID: c.ImageID, Command: strings.Join(c.Command, " "),
		Labels: labelsOf(c.Project, c.Service, c.OneOff, c.Labels), State: c.State.Status, Status: c.State.Status, Ports: []port{}, Mounts: mountsOf(c),
	}
	for _, p := range c.Ports {
		s.Ports = append(s.Ports, port{textOf(p.HostIP), p.Container, p.Host, "tcp"})
	}
	s.HostConfig.NetworkMode = networkMode(c)
	s.NetworkSettings.Networks = networksOf(c)
	return s
}

func inspectionOf(c docker.Container) inspection {
	i := inspection{ID: c.ID, Name: "/" + c.Name, Args: []string{}, Image: c.ImageID, Mounts: mountsOf(c)}
	if len(c.Command) > 0 {
		i.Path, i.Args = c.Command[0], c.Command[1:]
	}
	is := func(status string) bool { return c.State.Status == status }
	i.State.Status, i.State.ExitCode = c.State.Status, c.State.ExitCode
	i.State.StartedAt, i.State.FinishedAt = c.State.StartedAt.UTC(), c.State.FinishedAt.UTC()
	if c.State.Health != "" {
		i.State.Health = &health{c.State.Health}
	}
	i.State.Running = slices.Contains(up, c.State.Status) // the engine has it so
	i.State.Paused, i.State.Restarting, i.State.Dead = is("paused"), is("restarting"), is("dead")
	i.HostConfig.NetworkMode, i.HostConfig.RestartPolicy.Name = networkMode(c), c.RestartPolicy
	i.Config.Image, i.Config.StopSignal = c.Image, c.StopSignal
	i.Config.Labels = labelsOf(c.Project, c.Service, c.OneOff, c.Labels)
	i.NetworkSettings.Networks, i.NetworkSettings.Ports = networksOf(c), map[string][]binding{}
	for _, p := range c.Ports {
		inside := fmt.Sprintf("%d/tcp", p.Container)
		i.NetworkSettings.Ports[inside] = append(i.NetworkSettings.Ports[inside], binding{textOf(p.HostIP), fmt.Sprint(p.Host)})
	}
	return i
}

// labelsOf are the labels that are told.
func labelsOf(project, service string, oneOff bool, own map[string]string) map[string]string {
	labels := map[string]string{}
	for key, value := range own { // docker keeps ours alone
		if strings.HasPrefix(key, docker.LabelOwn) {
			labels[key] = value
		}
	}
	if project != "" {
		labels[docker.LabelProject] = project
		labels[docker.LabelOneOff] = map[bool]string{true: "True", false: "False"}[oneOff]
	}
	if service != "" {
		labels[docker.LabelService] = service
	}
	return labels
}

func networkMode(c docker.Container) string {
	switch {
	case c.HostNetwork:
		return "host"
	case c.NetworkOf != "":
		return "container:" + c.NetworkOf
	}
	return "default"
}

func networksOf(c docker.Container) map[string]network {
	all := map[string]network{}
	for name, n := range c.Networks {
		var out network
		out.IPAddress, out.GlobalIPv6Address = families(n.Addrs)
		out.Gateway, out.IPv6Gateway = families(n.Gateways)
		all[name] = out
	}
	return all
}

func families(addrs []netip.Addr) (v4, v6 string) {
	for _, a := range addrs {
		if a.Is4() {
			v4 = a.String()
		} else {
			v6 = a.String()
		}
	}
	return v4, v6
}

func textOf(a netip.Addr) string {
	if !a.IsValid() {
		return ""
	}
	return a.String()
}

func mountsOf(c docker.Container) []mount {
	all := []mount{}
	for _, m := range c.Mounts {
		mode := map[bool]string{true: "ro", false: "rw"}[m.ReadOnly]
		all = append(all, mount{m.Type, m.Name, m.Source, m.Destination, mode, !m.ReadOnly})
	}
	return all
}

type message struct {
	Status string `json:"status"`
	ID     string `json:"id"`
	Type   string
	Action string
	Actor  struct {
		ID         string
		Attributes map[string]string
	}
	Scope    string `json:"scope"`
	Time     int64  `json:"time"`
	TimeNano int64  `json:"timeNano"`
}

func messageOf(e docker.Event) message {
	m := message{Status: e.Action, ID: e.ID, Type: "container", Action: e.Action, Scope: "local", Time: e.At.Unix(), TimeNano: e.At.UnixNano()}
	m.Actor.ID = e.ID
	m.Actor.Attributes = labelsOf(e.Project, e.Service, false, e.Labels)
	m.Actor.Attributes["name"] = e.Name
	return m
}
