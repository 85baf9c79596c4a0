package store

import (
	"maps"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"
	"unicode"

	"github.com/sidecert/sidecert/internal/cert"
)

func TestConfIsReadAsCertbotReadsIt(t *testing.T) {
	c, err := parseConf([]byte(`# renew_before_expiry = 30 days
renew_before_expiry = 3 weeks 2 days
[ renewalparams ]   # what certbot does
server = https://acme-v01.api.letsencrypt.org/directory
account=0123abc
authenticator = 'webroot' # not nginx
"key_type" = rsa
rsa_key_size = "3072"
reuse_key = True
autorenew = 0
preferred_chain = "ISRG Root X1, the old", other
pre_hook = None
renew_hook = """sh -c 'echo "# done, twice"'""" # both quotes
post_hook = "a,b # c"
must_staple = x#y
required_profile = tlsserver
webroot_path = /a, "/b, c",
  [[webroot_map]]
  Example.org = '/srv/#1'
  www.example.org =/b
[other]
long = '''one
two''' # three
`))
	if err != nil {
		t.Fatal(err)
	}
	got := c.settings(cert.Lineage{})
	want := cert.Conf{Certbot: true, Server: cert.LetsEncrypt, Account: "0123abc", Profile: "tlsserver", KeyType: cert.RSA3072, ReuseKey: true,
		PreferredChain: "ISRG Root X1, the old", RenewBefore: 23 * 24 * time.Hour, Authenticator: "webroot", Webroot: "/b, c",
		Webroots: map[string]string{"example.org": "/srv/#1", "www.example.org": "/b"}, Paused: true,
		Hooks: cert.Hooks{Deploy: `sh -c 'echo "# done, twice"'`, Post: "a,b # c"}}
	roots := maps.Equal(got.Webroots, want.Webroots)
	got.Webroots, want.Webroots = nil, nil
	if !roots || got.Hooks != want.Hooks || !sameConf(got, want) {
		t.Errorf("settings are\n%+v\nwant\n%+v\n(the same webroots: %v)", got, want, roots)
	}
	if got := c.get("other", "long"); got != "one\ntwo" {
		t.Errorf("the value of two lines is %q", got)
	}
	if got := c.get(renewalParams, "must_staple"); got != "x" {
		t.Errorf("a value with an unquoted # is %q, want what stands before it", got)
	}
}

func sameConf(a, b cert.Conf) bool {
	a.Webroots, b.Webroots = nil, nil
	return a.Certbot == b.Certbot && a.Server == b.Server && a.Account == b.Account && a.Profile == b.Profile && a.KeyType == b.KeyType &&
		a.ReuseKey == b.ReuseKey && a.PreferredChain == b.PreferredChain && a.RenewBefore == b.RenewBefore &&
		a.Authenticator == b.Authenticator && a.Webroot == b.Webroot && a.Paused == b.Paused
}

func TestKeyTypeOfAConfFollowsTheLiveKeyWhereItDoesNotSay(t *testing.T) {
	live := map[string]cert.Lineage{"none": {}}
	for _, kind := range []cert.KeyType{cert.EC384, cert.RSA3072} {
		key, err := cert.NewKey(kind)
		if err != nil {
			t.Fatal(err)
		}
		live[string(kind)] = cert.Lineage{Key: key}
	}
	for _, row := range []struct {
		params, live string
		want         cert.KeyType
	}{
		{"key_type = rsa", "none", cert.RSA2048},
		{"key_type = rsa", "ec-384", cert.RSA2048},
		{"key_type = rsa", "rsa-3072", cert.RSA3072},
		{"key_type = rsa\nrsa_key_size = 4096", "rsa-3072", cert.RSA4096},
		{"key_type = rsa\nrsa_key_size = 1024", "rsa-3072", ""},
		{"key_type = ecdsa", "none", cert.EC256},
		{"key_type = ecdsa", "rsa-3072", cert.EC256},
		{"key_type = ecdsa", "ec-384", cert.EC384},
		{"key_type = ecdsa\nelliptic_curve = SECP384R1", "none", cert.EC384},
		{"key_type = ecdsa\nelliptic_curve = secp521r1", "none", ""},
		{"rsa_key_size = 4096", "rsa-3072", ""},
		{"key_type = dsa", "none", ""},
	} {
		c, err := parseConf([]byte("[renewalparams]\n" + row.params))
		if err != nil {
			t.Fatal(err)
		}
		if got := c.settings(live[row.live]).KeyType; got != row.want {
			t.Errorf("%q with a live key %s: KeyType = %q, want %q", row.params, row.live, got, row.want)
		}
	}
}

func TestRenewBeforeExpiryIsInCertbotsWords(t *testing.T) {
	const day = 24 * time.Hour
	for text, want := range map[string]time.Duration{"30 days": 30 * day, "12 hours": 12 * time.Hour, "1 week": 7 * day, "3 weeks 2 days": 23 * day, "45": 45 * day,
		"90 minutes": 90 * time.Minute, "10d": 10 * day, "1 day, 6 hours": 30 * time.Hour, "soon": 0, "": 0, "30 moons": 0, "-3 days": 0, "999999999 years": 0} {
		if got := interval(text); got != want {
			t.Errorf("%q is %v, want %v", text, got, want)
		}
	}
}

func TestChangedLineOfAConfKeepsItsCommentAndOthersTheirBytes(t *testing.T) {
	before := "\ufeff# top\r\nversion = 1.2\r\n[renewalparams]\r\n  server\t= 'https://old/' # the old one\r\n\r\n# mine\r\nunknown = \"a, b\" , c\r\nempty = #none\r\n\r\n# for the map\r\n[[webroot_map]]\r\na = /x\r\n# end\r\n"
	c, err := parseConf([]byte(before))
	if err != nil {
		t.Fatal(err)
	}
	c.set(renewalParams, "server", "https://new/#x, y")
	c.set(renewalParams, "empty", "full")
	c.set(renewalParams, "added", "1")
	c.setList(renewalParams, "unknown", "d")
	c.set(webrootMap, "b", `/it's`)
	c.drop(webrootMap, "a")
	want := "\ufeff# top\r\nversion = 1.2\r\n[renewalparams]\r\n  server\t= \"https://new/#x, y\" # the old one\r\n\r\n# mine\r\nunknown = d,\r\nempty = full #none\r\nadded = 1\r\n\r\n# for the map\r\n[[webroot_map]]\r\nb = /it's\r\n# end\r\n"
	if got := c.String(); got != want {
		t.Errorf("conf is\n%q\nwant\n%q", got, want)
	}
}

func TestConfThatIsNoConfIsRefused(t *testing.T) {
	for name, text := range map[string]string{"empty": "", "NUL": "[renewalparams]\na = \x00\n", "no UTF-8": "[renewalparams]\na = \xff\n", "no section": "version = 1\n",
		"cut off": "[renewalparams]\nserver = https://ca\nauthen\n", "open quotes": "[renewalparams]\na = 'b\n", "open triple": "[renewalparams]\na = '''b\n", "too deep": "[[renewalparams]]\n"} {
		if _, err := parseConf([]byte(text)); err == nil {
			t.Errorf("%s: %q was taken for a conf", name, text)
		}
	}
}

func TestConfThatCannotBeReadIsSetAsideAndBuiltAnew(t *testing.T) {
	for name, harm := range map[string]func(file string) error{
		"cut off": func(file string) error { return os.WriteFile(file, []byte("version = 2.1.0\n[renewalpar"), 0o644) },
		"empty":   func(file string) error { return os.WriteFile(file, nil, 0o644) },
		"large":   func(file string) error { return os.WriteFile(file, []byte(strings.Repeat("# x\n", MaxFile)), 0o644) },
		"folder":  func(file string) error { return os.Mkdir(file, 0o755) },
		"link":    func(file string) error { return os.Symlink("/etc/passwd", file) },
	} {
		t.Run(name, func(t *testing.T) {
			dir := t.TempDir()
			s := open(t, dir, t.TempDir())
			save(t, s, bundle())
			conf := filepath.Join(dir, "renewal/example.org.conf")
			if err := os.Remove(conf); err != nil {
				t.Fatal(err)
			}
			if err := harm(conf); err != nil {
				t.Fatal(err)
			}
			if _, err := s.Lineage("example.org"); err == nil || !strings.Contains(hintOf(err), "renewal/example.org.conf") {
				t.Errorf("Lineage() = %v, want an error that names the file", err)
			}
			did, err := s.Mend(t.Context(), "example.org")
			if err != nil || !strings.Contains(did, "renewal/example.org.conf") {
				t.Fatalf("Mend() = %q, %v; want it to say what became of the conf", did, err)
			}
			l, err := s.Lineage("example.org")
			if err != nil || !l.Conf.Certbot || l.Conf.Server != "" || l.Conf.Authenticator != "webroot" {
				t.Errorf("after Mend the conf is %+v, %v; want one of certbot's without server", l.Conf, err)
			}
			if aside, _ := filepath.Glob(conf + ".broken-*"); len(aside) != 1 {
				t.Errorf("set aside are %v, want one", aside)
			}
			if did, err := s.Mend(t.Context(), "example.org"); did != "" || err != nil {
				t.Errorf("a second Mend() = %q, %v; want nothing to do", did, err)
			}
		})
	}
}

func TestConfWithoutFilesIsReportedWithWhatToDo(t *testing.T) {
	dir := t.TempDir()
	s := open(t, dir, t.TempDir())
	save(t, s, bundle())
	write(t, filepath.Join(dir, "renewal/gone.example.conf"), "[renewalparams]\nauthenticator = webroot\n")
	lineages, errs := s.Lineages()
	if len(lineages) != 1 || lineages[0].Name != "example.org" {
		t.Errorf("Lineages() has %d, want example.org alone", len(lineages))
	}
	if err := errs["gone.example"]; len(errs) != 1 || err == nil || !strings.Contains(hintOf(err), "sidecert delete gone.example") {
		t.Errorf("errors are %v, want one that says how to forget gone.example", errs)
	}
}

func TestConfFollowsTheSpecAndOursForgetsWhatIsNotAskedAnyMore(t *testing.T) {
	dir := t.TempDir()
	s := open(t, dir, t.TempDir())
	asked := spec
	asked.ReuseKey, asked.PreferredChain, asked.Profile = true, "Root, X1", "tlsserver"
	asked.Webroots = map[string]string{"www.example.org": "/srv/it's \"here\""}
	if _, err := s.Save(t.Context(), "example.org", asked, bundle()); err != nil {
		t.Fatal(err)
	}
	l, err := s.Lineage("example.org")
	c := l.Conf
	if err != nil || c.Certbot || !c.ReuseKey || c.PreferredChain != "Root, X1" || c.Profile != "tlsserver" || c.Webroots["www.example.org"] != asked.Webroots["www.example.org"] {
		t.Errorf("conf reads back as %+v, %v", c, err)
	}
	if _, err := s.Save(t.Context(), "example.org", cert.Spec{Name: "example.org", Names: names[:1], Webroot: "/w", CA: spec.CA}, ca.Issue(time.Now(), life, names[0])); err != nil {
		t.Fatal(err)
	}
	l, err = s.Lineage("example.org")
	c = l.Conf
	if err != nil || c.ReuseKey || c.PreferredChain != "" || c.Profile != "" || len(c.Webroots) != 1 || c.Webroot != "/w" {
		t.Errorf("after it is asked for no more the conf reads %+v, %v", c, err)
	}
}

func TestPreferredProfileIsAWishAndARequiredOneBinds(t *testing.T) {
	for _, row := range []struct {
		params, profile string
		wish            bool
	}{
		{"", "", false},
		{"preferred_profile = None\nrequired_profile = None", "", false},
		{"preferred_profile = shortlived", "shortlived", true},
		{"required_profile = shortlived", "shortlived", false},
		{"preferred_profile = classic\nrequired_profile = shortlived", "shortlived", false},
	} {
		c, err := parseConf([]byte("[renewalparams]\n" + row.params))
		if err != nil {
			t.Fatal(err)
		}
		if got := c.settings(cert.Lineage{}); got.Profile != row.profile || got.ProfileWish != row.wish {
			t.Errorf("%q: profile %q, a wish %v; want %q, %v", row.params, got.Profile, got.ProfileWish, row.profile, row.wish)
		}
	}
}

func TestProfileThatCertbotPrefersStaysInItsLine(t *testing.T) {
	for _, line := range []string{"preferred_profile = 'shortlived'  # if they have it", "preferred_profile = a, b"} {
		dir := t.TempDir()
		s := open(t, dir, t.TempDir())
		write(t, filepath.Join(dir, "renewal/example.org.conf"), "[renewalparams]\n"+line+"\nserver = https://ca.example/dir\n")
		save(t, s, bundle())
		l, err := s.Lineage("example.org")
		if err != nil {
			t.Fatal(err)
		}
		settled := spec.Settle(l)
		if _, err := s.Save(t.Context(), "example.org", settled, bundle()); err != nil {
			t.Fatal(err)
		}
		data, _ := os.ReadFile(filepath.Join(dir, "renewal/example.org.conf"))
		if !settled.ProfileOptional || !strings.Contains(string(data), "\n"+line+"\n") || strings.Contains(string(data), "required_profile") {
			t.Errorf("%q: optional %v; the conf is now\n%s", line, settled.ProfileOptional, data)
		}
	}
}

// FuzzConf: reading never panics; what was set is read back, by the parsed and by the written conf, and no other line has changed.
// What is salvaged of one that cannot be read can be read.
func FuzzConf(f *testing.F) {
	f.Add("version = 1\n[renewalparams]\na = b # c\n[[webroot_map]]\nx = /y\n", "server", "https://ca/#1, 2")
	f.Add("[renewalparams]\nserver = '''x\ny''' # z\n", "server", `it's "so"`)
	f.Add("[renewalparams]\nserver = a, 'b',\nserver = c\n", "server", "")
	f.Add("[renewalparams]\na = 'b\n[[x]]\n[c]\n[renewalparams]\n[[x]]\n[[[y]]]\n", "server", "")
	f.Fuzz(func(t *testing.T, text, key, value string) {
		c, err := parseConf([]byte(text))
		if err != nil {
			if c, lost, first, err := salvageConf([]byte(text)); err == nil {
				if _, err := parseConf([]byte(c.String())); err != nil || lost == 0 || first < 1 {
					t.Fatalf("of %q is salvaged %q, %d lines lost, the first %d: %v", text, c.String(), lost, first, err)
				}
			}
			return
		}
		c.settings(cert.Lineage{})
		if c.String() != text && c.String() != text+"\n" {
			t.Fatalf("unchanged conf is written as %q, was %q", c.String(), text)
		}
		if !idForm.MatchString(key) {
			return
		}
		if _, ok := quote(value); !ok || strings.IndexFunc(value, unicode.IsControl) >= 0 {
			return
		}
		others := func(c *conf) (lines []string) {
			skip := map[int]bool{}
			for _, e := range c.find(renewalParams, key) {
				for i := e.first; i <= e.last; i++ {
					skip[i] = true
				}
			}
			for i, line := range c.lines {
				if !skip[i] {
					lines = append(lines, line)
				}
			}
			return lines
		}
		before := others(c)
		c.set(renewalParams, key, value)
		again, err := parseConf([]byte(c.String()))
		if err != nil {
			t.Fatalf("after set(%q, %q): %v\n%q", key, value, err, c.String())
		}
		for _, c := range []*conf{c, again} {
			if got := c.list(renewalParams, key); !slices.Equal(got, []string{value}) {
				t.Fatalf("set(%q, %q) reads back as %q\n%q", key, value, got, c.String())
			}
			if after := others(c); !slices.Equal(before, after) {
				t.Fatalf("set(%q, %q) changed other lines: %q, were %q", key, value, after, before)
			}
		}
	})
}
