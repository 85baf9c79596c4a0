package renewal

import (
	"context"
	"crypto/x509"
	"errors"
	"fmt"
	"io/fs"
	"slices"
	"strings"

	"github.com/sidecert/sidecert/internal/cert"
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
// revoked. It returns what was done, in sentences, also beside an error. A running manager calls it through Between.
func (m *Manager) Revoke(ctx context.Context, r Revoke) (did []string, err error) {
	w, err := m.find(r.Name)
	if err != nil {
		return nil, err
	}
	if !w.lineage.Issued() {
		return nil, &cert.Error{Op: "revoke", Name: r.Name, Err: errors.New("it has no certificate"), Hint: "`sidecert certificates` lists what there is"}
	}
	if r.Delete && !r.Force {
		if err := m.mayDelete(ctx, w); err != nil {
			return nil, err
		}
	}
	old := w.lineage
	if w.kept && !r.Delete && !r.Force {
		if err := m.succeedFirst(ctx, r); err != nil {
			return nil, err
		}
		did = append(did, "a new certificate was obtained, and is served wherever it was to be seen")
	}
	for _, leaf := range m.toRevoke(old, r.Reason) {
		revocation := cert.Revocation{CA: w.ca, Certificate: leaf.cert, Reason: r.Reason}
		if r.Reason == cert.KeyCompromise {
			revocation.Key = old.Key
		}
		if err := m.Issuer.Revoke(ctx, revocation); err != nil {
			return did, err
		}
		did = append(did, fmt.Sprintf("version %d (serial %x) is revoked", leaf.number, leaf.cert.SerialNumber))
		m.revoked(w, leaf, r.Reason)
	}
	if !r.Delete {
		return did, nil
	}
	more, err := m.remove(ctx, w)
	return append(did, more...), err
}

// numbered is a version's certificate.
type numbered struct {
	number int
	cert   *x509.Certificate
}

// toRevoke is the live version, and with a compromised key all others that have it and have not expired.
func (m *Manager) toRevoke(l cert.Lineage, reason cert.Reason) []numbered {
	all := []numbered{{l.Number, l.Leaf()}}
	if reason != cert.KeyCompromise {
		return all
	}
	for _, v := range m.Store.Versions(l.Name) {
		if v.Err == nil && v.Number != l.Number && cert.Fits(l.Key, v.Chain[0]) && m.Now().Before(v.Chain[0].NotAfter) {
			all = append(all, numbered{v.Number, v.Chain[0]})
		}
	}
	return all
}

// succeedFirst obtains a successor and wants it seen.
func (m *Manager) succeedFirst(ctx context.Context, r Revoke) error {
	result := m.pass(ctx, Ask{Names: []string{r.Name}, Force: true, FreshKey: r.Reason == cert.KeyCompromise})
	i := slices.IndexFunc(result.Certs, func(c CertResult) bool { return c.Cert == r.Name })
	if i < 0 {
		return &cert.Error{Op: "revoke", Name: r.Name, Err: errors.New("it is not kept any more")}
	}
	failed := func(err error, hint string) error {
		return &cert.Error{Op: "revoke", Name: r.Name, Err: fmt.Errorf("nothing is revoked: %w", err),
			Hint: strings.TrimPrefix(hint+"; with --force it is revoked at once, and the site has a revoked certificate until there is another", "; ")}
	}
	switch c := result.Certs[i]; {
	case c.Err != nil:
		_, hint := ErrorText(c.Err)
		return failed(fmt.Errorf("no new certificate was obtained: %w", c.Err), hint)
	case !c.Obtained:
		return failed(fmt.Errorf("no new certificate was obtained: %s", c.Held), "")
	case c.Unserved != "":
		return failed(fmt.Errorf("the new certificate is stored and not seen to be served: %s", c.Unserved), c.UnservedHint)
	}
	return nil
}

// revoked remembers it, so that a certificate that is live still is replaced.
func (m *Manager) revoked(w *target, leaf numbered, reason cert.Reason) {
	m.Log.Info("certificate revoked", cert.AttrCert, w.name, cert.AttrVersion, leaf.number, "reason", reason)
	m.journal(cert.Event{Kind: cert.EventRevoked, Cert: w.name, Version: leaf.number, CA: w.ca.Directory, Action: string(reason)})
	a, err := m.loadAttempts(w.name, m.Now())
	if err == nil {
		a.Revoked = append(a.Revoked, cert.Fingerprint(leaf.cert))
		a.Revoked = a.Revoked[max(0, len(a.Revoked)-maxRevoked):]
		err = m.Store.SaveAttempts(w.name, a)
	}
	if err != nil {
		m.Log.Warn("state not written", cert.AttrCert, w.name, cert.AttrErr, err)
	}
}

// maxRevoked bounds what is remembered: only the live version's revocation is ever asked after.
const maxRevoked = 20

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

func (m *Manager) mayDelete(ctx context.Context, t *target) error {
	refuse := func(why, hint string) error {
		return &cert.Error{Op: "delete", Name: t.name, Err: errors.New(why), Hint: hint + "; --force deletes it all the same"}
	}
	if t.configured {
		return refuse("it is configured", "take it out of DOMAINS (or its CERT_n_ variables) and start sidecert again, then delete it")
	}
	if !t.lineage.Issued() {
		return nil
	}
	look := m.Reloader.Show(ctx, []cert.Kept{{Spec: t.spec, Lineage: t.lineage}})
	if look.Err != nil {
		return refuse("whether it is served still cannot be seen: "+look.Err.Error(), strings.TrimPrefix(look.Hint, "; "))
	}
	for _, o := range look.Outcomes {
		if o.Class == cert.Current || o.Class == cert.Stale {
			return refuse("it is served by "+o.Container, "take it out of the web server's configuration and reload that: without its files it would not start again")
		}
	}
	return nil
}

// remove keeps the guard's book: a certificate that is deleted and ordered again counts as one more of the same.
func (m *Manager) remove(ctx context.Context, t *target) (did []string, err error) {
	book, err := m.Store.Attempts(t.name)
	if err != nil {
		return nil, err
	}
	if err := m.Store.Delete(ctx, t.name); err != nil {
		return nil, err
	}
	if len(book.Ordered)+len(book.Issued) > 0 {
		if err := m.Store.SaveAttempts(t.name, cert.Attempts{Ordered: book.Ordered, Issued: book.Issued}); err != nil {
			m.Log.Warn("state not written", cert.AttrCert, t.name, cert.AttrErr, err)
		}
	}
	m.Log.Info("certificate deleted", cert.AttrCert, t.name)
	m.journal(cert.Event{Kind: cert.EventDeleted, Cert: t.name, Names: t.lineage.Names()})
	return []string{t.name + " is deleted: its files, its renewal configuration and its schedule"}, nil
}
