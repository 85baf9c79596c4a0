package config

import (
	"log/slog"
	"maps"
	"net"
	"net/url"
	"path/filepath"
	"slices"
	"strconv"
	"strings"

	"github.com/sidecert/sidecert/internal/cert"
)

// Proxy is what the environment says to `sidecert socket-proxy`.
type Proxy struct {
	// Listen is where it listens, and Host the same as DOCKER_HOST spells it for a client on this machine.
	Listen net.Addr
	Host   string
	// Targets are the containers that RELOAD names. Their actions widen nothing.
	Targets []cert.Target
	// Discover says whose labels are heard.
	Discover Discover

	LogLevel  slog.Level
	LogFormat string
	Docker    Docker
	Project   string
}

// proxyVars are the variables that the socket proxy reads.
var proxyVars = words{
	"SOCKET_PROXY_LISTEN": true, "RELOAD": true, "DISCOVER": true, "COMPOSE_PROJECT_NAME": true, "LOG_LEVEL": true, "LOG_FORMAT": true,
	"DOCKER_HOST": true, "DOCKER_TLS_VERIFY": true, "DOCKER_CERT_PATH": true, "DOCKER_API_VERSION": true,
}

// ParseProxy is Parse for the socket proxy: its own variables are read and judged as the daemon's are, and the daemon's others, which
// come with a shared env_file, are answered with a WARN.
func ParseProxy(environ []string) (Proxy, []Notice, error) {
	p := &parser{}
	all := names(environ)
	var v vars
	fill(&v, p.texts(all, proxyVars))
	p.answerProxy(all)

	c := Proxy{
		Discover:  p.discover(v),
		LogLevel:  p.logLevel(v),
		LogFormat: p.logFormat(v),
		Docker:    p.docker(v),
		Project:   p.project(v.ComposeProjectName),
	}
	c.Listen, c.Host = p.listen(v.SocketProxyListen)
	c.Targets = p.reload("RELOAD", v.Reload).Targets
	if len(c.Targets) == 0 && c.Discover == DiscoverOff {
		p.missing("RELOAD", "names no container, and DISCOVER is off, so that nothing would be let through; write e.g. RELOAD=web")
	}
	if c.Listen != nil && c.Docker.Host == c.Host {
		p.wrong("DOCKER_HOST", c.Docker.Host, "is where the proxy itself listens; name the engine, e.g. unix:///var/run/docker.sock")
	}
	return c, p.allNotices(), p.err()
}

// answerProxy says something to what does nothing here.
func (p *parser) answerProxy(all map[string]string) {
	daemons := vocabulary()
	rest := map[string]string{}
	for _, name := range slices.Sorted(maps.Keys(all)) {
		m := certVariable.FindStringSubmatch(name)
		switch {
		case all[name] == "" || !plainName.MatchString(name):
		case m != nil && m[2] == "RELOAD":
			p.warn(name, "%s does nothing for the socket proxy; name its containers in RELOAD too", name)
		case m != nil, daemons.has(name) && !proxyVars.has(name):
			p.warn(name, "%s does nothing for the socket proxy", name)
		default:
			rest[name] = all[name]
		}
	}
	p.answer(rest, proxyVars)
}

// listen reads SOCKET_PROXY_LISTEN; nil where there is a mistake.
func (p *parser) listen(text string) (net.Addr, string) {
	const variable = "SOCKET_PROXY_LISTEN"
	scheme, rest, _ := strings.Cut(text, "://")
	switch scheme {
	case "unix":
		// "UNIX-domain socket addresses … sun_path[108]", with a NUL at its end (unix(7)).
		if path, ok := cleanPath(rest); ok && path != "/" && len(path) < 108 && filepath.IsAbs(path) {
			return &net.UnixAddr{Name: path, Net: "unix"}, "unix://" + path
		}
		p.wrong(variable, text, "has no path that a socket can have; write an absolute one of at most 107 bytes, e.g. %s", defaultOf(variable))
		return nil, ""
	case "tcp":
		u, err := url.Parse(text)
		if err != nil || u.Port() == "" || u.Host != rest {
			break
		}
		port, err := strconv.ParseUint(u.Port(), 10, 16)
		if err != nil || port == 0 || u.User != nil {
			break
		}
		host := u.Hostname()
		if host != "" && net.ParseIP(host) == nil && !hostname.MatchString(host) {
			break
		}
		near := host
		if ip := net.ParseIP(host); host == "" || ip != nil && ip.IsUnspecified() {
			near = "127.0.0.1"
		}
		return tcpAddr(net.JoinHostPort(host, u.Port())), "tcp://" + net.JoinHostPort(near, u.Port())
	}
	p.wrong(variable, text, "is no address to listen at; write %s, or tcp://0.0.0.0:2375", defaultOf(variable))
	return nil, ""
}

// tcpAddr is HOST:PORT whose host may be a name.
type tcpAddr string

func (tcpAddr) Network() string  { return "tcp" }
func (a tcpAddr) String() string { return string(a) }
