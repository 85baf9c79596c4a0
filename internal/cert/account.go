package cert

import (
	"crypto"
	"time"
)

// Account is one at a CA, RFC 8555 §7.1.2. Whoever has its key can issue and revoke for all its names.
type Account struct {
	Key crypto.Signer
	// URI is the account's URL at the CA and the "kid" of its requests; empty until the CA has registered the key.
	URI     string
	Contact string
	Created time.Time
}
