package acme

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"syscall"
)

// sight is what came of one fetch of a probe file.
type sight struct {
	name string
	way  way
	// where is the URL and the way as a person knows them.
	where  string
	served bool
	// status is 0 where nothing answered, and err then says why.
	status int
	err    error
	// server is what it calls itself, in the last answer or redirect.
	server string
	// webroot is where the file was put.
	webroot string
	// led is the URL that redirects led to; "" if there were none.
	led string
	// start is how the answer begins, altered what stands around the file in it.
	start, altered string
}

// silence is why nothing answered.
type silence string

const (
	refused    silence = "refused"
	timedOut   silence = "timed out"
	noRoute    silence = "no route"
	barred     silence = "barred"
	unresolved silence = "unresolved"
	hungUp     silence = "hung up"
	broken     silence = "broken"
)

// answered reports whether a web server was there, be it only to lead elsewhere.
func (s sight) answered() bool {
	_, redirected := errors.AsType[*redirectError](s.err)
	return s.status != 0 || redirected || s.led != ""
}

func (s sight) silence() silence {
	if _, ok := errors.AsType[*barredError](s.err); ok {
		return barred
	}
	if _, ok := errors.AsType[*net.DNSError](s.err); ok {
		return unresolved
	}
	if errors.Is(s.err, syscall.ECONNREFUSED) {
		return refused
	}
	if errors.Is(s.err, syscall.ENETUNREACH) || errors.Is(s.err, syscall.EADDRNOTAVAIL) {
		return noRoute
	}
	if errors.Is(s.err, io.EOF) || errors.Is(s.err, io.ErrUnexpectedEOF) || errors.Is(s.err, syscall.ECONNRESET) {
		return hungUp
	}
	if timeout, ok := errors.AsType[net.Error](s.err); ok && timeout.Timeout() || errors.Is(s.err, context.DeadlineExceeded) {
		return timedOut
	}
	return broken
}

// text says what was seen.
func (s sight) text() string {
	text := s.outline()
	if s.status != 0 && !s.served && s.altered == "" && s.start != "" {
		text += fmt.Sprintf(", beginning %q", s.start)
	}
	return text
}

// hint says it in short and what to do.
func (s sight) hint() string {
	if !s.answered() && s.silence() == unresolved {
		return s.remedy()
	}
	return s.outline() + ": " + s.remedy()
}

// outline is the text without the first bytes of the answer.
func (s sight) outline() string {
	if redirect, ok := errors.AsType[*redirectError](s.err); ok {
		return s.where + " " + redirect.what + s.by()
	}
	after := ""
	if s.led != "" {
		after = " after a redirect to " + s.led
	}
	switch {
	case s.served:
		return s.where + " is served" + after
	case s.altered != "":
		return s.where + " is served" + after + ", but " + s.altered
	case s.status != 0:
		return fmt.Sprintf("%s answered %d%s%s", s.where, s.status, after, s.by())
	case s.led != "":
		return s.where + " redirects to " + s.led + ", which fails (" + s.cause() + ")"
	}
	return s.where + " did not answer (" + s.cause() + ")"
}

// by is who answered, as it calls itself.
func (s sight) by() string {
	if s.server == "" {
		return ""
	}
	return " (Server: " + s.server + ")"
}

func (s sight) cause() string {
	switch s.silence() {
	case hungUp:
		return "it closed the connection without an answer"
	case refused:
		return "connection refused"
	case timedOut:
		return "timeout"
	case noRoute:
		return "no route from here"
	}
	return clean(s.err.Error(), 200)
}

// remedy says what to do about it.
func (s sight) remedy() string {
	if s.altered != "" {
		return "the CA compares it to the byte: have the web server send the files of the webroot volume as they are"
	}
	if _, ok := errors.AsType[*redirectError](s.err); ok || s.led != "" && s.status != http.StatusUnauthorized {
		return "serve this path before any redirect" + s.in(redirecting)
	}
	if s.status != 0 {
		return s.remedyOfAnswer()
	}
	switch s.silence() {
	case unresolved:
		return s.name + " cannot be resolved from here: check its A and AAAA records"
	case barred:
		return "check the A and AAAA records of " + s.name
	case hungUp:
		return "nginx does so by `return 444`, where no server block has " + s.name + " in its server_name: add the name to the one that is meant; " +
			"else see whether that is a web server that speaks plain HTTP"
	case broken:
		return "is it a web server that speaks plain HTTP on port 80?"
	}
	return "is the web container running and listening on port 80?"
}

// remedyOfAnswer says what to do about an answer that is not the file.
func (s sight) remedyOfAnswer() string {
	switch {
	case s.status == http.StatusOK:
		return "another server block or an application answers for this name; serve /.well-known/acme-challenge/ from the webroot volume" + s.in(serving)
	case s.status == http.StatusNotFound:
		remedy := "mount the webroot volume in the web container too, and serve /.well-known/acme-challenge/ from it"
		return remedy + cmp.Or(s.in(serving), " in the server block that answers for this name, before any redirect")
	case s.status == http.StatusUnauthorized:
		return "take /.well-known/acme-challenge/ out of the password protection" + s.in(asking)
	case s.status == http.StatusForbidden:
		return "let the web server read the webroot volume, and allow /.well-known/acme-challenge/ for everyone" + s.in(allowing)
	case s.status >= 500:
		return "the web server passes the path on to something that fails; serve /.well-known/acme-challenge/ from the webroot volume" + s.in(serving)
	}
	return "serve /.well-known/acme-challenge/ from the webroot volume" + s.in(serving)
}
