package cert_test

import (
	"crypto/x509"
	"slices"
	"testing"

	"github.com/sidecert/sidecert/internal/cert"
)

func TestWebrootThatIsNotMountedIsStoodInFor(t *testing.T) {
	for name, row := range map[string]struct {
		conf    cert.Conf
		mounted []string
		standIn bool
		webroot string
	}{
		"certbot's is mounted":                      {cert.Conf{Webroot: "/theirs"}, []string{"/theirs"}, false, "/theirs"},
		"certbot's is not mounted":                  {cert.Conf{Webroot: "/theirs"}, nil, true, "/ours"},
		"that of a name is not mounted":             {cert.Conf{Webroots: map[string]string{"a.example": "/theirs"}}, nil, true, "/ours"},
		"the same":                                  {cert.Conf{Webroot: "/ours"}, nil, false, "/ours"},
		"certbot's conf has none":                   {cert.Conf{}, nil, false, "/ours"},
		"one that was mounted and one that was not": {cert.Conf{Webroot: "/theirs", Webroots: map[string]string{"a.example": "/gone"}}, []string{"/theirs"}, true, "/theirs"},
	} {
		row.conf.Certbot, row.conf.Authenticator = true, "webroot"
		l := cert.Lineage{Name: "a.example", Number: 1, Chain: ca.Issue(now, 90*day, "a.example").Chain, Conf: row.conf}
		w := cert.Wishes{
			Adopt:   true,
			General: func(string) cert.Spec { return cert.Spec{Webroot: "/ours", Open: cert.Open{Webroot: true}} },
			Mounted: func(webroot string) bool { return slices.Contains(row.mounted, webroot) },
		}
		plan, _ := w.Plan([]cert.Lineage{l})
		if len(plan) != 1 {
			t.Fatalf("%s: Plan() has %d", name, len(plan))
		}
		if s := plan[0].Spec; s.StandIn != row.standIn || s.WebrootOf("a.example") != row.webroot {
			t.Errorf("%s: it goes by %s, standing in %v; want %s, %v", name, s.WebrootOf("a.example"), s.StandIn, row.webroot, row.standIn)
		}
	}
}

func TestLabelTakesNoLineageOfSomebodyElse(t *testing.T) {
	issued := func(name string, names ...string) cert.Lineage {
		return cert.Lineage{Name: name, Number: 1, Chain: []*x509.Certificate{{Raw: []byte(name), DNSNames: names}}, Conf: cert.Conf{Certbot: name == "old"}}
	}
	spec := func(name string, named bool, names ...string) cert.Spec {
		return cert.Spec{Name: name, Named: named, Names: names}
	}
	w := cert.Wishes{
		Specs: []cert.Spec{spec("a.example", false, "a.example")}, Adopt: true,
		General: func(string) cert.Spec { return cert.Spec{} }, Mounted: func(string) bool { return true },
	}
	lineages := []cert.Lineage{issued("main", "a.example"), issued("old", "old.example"), issued("shop", "shop.example")}
	for _, tt := range []struct {
		name  string
		asked cert.Spec
		want  string // the lineage, "" where it is refused
	}{
		{"the environment's", spec("main", true, "evil.example"), ""},
		{"one that certbot made", spec("old", true, "evil.example"), ""},
		{"another label's", spec("shop", true, "evil.example"), ""},
		{"its own with a name more", spec("shop", true, "shop.example", "www.shop.example"), "shop"},
		{"a new one", spec("new", true, "new.example"), "new"},
		{"one with the same names", spec("shop.example", false, "shop.example"), "shop"},
	} {
		w.Asked = []cert.Spec{tt.asked}
		plan, _ := w.Plan(lineages)
		got := map[string]string{}
		for _, wish := range plan {
			got[wish.Lineage] = wish.Spec.Names[0]
		}
		refused := len(w.Refused(lineages)) > 0
		if got["main"] != "a.example" || got["old"] != "old.example" || refused != (tt.want == "") || tt.want != "" && got[tt.want] != tt.asked.Names[0] {
			t.Errorf("%s: plan %v, refused: %v, want %q to be %s", tt.name, got, refused, tt.want, tt.asked.Names[0])
		}
	}
}
