package config

import (
	"errors"
	"fmt"
	"strings"
	"testing"
	"unicode/utf8"
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
