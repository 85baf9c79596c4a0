package reload

import (
	"path"
	"slices"
	"strings"

	"github.com/sidecert/sidecert/internal/cert"
	"github.com/sidecert/sidecert/internal/docker"
)

// server is a kind of web server and how it is made to read its certificate again.
type server struct {
	name string
	// programs are what it is called in a container's command, images the last part of its images' names, env a variable that
	// its images set.
	programs, images []string
	env              string
	// signal makes it read again. commands do the same from inside, the first one that is there.
	signal   string
	commands [][]string
	// commandFirst says that the signal is not to be sent where a command can be run.
	commandFirst bool
	// test is the command that tells what is wrong with its configuration; nil if there is none without arguments.
	test []string
}

// servers are the kinds that "auto" knows; anything else is restarted.
var servers = []server{
	{
		name: "nginx", programs: []string{"nginx", "nginx-debug"}, images: []string{"nginx", "nginx-unprivileged"}, env: "NGINX_VERSION",
		signal: "HUP", commands: [][]string{{"nginx", "-s", "reload"}}, test: []string{"nginx", "-t"},
	},
	{
		name: "openresty", programs: []string{"openresty"}, images: []string{"openresty"}, env: "RESTY_VERSION",
		signal: "HUP", commands: [][]string{{"openresty", "-s", "reload"}}, test: []string{"openresty", "-t"},
	},
	{
		name: "angie", programs: []string{"angie"}, images: []string{"angie"}, env: "ANGIE_VERSION",
		signal: "HUP", commands: [][]string{{"angie", "-s", "reload"}}, test: []string{"angie", "-t"},
	},
	{
		// Both its signals end httpd when its configuration is broken; "-k graceful" tests the configuration first.
		name: "httpd", programs: []string{"httpd", "httpd-foreground", "apache2", "apache2-foreground", "apachectl", "apache2ctl"},
		images: []string{"httpd", "apache", "apache2"}, env: "HTTPD_VERSION",
		signal: "USR1", commands: [][]string{{"httpd", "-k", "graceful"}, {"apachectl", "-k", "graceful"}}, commandFirst: true, test: []string{"httpd", "-t"},
	},
	{
		name: "haproxy", programs: []string{"haproxy"}, images: []string{"haproxy"}, env: "HAPROXY_VERSION",
		signal: "HUP", commands: [][]string{{"sh", "-c", "kill -HUP 1"}},
	},
}

// serverIn finds out what runs in a container: by its command, which is surest, then by what its image says of itself. The
// zero server is one that we do not know.
func serverIn(c docker.Container) server {
	by := []func(s server) bool{
		func(s server) bool {
			return slices.ContainsFunc(c.Command, func(word string) bool { return slices.Contains(s.programs, path.Base(word)) })
		},
		func(s server) bool { return slices.Contains(c.EnvNames, s.env) },
		func(s server) bool { return slices.Contains(s.images, imageName(c.Image)) },
	}
	for _, is := range by {
		if i := slices.IndexFunc(servers, is); i >= 0 {
			return servers[i]
		}
	}
	return server{}
}

// files reports whether it serves files, the challenges' among them.
func (s server) files() bool { return s.name != "" && s.name != "haproxy" }

// imageName is the last part of an image's name: "nginx" of "registry:5000/library/nginx:1-alpine@sha256:…".
func imageName(image string) string {
	image, _, _ = strings.Cut(image, "@")
	name, _, _ := strings.Cut(path.Base(image), ":")
	return name
}

// actions are the ways to reload it in the order in which they are to be tried; the next one only where one cannot be done.
func (s server) actions(c docker.Container) []cert.Action {
	if s.name == "" {
		return []cert.Action{{Kind: cert.ActionRestart}}
	}
	signal := cert.Action{Kind: cert.ActionSignal, Signal: s.signal}
	if !s.commandFirst && harmOfSignal(c, s.signal) == "" {
		return []cert.Action{signal}
	}
	var all []cert.Action
	for _, command := range s.commands {
		all = append(all, cert.Action{Kind: cert.ActionExec, Command: command})
	}
	return append(all, signal)
}

// harmOfSignal is what a signal does to the container's restart policy, with the remedy; "" if nothing. The engine takes any
// signal that comes by its API for a stop by hand (moby#41302), and one to a container that names no other for stopping for
// the stop itself: then "always" too is void until the next start.
func harmOfSignal(c docker.Container, signal string) string {
	switch {
	case c.RestartPolicy == "unless-stopped":
		return "after a signal the engine takes the container for stopped by hand and does not start it after a reboot: set restart: always in place of unless-stopped"
	case c.RestartPolicy != "always" && c.RestartPolicy != "on-failure":
		return ""
	case c.StopSignal == "" || strings.TrimPrefix(c.StopSignal, "SIG") == strings.TrimPrefix(signal, "SIG"):
		return "after a signal the engine does not start the container again when it crashes, since it names no other signal for stopping: set stop_signal: SIGTERM, or what its server stops at"
	}
	return ""
}
