package store

import (
	"bytes"
	"crypto/ecdsa"
	"crypto/rsa"
	"errors"
	"fmt"
	"io/fs"
	"path"
	"regexp"
	"slices"
	"strconv"
	"strings"
	"time"

	"github.com/sidecert/sidecert/internal/cert"
)

// mark is the comment by which a renewal configuration is known as ours. It stands below the first setting, because certbot
// replaces the comment above that with one of its own.
const mark = cert.ConfMark + ". Its settings are in the environment; what stands here lets certbot take over."

func confName(lineage string) string { return path.Join("renewal", lineage+".conf") }

// readConf returns nil where there is no file; errBadConf where there is one that certbot could not read either.
func (s *Store) readConf(lineage string) (*conf, error) {
	name := confName(lineage)
	data, err := s.certs.ReadFile(name)
	if err == nil {
		return s.parsed.conf(data)
	}
	info, errLook := s.certs.Lstat(name)
	switch {
	case errors.Is(errLook, fs.ErrNotExist):
		return nil, nil
	case errors.Is(err, ErrUnfit), errLook == nil && info.Mode()&fs.ModeSymlink != 0:
		return nil, fmt.Errorf("%w: %w", errBadConf, err)
	}
	return nil, fmt.Errorf("read renewal configuration: %w", err)
}

func (c *conf) ours() bool {
	return slices.ContainsFunc(c.lines, func(line string) bool { return strings.HasPrefix(strings.TrimSpace(line), cert.ConfMark) })
}

// settings are what a conf says, of a lineage whose other parts have been read.
func (c *conf) settings(l cert.Lineage) cert.Conf {
	get := func(key string) string { return c.get(renewalParams, key) }
	out := cert.Conf{
		Certbot:       !c.ours(),
		Server:        serverOf(get("server")),
		Account:       accountID(get("account")),
		Profile:       get(c.profileKey()),
		ProfileWish:   get(c.profileKey()) != "" && c.profileKey() == preferredProfile,
		KeyType:       c.keyType(l),
		ReuseKey:      isTrue(get("reuse_key")),
		RenewBefore:   interval(c.get(topSection, "renew_before_expiry")),
		Authenticator: get("authenticator"),
		Paused:        isFalse(get("autorenew")),
		Hooks:         cert.Hooks{Pre: get("pre_hook"), Deploy: get("renew_hook"), Post: get("post_hook")},
	}
	if out.Hooks.Deploy == "" {
		out.Hooks.Deploy = get("deploy_hook")
	}
	if chains := c.list(renewalParams, "preferred_chain"); len(chains) > 0 && chains[0] != "None" {
		out.PreferredChain = chains[0]
	}
	out.Webroot = c.webroot()
	for _, e := range c.in(webrootMap) {
		if root := plain(e.values); root != "" {
			if out.Webroots == nil {
				out.Webroots = map[string]string{}
			}
			out.Webroots[strings.ToLower(e.key)] = root
		}
	}
	return out
}

// webroot is the last of the list: certbot takes that for the names that its map does not have.
func (c *conf) webroot() string {
	roots := c.list(renewalParams, "webroot_path")
	if len(roots) == 0 || roots[len(roots)-1] == "None" {
		return ""
	}
	return roots[len(roots)-1]
}

// preferredProfile is the setting that certbot does without where the CA does not offer the profile, unlike requiredProfile.
const preferredProfile, requiredProfile = "preferred_profile", "required_profile"

// profileKey is the setting that asks for a profile.
func (c *conf) profileKey() string {
	if c.get(renewalParams, requiredProfile) != "" {
		return requiredProfile
	}
	return preferredProfile
}

func isTrue(value string) bool {
	return slices.Contains([]string{"true", "1", "yes", "on"}, strings.ToLower(value))
}

func isFalse(value string) bool {
	return slices.Contains([]string{"false", "0", "no", "off"}, strings.ToLower(value))
}

// The directories of ACME's first version, which is no more, and what certbot asks in their place.
var successors = map[string]string{
	"https://acme-v01.api.letsencrypt.org/directory":     cert.LetsEncrypt,
	"https://acme-staging.api.letsencrypt.org/directory": cert.LetsEncryptStaging,
}

func serverOf(url string) string {
	if successor, ok := successors[url]; ok {
		return successor
	}
	return url
}

var idForm = regexp.MustCompile(`^[A-Za-z0-9_-]{1,128}$`)

// accountID lets nothing through that is no name of a folder.
func accountID(id string) string {
	if !idForm.MatchString(id) {
		return ""
	}
	return id
}

// keyType is the one that certbot would make, where we can and where it does not depend on certbot's version: "" otherwise.
func (c *conf) keyType(l cert.Lineage) cert.KeyType {
	var live any
	if l.Key != nil {
		live = l.Key.Public()
	}
	curve, size := strings.ToLower(c.get(renewalParams, "elliptic_curve")), c.get(renewalParams, "rsa_key_size")
	_, isRSA := live.(*rsa.PublicKey)
	_, isEC := live.(*ecdsa.PublicKey)
	switch kind := strings.ToLower(c.get(renewalParams, "key_type")); {
	case kind == "rsa" && size == "" && isRSA, kind == "ecdsa" && curve == "" && isEC:
		return cert.KeyTypeOf(live)
	case kind == "rsa" && size == "":
		return cert.RSA2048
	case kind == "ecdsa" && (curve == "" || curve == "secp256r1"):
		return cert.EC256
	case kind == "ecdsa" && curve == "secp384r1":
		return cert.EC384
	case kind == "rsa" && slices.Contains(cert.KeyTypes, cert.KeyType("rsa-"+size)):
		return cert.KeyType("rsa-" + size)
	}
	return ""
}

var (
	intervalForm  = regexp.MustCompile(`^(\s*[0-9]{1,9}\s*[a-z]+(\s|,|and)*)+$`)
	intervalParts = regexp.MustCompile(`([0-9]+)\s*([a-z]+)`)
)

// interval reads certbot's "30 days", "3 weeks 2 days" or "30", which is days; 0 for what it cannot read, and what is over 10 years.
func interval(text string) time.Duration {
	const day = 24 * time.Hour
	text = strings.ToLower(strings.TrimSpace(text))
	if days, err := strconv.Atoi(text); err == nil && days > 0 && days < 3650 {
		return time.Duration(days) * day
	}
	if len(text) > 100 || !intervalForm.MatchString(text) {
		return 0
	}
	units := map[string]time.Duration{"second": time.Second, "sec": time.Second, "s": time.Second, "minute": time.Minute, "min": time.Minute, "m": time.Minute,
		"hour": time.Hour, "hr": time.Hour, "h": time.Hour, "day": day, "d": day, "week": 7 * day, "wk": 7 * day, "w": 7 * day, "month": 30 * day, "year": 365 * day}
	var sum time.Duration
	for _, part := range intervalParts.FindAllStringSubmatch(text, -1) {
		unit, ok := units[part[2]]
		if !ok {
			unit, ok = units[strings.TrimSuffix(part[2], "s")]
		}
		n, err := strconv.Atoi(part[1])
		if !ok || err != nil || time.Duration(n) > 3650*day/unit {
			return 0
		}
		sum += time.Duration(n) * unit
	}
	return min(sum, 3650*day)
}

// newConf is what a lineage has from its first certificate on.
func (s *Store) newConf(lineage string) *conf {
	c := &conf{lines: []string{"version = 2.0.0", mark}} // the oldest certbot that reads all that stands here
	c.lines = append(c.lines, "archive_dir = "+quoted(path.Join(s.CertDir, "archive", lineage)))
	s.setPaths(c, lineage)
	c.set(renewalParams, "authenticator", "webroot")
	return c
}

func quoted(value string) string {
	text, _ := quote(value) // CERT_DIR was opened, and config lets no control characters through
	return text
}

// setPaths leaves lines alone whose last components are right: the volume may be mounted elsewhere for certbot than it is for us.
func (s *Store) setPaths(c *conf, lineage string) {
	places := map[string]string{"archive_dir": path.Join("archive", lineage)}
	for _, file := range cert.Files {
		places[file] = path.Join("live", lineage, file+".pem")
	}
	keys := []string{"archive_dir", cert.CertPEM, cert.PrivkeyPEM, cert.ChainPEM, cert.FullchainPEM}
	dir := s.CertDir
	for _, key := range slices.Backward(keys) {
		if prefix, ok := strings.CutSuffix(c.get(topSection, key), "/"+places[key]); ok && path.IsAbs(prefix+"/") {
			dir = prefix
		}
	}
	for _, key := range keys {
		value := c.get(topSection, key)
		if !strings.HasSuffix(value, "/"+places[key]) || !path.IsAbs(value) {
			c.set(topSection, key, path.Join(dir+"/", places[key]))
		}
	}
}

// writeConf brings renewal/NAME.conf up to date for what was just ordered, with the settings that certbot would need to renew it.
// What says so already, and what we do not know, stays as it is.
func (s *Store) writeConf(lineage string, spec cert.Spec, b cert.Bundle) error {
	c, err := s.readConf(lineage)
	if err != nil && !errors.Is(err, errBadConf) {
		return err
	}
	if err != nil {
		if _, err := s.mendConf(lineage, b); err != nil {
			return err
		}
		if c, err = s.readConf(lineage); err != nil {
			return err
		}
	}
	if c == nil {
		c = s.newConf(lineage)
	}
	if c.get(topSection, "version") == "" {
		c.set(topSection, "version", "2.0.0")
	}
	s.setPaths(c, lineage)
	s.setServer(c, spec.CA)
	c.setKeyParams(b)
	c.setWishes(spec)
	// How certbot proved the names stays as a person has set it, with the hooks that go with that: back in its own container it works
	// as before.
	if a := c.get(renewalParams, "authenticator"); a == "" || c.ours() || a == "webroot" && !spec.StandIn {
		c.set(renewalParams, "authenticator", "webroot")
		c.setWebroots(spec)
	}
	return s.putConf(lineage, c)
}

// putConf writes a conf unless it stands there already, with the mode of the one that it replaces.
func (s *Store) putConf(lineage string, c *conf) error {
	name := confName(lineage)
	if old, err := s.certs.ReadFile(name); err == nil && string(old) == c.String() {
		return nil
	}
	if err := mkdirAll(s.certs, "renewal", 0o755, unowned); err != nil {
		return err
	}
	perm := fs.FileMode(publicPerm)
	if info, err := s.certs.Lstat(name); err == nil && info.Mode().IsRegular() {
		perm = info.Mode().Perm()
	}
	return replace(s.certs, name, []byte(c.String()), perm)
}

// setServer also puts the account right: one of another server, or one that has gone, keeps certbot from renewing.
func (s *Store) setServer(c *conf, ca cert.CA) {
	moved := serverOf(c.get(renewalParams, "server")) != ca.Directory
	if moved {
		c.set(renewalParams, "server", ca.Directory)
	}
	id := c.get(renewalParams, "account")
	if id == "" {
		return
	}
	used, err := s.certbotAccount(ca)
	switch {
	case err == nil && (moved || !s.hasCertbotAccount(ca.Directory, id)):
		c.set(renewalParams, "account", used.ID)
	case moved:
		c.drop(renewalParams, "account")
	}
}

// setKeyParams changes what would have certbot make another kind of key than the one that was just certified.
func (c *conf) setKeyParams(b cert.Bundle) {
	kind, key, value, usual := "", "", "", ""
	switch k := b.Key.Public().(type) {
	case *ecdsa.PublicKey:
		kind, key, usual = "ecdsa", "elliptic_curve", "secp256r1"
		value = fmt.Sprintf("secp%dr1", k.Params().BitSize)
	case *rsa.PublicKey:
		kind, key, usual = "rsa", "rsa_key_size", "2048"
		value = strconv.Itoa(k.N.BitLen())
	default: // certbot knows no others
		return
	}
	if !strings.EqualFold(c.get(renewalParams, "key_type"), kind) {
		c.set(renewalParams, "key_type", kind)
	}
	if said := c.get(renewalParams, key); !strings.EqualFold(said, value) && (said != "" || value != usual) {
		c.set(renewalParams, key, value)
	}
}

// setWishes records what the spec says. In a conf of certbot's an empty wish is none, in one of ours it is what holds again.
func (c *conf) setWishes(spec cert.Spec) {
	if isTrue(c.get(renewalParams, "reuse_key")) != spec.ReuseKey {
		c.set(renewalParams, "reuse_key", map[bool]string{true: "True", false: "False"}[spec.ReuseKey])
	}
	for _, wish := range []struct{ key, value string }{{c.profileKey(), spec.Profile}, {"preferred_chain", spec.PreferredChain}} {
		said := c.list(renewalParams, wish.key)
		switch {
		case wish.key == preferredProfile && spec.ProfileOptional: // it was read there
		case wish.value == "" && c.ours():
			c.drop(renewalParams, wish.key)
		case wish.value != "" && (len(said) == 0 || said[0] != wish.value):
			c.set(renewalParams, wish.key, wish.value)
		}
	}
}

// setWebroots lets certbot renew exactly the names that the certificate has.
func (c *conf) setWebroots(spec cert.Spec) {
	if spec.Webroot != "" && c.webroot() != spec.Webroot {
		c.setList(renewalParams, "webroot_path", spec.Webroot)
	}
	for _, e := range c.in(webrootMap) {
		if !slices.Contains(spec.Names, strings.ToLower(e.key)) {
			c.drop(webrootMap, e.key)
		}
	}
	for _, name := range spec.Names {
		if root := spec.WebrootOf(name); root != "" {
			c.set(webrootMap, name, root)
		}
	}
}

// mendConf moves a conf aside that cannot be read (certbot looks at *.conf only) and, for a lineage that has a certificate, builds
// one in its place of the lines that can be read. Where none can, what a person had set is then for the environment to say.
func (s *Store) mendConf(lineage string, b cert.Bundle) (did string, err error) {
	name := confName(lineage)
	old, _ := s.certs.ReadFile(name) // it may be no file at all
	aside := s.unused(name + ".broken-" + s.stamp())
	// A second name, so that there is a conf at every instant: a lineage without one is nobody's to renew.
	if b.Chain == nil || s.certs.Link(name, aside) != nil {
		if err := s.certs.Rename(name, aside); err != nil {
			return "", err
		}
	}
	if err := s.certs.SyncDir("renewal"); err != nil {
		return "", err
	}
	did = fmt.Sprintf("set renewal/%s.conf, which cannot be read, aside as %s", lineage, aside)
	if b.Chain == nil {
		return did, nil
	}
	c, lost, first, err := salvageConf(old)
	if err != nil {
		c = s.newConf(lineage)
		if !bytes.Contains(old, []byte(cert.ConfMark)) {
			c.lines, c.read = slices.DeleteFunc(c.lines, func(line string) bool { return line == mark }), nil
		}
		did += ", and built a new one: its settings are lost"
	} else {
		did += fmt.Sprintf(", and left %d of its lines out (the first is line %d)", lost, first)
	}
	s.setPaths(c, lineage)
	if c.get(renewalParams, "key_type") == "" { // what a person has asked for may be still to come
		c.setKeyParams(b)
	}
	if c.get(renewalParams, "server") == "" {
		did += "; no CA stands there, so it is the environment's"
	}
	return did, s.putConf(lineage, c)
}

// stamp is for the names of what is set aside.
func (s *Store) stamp() string { return s.Now().UTC().Format("20060102T150405Z") }

// unused is a name in CERT_DIR that nothing has yet.
func (s *Store) unused(name string) string {
	for n := 2; ; n++ {
		if _, err := s.certs.Lstat(name); err != nil {
			return name
		}
		name = fmt.Sprintf("%s-%d", strings.TrimSuffix(name, fmt.Sprintf("-%d", n-1)), n)
	}
}
