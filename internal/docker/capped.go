package docker

import (
	"bytes"
	"fmt"
	"io"
	"net/http"
	"strings"
)

// maxAnswer is the most that is read of one answer, 8 MiB: a list of a thousand containers has about 2. Of the stream of events, which
// never ends, it is the most of one line.
const maxAnswer = 8 << 20

// maxParts is how many commas an answer in JSON may have: a list of a thousand containers has about 60,000. What is made of a part of
// three bytes takes more than a kilobyte.
const maxParts = 1 << 17

// capped ends answers of more than maxAnswer with an error, and those that no engine gives at once.
type capped struct{ http.RoundTripper }

func (c capped) RoundTrip(req *http.Request) (*http.Response, error) {
	resp, err := c.RoundTripper.RoundTrip(req)
	if err != nil {
		return nil, err
	}
	if resp.StatusCode == http.StatusMethodNotAllowed { // an engine says 404; the library forgets which it was
		resp.StatusCode = http.StatusForbidden
	}
	if err := stranger(resp); err != nil {
		resp.Body.Close()
		return nil, err
	}
	events := strings.HasSuffix(req.URL.Path, "/events")
	inJSON := strings.HasPrefix(resp.Header.Get("Content-Type"), "application/json")
	resp.Body = &cappedBody{ReadCloser: resp.Body, left: maxAnswer, parts: maxParts, lines: events, counted: inJSON && !events}
	return resp, nil
}

type cappedBody struct {
	io.ReadCloser
	left, parts int
	lines       bool // left is of the line under way
	counted     bool // parts matter
}

func (b *cappedBody) Read(p []byte) (int, error) {
	switch {
	case b.left == 0:
		return 0, fmt.Errorf("the engine's answer is larger than %d MiB", maxAnswer>>20)
	case b.parts < 0:
		return 0, fmt.Errorf("the engine's answer has more than %d parts", maxParts)
	}
	n, err := b.ReadCloser.Read(p[:min(len(p), b.left)])
	b.left -= n
	if b.counted {
		b.parts -= bytes.Count(p[:n], []byte{','})
	}
	// A blank line is none: it is kept until something follows.
	if i := bytes.LastIndexByte(p[:n], '\n'); b.lines && i >= 0 && len(bytes.TrimSpace(p[:i])) > 0 {
		b.left = maxAnswer - (n - i - 1)
	}
	return n, err
}
