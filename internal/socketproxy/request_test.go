package socketproxy

import (
	"net/http"
	"regexp"
	"slices"
	"strings"
	"testing"
	"unicode"
)

// FuzzDecide: what is let through is one of the few calls, in the few ways, whatever the request; and what is said of any other has
// nothing of it.
func FuzzDecide(f *testing.F) {
	for _, r := range rows("web", strings.Repeat("a", 64), "other", strings.Repeat("b", 64), "self", strings.Repeat("c", 64), "loose") {
		head, body, _ := strings.Cut(r.raw, "\r\n\r\n")
		lines := strings.Split(head, "\r\n")
		words := strings.SplitN(lines[0], " ", 3)
		if len(words) == 3 {
			f.Add(words[0], words[1], words[2], strings.Join(lines[1:], "\n"), int64(len(body)), false, body)
		}
	}
	f.Fuzz(func(t *testing.T, method, target, proto, headers string, length int64, encoded bool, body string) {
		r := request{method: method, target: target, proto: proto, header: http.Header{}, length: length, encoded: encoded, body: []byte(body)}
		for line := range strings.SplitSeq(headers, "\n") {
			key, value, _ := strings.Cut(line, ":")
			r.header.Add(strings.TrimSpace(key), strings.TrimSpace(value))
		}
		c, refusal := decide(r)
		if refusal != nil {
			for _, said := range []string{refusal.what, refusal.why} {
				if len(said) > 200 || strings.ContainsFunc(said, func(r rune) bool { return !unicode.IsPrint(r) }) {
					t.Errorf("%q is said of a request", said)
				}
			}
			if c.what != "" {
				t.Errorf("%+v is refused and let through", c)
			}
			return
		}
		path, _, _ := strings.Cut(target, "?")
		switch {
		case !regexp.MustCompile(`^(/v1\.[0-9]{2})?/(_ping|events|containers/json|containers/[a-zA-Z0-9][a-zA-Z0-9_.-]*/(json|kill|restart|exec)|exec/[a-zA-Z0-9][a-zA-Z0-9_.-]*/(start|json))$`).MatchString(path):
			t.Errorf("the path %q is let through", path)
		case method == "POST" != strings.HasPrefix(c.what, "POST "), method != "GET" && method != "POST" && !(method == "HEAD" && c.what == callPing):
			t.Errorf("%q is let through as %s", method, c.what)
		case proto != "HTTP/1.1", encoded, length < 0, length > maxBody, length != int64(len(body)), suspicion(r) != "":
			t.Errorf("let through: %+v", r)
		case length > 0 && c.what != callExecCreate && c.what != callExecStart:
			t.Errorf("%s with a body is let through", c.what)
		case c.what == callKill && !slices.Contains([]string{"HUP", "USR1", "USR2"}, c.signal), c.what != callKill && c.signal != "":
			t.Errorf("the signal %q is let through", c.signal)
		case c.what == callKill && !strings.HasSuffix(target, "?signal="+c.signal) && !strings.HasSuffix(target, "?signal=SIG"+c.signal):
			t.Errorf("%q is let through as the signal %s", target, c.signal)
		case c.what == callExecCreate && !slices.Contains([]string{"nginx -s reload", "nginx -t", "httpd -k graceful"}, strings.Join(c.command, " ")), c.what != callExecCreate && c.command != nil:
			t.Errorf("the command %q is let through", c.command)
		case c.wait < 0 || c.wait.Seconds() > maxRestart || c.since.Unix() > 9999999999:
			t.Errorf("the times %v and %v are let through", c.wait, c.since)
		case strings.Contains(c.what, "{id}") != (c.id != "") || c.id != "" && !strings.Contains(target, "/"+c.id+"/"):
			t.Errorf("%q is let through as %s of %q", target, c.what, c.id)
		}
		total := 0
		for key, values := range c.filters {
			total += len(values)
			if !slices.Contains(filterKeys[c.what], key) {
				t.Errorf("the filter %q is let through", key)
			}
		}
		if total > maxFilters {
			t.Errorf("%d filters are let through", total)
		}
	})
}
