package config

import (
	"reflect"
	"slices"
	"strings"
	"testing"

	"github.com/sidecert/sidecert/internal/cert"
)

// certbotsWorld is a machine where certbot has been, in the default CERT_DIR.
func certbotsWorld() World {
	world := testWorld()
	world.Adoptable = func(certDir string) bool { return certDir == defaultOf("CERT_DIR") }
	return world
}

func TestCertbotsDirectoryNeedsNoDomains(t *testing.T) {
	for _, test := range []struct {
		name, env, want string
	}{
		{"as it comes", "RELOAD=web", ""},
		{"elsewhere", "CERT_DIR=/srv/certs", "" +
			"DOMAINS is not set, nor is CERT_0_DOMAINS, nor has certbot made anything in CERT_DIR, nor is there an engine to read labels from; name what to get a certificate for, e.g. DOMAINS=example.org,www.example.org, or mount certbot's directory at /srv/certs"},
		{"not wanted", "ADOPT=Off", "" +
			"DOMAINS is not set, nor is CERT_0_DOMAINS, and ADOPT is off, nor is there an engine to read labels from; name what to get a certificate for, e.g. DOMAINS=example.org,www.example.org"},
		{"names that are none", "DOMAINS=;", "" +
			`DOMAINS: ";" names nothing; write e.g. DOMAINS=example.org,www.example.org`},
		{"a CA that asks for a binding", "ACME_CA=zerossl", "" +
			"ACME_EAB_KID and ACME_EAB_HMAC_KEY are missing: this CA knows its customers by them and gives them out at https://app.zerossl.com/developer"},
	} {
		t.Run(test.name, func(t *testing.T) {
			got := ""
			c, _, err := Parse([]string{test.env}, certbotsWorld())
			if err != nil {
				got = err.Error()
			}
			if got != test.want {
				t.Errorf("Parse(%s) found\n%s\nwant\n%s", test.env, got, test.want)
			}
			if len(c.Specs) != 0 {
				t.Errorf("Parse(%s) has the certificates %v, want none", test.env, c.Specs)
			}
		})
	}
}

func TestAdoptedCertificatesAreWarnedAboutToo(t *testing.T) {
	nobody := "RELOAD is not set: no web container is told about a new certificate; write e.g. RELOAD=web with the name of its Compose service, or RELOAD=off if it is told otherwise"
	roots := "ACME_CA_BUNDLE does nothing, since it is for a CA of your own: is ACME_CA missing? For a proxy that opens HTTPS, SSL_CERT_FILE names the roots"
	for _, test := range []struct {
		name string
		env  []string
		want []string
	}{
		{"nobody to tell", nil, []string{nobody}},
		{"nobody to tell of those that are adopted", []string{"CERT_0_DOMAINS=a.example", "CERT_0_RELOAD=web"}, []string{nobody}},
		{"only what is configured", []string{"ADOPT=off", "CERT_0_DOMAINS=a.example", "CERT_0_RELOAD=web"}, nil},
		{"roots for an adopted certificate's CA", []string{"RELOAD=web", "ACME_CA_BUNDLE=/roots.pem"}, nil},
		{"roots for nobody", []string{"ADOPT=off", "DOMAINS=a.example", "RELOAD=web", "ACME_CA_BUNDLE=/roots.pem"}, []string{roots}},
		{"an adopted certificate's endpoint", []string{"RELOAD=web", "VERIFY=old=web:443"}, nil},
	} {
		t.Run(test.name, func(t *testing.T) {
			_, notices, err := Parse(test.env, certbotsWorld())
			if err != nil {
				t.Fatal(err)
			}
			var got []string
			for _, n := range notices {
				got = append(got, n.Text)
			}
			if !reflect.DeepEqual(got, test.want) {
				t.Errorf("Parse(%q) noticed\n%q\nwant\n%q", test.env, got, test.want)
			}
		})
	}
}

func TestWebrootThatIsSetMustBeOnAVolumeForAdoptedCertificatesToo(t *testing.T) {
	world := certbotsWorld()
	world.InContainer = true
	world.Mounted = func(path string) bool { return !within(path, "/var/www") }
	const lost = `WEBROOT: "/var/www/certbot" is on no volume, so the web container cannot serve it; add ` +
		"`- webroot:/var/www/certbot` under `volumes:` of sidecert and of the web container"
	own := []string{"RELOAD=web", "CERT_0_DOMAINS=a.example", "CERT_0_WEBROOT=/srv"}
	for _, test := range []struct {
		name string
		env  []string
		want string
	}{
		{"nothing is configured", nil, ""},
		{"all that is configured has a webroot of its own", own, ""},
		{"a webroot that is set and on no volume", []string{"WEBROOT=/var/www/certbot"}, lost},
		{"a webroot of one's own", []string{"WEBROOT=/srv"}, ""},
		{"nothing is adopted", append([]string{"ADOPT=off"}, own...), ""},
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

func TestConfsMaySayWhatTheEnvironmentDoesNot(t *testing.T) {
	all := cert.Open{CA: true, Webroot: true, ReuseKey: true}
	for _, test := range []struct {
		name string
		env  []string
		// general is of what is adopted, own of the configured certificate.
		general, own cert.Open
	}{
		{"nothing", nil, all, all},
		{"a CA", []string{"ACME_CA=letsencrypt"}, cert.Open{Webroot: true, ReuseKey: true}, cert.Open{Webroot: true, ReuseKey: true}},
		{"staging", []string{"STAGING=1"}, cert.Open{Webroot: true, ReuseKey: true}, cert.Open{Webroot: true, ReuseKey: true}},
		{"no staging, as by default", []string{"STAGING=0"}, all, all},
		{"the default webroot", []string{"WEBROOT=/var/www/certbot"}, cert.Open{CA: true, ReuseKey: true}, cert.Open{CA: true, ReuseKey: true}},
		{"new keys", []string{"REUSE_KEY=no"}, cert.Open{CA: true, Webroot: true}, cert.Open{CA: true, Webroot: true}},
		{"a certificate's CA", []string{"CERT_0_ACME_CA=letsencrypt"}, all, cert.Open{Webroot: true, ReuseKey: true}},
		{"a certificate's webroot", []string{"CERT_0_WEBROOT=a.example=/srv"}, all, cert.Open{CA: true, ReuseKey: true}},
	} {
		t.Run(test.name, func(t *testing.T) {
			c, _ := mustParse(t, append(test.env, "CERT_0_DOMAINS=a.example")...)
			if c.General.Open != test.general {
				t.Errorf("%q leaves open %+v in general, want %+v", test.env, c.General.Open, test.general)
			}
			if got := c.Specs[0].Open; got != test.own {
				t.Errorf("%q leaves open %+v of the certificate, want %+v", test.env, got, test.own)
			}
		})
	}
}

func TestVerifySpeaksOfAdoptedCertificates(t *testing.T) {
	c, _, err := Parse([]string{"RELOAD=web", "DOMAINS=a.example", "VERIFY=old=web:444,web:443,a.example=web:445,old=web:443"}, certbotsWorld())
	if err != nil {
		t.Fatal(err)
	}
	for lineage, want := range map[string][]string{"old": {"web:444", "web:443"}, "other": {"web:443"}} {
		if got := c.VerifyFor(lineage); got.Off || !reflect.DeepEqual(got.Endpoints, want) {
			t.Errorf("VerifyFor(%s) = %+v, want the endpoints %q", lineage, got, want)
		}
	}
	if got, want := c.General.Verify.Endpoints, []string{"web:443"}; !reflect.DeepEqual(got, want) {
		t.Errorf("in general the endpoints are %q, want %q", got, want)
	}
	if got, want := c.Specs[0].Verify.Endpoints, []string{"web:443", "web:445"}; !reflect.DeepEqual(got, want) {
		t.Errorf("the configured certificate has the endpoints %q, want %q", got, want)
	}

	c, _, _ = Parse([]string{"VERIFY=off"}, certbotsWorld())
	if !c.VerifyFor("old").Off || !c.General.Verify.Off {
		t.Error("VERIFY=off holds for no certificate that is adopted")
	}
}

func TestNameOfAPrivateCAIsNoMistakeWhileAConfMayNameThatCA(t *testing.T) {
	env := []string{"RELOAD=web", "DOMAINS=a.internal"}
	c, notices, err := Parse(env, certbotsWorld())
	if err != nil || len(c.Specs) != 1 {
		t.Fatalf("Parse() = %v with %d certificates, want one and no mistake", err, len(c.Specs))
	}
	if !slices.ContainsFunc(notices, func(n Notice) bool { return strings.Contains(n.Text, "unless certbot had it from a CA of your own") }) {
		t.Errorf("notices %+v say nothing of the name", notices)
	}
	if _, _, err := Parse(append(env, "ACME_CA=letsencrypt"), certbotsWorld()); err == nil {
		t.Error("with the CA named it is no mistake")
	}
}
