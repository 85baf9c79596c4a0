package report

import (
	"encoding/json"
	"fmt"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/sidecert/sidecert/internal/cert"
)

var (
	begin  = time.Date(2027, 1, 1, 12, 0, 0, 0, time.UTC)
	always = On{Failure: true, Expiry: true, Recovery: true}
)

const oneDay = 24 * time.Hour

// failing is a renewal that fails, with 30 days left at begin.
func failing(name string, next time.Duration) cert.Condition {
	return cert.Condition{Kind: cert.ConditionFailing, Cert: name, Names: []string{name}, Until: begin.Add(30 * oneDay), Next: begin.Add(next),
		Err: "order: the CA said no", Hint: "mend it"}
}

// look is what stands from a time on, until the next look.
type look struct {
	at time.Duration
	cert.News
}

func stands(at time.Duration, conditions ...cert.Condition) look {
	return look{at, cert.News{Conditions: conditions}}
}

// follow looks every minute (every ten where it is for days) until the end, with what stands then, and returns the titles with the hours after begin. The book goes through
// its form on disk at each look, as if each were made by another process.
func follow(t *testing.T, on On, end time.Duration, looks ...look) (titles []string) {
	t.Helper()
	var l Ledger
	var now cert.News
	step := time.Minute
	if end > 2*oneDay {
		step = 10 * time.Minute
	}
	for at := time.Duration(0); at <= end; at += step {
		now.Renewed = nil
		for len(looks) > 0 && looks[0].at <= at {
			now, looks = looks[0].News, looks[1:]
		}
		var messages []Message
		messages, l = decide(l, now, on, begin.Add(at))
		for _, m := range messages {
			titles = append(titles, fmt.Sprintf("%.1f %s", at.Hours(), m.Title))
		}
		data, err := json.Marshal(l)
		if err != nil {
			t.Fatal(err)
		}
		l = Ledger{}
		if err := json.Unmarshal(data, &l); err != nil {
			t.Fatal(err)
		}
	}
	return titles
}

func TestEachThingIsToldWhenAPersonWantsToHearOfIt(t *testing.T) {
	const m, h = time.Minute, time.Hour
	of := func(kind cert.ConditionKind, container string) cert.Condition {
		return cert.Condition{Kind: kind, Cert: "a", Container: container}
	}
	first := failing("a", 10*m)
	first.Until = time.Time{}
	brief := func(name string, until time.Duration) cert.Condition {
		c := failing(name, m)
		c.Until = begin.Add(until)
		return c
	}
	near := failing("a", m)
	near.Until = begin.Add(12 * h)
	for _, test := range []struct {
		name  string
		on    On
		end   time.Duration
		looks []look
		want  []string
	}{
		{"a hiccup that the third try mends", always, 5 * h, []look{stands(0, failing("a", m)), stands(m, failing("a", 11*m)), stands(11 * m)}, nil},
		{"the third failure in a row, and well again", always, oneDay,
			[]look{stands(0, failing("a", m)), stands(m, failing("a", 11*m)), stands(12*m, failing("a", 112*m)), stands(6*h, failing("a", 30*h)), {7 * h, cert.News{Renewed: []cert.Renewed{{Cert: "a"}}}}},
			[]string{"0.2 sidecert: a is not renewed", "7.0 sidecert: well again: a"}},
		{"what only a person can mend", always, oneDay, []look{stands(0, failing("a", oneDay))}, []string{"0.0 sidecert: a is not renewed"}},
		{"a CA that is away for half an hour", always, oneDay, []look{stands(0, failing("a", m)), stands(30 * m)}, nil},
		{"a CA that is away for long", always, 3 * h, []look{stands(0, failing("a", m))}, []string{"1.0 sidecert: a is not renewed"}},
		{"a first certificate that does not come", always, oneDay, []look{stands(0, first)}, []string{"0.0 sidecert: a gets no certificate"}},
		{"little time is left", always, h, []look{stands(0, near)}, []string{"0.6 sidecert: a is not renewed"}},
		{"short lives that end one after the other", always, 50 * m, []look{stands(0, brief("a", 20*m)), stands(3 * m), stands(10*m, brief("b", 30*m), brief("c", 40*m)), stands(35*m, brief("c", 40*m)), stands(45 * m)},
			[]string{"0.0 sidecert: a is not renewed", "0.1 sidecert: well again: a", "0.2 sidecert: b is not renewed", "0.2 sidecert: c is not renewed",
				"0.5 sidecert: still: b is not renewed", "0.6 sidecert: well again: b", "0.7 sidecert: still: c is not renewed"}},
		{"nobody mends it for a month", always, 60 * oneDay, []look{stands(0, failing("a", oneDay))}, []string{
			"0.0 sidecert: a is not renewed", "240.0 sidecert: still: a is not renewed", "360.0 sidecert: still: a is not renewed",
			"480.0 sidecert: still: a is not renewed", "540.0 sidecert: still: a is not renewed", "552.0 sidecert: still: a is not renewed", "576.0 sidecert: still: a is not renewed",
			"600.0 sidecert: still: a is not renewed", "624.0 sidecert: still: a is not renewed", "648.0 sidecert: still: a is not renewed", "672.0 sidecert: still: a is not renewed",
			"696.0 sidecert: still: a is not renewed", "720.0 sidecert: still: a is not renewed"}},
		{"only reminders are wanted", On{Expiry: true}, 20 * oneDay, []look{stands(0, failing("a", oneDay)), stands(16 * oneDay)}, []string{
			"240.0 sidecert: still: a is not renewed", "360.0 sidecert: still: a is not renewed"}},
		{"only failures are wanted", On{Failure: true}, 20 * oneDay, []look{stands(0, failing("a", oneDay)), stands(16 * oneDay)}, []string{"0.0 sidecert: a is not renewed"}},
		{"only recoveries are wanted, of what nobody was told", On{Recovery: true}, 20 * oneDay, []look{stands(0, failing("a", oneDay)), stands(16 * oneDay)}, nil},
		{"successes are wanted", On{Renewal: true}, h, []look{{0, cert.News{Renewed: []cert.Renewed{{Cert: "a"}, {Cert: "b"}}}}}, []string{"0.0 sidecert: renewed: a and 1 more"}},
		{"an old certificate is served for a while", always, h, []look{stands(0, of(cert.ConditionStale, "web")), stands(4 * m)}, nil},
		{"an old certificate goes on being served", always, h, []look{stands(0, of(cert.ConditionStale, "web")), stands(30 * m)},
			[]string{"0.1 sidecert: web still serves an old certificate of a", "0.5 sidecert: well again: a"}},
		{"nobody seen to serve it", always, 3 * h, []look{stands(0, of(cert.ConditionUnverified, "")), stands(2 * h)},
			[]string{"1.0 sidecert: nobody is seen to serve the new certificate of a", "2.0 sidecert: well again: a"}},
		{"dropped and still served", always, 3 * h, []look{stands(0, of(cert.ConditionUnkept, "web"))},
			[]string{"1.0 sidecert: a is configured no more, so that it is not renewed, and web still serves it"}},
		{"no engine for long", always, 3 * h, []look{stands(0, cert.Condition{Kind: cert.ConditionNoEngine})}, []string{"1.0 sidecert: the web containers cannot be reached, so that none is reloaded"}},
		{"what a look cannot see stands", always, 5 * h, []look{stands(0, of(cert.ConditionStale, "web")), {h, cert.News{Unknown: []cert.ConditionKind{cert.ConditionStale}}}},
			[]string{"0.1 sidecert: web still serves an old certificate of a"}},
		{"three begin at the same pass", always, h, []look{stands(0, failing("a", oneDay), failing("b", oneDay), failing("c", oneDay))}, []string{"0.0 sidecert: a is not renewed (and 2 more)"}},
		{"others follow within the hour", always, 3 * h, []look{stands(0, failing("a", oneDay)), stands(10*m, failing("a", oneDay), failing("b", oneDay)), stands(20*m, failing("a", oneDay), failing("b", oneDay), failing("c", oneDay))},
			[]string{"0.0 sidecert: a is not renewed", "1.0 sidecert: b is not renewed (and 1 more)"}},
		{"expires though nobody tries", always, h, []look{stands(0, cert.Condition{Kind: cert.ConditionExpiring, Cert: "a", Until: begin.Add(9 * oneDay)})}, []string{"0.0 sidecert: a nears its expiry and is not renewed"}},
	} {
		t.Run(test.name, func(t *testing.T) {
			if got := follow(t, test.on, test.end, test.looks...); !slices.Equal(got, test.want) {
				t.Errorf("told\n%s\nwant\n%s", strings.Join(got, "\n"), strings.Join(test.want, "\n"))
			}
		})
	}
}

// What comes and goes all the time is told once a day.
func TestFlappingIsNoStorm(t *testing.T) {
	var looks []look
	for at := time.Duration(0); at < 7*oneDay; at += time.Hour {
		looks = append(looks, stands(at, cert.Condition{Kind: cert.ConditionStale, Cert: "a", Container: "web"}), stands(at+30*time.Minute))
	}
	if got := follow(t, always, 7*oneDay, looks...); len(got) > 2*8 || len(got) < 2 {
		t.Errorf("%d messages in a week, want two a day:\n%s", len(got), strings.Join(got, "\n"))
	}
}

// A clock that goes back a year makes nobody deaf: what began before is told, and what is new too.
func TestAClockThatWasAheadSilencesNothing(t *testing.T) {
	var l Ledger
	_, l = decide(l, cert.News{Conditions: []cert.Condition{failing("a", 301*oneDay)}}, always, begin.Add(300*oneDay))
	now := begin
	var titles []string
	for ; now.Before(begin.Add(2 * time.Hour)); now = now.Add(time.Minute) {
		var messages []Message
		messages, l = decide(l, cert.News{Conditions: []cert.Condition{failing("b", oneDay)}}, always, now)
		for _, m := range messages {
			titles = append(titles, m.Title)
		}
	}
	if want := []string{"sidecert: well again: a", "sidecert: b is not renewed"}; !slices.Equal(titles, want) {
		t.Errorf("told %q, want %q", titles, want)
	}
}

func TestAMessageSaysWhatSinceWhenUntilWhenWhyAndWhatToDo(t *testing.T) {
	c := failing("shop.example.org", 2*oneDay)
	c.Names = []string{"shop.example.org", "www.shop.example.org"}
	c.Err = "authorization www.shop.example.org: 403 urn:ietf:params:acme:error:unauthorized\x1b[31m"
	c.Hint = "mount the webroot volume in the web container too"
	messages, l := decide(Ledger{}, cert.News{Conditions: []cert.Condition{c}}, always, begin)
	if len(messages) != 1 {
		t.Fatalf("%d messages, want 1", len(messages))
	}
	want := `shop.example.org is not renewed (also for www.shop.example.org), since 2027-01-01 12:00 UTC.
What is served works until 2027-01-31 12:00 UTC, for 30 days.
Why: authorization www.shop.example.org: 403 urn:ietf:params:acme:error:unauthorized [31m
What to do: mount the webroot volume in the web container too
Next try: 2027-01-03 12:00 UTC.
More: docker compose exec sidecert sidecert doctor`
	if got := messages[0].Text; got != want {
		t.Errorf("the message is\n%s\nwant\n%s", got, want)
	}
	messages, _ = decide(l, cert.News{Renewed: []cert.Renewed{{Cert: "shop.example.org", NotAfter: begin.Add(91 * oneDay)}}}, always, begin.Add(3*oneDay))
	if want := (Message{"sidecert: well again: shop.example.org", "shop.example.org is renewed: the new certificate is valid until 2027-04-02 12:00 UTC."}); len(messages) != 1 || messages[0] != want {
		t.Errorf("when it is well again: %q, want %q", messages, want)
	}
}

// A thousand certificates in trouble are one message of a bounded length, and a book that fits in a file.
func TestAThousandTroublesAreOneMessage(t *testing.T) {
	var all []cert.Condition
	for i := range 1000 {
		c := failing(fmt.Sprintf("site%d.%s.example.org", i, strings.Repeat("x", 60)), oneDay)
		c.Err, c.Hint = strings.Repeat("é", 5000), strings.Repeat("é", 5000)
		for n := range 100 {
			c.Names = append(c.Names, fmt.Sprintf("%d.%s", n, c.Cert))
		}
		all = append(all, c)
	}
	messages, l := decide(Ledger{}, cert.News{Conditions: all}, always, begin)
	if len(messages) != 1 || len(messages[0].Text) > 2*maxMessage || !strings.Contains(messages[0].Text, "And 995 more") || !strings.Contains(messages[0].Title, "(and 999 more)") {
		t.Errorf("%d messages, the first %.3000q", len(messages), messages)
	}
	data, err := json.MarshalIndent(l, "", "  ")
	if err != nil || len(data) > 700<<10 {
		t.Errorf("the book has %d bytes, %v; with a full queue it must stay below 1 MiB", len(data), err)
	}
}
