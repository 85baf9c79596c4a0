package main

import (
	"context"
	"flag"
	"fmt"
	"path"
	"slices"
	"strings"

	"github.com/sidecert/sidecert/internal/cert"
	"github.com/sidecert/sidecert/internal/config"
	"github.com/sidecert/sidecert/internal/docker"
	"github.com/sidecert/sidecert/internal/reload"
	"github.com/sidecert/sidecert/internal/socketproxy"
)

var socketProxyCommand = command{
	name:  "socket-proxy",
	short: "stand before the Docker socket and let through reloads only",
	help: `Example: RELOAD=web sidecert socket-proxy

Stands between sidecert and the Docker engine, in a container of its own that alone has the engine's socket; compose/socket-proxy.yaml
shows it. For the containers that its own RELOAD names, or labels of sidecert mark, it lets through: to list and inspect them
(without their environment), their events, the signals HUP, USR1 and USR2, restart, and the commands "nginx -s reload", "nginx -t" and
"httpd -k graceful". Anything else is answered with 403. It listens at SOCKET_PROXY_LISTEN, which is sidecert's DOCKER_HOST.
`,
	run: func(ctx context.Context, in *invocation, flags *flag.FlagSet) error {
		if err := noArguments(in, flags); err != nil {
			return err
		}
		c, notices, err := config.ParseProxy(in.environ)
		if err != nil {
			return err
		}
		log := logger(in.stderr, c.LogLevel, c.LogFormat)
		for _, n := range notices {
			log.Log(ctx, n.Level, n.Text, "variable", n.Variable)
		}
		for _, t := range c.Targets {
			if t.Action.Kind == cert.ActionExec && !socketproxy.Allows(t.Action.Command) {
				log.Warn("command is not let through", "target", t.String(), cert.AttrAction, t.Action.String(), cert.AttrHint, "let sidecert tell it by a signal or restart, or leave the socket proxy out")
			}
		}
		engine, err := docker.New(engineAt(c.Docker))
		if err != nil {
			return err
		}
		web := reload.New(reload.Config{Engine: engine, Project: c.Project, Discover: reload.Discover(c.Discover), Log: log})
		p := socketproxy.New(socketproxy.Config{
			Engine: engine, Labels: labelsOf(c.Targets), Log: log,
			Select: func(ctx context.Context) (docker.Container, []docker.Container, error) {
				return web.Select(ctx, c.Targets)
			},
		})
		l, err := socketproxy.Listen(c.Listen)
		if err != nil {
			return err
		}
		log.Info("socket proxy started", cert.AttrVersion, version, "listen", c.Listen.String(), "reload", targetsOf(c.Targets), "discover", c.Discover)
		defer log.Info("socket proxy stopped")
		if _, err := engine.Ping(ctx); err != nil {
			log.Warn("engine does not answer yet", cert.AttrErr, err, cert.AttrHint, engine.Advice(err))
		}
		return p.Serve(ctx, l)
	},
}

func engineAt(d config.Docker) docker.Config {
	return docker.Config{Host: d.Host, APIVersion: d.APIVersion, CertPath: d.CertPath, TLSVerify: d.TLSVerify}
}

// labelsOf are those that targets name.
func labelsOf(targets []cert.Target) []string {
	var labels []string
	for _, t := range targets {
		if t.Label != "" {
			labels = append(labels, t.Label)
		}
	}
	return labels
}

func targetsOf(targets []cert.Target) []string {
	var all []string
	for _, t := range targets {
		all = append(all, t.String())
	}
	return all
}

// runsProxy reports whether a process, by its command line as /proc has it, is a socket proxy or an init before one.
func runsProxy(cmdline string) bool {
	words := strings.Split(cmdline, "\x00")
	i := slices.Index(words, socketProxyCommand.name)
	return i > 0 && path.Base(words[i-1]) == "sidecert"
}

// checkProxy asks the socket proxy of this container.
func checkProxy(ctx context.Context, in *invocation) error {
	c, _, err := config.ParseProxy(in.environ)
	if err != nil {
		return err
	}
	proxy, err := docker.New(docker.Config{Host: c.Host})
	if err == nil {
		_, err = proxy.Ping(ctx)
	}
	if err != nil {
		return &cert.Error{Op: "healthcheck", Err: err, Hint: "`docker compose logs` of the socket proxy's service tells what it is doing"}
	}
	fmt.Fprintln(in.stdout, "healthy")
	return nil
}
