package cert_test

import (
	"testing"
	"time"

	"github.com/sidecert/sidecert/internal/cert"
	"github.com/sidecert/sidecert/internal/cert/certtest"
)

const day = 24 * time.Hour

var (
	ca  = certtest.New()
	now = time.Date(2027, 1, 1, 0, 0, 0, 0, time.UTC)
)

func TestDueAt(t *testing.T) {
	cases := []struct {
		life, renewBefore, wantLeft time.Duration
		why                         string
	}{
		{90 * day, 0, 30 * day, "a third of the lifetime is left"},
		{64 * day, 0, 512 * time.Hour, "a third of the lifetime is left"},
		{45 * day, 0, 15 * day, "a third of the lifetime is left"},
		{160 * time.Hour, 0, 80 * time.Hour, "half of a lifetime under 10 days is left"},
		{6 * time.Hour, 0, 3 * time.Hour, "half of a lifetime under 10 days is left"},
		{90 * day, 10 * day, 10 * day, "RENEW_BEFORE says so"},
		{90 * day, 80 * day, 45 * day, "RENEW_BEFORE reaches the second half of the lifetime only"},
	}
	for _, c := range cases {
		leaf := ca.Issue(now, c.life, "a.example").Chain[0]
		got, want := cert.DueAt(leaf, c.renewBefore), leaf.NotAfter.Add(-c.wantLeft)
		if !got.Equal(want) {
			t.Errorf("DueAt(%v, %v) = %v, want %v (%s)", c.life, c.renewBefore, got, want, c.why)
		}
	}
}

func TestWanted(t *testing.T) {
	const directory = "https://ca.example/dir"
	good := cert.Lineage{Name: "a.example", Number: 1, Chain: ca.Issue(now.Add(-day), 90*day, "a.example", "192.0.2.1").Chain, Conf: cert.Conf{Server: directory, Profile: "classic"}}
	spec := func(change func(*cert.Spec)) cert.Spec {
		s := cert.Spec{Name: "a.example", Names: []string{"192.0.2.1", "a.example"}, CA: cert.CA{Directory: directory}}
		if change != nil {
			change(&s)
		}
		return s
	}
	lineage := func(change func(*cert.Lineage)) cert.Lineage {
		l := good
		change(&l)
		return l
	}
	cases := []struct {
		name string
		s    cert.Spec
		l    cert.Lineage
		now  time.Time
		want cert.Why
	}{
		{"all is well", spec(nil), good, now, ""},
		{"nothing is stored", spec(nil), cert.Lineage{Name: "a.example"}, now, "there is no certificate yet"},
		{"a placeholder", spec(nil), lineage(func(l *cert.Lineage) { l.Placeholder = true }), now, "there is no certificate yet"},
		{"a name was added", spec(func(s *cert.Spec) { s.Names = append(s.Names, "b.example") }), good, now, "its names are to be 192.0.2.1, a.example, b.example"},
		{"a name was removed", spec(func(s *cert.Spec) { s.Names = s.Names[1:] }), good, now, "its names are to be a.example"},
		{"the same key type", spec(func(s *cert.Spec) { s.KeyType = cert.EC256 }), good, now, ""},
		{"another key type", spec(func(s *cert.Spec) { s.KeyType = cert.RSA2048 }), good, now, "its key is to be rsa-2048"},
		{"another profile", spec(func(s *cert.Spec) { s.Profile = "shortlived" }), good, now, "its profile is to be shortlived"},
		{"another profile, wished for", spec(func(s *cert.Spec) { s.Profile, s.ProfileOptional = "shortlived", true }), good, now, ""},
		{"another CA", spec(func(s *cert.Spec) { s.CA.Directory = cert.LetsEncrypt }), good, now, "it is to come from " + cert.LetsEncrypt},
		{"a staging CA", spec(func(s *cert.Spec) { s.CA.Directory = cert.LetsEncryptStaging }), good, now, ""},
		{"a CA that is not known", spec(nil), lineage(func(l *cert.Lineage) { l.Conf.Server = "" }), now, ""},
		{"another profile", spec(func(s *cert.Spec) { s.Profile = "shortlived" }), good, now, "its profile is to be shortlived"},
		{"a day before it is due", spec(nil), good, now.Add(58 * day), ""},
		{"when it is due", spec(nil), good, now.Add(59 * day), "it is due for renewal"},
		{"expired", spec(nil), good, now.Add(89 * day), "it has expired"},
		{"a clock of 1970", spec(nil), good, time.Unix(0, 0), ""},
	}
	for _, c := range cases {
		if got := cert.Wanted(c.s, c.l, nil, c.now); got != c.want {
			t.Errorf("%s: Wanted() = %q, want %q", c.name, got, c.want)
		}
	}
}

func TestMatch(t *testing.T) {
	stored := func(lineage string, names ...string) cert.Lineage {
		return cert.Lineage{Name: lineage, Number: 1, Chain: ca.Issue(now, day, names...).Chain}
	}
	spec := func(names ...string) cert.Spec { return cert.Spec{Name: names[0], Names: names} }
	cases := []struct {
		name     string
		specs    []cert.Spec
		lineages []cert.Lineage
		want     []string
	}{
		{"nothing is stored", []cert.Spec{spec("a.example")}, nil, []string{"a.example"}},
		{"the same names under another name", []cert.Spec{spec("a.example", "b.example")}, []cert.Lineage{stored("shop", "b.example", "a.example"), stored("a.example", "a.example")}, []string{"shop"}},
		{"the first name", []cert.Spec{spec("a.example", "b.example")}, []cert.Lineage{stored("a.example", "a.example")}, []string{"a.example"}},
		{"a sole overlap", []cert.Spec{spec("a.example", "b.example")}, []cert.Lineage{stored("b.example", "b.example")}, []string{"b.example"}},
		{"two overlaps", []cert.Spec{spec("x.example", "a.example", "b.example")}, []cert.Lineage{stored("a.example", "a.example"), stored("b.example", "b.example")}, []string{"x.example"}},
		{"an explicit name", []cert.Spec{{Name: "shop", Named: true, Names: []string{"a.example"}}}, []cert.Lineage{stored("a.example", "a.example")}, []string{"shop"}},
		{"a lineage called like another", []cert.Spec{spec("www.a.example", "a.example"), spec("a.example")}, []cert.Lineage{stored("a.example", "a.example", "www.a.example")}, []string{"www.a.example", "a.example"}},
		{"a lineage that is another's", []cert.Spec{spec("a.example"), spec("b.example")}, []cert.Lineage{stored("b.example", "a.example", "b.example")}, []string{"a.example", "b.example"}},
	}
	for _, c := range cases {
		got := cert.Match(c.specs, c.lineages)
		for i := range c.want {
			if got[i] != c.want[i] {
				t.Errorf("%s: Match() = %v, want %v", c.name, got, c.want)
				break
			}
		}
	}
}

func TestHealthyCertificateIsNeverAiling(t *testing.T) {
	for _, life := range []time.Duration{90 * day, 45 * day, 160 * time.Hour, 6 * time.Hour, time.Minute} {
		leaf := ca.Issue(now, life, "a.example").Chain[0]
		atDue := leaf.NotAfter.Sub(cert.DueAt(leaf, 0))
		warning, critical := min(20*day, atDue*2/3), min(7*day, atDue/3)
		for left, want := range map[time.Duration]int{atDue: 0, warning + time.Second: 0, warning: 1, critical + time.Second: 1, critical: 2, 0: 2, -day: 2} {
			if got := cert.Ailing(leaf, 0, 20*day, 7*day, leaf.NotAfter.Add(-left)); got != want {
				t.Errorf("lifetime %v with %v left: ailing %d, want %d", life, left, got, want)
			}
		}
	}
}

func TestDueHeedsTheCA(t *testing.T) {
	leaf := ca.Issue(now, 90*day, "a.example").Chain[0]
	end := leaf.NotAfter
	left := func(d time.Duration) *cert.Suggestion {
		return &cert.Suggestion{Of: cert.Fingerprint(leaf), Start: end.Add(-d), At: end.Add(-d)}
	}
	cases := []struct {
		why         string
		renewBefore time.Duration
		by          *cert.Suggestion
		wantLeft    time.Duration
	}{
		{"nothing is suggested", 0, nil, 30 * day},
		{"the answer was of no use", 0, &cert.Suggestion{Of: cert.Fingerprint(leaf)}, 30 * day},
		{"it was of another certificate", 0, &cert.Suggestion{Of: "00", At: end.Add(-60 * day)}, 30 * day},
		{"sooner", 0, left(60 * day), 60 * day},
		{"before the certificate began", 0, left(400 * day), 400 * day},
		{"a day later", 0, left(29 * day), 29 * day},
		{"much later", 0, left(day), 30 * day * 3 / 4},
		{"after expiry", 0, left(-100 * 365 * day), 30 * day * 3 / 4},
		{"a person's wish, and the CA later", 10 * day, left(day), 10 * day},
		{"a person's wish, and the CA sooner", 10 * day, left(31 * day), 31 * day},
	}
	for _, c := range cases {
		if got, want := cert.Due(leaf, c.renewBefore, c.by), end.Add(-c.wantLeft); !got.Equal(want) {
			t.Errorf("%s: Due() = %v, want %v", c.why, got, want)
		}
	}
}

func TestSuggestedMomentStandsWhileTheWindowDoes(t *testing.T) {
	first := cert.Suggestion{Of: "a", Start: now, End: now.Add(day)}
	first.Choose(nil, 0.5)
	if want := now.Add(day / 2); !first.At.Equal(want) {
		t.Fatalf("Choose() = %v, want %v", first.At, want)
	}
	cases := []struct {
		why  string
		next cert.Suggestion
		want time.Time
	}{
		{"the same window", cert.Suggestion{Of: "a", Start: now, End: now.Add(day)}, first.At},
		{"a window that has moved", cert.Suggestion{Of: "a", Start: now, End: now.Add(2 * day)}, now},
		{"another certificate", cert.Suggestion{Of: "b", Start: now, End: now.Add(day)}, now},
		{"no window any more", cert.Suggestion{Of: "a"}, time.Time{}},
	}
	for _, c := range cases {
		if c.next.Choose(&first, 0); !c.next.At.Equal(c.want) {
			t.Errorf("%s: Choose() = %v, want %v", c.why, c.next.At, c.want)
		}
	}
}
