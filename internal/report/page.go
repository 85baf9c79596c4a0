package report

import (
	"bytes"
	"cmp"
	_ "embed"
	"fmt"
	"html/template"
	"net/http"
	"slices"
	"strings"
	"time"
	"unicode"

	"github.com/sidecert/sidecert/internal/cert"
)

//go:embed page.html
var pageSource string

//go:embed style.css
var stylesheet []byte

//go:embed icon.svg
var icon []byte

var pageTemplate = template.Must(template.New("page").Funcs(template.FuncMap{"day": day, "minute": Minute, "stamp": stamp, "code": code}).Parse(pageSource))

const (
	// journalLines are those on the page, attemptLines those of each certificate.
	journalLines = 20
	attemptLines = 4
	// fewCerts is how many are shown with all that is known of them; of more only the problems are.
	fewCerts = 3
	// maxText is what is shown of a text that came from outside.
	maxText = 600
)

// view is what the template shows.
type view struct {
	Version string
	At      time.Time
	Level   Level
	Summary string
	Groups  []group
	Journal []Entry
}

// group is a part of the page, with what is worst first.
type group struct {
	Title string
	Rows  []row
}

// row is a certificate, in words.
type row struct {
	Certificate
	Open bool
	// Short is what stands beside the name where there are more names than it.
	Short string
	// Left is how long it still works.
	Left string
	Bar  *bar
	// Next is the next step, and Works what that means for those who use the site.
	NextStep, Works string
	Showing         []showing
	Unseen          string
	Attempts        []Entry
}

// bar is a certificate's life in thousandths, drawn from left to right.
type bar struct {
	// Now is where it stands; Due is where its renewal is due, 1000 where it is not renewed here.
	Now, Due int
	// Gone is what was lived of the time before Due, Over what was of the time after it, and Window all of that.
	Gone, Over, Window int
	Text               string
}

// showing is what a web container serves, in words.
type showing struct {
	Container string
	Text      string
	Good      bool
	Since     time.Time
	Action    string
	Told      time.Time
}

func (s *Server) page(w http.ResponseWriter, _ *http.Request) {
	standing, err := s.standing.get()
	if err != nil {
		s.fail(w, err)
		return
	}
	journal, err := s.journal.get()
	if err != nil {
		journal = []Entry{{Time: standing.At, Text: err.Error(), Bad: true}}
	}
	var b bytes.Buffer
	if err := pageTemplate.Execute(&b, newView(standing, journal, s.Version)); err != nil {
		s.fail(w, err)
		return
	}
	w.Header().Set("Content-Type", "text/html; charset=utf-8")
	w.Write(b.Bytes())
}

func newView(s Standing, journal []Entry, version string) view {
	v := view{Version: version, At: s.At, Summary: summary(s)}
	certs := slices.Clone(s.Certs)
	slices.SortStableFunc(certs, func(a, b Certificate) int {
		return cmp.Or(cmp.Compare(b.Level, a.Level), a.NotAfter.Compare(b.NotAfter), cmp.Compare(a.Name, b.Name))
	})
	attempts := map[string][]Entry{}
	for _, e := range slices.Backward(journal) { // the newest first
		e.Cert, e.Text = plain(e.Cert), plain(e.Text)
		if len(v.Journal) < journalLines {
			v.Journal = append(v.Journal, e)
		}
		if len(attempts[e.Cert]) < attemptLines {
			attempts[e.Cert] = append(attempts[e.Cert], e)
		}
	}
	groups := []group{{Title: "Needs attention"}, {Title: "On its way"}, {Title: "Well"}}
	for _, c := range certs {
		v.Level = max(v.Level, c.Level)
		r := newRow(c, s.At)
		r.Open = c.Level > Well || len(certs) <= fewCerts
		r.Attempts = attempts[r.Name]
		g := &groups[0]
		switch c.Level {
		case Coming:
			g = &groups[1]
		case Well:
			g = &groups[2]
		}
		g.Rows = append(g.Rows, r)
	}
	for _, g := range groups {
		if len(g.Rows) > 0 {
			v.Groups = append(v.Groups, g)
		}
	}
	return v
}

// summary says in a sentence how all of it stands.
func summary(s Standing) string {
	byLevel := map[Level]int{}
	var next time.Time
	for _, c := range s.Certs {
		byLevel[c.Level]++
		if c.Kept && !c.Next.IsZero() && (next.IsZero() || c.Next.Before(next)) {
			next = c.Next
		}
	}
	all := len(s.Certs)
	var parts []string
	tell := func(level Level, one, many string) {
		switch n := byLevel[level]; n {
		case 0:
		case 1:
			parts = append(parts, "1 "+one)
		default:
			parts = append(parts, fmt.Sprintf("%d %s", n, many))
		}
	}
	tell(Failing, "is failing", "are failing")
	tell(Doubtful, "wants a look", "want a look")
	tell(Coming, "is on its way", "are on their way")
	switch {
	case all == 0:
		return "No certificate is configured or stored."
	case len(parts) > 0 && all == 1:
		return "The certificate " + strings.TrimPrefix(parts[0], "1 ") + "."
	case len(parts) == 1:
		number, rest, _ := strings.Cut(parts[0], " ")
		return fmt.Sprintf("%s of %d certificates %s.", number, all, rest)
	case len(parts) > 0:
		return fmt.Sprintf("Of %d certificates, %s.", all, sentence(parts))
	case all == 1:
		return "The certificate is well" + nextText(next, s.At) + "."
	}
	return fmt.Sprintf("All %d certificates are well%s.", all, nextText(next, s.At))
}

func nextText(next, now time.Time) string {
	if next.IsZero() {
		return ""
	}
	return ", and the next renewal is " + ahead(next, now)
}

// sentence joins parts as a sentence does.
func sentence(parts []string) string {
	last := len(parts) - 1
	if last == 0 {
		return parts[0]
	}
	return strings.Join(parts[:last], ", ") + " and " + parts[last]
}

func newRow(c Certificate, now time.Time) row {
	c.Name, c.State, c.Hint, c.Why, c.Held = plain(c.Name), plain(c.State), plain(c.Hint), plain(c.Why), plain(c.Held)
	c.Issuer, c.Path = plain(c.Issuer), plain(c.Path)
	c.Names = slices.Clone(c.Names)
	for i := range c.Names {
		c.Names[i] = plain(c.Names[i])
	}
	if strings.Contains(c.State, c.Held) {
		c.Held = ""
	}
	r := row{Certificate: c, NextStep: nextStep(c, now)}
	switch others := slices.DeleteFunc(slices.Clone(c.Names), func(n string) bool { return n == c.Name }); {
	case len(others) == 1 && others[0] == "www."+c.Name:
		r.Short = "and www"
	case len(others) == 1:
		r.Short = "and " + others[0]
	case len(others) > 1:
		r.Short = fmt.Sprintf("and %d more names", len(others))
	}
	if !c.Stored {
		r.Left = "none yet"
	} else {
		r.Bar = newBar(c, now)
		left := c.NotAfter.Sub(now)
		r.Left = spanWords(left) + " left"
		if left <= 0 {
			r.Left = "expired"
		}
		if c.Level > Well {
			r.Works = "What is stored is valid for " + spanWords(left) + " more."
			if left <= 0 {
				r.Works = "What is stored expired " + spanWords(-left) + " ago."
			}
		}
	}
	for _, at := range c.Served {
		r.Showing = append(r.Showing, newShowing(at))
	}
	switch {
	case len(r.Showing) > 0:
	case !c.Kept:
		r.Unseen = "No web container is looked at for it."
	case !c.Told:
		r.Unseen = "No web container is told of it, by choice."
	default:
		r.Unseen = "No web container was seen to serve this version yet."
	}
	return r
}

func newShowing(at Served) showing {
	s := showing{Container: plain(at.Container), Since: at.Since, Action: plain(at.Action), Told: at.Told, Good: at.Class == cert.Current}
	switch at.Class {
	case cert.Current:
		s.Text = "this certificate"
	case cert.Stale:
		s.Text = "an older one"
	case cert.Foreign:
		s.Text = "another certificate"
	default:
		s.Text = "could not be seen"
	}
	if at.Err != "" && !s.Good {
		s.Text += ": " + plain(at.Err)
	}
	return s
}

// nextStep says what sidecert does next about a certificate, and why.
func nextStep(c Certificate, now time.Time) string {
	switch {
	case !c.Kept:
		return "Nobody renews it here."
	case c.Next.IsZero():
		return "None is known."
	}
	what := "Renewal"
	switch {
	case !c.Stored:
		what = "Order"
	case c.Failures > 0:
		what = "Next try"
	}
	when := ahead(c.Next, now)
	if when != "now" {
		when += " (" + Minute(c.Next) + ")"
	}
	return strings.TrimSuffix(fmt.Sprintf("%s %s: %s", what, when, c.Why), ": ") + "."
}

func newBar(c Certificate, now time.Time) *bar {
	life := c.NotAfter.Sub(c.NotBefore)
	if life <= 0 {
		return nil
	}
	place := func(t time.Time) int {
		return int(max(0, min(1000, 1000*t.Sub(c.NotBefore).Seconds()/life.Seconds())))
	}
	b := &bar{Now: place(now), Due: 1000}
	due := ""
	if !c.Due.IsZero() {
		b.Due = place(c.Due)
		due = ", renewal due " + day(c.Due)
	}
	b.Gone, b.Over, b.Window = min(b.Now, b.Due), max(0, b.Now-b.Due), 1000-b.Due
	b.Text = fmt.Sprintf("Issued %s, %d %% of its life gone%s, expires %s", day(c.NotBefore), b.Now/10, due, day(c.NotAfter))
	return b
}

// code is a text whose `commands` look like such.
func code(text string) template.HTML {
	var b strings.Builder
	parts := strings.Split(text, "`")
	for i, part := range parts {
		part = template.HTMLEscapeString(part)
		switch {
		case i%2 == 1 && i < len(parts)-1:
			b.WriteString("<code>" + part + "</code>")
		case i%2 == 1:
			b.WriteString("`" + part)
		default:
			b.WriteString(part)
		}
	}
	return template.HTML(b.String())
}

func day(t time.Time) string   { return t.UTC().Format(time.DateOnly) }
func stamp(t time.Time) string { return t.UTC().Format(time.RFC3339) }

// Minute is a time as people read it, on the page and in messages.
func Minute(t time.Time) string { return t.UTC().Format("2006-01-02 15:04 UTC") }

// ahead is a time from now on, in words.
func ahead(t, now time.Time) string {
	if t.Sub(now) < time.Second {
		return "now"
	}
	return "in " + spanWords(t.Sub(now))
}

// spanWords is a duration in its largest unit that has two of it.
func spanWords(d time.Duration) string {
	switch {
	case d < 2*time.Minute:
		return count(int(d.Seconds()), "second")
	case d < 2*time.Hour:
		return count(int(d.Minutes()), "minute")
	case d < 48*time.Hour:
		return count(int(d.Hours()), "hour")
	}
	return count(int(d.Hours()/24), "day")
}

func count(n int, what string) string {
	if n == 1 {
		return "1 " + what
	}
	return fmt.Sprintf("%d %ss", n, what)
}

// plain makes text of anybody's fit for a line: what cannot be printed, and would turn the line round, is a space.
func plain(text string) string {
	text = strings.Map(func(r rune) rune {
		if r == unicode.ReplacementChar || !unicode.IsPrint(r) {
			return ' '
		}
		return r
	}, text)
	text = strings.Join(strings.Fields(text), " ")
	if r := []rune(text); len(r) > maxText {
		text = string(r[:maxText]) + "…"
	}
	return text
}
