package main

import (
	"bytes"
	"context"
	"errors"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"time"

	"github.com/sidecert/sidecert/internal/cert"
	"github.com/sidecert/sidecert/internal/renewal"
	"github.com/sidecert/sidecert/internal/report"
)

// showStatus does until what it returns is called.
func (p *parts) showStatus(ctx context.Context) (end func()) {
	if p.config.Listen == "" {
		return func() {}
	}
	ctx, cancel := context.WithCancel(ctx)
	var server sync.WaitGroup
	server.Go(func() { p.status().Run(ctx) })
	return func() {
		cancel()
		server.Wait()
	}
}

// status is what tells people and machines by HTTP how things stand.
func (p *parts) status() *report.Server {
	return report.NewServer(report.ServerConfig{
		Address: p.config.Listen, Standing: p.standing, Journal: p.entries, Metrics: p.metrics, Version: version, Log: p.log,
		Health: func() ([]byte, error) { return os.ReadFile(filepath.Join(p.config.StateDir, report.HealthFile)) },
	})
}

// tried counts an attempt. What only waits has asked nobody for anything.
func (p *parts) tried(r renewal.CertResult) {
	switch {
	case r.Obtained:
		p.metrics.Obtained()
	case r.Err != nil && r.Held == "":
		kind := cert.KindPassing
		if e, ok := errors.AsType[*cert.Error](r.Err); ok {
			kind = e.Kind
		}
		p.metrics.Failed(kind)
	}
}

// standing is what `sidecert certificates` lists.
func (p *parts) standing() (report.Standing, error) {
	now := p.manager.Now()
	all, err := list(p.store, p.manager.Wishes, now)
	if err != nil {
		return report.Standing{}, err
	}
	s := report.Standing{At: now}
	for _, r := range all {
		s.Certs = append(s.Certs, p.certificate(r, now))
	}
	var b bytes.Buffer
	err = writeJSON(&b, all)
	s.Listed = b.Bytes()
	return s, err
}

func (p *parts) certificate(r listed, now time.Time) report.Certificate {
	c := report.Certificate{
		Name: r.Name, Names: r.Names, Kept: r.spec != nil, Stored: r.Stored, KeyType: r.KeyType, Issuer: r.Issuer, Version: r.Version,
		NotBefore: r.NotBefore, NotAfter: r.NotAfter, Path: r.Path, Next: r.Next, Why: r.Why, Held: r.Held, Told: r.spec != nil && r.spec.ToBeServed(),
	}
	if r.spec != nil && r.Stored {
		c.Due = cert.DueAt(r.lineage.Leaf(), r.spec.RenewBefore)
		if r.Held == "" && r.Next.After(now) && r.Next.Before(r.NotAfter) {
			c.Due = r.Next // what its CA suggests
		}
	}
	if r.Failure != nil {
		c.Failures = r.Failure.Attempts
	}
	for _, at := range r.Served {
		c.Served = append(c.Served, report.Served{Container: at.Container, Class: at.Class, Since: at.Since, Action: at.Action, Told: at.Told, Err: at.Err})
	}
	v := checker{p.config.ExpiryWarning, p.config.ExpiryCritical, now}.judgement(r)
	c.Level, c.State, c.Hint = v.level, v.sentence, v.hint
	if r.Failure != nil { // whose reason State has
		c.Held = strings.TrimSuffix(r.Held, ": "+r.Failure.Err)
	}
	return c
}

// entries are the journal in words.
func (p *parts) entries() ([]report.Entry, error) {
	events, err := p.store.Journal()
	if err != nil {
		return nil, err
	}
	var entries []report.Entry
	for _, e := range events {
		bad := e.Kind == cert.EventFailed || e.Kind == cert.EventServed && e.Class == cert.Stale
		entries = append(entries, report.Entry{Time: e.Time, Cert: e.Cert, Text: eventText(e, report.Minute), Bad: bad})
	}
	return entries, nil
}
