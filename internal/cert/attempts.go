package cert

import "time"

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
	// Ordered and Issued are the times of the guard, by the set of names; those over 7 days old are dropped.
	Ordered map[string][]time.Time `json:"ordered,omitempty"`
	Issued  map[string][]time.Time `json:"issued,omitempty"`
	// Revoked are the fingerprints of versions that were revoked: one that is live is replaced.
	Revoked []string `json:"revoked,omitempty"`
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
