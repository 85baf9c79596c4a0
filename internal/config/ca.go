package config

import (
	"encoding/base64"
	"net/url"
	"strings"

	"github.com/sidecert/sidecert/internal/cert"
)

// directories are the CAs that have a name here.
var directories = map[string]string{
	"letsencrypt":         cert.LetsEncrypt,
	"letsencrypt-staging": cert.LetsEncryptStaging,
	"zerossl":             cert.ZeroSSL,
	"google":              cert.Google,
	"google-staging":      cert.GoogleStaging,
}

// Directory is the URL of a CA that has a name here, else what it is given.
func Directory(ca string) string {
	if url, ok := directories[strings.ToLower(ca)]; ok {
		return url
	}
	return ca
}

// bindingFrom is where the CAs that ask for an external account binding give one out.
var bindingFrom = map[string]string{
	cert.ZeroSSL:       "https://app.zerossl.com/developer",
	cert.Google:        "https://cloud.google.com/certificate-manager/docs/public-ca-tutorial",
	cert.GoogleStaging: "https://cloud.google.com/certificate-manager/docs/public-ca-tutorial",
}

// generalCA is the CA of all certificates that name no other.
func (p *parser) generalCA(v vars, g general) cert.CA {
	ca := cert.CA{
		Directory: cert.LetsEncrypt,
		Email:     p.email(v.Email),
		AgreeTOS:  p.boolean("AGREE_TOS", v.AgreeTOS),
	}
	switch {
	case v.ACMECA != "":
		ca.Directory = p.directory("ACME_CA", v.ACMECA)
	case g.staging:
		ca.Directory = cert.LetsEncryptStaging
	}
	if v.ACMECA != "" && g.staging {
		p.wrong("STAGING", v.Staging, "stands beside ACME_CA, and the two are one setting; leave one out")
	}
	b := p.binding("", certVars{
		ACMEEABKID:         v.ACMEEABKID,
		ACMEEABHMACKey:     v.ACMEEABHMACKey,
		ACMEEABKIDFile:     v.ACMEEABKIDFile,
		ACMEEABHMACKeyFile: v.ACMEEABHMACKeyFile,
	})
	return p.bound(ca, b, g.roots)
}

// ownCA is the CA of one certificate. A binding belongs to the CA that gave it, so another CA does not inherit the general one.
func (p *parser) ownCA(own certVars, g general) cert.CA {
	b := p.binding(own.variable(""), own)
	if own.ACMECA == "" && !b.given {
		return g.spec.CA
	}
	ca := g.spec.CA
	if own.ACMECA != "" {
		ca.Directory = p.directory(own.variable("ACME_CA"), own.ACMECA)
	}
	if own.ACMECA != "" && g.staging {
		p.wrong(own.variable("ACME_CA"), "", "stands beside STAGING; leave one out")
	}
	if ca.Directory == g.spec.CA.Directory && !b.given {
		return g.spec.CA
	}
	return p.bound(ca, b, g.roots)
}

// directory is the URL of a CA's directory; "" where there is a mistake, so that nothing is held against its names.
func (p *parser) directory(variable, text string) string {
	if url := Directory(text); url != text {
		return url
	}
	shown := text
	if strings.Contains(text, "@") {
		shown = redacted // a password may stand before it
	}
	u, err := url.Parse(text)
	switch {
	case err != nil || u.Scheme == "" || u.Host == "" && u.Scheme != "http" && u.Scheme != "https":
		p.wrong(variable, shown, "is no CA; write letsencrypt, letsencrypt-staging, zerossl, google, google-staging or the https URL of a directory")
	case u.User != nil:
		p.wrong(variable, redacted, "holds a user or password; write the URL without, and ACME_EAB_KID and ACME_EAB_HMAC_KEY if the CA asks who you are")
	case u.Scheme == "http":
		p.wrong(variable, shown, "is not secure, and ACME asks for HTTPS; write the https URL, and ACME_CA_BUNDLE=FILE with the roots of a CA of your own")
	case u.Scheme != "https" || u.Hostname() == "" || u.Fragment != "" || len(text) > 2048:
		p.wrong(variable, shown, "is no URL of a directory; write e.g. https://ca.example.org/acme/acme/directory")
	default:
		u.Host = strings.ToLower(u.Host)
		return u.String()
	}
	return ""
}

// binding is a person's account at the CA, for the ACME account, RFC 8555 §7.3.4.
type binding struct {
	prefix string
	// given says that it was meant to be there, with or without mistakes.
	given bool
	kid   string
	key   cert.Secret
}

// binding takes those variables of v that are about it; prefix stands before their names.
func (p *parser) binding(prefix string, v certVars) binding {
	kidName, keyName := prefix+"ACME_EAB_KID", prefix+"ACME_EAB_HMAC_KEY"
	kidSet := v.ACMEEABKID != "" || v.ACMEEABKIDFile != ""
	keySet := v.ACMEEABHMACKey != "" || v.ACMEEABHMACKeyFile != ""
	if kidSet && !keySet {
		p.missing(keyName, "is missing beside %s; the CA gives both", kidName)
	}
	if keySet && !kidSet {
		p.missing(kidName, "is missing beside %s; the CA gives both", keyName)
	}
	b := binding{prefix: prefix, given: kidSet || keySet}
	if kid := p.textOrFile(kidName, v.ACMEEABKID, v.ACMEEABKIDFile); kid != "" {
		b.kid = p.keyID(kidName, kid)
	}
	if key := p.textOrFile(keyName, v.ACMEEABHMACKey, v.ACMEEABHMACKeyFile); key != "" {
		b.key = p.hmacKey(keyName, key)
	}
	return b
}

// bound gives a CA its binding and roots. One that takes no binding gets none, so that it stays the same account there when
// another CA's changes.
func (p *parser) bound(ca cert.CA, b binding, roots string) cert.CA {
	ca.EABKID, ca.EABKey, ca.Roots = "", "", roots
	if !letsEncrypt(ca.Directory) {
		ca.EABKID, ca.EABKey = b.kid, b.key
	}
	if b.given && letsEncrypt(ca.Directory) {
		p.warn(b.prefix+"ACME_EAB_KID", "Let's Encrypt takes no external account binding, so %sACME_EAB_KID does nothing; is %sACME_CA missing?", b.prefix, b.prefix)
	}
	if from := bindingFrom[ca.Directory]; from != "" && !b.given {
		p.missing(b.prefix+"ACME_EAB_KID", "and %sACME_EAB_HMAC_KEY are missing: this CA knows its customers by them and gives them out at %s", b.prefix, from)
	}
	return ca
}

func (p *parser) keyID(variable, text string) string {
	if len(text) > 1024 || strings.ContainsFunc(text, func(r rune) bool { return r <= ' ' || r > '~' }) {
		p.wrong(variable, redacted, "is no key ID; copy it from the CA without spaces and line ends")
		return ""
	}
	return text
}

// hmacKey takes both alphabets of base64, with and without padding: CAs show either.
func (p *parser) hmacKey(variable, text string) cert.Secret {
	plain := strings.NewReplacer("+", "-", "/", "_").Replace(strings.TrimRight(text, "="))
	key, err := base64.RawURLEncoding.DecodeString(plain)
	if err != nil || len(key) == 0 || len(text) > 1024 || strings.ContainsAny(text, "\r\n") {
		p.wrong(variable, redacted, "is not base64url; copy it from the CA without spaces and line ends")
		return ""
	}
	return cert.Secret(key)
}
