package socketproxy

import (
	"bytes"
	"encoding/json"
	"fmt"
	"io"
	"net/http"
	"net/url"
	"regexp"
	"slices"
	"strconv"
	"strings"
	"time"
)

// The calls that there are, as a rule of a socket proxy would name them. A ping may be made by HEAD too.
const (
	callPing        = "GET /_ping"
	callList        = "GET /containers/json"
	callInspect     = "GET /containers/{id}/json"
	callEvents      = "GET /events"
	callKill        = "POST /containers/{id}/kill"
	callRestart     = "POST /containers/{id}/restart"
	callExecCreate  = "POST /containers/{id}/exec"
	callExecStart   = "POST /exec/{id}/start"
	callExecInspect = "GET /exec/{id}/json"
)

// The signals that make a server read again, and the commands. Nothing else is sent or run, whatever RELOAD says.
var (
	signals = []string{"HUP", "USR1", "USR2"}
	allowed = [][]string{{"nginx", "-s", "reload"}, {"nginx", "-t"}, {"httpd", "-k", "graceful"}}
)

// Allows reports whether a command is one of those that are let through.
func Allows(command []string) bool {
	return slices.ContainsFunc(allowed, func(a []string) bool { return slices.Equal(a, command) })
}

// maxRestart is the longest that a container may be given to end by itself before it is killed.
const maxRestart = 60

// request is what came, as it came: nothing in it has been decoded.
type request struct {
	method, target, proto string
	header                http.Header
	// length is the body's, -1 where it is not known; encoded says that it came in chunks, or with a trailer.
	length  int64
	encoded bool
	body    []byte
}

// call is a request that is let through, for a container that may be told something.
type call struct {
	what string
	// id is a container's name, ID or the beginning of one; of the calls on /exec/ the command's ID.
	id      string
	signal  string
	wait    time.Duration // of a restart
	command []string
	// all, filters and since are those of a list and of events.
	all     bool
	filters filters
	since   time.Time
}

// refusal is why a request is not let through.
type refusal struct {
	// what is the call, with nothing in it that came from outside.
	what, why string
}

func (r *refusal) Error() string {
	return fmt.Sprintf("%s: refused by the socket proxy: %s", r.what, r.why)
}

// shape is what a call looks like.
type shape struct {
	what string
	// method and path as they must be; the path's one group is the ID.
	method string
	path   *regexp.Regexp
	keys   []string // what the query may have
	body   bool
}

// The versions of the API are those from the library's oldest on that have two digits.
const versioned = `^(?:/v1\.(?:2[4-9]|[3-9][0-9]))?`

var shapes = []shape{
	{callPing, "GET", regexp.MustCompile(versioned + `/_ping$`), nil, false},
	{callPing, "HEAD", regexp.MustCompile(versioned + `/_ping$`), nil, false},
	{callList, "GET", regexp.MustCompile(versioned + `/containers/json$`), []string{"all", "filters"}, false},
	{callInspect, "GET", regexp.MustCompile(versioned + `/containers/` + name + `/json$`), nil, false},
	{callEvents, "GET", regexp.MustCompile(versioned + `/events$`), []string{"since", "filters"}, false},
	{callKill, "POST", regexp.MustCompile(versioned + `/containers/` + name + `/kill$`), []string{"signal"}, false},
	{callRestart, "POST", regexp.MustCompile(versioned + `/containers/` + name + `/restart$`), []string{"t"}, false},
	{callExecCreate, "POST", regexp.MustCompile(versioned + `/containers/` + name + `/exec$`), nil, true},
	{callExecStart, "POST", regexp.MustCompile(versioned + `/exec/` + name + `/start$`), nil, true},
	{callExecInspect, "GET", regexp.MustCompile(versioned + `/exec/` + name + `/json$`), nil, false},
}

// name is a container's name or an ID, as the engine has them.
const name = `([a-zA-Z0-9][a-zA-Z0-9_.-]{0,254})`

// shapeOf finds the one call that a request has the method and the path of, letter by letter.
func shapeOf(r request) (s shape, id string, ok bool) {
	path, _, _ := strings.Cut(r.target, "?")
	for _, s := range shapes {
		if m := s.path.FindStringSubmatch(path); m != nil && s.method == r.method {
			return s, strings.Join(m[1:], ""), true
		}
	}
	return shape{}, "", false
}

// takesBody reports whether a request's body is to be read before it is decided upon.
func takesBody(r request) bool {
	s, _, ok := shapeOf(r)
	return ok && s.body && !r.encoded && r.length > 0 && r.length <= maxBody && suspicion(r) == ""
}

// suspect are headers by which a request is not what it seems, or comes from a page in somebody's browser.
var suspect = []string{"Upgrade", "Expect", "Transfer-Encoding", "Trailer", "Content-Encoding", "Origin", "X-Http-Method-Override"}

// suspicion is the suspect header that a request has; "" if none.
func suspicion(r request) string {
	for _, header := range suspect {
		if _, has := r.header[header]; has {
			return header
		}
	}
	return ""
}

// decide tells what a request asks for, or why it is not let through. It knows nothing of the containers that there are.
func decide(r request) (call, *refusal) {
	s, id, ok := shapeOf(r)
	if !ok {
		return call{}, &refusal{described(r), "only a ping, list, inspect, events, kill, restart and exec are let through, written as the API has them"}
	}
	c := call{what: s.what, id: id}
	no := func(why string) (call, *refusal) { return call{}, &refusal{s.what, why} }
	switch header := suspicion(r); {
	case header != "":
		return no("it has the header " + header)
	case r.proto != "HTTP/1.1":
		return no("only HTTP/1.1 is spoken")
	case r.encoded || r.length < 0:
		return no("a body must come with its length, not in chunks")
	case !s.body && (r.length != 0 || len(r.body) > 0):
		return no("it must have no body")
	case s.body && (r.length == 0 || r.length > maxBody || int64(len(r.body)) != r.length):
		return no(fmt.Sprintf("it must have a body of at most %d bytes", maxBody))
	case s.body && r.header.Get("Content-Type") != "application/json":
		return no("its body must be application/json")
	}
	if why := c.query(r, s.keys); why != "" {
		return no(why)
	}
	why := ""
	switch s.what {
	case callExecCreate:
		c.command, why = commandOf(r.body)
	case callExecStart:
		why = plainStart(r.body)
	}
	if why != "" {
		return no(why)
	}
	return c, nil
}

// query reads what stands behind the question mark, and says what is wrong with it.
func (c *call) query(r request, keys []string) (why string) {
	_, text, is := strings.Cut(r.target, "?")
	if is && text == "" {
		return "its query is empty"
	}
	seen := map[string]string{}
	for _, pair := range split(text, "&") {
		key, value, _ := strings.Cut(pair, "=")
		if _, twice := seen[key]; twice || !slices.Contains(keys, key) {
			return "its query may have, once each: " + or(keys, "nothing")
		}
		seen[key] = value
	}
	if signal, ok := strings.CutPrefix(seen["signal"], "SIG"); c.what == callKill {
		if !ok {
			signal = seen["signal"]
		}
		if !slices.Contains(signals, signal) {
			return "its signal must be " + or(signals, "")
		}
		c.signal = signal
	}
	switch all, is := seen["all"]; {
	case is && !slices.Contains([]string{"1", "true", "0", "false"}, all):
		return "its all must be 1 or 0"
	default:
		c.all = all == "1" || all == "true"
	}
	if text, is := seen["t"]; is {
		n, err := strconv.ParseUint(text, 10, 8)
		if err != nil || n > maxRestart || text != strconv.FormatUint(n, 10) {
			return fmt.Sprintf("its t must be 0 to %d", maxRestart)
		}
		c.wait = time.Duration(n) * time.Second
	} else if c.what == callRestart {
		c.wait = 10 * time.Second // the engine's own
	}
	if text, is := seen["since"]; is {
		m := moment.FindStringSubmatch(text)
		if m == nil {
			return "its since must be SECONDS or SECONDS.NANOSECONDS"
		}
		seconds, _ := strconv.ParseInt(m[1], 10, 64)
		nanos, _ := strconv.ParseInt("0"+m[2], 10, 64)
		c.since = time.Unix(seconds, nanos)
	}
	if text, is := seen["filters"]; is {
		text, err := url.QueryUnescape(text)
		if err != nil {
			return "its filters cannot be read"
		}
		if c.filters, why = filtersOf(text, filterKeys[c.what]); why != "" {
			return why
		}
	}
	return ""
}

var moment = regexp.MustCompile(`^([0-9]{1,10})(?:\.([0-9]{9}))?$`)

func split(text, at string) []string {
	if text == "" {
		return nil
	}
	return strings.Split(text, at)
}

func or(words []string, none string) string {
	if len(words) == 0 {
		return none
	}
	return strings.Join(words, ", ")
}

// commandOf reads the body that prepares a command, and says what is wrong with it. Anything by which the command would be more than
// one of the few is refused, even where it would do no harm.
func commandOf(body []byte) (command []string, why string) {
	var b struct {
		Cmd                                                              []string
		AttachStdin, AttachStdout, AttachStderr, Detach, Tty, Privileged bool
		User, WorkingDir, DetachKeys                                     string
		Env                                                              []string
		ConsoleSize                                                      []uint
	}
	if err := strictly(body, &b); err != nil {
		return nil, "its body is not that of an exec"
	}
	if b.AttachStdin || b.Detach || b.Tty || b.Privileged || b.User != "" || b.WorkingDir != "" || b.DetachKeys != "" || len(b.Env) > 0 || len(b.ConsoleSize) > 0 {
		return nil, "it may name the command alone, and no user, folder, environment, terminal or input"
	}
	if Allows(b.Cmd) {
		return b.Cmd, ""
	}
	var all []string
	for _, command := range allowed {
		all = append(all, `"`+strings.Join(command, " ")+`"`)
	}
	return nil, "its command must be " + or(all, "")
}

// plainStart says what is wrong with the body that starts a command.
func plainStart(body []byte) (why string) {
	var b struct {
		Detach, Tty bool
		ConsoleSize []uint
	}
	if err := strictly(body, &b); err != nil {
		return "its body is not that of a start"
	}
	if b.Detach || b.Tty || len(b.ConsoleSize) > 0 {
		return "it must be neither detached nor on a terminal"
	}
	return ""
}

// strictly reads one JSON value, all of it, into a struct that has a place for everything in it.
func strictly(text []byte, into any) error {
	d := json.NewDecoder(bytes.NewReader(text))
	d.DisallowUnknownFields()
	if err := d.Decode(into); err != nil {
		return err
	}
	if _, err := d.Token(); err != io.EOF {
		return fmt.Errorf("more than one value")
	}
	return nil
}
