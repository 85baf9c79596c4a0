package renewal

import (
	"cmp"
	"context"
	"crypto"
	"errors"
	"fmt"
	"io/fs"
	"slices"
	"strings"

	"github.com/sidecert/sidecert/internal/cert"
	"github.com/sidecert/sidecert/internal/store"
)

// Revoke is what a person asks to be revoked.
type Revoke struct {
	// Name is a lineage's.
	Name   string
	Reason cert.Reason
	// Delete forgets the lineage afterwards, as Delete does.
	Delete bool
	// Force revokes although nothing has taken its place, and deletes what is configured or served.
	Force bool
}

// Revoke has the CA revoke what is live in a lineage. Of one that is kept a successor is obtained first, and seen to be served, so that no
// site is left with a revoked certificate; where the key is compromised the successor has a new one, and all that have the old one are
// revoked. What is to be revoked is written down before all that: asked again after a failure, it goes on with the same, and never takes
// the successor for what was meant. It returns what was done, in sentences, also beside an error. A running manager calls it through
// Between.
func (m *Manager) Revoke(ctx context.Context, r Revoke) (did []string, err error) {
	t, err := m.find(r.Name)
	if err != nil {
		return nil, err
	}
	if !t.lineage.Issued() {
		return nil, &cert.Error{Op: "revoke", Name: r.Name, Err: errors.New("it has no certificate"), Hint: "`sidecert certificates` lists what there is"}
	}
	if r.Delete && !r.Force {
		if err := m.mayDelete(ctx, t); err != nil {
			return nil, err
		}
	}
	doomed, err := m.condemn(t, r.Reason)
	if err != nil {
		return nil, err
	}
	if t.kept && !r.Delete && !r.Force {
		if err := m.succeedFirst(ctx, t); err != nil {
			return nil, err
		}
		did = append(did, "a new certificate is in its place, and is served wherever it was to be seen")
	}
	more, err := m.execute(ctx, t, doomed)
	did = append(did, more...)
	if err != nil || !r.Delete {
		return did, err
	}
	more, err = m.remove(ctx, t)
	return append(did, more...), err
}

// condemn writes down what is to be revoked, if an earlier call has not: the live version, and with a compromised key all others that
// have it and have not expired.
func (m *Manager) condemn(t *target, reason cert.Reason) (*cert.Doomed, error) {
	a, err := m.loadAttempts(t.name, m.Now())
	if err != nil {
		return nil, err
	}
	if a.Doomed == nil && a.Revoked[t.lineage.Fingerprint()] != "" {
		return nil, &cert.Error{Op: "revoke", Name: t.name, Err: fmt.Errorf("version %d is revoked already", t.lineage.Number),
			Hint: "`sidecert certificates " + t.name + "` tells when its successor is ordered"}
	}
	if a.Doomed == nil {
		a.Doomed = &cert.Doomed{Reason: reason, Directory: t.ca.Directory, Account: t.ca.Account, Versions: []string{t.lineage.Fingerprint()}}
	}
	if reason == cert.KeyCompromise {
		a.Doomed.Reason = reason
		for _, v := range m.withTheirKeys(t.name, a.Doomed.Versions) {
			if fp := cert.Fingerprint(v.Chain[0]); !slices.Contains(a.Doomed.Versions, fp) {
				a.Doomed.Versions = append(a.Doomed.Versions, fp)
			}
		}
	}
	return a.Doomed, m.Store.SaveAttempts(t.name, a)
}

// withTheirKeys are the stored versions that have the key of one of some versions, and have not expired.
func (m *Manager) withTheirKeys(name string, fingerprints []string) []store.Version {
	versions := slices.DeleteFunc(m.Store.Versions(name), func(v store.Version) bool { return v.Err != nil })
	var keys []crypto.PublicKey
	for _, v := range versions {
		if slices.Contains(fingerprints, cert.Fingerprint(v.Chain[0])) {
			keys = append(keys, v.Chain[0].PublicKey)
		}
	}
	return slices.DeleteFunc(versions, func(v store.Version) bool {
		has := slices.ContainsFunc(keys, func(key crypto.PublicKey) bool {
			pub, ok := v.Chain[0].PublicKey.(interface{ Equal(crypto.PublicKey) bool })
			return ok && pub.Equal(key)
		})
		return !has || !m.Now().Before(v.Chain[0].NotAfter)
	})
}

// succeedFirst obtains a successor, if a condemned version is live still, and wants it seen. Our own waits after failures do not hold it
// back, the CA's and the guard do.
func (m *Manager) succeedFirst(ctx context.Context, t *target) error {
	result := m.pass(ctx, Ask{Names: []string{t.name}, exact: true})
	i := slices.IndexFunc(result.Certs, func(c CertResult) bool { return c.Cert == t.name })
	if i < 0 {
		return &cert.Error{Op: "revoke", Name: t.name, Err: errors.New("it is not kept any more")}
	}
	failed := func(err error, hint string) error {
		return &cert.Error{Op: "revoke", Name: t.name, Err: fmt.Errorf("nothing is revoked yet: %w", err),
			Hint: strings.TrimPrefix(hint+"; then give the command again, it goes on with the same certificate; with --force that is revoked at once, whatever is served", "; ")}
	}
	c := result.Certs[i]
	live, err := m.Store.Lineage(t.name)
	if err != nil {
		return failed(err, hintOf(err))
	}
	a, err := m.Store.Attempts(t.name)
	if err != nil {
		return failed(err, hintOf(err))
	}
	how, _ := a.Condemned(live.Fingerprint())
	switch {
	case how != "" && c.Err != nil:
		return failed(fmt.Errorf("no new certificate was obtained: %w", c.Err), hintOf(c.Err))
	case how != "":
		return failed(fmt.Errorf("no new certificate was obtained: %s", c.Held), "")
	case c.Unserved != "":
		return failed(fmt.Errorf("the new certificate is stored and not seen to be served: %s", c.Unserved), c.UnservedHint)
	}
	return nil
}

func hintOf(err error) string {
	_, hint := ErrorText(err)
	return hint
}

// execute has the CA revoke what is written down. One that fails does not keep the others; what is left is tried by the next call.
func (m *Manager) execute(ctx context.Context, t *target, doomed *cert.Doomed) (did []string, err error) {
	ca := t.ca
	if ca.Directory != doomed.Directory || ca.Account != doomed.Account {
		ca.Directory, ca.EABKID, ca.EABKey, ca.Account = doomed.Directory, "", "", doomed.Account
	}
	for _, v := range m.Store.Versions(t.name) {
		if v.Err != nil || !slices.Contains(doomed.Versions, cert.Fingerprint(v.Chain[0])) {
			continue
		}
		revocation := cert.Revocation{CA: ca, Certificate: v.Chain[0], Reason: doomed.Reason}
		if other := m.obtainedFrom(t.name, v.Number); other != "" && other != ca.Directory {
			did = append(did, fmt.Sprintf("version %d came from %s and is not revoked there", v.Number, other))
			continue
		}
		if doomed.Reason == cert.KeyCompromise {
			revocation.Key = m.Store.Key(t.name, v.Number)
		}
		if errRevoke := m.Issuer.Revoke(ctx, revocation); errRevoke != nil {
			err = cmp.Or(err, errRevoke)
			continue
		}
		did = append(did, fmt.Sprintf("version %d (serial %x) is revoked", v.Number, v.Chain[0].SerialNumber))
		m.revoked(t, v, ca, doomed.Reason)
	}
	if err == nil {
		err = m.absolve(t.name)
	}
	return did, err
}

// obtainedFrom is the CA that gave a version, as far as the journal knows.
func (m *Manager) obtainedFrom(name string, version int) string {
	events, _ := m.Store.Journal() // for want of it, it is the CA of the live one
	from := ""
	for _, e := range events {
		if e.Kind == cert.EventObtained && e.Cert == name && e.Version == version {
			from = e.CA
		}
	}
	return from
}

// revoked remembers it, so that a certificate that is live still is replaced, and people see it.
func (m *Manager) revoked(t *target, v store.Version, ca cert.CA, reason cert.Reason) {
	m.Log.Info("certificate revoked", cert.AttrCert, t.name, cert.AttrVersion, v.Number, "reason", reason)
	m.journal(cert.Event{Kind: cert.EventRevoked, Cert: t.name, Version: v.Number, CA: ca.Directory, Action: string(reason)})
	a, err := m.loadAttempts(t.name, m.Now())
	if err == nil {
		stored := map[string]cert.Reason{cert.Fingerprint(v.Chain[0]): reason}
		for _, other := range m.Store.Versions(t.name) { // what is not stored any more is not remembered either
			if other.Err == nil && a.Revoked[cert.Fingerprint(other.Chain[0])] != "" {
				stored[cert.Fingerprint(other.Chain[0])] = a.Revoked[cert.Fingerprint(other.Chain[0])]
			}
		}
		a.Revoked = stored
		err = m.Store.SaveAttempts(t.name, a)
	}
	if err != nil {
		m.Log.Warn("state not written", cert.AttrCert, t.name, cert.AttrErr, err)
	}
}

// absolve ends a revocation that is done.
func (m *Manager) absolve(name string) error {
	a, err := m.loadAttempts(name, m.Now())
	if err != nil || a.Doomed == nil {
		return err
	}
	a.Doomed = nil
	return m.Store.SaveAttempts(name, a)
}

// Delete forgets a lineage: its files, its conf, its schedule. It refuses while the lineage is configured or served, unless forced: a web
// server that finds no files does not start. A running manager calls it through Between.
func (m *Manager) Delete(ctx context.Context, name string, force bool) (did []string, err error) {
	w, err := m.find(name)
	if err != nil {
		return nil, err
	}
	if !force {
		if err := m.mayDelete(ctx, w); err != nil {
			return nil, err
		}
	}
	return m.remove(ctx, w)
}

// target is a lineage that a person wants revoked or deleted.
type target struct {
	name       string
	spec       cert.Spec
	lineage    cert.Lineage
	ca         cert.CA // the one that gave what is live
	kept       bool    // it is renewed
	configured bool    // the environment names it
}

// find returns a lineage by its exact name; one that cannot be read too, since it can be deleted.
func (m *Manager) find(name string) (*target, error) {
	lineages, broken := m.Store.Lineages()
	wishes, _ := m.Plan(lineages)
	t := &target{name: name, lineage: cert.Lineage{Name: name}}
	for _, wish := range wishes {
		if wish.Lineage == name {
			t.spec, t.kept, t.configured = wish.Spec, true, !wish.Adopted
		}
	}
	found := t.configured || broken[name] != nil
	for _, l := range lineages {
		if l.Name == name {
			t.lineage, found = l, true
		}
	}
	if !found {
		return nil, &cert.Error{Op: "find", Name: name, Err: fmt.Errorf("there is no certificate of that name: %w", fs.ErrNotExist), Hint: "`sidecert certificates` lists them"}
	}
	if !t.kept {
		t.spec = m.General(name)
		t.spec.Name, t.spec.Names = name, t.lineage.Names()
	}
	t.ca = t.spec.CA
	if conf := t.lineage.Conf; conf.Server != "" && conf.Server != t.ca.Directory {
		t.ca.Directory, t.ca.EABKID, t.ca.EABKey, t.ca.Account = conf.Server, "", "", conf.Account
	}
	return t, nil
}

// mayDelete refuses while a lineage is configured, or a web server uses it or may do so.
func (m *Manager) mayDelete(ctx context.Context, t *target) error {
	refuse := func(why, hint string) error {
		return &cert.Error{Op: "delete", Name: t.name, Err: errors.New(why), Hint: strings.TrimPrefix(hint+"; --force deletes it all the same", "; ")}
	}
	switch {
	case t.configured:
		return refuse("it is configured", "take it out of DOMAINS (or its CERT_n_ variables) and start sidecert again, then delete it")
	case !t.lineage.Issued() && m.Store.Servable(t.name) && !t.lineage.Placeholder:
		return refuse("its files cannot be read as a whole, and a web server may use them all the same", "see that none does")
	case !t.lineage.Issued():
		return nil
	}
	look := m.Reloader.Show(ctx, []cert.Kept{{Spec: t.spec, Lineage: t.lineage}})
	if look.Err != nil {
		return refuse("whether it is served still cannot be seen: "+look.Err.Error(), look.Hint)
	}
	served := "take it out of the web server's configuration and reload that: without its files it would not start again"
	for _, o := range look.Outcomes {
		switch {
		case o.Class == cert.Current || o.Class == cert.Stale:
			return refuse("it is served by "+o.Container, served)
		case o.Class == cert.Unseen && o.Err != nil:
			return refuse(fmt.Sprintf("whether %s serves it cannot be seen: %v", o.Container, o.Err), o.Hint)
		case o.Class == cert.Unseen:
			return refuse(fmt.Sprintf("whether %s serves it cannot be seen", o.Container), "start it, or see that its configuration does not name the certificate")
		}
	}
	if container := m.servedElsewhere(ctx, t); container != "" {
		return refuse("it is served by "+container, served)
	}
	return nil
}

// servedElsewhere looks at containers that were seen to serve a lineage before and are no targets any more.
func (m *Manager) servedElsewhere(ctx context.Context, t *target) string {
	targets, _ := m.Store.Targets() // what cannot be read tells nothing
	spec := t.spec
	spec.Reload.Targets, spec.Reload.Off, spec.Verify = nil, false, cert.Verify{}
	for container, state := range targets {
		if _, known := state.Certs[t.name]; known && !strings.Contains(container, ":") { // an endpoint has a port
			spec.Reload.Targets = append(spec.Reload.Targets, cert.Target{Word: container, Action: cert.Action{Kind: cert.ActionAuto}})
		}
	}
	if len(spec.Reload.Targets) == 0 {
		return ""
	}
	for _, o := range m.Reloader.Show(ctx, []cert.Kept{{Spec: spec, Lineage: t.lineage}}).Outcomes {
		if o.Class == cert.Current || o.Class == cert.Stale {
			return o.Container
		}
	}
	return ""
}

// remove leaves the guard's book alone: a certificate that is deleted and ordered again is one more for the same names.
func (m *Manager) remove(ctx context.Context, t *target) (did []string, err error) {
	if err := m.Store.Delete(ctx, t.name); err != nil {
		return nil, err
	}
	m.forgetKept(t.name)
	m.Log.Info("certificate deleted", cert.AttrCert, t.name)
	m.journal(cert.Event{Kind: cert.EventDeleted, Cert: t.name, Names: t.lineage.Names()})
	return []string{t.name + " is deleted: its files, its renewal configuration and its schedule"}, nil
}
