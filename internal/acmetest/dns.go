package acmetest

import (
	"cmp"
	"fmt"
	"net"
	"strings"
	"sync"

	"github.com/miekg/dns"
)

// CAA is a record of RFC 8659; without a tag it is "issue".
type CAA struct {
	Critical   bool
	Tag, Value string
}

// nameserver answers Pebble, which asks over TCP only, and whoever else wants to see the same names.
type nameserver struct {
	listener net.Listener
	packets  net.PacketConn

	mu    sync.Mutex
	names map[string][]string
	caa   map[string][]CAA
	fails map[string]bool
}

func startNameserver() (*nameserver, error) {
	listener, packets, err := listenBoth()
	if err != nil {
		return nil, err
	}
	n := &nameserver{listener: listener, packets: packets, names: map[string][]string{}, caa: map[string][]CAA{}, fails: map[string]bool{}}
	go (&dns.Server{Listener: listener, Handler: n.handler(dns.MaxMsgSize)}).ActivateAndServe()
	go (&dns.Server{PacketConn: packets, Handler: n.handler(dns.MinMsgSize)}).ActivateAndServe()
	return n, nil
}

// listenBoth finds a port that is free for TCP and for UDP.
func listenBoth() (listener net.Listener, packets net.PacketConn, err error) {
	for range 10 {
		if listener, err = net.Listen("tcp", "127.0.0.1:0"); err != nil {
			return nil, nil, err
		}
		if packets, err = net.ListenPacket("udp", listener.Addr().String()); err == nil {
			return listener, packets, nil
		}
		listener.Close()
	}
	return nil, nil, fmt.Errorf("find a port for UDP and TCP: %w", err)
}

func (n *nameserver) address() string { return n.listener.Addr().String() }

// close ends the servers by their sockets, which also works before ActivateAndServe has begun.
func (n *nameserver) close() {
	n.listener.Close()
	n.packets.Close()
}

func (n *nameserver) set(name string, addresses []string) {
	n.mu.Lock()
	defer n.mu.Unlock()
	n.names[strings.ToLower(name)] = addresses
}

func (n *nameserver) setCAA(name string, records []CAA) {
	n.mu.Lock()
	defer n.mu.Unlock()
	n.caa[strings.ToLower(name)] = records
}

func (n *nameserver) fail(name, kind string) {
	n.mu.Lock()
	defer n.mu.Unlock()
	n.fails[strings.ToLower(name)+" "+kind] = true
}

func (n *nameserver) handler(size int) dns.Handler {
	return dns.HandlerFunc(func(w dns.ResponseWriter, question *dns.Msg) {
		reply := new(dns.Msg).SetReply(question)
		for _, q := range question.Question {
			n.answer(reply, q)
		}
		reply.Truncate(size)
		w.WriteMsg(reply)
	})
}

func (n *nameserver) answer(reply *dns.Msg, q dns.Question) {
	n.mu.Lock()
	defer n.mu.Unlock()
	name := strings.ToLower(strings.TrimSuffix(q.Name, "."))
	addresses, set := n.names[name]
	if !set {
		addresses = []string{"127.0.0.1"}
	}
	if n.fails[name+" "+dns.TypeToString[q.Qtype]] {
		reply.Rcode = dns.RcodeServerFailure
		return
	}
	for _, address := range addresses {
		if address == "" {
			reply.Rcode = dns.RcodeNameError
		} else if record := recordOf(q, net.ParseIP(address)); record != nil {
			reply.Answer = append(reply.Answer, record)
		}
	}
	if q.Qtype != dns.TypeCAA {
		return
	}
	for _, record := range n.caa[name] {
		reply.Answer = append(reply.Answer, record.record(q))
	}
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

func (c CAA) record(q dns.Question) dns.RR {
	record := &dns.CAA{Hdr: dns.RR_Header{Name: q.Name, Rrtype: q.Qtype, Class: dns.ClassINET}, Tag: cmp.Or(c.Tag, "issue"), Value: c.Value}
	if c.Critical {
		record.Flag = 0x80
	}
	return record
}
