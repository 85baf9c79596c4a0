package main

import (
	"context"
	"io"
	"log/slog"
	"slices"
	"strings"
	"time"

	"github.com/sidecert/sidecert/internal/acme"
	"github.com/sidecert/sidecert/internal/cert"
	"github.com/sidecert/sidecert/internal/config"
	"github.com/sidecert/sidecert/internal/docker"
	"github.com/sidecert/sidecert/internal/reload"
	"github.com/sidecert/sidecert/internal/renewal"
	"github.com/sidecert/sidecert/internal/report"
	"github.com/sidecert/sidecert/internal/store"
)

// parts are the rooms of the house, wired together. This is the only place that knows them all.
type parts struct {
	config  config.Config
	log     *slog.Logger
	store   *store.Store
	engine  *docker.Engine
	manager *renewal.Manager
}

// wire builds everything from the environment. It returns config.Mistakes, with nothing built, if there are any.
func wire(in *invocation) (*parts, error) {
	c, notices, err := config.Parse(in.environ, in.world)
	if err != nil {
		return nil, err
	}
	p := &parts{config: c, log: logger(in.stderr, c)}
	for _, n := range notices {
		p.log.Log(context.Background(), n.Level, n.Text, "variable", n.Variable)
	}
	if tz := zone(in.environ); tz != "" {
		if _, err := time.LoadLocation(strings.TrimPrefix(tz, ":")); err != nil {
			p.log.Warn("time zone is unknown, the log is in UTC", "variable", "TZ", "value", tz, cert.AttrHint, "write e.g. TZ=Europe/Berlin")
		}
	}
	if p.store, err = openStore(in, c); err != nil {
		return nil, err
	}
	p.engine, err = docker.New(docker.Config{Host: c.Docker.Host, APIVersion: c.Docker.APIVersion, CertPath: c.Docker.CertPath, TLSVerify: c.Docker.TLSVerify})
	if err != nil {
		return nil, err
	}
	reloader := reload.New(reload.Config{Engine: p.engine, Project: c.Project, Memory: p.store, Now: in.now, Log: p.log})
	issuer := acme.New(acme.Config{
		Accounts: p.store, Preflight: acme.PreflightMode(c.Preflight), Upstreams: reloader.Upstreams, Managed: managed(c.Specs),
		Now: in.now, Log: p.log, UserAgent: "sidecert/" + version,
	})
	p.manager = renewal.New(renewal.Config{
		Specs: c.Specs, Store: p.store, Issuer: issuer, Reloader: reloader,
		EnforcePreflight: c.Preflight == config.PreflightEnforce, Beat: p.beat, Now: in.now, Log: p.log,
	})
	return p, nil
}

func zone(environ []string) string {
	i := slices.IndexFunc(environ, func(e string) bool { return strings.HasPrefix(e, "TZ=") })
	if i < 0 {
		return ""
	}
	return strings.TrimPrefix(environ[i], "TZ=")
}

func openStore(in *invocation, c config.Config) (*store.Store, error) {
	return store.Open(store.Options{
		CertDir: c.CertDir, StateDir: c.StateDir, UID: c.FilesUID, GID: c.FilesGID,
		FilesPerms: c.FilesPerms, FoldersPerms: c.FoldersPerms, Now: in.now,
	})
}

// managed reports whether a name is in one of our certificates.
func managed(specs []cert.Spec) func(string) bool {
	return func(name string) bool {
		return slices.ContainsFunc(specs, func(s cert.Spec) bool { return slices.Contains(s.Names, name) })
	}
}

// beat puts a sign of life where `sidecert healthcheck` looks.
func (p *parts) beat(h renewal.Health) {
	data, err := report.Health{Ready: h.Ready, Missing: h.Missing, Beat: report.SinceBoot(), Time: time.Now()}.Encode()
	if err == nil {
		err = p.store.WriteHealth(report.HealthFile, data)
	}
	if err != nil {
		p.log.Debug("health not written", cert.AttrErr, err) // healthcheck finds the old one, and says so
	}
}

// logger writes what a person reads in `docker logs`: times to the second, errors as text.
func logger(w io.Writer, c config.Config) *slog.Logger {
	options := &slog.HandlerOptions{Level: c.LogLevel, ReplaceAttr: func(_ []string, a slog.Attr) slog.Attr {
		if a.Value.Kind() == slog.KindTime {
			t := a.Value.Time()
			if a.Key != slog.TimeKey { // the line's own time is in TZ, all others in UTC as certificates have them
				t = t.UTC()
			}
			a.Value = slog.StringValue(t.Format(time.RFC3339))
		}
		if a.Value.Kind() == slog.KindString && a.Value.String() == "" {
			return slog.Attr{} // a hint that there is none
		}
		return a
	}}
	if c.LogFormat == "json" {
		return slog.New(slog.NewJSONHandler(w, options))
	}
	return slog.New(slog.NewTextHandler(w, options))
}
