package acmetest

import (
	"bytes"
	"crypto"
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rsa"
	"crypto/sha256"
	_ "crypto/sha512" // ES384 and ES512
	"crypto/x509"
	"encoding/base64"
	"encoding/json"
	"errors"
	"fmt"
	"math/big"
	"net/http"
)

// signed is a request whose signature holds.
type signed struct {
	// account is nil where the key itself signs: newAccount, and revokeCert with the certificate's key.
	account *fakeAccount
	key     crypto.PublicKey
	// thumbprint is of RFC 7638; only where the key stands in the request.
	thumbprint string
	url        string
	// payload is empty for a POST-as-GET.
	payload []byte
}

// into reads the payload. Fields that are not known are refused, as Pebble does when it is strict.
func (s *signed) into(v any) error {
	decoder := json.NewDecoder(bytes.NewReader(s.payload))
	decoder.DisallowUnknownFields()
	if err := decoder.Decode(v); err != nil {
		return malformed("the payload cannot be read: %v", err)
	}
	return nil
}

// asGet is "a POST request with a JWS body [whose] payload […] MUST be a zero-length octet string", RFC 8555 §6.3.
func (s *signed) asGet() error {
	if len(s.payload) > 0 {
		return malformed("a POST-as-GET has no payload")
	}
	return nil
}

// protectedHeader is RFC 8555 §6.2's.
type protectedHeader struct {
	Alg   string
	Nonce string
	URL   string
	KID   string
	JWK   *jwk
}

// verify checks what RFC 8555 §6 asks of every POST. The nonce is used up by the first request with a readable header.
func (f *Fake) verify(kind string, req *http.Request, body []byte) (*signed, error) {
	if got := req.Header.Get("Content-Type"); got != "application/jose+json" {
		return nil, &Problem{Status: http.StatusUnsupportedMediaType, Type: "malformed", Detail: "Content-Type is " + got}
	}
	var jws struct{ Protected, Payload, Signature string }
	decoder := json.NewDecoder(bytes.NewReader(body))
	decoder.DisallowUnknownFields() // "The JWS Unprotected Header MUST NOT be used", and one signature only
	if err := decoder.Decode(&jws); err != nil {
		return nil, malformed("the JWS cannot be read: %v", err)
	}
	var head protectedHeader
	if err := decodeSegment(jws.Protected, &head); err != nil {
		return nil, malformed("the protected header cannot be read: %v", err)
	}
	if !f.useNonce(head.Nonce) {
		return nil, &Problem{Type: "badNonce", Detail: "unknown or used nonce " + head.Nonce}
	}
	if head.URL != req.URL.String() {
		return nil, unauthorized("signed for " + head.URL + ", sent to " + req.URL.String())
	}
	s, err := f.signer(kind, head)
	if err != nil {
		return nil, err
	}
	signature, err := base64.RawURLEncoding.DecodeString(jws.Signature)
	if err != nil {
		return nil, malformed("the signature cannot be read: %v", err)
	}
	if err := checkSignature(s.key, head.Alg, []byte(jws.Protected+"."+jws.Payload), signature); err != nil {
		return nil, err
	}
	s.url = head.URL
	if s.payload, err = base64.RawURLEncoding.DecodeString(jws.Payload); err != nil {
		return nil, malformed("the payload cannot be read: %v", err)
	}
	return s, nil
}

// signer finds who signs: "For newAccount requests, and for revokeCert requests authenticated by a certificate key, there MUST be a
// "jwk" field. […] For all other requests […] there MUST be a "kid" field." RFC 8555 §6.2
func (f *Fake) signer(kind string, head protectedHeader) (*signed, error) {
	switch {
	case (head.JWK == nil) == (head.KID == ""):
		return nil, malformed("want either jwk or kid")
	case head.JWK != nil && kind != "newAccount" && kind != "revokeCert", head.KID != "" && kind == "newAccount":
		return nil, malformed("%s is signed the wrong way", kind)
	case head.JWK != nil:
		key, err := head.JWK.key()
		if err != nil {
			return nil, &Problem{Type: "badPublicKey", Detail: err.Error()}
		}
		return &signed{key: key, thumbprint: head.JWK.thumbprint()}, nil
	}
	f.mu.Lock()
	defer f.mu.Unlock()
	account := f.accounts[head.KID]
	if account == nil {
		return nil, &Problem{Type: "accountDoesNotExist", Detail: "no account " + head.KID}
	}
	if account.status != "valid" {
		return nil, unauthorized("the account is " + account.status)
	}
	return &signed{account: account, key: account.key}, nil
}

func (f *Fake) useNonce(nonce string) bool {
	f.mu.Lock()
	defer f.mu.Unlock()
	known := f.nonces[nonce]
	delete(f.nonces, nonce)
	return known
}

func decodeSegment(segment string, v any) error {
	data, err := base64.RawURLEncoding.DecodeString(segment)
	if err != nil {
		return err
	}
	return json.Unmarshal(data, v)
}

// curves of RFC 7518 §3.1, with what their signatures are hashed with.
var curves = map[string]struct {
	curve elliptic.Curve
	alg   string
	hash  crypto.Hash
}{
	"P-256": {elliptic.P256(), "ES256", crypto.SHA256},
	"P-384": {elliptic.P384(), "ES384", crypto.SHA384},
	"P-521": {elliptic.P521(), "ES512", crypto.SHA512},
}

// checkSignature knows the algorithms of public CAs; "none" and those with a shared key are no signatures.
func checkSignature(key crypto.PublicKey, alg string, message, signature []byte) error {
	switch key := key.(type) {
	case *rsa.PublicKey:
		if alg != "RS256" {
			return &Problem{Type: "badSignatureAlgorithm", Detail: alg + " with a key of RSA"}
		}
		digest := sha256.Sum256(message)
		if rsa.VerifyPKCS1v15(key, crypto.SHA256, digest[:], signature) != nil {
			return malformed("the signature is wrong")
		}
	case *ecdsa.PublicKey:
		known := curves[key.Params().Name]
		if alg != known.alg {
			return &Problem{Type: "badSignatureAlgorithm", Detail: alg + " with a key of " + key.Params().Name}
		}
		size := (key.Params().BitSize + 7) / 8
		if len(signature) != 2*size {
			return malformed("the signature has %d bytes, want %d", len(signature), 2*size)
		}
		digest := known.hash.New()
		digest.Write(message)
		r, s := new(big.Int).SetBytes(signature[:size]), new(big.Int).SetBytes(signature[size:])
		if !ecdsa.Verify(key, digest.Sum(nil), r, s) {
			return malformed("the signature is wrong")
		}
	}
	return nil
}

// jwk is a public key, RFC 7517.
type jwk struct {
	Kty, Crv, X, Y, N, E string
}

func (k *jwk) key() (crypto.PublicKey, error) {
	switch k.Kty {
	case "EC":
		return k.ecdsa()
	case "RSA":
		n, nerr := base64.RawURLEncoding.DecodeString(k.N)
		e, eerr := base64.RawURLEncoding.DecodeString(k.E)
		if err := errors.Join(nerr, eerr); err != nil {
			return nil, err
		}
		key := &rsa.PublicKey{N: new(big.Int).SetBytes(n), E: int(new(big.Int).SetBytes(e).Int64())}
		if bits := key.N.BitLen(); bits < 2048 || bits > 4096 {
			return nil, fmt.Errorf("a key of RSA with %d bits", bits)
		}
		return key, nil
	}
	return nil, fmt.Errorf("a key of kind %q", k.Kty)
}

func (k *jwk) ecdsa() (crypto.PublicKey, error) {
	known, ok := curves[k.Crv]
	if !ok {
		return nil, fmt.Errorf("curve %q", k.Crv)
	}
	x, xerr := base64.RawURLEncoding.DecodeString(k.X)
	y, yerr := base64.RawURLEncoding.DecodeString(k.Y)
	if err := errors.Join(xerr, yerr); err != nil {
		return nil, err
	}
	return ecdsa.ParseUncompressedPublicKey(known.curve, append(append([]byte{4}, x...), y...))
}

// thumbprint of RFC 7638: the required members, in the order of their names, without white space.
func (k *jwk) thumbprint() string {
	canonical := fmt.Sprintf(`{"crv":%q,"kty":"EC","x":%q,"y":%q}`, k.Crv, k.X, k.Y)
	if k.Kty == "RSA" {
		canonical = fmt.Sprintf(`{"e":%q,"kty":"RSA","n":%q}`, k.E, k.N)
	}
	sum := sha256.Sum256([]byte(canonical))
	return base64.RawURLEncoding.EncodeToString(sum[:])
}

// keyID tells keys apart.
func keyID(key crypto.PublicKey) string {
	der, err := x509.MarshalPKIXPublicKey(key)
	if err != nil {
		panic(err) // the kinds of keys that come here can be written
	}
	return string(der)
}
