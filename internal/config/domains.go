package config

import (
	"cmp"
	"fmt"
	"maps"
	"net/netip"
	"regexp"
	"slices"
	"strings"
	"unicode"

	"github.com/sidecert/sidecert/internal/cert"
)

const (
	// maxNames is how many names a CA puts in one certificate, and maxNamesShort how many Let's Encrypt does with its newer
	// profiles (letsencrypt.org/docs/profiles).
	maxNames      = 100
	maxNamesShort = 25

	// maxLineage leaves room for what stands around the name in file names, which have at most 255 bytes.
	maxLineage = 200
)

var lineageName = regexp.MustCompile(`^[A-Za-z0-9_-][A-Za-z0-9._-]*$`)

// draft is a certificate that is being read.
type draft struct {
	spec cert.Spec
	// variable is where its names stand.
	variable string
	own      certVars
	// broken says that its names hold a mistake.
	broken bool
}

func (d *draft) ownVariables() bool { return strings.HasPrefix(d.variable, "CERT_") }

// drafts reads the certificates with everything but verification, which may speak of any of them.
func (p *parser) drafts(v vars, g general) []*draft {
	var drafts []*draft
	for _, entry := range entries(v.Domains) {
		drafts = append(drafts, p.draft(entry, g))
	}
	if len(drafts) > maxCerts {
		p.wrong("DOMAINS", "", "has %d certificates; %d are the most", len(drafts), maxCerts)
		drafts = drafts[:maxCerts]
	}
	if len(drafts) == 0 && len(v.Certs) == 0 {
		p.nothing(v)
	}
	for _, own := range v.Certs {
		if d := p.ownDraft(own, g); d != nil {
			drafts = append(drafts, d)
		}
	}
	p.twins(drafts)
	p.nobodyTold(v, drafts)
	p.uselessRoots(g, drafts)
	return drafts
}

func (p *parser) nothing(v vars) {
	if v.Domains != "" {
		p.wrong("DOMAINS", v.Domains, "names nothing; write e.g. DOMAINS=example.org,www.example.org")
		return
	}
	const example = "name what to get a certificate for, e.g. DOMAINS=example.org,www.example.org"
	switch {
	case p.adopting, p.hears(v):
	case isFalse(v.Adopt):
		p.missing("DOMAINS", "is not set, nor is CERT_0_DOMAINS, and ADOPT is off%s; %s", p.deaf(v), example)
	default:
		p.missing("DOMAINS", "is not set, nor is CERT_0_DOMAINS, nor has certbot made anything in CERT_DIR%s; %s, or mount certbot's directory at %s", p.deaf(v), example, shorten(v.CertDir))
	}
}

// deaf says, in a sentence about what is missing, that no label can be read either.
func (p *parser) deaf(v vars) string {
	if strings.EqualFold(v.Discover, string(DiscoverOff)) {
		return ""
	}
	return ", nor is there an engine to read labels from"
}

// hears reports whether containers may ask for certificates by label.
func (p *parser) hears(v vars) bool {
	state, _ := cleanPath(v.StateDir)
	return !strings.EqualFold(v.Discover, string(DiscoverOff)) &&
		(p.world.Engine(v.DockerHost) || v.DockerHost != defaultOf("DOCKER_HOST") || p.world.Remembers(state))
}

// adoptable reports whether certbot has left something in CERT_DIR. Of one that is wrong folders tells.
func (p *parser) adoptable(v vars) bool {
	dir, ok := cleanPath(v.CertDir)
	return ok && p.world.Adoptable(dir)
}

// entries splits a list at newlines and semicolons.
func entries(text string) []string {
	var list []string
	for entry := range strings.FieldsFuncSeq(text, func(r rune) bool { return r == '\n' || r == ';' }) {
		if entry = strings.TrimSpace(entry); entry != "" {
			list = append(list, entry)
		}
	}
	return list
}

// general is what holds for every certificate that says nothing else.
type general struct {
	spec    cert.Spec
	staging bool
	// roots are of a CA of one's own. All CAs carry them, since that of an adopted certificate is not known here.
	roots string
}

func (p *parser) general(v vars) general {
	g := general{
		staging: p.boolean("STAGING", v.Staging),
		roots:   p.bundle(v.ACMECABundle),
	}
	g.spec = cert.Spec{
		ReuseKey:       v.ReuseKey != "" && p.boolean("REUSE_KEY", v.ReuseKey),
		Profile:        p.profile("ACME_PROFILE", v.ACMEProfile),
		PreferredChain: p.line("PREFERRED_CHAIN", v.PreferredChain),
		RenewBefore:    p.renewBefore("RENEW_BEFORE", v.RenewBefore),
		CA:             p.generalCA(v, g),
		Reload:         p.reload("RELOAD", v.Reload),
	}
	g.spec.Webroot, _ = cleanPath(cmp.Or(v.Webroot, defaultOf("WEBROOT"))) // folders tells of a mistake in it
	g.spec.Open = cert.Open{CA: v.ACMECA == "" && !g.staging, Webroot: v.Webroot == "", ReuseKey: v.ReuseKey == ""}
	if v.KeyType != "" {
		g.spec.KeyType = p.keyType("KEY_TYPE", v.KeyType)
	}
	if v.ReloadFallback != "" {
		g.spec.Reload.Fallback = p.fallback(v.ReloadFallback)
	}
	return g
}

// draft reads one certificate as DOMAINS spells it.
func (p *parser) draft(entry string, g general) *draft {
	d := &draft{spec: g.spec, variable: "DOMAINS"}
	name := p.names(d, entry)
	p.lineage(d, "DOMAINS", name)
	return d
}

// ownDraft reads one certificate that has variables of its own; nil if its names are missing.
func (p *parser) ownDraft(own certVars, g general) *draft {
	variable := own.variable("DOMAINS")
	list := entries(own.Domains)
	switch len(list) {
	case 0:
		p.missing(variable, "names nothing, though there are other variables with CERT_%d_; write e.g. %s=example.org", own.number, variable)
		return nil
	case 1:
	default:
		p.wrong(variable, own.Domains, "is more than one certificate; join its names by commas, and give the others a CERT_n_DOMAINS of their own")
		return nil
	}
	d := &draft{spec: g.spec, variable: variable, own: own}
	p.ownSettings(d, g)
	name := p.names(d, list[0])
	if name != "" && own.Name != "" {
		p.wrong(own.variable("NAME"), own.Name, "names the certificate a second time, after %s= in %s; leave one out", name, variable)
	}
	if name == "" {
		variable, name = own.variable("NAME"), own.Name
	}
	p.lineage(d, variable, name)
	p.ownWebroot(d)
	return d
}

// ownSettings overrides the general settings by those of one certificate.
func (p *parser) ownSettings(d *draft, g general) {
	own, spec := d.own, &d.spec
	if own.KeyType != "" {
		spec.KeyType = p.keyType(own.variable("KEY_TYPE"), own.KeyType)
	}
	if own.Profile != "" {
		spec.Profile = p.profile(own.variable("PROFILE"), own.Profile)
	}
	if own.RenewBefore != "" {
		spec.RenewBefore = p.renewBefore(own.variable("RENEW_BEFORE"), own.RenewBefore)
	}
	if own.Reload != "" {
		fallback := spec.Reload.Fallback
		spec.Reload = p.reload(own.variable("RELOAD"), own.Reload)
		spec.Reload.Fallback = fallback
	}
	spec.CA = p.ownCA(own, g)
	spec.Open.CA = spec.Open.CA && own.ACMECA == ""
	spec.Open.Webroot = spec.Open.Webroot && own.Webroot == ""
}

// splitName takes a certificate's name= from before its names.
func splitName(entry string) (name, list string) {
	if i := strings.IndexByte(entry, '='); i > 0 && !strings.ContainsAny(entry[:i], ",:/?") {
		return strings.TrimSpace(entry[:i]), entry[i+1:]
	}
	return "", entry
}

// names reads the names of one certificate into its spec and returns what stood before them with a =.
func (p *parser) names(d *draft, entry string) string {
	lineage, list := splitName(entry)
	seen := map[string]bool{}
	for item := range strings.SplitSeq(list, ",") {
		item = strings.TrimSpace(item)
		if item == "" {
			continue
		}
		name, ok := p.name(d, item)
		switch {
		case !ok:
			d.broken = true
		case seen[name]:
			p.mend(d.variable, "names written twice in one certificate were left out", name)
		default:
			seen[name] = true
			d.spec.Names = append(d.spec.Names, name)
		}
	}
	if len(d.spec.Names) == 0 && !d.broken {
		p.wrong(d.variable, entry, "names nothing; write e.g. example.org,www.example.org")
		d.broken = true
		return lineage
	}
	if emptyItem.MatchString(list) {
		p.mend(d.variable, "commas without a name were left out", entry)
	}
	p.tooMany(d)
	if !d.broken {
		p.unrelated(d)
	}
	return lineage
}

// emptyItem finds a comma that has a name on one side at most.
var emptyItem = regexp.MustCompile(`^\s*,|,\s*(,|$)`)

// name reads one name and says what was put right.
func (p *parser) name(d *draft, text string) (string, bool) {
	if words := strings.Fields(text); len(words) > 1 {
		p.wrong(d.variable, text, "has only a space between names; write %s for one certificate, or %s for one each", strings.Join(words, ","), strings.Join(words, ";"))
		return "", false
	}
	if strings.Contains(text, "=") && !strings.Contains(text, "://") {
		p.wrong(d.variable, text, "has a certificate's name before a name that is not the first; begin each certificate with ; or on a new line")
		return "", false
	}
	name, err := canonical(text)
	if err == nil {
		err = certifiable(name, d.spec.CA, d.spec.Profile, d.profileVariable())
		if err != nil && p.adopting && d.spec.Open.CA { // the conf of one that certbot made may name a CA of its own
			p.warn(d.variable, "%s %v, unless certbot had it from a CA of your own", name, err)
			err = nil
		}
	}
	if err != nil {
		p.wrong(d.variable, text, "%v", err)
		return "", false
	}
	p.mendedName(d.variable, text, name)
	return name, true
}

func (d *draft) profileVariable() string {
	switch {
	case d.ownVariables():
		return d.own.variable("PROFILE")
	case d.variable == cert.LabelDomains:
		return cert.LabelProfile
	}
	return "ACME_PROFILE"
}

// mendedName gives the notices for a name that is not as it was written.
func (p *parser) mendedName(variable, text, name string) {
	became := fmt.Sprintf("%s is %s", text, name)
	_, notIP := netip.ParseAddr(name)
	switch {
	case name == text:
	case notIP == nil:
		p.mend(variable, "IP addresses were written the short way", became)
	case !ascii(text):
		p.mend(variable, "names with other than Latin letters were put in the form of DNS (punycode)", became)
		p.mixed(variable, text, name)
	default:
		if strings.ToLower(text) != text {
			p.mend(variable, "upper case was put right", became)
		}
		if strings.HasSuffix(text, ".") {
			p.mend(variable, "dots at the end were left out", became)
		}
	}
}

// lookalikes are the scripts whose letters are taken for each other, UTS 39 §4.
var lookalikes = []struct {
	name   string
	script *unicode.RangeTable
}{{"Latin", unicode.Latin}, {"Cyrillic", unicode.Cyrillic}, {"Greek", unicode.Greek}}

// mixed warns of a name that has slipped in from elsewhere: it looks like another one.
func (p *parser) mixed(variable, text, name string) {
	for label := range strings.SplitSeq(text, ".") {
		var found []string
		for _, l := range lookalikes {
			if strings.ContainsFunc(label, func(r rune) bool { return unicode.Is(l.script, r) }) {
				found = append(found, l.name)
			}
		}
		if len(found) > 1 {
			p.warn(variable, "%s (%s) has %s letters in one word, which look alike; type it again if it was copied", shorten(text), name, strings.Join(found, " and "))
			return
		}
	}
}

func (p *parser) tooMany(d *draft) {
	most, why := maxNames, ""
	if letsEncrypt(d.spec.CA.Directory) && isOneOf(d.spec.Profile, "tlsserver", "shortlived") {
		most, why = maxNamesShort, " with the profile "+d.spec.Profile
	}
	n := len(d.spec.Names)
	if n <= most {
		return
	}
	d.broken = true
	how := fmt.Sprintf("put a ; after each %d names", most)
	if d.ownVariables() {
		how = "give the rest a CERT_n_DOMAINS of its own"
	}
	p.wrong(d.variable, d.spec.Names[0]+",…", "has %d names; a certificate holds at most %d%s, so split it in %d: %s", n, most, why, (n+most-1)/most, how)
}

// unrelated warns of a certificate in which strangers share one fate.
func (p *parser) unrelated(d *draft) {
	var families []string
	members := map[string][]string{}
	for _, name := range d.spec.Names {
		f := family(name)
		if f == "" {
			continue
		}
		if members[f] == nil {
			families = append(families, f)
		}
		members[f] = append(members[f], name)
	}
	if len(families) < 2 {
		return
	}
	how := "give each a CERT_n_DOMAINS of its own"
	if !d.ownVariables() {
		groups := make([]string, len(families))
		for i, f := range families {
			groups[i] = strings.Join(members[f], ",")
		}
		how = fmt.Sprintf("%s makes %d certificates of it", shorten(strings.Join(groups, ";")), len(families))
	}
	p.warn(d.variable, "%s and %s share one certificate: when a name of one fails, the other is not renewed either; %s", families[0], families[1], how)
}

// lineage gives a certificate the name that a person chose, else that of its first name.
func (p *parser) lineage(d *draft, variable, name string) {
	if name == "" {
		p.unnamed(d)
		return
	}
	d.spec.Name, d.spec.Named = name, true
	switch {
	case !lineageName.MatchString(name):
		p.wrong(variable, name, "cannot be a certificate's name; one has letters, digits, . _ and - and begins with no dot")
	case len(name) > maxLineage:
		p.wrong(variable, name, "is too long for a certificate's name; %d characters are the most", maxLineage)
	case strings.EqualFold(name, "README"):
		p.wrong(variable, name, "cannot be a certificate's name, since a file beside the certificates has it; write another")
	default:
		return
	}
	d.broken = true
}

func (p *parser) unnamed(d *draft) {
	if len(d.spec.Names) == 0 {
		return
	}
	// The colons of an IPv6 address are for no folder, and a hyphen in front looks like an option.
	name := strings.ReplaceAll(d.spec.Names[0], ":", "-")
	if strings.HasPrefix(name, "-") {
		name = "0" + name
	}
	if len(name) > maxLineage {
		p.wrong(d.variable, name, "is too long for a certificate's name; write e.g. shop=%.20s…", name)
		d.broken = true
	}
	d.spec.Name = name
}

// twins finds certificates that stand in each other's way.
func (p *parser) twins(drafts []*draft) {
	byNames := map[string]*draft{}
	byLineage := map[string]*draft{}
	for _, d := range drafts {
		if len(d.spec.Names) == 0 {
			continue
		}
		names := strings.Join(slices.Sorted(slices.Values(d.spec.Names)), ",")
		lineage := strings.ToLower(d.spec.Name)
		switch {
		case byNames[names] != nil:
			p.wrong(d.variable, strings.Join(d.spec.Names, ","), "is in two certificates with just these names (%s and %s); leave one out", byNames[names].spec.Name, d.spec.Name)
		case byLineage[lineage] != nil:
			p.wrong(d.variable, d.spec.Name, "is the name of two certificates; give one of them another, e.g. %s", d.otherName())
		}
		byNames[names] = cmp.Or(byNames[names], d)
		byLineage[lineage] = cmp.Or(byLineage[lineage], d)
	}
}

// otherName shows how a certificate is given a name.
func (d *draft) otherName() string {
	if d.ownVariables() {
		return fmt.Sprintf("%s=%.20s-2", d.own.variable("NAME"), d.spec.Name)
	}
	return fmt.Sprintf("%.20s-2=%s", d.spec.Name, d.spec.Names[0])
}

// nobodyTold warns where the web servers would go on with what they have read, and no label can make them targets.
func (p *parser) nobodyTold(v vars, drafts []*draft) {
	silent := func(d *draft) bool { return d.own.Reload == "" }
	if v.Reload == "" && !p.hears(v) && (p.adopting || slices.ContainsFunc(drafts, silent)) {
		p.warn("RELOAD", "RELOAD is not set: no web container is told about a new certificate; write e.g. RELOAD=web with the name of its Compose service, or RELOAD=off if it is told otherwise")
	}
}

// uselessRoots warns of roots that no CA in use is asked with. That of an adopted certificate may be.
func (p *parser) uselessRoots(g general, drafts []*draft) {
	ownCA := func(d *draft) bool { return !cert.Public(d.spec.CA.Directory) }
	if g.roots != "" && !p.adopting && !ownCA(&draft{spec: g.spec}) && !slices.ContainsFunc(drafts, ownCA) {
		p.warn("ACME_CA_BUNDLE", "ACME_CA_BUNDLE does nothing, since it is for a CA of your own: is ACME_CA missing? For a proxy that opens HTTPS, SSL_CERT_FILE names the roots")
	}
}

// lineages are the names of all certificates, sorted.
func lineages(drafts []*draft) []string {
	set := map[string]bool{}
	for _, d := range drafts {
		if d.spec.Name != "" {
			set[d.spec.Name] = true
		}
	}
	return slices.Sorted(maps.Keys(set))
}
