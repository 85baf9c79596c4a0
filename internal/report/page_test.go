package report

import (
	"fmt"
	"math"
	"os"
	"regexp"
	"slices"
	"strconv"
	"strings"
	"testing"
	"time"

	"golang.org/x/net/html"

	"github.com/sidecert/sidecert/internal/cert"
)

// document is a page as a browser reads it.
func document(t testing.TB, page string) *html.Node {
	t.Helper()
	doc, err := html.Parse(strings.NewReader(page))
	if err != nil {
		t.Fatal(err)
	}
	return doc
}

// all are the elements of a name, or every element where it is "".
func all(n *html.Node, name string) (found []*html.Node) {
	for d := range n.Descendants() {
		if d.Type == html.ElementNode && (name == "" || d.Data == name) {
			found = append(found, d)
		}
	}
	return found
}

func attr(n *html.Node, key string) string {
	for _, a := range n.Attr {
		if a.Key == key {
			return a.Val
		}
	}
	return ""
}

func text(n *html.Node) string {
	var b strings.Builder
	for d := range n.Descendants() {
		if d.Type == html.TextNode {
			b.WriteString(d.Data)
		}
	}
	return strings.Join(strings.Fields(b.String()), " ")
}

// checkAccessible is what holds for every page, whatever it tells of.
func checkAccessible(t testing.TB, doc *html.Node) {
	t.Helper()
	if got := attr(all(doc, "html")[0], "lang"); got != "en" {
		t.Errorf("the language is %q", got)
	}
	level := 0
	for _, n := range all(doc, "") {
		if len(n.Data) == 2 && n.Data[0] == 'h' && n.Data[1] >= '1' && n.Data[1] <= '6' {
			now := int(n.Data[1] - '0')
			if now > level+1 {
				t.Errorf("the heading %q is of level %d below one of level %d", text(n), now, level)
			}
			level = now
		}
		if n.Data == "script" || n.Data == "style" {
			t.Errorf("there is an element %s", n.Data)
		}
		for _, a := range n.Attr {
			if a.Key == "style" || strings.HasPrefix(a.Key, "on") {
				t.Errorf("%s has the attribute %s, which the policy forbids", n.Data, a.Key)
			}
		}
	}
	for name, want := range map[string]int{"h1": 1, "main": 1, "header": 1, "footer": 1, "title": 1} {
		if n := len(all(doc, name)); n != want {
			t.Errorf("there are %d elements %s, want %d", n, name, want)
		}
	}
	for _, table := range all(doc, "table") {
		if len(all(table, "caption")) != 1 || len(all(table, "thead")) != 1 {
			t.Errorf("a table has no caption or head: %s", text(table))
		}
		for _, th := range all(table, "th") {
			if s := attr(th, "scope"); s != "col" && s != "row" {
				t.Errorf("the header %q is of no column or row", text(th))
			}
		}
	}
	for _, bar := range all(doc, "svg") {
		if attr(bar, "role") != "img" || attr(bar, "aria-label") == "" {
			t.Errorf("a bar has no text in its place: %v", bar.Attr)
		}
	}
	for _, link := range all(doc, "a") {
		if strings.Contains(attr(link, "href"), ":") || strings.HasPrefix(attr(link, "href"), "/") {
			t.Errorf("the link to %s does not hold behind a proxy that has the page below a path", attr(link, "href"))
		}
	}
}

func pageOf(t testing.TB, s Standing) string {
	t.Helper()
	w := ask(newServerOf(ServerConfig{
		Standing: func() (Standing, error) { return s, nil }, Journal: func() ([]Entry, error) { return sampleJournal(s), nil },
	}), "GET", "/")
	if w.Code != 200 {
		t.Fatalf("the page is %d: %s", w.Code, w.Body)
	}
	return w.Body.String()
}

func TestPageIsReadableWithoutEyes(t *testing.T) {
	for name, standing := range samples() {
		t.Run(name, func(t *testing.T) { checkAccessible(t, document(t, pageOf(t, standing))) })
	}
}

func TestPageTellsProblemsFirst(t *testing.T) {
	doc := document(t, pageOf(t, samples()["failures"]))
	var told []string
	for _, n := range all(doc, "") {
		switch n.Data {
		case "title", "h2", "summary":
			told = append(told, text(n))
		}
	}
	want := []string{
		"Sidecert: Of 5 certificates, 2 are failing, 1 wants a look and 1 is on its way.",
		"Needs attention 3",
		"failing example.net and www 27 days left",
		"failing shop.example.com and 3 more names 89 days left",
		"look old.example.org 50 days left",
		"On its way 1",
		"coming new.example.org none yet",
		"Well 1",
		"well example.org and www 78 days left",
		"Journal",
	}
	if !slices.Equal(told, want) {
		t.Errorf("the page tells\n%s\nwant\n%s", strings.Join(told, "\n"), strings.Join(want, "\n"))
	}
	for _, d := range all(doc, "details") {
		_, open := slices.IndexFunc(d.Attr, func(a html.Attribute) bool { return a.Key == "open" }), attr(d, "class")
		if (slices.IndexFunc(d.Attr, func(a html.Attribute) bool { return a.Key == "open" }) >= 0) != (open != "well") {
			t.Errorf("%s is open or shut, which it should not be", text(all(d, "summary")[0]))
		}
	}
}

func TestPageSaysWhatHappenedAndWhatToDo(t *testing.T) {
	page := text(document(t, pageOf(t, samples()["failures"])))
	for _, want := range []string{
		"The last 3 attempts failed, most recently at 2026-11-28 10:41 UTC: authorization www.example.net: the CA could not fetch",
		"What is stored is valid for 27 days more.",
		"What to do: the web container answers 404 for the challenge path: in nginx, put location ^~ /.well-known/acme-challenge/ { root /var/www/certbot; } into the server on port 80.",
		"Next try in 21 minutes (2026-11-28 12:21 UTC): it is due for renewal. Until then it waits: the last of 3 attempts failed.",
		"issued 2026-09-26, renewal due 2026-11-25, expires 2026-12-25 12:00 UTC",
		"shop-proxy-1an older one: httpd: Syntax error on line 12 of /usr/local/apache2/conf/httpd.conf2026-11-28 11:56 UTCexec httpd -k graceful, 2026-11-28 11:56 UTC",
		"Order now: there is no certificate yet.",
		"Nobody renews it here.",
		"2026-11-28 10:41 UTC attempt 3 failed",
	} {
		if !strings.Contains(page, want) {
			t.Errorf("the page does not say %q:\n%s", want, page)
		}
	}
}

func TestBarsShowWhereTheLifeStands(t *testing.T) {
	c := healthy("example.org", 0)
	for _, test := range []struct {
		age                          time.Duration
		due                          time.Time
		now, dueAt, gone, over, wind int
	}{
		{0, c.Due, 0, 666, 0, 0, 334},
		{30 * day24, c.Due, 333, 666, 333, 0, 334},
		{75 * day24, c.Due, 833, 666, 666, 167, 334},
		{100 * day24, c.Due, 1000, 666, 666, 334, 334},
		{-day24, c.Due, 0, 666, 0, 0, 334},                   // a clock that is behind
		{30 * day24, time.Time{}, 333, 1000, 333, 0, 0},      // renewed by nobody here
		{30 * day24, noon.Add(-day24), 333, 0, 0, 333, 1000}, // a due point that cannot be
	} {
		c.Due = test.due
		want := bar{Now: test.now, Due: test.dueAt, Gone: test.gone, Over: test.over, Window: test.wind}
		got := *newBar(c, noon.Add(test.age))
		got.Text = ""
		if got != want {
			t.Errorf("the bar at the age of %v, due %v, is %+v, want %+v", test.age, test.due, got, want)
		}
	}
	if got := newBar(healthy("example.org", 30*day24), noon).Text; got != "Issued 2026-10-29, 33 % of its life gone, renewal due 2026-12-28, expires 2027-01-27" {
		t.Errorf("the bar's text is %q", got)
	}
	if c.NotAfter = c.NotBefore; newBar(c, noon) != nil {
		t.Error("a certificate without a life has a bar")
	}
}

func TestNextStepSaysNothingTwice(t *testing.T) {
	c := coming("new.example.org")
	c.State, c.Held, c.Next = "It is wanted and waits: the CA did not answer.", "the CA did not answer", noon.Add(300*time.Millisecond)
	r := newRow(c, noon)
	if r.Held != "" || r.NextStep != "Order now: there is no certificate yet." {
		t.Errorf("the next step is %q, held by %q", r.NextStep, r.Held)
	}
	c.Next = noon.Add(90 * time.Second)
	if r := newRow(c, noon); r.NextStep != "Order in 90 seconds (2026-11-28 12:01 UTC): there is no certificate yet." {
		t.Errorf("the next step is %q", r.NextStep)
	}
}

func TestSummaryIsASentence(t *testing.T) {
	of := func(levels ...Level) Standing {
		s := Standing{At: noon}
		for i, l := range levels {
			c := healthy(fmt.Sprintf("%d.example", i), time.Hour)
			c.Level = l
			s.Certs = append(s.Certs, c)
		}
		return s
	}
	for want, s := range map[string]Standing{
		"No certificate is configured or stored.":                                 of(),
		"The certificate is well, and the next renewal is in 59 days.":            of(Well),
		"All 2 certificates are well, and the next renewal is in 59 days.":        of(Well, Well),
		"The certificate is failing.":                                             of(Failing),
		"The certificate is on its way.":                                          of(Coming),
		"1 of 2 certificates is failing.":                                         of(Failing, Well),
		"2 of 3 certificates want a look.":                                        of(Doubtful, Doubtful, Well),
		"Of 4 certificates, 1 is failing, 1 wants a look and 2 are on their way.": of(Failing, Doubtful, Coming, Coming),
	} {
		if got := summary(s); got != want {
			t.Errorf("summary is %q, want %q", got, want)
		}
	}
}

// The text on each ground, and what is drawn on it, in both schemes.
func TestColoursHaveTheContrastThatPeopleNeed(t *testing.T) {
	css, err := os.ReadFile("style.css")
	if err != nil {
		t.Fatal(err)
	}
	light, dark, found := strings.Cut(string(css), "@media (prefers-color-scheme: dark)")
	if !found {
		t.Fatal("there is no dark scheme")
	}
	dark, _, _ = strings.Cut(dark, "* {")
	light, _, _ = strings.Cut(light, "* {")
	for scheme, text := range map[string]string{"light": light, "dark": dark} {
		colours := map[string]string{}
		for _, m := range regexp.MustCompile(`--([a-z-]+): (#[0-9a-f]{6});`).FindAllStringSubmatch(text, -1) {
			colours[m[1]] = m[2]
		}
		check := func(front, ground string, least float64) {
			if colours[front] == "" || colours[ground] == "" {
				t.Fatalf("%s: %s or %s is no colour of the stylesheet", scheme, front, ground)
			}
			if got := contrast(t, colours[front], colours[ground]); got < least {
				t.Errorf("%s: %s on %s has a contrast of %.2f, want %v", scheme, front, ground, got, least)
			}
		}
		for _, ground := range []string{"page", "card"} {
			for _, front := range []string{"ink", "soft", "link", "failing"} {
				check(front, ground, 4.5)
			}
		}
		for _, level := range []string{"well", "coming", "look", "failing"} {
			check(level, level+"-soft", 4.5)
			check("ink", level+"-soft", 4.5)
			check(level, "card", 3)
			check(level, "life", 3)
		}
		check("ink", "window", 3)
		check("ink", "life", 3)
		check("over", "card", 3)
	}
}

// contrast is WCAG 2.2's contrast ratio.
func contrast(t *testing.T, a, b string) float64 {
	t.Helper()
	luminance := func(colour string) (l float64) {
		for i, weight := range []float64{0.2126, 0.7152, 0.0722} {
			n, err := strconv.ParseUint(colour[1+2*i:3+2*i], 16, 8)
			if err != nil {
				t.Fatal(err)
			}
			c := float64(n) / 255
			if c <= 0.04045 {
				c /= 12.92
			} else {
				c = math.Pow((c+0.055)/1.055, 2.4)
			}
			l += weight * c
		}
		return l
	}
	x, y := luminance(a), luminance(b)
	return (max(x, y) + 0.05) / (min(x, y) + 0.05)
}

var hostile = []string{
	`<script>alert(1)</script>`, `"><img src=x onerror=alert(1)>`, `' onmouseover='alert(1)`, "</title><script>", "javascript:alert(1)", "{{.Version}}",
	"`<b>`", "a`b", "\u202egro.elpmaxe", "\x1b[31mred", "a\nb\r\nc", "\xff\xfe", "</details></main>", "<!--", "&lt;script&gt;", strings.Repeat("a", 5000),
}

func hostileStanding(text string) (Standing, []Entry) {
	c := ailing(text)
	c.Names, c.State, c.Hint, c.Why, c.Held, c.Issuer, c.Path = []string{text, "x" + text}, text, text, text, text, text, text
	c.Served = []Served{{Container: text, Class: cert.Stale, Since: noon, Action: text, Told: noon, Err: text}, {Container: text + "y", Class: cert.Class(text)}}
	return Standing{At: noon, Certs: []Certificate{c}}, []Entry{{Time: noon, Cert: text, Text: text, Bad: true}}
}

// shape is a document without its texts.
func shape(doc *html.Node) string {
	var b strings.Builder
	for _, n := range all(doc, "") {
		if n.Data == "code" { // of which a text may have any number
			continue
		}
		b.WriteString(n.Data)
		for _, a := range n.Attr {
			b.WriteString(" " + a.Key)
		}
		b.WriteString("\n")
	}
	return b.String()
}

func checkHostile(t testing.TB, text string) {
	t.Helper()
	page := func(text string) *html.Node {
		standing, journal := hostileStanding(text)
		w := ask(newServerOf(ServerConfig{Standing: func() (Standing, error) { return standing, nil }, Journal: func() ([]Entry, error) { return journal, nil }}), "GET", "/")
		if w.Code != 200 {
			t.Fatalf("the page for %q is %d: %s", text, w.Code, w.Body)
		}
		for _, r := range w.Body.String() {
			if r == '\u202e' || r == '\x1b' || r == '\x00' {
				t.Fatalf("the page for %q has %U", text, r)
			}
		}
		return document(t, w.Body.String())
	}
	doc := page(text)
	checkAccessible(t, doc)
	if plain(text) == "" {
		return // parts that are left out where they say nothing
	}
	if got, want := shape(doc), shape(page("harmless")); got != want {
		t.Errorf("%q changes what the page is made of:\n%s\nwant\n%s", text, got, want)
	}
}

func TestHostileTextsAreTextsOnThePage(t *testing.T) {
	for _, text := range hostile {
		checkHostile(t, text)
	}
}

func FuzzPage(f *testing.F) {
	for _, text := range hostile {
		f.Add(text)
	}
	f.Fuzz(func(t *testing.T, text string) { checkHostile(t, text) })
}
