package cert

import (
	"slices"
	"time"
)

// Attempts is what was tried for one certificate, kept on disk and read before any request.
type Attempts struct {
	// Begun is when the attempt under way began; set before the first request and cleared with its outcome. One that is found
	// set at start belonged to a process that was killed, and counts as a failure.
	Begun time.Time `json:"begun,omitzero"`
	// Failures in a row, the last one's time, words and hint.
	Failures int       `json:"failures,omitempty"`
	FailedAt time.Time `json:"failed_at,omitzero"`
	Err      string    `json:"err,omitempty"`
	Hint     string    `json:"hint,omitempty"`
	// Tried is the Digest of the spec that the failures are of: what a person has put right is tried at once.
	Tried string `json:"tried,omitempty"`
	// Next is when our own backoff allows another attempt; a person may pass over it.
	Next time.Time `json:"next,omitzero"`
	// NotBefore is the CA's Retry-After, which nobody passes over.
	NotBefore time.Time `json:"not_before,omitzero"`
	// Order is one under way, resumed rather than repeated.
	Order *Order `json:"order,omitempty"`
	// Doomed are versions that a person wants revoked, until the CA has done it; Revoked those that were and are still stored, with
	// the reason, by their fingerprints. One that is live is replaced.
	Doomed  *Doomed           `json:"doomed,omitempty"`
	Revoked map[string]Reason `json:"revoked,omitempty"`
	// Suggestion is the CA's for the live version; nil where it was not asked.
	Suggestion *Suggestion `json:"suggestion,omitempty"`
	// Hastened is when the certificate was last renewed before its time because the CA suggested it.
	Hastened time.Time `json:"hastened,omitzero"`
}

// Guard is the book of what was had of a CA, by the set of names and over all certificates: the CA counts sets, not lineages. Times
// over 7 days old are dropped.
type Guard struct {
	Ordered map[string][]time.Time `json:"ordered,omitempty"`
	Issued  map[string][]time.Time `json:"issued,omitempty"`
	// Orders are all, by the ID of the CA and account.
	Orders map[string][]time.Time `json:"orders,omitempty"`
}

// Doomed is a revocation under way: it is written down before anything takes the place of what is to be revoked.
type Doomed struct {
	Reason Reason `json:"reason"`
	// Directory and Account are those of the CA that gave the version that was live then.
	Directory string `json:"directory"`
	Account   string `json:"account,omitempty"`
	// Versions are fingerprints.
	Versions []string `json:"versions"`
}

// Condemned says that a version was revoked or is to be, in words that go on from its name, and why; "" if neither.
func (a Attempts) Condemned(fingerprint string) (how string, reason Reason) {
	if reason, ok := a.Revoked[fingerprint]; ok {
		return "it was revoked", reason
	}
	if a.Doomed != nil && slices.Contains(a.Doomed.Versions, fingerprint) {
		return "it is to be revoked", a.Doomed.Reason
	}
	return "", ""
}

// Order is one under way at a CA, RFC 8555 §7.1.3, with what is needed to finish it after a restart.
type Order struct {
	// Account is the ID of the CA and account it was made at.
	Account string   `json:"account"`
	Names   []string `json:"names"`
	KeyType KeyType  `json:"key_type,omitempty"`
	Profile string   `json:"profile,omitempty"`
	// Key (PEM) and CSR (DER) are made before the order, so that what the CA signs is never without its key.
	Key []byte `json:"key"`
	CSR []byte `json:"csr"`
	// URL is empty until the CA has accepted the order.
	URL     string    `json:"url,omitempty"`
	Begun   time.Time `json:"begun"`
	Expires time.Time `json:"expires,omitzero"`
}

// Hold is what keeps every certificate of one CA waiting, kept on disk beside the account.
type Hold struct {
	// Tries counts how often in a row the CA did not answer; Next is when it is asked again.
	Tries int       `json:"tries,omitempty"`
	Next  time.Time `json:"next,omitzero"`
	// NotBefore is a Retry-After that the CA meant for everybody.
	NotBefore time.Time `json:"not_before,omitzero"`
	Err       string    `json:"err,omitempty"`
}
