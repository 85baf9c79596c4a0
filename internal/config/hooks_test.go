package config

import (
	"reflect"
	"testing"
)

func TestShellSyntaxIsFoundWhereAShellWouldActOnIt(t *testing.T) {
	for text, want := range map[string]string{
		"":                                  "",
		"/bin/tell a=b,c --all":             "",
		"a | b":                             "|",
		"a&&b":                              "&&",
		"a; b":                              ";",
		"a >/dev/null":                      ">",
		"a <b":                              "<",
		"a $(b)":                            "$",
		"a `b`":                             "`",
		"a $B ${C}":                         "$",
		"a\nb":                              "\n",
		"a $B\nb":                           "\n",
		"a `b` | c && d\ne":                 "\n",
		"a \"$B\"\nb":                       "\n",
		"a '\n' \"\n\" $B":                  "$",
		`a "$B"`:                            "$",
		"a \"`b`\"":                         "`",
		`a '$B;|' "b; c|>" \; \$B "\$B"`:    "",
		"a & 5$ $ $5":                       "",
		"sh -c 'a | b; $C'":                 "",
		`/bin/bash -c "a | b; $C"`:          "",
		`sh -c "a" | b`:                     "|",
		"finish -c \"$B\"":                  "$",
		`wget "http://x/?a=1&&b=2;c" '>' x`: "",
	} {
		words, err := splitWords(text)
		if err != nil {
			t.Fatal(err)
		}
		if got := shellSyntax(text, isShell(words)); got != want {
			t.Errorf("shellSyntax(%q) = %q, want %q", text, got, want)
		}
	}
}

func TestHooksInheritNoSecrets(t *testing.T) {
	kept := []string{"PATH=/bin", "ACME_CA=zerossl", "CERT_0_DOMAINS=a.example", "MY_NOTIFY_URLS=x", "NOTIFY_ON=failure", "", "=", "=x"}
	environ := append([]string{
		"ACME_EAB_KID=x", "ACME_EAB_HMAC_KEY=x", "ACME_EAB_KID_FILE=x", "ACME_EAB_HMAC_KEY_FILE=/x", "NOTIFY_URLS=x=y", "NOTIFY_URLS_FILE=x",
		"HEARTBEAT_URL=x", "HEARTBEAT_URL_FILE=x", "CERT_0_ACME_EAB_KID=x", "CERT_17_ACME_EAB_HMAC_KEY=x", "CERT_007_ACME_EAB_KID_FILE=x",
		byteOrderMark + "ACME_EAB_HMAC_KEY=x", "acme_eab_hmac_key=x", "ACME_EAB_KID",
		"PRE_HOOK=wget --header=x", "DEPLOY_HOOK=x", "POST_HOOK=x",
	}, kept...)
	before := append([]string(nil), environ...)
	if got := (Config{}).HookEnviron(environ); !reflect.DeepEqual(got, kept) {
		t.Errorf("HookEnviron() = %q, want %q", got, kept)
	}
	if !reflect.DeepEqual(environ, before) {
		t.Errorf("HookEnviron() changed what it was given to %q", environ)
	}
}
