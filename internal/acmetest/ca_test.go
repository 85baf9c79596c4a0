package acmetest

import (
	"context"
	"crypto/tls"
	"crypto/x509"
	"fmt"
	"io"
	"net"
	"net/http"
	"net/url"
	"strings"
	"testing"

	"github.com/miekg/dns"
)

func TestDirectoryIsServedUnderTheHostOfTheDemo(t *testing.T) {
	ca, err := Start(Config{Host: "ca.demo"})
	if err != nil {
		t.Fatal(err)
	}
	defer ca.Close()
	where, err := url.Parse(ca.Directory)
	if err != nil {
		t.Fatal(err)
	}
	roots := x509.NewCertPool()
	roots.AppendCertsFromPEM([]byte(ca.HTTPRoots))
	client := &http.Client{Transport: &http.Transport{
		TLSClientConfig: &tls.Config{RootCAs: roots},
		DialContext: func(ctx context.Context, network, _ string) (net.Conn, error) {
			return new(net.Dialer).DialContext(ctx, network, net.JoinHostPort("127.0.0.1", where.Port()))
		},
	}}
	resp, err := client.Get(ca.Directory)
	if err != nil {
		t.Fatal(err)
	}
	defer resp.Body.Close()
	body, err := io.ReadAll(resp.Body)
	if err != nil || !strings.Contains(string(body), "https://ca.demo:"+where.Port()+"/order-plz") {
		t.Errorf("directory %s (%v), want URLs under ca.demo", body, err)
	}
	if got := ca.Requests(); got["directory"] != 1 || ca.Total() != 1 {
		t.Errorf("requests %v, want one for the directory", got)
	}
}

func TestNamesResolveAsSet(t *testing.T) {
	ca, err := Start(Config{})
	if err != nil {
		t.Fatal(err)
	}
	defer ca.Close()
	ca.SetDNS("Gone.test", "")
	ca.SetDNS("six.test", "::1")
	ca.SetDNS("both.test", "192.0.2.1", "2001:db8::1")
	ca.SetDNS("bare.test")
	ca.SetCAA("caa.test", CAA{Value: "ca.test", Critical: true})
	ca.FailDNS("caa.test", "A")
	rows := []struct {
		name  string
		kind  uint16
		rcode int
		want  string
	}{
		{"any.test.", dns.TypeA, dns.RcodeSuccess, "127.0.0.1"},
		{"any.test.", dns.TypeAAAA, dns.RcodeSuccess, ""},
		{"gone.test.", dns.TypeA, dns.RcodeNameError, ""},
		{"six.test.", dns.TypeAAAA, dns.RcodeSuccess, "::1"},
		{"six.test.", dns.TypeA, dns.RcodeSuccess, ""},
		{"both.test.", dns.TypeA, dns.RcodeSuccess, "192.0.2.1"},
		{"both.test.", dns.TypeAAAA, dns.RcodeSuccess, "2001:db8::1"},
		{"bare.test.", dns.TypeA, dns.RcodeSuccess, ""},
		{"caa.test.", dns.TypeCAA, dns.RcodeSuccess, "128 issue ca.test"},
		{"caa.test.", dns.TypeA, dns.RcodeServerFailure, ""},
	}
	for _, network := range []string{"tcp", "udp"} {
		client := &dns.Client{Net: network}
		for _, row := range rows {
			reply, _, err := client.Exchange(new(dns.Msg).SetQuestion(row.name, row.kind), ca.Nameserver)
			if err != nil {
				t.Fatal(err)
			}
			var got string
			for _, record := range reply.Answer {
				switch record := record.(type) {
				case *dns.A:
					got = record.A.String()
				case *dns.AAAA:
					got = record.AAAA.String()
				case *dns.CAA:
					got = fmt.Sprint(record.Flag, " ", record.Tag, " ", record.Value)
				}
			}
			if reply.Rcode != row.rcode || got != row.want {
				t.Errorf("%s type %d over %s: code %d with %q, want code %d with %q", row.name, row.kind, network, reply.Rcode, got, row.rcode, row.want)
			}
		}
	}
}
