package main

import (
	"fmt"
	"time"

	"github.com/sidecert/sidecert/internal/cert"
	"github.com/sidecert/sidecert/internal/report"
)

// judgement says how much a certificate wants a person, why, and what to do.
type judgement struct {
	level report.Level
	// state is for a table, sentence for the page. They may end with words of somebody else.
	state, sentence string
	hint            string
}

func (c checker) judgement(r listed) judgement {
	ailing := c.ailing(r)
	switch {
	case r.Err != "":
		return judgement{report.Failing, "unusable: " + r.Err, "Its files cannot be used: " + r.Err + ".", hintOf(r.err)}
	case r.Failure != nil:
		return judgement{report.Failing, fmt.Sprintf("failed %s: %s", times(r.Failure.Attempts), r.Failure.Err), failureText(*r.Failure), r.Failure.Hint}
	case r.Revoked != "":
		state := r.Revoked
		if state == "it was revoked" {
			state = "REVOKED"
		}
		return judgement{report.Failing, state, "Of what is stored: " + r.Revoked + ", and nothing has taken its place yet.", ""}
	case r.Stored && !c.now.Before(r.NotAfter):
		if r.Held != "" {
			return judgement{report.Failing, "EXPIRED, held: " + r.Held, "It has expired, and its successor waits: " + r.Held + ".", ""}
		}
		return judgement{report.Failing, "EXPIRED", "It has expired.", ""}
	case r.Held != "":
		level := report.Doubtful
		if ailing > 0 || !r.Stored {
			level = report.Failing
		}
		return judgement{level, "held: " + r.Held, "It is wanted and waits: " + r.Held + ".", ""}
	case r.Placeholder:
		return judgement{report.Coming, "placeholder, certificate to come", "A placeholder that no browser accepts stands in its place until the CA has given it.", ""}
	case !r.Stored:
		return judgement{report.Coming, "configured, nothing stored yet", "Nothing is stored yet.", ""}
	case ailing > 1:
		return judgement{report.Failing, "expires soon", "It expires soon.", ""}
	case r.Left != "":
		level := report.Well
		if ailing > 0 {
			level = report.Doubtful
		}
		return judgement{level, "left to certbot: " + r.Left, "It is left to certbot: " + r.Left + ".", ""}
	case r.spec == nil:
		return judgement{report.Doubtful, "not configured, not renewed", "It is stored, not configured, and not renewed.",
			"name it in DOMAINS to keep it, or forget it by `sidecert delete " + r.Name + "` once no web server uses it"}
	case r.Unserved != "":
		v := judgement{report.Doubtful, "not served: " + r.Unserved, "It was not seen to be served: " + r.Unserved + ".", "`sidecert doctor` tells what is in the way"}
		if r.stale() {
			v.level, v.sentence = report.Failing, "It is not served: "+r.Unserved+"."
		}
		return v
	case ailing > 0:
		return judgement{report.Doubtful, "should have been renewed by now", "It should have been renewed by now.", ""}
	case r.unfinished:
		return judgement{report.Doubtful, "the revocation of an older version is not done, give it again", "The revocation of an older version is not done.", "give the command again"}
	}
	return judgement{report.Well, "ok", "It is well.", ""}
}

// ailing is cert.Ailing of what is stored.
func (c checker) ailing(r listed) int {
	if !r.Stored {
		return 0
	}
	return cert.Ailing(r.lineage.Leaf(), r.renewBefore(), c.warning, c.critical, c.now)
}

// renewBefore is zero for what is not kept, too.
func (r listed) renewBefore() time.Duration {
	if r.spec == nil {
		return 0
	}
	return r.spec.RenewBefore
}

func failureText(f failure) string {
	at := report.Minute(f.Time)
	if f.Attempts == 1 {
		return fmt.Sprintf("The last attempt failed at %s: %s.", at, f.Err)
	}
	return fmt.Sprintf("The last %d attempts failed, most recently at %s: %s.", f.Attempts, at, f.Err)
}

// stale reports whether an older version is served although somebody should have made an end of that.
func (r listed) stale() bool {
	for _, at := range r.Served {
		if at.Class == cert.Stale && r.Unserved != "" {
			return true
		}
	}
	return false
}

func times(n int) string {
	if n == 1 {
		return "once"
	}
	return fmt.Sprintf("%d times", n)
}
