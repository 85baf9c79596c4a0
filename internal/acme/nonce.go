package acme

import (
	"encoding/json"
	"net/http"
	"sync"
)

const (
	nonceHeader = "Replay-Nonce"
	// maxNonces is above what the workers of several orders have in use at a time.
	maxNonces = 64
)

// nonces is the one pool for all requests to a CA, the library's and ours: "The server MUST include a Replay-Nonce header
// field in every successful response to a POST request and SHOULD provide it in error responses as well." RFC 8555 §6.5.
// It stands under the library: nonces are taken out of every answer, so that the library always believes to have none, and
// the newNonce request that it makes then is answered from here.
type nonces struct {
	mu    sync.Mutex
	fresh []string
}

// answer is the pool's own answer to a newNonce request (no other is a HEAD), nil when the CA must be asked.
func (n *nonces) answer(req *http.Request) *http.Response {
	if req.Method != http.MethodHead {
		return nil
	}
	nonce := n.take()
	if nonce == "" {
		return nil
	}
	return &http.Response{
		Status: "200 OK", StatusCode: http.StatusOK,
		Proto: "HTTP/1.1", ProtoMajor: 1, ProtoMinor: 1,
		Header:  http.Header{nonceHeader: {nonce}},
		Body:    http.NoBody,
		Request: req,
	}
}

// learn takes the nonce out of an answer. That of a newNonce request stays: whoever asked uses it.
func (n *nonces) learn(req *http.Request, resp *http.Response, body []byte) {
	if req.Method == http.MethodHead {
		return
	}
	if resp.StatusCode >= 400 && isBadNonce(body) {
		n.drop() // the others are likely as old as the refused one
	}
	if nonce := resp.Header.Get(nonceHeader); nonce != "" {
		n.put(nonce)
		resp.Header.Del(nonceHeader)
	}
}

// take returns the youngest nonce: CAs forget old ones.
func (n *nonces) take() string {
	n.mu.Lock()
	defer n.mu.Unlock()
	if len(n.fresh) == 0 {
		return ""
	}
	last := len(n.fresh) - 1
	nonce := n.fresh[last]
	n.fresh = n.fresh[:last]
	return nonce
}

func (n *nonces) put(nonce string) {
	n.mu.Lock()
	defer n.mu.Unlock()
	if len(n.fresh) == maxNonces {
		n.fresh = n.fresh[1:]
	}
	n.fresh = append(n.fresh, nonce)
}

func (n *nonces) drop() {
	n.mu.Lock()
	defer n.mu.Unlock()
	n.fresh = nil
}

func isBadNonce(body []byte) bool {
	var problem struct{ Type string }
	return json.Unmarshal(body, &problem) == nil && shortType(problem.Type) == "badnonce"
}
