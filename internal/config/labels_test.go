package config

import (
	"fmt"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/sidecert/sidecert/internal/cert"
)

// labelled is a container of service web in a project, or of another one, with labels as KEY=VALUE, without our prefix.
func labelled(project, service string, labels ...string) cert.Labelled {
	l := cert.Labelled{Container: project + "-" + service + "-1", Project: project, Service: service, Labels: map[string]string{}}
	for _, label := range labels {
		key, value, _ := strings.Cut(label, "=")
		l.Labels["sidecert."+key] = value
	}
	return l
}

// asked writes what labels lead to: certificates with their names, settings and targets, then the targets of all others.
func asked(a cert.Asked) string {
	var b strings.Builder
	for _, s := range a.Specs {
		fmt.Fprintf(&b, "%s=%s %s%s webroot %s told %s; ", s.Name, strings.Join(s.Names, ","), s.KeyType, s.Profile, s.Webroot, targetsText(s.Reload.Targets))
	}
	return b.String() + "others told " + targetsText(a.Targets)
}

func targetsText(targets []cert.Target) string {
	var words []string
	for _, t := range targets {
		word := t.String() + ":" + t.Action.String()
		if t.Port != 0 {
			word += fmt.Sprintf("@%d", t.Port)
		}
		words = append(words, word)
	}
	return "[" + strings.Join(words, " ") + "]"
}

func TestLabelsAskForCertificatesAndReloads(t *testing.T) {
	for _, tt := range []struct {
		name    string
		environ []string
		all     []cert.Labelled
		want    string
		doubts  []string // words of each
	}{
		{"a certificate and who is told", nil, []cert.Labelled{labelled("p", "web", "domains=A.example, www.a.example", "reload=")},
			"a.example=a.example,www.a.example  webroot /var/www/certbot told [p/web:auto]; others told []", nil},
		{"a certificate alone makes no target", nil, []cert.Labelled{labelled("p", "app", "domains=a.example")},
			"a.example=a.example  webroot /var/www/certbot told []; others told []", nil},
		{"a reload alone is for what others have", []string{"DOMAINS=a.example"}, []cert.Labelled{labelled("p", "web", "reload=sighup")},
			"others told [p/web:HUP]", nil},
		{"targets of the project, and RELOAD's", []string{"RELOAD=proxy"},
			[]cert.Labelled{labelled("p", "app", "domains=a.example"), labelled("p", "web", "reload=restart"), labelled("q", "web", "domains=b.example", "reload=")},
			"a.example=a.example  webroot /var/www/certbot told [proxy:auto p/web:restart]; b.example=b.example  webroot /var/www/certbot told [proxy:auto q/web:auto]; others told [p/web:restart]", nil},
		{"several, one with a name", nil, []cert.Labelled{labelled("p", "web", "domains=a.example; shop=b.example,c.b.example")},
			"a.example=a.example  webroot /var/www/certbot told []; shop=b.example,c.b.example  webroot /var/www/certbot told []; others told []", nil},
		{"refined", nil, []cert.Labelled{labelled("p", "web", "domains=a.example", "key-type=rsa-2048", "profile=tlsserver", "webroot=a", "reload=", "verify=8443")},
			"a.example=a.example rsa-2048tlsserver webroot /var/www/certbot/a told [p/web:auto@8443]; others told []", nil},
		{"webroot in full", nil, []cert.Labelled{labelled("p", "web", "domains=a.example", "webroot=/var/www/certbot/a/")},
			"a.example=a.example  webroot /var/www/certbot/a told []; others told []", nil},
		{"a container that Compose did not make", nil, []cert.Labelled{{Container: "web", Labels: map[string]string{"sidecert.reload": "HUP", "sidecert.domains": "a.example"}}},
			"a.example=a.example  webroot /var/www/certbot told [web:HUP]; others told []", nil},
		{"replicas are one", nil, []cert.Labelled{labelled("p", "web", "domains=a.example", "reload="), {Container: "p-web-2", Project: "p", Service: "web", Labels: map[string]string{"sidecert.domains": "a.example", "sidecert.reload": ""}}},
			"a.example=a.example  webroot /var/www/certbot told [p/web:auto]; others told []", nil},
		{"two ask for the same", nil, []cert.Labelled{labelled("p", "one", "domains=a.example,b.a.example", "reload="), labelled("q", "two", "domains=b.a.example,a.example", "reload=HUP")},
			"a.example=a.example,b.a.example  webroot /var/www/certbot told [p/one:auto q/two:HUP]; others told []", nil},
		{"the environment has it", []string{"DOMAINS=a.example", "KEY_TYPE=ec-384"}, []cert.Labelled{labelled("p", "web", "domains=a.example", "key-type=rsa-2048")},
			"others told []", nil},
		{"nobody is to be told", []string{"RELOAD=off"}, []cert.Labelled{labelled("p", "web", "domains=a.example", "reload=")},
			"a.example=a.example  webroot /var/www/certbot told []; others told []", nil},
		{"the environment has it, and it is told", []string{"DOMAINS=a.example"}, []cert.Labelled{labelled("p", "web", "domains=a.example", "reload=")},
			"others told [p/web:auto]", nil},
		{"off", nil, []cert.Labelled{labelled("p", "web", "reload=off")}, "others told []", nil},

		{"a command", nil, []cert.Labelled{labelled("p", "web", "reload=exec=rm -rf /")}, "others told [p/web:auto]", []string{"p-web-1 asks for a command never"}},
		{"a signal that kills", nil, []cert.Labelled{labelled("p", "web", "reload=KILL")}, "others told [p/web:auto]", []string{"KILL ends"}},
		{"a path out of the webroot", nil, []cert.Labelled{labelled("p", "web", "domains=a.example", "webroot=../../etc")}, "others told []", []string{"webroot no folder"}},
		{"a path of several folders", nil, []cert.Labelled{labelled("p", "web", "domains=a.example", "webroot=a/b")}, "others told []", []string{"webroot no folder"}},
		{"the webroot itself", nil, []cert.Labelled{labelled("p", "web", "domains=a.example", "webroot=..")}, "others told []", []string{"webroot no folder"}},
		{"the webroot in full is no other one", nil, []cert.Labelled{labelled("p", "web", "domains=a.example", "webroot=/var/www/certbot/")},
			"a.example=a.example  webroot /var/www/certbot told []; others told []", nil},
		{"another webroot that begins like ours", nil, []cert.Labelled{labelled("p", "web", "domains=a.example", "webroot=/var/www/certbotx")}, "others told []", []string{"webroot no folder"}},
		{"a label without end", nil, []cert.Labelled{labelled("p", "web", "domains="+strings.Repeat("a.example,", 900))}, "others told []", []string{"longer than 8 KiB"}},
		{"a port that is none", nil, []cert.Labelled{labelled("p", "web", "reload=", "verify=https")}, "others told [p/web:auto]", []string{"verify no port"}},
		{"a key type that is none", nil, []cert.Labelled{labelled("p", "web", "domains=a.example", "key-type=dsa")},
			"a.example=a.example  webroot /var/www/certbot told []; others told []", []string{"sidecert.key-type dsa rsa-2048"}},
		{"a name that is none costs itself alone", nil, []cert.Labelled{labelled("p", "web", "domains=a b;c.example")},
			"c.example=c.example  webroot /var/www/certbot told []; others told []", []string{"p-web-1 a,b a;b"}},
		{"a wildcard", nil, []cert.Labelled{labelled("p", "web", "domains=*.a.example")}, "others told []", []string{"wildcard"}},
		{"nothing", nil, []cert.Labelled{labelled("p", "web", "domains=")}, "others told []", []string{"names nothing"}},
		{"a slip", nil, []cert.Labelled{labelled("p", "web", "domain=a.example")}, "others told []", []string{"sidecert.domain unknown"}},
		{"a name that another has", []string{"DOMAINS=shop=a.example"}, []cert.Labelled{labelled("p", "web", "domains=shop=b.example")},
			"others told []", []string{"name shop not heard"}},
		{"strangers in one certificate", nil, []cert.Labelled{labelled("p", "web", "domains=a.example.org,b.example.net")},
			"a.example.org=a.example.org,b.example.net  webroot /var/www/certbot told []; others told []", []string{"share one certificate a.example.org;b.example.net"}},
		{"an IP address", nil, []cert.Labelled{labelled("p", "web", "domains=192.0.2.1")}, "others told []", []string{"sidecert.profile=shortlived"}},
	} {
		t.Run(tt.name, func(t *testing.T) {
			w := testWorld()
			w.Engine = func(string) bool { return true }
			c, _, err := Parse(tt.environ, w)
			if err != nil {
				t.Fatal(err)
			}
			got := c.Labels(tt.all)
			if text := asked(got); text != tt.want {
				t.Errorf("labels ask for\n%s\nwant\n%s", text, tt.want)
			}
			if len(got.Doubts) != len(tt.doubts) {
				t.Fatalf("doubts %+v, want %q", got.Doubts, tt.doubts)
			}
			for i, words := range tt.doubts {
				for word := range strings.FieldsSeq(words) {
					if d := got.Doubts[i]; !strings.Contains(d.Text+" "+d.Hint, word) {
						t.Errorf("doubt %+v lacks %q", d, word)
					}
				}
			}
			if again := c.Labels(tt.all); asked(again) != asked(got) {
				t.Errorf("asked again, labels lead to %s", asked(again))
			}
		})
	}
}

func TestWithLabelsToHearNothingNeedBeConfigured(t *testing.T) {
	w := testWorld()
	for _, tt := range []struct {
		engine  bool
		environ []string
		ok      bool
	}{
		{true, nil, true},
		{false, nil, false},
		{true, []string{"DISCOVER=off"}, false},
		{true, []string{"DISCOVER=everything"}, false},
	} {
		w.Engine = func(string) bool { return tt.engine }
		if _, _, err := Parse(tt.environ, w); (err == nil) != tt.ok {
			t.Errorf("engine there: %v, environment %q: error %v", tt.engine, tt.environ, err)
		}
	}
}

func TestNobodyIsTheReloadsFaultWhereALabelMayMend(t *testing.T) {
	for _, engine := range []bool{true, false} {
		w := testWorld()
		w.Engine = func(string) bool { return engine }
		_, notices, err := Parse([]string{"DOMAINS=a.example"}, w)
		warned := slices.ContainsFunc(notices, func(n Notice) bool { return n.Variable == "RELOAD" })
		if err != nil || warned == engine {
			t.Errorf("engine there: %v: warned of RELOAD: %v, %v", engine, warned, err)
		}
	}
}

func TestLabelsThatAreWrongAreToldOfTheContainerThatBearsThemWhileItIsThere(t *testing.T) {
	c, _ := mustParse(t, "DOMAINS=z.example")
	x, y := labelled("p", "x", "domains=x.example", "webroot=../x", "key-type=rsa"), labelled("p", "y", "domains=y.example")
	for _, d := range c.Labels([]cert.Labelled{x, y}).Doubts {
		if !strings.Contains(d.Text, "p-x-1") {
			t.Errorf("doubt %+v, want all of them about p-x-1", d)
		}
	}
	x.GoneSince = time.Unix(1, 0)
	if got := c.Labels([]cert.Labelled{x, y}).Doubts; len(got) > 0 {
		t.Errorf("doubts %+v about a container that has gone", got)
	}
}

func TestWhoCameFirstKeepsTheName(t *testing.T) {
	c, _ := mustParse(t, "DOMAINS=z.example")
	early, late := labelled("shop", "web", "domains=shop.example"), labelled("aaa", "web", "domains=shop.example=evil.example")
	early.Since, late.Since = time.Unix(1, 0), time.Unix(2, 0)
	got := c.Labels([]cert.Labelled{late, early})
	if len(got.Specs) != 1 || got.Specs[0].Names[0] != "shop.example" || len(got.Doubts) != 1 || !strings.Contains(got.Doubts[0].Text, "aaa-web-1") {
		t.Errorf("labels ask for %s with doubts %+v, want the one who came first heard", asked(got), got.Doubts)
	}
}

func TestLabelsThatAreRememberedNeedNoEngine(t *testing.T) {
	w := testWorld()
	w.Remembers = func(dir string) bool { return dir == "/var/lib/sidecert" }
	if c, _, err := Parse(nil, w); err != nil || !c.Hears {
		t.Errorf("Parse() = %v, hears: %v, want it to go on by what is remembered", err, c.Hears)
	}
}

func FuzzLabels(f *testing.F) {
	for _, seed := range []string{"a.example,b.a.example;c.example", "shop=*.a", "\x00", "exec=x", "../.."} {
		f.Add(seed, seed, seed)
	}
	f.Fuzz(func(t *testing.T, domains, reload, webroot string) {
		c, _ := mustParse(t, "DOMAINS=z.example")
		got := c.Labels([]cert.Labelled{labelled("p", "web", "domains="+domains, "reload="+reload, "webroot="+webroot)})
		for _, s := range got.Specs {
			if !strings.HasPrefix(s.Webroot+"/", "/var/www/certbot/") || strings.Count(s.Webroot, "/") > 4 || strings.Contains(s.Webroot, "..") {
				t.Errorf("label %q leads to the webroot %q", webroot, s.Webroot)
			}
			if !lineageName.MatchString(s.Name) || len(s.Names) == 0 {
				t.Errorf("label %q leads to a certificate %q for %q", domains, s.Name, s.Names)
			}
		}
		for _, target := range got.Targets {
			if k := target.Action.Kind; k == cert.ActionExec || k == cert.ActionNone || target.Action.Signal != "" && !slices.Contains(signals, target.Action.Signal) {
				t.Errorf("label %q leads to %q", reload, target.Action)
			}
		}
	})
}
