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
	"text/tabwriter"
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
renewal and why, the last failure. With a NAME it says all that is known of that one.

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
	Seen      time.Time  `json:"seen_at,omitzero"`
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
	all, err := list(s, wishes(in, c), in.now())
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
		err = writeDetails(in.stdout, all, in.now())
	default:
		err = writeTable(in.stdout, all, in.now())
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
		row.Next, row.Why = cert.DueAt(l.Leaf(), spec.RenewBefore), "it will have come so far in its lifetime"
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
			served = append(served, servedAt{container, v.Seen, v.SeenAt, v.Action, v.At, v.Err})
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

func writeTable(w io.Writer, all []listed, now time.Time) error {
	if len(all) == 0 {
		_, err := fmt.Fprintln(w, "no certificates")
		return err
	}
	t := tabwriter.NewWriter(w, 0, 0, 2, ' ', 0)
	fmt.Fprintln(t, "NAME\tNAMES\tKEY\tEXPIRES\tLEFT\tSERVED\tNEXT RENEWAL\tSTATE")
	for _, r := range all {
		expires, left := "-", "-"
		if r.Stored {
			expires, left = r.NotAfter.UTC().Format(time.DateOnly), span(r.NotAfter.Sub(now))
		}
		next := "-"
		if !r.Next.IsZero() {
			next = "in " + span(r.Next.Sub(now))
			if !r.Next.After(now) {
				next = "now"
			}
		}
		cells := []string{r.Name, namesText(r), orDash(r.KeyType), expires, left, servedText(r), next, short(oneLine(stateText(r, now)))}
		for i, cell := range cells {
			cells[i] = oneLine(cell)
		}
		fmt.Fprintln(t, strings.Join(cells, "\t"))
	}
	return t.Flush()
}

func orDash(s string) string {
	if s == "" {
		return "-"
	}
	return s
}

func namesText(r listed) string {
	if len(r.Names) > 3 {
		return fmt.Sprintf("%s and %d more", strings.Join(r.Names[:2], ","), len(r.Names)-2)
	}
	return orDash(strings.Join(r.Names, ","))
}

// servedText sums the containers up: the class they all show, or how many show the stored version.
func servedText(r listed) string {
	current := 0
	for _, s := range r.Served {
		if s.Class == cert.Current {
			current++
		}
	}
	switch {
	case len(r.Served) == 0:
		return "-"
	case current == len(r.Served):
		return "current"
	case len(r.Served) == 1:
		return string(r.Served[0].Class)
	}
	return fmt.Sprintf("%d of %d", current, len(r.Served))
}

func stateText(r listed, now time.Time) string {
	switch {
	case r.Err != "":
		return "unusable: " + r.Err
	case r.Failure != nil:
		return fmt.Sprintf("failed %s: %s", times(r.Failure.Attempts), r.Failure.Err)
	case r.Held != "":
		return "held: " + r.Held
	case r.Placeholder:
		return "placeholder, certificate to come"
	case !r.Stored:
		return "configured, nothing stored yet"
	case !now.Before(r.NotAfter):
		return "EXPIRED"
	case r.Revoked == "it was revoked":
		return "REVOKED"
	case r.Revoked != "":
		return r.Revoked
	case r.unfinished:
		return "the revocation of an older version is not done, give it again"
	case r.Left != "":
		return "left to certbot: " + r.Left
	case !r.Configured && !r.Adopted:
		return "not configured, not renewed"
	case r.Unserved != "":
		return "not served: " + r.Unserved
	}
	return "ok"
}

func times(n int) string {
	if n == 1 {
		return "once"
	}
	return fmt.Sprintf("%d times", n)
}

// maxState is how many characters of a state the table shows; all of it is in the long form.
const maxState = 60

func short(text string) string {
	if r := []rune(text); len(r) > maxState {
		return string(r[:maxState-1]) + "…"
	}
	return text
}

func writeDetails(w io.Writer, all []listed, now time.Time) error {
	t := newDetails(w)
	line := t.line
	for i, r := range all {
		if i > 0 {
			fmt.Fprintln(t)
		}
		line("name", r.Name)
		line("names", strings.Join(r.Names, ", "))
		line("state", stateText(r, now))
		line("path", r.Path)
		if r.Stored {
			line("key", r.KeyType)
			line("serial", r.Serial)
			line("issuer", r.Issuer)
			line("chain", strings.Join(r.Chain, ", "))
			line("CA", r.CA)
			line("valid from", r.NotBefore.UTC().Format(time.RFC3339))
			line("expires", when(r.NotAfter, now))
		}
		if !r.Next.IsZero() {
			line("next renewal", fmt.Sprintf("%s: %s", when(r.Next, now), r.Why))
		}
		for _, v := range r.Versions {
			line(fmt.Sprintf("version %d", v.Version), versionText(v))
		}
		for _, s := range r.Served {
			told := ""
			if s.Action != "" {
				told = fmt.Sprintf(", told by %s at %s", s.Action, s.Told.UTC().Format(time.RFC3339))
			}
			line("served by "+s.Container, fmt.Sprintf("%s at %s%s", s.Class, s.Seen.UTC().Format(time.RFC3339), told))
		}
		if f := r.Failure; f != nil {
			line("last failure", fmt.Sprintf("%s, %d in a row: %s", f.Time.UTC().Format(time.RFC3339), f.Attempts, f.Err))
			line("what to do", f.Hint)
		}
	}
	return t.Flush()
}

func versionText(v stored) string {
	if v.Err != "" {
		return "not whole: " + v.Err
	}
	text := fmt.Sprintf("%s to %s, serial %s", v.NotBefore.UTC().Format(time.RFC3339), v.NotAfter.UTC().Format(time.RFC3339), v.Serial)
	if v.Live {
		text += ", live"
	}
	return text
}
