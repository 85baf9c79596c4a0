// Package cert has the words that every part speaks: what is wanted (Spec), what is stored (Lineage), what a CA gave
// (Bundle), what was tried (Attempts), what a web container shows (Served), what happened (Event) and what a person
// must do (Error). It reads no file and opens no connection; where time matters, "now" is an argument.
package cert

import (
	"crypto/sha256"
	"encoding/hex"
	"fmt"
	"net/url"
	"slices"
	"strings"
	"time"
)

// Spec is one certificate as a person wants it.
type Spec struct {
	// Name is the lineage's name: the folder under live/ and archive/.
	Name string
	// Named says that a person chose Name; otherwise it is the first of Names and a stored lineage may go by another.
	Named bool
	// Names are DNS names (lower case, A-labels) or IP addresses, without duplicates, in the order they were written.
	Names []string

	// KeyType is empty where nobody said: the stored lineage's is kept, a new one gets DefaultKeyType.
	KeyType KeyType
	// ReuseKey keeps the private key over renewals.
	ReuseKey bool
	// Profile is the order profile asked of the CA; empty leaves it to the CA.
	Profile string
	// ProfileOptional has the order made without the profile where the CA does not offer it.
	ProfileOptional bool
	// PreferredChain is the issuer common name of the chain to prefer among those that the CA offers.
	PreferredChain string
	// RenewBefore is how long before expiry to renew; 0 leaves it to the lifetime (see DueAt).
	RenewBefore time.Duration
	CA          CA

	// Webroot is where challenge files go, and Webroots the exceptions by name.
	Webroot  string
	Webroots map[string]string

	Reload Reload
	Verify Verify

	// StandIn says that a webroot is used in the place of certbot's, which is not mounted here.
	StandIn bool
	// Open are the settings that nobody has made; Settle may.
	Open Open
}

// WebrootOf returns the folder for the challenge files of one of the spec's names.
func (s Spec) WebrootOf(name string) string {
	if root, ok := s.Webroots[name]; ok {
		return root
	}
	return s.Webroot
}

// Told reports whether any web container is told of a new version.
func (s Spec) Told() bool { return !s.Reload.Off && len(s.Reload.Targets) > 0 }

// ToBeServed reports whether anybody is named who should serve the certificate and can be looked at.
func (s Spec) ToBeServed() bool { return !s.Verify.Off && (s.Told() || len(s.Verify.Endpoints) > 0) }

// Digest tells whether an order would be another than before: it covers what goes to the CA and where its challenges are answered.
func (s Spec) Digest() string {
	names := sorted(s.Names)
	var roots []string
	for _, name := range names {
		roots = append(roots, s.WebrootOf(name))
	}
	profile := s.Profile
	if s.ProfileOptional {
		profile += " if offered"
	}
	sum := sha256.Sum256(fmt.Appendf(nil, "%q %q %q %q %q %v", names, roots, s.KeyType, profile, s.CA.ID(), s.CA.AgreeTOS))
	return hex.EncodeToString(sum[:8])
}

// KeyType is the algorithm and size of a certificate's key.
type KeyType string

const (
	EC256   KeyType = "ec-256"
	EC384   KeyType = "ec-384"
	RSA2048 KeyType = "rsa-2048"
	RSA3072 KeyType = "rsa-3072"
	RSA4096 KeyType = "rsa-4096"

	DefaultKeyType = EC256
)

// KeyTypes are all that a person may ask for.
var KeyTypes = []KeyType{EC256, EC384, RSA2048, RSA3072, RSA4096}

// CA is a certificate authority with the account to use there.
type CA struct {
	// Directory is the URL of the CA's directory object, RFC 8555 §7.1.1.
	Directory string
	// Email is the account's contact; may be empty.
	Email string
	// EABKID and EABKey (decoded) bind the account to one that a person has at the CA, RFC 8555 §7.3.4.
	EABKID string
	EABKey Secret
	// Account is the ID of the account that certbot made there and that is used; empty for one of our own.
	Account string
	// StoredAs is the ID of a stored account that nothing else here leads to; empty leaves it to ID.
	StoredAs string
	// Roots are the PEM certificates that sign the HTTPS of a CA that is not Public, beside the system's; may be empty.
	Roots string
	// AgreeTOS allows an account to be registered.
	AgreeTOS bool
}

// The directories that have names of their own.
const (
	LetsEncrypt        = "https://acme-v02.api.letsencrypt.org/directory"
	LetsEncryptStaging = "https://acme-staging-v02.api.letsencrypt.org/directory"
	ZeroSSL            = "https://acme.zerossl.com/v2/DV90"
	Google             = "https://dv.acme-v02.api.pki.goog/directory"
	GoogleStaging      = "https://dv.acme-v02.test-api.pki.goog/directory"
)

// Staging reports whether a directory is a public CA's rehearsal, whose certificates no browser accepts.
func Staging(directory string) bool {
	return directory == LetsEncryptStaging || directory == GoogleStaging
}

// Rehearsal is the CA where orders are tried out: its own staging directory, Let's Encrypt's for a public CA that has none, and the CA
// itself where it is private.
func (c CA) Rehearsal() CA {
	staging := map[string]string{LetsEncrypt: LetsEncryptStaging, ZeroSSL: LetsEncryptStaging, Google: GoogleStaging}[c.Directory]
	if staging == "" {
		return c
	}
	rehearsal := CA{Directory: staging, Email: c.Email, Roots: c.Roots, AgreeTOS: c.AgreeTOS}
	if staging == GoogleStaging {
		rehearsal.EABKID, rehearsal.EABKey = c.EABKID, c.EABKey
	}
	return rehearsal
}

// Public reports whether a directory is at the host of one of the CAs that have names here.
func Public(directory string) bool {
	return slices.ContainsFunc([]string{LetsEncrypt, LetsEncryptStaging, ZeroSSL, Google, GoogleStaging}, func(known string) bool {
		return hostOf(known) == hostOf(directory)
	})
}

func hostOf(directory string) string {
	u, err := url.Parse(directory)
	if err != nil {
		return ""
	}
	return strings.ToLower(u.Hostname())
}

// ID names the account at the CA in file names: the directory's host and a digest of what makes the account another.
func (c CA) ID() string {
	if c.StoredAs != "" {
		return c.StoredAs
	}
	host := "ca"
	if u, err := url.Parse(c.Directory); err == nil && u.Hostname() != "" {
		host = u.Hostname()
	}
	account := c.Directory + "\n" + c.EABKID
	if c.Account != "" {
		account += "\n" + c.Account
	}
	sum := sha256.Sum256([]byte(account))
	return host + "-" + hex.EncodeToString(sum[:4])
}

// SameNames reports whether two lists hold the same names, in whatever order.
func SameNames(a, b []string) bool {
	return slices.Equal(sorted(a), sorted(b))
}

func sorted(names []string) []string {
	out := make([]string, 0, len(names))
	for _, n := range names {
		out = append(out, strings.ToLower(n))
	}
	slices.Sort(out)
	return slices.Compact(out)
}

// Secret is text that must not be seen: every way of printing it gives "[redacted]".
type Secret string

func (Secret) String() string               { return "[redacted]" }
func (Secret) GoString() string             { return "[redacted]" }
func (Secret) MarshalText() ([]byte, error) { return []byte("[redacted]"), nil }
