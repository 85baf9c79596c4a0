package config

import (
	"log/slog"
	"os"
	"reflect"
	"strings"
	"testing"
)

func TestWhatIsPutRightOrSuspectIsSaid(t *testing.T) {
	info := func(variable, text string) Notice { return Notice{slog.LevelInfo, variable, text} }
	warn := func(variable, text string) Notice { return Notice{slog.LevelWarn, variable, text} }
	for _, test := range []struct {
		name string
		env  []string
		want []Notice
	}{
		{"nothing", []string{"DOMAINS=a.example,www.a.example;b.example", "RELOAD=web"}, nil},
		{"names as people write them", []string{"DOMAINS=A.example.,a.example,,B.a.example", "RELOAD=web"}, []Notice{
			info("DOMAINS", "upper case was put right: A.example. is a.example, B.a.example is b.a.example"),
			info("DOMAINS", "dots at the end were left out: A.example. is a.example"),
			info("DOMAINS", "names written twice in one certificate were left out: a.example"),
			info("DOMAINS", "commas without a name were left out: A.example.,a.example,,B.a.example"),
		}},
		{"more than anybody reads", []string{"DOMAINS=A.example,B.a.example,C.a.example,D.a.example,E.a.example,F.a.example,G.a.example", "RELOAD=web"}, []Notice{
			info("DOMAINS", "upper case was put right: A.example is a.example, B.a.example is b.a.example, C.a.example is c.a.example, D.a.example is d.a.example, E.a.example is e.a.example and 2 more"),
		}},
		{"Unicode", []string{"CERT_0_DOMAINS=Bücher.example", "RELOAD=web"}, []Notice{
			info("CERT_0_DOMAINS", "names with other than Latin letters were put in the form of DNS (punycode): Bücher.example is xn--bcher-kva.example"),
		}},
		{"a Cyrillic letter among Latin ones", []string{"DOMAINS=p\u0430ypal.example,\u043f\u043e\u0447\u0442\u0430.example", "RELOAD=web"}, []Notice{
			info("DOMAINS", "names with other than Latin letters were put in the form of DNS (punycode): p\u0430ypal.example is xn--pypal-4ve.example, \u043f\u043e\u0447\u0442\u0430.example is xn--80a1acny.example"),
			warn("DOMAINS", "p\u0430ypal.example (xn--pypal-4ve.example) has Latin and Cyrillic letters in one word, which look alike; type it again if it was copied"),
		}},
		{"an IP address the long way", []string{"DOMAINS=2001:DB8:0::1", "RELOAD=web", "ACME_CA=https://ca.lan/directory"}, []Notice{
			info("DOMAINS", "IP addresses were written the short way: 2001:DB8:0::1 is 2001:db8::1"),
		}},
		{"an env file from Windows", []string{byteOrderMark + "DOMAINS=a.example\r", "RELOAD=web\r\nmail\r"}, []Notice{
			info("RELOAD", "line ends of Windows (CR LF) were put right"),
			info("DOMAINS", "a byte order mark before it was left out"),
			info("DOMAINS", "line ends of Windows (CR LF) were put right"),
		}},
		{"a byte order mark at the value, and quotes kept", []string{"DOMAINS=" + byteOrderMark + `"a.example"`, `RELOAD=' web '`}, []Notice{
			info("DOMAINS", "a byte order mark was left out"),
			info("DOMAINS", "quotes around the whole value were left out, which env files and lists in YAML keep"),
			info("RELOAD", "quotes around the whole value were left out, which env files and lists in YAML keep"),
		}},
		{"a link for an address", []string{"DOMAINS=a.example", "RELOAD=web", "EMAIL=Mailto:me@a.example"}, []Notice{
			info("EMAIL", "mailto: was left out: me@a.example"),
		}},
		{"a target twice", []string{"DOMAINS=a.example", "RELOAD=web,web"}, []Notice{
			info("RELOAD", "targets written twice were left out: web"),
		}},
		{"strangers in one certificate", []string{"DOMAINS=a.org,b.org,www.b.org,www.a.org,x.github.io,192.0.2.1", "RELOAD=web", "ACME_CA=zerossl", "ACME_EAB_KID=kid", "ACME_EAB_HMAC_KEY=a2V5"}, []Notice{
			warn("DOMAINS", "a.org and b.org share one certificate: when a name of one fails, the other is not renewed either; a.org,www.a.org;b.org,www.b.org;x.github.io makes 3 certificates of it"),
		}},
		{"strangers in one CERT_n_DOMAINS", []string{"CERT_0_DOMAINS=a.org,b.co.uk", "RELOAD=web"}, []Notice{
			warn("CERT_0_DOMAINS", "a.org and b.co.uk share one certificate: when a name of one fails, the other is not renewed either; give each a CERT_n_DOMAINS of its own"),
		}},
		{"names of one network", []string{"DOMAINS=web.lan,mail.lan", "RELOAD=web", "ACME_CA=https://ca.lan/directory"}, nil},
		{"nobody to tell", []string{"DOMAINS=a.example"}, []Notice{
			warn("RELOAD", "RELOAD is not set: no web container is told about a new certificate; write e.g. RELOAD=web with the name of its Compose service, or RELOAD=off if it is told otherwise"),
		}},
		{"somebody to tell for each", []string{"CERT_0_DOMAINS=a.example", "CERT_0_RELOAD=web"}, nil},
		{"a group without a right", []string{"DOMAINS=a.example", "RELOAD=web", "FILES_GID=101"}, []Notice{
			warn("FILES_GID", "FILES_PERMS is not set: private keys keep the mode of the version before and begin with 600, which group 101 cannot read; FILES_PERMS=640 lets it"),
		}},
		{"a group that is shut out", []string{"DOMAINS=a.example", "RELOAD=web", "FILES_GID=101", "FILES_PERMS=600"}, []Notice{
			warn("FILES_GID", "group 101 still cannot read the private keys: FILES_PERMS is 600; FILES_PERMS=640 lets it"),
		}},
		{"a group with a right", []string{"DOMAINS=a.example", "RELOAD=web", "FILES_GID=101", "FILES_PERMS=640"}, nil},
		{"no group", []string{"DOMAINS=a.example", "RELOAD=web", "FILES_GID=0", "FILES_PERMS=600"}, nil},
		{"an extra file twice", []string{"DOMAINS=a.example", "RELOAD=web", "EXTRA_FILES=haproxy\nhaproxy"}, []Notice{
			{slog.LevelInfo, "EXTRA_FILES", "words written twice were left out: haproxy"},
		}},
		{"a binding for nobody", []string{"DOMAINS=a.example", "RELOAD=web", "ACME_EAB_KID=kid", "ACME_EAB_HMAC_KEY=a2V5"}, []Notice{
			warn("ACME_EAB_KID", "Let's Encrypt takes no external account binding, so ACME_EAB_KID does nothing; is ACME_CA missing?"),
		}},
		{"roots for nobody", []string{"DOMAINS=a.example", "RELOAD=web", "ACME_CA_BUNDLE=/roots.pem"}, []Notice{
			warn("ACME_CA_BUNDLE", "ACME_CA_BUNDLE does nothing, since it is for a CA of your own: is ACME_CA missing? For a proxy that opens HTTPS, SSL_CERT_FILE names the roots"),
		}},
		{"what to tell, and nobody to be told", []string{"DOMAINS=a.example", "RELOAD=web", "NOTIFY_ON=failure,renewal"}, []Notice{
			warn("NOTIFY_ON", "nobody is told, since NOTIFY_URLS is not set"),
		}},
		{"somebody to be told twice", []string{"DOMAINS=a.example", "RELOAD=web", "NOTIFY_URLS=ntfy://a.lan/b ntfy://a.lan/b"}, []Notice{
			info("NOTIFY_URLS", "URLs written twice were left out"),
		}},
		{"an endpoint of a certificate that may come yet", []string{"DOMAINS=a.example", "RELOAD=web", "VERIFY=b.example=web:443"}, []Notice{
			warn("VERIFY", "b.example=web:443 is about a certificate that is neither configured nor certbot's; there is a.example"),
		}},
		{"hooks for a shell", []string{"DOMAINS=a.example", "RELOAD=web", "PRE_HOOK=stop web && wait", "DEPLOY_HOOK=cp \"$RENEWED_LINEAGE/fullchain.pem\" /x"}, []Notice{
			warn("PRE_HOOK", "PRE_HOOK holds &&, which only a shell understands, and there is none: the command gets it as it stands. Where a shell is needed, build an image that has one, as the README says at PRE_HOOK, and write PRE_HOOK=sh -c '…'"),
			warn("DEPLOY_HOOK", "DEPLOY_HOOK holds $, which only a shell understands, and there is none: the command gets it as it stands. Where a shell is needed, build an image that has one, as the README says at PRE_HOOK, and write DEPLOY_HOOK=sh -c '…'"),
		}},
		{"hooks for no shell", []string{"DOMAINS=a.example", "RELOAD=web", "PRE_HOOK=/bin/stop web", `DEPLOY_HOOK=sh -c "cp $RENEWED_LINEAGE/*.pem /x && echo; date"`, "POST_HOOK='wget http://x/?a&b'"}, []Notice{
			info("POST_HOOK", "quotes around the whole value were left out, which env files and lists in YAML keep"),
		}},
		{"variables of the peers", []string{"DOMAINS=a.example", "RELOAD=web", "LETSENCRYPT_HOST=x", "DEBUG=1", "CERTBOT_EMAIL="}, []Notice{
			warn("DEBUG", "DEBUG does nothing here; LOG_LEVEL=debug says more"),
			warn("LETSENCRYPT_HOST", "LETSENCRYPT_HOST does nothing here; DOMAINS names the certificates"),
		}},
		{"a slip beside the right one", []string{"DOMAINS=a.example", "RELOAD=web", "DOMAIN=b.example"}, []Notice{
			warn("DOMAIN", "DOMAIN is unknown and does nothing; did you mean DOMAINS?"),
		}},
		{"two slips", []string{"DOMAINS=a.example", "RELOAD=web", "KEYTYPES=rsa-2048"}, []Notice{
			warn("KEYTYPES", "KEYTYPES is unknown and does nothing; did you mean KEY_TYPE?"),
		}},
		{"lower case", []string{"DOMAINS=a.example", "RELOAD=web", "email=me@a.example"}, []Notice{
			warn("email", "email does nothing; did you mean EMAIL?"),
		}},
		{"a number left out", []string{"DOMAINS=a.example", "RELOAD=web", "CERT_DOMAINS=b.example"}, []Notice{
			warn("CERT_DOMAINS", "CERT_DOMAINS does nothing; did you mean CERT_0_DOMAINS?"),
		}},
	} {
		t.Run(test.name, func(t *testing.T) {
			_, got := mustParse(t, test.env...)
			if !reflect.DeepEqual(got, test.want) {
				t.Errorf("Parse(%q) noticed\n%s\nwant\n%s", test.env, lines(got), lines(test.want))
			}
		})
	}
}

func lines(notices []Notice) string {
	var b strings.Builder
	for _, n := range notices {
		b.WriteString(n.Level.String() + " " + n.Variable + ": " + n.Text + "\n")
	}
	return b.String()
}

func TestVariablesOfOthersAreLeftAlone(t *testing.T) {
	data, err := os.ReadFile("testdata/others.txt")
	if err != nil {
		t.Fatal(err)
	}
	env := []string{"DOMAINS=a.example", "RELOAD=web"}
	for name := range strings.FieldsSeq(string(data)) {
		env = append(env, name+"=x")
	}
	if _, notices := mustParse(t, env...); len(notices) != 0 {
		t.Errorf("variables of shells, Docker and others were taken for ours:\n%s", lines(notices))
	}
}
