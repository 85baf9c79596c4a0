package cert

// The keys of log attributes. All parts spell them alike, so that one search finds every line about a certificate.
const (
	AttrCert      = "cert"
	AttrNames     = "names"
	AttrNotAfter  = "not_after"
	AttrVersion   = "version"
	AttrContainer = "container"
	AttrAction    = "action"
	AttrAttempt   = "attempt"
	AttrNext      = "next"
	AttrElapsed   = "elapsed"
	AttrErr       = "err"
	AttrHint      = "hint"
	AttrCA        = "ca"
	AttrDir       = "dir"
)
