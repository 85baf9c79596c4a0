package report

import (
	"fmt"
	"slices"
	"time"

	"github.com/sidecert/sidecert/internal/cert"
)

// noon is when the samples are looked at.
var noon = time.Date(2026, 11, 28, 12, 0, 0, 0, time.UTC)

const day24 = 24 * time.Hour

func healthy(name string, age time.Duration, others ...string) Certificate {
	issued := noon.Add(-age)
	due := issued.Add(60 * day24)
	return Certificate{
		Name: name, Names: append([]string{name}, others...), State: "It is well.", Kept: true, Stored: true, KeyType: "ec-256",
		Issuer: "CN=E7,O=Let's Encrypt,C=US", Version: 4, NotBefore: issued, NotAfter: issued.Add(90 * day24), Due: due, Next: due,
		Why: "it is due then by its lifetime", Path: "/etc/letsencrypt/live/" + name, Told: true,
		Served: []Served{{Container: "shop-web-1", Class: cert.Current, Since: issued.Add(time.Hour + time.Second), Action: "HUP", Told: issued.Add(time.Hour)}},
	}
}

func ailing(name string) Certificate {
	c := healthy(name, 63*day24, "www."+name)
	c.Level, c.Failures = Failing, 3
	c.State = "The last 3 attempts failed, most recently at 2026-11-28 10:41 UTC: authorization www." + name + ": the CA could not fetch http://www." + name + "/.well-known/acme-challenge/…: 404 Not Found."
	c.Hint = "the web container answers 404 for the challenge path: in nginx, put `location ^~ /.well-known/acme-challenge/ { root /var/www/certbot; }` into the server on port 80"
	c.Next, c.Why, c.Held = noon.Add(21*time.Minute), "it is due for renewal", "the last of 3 attempts failed"
	return c
}

func unserved(name string) Certificate {
	c := healthy(name, 2*time.Hour, "www."+name, "img."+name, "api."+name)
	c.Level, c.State, c.Hint = Failing, "It is not served: an older one is served by shop-proxy-1.", "`sidecert doctor` tells what is in the way"
	c.Served = append(c.Served, Served{Container: "shop-proxy-1", Class: cert.Stale, Since: noon.Add(-4 * time.Minute), Action: "exec httpd -k graceful", Told: noon.Add(-4 * time.Minute), Err: "httpd: Syntax error on line 12 of /usr/local/apache2/conf/httpd.conf"})
	return c
}

func coming(name string) Certificate {
	return Certificate{Name: name, Names: []string{name}, Level: Coming, Kept: true, State: "A placeholder that no browser accepts stands in its place until the CA has given it.",
		Next: noon, Why: "there is no certificate yet", Path: "/etc/letsencrypt/live/" + name, Told: true}
}

func unkept(name string) Certificate {
	c := healthy(name, 40*day24)
	c.Level, c.Kept, c.Told, c.Due, c.Next, c.Served = Doubtful, false, false, time.Time{}, time.Time{}, nil
	c.State, c.Hint = "It is stored, not configured, and not renewed.", "name it in DOMAINS to keep it, or forget it by `sidecert delete "+name+"` once no web server uses it"
	return c
}

// samples are what the page must be good for.
func samples() map[string]Standing {
	hundred := Standing{At: noon}
	for i := range 97 {
		c := healthy(fmt.Sprintf("site%02d.example.org", i), time.Duration(i*37%58)*day24, fmt.Sprintf("www.site%02d.example.org", i))
		if i%9 == 0 {
			c.Names = append(c.Names, "shop."+c.Name, "a-rather-long-name-that-somebody-has-chosen."+c.Name)
		}
		hundred.Certs = append(hundred.Certs, c)
	}
	hundred.Certs = append(hundred.Certs, ailing("example.net"), unserved("example.com"), unkept("old.example.org"))
	return map[string]Standing{
		"none":     {At: noon},
		"one":      {At: noon, Certs: []Certificate{healthy("example.org", 12*day24, "www.example.org")}},
		"three":    {At: noon, Certs: []Certificate{healthy("example.org", 12*day24, "www.example.org"), healthy("example.net", 33*day24), healthy("shop.example.com", 58*day24, "www.shop.example.com", "pay.shop.example.com")}},
		"failures": {At: noon, Certs: []Certificate{healthy("example.org", 12*day24, "www.example.org"), ailing("example.net"), unserved("shop.example.com"), coming("new.example.org"), unkept("old.example.org")}},
		"hundred":  hundred,
		"readme": {At: noon, Certs: []Certificate{healthy("example.org", 12*day24, "www.example.org"), ailing("example.net"),
			healthy("shop.example.com", 58*day24, "www.shop.example.com", "pay.shop.example.com"), healthy("blog.example.org", 33*day24)}},
	}
}

// sampleJournal tells of failures where there are any.
func sampleJournal(s Standing) []Entry {
	at := func(before time.Duration) time.Time { return noon.Add(-before) }
	all := []Entry{
		{Time: at(12 * day24), Cert: "example.org", Text: "version 4 obtained for example.org, www.example.org, valid until 2027-02-14 12:00 UTC"},
		{Time: at(12*day24 - 4*time.Second), Cert: "example.org", Text: "shop-web-1 serves version 4, after HUP"},
		{Time: at(3*day24 - time.Hour), Cert: "example.net", Text: "attempt 1 failed: the CA could not fetch the challenge: 404 Not Found; next try 2026-11-25 13:01 UTC", Bad: true},
		{Time: at(2 * time.Hour), Cert: "shop.example.com", Text: "version 9 obtained for shop.example.com, www.shop.example.com, img.shop.example.com, api.shop.example.com, valid until 2027-02-26 10:00 UTC"},
		{Time: at(119 * time.Minute), Cert: "shop.example.com", Text: "shop-web-1 serves version 9, after HUP"},
		{Time: at(118 * time.Minute), Cert: "shop.example.com", Text: "shop-proxy-1 still serves an older certificate than version 9, after exec httpd -k graceful: httpd: Syntax error on line 12 of /usr/local/apache2/conf/httpd.conf", Bad: true},
		{Time: at(79 * time.Minute), Cert: "example.net", Text: "attempt 3 failed: the CA could not fetch the challenge: 404 Not Found; next try 2026-11-28 12:21 UTC", Bad: true},
	}
	return slices.DeleteFunc(all, func(e Entry) bool {
		i := slices.IndexFunc(s.Certs, func(c Certificate) bool { return c.Name == e.Cert })
		return i < 0 || e.Bad && s.Certs[i].Level < Failing
	})
}
