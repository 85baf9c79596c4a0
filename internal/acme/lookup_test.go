package acme

import (
	"errors"
	"fmt"
	"net"
	"slices"
	"strings"
	"testing"

	"golang.org/x/net/dns/dnsmessage"

	"github.com/sidecert/sidecert/internal/acmetest"
	"github.com/sidecert/sidecert/internal/cert"
)

func TestDNSHasASentenceForEveryCase(t *testing.T) {
	rows := []struct {
		name      string
		addresses []string
		fails     []string
		directory string
		want      []string
	}{
		{"both families", []string{"203.0.113.7", "2001:db8::7"}, nil, "", []string{"ok example.test has the address 203.0.113.7, 2001:db8::7"}},
		{"no such name", []string{""}, nil, "", []string{"error does not exist in the DNS (NXDOMAIN) | add an A record"}},
		{"no address", nil, nil, "", []string{"error neither an A nor an AAAA record | add an A record"}},
		{"name server fails", nil, []string{"A", "AAAA"}, "", []string{"error fail (SERVFAIL) | DNSSEC"}},
		{"name server fails for AAAA", []string{"203.0.113.7"}, []string{"AAAA"}, "", []string{"warning not all of its records can be looked up: the name server answers SERVFAIL | for A and for AAAA"}},
		{"loopback at a public CA", []string{"127.0.0.1"}, nil, cert.LetsEncrypt, []string{"ok 127.0.0.1", "error leads every machine to itself | public address"}},
		{"private at a public CA", []string{"10.1.2.3", "fd00::1", "100.64.0.9"}, nil, cert.Google,
			[]string{"ok 10.1.2.3", "warning private address 10.1.2.3 | public address", "warning private address 100.64.0.9 | public address", "warning private address fd00::1 | public address"}},
		{"private at a private CA", []string{"10.1.2.3"}, nil, "", []string{"ok 10.1.2.3"}},
	}
	for _, row := range rows {
		t.Run(row.name, func(t *testing.T) {
			t.Parallel()
			s := house(t, street{})
			s.SetDNS("example.test", row.addresses...)
			for _, kind := range row.fails {
				s.FailDNS("example.test", kind)
			}
			spec := s.spec("example.test")
			if row.directory != "" {
				spec.CA.Directory = row.directory
			}
			want(t, about(s.issuer.Look().Examine(t.Context(), spec, "example.test"), dnsTopic), row.want...)
		})
	}
}

func TestNameServerThatIsAwayIsNoFaultOfTheName(t *testing.T) {
	s := house(t, street{})
	s.issuer.resolver.servers = []string{freePort(t)}
	findings := s.issuer.Look().Examine(t.Context(), s.spec("example.test"), "example.test")
	want(t, about(findings, dnsTopic), "unknown example.test cannot be looked up from here | resolv.conf")
	want(t, about(findings, "CAA"), "unknown the CAA records of example.test cannot be looked up from here | resolv.conf")
}

func TestNextNameServerIsAsked(t *testing.T) {
	s := house(t, street{})
	s.issuer.resolver.servers = []string{freePort(t), s.Nameserver}
	data, err := s.issuer.resolver.lookup(t.Context(), "example.test", dnsmessage.TypeA)
	if err != nil || len(data) != 1 {
		t.Errorf("%v, %v, want the second server's answer", data, err)
	}
}

// freePort is one where nothing listens.
func freePort(t *testing.T) string {
	t.Helper()
	conn, err := net.ListenPacket("udp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	defer conn.Close()
	return conn.LocalAddr().String()
}

func TestCAAHasASentenceForEveryCase(t *testing.T) {
	type records map[string][]acmetest.CAA
	rows := []struct {
		name      string
		records   records
		directory string
		want      string
	}{
		{"none", nil, cert.LetsEncrypt, "ok has no CAA record"},
		{"ours", records{"www.example.test": {{Value: "LetsEncrypt.org"}}}, cert.LetsEncrypt, "ok the CAA record of www.example.test allows letsencrypt.org"},
		{"ours among others", records{"example.test": {{Value: "ca.other"}, {Value: "letsencrypt.org; x=y"}}}, cert.LetsEncryptStaging, "ok the CAA record of example.test allows letsencrypt.org"},
		{"an alias of ours", records{"test": {{Value: "comodoca.com"}}}, cert.ZeroSSL, "ok the CAA record of test allows comodoca.com"},
		{"Google", records{"example.test": {{Value: "pki.goog"}}}, cert.Google, "ok allows pki.goog"},
		{"another's", records{"example.test": {{Value: "ca.other"}}}, cert.LetsEncrypt, `error the CAA records of example.test allow ca.other, but not letsencrypt.org | add the record: example.test. CAA 0 issue "letsencrypt.org"`},
		{"nobody", records{"example.test": {{Value: ";"}}}, cert.LetsEncrypt, "error the CAA records of example.test allow no CA at all, but not letsencrypt.org | add the record"},
		{"nearest counts", records{"www.example.test": {{Value: "letsencrypt.org"}}, "example.test": {{Value: ";"}}}, cert.LetsEncrypt, "ok the CAA record of www.example.test"},
		{"wildcards only", records{"example.test": {{Tag: "issuewild", Value: ";", Critical: true}, {Tag: "iodef", Value: "mailto:a@example.test"}}}, cert.LetsEncrypt, "ok restrict nothing but wildcards"},
		{"critical and unknown", records{"example.test": {{Value: "letsencrypt.org"}, {Tag: "tbs", Value: "x", Critical: true}}}, cert.LetsEncrypt, `error critical CAA record with the unknown tag "tbs" | take the record away`},
		{"unknown", records{"example.test": {{Tag: "tbs", Value: "x"}}}, cert.LetsEncrypt, "ok restrict nothing but wildcards"},
		{"another method", records{"example.test": {{Value: "letsencrypt.org; validationmethods=dns-01"}}}, cert.LetsEncrypt, "error by dns-01 only, not by http-01 | change it to"},
		{"our method", records{"example.test": {{Value: "letsencrypt.org; validationmethods = dns-01,http-01"}}}, cert.LetsEncrypt, "ok allows letsencrypt.org"},
		{"another account", records{"example.test": {{Value: "letsencrypt.org; accounturi=https://ca.test/acct/1"}}}, cert.LetsEncrypt, "error for the account https://ca.test/acct/1 only | change it to"},
		{"our account", records{"example.test": {{Value: "letsencrypt.org; accounturi=https://ca.test/acct/ours"}}}, cert.LetsEncrypt, "ok allows letsencrypt.org"},
		{"from the directory", records{"example.test": {{Value: "pebble.letsencrypt.org"}}}, "", "ok allows pebble.letsencrypt.org"},
	}
	for _, row := range rows {
		t.Run(row.name, func(t *testing.T) {
			t.Parallel()
			s := house(t, street{})
			for name, records := range row.records {
				s.SetCAA(name, records...)
			}
			spec := s.spec("www.example.test")
			if row.directory != "" {
				spec.CA = cert.CA{Directory: row.directory}
				s.accounts.SaveAccount(spec.CA, cert.Account{URI: "https://ca.test/acct/ours"})
			}
			want(t, []cert.Finding{s.issuer.examineCAA(t.Context(), spec, "www.example.test")}, row.want)
			if got := s.Requests()["newAccount"]; got != 0 {
				t.Error("an account was registered")
			}
		})
	}
}

func TestCAAThatCannotBeLookedUpForbids(t *testing.T) {
	s := house(t, street{})
	s.FailDNS("example.test", "CAA")
	want(t, []cert.Finding{s.issuer.examineCAA(t.Context(), s.spec("www.example.test"), "www.example.test")},
		"error the CAA records of example.test cannot be looked up | DNSSEC")
}

func TestCAWithoutAWordOnCAAIsUnknown(t *testing.T) {
	s := house(t, street{})
	s.SetCAA("example.test", acmetest.CAA{Value: "ca.other"})
	spec := s.spec("example.test")
	s.CA.Close()
	s2 := house(t, street{})
	s2.SetCAA("example.test", acmetest.CAA{Value: "ca.other"})
	spec.CA.Directory = s.Directory // which is away
	want(t, []cert.Finding{s2.issuer.examineCAA(t.Context(), spec, "example.test")}, "unknown does not say by which name | ask those who run the CA")
}

func TestLongAnswerComesOverTCP(t *testing.T) {
	s := house(t, street{})
	var many []acmetest.CAA
	for n := range 60 {
		many = append(many, acmetest.CAA{Value: fmt.Sprintf("ca%d.a-rather-long-name.test", n)})
	}
	s.SetCAA("example.test", many...)
	data, err := s.issuer.resolver.lookup(t.Context(), "example.test", typeCAA)
	if err != nil || len(data) != 60 {
		t.Errorf("%d records (%v), want all 60", len(data), err)
	}
}

func TestHostileNameServerIsBounded(t *testing.T) {
	conn, err := net.ListenPacket("udp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	defer conn.Close()
	go func() {
		buffer := make([]byte, 512)
		for {
			n, from, err := conn.ReadFrom(buffer)
			if err != nil {
				return
			}
			conn.WriteTo([]byte("nonsense"), from)                            // no answer to the question: passed over
			conn.WriteTo(append([]byte{buffer[0] ^ 1}, buffer[1:n]...), from) // of another question
			answer := slices.Clone(buffer[:n])
			answer[2] |= 0x80                 // a response …
			answer[6], answer[7] = 0xff, 0xff // … that promises 65535 records
			conn.WriteTo(answer, from)
		}
	}()
	_, err = resolver{servers: []string{conn.LocalAddr().String()}}.lookup(t.Context(), "example.test", dnsmessage.TypeA)
	if err == nil || !strings.Contains(err.Error(), "cannot be read") {
		t.Errorf("error %v, want the answer found unreadable", err)
	}
}

func TestNameThatDoesNotFitIsNoPanic(t *testing.T) {
	_, err := resolver{servers: []string{"127.0.0.1:1"}}.lookup(t.Context(), strings.Repeat("a.", 200)+"\x1b", dnsmessage.TypeA)
	if err == nil || errors.As(err, new(*dnsError)) || strings.Contains(err.Error(), "\x1b") {
		t.Errorf("error %q", err)
	}
}

func TestServersAreReadAsResolvConfHasThem(t *testing.T) {
	rows := map[string][]string{
		"search a\nnameserver 127.0.0.11\noptions ndots:0\n":             {"127.0.0.11:53"},
		"# nameserver 1.1.1.1\nnameserver\t::1\nnameserver 10.0.0.1 # x": {"[::1]:53", "10.0.0.1:53"},
		"": {"127.0.0.1:53"},
	}
	for text, want := range rows {
		if got := serversIn(text); !slices.Equal(got, want) {
			t.Errorf("servers of %q: %v, want %v", text, got, want)
		}
	}
}

func FuzzAnswer(f *testing.F) {
	query, question, err := newQuery("example.test", typeCAA)
	if err != nil {
		f.Fatal(err)
	}
	f.Add(query)
	f.Add(append(slices.Clone(query), 0xc0, 12, 1, 1, 0, 1, 0, 0, 0, 0, 0, 5, 0x80, 3, 'x', 'y', 'z'))
	f.Fuzz(func(t *testing.T, answer []byte) {
		answer = slices.Clone(answer)
		if len(answer) > 2 {
			copy(answer, query[:2])
			answer[2] |= 0x80
		}
		data, _, _ := readAnswer(answer, query, question)
		for _, r := range readCAA(data) {
			if strings.ContainsAny(r.tag+r.value, "\n\x1b") {
				t.Errorf("unclean record %+v", r)
			}
		}
	})
}
