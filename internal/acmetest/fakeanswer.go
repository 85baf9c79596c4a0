package acmetest

import (
	"bytes"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net/http"
	"strings"
)

// Problem is an error answer, RFC 7807 and RFC 8555 §6.7.
type Problem struct {
	// Status of the answer; 0 is 400.
	Status int
	// Type is one of RFC 8555 §6.7 such as rateLimited, or a whole URI.
	Type, Detail string
	// RetryAfter is the header; empty for none.
	RetryAfter string
}

func (p *Problem) Error() string { return p.Type + ": " + p.Detail }

func (p *Problem) status() int {
	if p.Status == 0 {
		return http.StatusBadRequest
	}
	return p.Status
}

func (p *Problem) document() map[string]any {
	uri := p.Type
	if !strings.Contains(uri, ":") {
		uri = "urn:ietf:params:acme:error:" + uri
	}
	return map[string]any{"type": uri, "detail": p.Detail, "status": p.status()}
}

func (p *Problem) response() *http.Response {
	resp := object(p.status(), p.document())
	resp.Header.Set("Content-Type", "application/problem+json")
	if p.RetryAfter != "" {
		resp.Header.Set("Retry-After", p.RetryAfter)
	}
	return resp
}

// ReturnError is what Before returns to fail a request: a *Problem becomes the CA's answer, any other error is the connection's.
func ReturnError(err error) *http.Response {
	if problem, ok := errors.AsType[*Problem](err); ok {
		return problem.response()
	}
	return &http.Response{Body: lostAnswer{http.NoBody, err}}
}

// lostAnswer marks an answer that never comes.
type lostAnswer struct {
	io.ReadCloser
	err error
}

// response is an answer with a body.
func response(status int, contentType string, body []byte) *http.Response {
	header := http.Header{}
	if contentType != "" {
		header.Set("Content-Type", contentType)
	}
	return &http.Response{
		Status: fmt.Sprintf("%d %s", status, http.StatusText(status)), StatusCode: status,
		Proto: "HTTP/1.1", ProtoMajor: 1, ProtoMinor: 1,
		Header: header, Body: io.NopCloser(bytes.NewReader(body)), ContentLength: int64(len(body)),
	}
}

// object is an answer in JSON.
func object(status int, v any) *http.Response {
	data, err := json.Marshal(v)
	if err != nil {
		panic(err) // a fault of this package
	}
	return response(status, "application/json", data)
}

func malformed(format string, args ...any) error {
	return &Problem{Status: http.StatusBadRequest, Type: "malformed", Detail: fmt.Sprintf(format, args...)}
}

func unauthorized(detail string) error {
	return &Problem{Status: http.StatusForbidden, Type: "unauthorized", Detail: detail}
}

func notFound(what string) error {
	return &Problem{Status: http.StatusNotFound, Type: "malformed", Detail: "there is no " + what}
}
