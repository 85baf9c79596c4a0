package main

import (
	"context"
	"encoding/json"
	"flag"
	"fmt"
	"io"
	"maps"
	"slices"
	"strings"
	"time"

	"github.com/sidecert/sidecert/internal/cert"
	"github.com/sidecert/sidecert/internal/config"
	"github.com/sidecert/sidecert/internal/renewal"
	"github.com/sidecert/sidecert/internal/store"
)

var certificatesCommand = command{
	name:  "certificates",
	short: "list what is stored, served and due",
	help: `Example: docker compose exec sidecert sidecert certificates example.org

Lists every certificate that is configured, adopted from certbot, or stored: its names, key, expiry, what each web container was last seen to serve, the next
renewal and why, the last failure; what wants a person first. With a NAME it says all that is known of that one. On a terminal it uses colour, unless NO_COLOR
is set.

  --json  the same for programs; times in UTC (RFC 3339)
`,
	run: runCertificates,
}

// listed is one certificate as the command shows it.
type listed struct {
	Name        string     `json:"name"`
	Names       []string   `json:"names"`
	Configured  bool       `json:"configured"`
	Adopted     bool       `json:"adopted,omitempty"` // certbot made it, and it is kept without being configured
	Left        string     `json:"left,omitempty"`    // why it is left to certbot
	Stored      bool       `json:"stored"`
	Placeholder bool       `json:"placeholder,omitempty"`
	KeyType     string     `json:"key_type,omitempty"`
	Version     int        `json:"version,omitempty"`
	Issuer      string     `json:"issuer,omitempty"`
	Serial      string     `json:"serial,omitempty"`
	NotBefore   time.Time  `json:"not_before,omitzero"`
	NotAfter    time.Time  `json:"not_after,omitzero"`
	DaysLeft    int        `json:"days_left"`
	Chain       []string   `json:"chain,omitempty"` // between the certificate and the root
	CA          string     `json:"ca,omitempty"`
	Path        string     `json:"path"`
	Served      []servedAt `json:"served"`
	Unserved    string     `json:"unserved,omitempty"` // why no web container that should serve it was seen to
	Next        time.Time  `json:"next_renewal,omitzero"`
	Why         string     `json:"why,omitempty"`
	Held        string     `json:"held,omitempty"` // what holds a wanted certificate back until Next
	Failure     *failure   `json:"last_failure,omitempty"`
	Versions    []stored   `json:"versions,omitempty"` // of a certificate asked for by name
	Revoked     string     `json:"revoked,omitempty"`  // that what is live was revoked or is to be
	Err         string     `json:"err,omitempty"`

	// What the row was made of; spec is nil for what is stored but not kept, err why the lineage cannot be read.
	lineage cert.Lineage
	spec    *cert.Spec
	err     error
	// unfinished says that an older version is still to be revoked.
	unfinished bool
}

// stored is one version in archive/.
type stored struct {
	Version   int       `json:"version"`
	Live      bool      `json:"live,omitempty"`
	Serial    string    `json:"serial,omitempty"`
	NotBefore time.Time `json:"not_before,omitzero"`
	NotAfter  time.Time `json:"not_after,omitzero"`
	Err       string    `json:"err,omitempty"`
}

type servedAt struct {
	Container string     `json:"container"`
	Class     cert.Class `json:"served"`
	Seen      time.Time  `json:"seen_at,omitzero"` // when there was last news of it; Class holds until the next
	Since     time.Time  `json:"since,omitzero"`   // since when Class was seen of this version
	Action    string     `json:"last_action,omitempty"`
	Told      time.Time  `json:"told_at,omitzero"`
	Err       string     `json:"err,omitempty"`
}

type failure struct {
	Time     time.Time `json:"time"`
	Attempts int       `json:"attempts"`
	Err      string    `json:"err"`
	Hint     string    `json:"hint,omitempty"`
}

func runCertificates(_ context.Context, in *invocation, flags *flag.FlagSet) error {
	asJSON := flags.Bool("json", false, "")
	names, err := parse(in, flags)
	if err != nil {
		return err
	}
	c, _, mistakes := config.Parse(in.environ, in.world)
	s, err := openStore(in, c)
	if err != nil {
		return err
	}
	check := checker{c.ExpiryWarning, c.ExpiryCritical, in.now()}
	all, err := list(s, wishes(in, c), check.now)
	if err != nil {
		return err
	}
	if len(names) > 0 {
		if all, err = pick(all, names); err != nil {
			return err
		}
		for i := range all {
			all[i].Versions = versionsOf(s, all[i])
		}
	}
	switch {
	case *asJSON:
		err = writeJSON(in.stdout, all)
	case len(names) > 0:
		err = check.writeDetails(in.stdout, all)
	case len(all) == 0 && mistakes == nil:
		_, err = fmt.Fprintln(in.stdout, nothingAsked)
	default:
		err = check.writeTable(in.stdout, all, screenOf(in.stdout, in.environ))
	}
	if err == nil {
		err = mistakes // what is stored is shown all the same
	}
	return err
}

// list brings together what is kept, stored, served and tried.
func list(s *store.Store, wishes cert.Wishes, now time.Time) ([]listed, error) {
	lineages, broken := s.Lineages()
	targets, err := s.Targets()
	if err != nil {
		return nil, err
	}
	labelled, err := s.Labelled()
	if err != nil {
		return nil, err
	}
	wishes, _ = wishes.With(labelled)
	plan, left := wishes.Plan(lineages)
	var all []listed
	shown := map[string]bool{}
	for _, wish := range plan {
		l, err := s.Lineage(wish.Lineage)
		row := describe(s, l, &wish.Spec, targets, now, err)
		row.Configured, row.Adopted = !wish.Adopted, wish.Adopted
		all, shown[wish.Lineage] = append(all, row), true
	}
	for _, l := range lineages {
		if !shown[l.Name] {
			row := describe(s, l, nil, targets, now, nil)
			row.Left = left[l.Name]
			all = append(all, row)
		}
	}
	for _, name := range slices.Sorted(maps.Keys(broken)) {
		if !shown[name] {
			all = append(all, describe(s, cert.Lineage{Name: name}, nil, targets, now, broken[name]))
		}
	}
	return all, nil
}

// describe makes a row; spec is nil for what is stored but not kept.
func describe(s *store.Store, l cert.Lineage, spec *cert.Spec, targets map[string]cert.TargetState, now time.Time, err error) listed {
	row := listed{Name: l.Name, Names: l.Names(), Stored: l.Issued(), Placeholder: l.Placeholder, Path: l.Dir, Served: []servedAt{},
		lineage: l, spec: spec, err: err}
	if spec != nil && !l.Issued() {
		row.Names = spec.Names
	}
	if err != nil {
		row.Err, _ = renewal.ErrorText(err)
	}
	if l.Issued() {
		leaf := l.Leaf()
		row.KeyType, row.Version, row.CA = string(cert.KeyTypeOf(leaf.PublicKey)), l.Number, l.Conf.Server
		row.Issuer, row.Serial = leaf.Issuer.String(), fmt.Sprintf("%x", leaf.SerialNumber)
		row.NotBefore, row.NotAfter = leaf.NotBefore, leaf.NotAfter
		row.DaysLeft = int(leaf.NotAfter.Sub(now).Hours() / 24)
		for _, c := range l.Chain[1:] { // the leaf's names stand by themselves
			row.Chain = append(row.Chain, c.Subject.String())
		}
	}
	if a, err := s.Attempts(l.Name); err == nil && l.Issued() {
		row.Revoked, _ = a.Condemned(l.Fingerprint())
		if row.Revoked == "" && a.Doomed != nil {
			row.unfinished = true
		}
	}
	row.Served = servedOf(l, targets)
	row.Unserved = unservedText(row, spec)
	if spec != nil && err == nil {
		describeNext(s, &row, *spec, l, now)
	}
	return row
}

// unservedText says what is wrong with how a stored certificate is served, as far as somebody should serve it.
func unservedText(row listed, spec *cert.Spec) string {
	if !row.Stored || spec == nil || !spec.ToBeServed() {
		return ""
	}
	text := ""
	for _, at := range row.Served {
		switch {
		case at.Class == cert.Stale && at.Err == "" && !spec.Told(): // it reads its files again in its own time
			return ""
		case at.Class == cert.Stale:
			return "an older one is served by " + at.Container
		case at.Class == cert.Current:
			return ""
		case at.Err != "":
			text = fmt.Sprintf("%s in %s: %s", at.Class, at.Container, at.Err)
		default:
			text = fmt.Sprintf("%s in %s", at.Class, at.Container)
		}
	}
	if text == "" {
		text = "no web container was seen to serve it"
	}
	return text
}

func describeNext(s *store.Store, row *listed, spec cert.Spec, l cert.Lineage, now time.Time) {
	waits, err := waitsOf(s, spec, l)
	if err != nil {
		row.Err = err.Error()
		return
	}
	if a := waits.Attempts; a.Failures > 0 {
		row.Failure = &failure{a.FailedAt, a.Failures, a.Err, a.Hint}
	}
	by := waits.Attempts.Heeded(l, now)
	why := cert.Wanted(spec, l, by, now)
	if row.Revoked != "" {
		why = cert.Why(row.Revoked)
	}
	if why == "" {
		row.Next, row.Why = cert.DueAt(l.Leaf(), spec.RenewBefore), "it is due then by its lifetime"
		if due := cert.Due(l.Leaf(), spec.RenewBefore, by); !due.Equal(row.Next) {
			row.Next, row.Why = due.UTC().Truncate(time.Second), "its CA suggests that time"
		}
		return
	}
	row.Next, row.Held = waits.Until(spec.Names, now)
	row.Next, row.Why = row.Next.UTC().Truncate(time.Second), string(why)
}

// waitsOf reads what holds a certificate back.
func waitsOf(s *store.Store, spec cert.Spec, l cert.Lineage) (w renewal.Waits, err error) {
	w.CA = spec.CA
	if w.Attempts, err = s.Attempts(l.Name); err != nil {
		return w, err
	}
	if w.Guard, err = s.Guard(); err != nil {
		return w, err
	}
	if w.Hold, err = s.Hold(spec.CA); err != nil {
		return w, err
	}
	if w.Failures, err = s.Failures(); err != nil {
		return w, err
	}
	if l.Issued() {
		w.Lifetime = cert.Lifetime(l.Leaf())
	}
	return w, nil
}

// servedOf is what containers were seen to serve while the stored version was the newest: those that have gone since an earlier
// one tell nothing any more.
func servedOf(l cert.Lineage, targets map[string]cert.TargetState) []servedAt {
	served := []servedAt{}
	for _, container := range slices.Sorted(maps.Keys(targets)) {
		if v, ok := targets[container].Certs[l.Name]; ok && v.Stored == l.Fingerprint() {
			served = append(served, servedAt{container, v.Seen, v.SeenAt, v.Since, v.Action, v.At, v.Err})
		}
	}
	return served
}

func versionsOf(s *store.Store, row listed) []stored {
	var all []stored
	for _, v := range s.Versions(row.Name) {
		line := stored{Version: v.Number, Live: v.Number == row.Version}
		if v.Err != nil {
			line.Err = v.Err.Error()
		} else {
			leaf := v.Chain[0]
			line.Serial, line.NotBefore, line.NotAfter = fmt.Sprintf("%x", leaf.SerialNumber), leaf.NotBefore, leaf.NotAfter
		}
		all = append(all, line)
	}
	return all
}

func pick(all []listed, names []string) ([]listed, error) {
	var picked []listed
	for _, name := range names {
		i := slices.IndexFunc(all, func(r listed) bool { return r.Name == name || slices.Contains(r.Names, strings.ToLower(name)) })
		if i < 0 {
			return nil, &usageError{fmt.Sprintf("there is no certificate %s", name), "`sidecert certificates` lists them"}
		}
		picked = append(picked, all[i])
	}
	return picked, nil
}

func writeJSON(w io.Writer, all []listed) error {
	if all == nil {
		all = []listed{}
	}
	e := json.NewEncoder(w)
	e.SetIndent("", "  ")
	return e.Encode(all)
}
