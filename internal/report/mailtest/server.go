// Package mailtest is a mail server for tests: it takes mail by SMTP (RFC 5321) on loopback and keeps it. It knows no TLS, and no
// authentication but AUTH PLAIN, which it takes whatever is said.
package mailtest

import (
	"bufio"
	"fmt"
	"io"
	"net"
	"net/mail"
	"net/textproto"
	"strings"
	"sync"
)

// Server is a mail server.
type Server struct {
	// Refuse answers a recipient with this line instead of taking him, "" takes him; DropAtQuit ends connections without a farewell. Both are set
	// before the first mail.
	Refuse     func(recipient string) string
	DropAtQuit bool

	listener net.Listener
	mu       sync.Mutex
	mails    []Mail
}

// Mail is one that was taken.
type Mail struct {
	From, To string
	Header   mail.Header
	Body     string
}

// Start listens at an address of loopback, "" being any port.
func Start(address string) (*Server, error) {
	if address == "" {
		address = "127.0.0.1:0"
	}
	listener, err := net.Listen("tcp", address)
	if err != nil {
		return nil, err
	}
	s := &Server{listener: listener}
	go func() {
		for {
			conn, err := listener.Accept()
			if err != nil {
				return
			}
			go s.serve(conn)
		}
	}()
	return s, nil
}

func (s *Server) Address() string { return s.listener.Addr().String() }
func (s *Server) Close() error    { return s.listener.Close() }

// Mails are those that were taken, oldest first.
func (s *Server) Mails() []Mail {
	s.mu.Lock()
	defer s.mu.Unlock()
	return append([]Mail{}, s.mails...)
}

func (s *Server) serve(conn net.Conn) {
	defer conn.Close()
	in := textproto.NewReader(bufio.NewReader(conn))
	say := func(line string) { fmt.Fprintf(conn, "%s\r\n", line) }
	say("220 mail.example.test ESMTP")
	var from, to string
	for {
		line, err := in.ReadLine()
		if err != nil {
			return
		}
		verb, rest, _ := strings.Cut(line, " ")
		switch strings.ToUpper(verb) {
		case "EHLO", "HELO":
			say("250-mail.example.test\r\n250-AUTH PLAIN\r\n250 8BITMIME")
		case "AUTH":
			say("235 2.7.0 welcome")
		case "MAIL":
			from = address(rest)
			say("250 2.1.0 ok")
		case "RCPT":
			to = address(rest)
			if s.Refuse != nil {
				if refusal := s.Refuse(to); refusal != "" {
					say(refusal)
					continue
				}
			}
			say("250 2.1.5 ok")
		case "DATA":
			say("354 go on")
			message, err := mail.ReadMessage(in.DotReader())
			if err != nil {
				say("554 5.6.0 " + err.Error())
				continue
			}
			body, _ := io.ReadAll(message.Body)
			s.mu.Lock()
			s.mails = append(s.mails, Mail{from, to, message.Header, string(body)})
			s.mu.Unlock()
			say("250 2.0.0 taken")
		case "QUIT":
			if !s.DropAtQuit {
				say("221 2.0.0 farewell")
			}
			return
		default:
			say("502 5.5.2 what?")
		}
	}
}

// address is what stands in the angle brackets of "FROM:<a@b> BODY=8BITMIME".
func address(text string) string {
	_, text, _ = strings.Cut(text, "<")
	text, _, _ = strings.Cut(text, ">")
	return text
}
