package main

import (
	"context"
	"crypto/tls"
	"crypto/x509"
	"errors"
	"flag"
	"fmt"
	"math"
	"net"
	"slices"
	"strconv"
	"strings"
	"time"

	"github.com/sidecert/sidecert/internal/cert"
	"github.com/sidecert/sidecert/internal/config"
	"github.com/sidecert/sidecert/internal/store"
)

var checkCommand = command{
	name:  "check",
	short: "find what ails, for monitoring (exit 0 OK, 1 WARNING, 2 CRITICAL, 3 UNKNOWN)",
	help: `Example: docker compose exec -T sidecert sidecert check
         sidecert check --warning 20d --critical 7d www.example.org:443

A plugin for monitoring (Nagios and its kin): one line with performance data in days. Looks at every certificate that is kept, or at those
named: how near its expiry is, whether it is there at all, and whether web containers were last seen to serve an older one.
HOST:PORT is looked at from outside: a TLS connection as a browser makes it, from where the command runs.

  --warning  how long before expiry (default EXPIRY_WARNING), at most 2/3 of what is left when the renewal is due
  --critical likewise (default EXPIRY_CRITICAL), at most 1/3
`,
	run: runCheck,
}

// level is a monitoring plugin's finding; the number is its exit status.
type level int

const (
	levelOK level = iota
	levelWarning
	levelCritical
	levelUnknown
)

func (l level) String() string { return []string{"OK", "WARNING", "CRITICAL", "UNKNOWN"}[l] }

// finding is what a check found of one certificate.
type finding struct {
	name  string
	level level
	// text is empty of what is well.
	text string
	leaf *x509.Certificate
	// warning and critical are how long before the leaf's expiry it ails.
	warning, critical time.Duration
}

// checker has what all findings need.
type checker struct {
	warning, critical time.Duration
	now               time.Time
}

func runCheck(ctx context.Context, in *invocation, flags *flag.FlagSet) error {
	c, _, mistakes := config.Parse(in.environ, in.world)
	check := checker{c.ExpiryWarning, c.ExpiryCritical, in.now()}
	duration := func(into *time.Duration) func(string) error {
		return func(text string) (err error) {
			if *into, err = config.Duration(text); err != nil {
				err = fmt.Errorf("%q %w", text, err)
			}
			return err
		}
	}
	flags.Func("warning", "", duration(&check.warning))
	flags.Func("critical", "", duration(&check.critical))
	words, err := parse(in, flags)
	if usage, ok := errors.AsType[*usageError](err); ok {
		return check.conclude(in, []finding{{level: levelUnknown, text: usage.msg}})
	}
	if err != nil {
		return err
	}
	endpoints := slices.DeleteFunc(slices.Clone(words), func(w string) bool { return !strings.Contains(w, ":") })
	names := slices.DeleteFunc(words, func(w string) bool { return strings.Contains(w, ":") })

	var findings []finding
	for _, endpoint := range endpoints {
		findings = append(findings, check.endpoint(ctx, endpoint))
	}
	if len(names) > 0 || len(endpoints) == 0 {
		s, err := openStore(in, c)
		if err != nil {
			return check.conclude(in, []finding{{level: levelUnknown, text: err.Error()}})
		}
		findings = append(findings, check.stored(s, wishes(in, c), names)...)
		if mistakes != nil {
			first, _, _ := strings.Cut(mistakes.Error(), "\n")
			findings = append(findings, finding{level: levelCritical, text: "the configuration has mistakes, so that the daemon does not run: " + first})
		}
	}
	return check.conclude(in, findings)
}

// stored looks at the certificates that are kept here or left to certbot, or at those named.
func (c checker) stored(s *store.Store, wishes cert.Wishes, names []string) []finding {
	rows, err := list(s, wishes, c.now)
	if err != nil {
		return []finding{{level: levelUnknown, text: err.Error()}}
	}
	if len(names) > 0 {
		if rows, err = pick(rows, names); err != nil {
			return []finding{{level: levelUnknown, text: err.Error()}}
		}
	} else {
		rows = slices.DeleteFunc(rows, func(r listed) bool { return !r.Configured && !r.Adopted && r.Left == "" })
	}
	var findings []finding
	for _, row := range rows {
		findings = append(findings, c.row(row))
	}
	return findings
}

func (c checker) row(row listed) finding {
	f := finding{name: row.Name}
	switch {
	case row.err != nil:
		f.level, f.text = levelCritical, row.err.Error()
		return f
	case !row.Stored && row.Failure != nil:
		f.level, f.text = levelCritical, fmt.Sprintf("no certificate, failed %s: %s", times(row.Failure.Attempts), row.Failure.Err)
		return f
	case !row.Stored:
		f.level, f.text = levelWarning, "no certificate yet"
		return f
	}
	f = c.judge(row.Name, row.lineage.Leaf(), row.renewBefore())
	if row.Failure != nil && f.level > levelOK {
		f.text += fmt.Sprintf(", failed %s: %s", times(row.Failure.Attempts), row.Failure.Err)
	}
	if row.Failure == nil && row.Held != "" && row.Revoked == "" && f.level > levelOK {
		f.text += ", held: " + row.Held
	}
	if row.Unserved != "" {
		f.level, f.text = max(f.level, levelWarning), strings.TrimPrefix(f.text+", not served: "+row.Unserved, ", ")
	}
	switch {
	case row.Revoked != "":
		f.level, f.text = levelCritical, "revoked or to be, and not replaced: "+strings.TrimPrefix(row.Held+"; "+f.text, "; ")
	case row.Left != "" && f.level > levelOK:
		f.text += ", left to certbot"
	}
	return f
}

// judge looks at how near its expiry a certificate is.
func (c checker) judge(name string, leaf *x509.Certificate, renewBefore time.Duration) finding {
	f := finding{name: name, leaf: leaf, level: level(cert.Ailing(leaf, renewBefore, c.warning, c.critical, c.now))}
	f.warning, f.critical = cert.Thresholds(leaf, renewBefore, c.warning, c.critical)
	switch left := leaf.NotAfter.Sub(c.now); {
	case left <= 0:
		f.text = "expired " + span(-left) + " ago"
	case f.level > levelOK:
		f.text = "expires in " + span(left)
	}
	return f
}

// endpointTime limits a look from outside.
const endpointTime = 10 * time.Second

// endpoint looks at what a browser would see.
func (c checker) endpoint(ctx context.Context, endpoint string) finding {
	ctx, cancel := context.WithTimeout(ctx, endpointTime)
	defer cancel()
	host, _, err := net.SplitHostPort(endpoint)
	if err != nil {
		return finding{name: endpoint, level: levelUnknown, text: "is no HOST:PORT"}
	}
	// The certificate is verified below, so that one that is not trusted can be told from one that has expired.
	dialer := tls.Dialer{Config: &tls.Config{ServerName: host, InsecureSkipVerify: true}}
	conn, err := dialer.DialContext(ctx, "tcp", endpoint)
	if err != nil {
		return finding{name: endpoint, level: levelCritical, text: err.Error()}
	}
	defer conn.Close()
	chain := conn.(*tls.Conn).ConnectionState().PeerCertificates
	f := c.judge(endpoint, chain[0], 0)
	if f.text == "" || f.level < levelCritical {
		if err := trusted(chain, host, c.now); err != nil {
			f.level, f.text = levelCritical, err.Error()
		}
	}
	return f
}

func trusted(chain []*x509.Certificate, host string, now time.Time) error {
	if cert.IsPlaceholder(chain[0]) {
		return errors.New("a placeholder of sidecert is served")
	}
	options := x509.VerifyOptions{DNSName: host, CurrentTime: now, Intermediates: x509.NewCertPool()}
	for _, c := range chain[1:] {
		options.Intermediates.AddCert(c)
	}
	_, err := chain[0].Verify(options)
	return err
}

// conclude writes the plugin's line: the worst level, what ails, then the days left of each.
func (c checker) conclude(in *invocation, findings []finding) error {
	worst := levelOK
	var ails, data []string
	nearest := finding{}
	for _, f := range findings {
		// Between the two kinds of bad news the certain one comes first.
		if f.level == levelCritical || worst != levelCritical && f.level > worst {
			worst = f.level
		}
		if f.text != "" {
			ails = append(ails, strings.TrimPrefix(f.name+": "+f.text, ": "))
		}
		if f.leaf == nil {
			continue
		}
		// "10:" means "< 10 (outside {10 .. ∞})". Monitoring Plugins Guidelines, threshold format
		data = append(data, fmt.Sprintf("'%s'=%s;%s:;%s:", plain(f.name), days(f.leaf.NotAfter.Sub(c.now)), days(f.warning), days(f.critical)))
		if nearest.leaf == nil || f.leaf.NotAfter.Before(nearest.leaf.NotAfter) {
			nearest = f
		}
	}
	text := strings.Join(ails, "; ")
	switch {
	case text != "":
	case nearest.leaf == nil:
		worst, text = levelUnknown, nothingAsked
	default:
		count := fmt.Sprintf("%d certificates", len(findings))
		if len(findings) == 1 {
			count = "1 certificate"
		}
		text = fmt.Sprintf("%s, the first to expire is %s in %s", count, nearest.name, span(nearest.leaf.NotAfter.Sub(c.now)))
	}
	line := fmt.Sprintf("SIDECERT %s: %s", worst, strings.ReplaceAll(oneLine(text), "|", "/")) // "|" begins the performance data
	if len(data) > 0 {
		line += " | " + strings.Join(data, " ")
	}
	fmt.Fprintln(in.stdout, line)
	if worst == levelOK {
		return nil
	}
	return exitStatus(worst)
}

// plain is a name without what has a meaning in performance data.
func plain(name string) string {
	return strings.NewReplacer("|", "/", "'", "", "=", "-").Replace(oneLine(name))
}

// days are written with one place after the point, and with four where there are few: 9 s.
func days(d time.Duration) string {
	places := 10.0
	if d.Abs() < 48*time.Hour {
		places = 1e4
	}
	return strconv.FormatFloat(math.Round(d.Hours()/24*places)/places+0, 'f', -1, 64)
}
