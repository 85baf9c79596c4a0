package config

import (
	"net/url"
	"slices"
	"strings"
	"unicode"

	"github.com/sidecert/sidecert/internal/cert"
)

// Notify says whom to tell of what.
type Notify struct {
	// URLs are where messages go, one by one as NOTIFY_URLS has them.
	URLs []cert.Secret
	// Failure, Expiry, Recovery and Renewal are the words of NOTIFY_ON.
	Failure, Expiry, Recovery, Renewal bool
	// Heartbeat is fetched after each pass; empty where nothing is.
	Heartbeat cert.Secret
}

// maxReceivers is how many URLs there may be.
const maxReceivers = 20

func (p *parser) notify(v vars) Notify {
	n := Notify{Heartbeat: p.heartbeat(v)}
	variable := "NOTIFY_URLS"
	if v.NotifyURLsFile != "" {
		variable += "_FILE"
	}
	urls := strings.Fields(p.textOrFile("NOTIFY_URLS", v.NotifyURLs, v.NotifyURLsFile))
	if len(urls) > maxReceivers {
		p.wrong(variable, redacted, "holds %d URLs; %d are the most", len(urls), maxReceivers)
		urls = nil
	}
	for i, one := range urls {
		if slices.Contains(n.URLs, cert.Secret(one)) {
			p.mend(variable, "URLs written twice were left out", "")
			continue
		}
		if p.world.Receiver != nil {
			if err := p.world.Receiver(one); err != nil {
				p.wrong(variable, "", "number %d of its URLs %v", i+1, err)
				continue
			}
		}
		n.URLs = append(n.URLs, cert.Secret(one))
	}
	for word := range strings.FieldsFuncSeq(v.NotifyOn, func(r rune) bool { return r == ',' || r == ';' || unicode.IsSpace(r) }) {
		switch strings.ToLower(word) {
		case "failure":
			n.Failure = true
		case "expiry":
			n.Expiry = true
		case "recovery":
			n.Recovery = true
		case "renewal":
			n.Renewal = true
		default:
			if strings.ContainsAny(word, ":/") { // one of NOTIFY_URLS in the wrong place
				word = redacted
			}
			p.wrong("NOTIFY_ON", word, "is nothing that is told of; write failure, expiry, recovery or renewal, with commas between")
		}
	}
	if v.NotifyOn != defaultOf("NOTIFY_ON") && v.NotifyURLs == "" && v.NotifyURLsFile == "" {
		p.warn("NOTIFY_ON", "nobody is told, since NOTIFY_URLS is not set")
	}
	return n
}

func (p *parser) heartbeat(v vars) cert.Secret {
	variable := "HEARTBEAT_URL"
	if v.HeartbeatURLFile != "" {
		variable += "_FILE"
	}
	text := p.textOrFile("HEARTBEAT_URL", v.HeartbeatURL, v.HeartbeatURLFile)
	if text == "" {
		return ""
	}
	u, err := url.Parse(text)
	if err != nil || u.Scheme != "https" && u.Scheme != "http" || u.Hostname() == "" || u.Fragment != "" || strings.ContainsFunc(text, unicode.IsSpace) {
		p.wrong(variable, redacted, "is no URL that can be fetched; write one as https://hc-ping.com/YOUR-UUID")
		return ""
	}
	return cert.Secret(text)
}
