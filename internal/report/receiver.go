package report

import (
	"cmp"
	"context"
	"crypto/sha256"
	"encoding/base64"
	"encoding/hex"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"maps"
	"net/http"
	"net/url"
	"regexp"
	"slices"
	"strings"
	"sync/atomic"
	"time"

	"github.com/nicholas-fedor/shoutrrr/pkg/services/chat/discord"
	"github.com/nicholas-fedor/shoutrrr/pkg/services/chat/googlechat"
	"github.com/nicholas-fedor/shoutrrr/pkg/services/chat/lark"
	"github.com/nicholas-fedor/shoutrrr/pkg/services/chat/matrix"
	"github.com/nicholas-fedor/shoutrrr/pkg/services/chat/mattermost"
	"github.com/nicholas-fedor/shoutrrr/pkg/services/chat/rocketchat"
	"github.com/nicholas-fedor/shoutrrr/pkg/services/chat/signal"
	"github.com/nicholas-fedor/shoutrrr/pkg/services/chat/slack"
	"github.com/nicholas-fedor/shoutrrr/pkg/services/chat/teams"
	"github.com/nicholas-fedor/shoutrrr/pkg/services/chat/telegram"
	"github.com/nicholas-fedor/shoutrrr/pkg/services/chat/wecom"
	"github.com/nicholas-fedor/shoutrrr/pkg/services/chat/zulip"
	"github.com/nicholas-fedor/shoutrrr/pkg/services/email/smtp"
	"github.com/nicholas-fedor/shoutrrr/pkg/services/incident/opsgenie"
	"github.com/nicholas-fedor/shoutrrr/pkg/services/incident/pagerduty"
	"github.com/nicholas-fedor/shoutrrr/pkg/services/push/bark"
	"github.com/nicholas-fedor/shoutrrr/pkg/services/push/gotify"
	"github.com/nicholas-fedor/shoutrrr/pkg/services/push/ifttt"
	"github.com/nicholas-fedor/shoutrrr/pkg/services/push/join"
	"github.com/nicholas-fedor/shoutrrr/pkg/services/push/ntfy"
	"github.com/nicholas-fedor/shoutrrr/pkg/services/push/pushbullet"
	"github.com/nicholas-fedor/shoutrrr/pkg/services/push/pushover"
	"github.com/nicholas-fedor/shoutrrr/pkg/services/push/signalgrid"
	"github.com/nicholas-fedor/shoutrrr/pkg/services/sms/twilio"
	"github.com/nicholas-fedor/shoutrrr/pkg/services/specialized/generic"
	"github.com/nicholas-fedor/shoutrrr/pkg/services/specialized/notifiarr"
	"github.com/nicholas-fedor/shoutrrr/pkg/types"

	"github.com/sidecert/sidecert/internal/cert"
)

// This file is the door to shoutrrr. Its services are made one by one, without its router, which would link a client for MQTT and a
// service that only logs.

// service is one of shoutrrr's.
type service struct {
	make func() types.Service
	// server says that the URL's host is a server's. Of the other services it may be a secret.
	server bool
	// bare says that it takes no title.
	bare bool
	// asks says that it makes requests as soon as it is initialized.
	asks bool
}

var services = map[string]service{
	"bark":       {make: func() types.Service { return &bark.Service{} }, server: true},
	"discord":    {make: func() types.Service { return &discord.Service{} }},
	"generic":    {make: func() types.Service { return &generic.Service{} }, server: true},
	"googlechat": {make: func() types.Service { return &googlechat.Service{} }, server: true, bare: true},
	"gotify":     {make: func() types.Service { return &gotify.Service{} }, server: true},
	"ifttt":      {make: func() types.Service { return &ifttt.Service{} }},
	"join":       {make: func() types.Service { return &join.Service{} }},
	"lark":       {make: func() types.Service { return &lark.Service{} }, server: true},
	"matrix":     {make: func() types.Service { return &matrix.Service{} }, server: true, asks: true},
	"mattermost": {make: func() types.Service { return &mattermost.Service{} }, server: true},
	"notifiarr":  {make: func() types.Service { return &notifiarr.Service{} }, bare: true},
	"ntfy":       {make: func() types.Service { return &ntfy.Service{} }, server: true},
	"opsgenie":   {make: func() types.Service { return &opsgenie.Service{} }},
	"pagerduty":  {make: func() types.Service { return &pagerduty.Service{} }, bare: true},
	"pushbullet": {make: func() types.Service { return &pushbullet.Service{} }},
	"pushover":   {make: func() types.Service { return &pushover.Service{} }},
	"rocketchat": {make: func() types.Service { return &rocketchat.Service{} }, server: true, bare: true},
	"signal":     {make: func() types.Service { return &signal.Service{} }, server: true, bare: true},
	"signalgrid": {make: func() types.Service { return &signalgrid.Service{} }},
	"slack":      {make: func() types.Service { return &slack.Service{} }},
	"smtp":       {make: func() types.Service { return &smtp.Service{} }, server: true},
	"teams":      {make: func() types.Service { return &teams.Service{} }},
	"telegram":   {make: func() types.Service { return &telegram.Service{} }},
	"twilio":     {make: func() types.Service { return &twilio.Service{} }},
	"wecom":      {make: func() types.Service { return &wecom.Service{} }, bare: true},
	"zulip":      {make: func() types.Service { return &zulip.Service{} }, server: true},
}

const (
	// answerTime limits one request, and sendTime all of a message: a mail server may let strangers wait for its greeting.
	answerTime = 10 * time.Second
	sendTime   = 30 * time.Second
	// farewell is what a message under way has when we are told to stop: one that is broken off may come twice.
	farewell = 3 * time.Second
	// maxAnswer is how much of an answer is read, in bytes.
	maxAnswer = 64 << 10
	// maxReason is how much of an error is shown, in characters.
	maxReason = 200
)

// Receiver is one place where messages go. Its URL is a secret and is never shown.
type Receiver struct {
	raw       cert.Secret
	service   service
	scheme    string
	host      string
	secrets   []string
	transport http.RoundTripper
	busy      atomic.Bool
}

// CheckURL says what is wrong with a URL of NOTIFY_URLS, in words that go on from it and show nothing of it.
func CheckURL(raw string) error {
	_, err := NewReceivers(raw)
	return err
}

// NewReceivers are those of a URL, a mail to several people being one for each: a person whose address is refused must not make the
// others get it again. It makes no connection.
func NewReceivers(raw string) ([]*Receiver, error) {
	u, err := url.Parse(raw)
	if err != nil || u.Scheme == "" || !strings.Contains(raw, "://") {
		return nil, errors.New("is no URL; write e.g. smtp://mail.example.org:587/?from=sidecert@example.org&to=admin@example.org, with %20 for a space and %40 for an @ in a password")
	}
	scheme, _, custom := strings.Cut(u.Scheme, "+")
	s, known := services[scheme]
	switch {
	case scheme == "http" || scheme == "https":
		return nil, fmt.Errorf("is a bare %s:// URL; write generic+%s://…, or the service's own form, e.g. ntfy://HOST/TOPIC", scheme, scheme)
	case scheme == "mailto":
		return nil, errors.New("names no mail server; write " + mailForm)
	case !known:
		return nil, fmt.Errorf("begins with no service that is known here; those are %s", strings.Join(slices.Sorted(maps.Keys(services)), ", "))
	}
	if lack := mailLacks(scheme, u.Query()); lack != "" {
		return nil, fmt.Errorf("%s; write %s", lack, mailForm)
	}
	var all []*Receiver
	for _, one := range perPerson(scheme, u) {
		r := &Receiver{raw: cert.Secret(one), service: s, scheme: scheme, secrets: secretsOf(scheme, u), transport: transport}
		if s.server || custom {
			r.host = u.Host
		}
		refuser := &refuser{}
		if _, err := r.open(refuser); err != nil && !refuser.asked {
			return nil, fmt.Errorf("is not complete, or wrong (%s); see https://shoutrrr.nickfedor.com for the form of %s://", r.reason(err), scheme)
		}
		all = append(all, r)
	}
	return all, nil
}

const mailForm = "smtp://USER:PASSWORD@HOST:587/?from=ADDRESS&to=ADDRESS"

// mailLacks says which address a URL for mail does not have, as the person has spelled it, since shoutrrr has another name for it; "" if
// none, or if it is for no mail.
func mailLacks(scheme string, query url.Values) string {
	if scheme != "smtp" {
		return ""
	}
	for _, names := range [][]string{{"from", "fromaddress"}, {"to", "toaddresses"}} {
		lack := "has no " + names[0] + "="
		for key, values := range query {
			if !slices.Contains(names, strings.ToLower(key)) {
				continue
			}
			if strings.Trim(strings.Join(values, ","), ", ") != "" {
				lack = ""
				break
			}
			lack = "has nothing after " + key + "="
		}
		if lack != "" {
			return lack
		}
	}
	return ""
}

// perPerson splits a URL for mail to several people.
func perPerson(scheme string, u *url.URL) []string {
	if scheme != "smtp" {
		return []string{u.String()}
	}
	query := u.Query()
	for key, values := range query {
		people := strings.Split(strings.Join(values, ","), ",")
		if name := strings.ToLower(key); name != "to" && name != "toaddresses" || len(people) == 1 {
			continue
		}
		var all []string
		for _, person := range people {
			if person == "" {
				continue
			}
			query.Set(key, person)
			one := *u
			one.RawQuery = query.Encode()
			all = append(all, one.String())
		}
		return all
	}
	return []string{u.String()}
}

// ID tells receivers apart without giving a URL away.
func (r *Receiver) ID() string {
	sum := sha256.Sum256([]byte(r.raw))
	return hex.EncodeToString(sum[:4])
}

// String is as much of the URL as may be shown: the service, and its server where there is one.
func (r *Receiver) String() string {
	if r.host == "" {
		return r.scheme
	}
	return r.scheme + "://" + r.host
}

func (r *Receiver) GoString() string     { return r.String() }
func (r *Receiver) LogValue() slog.Value { return slog.StringValue(r.String()) }

// open makes a service, which reads its settings from the URL.
func (r *Receiver) open(client types.HTTPClient) (types.Service, error) {
	u, err := url.Parse(string(r.raw))
	if err != nil {
		return nil, errors.New("no URL")
	}
	s := r.service.make()
	if u.Scheme != r.scheme {
		customized, ok := s.(types.CustomURLService)
		if !ok {
			return nil, fmt.Errorf("%s:// takes no +", r.scheme)
		}
		if u, err = customized.GetServiceURLFromCustom(u); err != nil {
			return nil, err
		}
	}
	setter, byHTTP := s.(types.HTTPClientSetter)
	if byHTTP && r.service.asks {
		setter.SetHTTPClient(client)
	}
	if err := s.Initialize(u, nil); err != nil {
		return nil, err
	}
	if byHTTP {
		setter.SetHTTPClient(client)
	}
	return s, nil
}

var (
	errBusy    = errors.New("the last message is still under way")
	errTimeout = fmt.Errorf("it took longer than %v", sendTime)
)

// Send delivers a message. Its error shows nothing of the URL but what String does.
func (r *Receiver) Send(ctx context.Context, m Message) error {
	if !r.busy.CompareAndSwap(false, true) {
		return errBusy // a mail server that says nothing is not asked again while it does
	}
	done := make(chan error, 1)
	go func() {
		err := r.send(ctx, m)
		r.busy.Store(false) // before anybody hears of it, who may have the next one
		done <- err
	}()
	limit := time.NewTimer(sendTime)
	defer limit.Stop()
	stop := ctx.Done()
	for {
		select {
		case err := <-done:
			return err
		case <-limit.C:
			if ctx.Err() != nil {
				return ctx.Err()
			}
			return errTimeout
		case <-stop:
			stop = nil
			limit.Reset(farewell)
		}
	}
}

func (r *Receiver) send(ctx context.Context, m Message) (err error) {
	client := &outward{ctx: ctx, client: http.Client{Transport: r.transport, Timeout: answerTime, CheckRedirect: noRedirects}}
	defer func() {
		if p := recover(); p != nil {
			err = errors.New("the sender of this service panicked")
		}
	}()
	s, err := r.open(client)
	if err == nil {
		params := types.Params{}
		if !r.service.bare {
			params.SetTitle(m.Title)
		}
		text := m.Text
		if r.service.bare {
			text = m.Title + "\n\n" + text
		}
		err = s.Send(text, &params)
	}
	switch {
	case r.scheme == "smtp" && err != nil && onlyQuit(err):
		return nil
	case client.heard != "": // what was seen on the wire tells more than the service, and one or the other takes a failure for a success
		return errors.New(r.clean(client.heard))
	case err != nil:
		return errors.New(r.reason(err))
	case r.scheme != "smtp" && client.requests == 0:
		return errors.New("nothing was sent: its URL names nobody to send to")
	}
	return nil
}

// onlyQuit reports whether a mail server has taken the message and only not bidden farewell.
func onlyQuit(err error) bool {
	return strings.Contains(err.Error(), "error closing session") && !strings.Contains(err.Error(), "error sending message to recipient")
}

func (r *Receiver) reason(err error) string { return r.clean(err.Error()) }

var anyURL = regexp.MustCompile(`([A-Za-z][A-Za-z0-9+.-]*://)[^\s"'<>]+`)

// clean takes out of a text whatever stands in the URL.
func (r *Receiver) clean(text string) string {
	text = anyURL.ReplaceAllString(text, "$1[redacted]")
	for _, secret := range r.secrets {
		text = strings.ReplaceAll(text, secret, "[redacted]")
	}
	return strings.Join(strings.Fields(cut(text, maxReason)), " ")
}

// secretsOf are the parts of a URL that must not be seen, longest first: of a mail server the password and what it does not know, of all
// else everything but the server.
func secretsOf(scheme string, u *url.URL) []string {
	var parts []string
	add := func(texts ...string) {
		for _, text := range texts {
			if len(text) < 4 { // it would take words apart, and is no secret
				continue
			}
			parts = append(parts, text, url.QueryEscape(text), url.PathEscape(text), base64.StdEncoding.EncodeToString([]byte(text)))
		}
	}
	password, _ := u.User.Password()
	user := u.User.Username()
	add(password)
	if password != "" {
		add(user+":"+password, "\x00"+user+"\x00"+password)
	}
	if scheme == "smtp" {
		for key, values := range u.Query() {
			if !slices.Contains(mailSettings, strings.ToLower(key)) { // a slip, whatever it was to be
				add(key)
				add(values...)
			}
		}
	} else {
		add(user, strings.Trim(u.Path, "/"), u.RawQuery, u.Fragment)
		add(strings.Split(u.Path, "/")...)
		rest := []string{user, password, u.Path, u.Fragment}
		for _, values := range u.Query() {
			add(values...)
			rest = append(rest, values...)
		}
		if !services[scheme].server && !strings.Contains(u.Scheme, "+") {
			add(u.Host, u.Hostname())
			rest = append(rest, u.Host)
		}
		for _, text := range rest { // a service may show one half of a token
			add(longWord.FindAllString(text, -1)...)
		}
	}
	slices.SortFunc(parts, func(a, b string) int { return len(b) - len(a) })
	return slices.Compact(parts)
}

var longWord = regexp.MustCompile(`[A-Za-z0-9]{8,}`)

// mailSettings are what smtp:// knows after the ?, and no secrets.
var mailSettings = []string{"auth", "clienthost", "encryption", "from", "fromaddress", "fromname", "requirestarttls", "skiptlsverify", "starttls", "subject", "timeout",
	"title", "to", "toaddresses", "usehtml", "usestarttls"}

// transport is that of all receivers and the heartbeat.
var transport http.RoundTripper = &http.Transport{
	Proxy: http.ProxyFromEnvironment, TLSHandshakeTimeout: answerTime, ResponseHeaderTimeout: answerTime, DisableKeepAlives: true,
	MaxResponseHeaderBytes: maxAnswer, ForceAttemptHTTP2: true,
}

func noRedirects(req *http.Request, _ []*http.Request) error {
	return fmt.Errorf("it redirects to %s, and redirects are not followed: write the address where it leads", req.URL.Host)
}

// outward makes requests, with limits, and keeps of their outcome what may be shown: never a URL.
type outward struct {
	ctx    context.Context
	client http.Client
	// heard is what went wrong first.
	heard    string
	requests int
}

func (o *outward) Do(req *http.Request) (*http.Response, error) {
	o.requests++
	resp, err := o.client.Do(req.WithContext(o.ctx))
	if err != nil {
		if failure, ok := errors.AsType[*url.Error](err); ok {
			if err = failure.Err; failure.Timeout() {
				err = fmt.Errorf("no answer within %v", answerTime)
			}
		}
		o.heard = cmp.Or(o.heard, err.Error())
		return nil, err
	}
	if resp.StatusCode >= http.StatusMultipleChoices {
		o.heard = cmp.Or(o.heard, "it answered "+resp.Status)
	}
	resp.Body = limited{io.LimitReader(resp.Body, maxAnswer), resp.Body}
	return resp, nil
}

type limited struct {
	io.Reader
	io.Closer
}

// refuser makes no request.
type refuser struct{ asked bool }

var errRefused = errors.New("no request is made")

func (r *refuser) Do(*http.Request) (*http.Response, error) {
	r.asked = true
	return nil, errRefused
}
