package config

import (
	"errors"
	"fmt"
	"net/netip"
	"reflect"
	"slices"
	"strings"
	"testing"
	"unicode/utf8"

	"golang.org/x/net/idna"
)

// FuzzParse gives Parse any environment, one variable a line, with NUL between lines so that values may have several.
func FuzzParse(f *testing.F) {
	for _, seed := range [][]string{
		{},
		{"DOMAINS=shop=a.example,b.example;c.example\nd.example", "RELOAD=web:HUP,label=a=b;x/y:exec=a 'b c'", "VERIFY=shop=web:443 [::1]:443"},
		{"CERT_0_DOMAINS=A.example.,", "CERT_0_WEBROOT=/a,a.example=/b", "CERT_2_NAME=x", "CERT_00_X=", "CERT_99999999999999999999_DOMAINS=x"},
		{"DOMAINS=https://[::1]:443/,*.a,[[[,bücher.example,xn--a,1.2.3.4,a b", "ACME_CA=https://:x@y/%zz", "EMAIL=mailto:<a@b>"},
		{byteOrderMark + "DOMAINS=\"a.example\"\r\n", "RENEW_BEFORE=0d", "FILES_PERMS=7777", "DOMIANS=x", "ACME_EAB_KID_FILE=/run/secrets/kid"},
		{"PRE_HOOK=sh -c 'a | b'", "DEPLOY_HOOK=a \"$B\" `c` && d", "POST_HOOK=''", "ADOPT=off", "VERIFY=old=web:443", "CERT_DIR=/adopt"},
		{"=", "", "=x", "DOMAINS", "DOMAINS=\xff", "STATE_DIR=/", "DOCKER_HOST=://"},
	} {
		f.Add(strings.Join(seed, "\x00"))
	}
	f.Fuzz(func(t *testing.T, text string) {
		world := testWorld()
		world.Adoptable = func(certDir string) bool { return certDir == "/adopt" }
		c, notices, err := Parse(strings.Split(text, "\x00"), world)
		for _, spec := range c.Specs {
			if len(spec.Names) == 0 || len(spec.Names) > maxNames || !lineageName.MatchString(spec.Name) || len(spec.Name) > maxLineage {
				t.Errorf("a certificate is called %q and has the names %q", spec.Name, spec.Names)
			}
			for _, name := range spec.Names {
				if again, err := canonical(name); err != nil || again != name {
					t.Errorf("canonical(%q) = %q, %v, want it to stay as it is", name, again, err)
				}
			}
		}
		if again, noticedAgain, errAgain := Parse(strings.Split(text, "\x00"), world); !reflect.DeepEqual(again, c) || !reflect.DeepEqual(noticedAgain, notices) || !reflect.DeepEqual(errAgain, err) {
			t.Errorf("Parse() of the same is now %+v, %v, %v, and was %+v, %v, %v", again, noticedAgain, errAgain, c, notices, err)
		}
		for _, line := range said(notices, err) {
			if len(line) > 4*1024 || !utf8.ValidString(line) || strings.ContainsAny(line, "\n\x00\x1b") {
				t.Errorf("a line that nobody can read: %q", line)
			}
		}
	})
}

func said(notices []Notice, err error) []string {
	var lines []string
	for _, n := range notices {
		lines = append(lines, fmt.Sprint(n.Variable, n.Text))
	}
	mistakes, _ := errors.AsType[Mistakes](err)
	for _, m := range mistakes {
		lines = append(lines, m.String())
	}
	return lines
}

// FuzzMistakes: a mistake is told whatever else is wrong.
func FuzzMistakes(f *testing.F) {
	for _, seed := range []string{"", "DOMAINS=*.a", "KEY_TYPE=x\x00LOG_LEVEL=y\x00DOMIANS=z", "CERT_3_DOMAINS=a\x00CERT_5_NAME=.", "STATE_DIR=/a\x00CERT_DIR=/a\x00WEBROOT=/a", "ACME_CA=x\x00STAGING=z"} {
		f.Add(seed)
	}
	f.Fuzz(func(t *testing.T, text string) {
		environ := append([]string{"EXPIRY_CRITICAL=soon", "LOG_FORMAT=xml", "FILES_GID=web"}, strings.Split(text, "\x00")...)
		_, _, err := Parse(environ, testWorld())
		mistakes, _ := errors.AsType[Mistakes](err)
		if len(mistakes) > maxMistakes {
			return // so many are not told
		}
		for _, variable := range []string{"EXPIRY_CRITICAL", "LOG_FORMAT", "FILES_GID"} {
			if !slices.ContainsFunc(mistakes, func(m Mistake) bool { return m.Variable == variable }) {
				t.Errorf("the mistake in %s is not told: %v", variable, err)
			}
		}
	})
}

// FuzzSecrets: what stands in a secret variable, well or badly spelled, is in nothing that is said of it.
func FuzzSecrets(f *testing.F) {
	const canary = "canary42"
	names := []string{
		"ACME_EAB_KID", "ACME_EAB_HMAC_KEY", "ACME_EAB_KID_FILE", "ACME_EAB_HMAC_KEY_FILE", "NOTIFY_URLS", "NOTIFY_URLS_FILE", "HEARTBEAT_URL", "HEARTBEAT_URL_FILE",
		"CERT_0_ACME_EAB_KID", "CERT_0_ACME_EAB_HMAC_KEY", "CERT_4_ACME_EAB_HMAC_KEY", "CERT_99999_ACME_EAB_HMAC_KEY", "CERT_0_ACME_EAB_HMAC_KEY_FILE",
		"PRE_HOOK", "DEPLOY_HOOK", "POST_HOOK", "acme_eab_hmac_key", byteOrderMark + "ACME_EAB_HMAC_KEY", "ACME_EAB_HMAC_KEYS", "NOTIFY_URL", "HEARTBEET_URL", "PREHOOK",
	}
	for which := range names {
		for _, around := range [][2]string{{"", ""}, {`"`, `"`}, {"'", ""}, {"https://me:", "@x/%zz"}, {"\x00", "\xff"}, {" ", "\r\n"}, {"sh -c '", " | x'"}} {
			f.Add(uint(which), around[0], around[1])
		}
	}
	f.Fuzz(func(t *testing.T, which uint, before, after string) {
		name := names[which%uint(len(names))]
		world := testWorld()
		world.ReadFile = func(string) ([]byte, error) { return []byte(before + canary + after), nil }
		for _, environ := range [][]string{
			{"CERT_0_DOMAINS=a.example", "ACME_CA=zerossl", name + "=" + before + canary + after},
			{"CERT_0_DOMAINS=a.example", "ACME_EAB_KID_FILE=/run/kid", "ACME_EAB_HMAC_KEY_FILE=/run/key", "CERT_0_ACME_CA=zerossl"},
		} {
			_, notices, err := Parse(environ, world)
			if text := fmt.Sprintf("%+v %+v", notices, err); strings.Contains(text, canary[:6]) {
				t.Errorf("%q is shown: %s", environ, text)
			}
		}
	})
}

// FuzzDomains: the names that are accepted are those that DNS and a CA know, each once, and written again they are the same.
func FuzzDomains(f *testing.F) {
	for _, seed := range []string{
		"a.example,b.example", "B\u00fccher.example;xn--bcher-kva.example", "x=a.example\ny=A.EXAMPLE.", "\u2024.example", "\u00df.example,ss.example,xn--zca.example",
		"xn--.example", "xn--a.example", "ab--cd.example", "1.2.3.4", "::ffff:1.2.3.4", "\u0130.example", "a\u200d.example", "\u5dee.example", "a\uff0eexample",
		strings.Repeat("a", 63) + "." + strings.Repeat("b.", 95) + "example", "0x7f.1", "a.example,,a.example", "\u1e9e.example",
	} {
		f.Add(seed)
	}
	const ca = "ACME_CA=https://ca.lan/directory"
	f.Fuzz(func(t *testing.T, text string) {
		c, _, _ := Parse([]string{"DOMAINS=" + text, ca}, testWorld())
		for _, spec := range c.Specs {
			for i, name := range spec.Names {
				if slices.Contains(spec.Names[:i], name) {
					t.Errorf("%q has %s twice", text, name)
				}
				if problem := known(name); problem != "" {
					t.Errorf("%q gives the name %q, which %s", text, name, problem)
				}
			}
			again, _, err := Parse([]string{"DOMAINS=" + spec.Name + "=" + strings.Join(spec.Names, ","), ca}, testWorld())
			if err != nil || len(again.Specs) != 1 || !slices.Equal(again.Specs[0].Names, spec.Names) || again.Specs[0].Name != spec.Name {
				t.Errorf("%q gives %q with %q, and that gives %+v, %v", text, spec.Name, spec.Names, again.Specs, err)
			}
		}
	})
}

// known says what is wrong with a name as DNS has it, "" if nothing is.
func known(name string) string {
	if addr, err := netip.ParseAddr(name); err == nil {
		if addr.String() != name {
			return "is not written as short as it goes"
		}
		return ""
	}
	if len(name) > maxDomain || !ascii(name) {
		return "is no name of DNS"
	}
	if !strings.Contains(name, "xn--") {
		return ""
	}
	shown, err := idna.Lookup.ToUnicode(name)
	if err != nil {
		return err.Error()
	}
	if back, err := idna.Lookup.ToASCII(shown); err != nil || back != name {
		return fmt.Sprintf("is shown as %q, and that is %q (%v)", shown, back, err)
	}
	return ""
}
