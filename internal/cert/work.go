package cert

import "time"

// Request asks for one certificate.
type Request struct {
	Spec Spec
	// Stored is the lineage that it is for: its key is used again where the spec says so.
	Stored Lineage
	// Due is when the stored one is to be renewed, where nothing but the time calls for an order: it is not made while it is earlier by
	// the CA's clock. Zero: it is made at any time.
	Due time.Time
	// FreshKey has a new key made whatever the spec says: the old one is compromised.
	FreshKey bool
	// Order is one of an earlier attempt that was not finished; nil for a new one.
	Order *Order
	// Save puts an order on disk: before the CA hears of it, again when it has a URL, and nil when it is of no more use.
	// An order that cannot be saved is not made.
	Save func(*Order) error
}

// Kept is a certificate that is wanted and stored. Of one that has nothing stored yet the lineage has its name only.
type Kept struct {
	Spec    Spec
	Lineage Lineage
}

// Outcome is what became of one container (or endpoint) and one lineage in one look at the web containers.
type Outcome struct {
	Cert string
	// Container is its name, or HOST:PORT of an endpoint.
	Container string
	// Version is the number of the stored one, which is to be served.
	Version int
	// Action is what it was told, "" if nothing was.
	Action string
	// Class is what it serves now, after the action.
	Class Class
	// Bare says that it serves the leaf without the certificates between it and the root, which not every client finds by itself.
	Bare bool
	// Missing says that Container is a target that matches none. Of a certificate that has not come yet, Changed says so when a minute has
	// passed in which Compose could have made it.
	Missing bool
	// Changed says that Class or the version differs from what was seen at the last look.
	Changed bool
	Err     error
	Hint    string
}

// Look is the result of comparing everything that is stored with everything that is served.
type Look struct {
	Outcomes []Outcome
	// Next is when the web containers are to be looked at again because something is pending; zero if nothing is.
	Next time.Time
	// Err is what kept all of the containers from being looked at: no engine, say. The outcomes of endpoints stand all the same.
	Err  error
	Hint string
}
