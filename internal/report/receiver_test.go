package report

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"net/http/httptest"
	"regexp"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"github.com/sidecert/sidecert/internal/report/mailtest"
)

// canary stands wherever a URL can hold a secret.
const canary = "canary42canary42"

var message = Message{"sidecert: a.example is not renewed", "a.example is not renewed, since 2027.\nWhat to do: mount it\n.\nend"}

func receiver(t *testing.T, url string) *Receiver {
	t.Helper()
	all, err := NewReceivers(url)
	if err != nil || len(all) != 1 {
		t.Fatalf("NewReceivers(%s) = %d, %v", url, len(all), err)
	}
	return all[0]
}

func mailServer(t *testing.T) *mailtest.Server {
	t.Helper()
	s, err := mailtest.Start("")
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { s.Close() })
	return s
}

func TestMailIsWhatAPersonReads(t *testing.T) {
	s := mailServer(t)
	if err := receiver(t, "smtp://me:"+canary+"@"+s.Address()+"/?from=sidecert@example.org&to=admin@example.org&auth=plain").Send(t.Context(), message); err != nil {
		t.Fatal(err)
	}
	mails := s.Mails()
	if len(mails) != 1 {
		t.Fatalf("%d mails, want 1", len(mails))
	}
	m := mails[0]
	if got := m.Header.Get("Subject"); got != message.Title {
		t.Errorf("the subject is %q, want %q", got, message.Title)
	}
	if strings.TrimSpace(m.Body) != message.Text || m.From != "sidecert@example.org" || m.To != "admin@example.org" {
		t.Errorf("the mail is %+v, want from, to and text as given", m)
	}
}

// One person's address that is refused must not make the others get the mail again and again.
func TestEachPersonHasAMailOfHisOwn(t *testing.T) {
	s := mailServer(t)
	s.Refuse = func(to string) string {
		if strings.HasPrefix(to, "gone") {
			return "550 5.1.1 <" + to + ">: who? " + canary
		}
		return ""
	}
	all, err := NewReceivers("smtp://me:" + canary + "@" + s.Address() + "/?from=sidecert@example.org&toaddresses=gone@example.org,admin@example.org&auth=none")
	if err != nil || len(all) != 2 {
		t.Fatalf("%d receivers, %v; want one for each person", len(all), err)
	}
	err = all[0].Send(t.Context(), message)
	if err == nil || !strings.Contains(err.Error(), "550") || strings.Contains(err.Error(), canary) {
		t.Errorf("the refusal is told as %v, want the server's words without the password", err)
	}
	if err := all[1].Send(t.Context(), message); err != nil || len(s.Mails()) != 1 || s.Mails()[0].To != "admin@example.org" {
		t.Errorf("the other one got %+v, %v", s.Mails(), err)
	}
}

// A mail that was taken is not sent again because the server has no manners.
func TestAServerThatHangsUpHasTakenTheMail(t *testing.T) {
	s := mailServer(t)
	s.DropAtQuit = true
	if err := receiver(t, "smtp://"+s.Address()+"/?from=a@example.org&to=b@example.org").Send(t.Context(), message); err != nil || len(s.Mails()) != 1 {
		t.Errorf("Send() = %v with %d mails, want none wrong and 1", err, len(s.Mails()))
	}
}

// A mail server that takes the connection and says nothing costs 30 s, and one connection in all.
func TestASilentMailServerIsAskedOnceAtATime(t *testing.T) {
	listener, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	defer listener.Close()
	r := receiver(t, "smtp://"+listener.Addr().String()+"/?from=a@example.org&to=b@example.org")
	ctx, cancel := context.WithCancel(t.Context())
	sent := make(chan error)
	go func() { sent <- r.Send(ctx, message) }()
	conn, err := listener.Accept()
	if err != nil {
		t.Fatal(err)
	}
	if err := r.Send(ctx, message); !errors.Is(err, errBusy) {
		t.Errorf("a second message meanwhile: %v, want %v", err, errBusy)
	}
	cancel() // which leaves it a farewell of 3 s
	conn.Close()
	if err := <-sent; err == nil {
		t.Error("a mail that nobody took was sent")
	}
}

// posts is an HTTP receiver that keeps what it gets.
type posts struct {
	*httptest.Server
	got chan *http.Request
}

func newPosts(t *testing.T, answer http.HandlerFunc) *posts {
	t.Helper()
	p := &posts{got: make(chan *http.Request, 10)}
	p.Server = httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		body, _ := io.ReadAll(r.Body)
		r.Body = io.NopCloser(strings.NewReader(string(body)))
		p.got <- r
		if answer != nil {
			answer(w, r)
		}
	}))
	t.Cleanup(p.Close)
	return p
}

func (p *posts) host() string { return strings.TrimPrefix(p.URL, "http://") }

func TestWebhooksGetTheMessage(t *testing.T) {
	for name, test := range map[string]struct {
		url  string // HOST is the receiver
		path string
		want func(r *http.Request, body string) bool
	}{
		"generic": {"generic+http://HOST/hook/" + canary, "/hook/" + canary, func(_ *http.Request, body string) bool { return body == message.Text }},
		"generic with JSON": {"generic+http://HOST/hook?template=json&key=" + canary, "/hook", func(r *http.Request, body string) bool {
			var got map[string]string
			return json.Unmarshal([]byte(body), &got) == nil && got["title"] == message.Title && got["message"] == message.Text && r.URL.Query().Get("key") == canary
		}},
		"what Slack and its kin take": {"generic+http://HOST/services/T/B/" + canary + "?template=json&messagekey=text", "/services/T/B/" + canary, func(_ *http.Request, body string) bool {
			return strings.Contains(body, `"text":"a.example is not renewed`)
		}},
		"ntfy": {"ntfy://me:" + canary + "@HOST/alerts?scheme=http", "/alerts", func(r *http.Request, body string) bool {
			_, password, _ := r.BasicAuth()
			return body == message.Text && r.Header.Get("Title") == message.Title && password == canary
		}},
		"gotify": {"gotify://HOST/" + "Aaa.bbb.ccc.ddd?disabletls=yes", "/message", func(_ *http.Request, body string) bool {
			return strings.Contains(body, `"title": "sidecert: a.example is not renewed"`)
		}},
		"mattermost": {"mattermost://me@HOST/" + canary + "/channel?disabletls=yes", "/hooks/" + canary, func(_ *http.Request, body string) bool {
			return strings.Contains(body, "a.example is not renewed")
		}},
	} {
		t.Run(name, func(t *testing.T) {
			p := newPosts(t, func(w http.ResponseWriter, _ *http.Request) { io.WriteString(w, `{"id":1}`) })
			r := receiver(t, strings.ReplaceAll(test.url, "HOST", p.host()))
			if err := r.Send(t.Context(), message); err != nil {
				t.Fatal(err)
			}
			req := <-p.got
			body, _ := io.ReadAll(req.Body)
			if req.URL.Path != test.path || !test.want(req, string(body)) {
				t.Errorf("%s got %s %s %v\n%s", name, req.Method, req.URL, req.Header, body)
			}
			if strings.Contains(r.String(), canary) || !strings.Contains(r.String(), p.host()) {
				t.Errorf("it is shown as %s, want the service and %s", r, p.host())
			}
		})
	}
}

func TestAReceiverThatMisbehavesIsNoSuccessAndTellsNothing(t *testing.T) {
	elsewhere := newPosts(t, nil)
	endless := 0 // MiB that were taken of an answer that does not end
	for name, test := range map[string]struct {
		answer http.HandlerFunc
		want   string
	}{
		"refuses": {func(w http.ResponseWriter, r *http.Request) {
			http.Error(w, "no "+r.URL.String(), http.StatusForbidden)
		}, "it answered 403 Forbidden"},
		"redirects": {func(w http.ResponseWriter, r *http.Request) {
			http.Redirect(w, r, elsewhere.URL+r.URL.Path, http.StatusFound)
		}, "redirects are not followed"},
		"redirects the body": {func(w http.ResponseWriter, r *http.Request) {
			http.Redirect(w, r, elsewhere.URL+r.URL.Path, http.StatusPermanentRedirect)
		}, "redirects are not followed"},
		"hangs up": {func(http.ResponseWriter, *http.Request) { panic(http.ErrAbortHandler) }, "EOF"},
		"never ends": {func(w http.ResponseWriter, _ *http.Request) {
			for endless = 0; endless < 1<<10; endless++ {
				if _, err := w.Write(make([]byte, 1<<20)); err != nil {
					return
				}
			}
		}, ""},
	} {
		t.Run(name, func(t *testing.T) {
			p := newPosts(t, test.answer)
			err := receiver(t, "generic+http://me:"+canary+"@"+p.host()+"/"+canary+"/x?token="+canary).Send(t.Context(), message)
			if test.want == "" && err != nil || test.want != "" && (err == nil || !strings.Contains(err.Error(), test.want)) {
				t.Errorf("Send() = %v, want %q", err, test.want)
			}
			if strings.Contains(fmt.Sprintf("%v %+v %#v", err, err, err), canary[:8]) {
				t.Errorf("the error gives the URL away: %v", err)
			}
		})
	}
	if endless > 100 {
		t.Errorf("%d MiB of an answer were read, want 64 KiB and what sockets hold", endless)
	}
	select {
	case r := <-elsewhere.got:
		t.Errorf("the message went elsewhere: %s", r.URL)
	default:
	}
}

// handler answers requests without a network, so that a test can wait in a bubble.
type handler func(*http.Request) (*http.Response, error)

func (h handler) RoundTrip(r *http.Request) (*http.Response, error) { return h(r) }

func TestAWebhookThatSaysNothingCostsTenSeconds(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		r := receiver(t, "generic+http://hook.example/"+canary)
		r.transport = handler(func(r *http.Request) (*http.Response, error) {
			<-r.Context().Done()
			return nil, r.Context().Err()
		})
		begun := time.Now()
		err := r.Send(t.Context(), message)
		if err == nil || !strings.Contains(err.Error(), "no answer within 10s") || time.Since(begun) != 10*time.Second {
			t.Errorf("Send() = %v after %v, want no answer after 10 s", err, time.Since(begun))
		}
	})
}

// urls are as shoutrrr's documentation has them, with a secret in each place for one.
var urls = []string{
	"bark://:" + canary + "@bark.example/", "discord://" + canary + "@123456789", "generic://hook.example/" + canary, "googlechat://chat.googleapis.com/v1/spaces/x/messages?key=" + canary + "&token=" + canary,
	"gotify://gotify.example/AbcDefghi.ghi_j", "ifttt://" + canary + "/?events=event", "join://shoutrrr:" + canary + "@join/?devices=device", "lark://open.larksuite.com/" + canary,
	"matrix://me:" + canary + "@matrix.example/?rooms=!room:matrix.example", "matrix://:" + canary + "@matrix.example/?rooms=room", "mattermost://me@mattermost.example/" + canary,
	"notifiarr://" + canary, "ntfy://me:" + canary + "@ntfy.example/topic", "opsgenie://api.opsgenie.com/" + canary, "pagerduty://events.pagerduty.com/" + strings.Repeat("ab", 16),
	"pushbullet://" + strings.Repeat("a", 34), "pushover://shoutrrr:" + canary + "@userkey/", "rocketchat://me@rocket.example/" + canary + "/" + canary,
	"signal://me:" + canary + "@signal.example/+1234567890/+1987654321", "slack://hook:T00000000-B00000000-" + strings.Repeat("x", 24) + "@webhook", "slack://xoxb:123456789012-1234567890123-" + strings.Repeat("a", 24) + "@C001CH4NN3L",
	"smtp://me:" + canary + "@mail.example:587/?from=a@example.org&to=b@example.org", "telegram://110201543:" + strings.Repeat("A", 35) + "@telegram?chats=@channel",
	"twilio://AC0123456789abcdef0123456789abcdef:" + canary + "@+15551234567/+15557654321", "wecom://" + canary, "zulip://bot@zulip.example:" + canary + "@zulip.example/?stream=s&topic=t",
	"teams://?host=https%3A%2F%2Fprod-00.westus.logic.azure.com%3A443%2Fworkflows%2Fabc123%2Ftriggers%2Fmanual%2Fpaths%2Finvoke%3Fsig%3D" + canary,
}

// TestEveryServiceIsReadWithoutAConnectionAndSends has each of them make its request, to nobody.
func TestEveryServiceIsReadWithoutAConnectionAndSends(t *testing.T) {
	for _, url := range urls {
		service, _, _ := strings.Cut(url, ":")
		t.Run(service, func(t *testing.T) {
			secret := ""
			for _, part := range regexp.MustCompile(`[A-Za-z0-9]+`).FindAllString(url, -1) {
				if len(part) > len(secret) {
					secret = part
				}
			}
			if strings.Contains(url, canary) {
				secret = canary
			}
			r := receiver(t, url)
			if strings.Contains(r.String(), secret) {
				t.Errorf("it is shown as %s", r)
			}
			if service == "smtp" {
				return
			}
			asked := 0
			r.transport = handler(func(req *http.Request) (*http.Response, error) {
				asked++
				return nil, fmt.Errorf("cannot reach %s with %s", req.URL, secret)
			})
			err := r.Send(t.Context(), message)
			if asked == 0 || err == nil {
				t.Errorf("it made no request: %v", err)
			}
			if err != nil && strings.Contains(err.Error(), secret) {
				t.Errorf("its error gives %s away: %v", secret, err)
			}
		})
	}
}

func TestAURLThatIsNoneSaysWhatWouldBeRight(t *testing.T) {
	for url, want := range map[string]string{
		canary:                                                                                      "is no URL; write e.g. smtp://",
		"https://hook.example/" + canary:                                                            "is a bare https:// URL; write generic+https://…",
		"mailto:" + canary + "@example.org":                                                         "is no URL",
		"mqtt://me:" + canary + "@mqtt.example/":                                                    "begins with no service that is known here; those are bark, discord,",
		"smtp://me:" + canary + "@mail.example/":                                                    "has no from=; write smtp://USER:PASSWORD@HOST:587/?from=ADDRESS&to=ADDRESS",
		"smtp://me:" + canary + "@mail.example/?from=a@example.org":                                 "has no to=; write smtp://",
		"smtp://me:" + canary + "@mail.example/?from=a@example.org&to=":                             "has nothing after to=; write smtp://",
		"smtp://me:" + canary + "@mail.example/?fromAddress=&to=b@example.org":                      "has nothing after fromAddress=; write smtp://",
		"smtp://me:" + canary + "@mail.example/?From=a@example.org&toAddresses=%20,":                "has nothing after toAddresses=; write smtp://",
		"smtp://me:" + canary + "@mail.example/?fromAddress=a@example.org&To=b@example.org&auth=no": "is not complete, or wrong (",
		"slack://" + canary:                                                                         "is not complete, or wrong (",
		"smtp://mail.example/?from=a@example.org&to=b@example.org&" + canary + "=x":                 "is not complete, or wrong (",
		"ntfy+https://ntfy.example/" + canary:                                                       "is not complete, or wrong (ntfy:// takes no +)",
		"telegram://" + canary + "@telegram":                                                        "is not complete, or wrong (",
		"smtp://me:%zz" + canary + "@mail.example/":                                                 "is no URL",
	} {
		err := CheckURL(url)
		if err == nil || !strings.HasPrefix(err.Error(), want) {
			t.Errorf("CheckURL(%s) = %v, want %s…", url, err, want)
		}
		if err != nil && strings.Contains(err.Error(), canary[:8]) {
			t.Errorf("CheckURL(%s) gives it away: %v", url, err)
		}
	}
}
