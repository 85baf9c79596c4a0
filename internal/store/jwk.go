package store

import (
	"crypto"
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/md5"
	"crypto/rsa"
	"crypto/x509"
	"encoding/base64"
	"encoding/hex"
	"encoding/json"
	"encoding/pem"
	"errors"
	"fmt"
	"math/big"
	"strings"
)

// jwk is a private key as certbot writes it, RFC 7517, 7518 §6. Numbers are big-endian in base64url.
type jwk struct {
	N   string `json:"n,omitempty"`
	E   string `json:"e,omitempty"`
	D   string `json:"d"`
	P   string `json:"p,omitempty"`
	Q   string `json:"q,omitempty"`
	DP  string `json:"dp,omitempty"`
	DQ  string `json:"dq,omitempty"`
	QI  string `json:"qi,omitempty"`
	Crv string `json:"crv,omitempty"`
	X   string `json:"x,omitempty"`
	Y   string `json:"y,omitempty"`
	Kty string `json:"kty"`
}

var curves = map[string]elliptic.Curve{"P-256": elliptic.P256(), "P-384": elliptic.P384(), "P-521": elliptic.P521()}

var errJWK = errors.New("the private key is damaged")

// parseJWK reads a private key and makes sure that its parts fit each other. Its errors never quote the data.
func parseJWK(data []byte) (crypto.Signer, error) {
	var j jwk
	if json.Unmarshal(data, &j) != nil {
		return nil, errJWK
	}
	switch j.Kty {
	case "RSA":
		return j.rsa()
	case "EC":
		return j.ec()
	}
	return nil, errors.New("the private key is neither RSA nor EC")
}

// maxRSA is the size in bits above which an RSA key is not computed with.
const maxRSA = 8192

func (j jwk) rsa() (crypto.Signer, error) {
	numbers := make([]*big.Int, 5)
	for i, text := range []string{j.N, j.E, j.D, j.P, j.Q} {
		raw, ok := decode(text)
		if !ok || len(raw) > maxRSA/8 {
			return nil, errJWK
		}
		numbers[i] = new(big.Int).SetBytes(raw)
	}
	if numbers[1].BitLen() > 31 {
		return nil, errJWK
	}
	key := &rsa.PrivateKey{PublicKey: rsa.PublicKey{N: numbers[0], E: int(numbers[1].Int64())}, D: numbers[2], Primes: numbers[3:]}
	if key.Validate() != nil {
		return nil, errJWK
	}
	key.Precompute()
	return key, nil
}

func (j jwk) ec() (crypto.Signer, error) {
	curve, ok := curves[j.Crv]
	if !ok {
		return nil, errors.New("the private key is on a curve that ACME does not use")
	}
	size := (curve.Params().BitSize + 7) / 8
	d, okD := decodePadded(j.D, size)
	x, okX := decodePadded(j.X, size)
	y, okY := decodePadded(j.Y, size)
	if !okD || !okX || !okY {
		return nil, errJWK
	}
	key, err := ecdsa.ParseRawPrivateKey(curve, d)
	if err != nil {
		return nil, errJWK
	}
	public, err := ecdsa.ParseUncompressedPublicKey(curve, append(append([]byte{4}, x...), y...))
	if err != nil || !key.PublicKey.Equal(public) {
		return nil, errJWK
	}
	return key, nil
}

func decode(text string) ([]byte, bool) {
	raw, err := base64.RawURLEncoding.DecodeString(strings.TrimRight(text, "="))
	return raw, err == nil && len(raw) > 0
}

// decodePadded fills up with zeros in front, which some writers leave out.
func decodePadded(text string, size int) ([]byte, bool) {
	raw, ok := decode(text)
	if !ok || len(raw) > size {
		return nil, false
	}
	return append(make([]byte, size-len(raw)), raw...), true
}

// encodeJWK writes a private key as certbot reads it.
func encodeJWK(key crypto.Signer) ([]byte, error) {
	encode := base64.RawURLEncoding.EncodeToString
	switch k := key.(type) {
	case *rsa.PrivateKey:
		if len(k.Primes) != 2 {
			return nil, errors.New("certbot reads RSA keys of two primes only")
		}
		k.Precompute()
		return json.Marshal(jwk{Kty: "RSA", N: encode(k.N.Bytes()), E: encode(big.NewInt(int64(k.E)).Bytes()), D: encode(k.D.Bytes()),
			P: encode(k.Primes[0].Bytes()), Q: encode(k.Primes[1].Bytes()),
			DP: encode(k.Precomputed.Dp.Bytes()), DQ: encode(k.Precomputed.Dq.Bytes()), QI: encode(k.Precomputed.Qinv.Bytes())})
	case *ecdsa.PrivateKey:
		d, errD := k.Bytes()
		point, errP := k.PublicKey.Bytes() // 4, X, Y
		if err := errors.Join(errD, errP); err != nil {
			return nil, errJWK
		}
		half := (len(point) - 1) / 2
		return json.Marshal(jwk{Kty: "EC", Crv: k.Params().Name, X: encode(point[1 : 1+half]), Y: encode(point[1+half:]), D: encode(d)})
	}
	return nil, fmt.Errorf("certbot reads no %T", key)
}

// certbotID is the name that certbot gives an account: the MD5 of its public key's PEM.
func certbotID(key crypto.Signer) (string, error) {
	der, err := x509.MarshalPKIXPublicKey(key.Public())
	if err != nil {
		return "", fmt.Errorf("encode the account's public key: %w", err)
	}
	sum := md5.Sum(pem.EncodeToMemory(&pem.Block{Type: "PUBLIC KEY", Bytes: der}))
	return hex.EncodeToString(sum[:]), nil
}
