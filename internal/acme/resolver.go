package acme

import (
	"context"
	"encoding/binary"
	"errors"
	"fmt"
	"io"
	"math/rand/v2"
	"net"
	"os"
	"strings"
	"time"

	"golang.org/x/net/dns/dnsmessage"
)

const (
	// lookupLimit is for one question, at whatever server.
	lookupLimit   = 4 * time.Second
	serverTimeout = 2 * time.Second
	maxServers    = 3
	// maxDatagram is above what servers send when they are not asked for more.
	maxDatagram = 4 << 10
	// maxRecords is how many records of an answer are looked at.
	maxRecords = 100
	// maxResolvConf is how much of /etc/resolv.conf is read.
	maxResolvConf = 64 << 10
)

// resolver asks the name servers of this container by itself: the standard library asks for no CAA records, and cannot tell a name
// server that fails from one that is away.
type resolver struct {
	// servers are ADDRESS:PORT; without any, those of /etc/resolv.conf are asked.
	servers []string
}

// dnsError is an answer that denies what was asked for.
type dnsError struct {
	name string
	code dnsmessage.RCode
}

// codes are the names that RFC 1035 §4.1.1 and people know them by.
var codes = map[dnsmessage.RCode]string{
	dnsmessage.RCodeFormatError: "FORMERR", dnsmessage.RCodeServerFailure: "SERVFAIL", dnsmessage.RCodeNameError: "NXDOMAIN",
	dnsmessage.RCodeNotImplemented: "NOTIMP", dnsmessage.RCodeRefused: "REFUSED",
}

func (e *dnsError) Error() string {
	if code, ok := codes[e.code]; ok {
		return "the name server answers " + code + " for " + e.name
	}
	return fmt.Sprintf("the name server answers code %d for %s", e.code, e.name)
}

// isCode reports whether a lookup ended with an answer of a code.
func isCode(err error, code dnsmessage.RCode) bool {
	denied, ok := errors.AsType[*dnsError](err)
	return ok && denied.code == code
}

// lookup returns the data of a name's records of a type; none and no error if it has others only.
func (r resolver) lookup(ctx context.Context, name string, kind dnsmessage.Type) ([][]byte, error) {
	ctx, cancel := context.WithTimeout(ctx, lookupLimit)
	defer cancel()
	query, question, err := newQuery(name, kind)
	if err != nil {
		return nil, err
	}
	servers := r.servers
	if servers == nil {
		servers = configuredServers()
	}
	for _, server := range servers[:min(len(servers), maxServers)] {
		var data [][]byte
		data, err = exchange(ctx, server, query, question)
		if err == nil || isCode(err, dnsmessage.RCodeNameError) {
			return data, err
		}
	}
	return nil, err
}

func newQuery(name string, kind dnsmessage.Type) ([]byte, dnsmessage.Question, error) {
	parsed, err := dnsmessage.NewName(strings.TrimSuffix(name, ".") + ".")
	if err != nil {
		return nil, dnsmessage.Question{}, fmt.Errorf("%q is no name: %w", clean(name, 100), err)
	}
	question := dnsmessage.Question{Name: parsed, Type: kind, Class: dnsmessage.ClassINET}
	message := dnsmessage.Message{
		Header:    dnsmessage.Header{ID: uint16(rand.Uint32()), RecursionDesired: true},
		Questions: []dnsmessage.Question{question},
	}
	query, err := message.Pack()
	return query, question, err
}

// exchange asks one server, over TCP again if the answer does not fit in a datagram.
func exchange(ctx context.Context, server string, query []byte, question dnsmessage.Question) ([][]byte, error) {
	data, truncated, err := ask(ctx, "udp", server, query, question)
	if truncated {
		data, _, err = ask(ctx, "tcp", server, query, question)
	}
	return data, err
}

func ask(ctx context.Context, network, server string, query []byte, question dnsmessage.Question) (data [][]byte, truncated bool, err error) {
	ctx, cancel := context.WithTimeout(ctx, serverTimeout)
	defer cancel()
	conn, err := new(net.Dialer).DialContext(ctx, network, server)
	if err != nil {
		return nil, false, err
	}
	defer conn.Close()
	defer context.AfterFunc(ctx, func() { conn.SetDeadline(time.Unix(1, 0)) })()
	if network == "tcp" {
		return askStream(conn, query, question)
	}
	return askDatagram(conn, query, question)
}

// askDatagram passes over what is no answer to the question: anybody can send it.
func askDatagram(conn net.Conn, query []byte, question dnsmessage.Question) ([][]byte, bool, error) {
	if _, err := conn.Write(query); err != nil {
		return nil, false, err
	}
	buffer := make([]byte, maxDatagram)
	for {
		n, err := conn.Read(buffer)
		if err != nil {
			return nil, false, err
		}
		data, truncated, err := readAnswer(buffer[:n], query, question)
		if !errors.Is(err, errOtherAnswer) {
			return data, truncated, err
		}
	}
}

// askStream has the length before each message, RFC 1035 §4.2.2.
func askStream(conn net.Conn, query []byte, question dnsmessage.Question) ([][]byte, bool, error) {
	framed := binary.BigEndian.AppendUint16(nil, uint16(len(query)))
	if _, err := conn.Write(append(framed, query...)); err != nil {
		return nil, false, err
	}
	var length [2]byte
	if _, err := io.ReadFull(conn, length[:]); err != nil {
		return nil, false, err
	}
	answer := make([]byte, binary.BigEndian.Uint16(length[:]))
	if _, err := io.ReadFull(conn, answer); err != nil {
		return nil, false, err
	}
	return readAnswer(answer, query, question)
}

var errOtherAnswer = errors.New("the name server answers something else")

// readAnswer takes the data of all records of the wanted type: those of an alias stand under another name.
func readAnswer(answer, query []byte, question dnsmessage.Question) (data [][]byte, truncated bool, err error) {
	var parser dnsmessage.Parser
	header, err := parser.Start(answer)
	if err != nil || !header.Response || header.ID != binary.BigEndian.Uint16(query) {
		return nil, false, errOtherAnswer
	}
	asked, err := parser.Question()
	if err != nil || asked.Type != question.Type || !strings.EqualFold(asked.Name.String(), question.Name.String()) {
		return nil, false, errOtherAnswer
	}
	if header.RCode != dnsmessage.RCodeSuccess {
		return nil, false, &dnsError{strings.TrimSuffix(question.Name.String(), "."), header.RCode}
	}
	if header.Truncated {
		return nil, true, nil
	}
	if err := parser.SkipAllQuestions(); err != nil {
		return nil, false, fmt.Errorf("the name server's answer cannot be read: %w", err)
	}
	data, err = recordsOf(&parser, question.Type)
	if err != nil {
		return nil, false, fmt.Errorf("the name server's answer cannot be read: %w", err)
	}
	return data, false, nil
}

func recordsOf(parser *dnsmessage.Parser, kind dnsmessage.Type) ([][]byte, error) {
	var data [][]byte
	for range maxRecords {
		header, err := parser.AnswerHeader()
		if errors.Is(err, dnsmessage.ErrSectionDone) {
			return data, nil
		}
		if err != nil {
			return nil, err
		}
		if header.Type != kind || header.Class != dnsmessage.ClassINET {
			if err := parser.SkipAnswer(); err != nil {
				return nil, err
			}
			continue
		}
		record, err := parser.UnknownResource()
		if err != nil {
			return nil, err
		}
		data = append(data, record.Data)
	}
	return data, nil
}

// configuredServers are those of /etc/resolv.conf; under Docker that is the engine's own at 127.0.0.11.
func configuredServers() []string {
	file, err := os.Open("/etc/resolv.conf")
	if err != nil {
		return []string{"127.0.0.1:53"} // as resolv.conf(5) has it
	}
	defer file.Close()
	text, _ := io.ReadAll(io.LimitReader(file, maxResolvConf))
	return serversIn(string(text))
}

func serversIn(text string) []string {
	var servers []string
	for line := range strings.Lines(text) {
		if words := strings.Fields(line); len(words) > 1 && words[0] == "nameserver" {
			servers = append(servers, net.JoinHostPort(words[1], "53"))
		}
	}
	if len(servers) == 0 {
		return []string{"127.0.0.1:53"}
	}
	return servers
}
