package config

import (
	"errors"
	"io/fs"
	"log/slog"
	"reflect"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/sidecert/sidecert/internal/cert"
)

// defaults is what a sole DOMAINS=a.example gives.
func defaults() Config {
	general := cert.Spec{
		CA:      cert.CA{Directory: cert.LetsEncrypt, AgreeTOS: true},
		Webroot: "/var/www/certbot",
		Open:    cert.Open{CA: true, Webroot: true, ReuseKey: true},
	}
	a := general
	a.Name, a.Names = "a.example", []string{"a.example"}
	return Config{
		Specs:         []cert.Spec{a},
		General:       general,
		Adopt:         true,
		CertDir:       "/etc/letsencrypt",
		StateDir:      "/var/lib/sidecert",
		FilesUID:      -1,
		Preflight:     PreflightWarn,
		Notify:        Notify{Failure: true, Expiry: true, Recovery: true},
		Listen:        "127.0.0.1:9180",
		ExpiryWarning: 480 * time.Hour, ExpiryCritical: 168 * time.Hour, // 20 and 7 days
		LogLevel:  slog.LevelInfo,
		LogFormat: "text",
		Discover:  DiscoverProject,
		Docker:    Docker{Host: "unix:///var/run/docker.sock"},
	}
}

func mustParse(t *testing.T, env ...string) (Config, []Notice) {
	t.Helper()
	c, notices, err := Parse(env, testWorld())
	if err != nil {
		t.Fatalf("Parse(%.200q) = %v, want no mistake", env, err)
	}
	return c, notices
}

func TestOneVariableIsEnough(t *testing.T) {
	c, _ := mustParse(t, "DOMAINS=a.example")
	if want := defaults(); !reflect.DeepEqual(c, want) {
		t.Errorf("Parse() =\n%+v\nwant\n%+v", c, want)
	}
}

func TestEmptyMeansUnset(t *testing.T) {
	env := []string{"DOMAINS=a.example", "CERT_7_DOMAINS=", "CERT_0_NAME= "}
	for _, param := range params(&vars{}) {
		if param.Key != "DOMAINS" {
			env = append(env, param.Key+"= ")
		}
	}
	c, _ := mustParse(t, env...)
	if want := defaults(); !reflect.DeepEqual(c, want) {
		t.Errorf("Parse() of empty variables =\n%+v\nwant\n%+v", c, want)
	}
}

func TestOnlyTheGivenEnvironmentCounts(t *testing.T) {
	t.Setenv("LOG_LEVEL", "debug")
	t.Setenv("CERT_0_DOMAINS", "b.example")
	c, _ := mustParse(t, "DOMAINS=a.example")
	if want := defaults(); !reflect.DeepEqual(c, want) {
		t.Errorf("Parse() with another process environment =\n%+v\nwant\n%+v", c, want)
	}
}

func TestEveryVariableActs(t *testing.T) {
	c, _ := mustParse(t,
		"DOMAINS=shop=shop.example.jp, www.shop.example.jp\n ca.lan ;",
		"EMAIL=me@a.example",
		"ACME_CA=https://CA.lan:9000/acme/directory",
		"ACME_CA_BUNDLE=/roots.pem",
		"ACME_EAB_KID_FILE=/run/secrets/kid",
		"ACME_EAB_HMAC_KEY_FILE=/run/secrets/hmac",
		"ACME_PROFILE=shortlived",
		"AGREE_TOS=Off",
		"PREFERRED_CHAIN=Root X1",
		"KEY_TYPE=EC-384",
		"REUSE_KEY=YES",
		"RENEW_BEFORE=12H",
		"WEBROOT=/srv/www/",
		"CERT_DIR=/srv/certs/../certs",
		"STATE_DIR=/srv/state",
		"ADOPT=no",
		"PRE_HOOK=/bin/open 80", "DEPLOY_HOOK=/bin/tell 'one more' \"thing\"", "POST_HOOK=/bin/close 80",
		"FILES_UID=0", "FILES_GID=101", "FILES_PERMS=0640", "FOLDERS_PERMS=750", "EXTRA_FILES=HAProxy",
		"RELOAD=web",
		"RELOAD_FALLBACK=restart",
		"VERIFY=web:443, shop=[::1]:8443\nca.lan=my_web.1:443",
		"PREFLIGHT=enforce", "EXPIRY_WARNING=30d", "EXPIRY_CRITICAL=36H", "LOG_LEVEL=WARN", "LOG_FORMAT=json",
		"NOTIFY_URLS_FILE=/run/secrets/urls", "NOTIFY_ON=Expiry, renewal", "HEARTBEAT_URL=https://beat.lan/uuid?x=1",
		"LISTEN=status_page:9180", "DOCKER_HOST=tcp://proxy:2375", "DOCKER_TLS_VERIFY=1", "DOCKER_CERT_PATH=/keys", "DOCKER_API_VERSION=1.41",
		"COMPOSE_PROJECT_NAME=shop", "DISCOVER=ALL",
		"CERT_0_DOMAINS=a.example,b.a.example",
		"CERT_0_NAME=Main",
		"CERT_0_KEY_TYPE=rsa-2048",
		"CERT_0_PROFILE=classic",
		"CERT_0_WEBROOT=/srv/a, B.a.example=/srv/b",
		"CERT_0_RELOAD=off",
		"CERT_0_VERIFY=off",
		"CERT_0_RENEW_BEFORE=auto",
		"CERT_0_ACME_CA=ZeroSSL",
		"CERT_0_ACME_EAB_KID=kid-2",
		"CERT_0_ACME_EAB_HMAC_KEY=-_8=",
		"CERT_1_DOMAINS=other=c.example",
		"CERT_1_ACME_CA=letsencrypt-staging",
		"CERT_1_VERIFY=other=web:444",
	)
	general := cert.Spec{
		KeyType:        cert.EC384,
		ReuseKey:       true,
		Profile:        "shortlived",
		PreferredChain: "Root X1",
		RenewBefore:    12 * time.Hour,
		CA: cert.CA{
			Directory: "https://ca.lan:9000/acme/directory",
			Email:     "me@a.example",
			EABKID:    "kid-1",
			EABKey:    "secret",
			Roots:     rootPEM(),
		},
		Webroot: "/srv/www",
		Reload: cert.Reload{
			Targets:  []cert.Target{{Word: "web", Action: cert.Action{Kind: cert.ActionAuto}}},
			Fallback: cert.Action{Kind: cert.ActionRestart},
		},
	}
	shop := general
	shop.Name, shop.Named, shop.Names = "shop", true, []string{"shop.example.jp", "www.shop.example.jp"}
	shop.Verify.Endpoints = []string{"web:443", "[::1]:8443"}
	lan := general
	lan.Name, lan.Names = "ca.lan", []string{"ca.lan"}
	lan.Verify.Endpoints = []string{"web:443", "my_web.1:443"}
	main := general
	main.Name, main.Named, main.Names = "Main", true, []string{"a.example", "b.a.example"}
	main.KeyType, main.Profile, main.RenewBefore = cert.RSA2048, "classic", 0
	main.CA = cert.CA{Directory: cert.ZeroSSL, Email: "me@a.example", EABKID: "kid-2", EABKey: "\xfb\xff", Roots: rootPEM()}
	main.Webroot, main.Webroots = "/srv/a", map[string]string{"b.a.example": "/srv/b"}
	main.Reload = cert.Reload{Off: true, Fallback: cert.Action{Kind: cert.ActionRestart}}
	main.Verify = cert.Verify{Off: true}
	other := general
	other.Name, other.Named, other.Names = "other", true, []string{"c.example"}
	other.CA = cert.CA{Directory: cert.LetsEncryptStaging, Email: "me@a.example", Roots: rootPEM()}
	other.Verify.Endpoints = []string{"web:444"}

	general.Verify.Endpoints = []string{"web:443"}

	want := Config{
		Specs:         []cert.Spec{shop, lan, main, other},
		General:       general,
		Hooks:         Hooks{Pre: []string{"/bin/open", "80"}, Deploy: []string{"/bin/tell", "one more", "thing"}, Post: []string{"/bin/close", "80"}},
		endpoints:     []endpoint{{"", "web:443"}, {"shop", "[::1]:8443"}, {"ca.lan", "my_web.1:443"}},
		CertDir:       "/srv/certs",
		StateDir:      "/srv/state",
		FilesUID:      0,
		FilesGID:      101,
		FilesPerms:    0o640,
		ExtraFiles:    []string{Haproxy},
		FoldersPerms:  0o750,
		Preflight:     PreflightEnforce,
		Notify:        Notify{URLs: []cert.Secret{"ntfy://ntfy.lan/topic", "smtp://mail.lan/?from=a@a.example&to=b@a.example"}, Expiry: true, Renewal: true, Heartbeat: "https://beat.lan/uuid?x=1"},
		ExpiryWarning: 720 * time.Hour, ExpiryCritical: 36 * time.Hour,
		Listen:    "status_page:9180",
		LogLevel:  slog.LevelWarn,
		LogFormat: "json",
		Docker:    Docker{Host: "tcp://proxy:2375", TLSVerify: true, CertPath: "/keys", APIVersion: "1.41"},
		Project:   "shop", Discover: DiscoverAll, Hears: true,
	}
	if len(c.Specs) != len(want.Specs) {
		t.Fatalf("Parse() gave %d certificates, want %d", len(c.Specs), len(want.Specs))
	}
	for i := range want.Specs {
		if !reflect.DeepEqual(c.Specs[i], want.Specs[i]) {
			t.Errorf("certificate %d =\n%+v\nwant\n%+v", i, c.Specs[i], want.Specs[i])
		}
		if got, want := string(c.Specs[i].CA.EABKey), string(want.Specs[i].CA.EABKey); got != want {
			t.Errorf("certificate %d has the HMAC key %q, want %q", i, got, want)
		}
	}
	c.Specs, want.Specs = nil, nil
	if !reflect.DeepEqual(c, want) {
		t.Errorf("Parse() =\n%+v\nwant\n%+v", c, want)
	}
}

func TestNamesBecomeWhatCertificatesHold(t *testing.T) {
	for _, test := range []struct {
		name string
		env  []string
		want [][]string
	}{
		{"one certificate per line", []string{"DOMAINS=\n a.example , www.a.example \n\n b.example\n"}, [][]string{{"a.example", "www.a.example"}, {"b.example"}}},
		{"one certificate per semicolon", []string{"DOMAINS=a.example;b.example;"}, [][]string{{"a.example"}, {"b.example"}}},
		{"upper case and dots", []string{"DOMAINS=A.EXAMPLE.,www.a.example."}, [][]string{{"a.example", "www.a.example"}}},
		{"duplicates and commas", []string{"DOMAINS=,a.example,,A.example.,b.a.example,"}, [][]string{{"a.example", "b.a.example"}}},
		{"Unicode", []string{"DOMAINS=Bücher.example,日本語。example,xn--bcher-kva.bücher.example"}, [][]string{{"xn--bcher-kva.example", "xn--wgv71a119e.example", "xn--bcher-kva.xn--bcher-kva.example"}}},
		{"an IP address with the profile for it", []string{"DOMAINS=8.8.8.8,[2001:4860:4860:0::8888]", "ACME_PROFILE=shortlived"}, [][]string{{"8.8.8.8", "2001:4860:4860::8888"}}},
		{"an IP address for another CA", []string{"DOMAINS=::ffff:8.8.8.8", "ACME_CA=zerossl", "ACME_EAB_KID=kid", "ACME_EAB_HMAC_KEY=a2V5"}, [][]string{{"8.8.8.8"}}},
		{"names of one's own network for one's own CA", []string{"DOMAINS=web,nas.local,localhost,co.uk,10.0.0.1", "ACME_CA=https://ca.lan/directory"}, [][]string{{"web", "nas.local", "localhost", "co.uk", "10.0.0.1"}}},
		{"a suffix that is a company's", []string{"DOMAINS=github.io"}, [][]string{{"github.io"}}},
		{"as many names as there may be", []string{"DOMAINS=" + many(100)}, [][]string{strings.Split(many(100), ",")}},
		{"as many names as the profile allows", []string{"DOMAINS=" + many(25), "ACME_PROFILE=tlsserver"}, [][]string{strings.Split(many(25), ",")}},
		{"other CAs' profiles", []string{"DOMAINS=" + many(26), "ACME_PROFILE=tlsserver", "ACME_CA=https://ca.lan/directory"}, [][]string{strings.Split(many(26), ",")}},
		{"one name in two certificates", []string{"DOMAINS=a.example;b.a.example,a.example"}, [][]string{{"a.example"}, {"b.a.example", "a.example"}}},
	} {
		t.Run(test.name, func(t *testing.T) {
			c, _ := mustParse(t, test.env...)
			var got [][]string
			for _, spec := range c.Specs {
				got = append(got, spec.Names)
			}
			if !reflect.DeepEqual(got, test.want) {
				t.Errorf("Parse(%q) gave the names %q, want %q", test.env, got, test.want)
			}
		})
	}
}

func TestStatusPageIsWhereLISTENSays(t *testing.T) {
	for value, want := range map[string]string{
		"": "127.0.0.1:9180", ":9180": ":9180", "0.0.0.0:80": "0.0.0.0:80", "[::1]:9180": "[::1]:9180", "sidecert:9180": "sidecert:9180", "off": "", "OFF": "", "false": "",
	} {
		if c, _ := mustParse(t, "DOMAINS=a.example", "LISTEN="+value); c.Listen != want {
			t.Errorf("LISTEN=%s listens at %q, want %q", value, c.Listen, want)
		}
	}
}

func TestLineageOfAnIPAddressIsAFileName(t *testing.T) {
	for address, want := range map[string]string{"2001:db8::1": "2001-db8--1", "::1": "0--1"} {
		c, _ := mustParse(t, "DOMAINS="+address, "ACME_CA=https://ca.lan/directory")
		if got := c.Specs[0]; got.Name != want || got.Named {
			t.Errorf("the certificate for %s is called %q (chosen: %v), want %q", address, got.Name, got.Named, want)
		}
	}
}

func TestEveryWayToNameTheCA(t *testing.T) {
	binding := []string{"ACME_EAB_KID=kid", "ACME_EAB_HMAC_KEY=a2V5"}
	for env, want := range map[string]string{
		"ACME_CA=letsencrypt":         cert.LetsEncrypt,
		"ACME_CA=letsencrypt-staging": cert.LetsEncryptStaging,
		"ACME_CA=zerossl":             cert.ZeroSSL,
		"ACME_CA=google":              cert.Google,
		"ACME_CA=google-staging":      cert.GoogleStaging,
		"ACME_CA=" + cert.Google:      cert.Google,
		"STAGING=on":                  cert.LetsEncryptStaging,
		"STAGING=no":                  cert.LetsEncrypt,
	} {
		c, _ := mustParse(t, append(binding, "DOMAINS=a.example", env)...)
		if got := c.Specs[0].CA.Directory; got != want {
			t.Errorf("with %s the CA is %s, want %s", env, got, want)
		}
		if got := c.Specs[0].CA.EABKID != ""; got == letsEncrypt(want) {
			t.Errorf("with %s the binding is given: %v, want %v", env, got, !letsEncrypt(want))
		}
	}
}

func TestHMACKeyIsTakenInEveryAlphabet(t *testing.T) {
	for _, text := range []string{"-_-_-w", "-_-_-w==", "+/+/+w", "+/+/+w=="} {
		c, _ := mustParse(t, "DOMAINS=a.example", "ACME_CA=zerossl", "ACME_EAB_KID=kid", "ACME_EAB_HMAC_KEY="+text)
		if got, want := string(c.Specs[0].CA.EABKey), "\xfb\xff\xbf\xfb"; got != want {
			t.Errorf("the HMAC key %s is %x, want %x", text, got, want)
		}
	}
}

func TestCertificatesOwnBindingReplacesTheGeneralOne(t *testing.T) {
	c, _ := mustParse(t, "ACME_CA=zerossl", "ACME_EAB_KID=kid-1", "ACME_EAB_HMAC_KEY=a2V5",
		"CERT_0_DOMAINS=a.example", "CERT_0_ACME_EAB_KID=kid-2", "CERT_0_ACME_EAB_HMAC_KEY_FILE=/run/secrets/hmac",
		"CERT_1_DOMAINS=b.example", "CERT_1_ACME_CA=zerossl")
	if ca := c.Specs[0].CA; ca.EABKID != "kid-2" || ca.EABKey != "secret" || ca.Directory != cert.ZeroSSL {
		t.Errorf("the first certificate's binding is %s at %s, want its own at ZeroSSL", ca.EABKID, ca.Directory)
	}
	if ca := c.Specs[1].CA; ca.EABKID != "kid-1" || ca.EABKey != "key" {
		t.Errorf("the second certificate's binding is %q, want the general one, as its CA is the same", ca.EABKID)
	}
}

func TestMistakesLeaveTheRestUsable(t *testing.T) {
	c, _, err := Parse([]string{
		"DOMAINS=a.example;*.b.example;readme=c.example", "LOG_LEVEL=loud", "LOG_FORMAT=xml", "PREFLIGHT=maybe", "CERT_DIR=certs", "STATE_DIR=/srv/state",
		"FILES_UID=me", "FILES_GID=us", "FILES_PERMS=666", "FOLDERS_PERMS=7", "EXTRA_FILES=pfx", "DOCKER_HOST=here", "DOCKER_API_VERSION=x", "COMPOSE_PROJECT_NAME=X", "ADOPT=maybe", "AGREE_TOS=maybe", "PRE_HOOK=a 'b",
		"KEY_TYPE=dsa", "RENEW_BEFORE=soon", "RELOAD=web:KILL", "RELOAD_FALLBACK=KILL", "EMAIL=x", "PREFERRED_CHAIN=a\nb",
	}, testWorld())
	if err == nil {
		t.Fatal("Parse() found no mistake")
	}
	want := defaults()
	want.StateDir, want.Hears = "/srv/state", true // DOCKER_HOST was set by somebody
	if !reflect.DeepEqual(c, want) {
		t.Errorf("Parse() with mistakes =\n%+v\nwant what is right and the defaults\n%+v", c, want)
	}
}

func TestInAContainerFoldersMustBeOnVolumes(t *testing.T) {
	world := testWorld()
	world.InContainer = true
	world.Mounted = func(path string) bool { return within(path, "/mounted") }
	for _, test := range []struct {
		name string
		env  []string
		want string
	}{
		{"the defaults", []string{"DOMAINS=a.example"}, "" +
			"CERT_DIR: \"/etc/letsencrypt\" is on no volume, so the certificates are lost with the container; add `- certs:/etc/letsencrypt` under `volumes:` of sidecert and of the web container\n" +
			"STATE_DIR: \"/var/lib/sidecert\" is on no volume, so the account key is lost with the container; add `- state:/var/lib/sidecert` under `volumes:` of sidecert\n" +
			"WEBROOT: \"/var/www/certbot\" is on no volume, so the web container cannot serve it; add `- webroot:/var/www/certbot` under `volumes:` of sidecert and of the web container"},
		{"no certificate", []string{"CERT_DIR=/mounted/certs", "STATE_DIR=/mounted/state"}, "" +
			"DOMAINS is not set, nor is CERT_0_DOMAINS, nor has certbot made anything in CERT_DIR, nor is there an engine to read labels from; name what to get a certificate for, e.g. DOMAINS=example.org,www.example.org, or mount certbot's directory at /mounted/certs\n" +
			"WEBROOT: \"/var/www/certbot\" is on no volume, so the web container cannot serve it; add `- webroot:/var/www/certbot` under `volumes:` of sidecert and of the web container"},
		{"webroots of one's own", []string{"CERT_DIR=/mounted/certs", "STATE_DIR=/mounted/state", "CERT_0_DOMAINS=a.example", "CERT_0_WEBROOT=/srv/a,a.example=/srv/b"}, "" +
			"CERT_0_WEBROOT: \"/srv/a\" is on no volume, so the web container cannot serve it; add `- srv-a:/srv/a` under `volumes:` of sidecert and of the web container\n" +
			"CERT_0_WEBROOT: \"/srv/b\" is on no volume, so the web container cannot serve it; add `- srv-b:/srv/b` under `volumes:` of sidecert and of the web container"},
		{"a folder that is wrong anyway", []string{"DOMAINS=a.example", "CERT_DIR=certs", "STATE_DIR=/mounted/state", "WEBROOT=/mounted/www"},
			`CERT_DIR: "certs" is no absolute path; write one that begins with /`},
		{"volumes for all", []string{"DOMAINS=a.example", "CERT_DIR=/mounted/certs", "STATE_DIR=/mounted/state", "WEBROOT=/mounted/www"}, ""},
	} {
		t.Run(test.name, func(t *testing.T) {
			got := ""
			if _, _, err := Parse(test.env, world); err != nil {
				got = err.Error()
			}
			if got != test.want {
				t.Errorf("Parse(%q) found\n%s\nwant\n%s", test.env, got, test.want)
			}
		})
	}
}

// testWorld is a machine without containers and with a few files.
func testWorld() World {
	files := map[string]string{
		"/run/secrets/kid":   "kid-1\r\n",
		"/run/secrets/hmac":  byteOrderMark + "c2VjcmV0\n",
		"/run/secrets/empty": "\n",
		"/run/secrets/urls":  "ntfy://ntfy.lan/topic\r\nsmtp://mail.lan/?from=a@a.example&to=b@a.example\n",
		"/roots.pem":         rootPEM(),
		"/damaged.pem":       "-----BEGIN CERTIFICATE-----\nAAAA\n-----END CERTIFICATE-----\n",
		"/key.pem":           rootPEM() + "-----BEGIN EC PRIVATE KEY-----\nAAAA\n-----END EC PRIVATE KEY-----\n",
		"/huge.pem":          strings.Repeat("x", maxFile+1),
	}
	return World{
		Mounted:   func(string) bool { panic("asked for mounts outside of a container") },
		Adoptable: func(string) bool { return false },
		Engine:    func(string) bool { return false },
		Remembers: func(string) bool { return false },
		Receiver: func(url string) error {
			if strings.HasPrefix(url, "mqtt:") {
				return errors.New("is for nobody")
			}
			return nil
		},
		ReadFile: func(path string) ([]byte, error) {
			if text, ok := files[path]; ok {
				return []byte(text), nil
			}
			return nil, &fs.PathError{Op: "open", Path: path, Err: fs.ErrNotExist}
		},
	}
}

// rootPEM is a CA's certificate.
var rootPEM = sync.OnceValue(func() string {
	bundle, err := cert.Placeholder("root", []string{"ca.example"}, time.Date(2026, 11, 21, 0, 0, 0, 0, time.UTC))
	if err != nil {
		panic(err)
	}
	return string(cert.EncodeChain(bundle.Chain[1:]))
})
