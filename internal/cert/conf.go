package cert

import "time"

// ConfMark begins a line in each renewal/NAME.conf that we have made, by which it is told from certbot's.
const ConfMark = "# Kept by sidecert"

// Conf is what renewal/NAME.conf says of a lineage. Where certbot made the lineage these are a person's settings, which hold wherever
// the environment says nothing; where we made it they are the record of what was last ordered.
type Conf struct {
	// Certbot says that certbot made the lineage.
	Certbot bool
	// Server is the directory URL that gave the live version.
	Server string
	// Account is the ID of certbot's account there, the name of a folder; may be empty.
	Account string
	Profile string
	// ProfileWish says that an order goes without the profile where the CA does not offer it.
	ProfileWish bool
	// KeyType is the one for the next version; empty leaves it to the live version's.
	KeyType        KeyType
	ReuseKey       bool
	PreferredChain string
	// RenewBefore is 0 where the conf does not say.
	RenewBefore time.Duration
	// Authenticator is how certbot proved control of the names: "webroot", "standalone", "nginx", "dns-…".
	Authenticator string
	// Webroot is for all names but those of Webroots; both may be empty.
	Webroot  string
	Webroots map[string]string
	// Paused says that a person has told certbot not to renew it (autorenew = False).
	Paused bool
	// Hooks are shell commands.
	Hooks Hooks
}

// Hooks are commands that a person wants run around renewals; each may be empty.
type Hooks struct {
	// Pre and Post run once around a pass in which something is due, Deploy after each certificate obtained.
	Pre, Deploy, Post string
}

// Open are the settings on which the environment says nothing, so that the conf of an adopted lineage may.
type Open struct{ CA, Webroot, ReuseKey bool }

// Settle fills what the environment leaves open from the conf of a lineage that certbot made. Of one of ours nothing is taken: what
// the environment does not say any more is to be the default again.
func (s Spec) Settle(l Lineage) Spec {
	c := l.Conf
	if !c.Certbot {
		return s
	}
	if s.Open.CA && c.Server != "" && c.Server != s.CA.Directory {
		s.CA.Directory, s.CA.EABKID, s.CA.EABKey = c.Server, "", ""
	}
	if c.Server == s.CA.Directory {
		s.CA.Account = c.Account
	}
	if s.Open.Webroot && c.Webroot != "" {
		s.Webroot = c.Webroot
	}
	if s.Open.Webroot && len(c.Webroots) > 0 {
		s.Webroots = c.Webroots
	}
	if s.Open.ReuseKey {
		s.ReuseKey = c.ReuseKey
	}
	if s.Profile == "" {
		s.Profile, s.ProfileOptional = c.Profile, c.ProfileWish
	}
	if s.PreferredChain == "" {
		s.PreferredChain = c.PreferredChain
	}
	if s.RenewBefore == 0 {
		s.RenewBefore = c.RenewBefore
	}
	return s
}
