package acme

import (
	"context"
	"fmt"
	"net/netip"
	"net/url"
	"slices"
	"strings"

	"golang.org/x/net/dns/dnsmessage"

	"github.com/sidecert/sidecert/internal/cert"
)

const typeCAA dnsmessage.Type = 257

// caaRecord is one of RFC 8659 §4.1.
type caaRecord struct {
	critical   bool
	tag, value string
}

// caaIssuers are the names by which the public CAs are allowed in CAA records, by the host of their directories. Of other CAs the
// directory may say it.
var caaIssuers = map[string][]string{
	hostOf(cert.LetsEncrypt):        {"letsencrypt.org"},
	hostOf(cert.LetsEncryptStaging): {"letsencrypt.org"},
	hostOf(cert.Google):             {"pki.goog"},
	hostOf(cert.GoogleStaging):      {"pki.goog"},
	hostOf(cert.ZeroSSL):            {"sectigo.com", "comodoca.com", "comodo.com", "usertrust.com", "trust-provider.com"},
}

func hostOf(directory string) string {
	u, err := url.Parse(directory)
	if err != nil {
		return ""
	}
	return strings.ToLower(u.Hostname())
}

// examineCAA reports whether the CAA records of a name let the spec's CA issue.
func (i *Issuer) examineCAA(ctx context.Context, spec cert.Spec, name string) cert.Finding {
	found := cert.Finding{Topic: caaTopic, About: name}
	if _, err := netip.ParseAddr(name); err == nil {
		found.Text = "addresses have no CAA records"
		return found
	}
	records, owner, err := i.caaRecords(ctx, name)
	switch {
	case isCode(err, dnsmessage.RCodeServerFailure):
		found.Level, found.Text = cert.Bad, "the CAA records of "+owner+" cannot be looked up: "+clean(err.Error(), 200)
		found.Hint = "a CA issues nothing then: see that the name servers of " + owner + " answer for every type of record, and that its DNSSEC is right"
	case err != nil:
		found.Level, found.Text = cert.Unknown, "the CAA records of "+owner+" cannot be looked up from here: "+clean(err.Error(), 200)
		found.Hint = "look at the name servers in this container's /etc/resolv.conf"
	case len(records) == 0:
		found.Text = name + " has no CAA record, so every CA may issue"
	default:
		i.judgeCAA(ctx, spec, &found, records, owner)
	}
	return found
}

// caaRecords climbs the tree, RFC 8659 §3: the records of the first name that has any count, from the name itself up to its top-level
// domain. owner is the name that the result is of.
func (i *Issuer) caaRecords(ctx context.Context, name string) (records []caaRecord, owner string, err error) {
	for owner = strings.TrimPrefix(name, "*."); owner != ""; _, owner, _ = strings.Cut(owner, ".") {
		data, err := i.resolver.lookup(ctx, owner, typeCAA)
		if err != nil && !isCode(err, dnsmessage.RCodeNameError) {
			return nil, owner, err
		}
		if len(data) > 0 {
			return readCAA(data), owner, nil
		}
	}
	return nil, "", nil
}

func readCAA(data [][]byte) []caaRecord {
	var records []caaRecord
	for _, d := range data {
		if len(d) < 2 || len(d) < 2+int(d[1]) {
			continue
		}
		tag, value := d[2:2+int(d[1])], d[2+int(d[1]):]
		records = append(records, caaRecord{critical: d[0]&0x80 != 0, tag: strings.ToLower(clean(string(tag), 40)), value: clean(string(value), 300)})
	}
	return records
}

// knownTags are those that mean something to CAs, or nothing for certificates of web servers.
var knownTags = []string{"issue", "issuewild", "iodef", "contactemail", "contactphone"}

func (i *Issuer) judgeCAA(ctx context.Context, spec cert.Spec, found *cert.Finding, records []caaRecord, owner string) {
	var issuers []string
	for _, r := range records {
		if r.critical && !slices.Contains(knownTags, r.tag) {
			found.Level, found.Text = cert.Bad, fmt.Sprintf("%s has a critical CAA record with the unknown tag %q", owner, r.tag)
			found.Hint = "every CA refuses then: take the record away or its critical flag"
			return
		}
		if r.tag == "issue" {
			issuers = append(issuers, r.value)
		}
	}
	if len(issuers) == 0 {
		found.Text = "the CAA records of " + owner + " restrict nothing but wildcards"
		return
	}
	ours := i.caaNames(ctx, spec.CA)
	if len(ours) == 0 {
		found.Level = cert.Unknown
		found.Text = fmt.Sprintf("the CAA records of %s allow %s, and %s does not say by which name it is allowed", owner, listIssuers(issuers), spec.CA.Directory)
		found.Hint = "ask those who run the CA for its name in CAA records"
		return
	}
	because := ""
	for _, value := range issuers {
		issuer, parameters := readIssuer(value)
		if !slices.Contains(ours, issuer) {
			continue
		}
		if because = i.bars(spec.CA, parameters); because == "" {
			found.Text = "the CAA record of " + owner + " allows " + issuer
			return
		}
	}
	found.Level = cert.Bad
	found.Text = fmt.Sprintf("the CAA records of %s allow %s, but not %s", owner, listIssuers(issuers), ours[0])
	found.Hint = fmt.Sprintf("add the record: %s. CAA 0 issue %q", owner, ours[0])
	if because != "" {
		found.Text = "the CAA record of " + owner + " allows " + ours[0] + " " + because
		found.Hint = fmt.Sprintf("change it to: %s. CAA 0 issue %q", owner, ours[0])
	}
}

// caaNames is where the CA's directory is asked for, unless it has been read already.
func (i *Issuer) caaNames(ctx context.Context, ca cert.CA) []string {
	if known := caaIssuers[hostOf(ca.Directory)]; known != nil {
		return known
	}
	c := i.openClient(ctx, ca)
	if c == nil {
		var err error
		if c, err = i.visit(ctx, ca); err != nil {
			return nil
		}
	}
	var names []string
	for _, name := range c.dir.CAA[:min(len(c.dir.CAA), maxRecords)] {
		if name := strings.ToLower(clean(name, 253)); name != "" {
			names = append(names, name)
		}
	}
	return names
}

// readIssuer takes an issue property's value apart, RFC 8659 §4.2: "letsencrypt.org; validationmethods=http-01".
func readIssuer(value string) (issuer string, parameters map[string]string) {
	parts := strings.Split(value, ";")
	parameters = map[string]string{}
	for _, part := range parts[1:] {
		key, value, _ := strings.Cut(part, "=")
		parameters[strings.ToLower(strings.TrimSpace(key))] = strings.TrimSpace(value)
	}
	return strings.ToLower(strings.TrimSpace(parts[0])), parameters
}

// bars says in which way the parameters of RFC 8657 keep us out; "" if they do not.
func (i *Issuer) bars(ca cert.CA, parameters map[string]string) string {
	if methods, ok := parameters["validationmethods"]; ok && !slices.Contains(strings.Split(strings.ReplaceAll(methods, " ", ""), ","), "http-01") {
		return "by " + methods + " only, not by http-01"
	}
	uri, ok := parameters["accounturi"]
	if !ok {
		return ""
	}
	if account, err := i.readAccount(ca); err == nil && account.URI == uri {
		return ""
	}
	return "for the account " + uri + " only, which is not the one used here"
}

// listIssuers names whom the issue properties allow. An empty issuer allows nobody.
func listIssuers(values []string) string {
	var names []string
	for _, value := range values {
		if issuer, _ := readIssuer(value); issuer != "" && !slices.Contains(names, issuer) {
			names = append(names, issuer)
		}
	}
	if len(names) == 0 {
		return "no CA at all"
	}
	return clean(strings.Join(names, ", "), 200)
}
