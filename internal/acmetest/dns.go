package acmetest

import (
	"net"
	"strings"
	"sync"

	"github.com/miekg/dns"
)

// nameserver answers Pebble, which asks over TCP only.
type nameserver struct {
	listener net.Listener
	server   *dns.Server

	mu    sync.Mutex
	names map[string]string
}

func startNameserver() (*nameserver, error) {
	listener, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		return nil, err
	}
	n := &nameserver{listener: listener, names: map[string]string{}}
	n.server = &dns.Server{Listener: listener, Handler: dns.HandlerFunc(n.answer)}
	go n.server.ActivateAndServe()
	return n, nil
}

func (n *nameserver) address() string { return n.listener.Addr().String() }

// close ends the server by its listener, which also works before ActivateAndServe has begun.
func (n *nameserver) close() { n.listener.Close() }

func (n *nameserver) set(name, address string) {
	n.mu.Lock()
	defer n.mu.Unlock()
	n.names[strings.ToLower(name)] = address
}

func (n *nameserver) lookup(name string) string {
	n.mu.Lock()
	defer n.mu.Unlock()
	if address, ok := n.names[strings.ToLower(strings.TrimSuffix(name, "."))]; ok {
		return address
	}
	return "127.0.0.1"
}

func (n *nameserver) answer(w dns.ResponseWriter, question *dns.Msg) {
	reply := new(dns.Msg).SetReply(question)
	for _, q := range question.Question {
		address := n.lookup(q.Name)
		if address == "" {
			reply.Rcode = dns.RcodeNameError
			continue
		}
		if record := recordOf(q, net.ParseIP(address)); record != nil {
			reply.Answer = append(reply.Answer, record)
		}
	}
	w.WriteMsg(reply)
}

func recordOf(q dns.Question, ip net.IP) dns.RR {
	header := dns.RR_Header{Name: q.Name, Rrtype: q.Qtype, Class: dns.ClassINET}
	v4 := ip.To4()
	switch {
	case q.Qtype == dns.TypeA && v4 != nil:
		return &dns.A{Hdr: header, A: v4}
	case q.Qtype == dns.TypeAAAA && v4 == nil:
		return &dns.AAAA{Hdr: header, AAAA: ip}
	}
	return nil
}
