package acme

import (
	"bytes"
	"context"
	"crypto"
	"crypto/ecdsa"
	"crypto/rand"
	"crypto/rsa"
	_ "crypto/sha512" // for accounts with P-384 and P-521 keys
	"encoding/asn1"
	"encoding/base64"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"math/big"
	"net/http"
	"net/url"

	xacme "golang.org/x/crypto/acme"
)

// maxURL is in bytes; those of CAs have some hundred.
const maxURL = 4 << 10

// post sends a signed request for which the library has no call, and repeats it by the same rules as the library's. The
// answer's body is in memory. Any status but 200 and 201 is an error, an *xacme.Error if the CA said what is wrong. A nil payload is
// a POST-as-GET: "the payload of the JWS MUST be a zero-length octet string", RFC 8555 §6.3.
func (c *client) post(ctx context.Context, url string, payload any) (*http.Response, error) {
	for n := 1; ; n++ {
		resp, err := c.postOnce(ctx, url, payload)
		if err != nil {
			return nil, err
		}
		if resp.StatusCode == http.StatusOK || resp.StatusCode == http.StatusCreated {
			return resp, nil
		}
		problem := problemOf(resp)
		pause := c.backoff(n, resp)
		if pause <= 0 || resp.StatusCode < 500 && !isProblem(problem, "badNonce") {
			return nil, problem
		}
		if err := sleep(ctx, pause); err != nil {
			return nil, err
		}
	}
}

func (c *client) postOnce(ctx context.Context, url string, payload any) (*http.Response, error) {
	nonce, err := c.nonce(ctx)
	if err != nil {
		return nil, err
	}
	body, err := sign(c.account.Key, protected{KID: c.account.URI, Nonce: nonce, URL: url}, payload)
	if err != nil {
		return nil, err
	}
	req, err := http.NewRequestWithContext(ctx, http.MethodPost, url, bytes.NewReader(body))
	if err != nil {
		return nil, err
	}
	req.Header.Set("Content-Type", "application/jose+json")
	req.Header.Set("User-Agent", c.config.UserAgent)
	resp, err := c.http.Do(req)
	if err != nil {
		return nil, err
	}
	// What is in memory can still be read. Until it is closed, net/http has a goroutine watch over the request's timeout.
	return resp, resp.Body.Close()
}

// ask sends a request that nobody signs. The answer's body is in memory, and can be read though it is closed.
func (c *client) ask(ctx context.Context, method, url string) (*http.Response, error) {
	req, err := http.NewRequestWithContext(ctx, method, url, nil)
	if err != nil {
		return nil, err
	}
	req.Header.Set("User-Agent", c.config.UserAgent)
	resp, err := c.http.Do(req)
	if err != nil {
		return nil, err
	}
	return resp, resp.Body.Close()
}

// nonce is one of the pool, or a new one if that is empty, see nonces.
func (c *client) nonce(ctx context.Context) (string, error) {
	resp, err := c.ask(ctx, http.MethodHead, c.dir.NonceURL)
	if err != nil {
		return "", err
	}
	if nonce := resp.Header.Get(nonceHeader); nonce != "" {
		return nonce, nil
	}
	if resp.StatusCode >= 300 {
		return "", problemOf(resp)
	}
	return "", errors.New("the CA gave no nonce")
}

// problemOf reads an error answer, RFC 8555 §6.7, into the library's type, so that there is one kind of them.
func problemOf(resp *http.Response) error {
	body, _ := io.ReadAll(resp.Body) // cannot fail: it is in memory
	problem := struct {
		Type, Detail, Instance string
		Subproblems            []xacme.Subproblem
	}{}
	if err := json.Unmarshal(body, &problem); err != nil {
		problem.Detail = string(body)
	}
	if problem.Detail == "" {
		problem.Detail = resp.Status
	}
	return &xacme.Error{
		StatusCode: resp.StatusCode, ProblemType: problem.Type, Detail: problem.Detail, Instance: problem.Instance,
		Header: resp.Header, Subproblems: problem.Subproblems,
	}
}

// askable reports whether a request can go to a URL that a CA has given and that is kept: one that cannot be asked would be in the
// way for ever.
func askable(text string) bool {
	link, err := url.Parse(text)
	return err == nil && link.Scheme == "https" && link.Hostname() != "" && len(text) <= maxURL
}

// protected is the JWS header of a request by an account, RFC 8555 §6.2.
type protected struct {
	Alg   string `json:"alg"`
	KID   string `json:"kid"`
	Nonce string `json:"nonce"`
	URL   string `json:"url"`
}

// sign makes the flattened JWS of a payload, RFC 7515 §7.2.2.
func sign(key crypto.Signer, header protected, payload any) ([]byte, error) {
	alg, hash := algorithm(key.Public())
	if alg == "" {
		return nil, fmt.Errorf("the account's key is a %T, which ACME does not know", key)
	}
	header.Alg = alg
	head, err := encodeSegment(header)
	if err != nil {
		return nil, err
	}
	var body string
	if payload != nil {
		if body, err = encodeSegment(payload); err != nil {
			return nil, err
		}
	}
	signature, err := crypto.SignMessage(key, rand.Reader, []byte(head+"."+body), hash)
	if err != nil {
		return nil, err
	}
	if pub, ok := key.Public().(*ecdsa.PublicKey); ok {
		if signature, err = fixedWidth(signature, pub); err != nil {
			return nil, err
		}
	}
	return json.Marshal(map[string]string{
		"protected": head, "payload": body, "signature": base64.RawURLEncoding.EncodeToString(signature),
	})
}

func encodeSegment(v any) (string, error) {
	data, err := json.Marshal(v)
	return base64.RawURLEncoding.EncodeToString(data), err
}

// algorithm is a key's in JWS, RFC 7518 §3.1; accounts that certbot made have RSA keys.
func algorithm(pub crypto.PublicKey) (string, crypto.Hash) {
	switch pub := pub.(type) {
	case *rsa.PublicKey:
		return "RS256", crypto.SHA256
	case *ecdsa.PublicKey:
		switch pub.Curve.Params().BitSize {
		case 256:
			return "ES256", crypto.SHA256
		case 384:
			return "ES384", crypto.SHA384
		case 521:
			return "ES512", crypto.SHA512
		}
	}
	return "", 0
}

// fixedWidth turns an ASN.1 signature into the "octet sequences R and S" of full length that RFC 7518 §3.4 wants.
func fixedWidth(signature []byte, pub *ecdsa.PublicKey) ([]byte, error) {
	var rs struct{ R, S *big.Int }
	if _, err := asn1.Unmarshal(signature, &rs); err != nil {
		return nil, err
	}
	size := (pub.Curve.Params().BitSize + 7) / 8
	out := make([]byte, 2*size)
	rs.R.FillBytes(out[:size])
	rs.S.FillBytes(out[size:])
	return out, nil
}
