package acme

import (
	"context"
	"errors"
	"fmt"
	"maps"
	"slices"
	"strings"
	"time"

	"github.com/sidecert/sidecert/internal/cert"
)

const (
	caTopic    = "CA"
	clockTopic = "clock"
	// examineCALimit is above what a CA needs that answers with errors a few times.
	examineCALimit = 30 * time.Second
	// An hour of skew makes certificates look not yet valid, and much less confuses a schedule that has days.
	clockFine     = time.Minute
	clockDoubtful = 10 * time.Minute
)

// ExamineCA looks whether a CA would take an order: its directory, the account, the clock. It registers nothing.
func (i *Issuer) ExamineCA(ctx context.Context, ca cert.CA) []cert.Finding {
	ctx, cancel := context.WithTimeout(ctx, i.pace(examineCALimit))
	defer cancel()
	var last heard
	c, err := i.visit(hearing(ctx, &last), ca)
	clock := i.examineClock(ca, last.date())
	if err != nil {
		return []cert.Finding{{Level: cert.Bad, Topic: caTopic, About: ca.Directory,
			Text: "the CA's directory cannot be read: " + clean(err.Error(), maxWords), Hint: hintIn(err)}, clock}
	}
	return []cert.Finding{c.examineDirectory(), c.examineAccount(ctx), clock}
}

func (c *client) examineDirectory() cert.Finding {
	found := cert.Finding{Topic: caTopic, About: c.ca.Directory, Text: c.ca.Directory + " answers"}
	if c.dir.Terms != "" {
		found.Text += "; its terms are at " + clean(c.dir.Terms, maxWords)
	}
	var profiles []string
	for _, name := range slices.Sorted(maps.Keys(c.dir.Profiles)) {
		profiles = append(profiles, string(name))
	}
	if len(profiles) > 0 {
		found.Text += "; its profiles are " + clean(strings.Join(profiles, ", "), maxWords)
	}
	return found
}

func (c *client) examineAccount(ctx context.Context) cert.Finding {
	found := cert.Finding{Topic: caTopic, About: c.ca.Directory}
	account, err := c.readAccount(c.ca)
	switch {
	case err != nil:
		found.Level, found.Text, found.Hint = cert.Bad, "the account cannot be used: "+clean(err.Error(), maxWords), hintIn(err)
	case account.URI == "":
		c.examineRegistration(&found)
	default:
		c.use(account)
		c.examineStatus(ctx, &found)
	}
	return found
}

func (c *client) examineRegistration(found *cert.Finding) {
	if _, err := c.registration(); err != nil {
		found.Level, found.Text, found.Hint = cert.Bad, "no account can be registered: "+clean(err.Error(), maxWords), hintIn(err)
		return
	}
	found.Text = "there is no account yet: the first order registers one"
}

func (c *client) examineStatus(ctx context.Context, found *cert.Finding) {
	status, contact, err := c.accountStatus(ctx)
	switch {
	case isProblem(err, "accountDoesNotExist"):
		found.Level, found.Text = cert.Doubtful, "the CA does not know the account "+clean(c.account.URI, maxWords)
		found.Hint = "the next order registers the same key again"
	case err != nil && isLost(err):
		found.Level, found.Text, found.Hint = cert.Unknown, "the CA did not say whether the account is good: "+clean(err.Error(), maxWords), hintIn(err)
	case err != nil:
		found.Level, found.Text, found.Hint = cert.Bad, "the CA refuses the account: "+clean(err.Error(), maxWords), "it may have been deactivated there"
	case status != "valid":
		found.Level, found.Text = cert.Bad, fmt.Sprintf("the account %s is %s", clean(c.account.URI, maxWords), status)
		found.Hint = "the CA takes no orders from it any more"
	default:
		found.Text = "the account " + clean(c.account.URI, maxWords) + " is valid"
		if len(contact) > 0 {
			found.Text += " (" + strings.Join(contact, ", ") + ")"
		}
	}
}

// examineClock compares with the Date of the CA's answer, which has whole seconds.
func (i *Issuer) examineClock(ca cert.CA, date time.Time) cert.Finding {
	found := cert.Finding{Topic: clockTopic, About: ca.Directory}
	if date.IsZero() {
		found.Level, found.Text, found.Hint = cert.Unknown, "the CA names no time to compare the clock with", "compare it by hand: `date -u`"
		return found
	}
	off := i.config.Now().Sub(date).Round(time.Second)
	switch {
	case off.Abs() <= clockFine:
		found.Text = "the clock agrees with the CA's"
		return found
	case off.Abs() <= clockDoubtful:
		found.Level = cert.Doubtful
	default:
		found.Level = cert.Bad
	}
	found.Text = fmt.Sprintf("the clock is %s behind the CA's", off.Abs())
	if off > 0 {
		found.Text = fmt.Sprintf("the clock is %s ahead of the CA's", off.Abs())
	}
	found.Hint = "set the clock of this machine and have it kept right (NTP)"
	return found
}

func hintIn(err error) string {
	if e, ok := errors.AsType[*cert.Error](err); ok {
		return e.Hint
	}
	return ""
}
