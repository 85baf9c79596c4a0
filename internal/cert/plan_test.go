package cert_test

import (
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
