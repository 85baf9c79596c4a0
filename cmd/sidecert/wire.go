package main

import (
	"context"
	"io"
	"log/slog"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"time"

	"github.com/sidecert/sidecert/internal/acme"
	"github.com/sidecert/sidecert/internal/cert"
	"github.com/sidecert/sidecert/internal/config"
	"github.com/sidecert/sidecert/internal/docker"
	"github.com/sidecert/sidecert/internal/hook"
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
	issuer  *acme.Issuer
	web     *reload.Reloader
	manager *renewal.Manager
	now     func() time.Time
	metrics *report.Metrics
	// watchers is what the log is written to.
	watchers *watchers
}

// wire builds everything from the environment. It returns config.Mistakes, with nothing built, if there are any.
func wire(in *invocation) (*parts, error) {
	c, notices, err := config.Parse(in.environ, in.world)
	if err != nil {
		return nil, err
	}
	p, err := build(in, c)
	if err != nil {
		return nil, err
	}
	for _, n := range notices {
		p.log.Log(context.Background(), n.Level, n.Text, "variable", n.Variable)
	}
	if tz := zone(in.environ); tz != "" {
		if _, err := time.LoadLocation(strings.TrimPrefix(tz, ":")); err != nil {
			p.log.Warn("time zone is unknown, the log is in UTC", "variable", "TZ", "value", tz, cert.AttrHint, "write e.g. TZ=Europe/Berlin")
		}
	}
	return p, nil
}

// build makes the parts of what there is of a configuration, mistakes or not, and touches nothing.
func build(in *invocation, c config.Config) (*parts, error) {
	s, err := openStore(in, c)
	if err != nil {
		return nil, err
	}
	p, err := outward(in, c, s)
	if err != nil {
		return nil, err
	}
	p.store = s
	p.manager = renewal.New(renewal.Config{
		Wishes: wishes(in, c), Store: p.store, Issuer: p.issuer, Reloader: p.web, Hooks: hooks(in, c, p.log),
		Discover: p.web.Labelled, EnforcePreflight: c.Preflight == config.PreflightEnforce, Beat: p.beat, ExpiryWarning: c.ExpiryWarning,
		Tried: p.tried, Looked: p.metrics.Looked, Passed: func(renewal.Result) { p.metrics.Passed(in.now()) }, Now: in.now, Log: p.log,
	})
	return p, nil
}

// memory is what the parts around the store keep in it.
type memory interface {
	acme.Accounts
	reload.Memory
}

// outward makes the parts that look outside.
func outward(in *invocation, c config.Config, m memory) (*parts, error) {
	p := &parts{config: c, now: in.now, watchers: &watchers{to: in.stderr}, metrics: report.NewMetrics(version)}
	p.log = logger(p.watchers, c.LogLevel, c.LogFormat)
	var err error
	p.engine, err = docker.New(engineAt(c.Docker))
	if err != nil {
		return nil, err
	}
	p.web = reload.New(reload.Config{
		Engine: p.engine, Project: c.Project, Discover: reload.Discover(c.Discover), Memory: m, CertDir: c.CertDir, StateDir: c.StateDir, Now: in.now, Log: p.log,
	})
	p.issuer = acme.New(acme.Config{
		Accounts: m, Preflight: acme.PreflightMode(c.Preflight), Upstreams: p.web.Upstreams, Misplaced: p.web.Misplaced, Managed: p.managed,
		Asked: func(a acme.Asked) { p.metrics.Asked(a.Directory, a.Method, a.Status, a.Elapsed, a.Date, in.now()) },
		Now:   in.now, Log: p.log, UserAgent: "sidecert/" + version,
	})
	return p, nil
}

// wishes are what the configuration asks for, and how what containers ask for is read.
func wishes(in *invocation, c config.Config) cert.Wishes {
	w := cert.Wishes{
		Specs: c.Specs,
		Adopt: c.Adopt,
		General: func(lineage string) cert.Spec {
			spec := c.General
			spec.Verify = c.VerifyFor(lineage)
			return spec
		},
		Mounted: func(webroot string) bool {
			info, err := os.Stat(webroot)
			return err == nil && info.IsDir() && (!in.world.InContainer || in.world.Mounted(webroot))
		},
	}
	if c.Hears {
		w.Labels = c.Labels
	}
	return w
}

// plan is what is kept, as the store is now.
func (p *parts) plan() ([]cert.Wish, map[string]string) {
	lineages, _ := p.store.Lineages()
	return p.manager.Plan(lineages)
}

// hooks run in this container; those of certbot's own folders only where its certificates are adopted.
func hooks(in *invocation, c config.Config, log *slog.Logger) renewal.Hooks {
	h := hook.Config{Pre: c.Hooks.Pre, Deploy: c.Hooks.Deploy, Post: c.Hooks.Post, Environ: c.HookEnviron(in.environ), Log: log}
	if c.Adopt {
		h.Dir = filepath.Join(c.CertDir, "renewal-hooks")
	}
	return hook.New(h)
}

func zone(environ []string) string {
	i := slices.IndexFunc(environ, func(e string) bool { return strings.HasPrefix(e, "TZ=") })
	if i < 0 {
		return ""
	}
	return strings.TrimPrefix(environ[i], "TZ=")
}

func openStore(in *invocation, c config.Config) (*store.Store, error) {
	var webroots []string
	for _, spec := range c.Specs {
		for _, name := range spec.Names {
			webroots = append(webroots, spec.WebrootOf(name))
		}
	}
	slices.Sort(webroots)
	return store.Open(store.Options{
		CertDir: c.CertDir, StateDir: c.StateDir, UID: c.FilesUID, GID: c.FilesGID,
		FilesPerms: c.FilesPerms, FoldersPerms: c.FoldersPerms, Haproxy: slices.Contains(c.ExtraFiles, config.Haproxy),
		Webroots: slices.Compact(webroots), Now: in.now,
	})
}

// managed reports whether a name is in one of our certificates.
func (p *parts) managed(name string) bool {
	var wishes []cert.Wish
	if p.manager != nil {
		wishes, _ = p.plan()
	}
	return slices.ContainsFunc(wishes, func(w cert.Wish) bool { return slices.Contains(w.Spec.Names, name) })
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

// logger writes what a person reads in `docker logs`: times to the second, durations and errors as text in both formats.
func logger(w io.Writer, level slog.Level, format string) *slog.Logger {
	options := &slog.HandlerOptions{Level: level, ReplaceAttr: func(_ []string, a slog.Attr) slog.Attr {
		if a.Value.Kind() == slog.KindTime {
			t := a.Value.Time()
			if a.Key != slog.TimeKey { // the line's own time is in TZ, all others in UTC as certificates have them
				t = t.UTC()
			}
			a.Value = slog.StringValue(t.Format(time.RFC3339))
		}
		if a.Value.Kind() == slog.KindDuration {
			a.Value = slog.StringValue(a.Value.Duration().String())
		}
		if a.Value.Kind() == slog.KindString && a.Value.String() == "" {
			return slog.Attr{} // a hint that there is none
		}
		return a
	}}
	if format == "json" {
		return slog.New(slog.NewJSONHandler(w, options))
	}
	return slog.New(slog.NewTextHandler(w, options))
}
