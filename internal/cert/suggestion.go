package cert

import "time"

// Suggestion is when a CA wants one certificate renewed, RFC 9773 §4.2, and when it is asked again.
type Suggestion struct {
	// Of is the fingerprint of the certificate: what was suggested for another does not count.
	Of string `json:"of"`
	// Start and End of the suggested window; zero where the CA suggests nothing that can be used.
	Start time.Time `json:"start,omitzero"`
	End   time.Time `json:"end,omitzero"`
	// At is the moment in it that was chosen.
	At time.Time `json:"at,omitzero"`
	// Explanation is "a URL pointing to a page which may explain why the suggested renewal window has its current value".
	Explanation string `json:"explanation,omitempty"`
	// Next is when the CA is asked again.
	Next time.Time `json:"next"`
}

// Heard is what a CA has said about renewing a certificate: a suggestion whose moment is not chosen yet.
type Heard struct {
	Suggestion
	// Date is when it says to have answered; zero if it does not.
	Date time.Time
}

// Choose takes "a uniform random time within the suggested window", RFC 9773 §4.2; random is in [0, 1). As long as the window is
// that of an earlier suggestion its moment stands: drawn anew at each look it would come ever earlier.
func (s *Suggestion) Choose(earlier *Suggestion, random float64) {
	if s.Start.IsZero() {
		return
	}
	if earlier != nil && earlier.Of == s.Of && earlier.Start.Equal(s.Start) && earlier.End.Equal(s.End) && !earlier.At.IsZero() {
		s.At = earlier.At
		return
	}
	s.At = s.Start.Add(time.Duration(random * float64(s.End.Sub(s.Start))))
}

// reason goes on from words that say what the CA suggests.
func (s *Suggestion) reason() string {
	if s == nil || s.Explanation == "" {
		return ""
	}
	return ", see " + s.Explanation
}

// hastenAgain is how long a certificate that was renewed early, because its CA suggested it, is not hastened again: a CA whose
// suggestions are stale would else have it ordered anew at once.
const hastenAgain = 12 * time.Hour

// Heeded is the suggestion for a lineage, nil where it is not to be heeded now.
func (a Attempts) Heeded(l Lineage, now time.Time) *Suggestion {
	if !l.Issued() || now.Sub(a.Hastened) < min(hastenAgain, Lifetime(l.Leaf())/4) {
		return nil
	}
	return a.Suggestion
}
