package socketproxy

import (
	"fmt"
	"os/exec"
	"slices"
	"strings"
	"testing"
	"unicode/utf8"

	"github.com/sidecert/sidecert/internal/cert"
	"github.com/sidecert/sidecert/internal/reload"
)

// row is a request as it goes over the wire, and the status of each answer.
type row struct {
	what, raw string
	want      []int
}

// one is a request without a body, with headers.
func one(method, target string, headers ...string) string {
	return fmt.Sprintf("%s %s HTTP/1.1\r\nHost: docker\r\n%s\r\n", method, target, strings.Join(append(headers, ""), "\r\n"))
}

// with is one with a body.
func with(method, target, kind, body string, headers ...string) string {
	return one(method, target, append(headers, "Content-Type: "+kind, fmt.Sprintf("Content-Length: %d", len(body)))...) + body
}

func post(method, target, body string, headers ...string) string {
	return with(method, target, "application/json", body, headers...)
}

const (
	form       = "application/x-www-form-urlencoded"
	reloadBody = `{"Cmd":["nginx","-s","reload"],"AttachStdout":true,"AttachStderr":true}`
	start      = `{"Detach":false,"Tty":false}`
)

// rows are the requests; web is the container that may be told, others may not.
func rows(web, webID, other, otherID, self, selfID, loose string) []row {
	w, v := "/containers/"+web, "/v1.41/containers/"+web
	filters := func(json string) string { return "/v1.41/containers/json?all=1&filters=" + escape(json) }
	events := func(json string) string { return "/v1.41/events?filters=" + escape(json) }
	ok, done, no, absent, bad := []int{200}, []int{204}, []int{403}, []int{404}, []int{400}
	all := []row{
		// What is let through.
		{"ping", one("GET", "/_ping"), ok},
		{"ping by HEAD", one("HEAD", "/_ping"), ok},
		{"ping with a version", one("GET", "/v1.24/_ping"), ok},
		{"list", one("GET", "/containers/json"), ok},
		{"list with a version", one("GET", "/v1.41/containers/json?all=1"), ok},
		{"list of a newer version", one("GET", "/v1.99/containers/json?all=true"), ok},
		{"list by label", one("GET", filters(`{"label":{"com.docker.compose.service=web":true}}`)), ok},
		{"list by label as old clients write it", one("GET", filters(`{"label":["com.docker.compose.service=web"]}`)), ok},
		{"list by status, name and id", one("GET", filters(`{"status":["running"],"name":["web"],"id":["`+webID[:12]+`"]}`)), ok},
		{"inspect by name", one("GET", v+"/json"), ok},
		{"inspect by ID", one("GET", "/containers/"+webID+"/json"), ok},
		{"inspect by the short ID", one("GET", "/containers/"+webID[:12]+"/json"), ok},
		{"inspect of sidecert itself", one("GET", "/containers/"+selfID+"/json"), ok},
		{"inspect of sidecert itself by name", one("GET", "/containers/"+self+"/json"), ok},
		{"HUP", one("POST", v+"/kill?signal=HUP", "Content-Length: 0"), done},
		{"SIGHUP", one("POST", w+"/kill?signal=SIGHUP"), done},
		{"HUP by ID", one("POST", "/containers/"+webID+"/kill?signal=HUP"), done},
		{"two requests in one write, both allowed", one("GET", "/_ping") + one("GET", v+"/json"), []int{200, 200}},
		{"exec prepared", post("POST", v+"/exec", reloadBody), []int{201}},
		{"exec as the docker command writes it", post("POST", v+"/exec", `{"User":"","Privileged":false,"Tty":false,"ConsoleSize":null,"AttachStdin":false,"AttachStderr":true,"AttachStdout":true,"DetachKeys":"","Env":null,"WorkingDir":"","Cmd":["nginx","-t"],"Detach":false}`), []int{201}},
		{"exec of httpd", post("POST", v+"/exec", `{"Cmd":["httpd","-k","graceful"]}`), []int{201}},

		// The method.
		{"kill by GET", one("GET", v+"/kill?signal=HUP"), no},
		{"kill by PUT", one("PUT", v+"/kill?signal=HUP"), no},
		{"kill by HEAD", one("HEAD", v+"/kill?signal=HUP"), no},
		{"kill in lower case", one("post", v+"/kill?signal=HUP"), no},
		{"kill by a method of one's own", one("POST2", v+"/kill?signal=HUP"), no},
		{"kill by GET that says it is POST", one("GET", v+"/kill?signal=HUP", "X-HTTP-Method-Override: POST"), no},
		{"list by GET that says it is DELETE", one("GET", "/containers/json", "X-HTTP-Method-Override: DELETE"), no},
		{"inspect by HEAD", one("HEAD", v+"/json"), no},
		{"inspect by POST", one("POST", v+"/json"), no},
		{"list by POST", one("POST", "/containers/json"), no},
		{"delete", one("DELETE", v+"?force=1&v=1"), no},
		{"PATCH", one("PATCH", v), no},
		{"OPTIONS *", one("OPTIONS", "*"), no},
		{"OPTIONS of a path", one("OPTIONS", v+"/kill"), no},
		{"TRACE", one("TRACE", "/_ping"), no},
		{"CONNECT to the engine", one("CONNECT", "docker:2375"), no},
		{"CONNECT to a path", one("CONNECT", v+"/attach"), no},
		{"PRI of HTTP/2", "PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n", no},

		// The path.
		{"nothing", one("GET", "/"), no},
		{"a double slash before", one("POST", "/"+v+"/kill?signal=HUP"), no},
		{"a double slash within", one("POST", "/v1.41//containers/"+web+"/kill?signal=HUP"), no},
		{"a double slash before the call", one("POST", v+"//kill?signal=HUP"), no},
		{"a slash at the end", one("POST", v+"/kill/?signal=HUP"), no},
		{"a dot", one("POST", "/v1.41/./containers/"+web+"/kill?signal=HUP"), no},
		{"two dots", one("POST", "/v1.41/images/../containers/"+web+"/kill?signal=HUP"), no},
		{"two dots to another container", one("POST", v+"/../"+other+"/kill?signal=HUP"), no},
		{"two dots for a name", one("GET", "/containers/../json"), no},
		{"a dot for a name", one("GET", "/containers/./json"), no},
		{"%2e%2e", one("POST", v+"/%2e%2e/"+other+"/kill?signal=HUP"), no},
		{"%2F in the name", one("POST", "/containers/"+web+"%2F..%2F"+other+"/kill?signal=HUP"), no},
		{"%2f before the call", one("POST", v+"%2fkill?signal=HUP"), no},
		{"a letter of the call encoded", one("POST", v+"/%6bill?signal=HUP"), no},
		{"a letter of the name encoded", one("GET", "/containers/%"+fmt.Sprintf("%02x", web[0])+web[1:]+"/json"), no},
		{"encoded twice", one("POST", v+"/%252e%252e/"+other+"/kill?signal=HUP"), no},
		{"an encoding cut off", one("GET", "/containers/%2/json"), bad},
		{"an encoding that is none", one("GET", "/containers/%zz/json"), bad},
		{"NUL encoded", one("POST", v+"%00/kill?signal=HUP"), no},
		{"NUL", one("GET", "/containers/\x00/json"), bad},
		{"a control character", one("GET", "/containers/\x07/json"), bad},
		{"DEL", one("GET", "/containers/\x7f/json"), bad},
		{"a byte that is no UTF-8", one("GET", "/containers/\xff/json"), no},
		{"a new line encoded", one("GET", "/containers/json%0a"), no},
		{"a backslash", one("POST", `/containers\`+web+`\kill?signal=HUP`), no},
		{"a semicolon", one("POST", v+"/kill;x=y?signal=HUP"), no},
		{"a fragment", one("GET", v+"/json#/../x"), no},
		{"a space", one("GET", v+"/json x"), bad},
		{"a tab", one("GET", v+"/json\t"), bad},
		{"a full address", one("GET", "http://docker/v1.41/containers/json"), no},
		{"a full address of another host", one("POST", "http://other:2375"+v+"/kill?signal=HUP"), no},
		{"an address without scheme", one("GET", "//docker/containers/json"), no},
		{"no slash", one("GET", "containers/json"), bad},
		{"capital letters", one("GET", "/Containers/json"), no},
		{"capital letters in the call", one("POST", v+"/KILL?signal=HUP"), no},
		{"a call with more behind it", one("POST", v+"/killall?signal=HUP"), no},
		{"a call with less", one("POST", v+"/kil?signal=HUP"), no},
		{"a call below it", one("GET", v+"/json/x"), no},
		{"no name", one("GET", "/containers//json"), no},
		{"a list of a name", one("GET", "/containers/json/json"), absent},
		{"overlong", one("GET", "/containers/"+strings.Repeat("a", 5000)+"/json"), no},
		{"as long as a head may be", one("GET", "/containers/"+strings.Repeat("a", 20000)+"/json"), []int{431}},
		{"many slashes", one("GET", strings.Repeat("/", 3000)), no},

		// The version.
		{"version V1.41", one("GET", "/V1.41/containers/json"), no},
		{"version v1", one("GET", "/v1/containers/json"), no},
		{"version v1.41.1", one("GET", "/v1.41.1/containers/json"), no},
		{"version v01.41", one("GET", "/v01.41/containers/json"), no},
		{"version v1.041", one("GET", "/v1.041/containers/json"), no},
		{"version v1.23", one("GET", "/v1.23/containers/json"), no},
		{"version v1.100", one("GET", "/v1.100/containers/json"), no},
		{"version v2.0", one("GET", "/v2.0/containers/json"), no},
		{"version v-1.41", one("GET", "/v-1.41/containers/json"), no},
		{"version 1.41", one("GET", "/1.41/containers/json"), no},
		{"two versions", one("GET", "/v1.41/v1.41/containers/json"), no},
		{"a version with a letter of another alphabet", one("GET", "/v1.4\u0661/containers/json"), no},

		// The query.
		{"kill without a signal, which is KILL", one("POST", v+"/kill"), no},
		{"an empty signal, which is KILL", one("POST", v+"/kill?signal="), no},
		{"signal without a value", one("POST", v+"/kill?signal"), no},
		{"KILL", one("POST", v+"/kill?signal=KILL"), no},
		{"SIGKILL", one("POST", v+"/kill?signal=SIGKILL"), no},
		{"9", one("POST", v+"/kill?signal=9"), no},
		{"1, which is HUP", one("POST", v+"/kill?signal=1"), no},
		{"TERM", one("POST", v+"/kill?signal=TERM"), no},
		{"STOP", one("POST", v+"/kill?signal=STOP"), no},
		{"hup", one("POST", v+"/kill?signal=hup"), no},
		{"SIGSIGHUP", one("POST", v+"/kill?signal=SIGSIGHUP"), no},
		{"HUP and a space", one("POST", v+"/kill?signal=HUP%20"), no},
		{"HUP encoded", one("POST", v+"/kill?signal=%48UP"), no},
		{"HUP and NUL", one("POST", v+"/kill?signal=HUP%00KILL"), no},
		{"HUP and KILL", one("POST", v+"/kill?signal=HUP&signal=KILL"), no},
		{"KILL and HUP", one("POST", v+"/kill?signal=KILL&signal=HUP"), no},
		{"HUP and KILL with a semicolon", one("POST", v+"/kill?signal=HUP;signal=KILL"), no},
		{"HUP and KILL under an encoded key", one("POST", v+"/kill?signal=HUP&%73ignal=KILL"), no},
		{"HUP and KILL under a capital key", one("POST", v+"/kill?signal=HUP&Signal=KILL"), no},
		{"HUP and something else", one("POST", v+"/kill?signal=HUP&x=y"), no},
		{"HUP and an empty pair", one("POST", v+"/kill?signal=HUP&"), no},
		{"two question marks", one("POST", v+"/kill??signal=HUP"), no},
		{"an empty query", one("GET", v+"/json?"), no},
		{"inspect with its size", one("GET", v+"/json?size=1"), no},
		{"list with its size", one("GET", "/containers/json?size=1"), no},
		{"list with a limit", one("GET", "/containers/json?limit=1"), no},
		{"all that is neither", one("GET", "/containers/json?all=yes"), no},
		{"ping with a query", one("GET", "/_ping?x"), no},
		{"restart after long", one("POST", v+"/restart?t=61"), no},
		{"restart never", one("POST", v+"/restart?t=-1"), no},
		{"restart after a number that overflows", one("POST", v+"/restart?t=18446744073709551616"), no},
		{"restart after +5", one("POST", v+"/restart?t=+5"), no},
		{"restart after 05", one("POST", v+"/restart?t=05"), no},
		{"restart by a signal", one("POST", v+"/restart?t=1&signal=KILL"), no},
		{"filters that are no JSON", one("GET", filters(`{"label":`)), no},
		{"filters that are a list", one("GET", filters(`["label"]`)), no},
		{"filters with more behind them", one("GET", filters(`{} {}`)), no},
		{"filters by a network", one("GET", filters(`{"network":["x"]}`)), no},
		{"filters by a volume", one("GET", filters(`{"volume":["/"]}`)), no},
		{"filters by false", one("GET", filters(`{"label":{"a":false}}`)), no},
		{"filters of filters", one("GET", filters(`{"label":{"a":{"b":true}}}`)), no},
		{"a status that is none", one("GET", filters(`{"status":["any"]}`)), no},
		{"a name that is a pattern", one("GET", filters(`{"name":[".*(a|b)+$"]}`)), no},
		{"too many filters", one("GET", filters(`{"id":[`+strings.Repeat(`"a",`, 40)+`"a"]}`)), no},
		{"filters not encoded", one("GET", `/containers/json?filters={"label":["a"]}`), ok},
		{"filters twice", one("GET", filters(`{}`)+"&filters={}"), no},
		{"filters with an encoding cut off", one("GET", "/containers/json?filters=%7"), no},

		// The head and the body.
		{"a form with KILL beside HUP", with("POST", v+"/kill?signal=HUP", form, "signal=KILL"), no},
		{"a form with KILL alone", with("POST", v+"/kill", form, "signal=KILL"), no},
		{"JSON with KILL", post("POST", v+"/kill?signal=HUP", `{"signal":"KILL"}`), no},
		{"a form in chunks", one("POST", v+"/kill?signal=HUP", "Content-Type: "+form, "Transfer-Encoding: chunked") + "b\r\nsignal=KILL\r\n0\r\n\r\n", no},
		{"no chunk", one("POST", v+"/kill?signal=HUP", "Transfer-Encoding: chunked") + "0\r\n\r\n", no},
		{"chunks and a length", one("POST", v+"/kill?signal=HUP", "Transfer-Encoding: chunked", "Content-Length: 4") + "0\r\n\r\n", no},
		{"a length and chunks, and a kill of another behind", one("POST", v+"/kill?signal=HUP", "Content-Length: 6", "Transfer-Encoding: chunked") + "0\r\n\r\n" + one("POST", "/containers/"+other+"/kill?signal=HUP"), no},
		{"two lengths", one("POST", v+"/kill?signal=HUP", "Content-Length: 0", "Content-Length: 5") + "hello", bad},
		{"a length that is none", one("POST", v+"/kill?signal=HUP", "Content-Length: x"), bad},
		{"a length of -1", one("POST", v+"/kill?signal=HUP", "Content-Length: -1"), bad},
		{"a length with a sign", one("POST", v+"/kill?signal=HUP", "Content-Length: +0"), bad},
		{"chunks in capitals", one("POST", v+"/kill?signal=HUP", "Transfer-Encoding: CHUNKED") + "0\r\n\r\n", no},
		{"chunks that are something else", one("POST", v+"/kill?signal=HUP", "Transfer-Encoding: xchunked"), []int{501}},
		{"chunks twice", one("POST", v+"/kill?signal=HUP", "Transfer-Encoding: chunked", "Transfer-Encoding: identity") + "0\r\n\r\n", []int{501}},
		{"a space before the colon", one("POST", v+"/kill?signal=HUP", "Content-Length : 0"), bad},
		{"a header that goes on in the next line", one("GET", "/_ping", "X: a", " b"), ok},
		{"no Host", "GET /containers/json HTTP/1.1\r\n\r\n", bad},
		{"two Hosts", one("GET", "/containers/json", "Host: other"), bad},
		{"GET with a body", post("GET", v+"/json", `{}`), no},
		{"GET with a request for a body", with("GET", "/containers/json", "text/plain", one("POST", "/containers/"+other+"/kill?signal=HUP")), no},
		{"HUP with a request for a body", with("POST", v+"/kill?signal=HUP", "text/plain", one("POST", "/containers/"+other+"/kill?signal=HUP")), no},
		{"restart with a host's configuration, as the API once took it", post("POST", v+"/restart", `{"HostConfig":{"Privileged":true}}`), no},
		{"an upgrade", one("GET", "/_ping", "Connection: Upgrade", "Upgrade: tcp"), no},
		{"an upgrade to h2c", one("GET", "/containers/json", "Connection: Upgrade, HTTP2-Settings", "Upgrade: h2c", "HTTP2-Settings: AAMAAABkAAQAAP__"), no},
		{"an upgrade of a kill", one("POST", v+"/kill?signal=HUP", "Connection: Upgrade", "Upgrade: websocket"), no},
		{"an exec with an upgrade", post("POST", v+"/exec", reloadBody, "Connection: Upgrade", "Upgrade: tcp"), no},
		{"Expect", post("POST", v+"/exec", reloadBody, "Expect: 100-continue"), no},
		{"Expect of something else", one("POST", v+"/kill?signal=HUP", "Expect: kill"), []int{417}},
		{"a page in somebody's browser", one("POST", v+"/kill?signal=HUP", "Origin: http://evil.example"), no},
		{"a body in gzip", post("POST", v+"/exec", reloadBody, "Content-Encoding: gzip"), no},
		{"HTTP/1.0", "GET /containers/json HTTP/1.0\r\n\r\n", no},
		{"HTTP/0.9", "GET /containers/json\r\n\r\n", bad},
		{"HTTP/1.2", "GET /containers/json HTTP/1.2\r\nHost: x\r\n\r\n", no},
		{"HTTP/2.0", "GET /containers/json HTTP/2.0\r\nHost: x\r\n\r\n", []int{505}},
		{"no HTTP at all", "\x16\x03\x01\x02\x00\x01\r\n\r\n", bad},
		{"line ends without CR", "GET /_ping HTTP/1.1\nHost: x\n\n", ok},

		// Pipelines: what comes after a refusal on a connection is not even read.
		{"an allowed one and a forbidden one", one("GET", "/_ping") + one("POST", "/containers/create"), []int{200, 403}},
		{"a forbidden one and an allowed one", one("POST", "/containers/create") + one("POST", v+"/kill?signal=HUP"), no},
		{"HUP for ours, HUP for another", one("POST", v+"/kill?signal=HUP") + one("POST", "/containers/"+other+"/kill?signal=HUP"), []int{204, 404}},
		{"HUP for ours, KILL for ours", one("POST", v+"/kill?signal=HUP") + one("POST", v+"/kill?signal=KILL"), []int{204, 403}},
		{"a body longer than it says", post("POST", v+"/exec", reloadBody) + one("POST", v+"/kill?signal=KILL"), []int{201, 403}},
		{"a new line before the next", one("GET", "/_ping") + "\r\n" + one("GET", "/images/json"), []int{200, 400}},

		// The commands.
		{"another command", post("POST", v+"/exec", `{"Cmd":["touch","/hostile"]}`), no},
		{"a shell", post("POST", v+"/exec", `{"Cmd":["sh","-c","touch /hostile"]}`), no},
		{"nginx with another argument", post("POST", v+"/exec", `{"Cmd":["nginx","-s","stop"]}`), no},
		{"nginx -T, which prints secrets", post("POST", v+"/exec", `{"Cmd":["nginx","-T"]}`), no},
		{"nginx -t with a file of one's own", post("POST", v+"/exec", `{"Cmd":["nginx","-t","-c","/tmp/x"]}`), no},
		{"a word too many", post("POST", v+"/exec", `{"Cmd":["nginx","-s","reload",""]}`), no},
		{"a word too few", post("POST", v+"/exec", `{"Cmd":["nginx","-s"]}`), no},
		{"all in one word", post("POST", v+"/exec", `{"Cmd":["nginx -s reload"]}`), no},
		{"as a text", post("POST", v+"/exec", `{"Cmd":"nginx -s reload"}`), no},
		{"with a path", post("POST", v+"/exec", `{"Cmd":["/tmp/nginx","-t"]}`), no},
		{"with a space", post("POST", v+"/exec", `{"Cmd":["nginx ","-t"]}`), no},
		{"no command", post("POST", v+"/exec", `{"Cmd":[]}`), no},
		{"two commands, the second another", post("POST", v+"/exec", `{"Cmd":["nginx","-t"],"Cmd":["touch","/hostile"]}`), no},
		{"two commands, the second in lower case", post("POST", v+"/exec", `{"Cmd":["nginx","-t"],"cmd":["touch","/hostile"]}`), no},
		{"as root", post("POST", v+"/exec", `{"Cmd":["nginx","-t"],"User":"root"}`), no},
		{"privileged", post("POST", v+"/exec", `{"Cmd":["nginx","-t"],"Privileged":true}`), no},
		{"with an environment", post("POST", v+"/exec", `{"Cmd":["nginx","-t"],"Env":["LD_PRELOAD=/tmp/x.so"]}`), no},
		{"in a folder", post("POST", v+"/exec", `{"Cmd":["nginx","-t"],"WorkingDir":"/tmp"}`), no},
		{"on a terminal", post("POST", v+"/exec", `{"Cmd":["nginx","-t"],"Tty":true}`), no},
		{"with input", post("POST", v+"/exec", `{"Cmd":["nginx","-t"],"AttachStdin":true}`), no},
		{"with something that there is not yet", post("POST", v+"/exec", `{"Cmd":["nginx","-t"],"CapAdd":["ALL"]}`), no},
		{"two values", post("POST", v+"/exec", reloadBody+reloadBody), no},
		{"null", post("POST", v+"/exec", `null`), no},
		{"a list", post("POST", v+"/exec", `[]`), no},
		{"no JSON", post("POST", v+"/exec", `Cmd=nginx`), no},
		{"a form", with("POST", v+"/exec", form, "Cmd=nginx"), no},
		{"JSON that says it is text", with("POST", v+"/exec", "text/plain", reloadBody), no},
		{"no body", one("POST", v+"/exec"), no},
		{"too much of a body", post("POST", v+"/exec", `{"Cmd":["nginx","-t"]`+strings.Repeat(" ", 5000)+`}`), no},
		{"in chunks", one("POST", v+"/exec", "Content-Type: application/json", "Transfer-Encoding: chunked") + fmt.Sprintf("%x\r\n%s\r\n0\r\n\r\n", len(reloadBody), reloadBody), no},
		{"in too many brackets", post("POST", v+"/exec", strings.Repeat("[", 4000)), no},
		{"start of a command that was not prepared here", post("POST", "/exec/"+strings.Repeat("a", 64)+"/start", start), absent},
		{"look at a command that was not prepared here", one("GET", "/exec/"+strings.Repeat("a", 64)+"/json"), absent},
		{"start of a detached one", post("POST", "/exec/"+strings.Repeat("a", 64)+"/start", `{"Detach":true}`), no},
		{"start on a terminal", post("POST", "/exec/"+strings.Repeat("a", 64)+"/start", `{"Tty":true}`), no},
		{"start without a body", one("POST", "/exec/"+strings.Repeat("a", 64)+"/start"), no},
		{"resize", one("POST", "/exec/"+strings.Repeat("a", 64)+"/resize?h=1&w=1"), no},

		// Events.
		{"events of images", one("GET", events(`{"type":["image"]}`)), no},
		{"events of commands", one("GET", events(`{"event":["exec_create"]}`)), no},
		{"events of a container by name", one("GET", events(`{"container":["`+other+`"]}`)), no},
		{"events until", one("GET", "/events?until=1"), no},
		{"events since yesterday", one("GET", "/events?since=24h"), no},
		{"events since an overflow", one("GET", "/events?since=99999999999999999999"), no},

		// What a list shows is in TestListHasTheAllowedAndSidecert; what is not let through at all:
		{"labels that nobody may ask about", one("GET", filters(`{"label":["foreign=`+canary+`"]}`)), ok},
	}
	for what, ref := range map[string]string{
		"another project's container": other, "it by ID": otherID, "it by short ID": otherID[:12], "one without a project": loose,
		"sidecert": self, "sidecert by ID": selfID, "nobody": "sidecert-nobody", "one digit of the ID": webID[:1], "eleven digits of the ID": webID[:11],
		"the ID and a digit": webID + "0", "the ID in capitals": strings.ToUpper(webID) + "X", "the name without its end": web[:len(web)-1], "the service": "web",
	} {
		at := "/v1.41/containers/" + ref
		inspected := absent
		if strings.HasPrefix(what, "sidecert") {
			inspected = ok
		}
		all = append(all,
			row{what + ": inspect", one("GET", at+"/json"), inspected},
			row{what + ": kill", one("POST", at+"/kill?signal=HUP"), absent},
			row{what + ": restart", one("POST", at+"/restart?t=1"), absent},
			row{what + ": exec", post("POST", at+"/exec", reloadBody), absent},
		)
	}
	host := `{"Image":"nginx:1","HostConfig":{"Privileged":true,"Binds":["/:/host"]},"Cmd":["true"]}`
	for _, raw := range []string{
		post("POST", "/v1.41/containers/create?name=sidecert-hostile", host), post("POST", "/containers/create?name=sidecert-hostile", host),
		post("POST", "/build?t=sidecert-hostile", ""), post("POST", "/images/create?fromImage=x", ""), one("POST", "/images/load"),
		one("DELETE", "/images/nginx:1?force=1"), one("POST", "/images/nginx:1/tag?repo=sidecert-hostile"), one("POST", "/images/nginx:1/push"), one("GET", "/images/json"), one("GET", "/images/nginx:1/json"),
		one("GET", "/images/nginx:1/get"), one("POST", "/images/prune"), post("POST", "/commit?container="+web+"&repo=sidecert-hostile", `{}`),
		post("POST", "/volumes/create", `{"Name":"sidecert-hostile"}`), one("GET", "/volumes"), one("DELETE", "/volumes/x"), one("POST", "/volumes/prune"),
		post("POST", "/networks/create", `{"Name":"sidecert-hostile"}`), one("GET", "/networks"), post("POST", "/networks/bridge/connect", `{"Container":"`+web+`"}`), one("DELETE", "/networks/x"),
		post("POST", "/swarm/init", `{"ListenAddr":"0.0.0.0"}`), one("GET", "/swarm"), one("GET", "/nodes"), one("GET", "/services"), post("POST", "/services/create", `{}`),
		one("GET", "/secrets"), post("POST", "/secrets/create", `{}`), one("GET", "/configs"), one("GET", "/tasks"), one("GET", "/plugins"), one("POST", "/plugins/pull?remote=x"),
		one("GET", "/info"), one("GET", "/version"), one("POST", "/auth"), one("GET", "/system/df"), one("POST", "/session", "Connection: Upgrade", "Upgrade: h2c"), one("POST", "/grpc", "Connection: Upgrade", "Upgrade: h2c"),
		one("GET", "/distribution/nginx:1/json"), one("POST", "/build/prune"), one("GET", "/metrics"), one("GET", "/debug/pprof/"), one("GET", "/debug/vars"),
		one("POST", v+"/stop"), one("POST", v+"/start"), one("POST", v+"/pause"), one("POST", v+"/unpause"), one("POST", v+"/wait"), one("POST", v+"/rename?name=sidecert-hostile"),
		post("POST", v+"/update", `{"Memory":6291456}`), one("POST", v+"/attach?stream=1&stdin=1", "Connection: Upgrade", "Upgrade: tcp"), one("GET", v+"/attach/ws?stream=1"),
		one("GET", v+"/archive?path=/etc/passwd"), one("HEAD", v+"/archive?path=/etc/passwd"), with("PUT", v+"/archive?path=/", "application/x-tar", "x"), one("POST", v+"/copy"),
		one("GET", v+"/logs?stdout=1"), one("GET", v+"/top"), one("GET", v+"/stats"), one("GET", v+"/changes"), one("GET", v+"/export"), one("POST", v+"/resize?h=1&w=1"),
		one("POST", v+"/checkpoints"), one("POST", "/containers/prune"), one("GET", v), one("POST", "/libpod/containers/"+web+"/kill?signal=HUP"),
	} {
		line, _, _ := strings.Cut(raw, " HTTP")
		all = append(all, row{line, raw, no})
	}
	return append(all, row{"restart", one("POST", v+"/restart?t=0"), done})
}

func escape(text string) string {
	return strings.NewReplacer(`"`, "%22", "{", "%7B", "}", "%7D", "[", "%5B", "]", "%5D", " ", "%20", "=", "%3D", "+", "%2B", "$", "%24", "|", "%7C").Replace(text)
}

func TestOnlyReloadsOfTheNamedContainersAreLetThrough(t *testing.T) {
	s := newStage(t, "nginx:1", "golang:1.26")
	b := s.Project + "b"
	webID := s.run(t, s.Project, "web", "nginx:1")
	otherID := s.run(t, b, "web", "nginx:1")
	selfID := s.run(t, s.Project, "sidecert", "golang:1.26", "--", "sleep", "1000")
	own := s.run(t, s.Project, "socket-proxy", "golang:1.26", "--", "sleep", "1000")
	loose := s.Project + "-loose"
	t.Cleanup(func() { exec.Command("docker", "rm", "--force", "--volumes", loose).Run() })
	looseID := s.Docker(t, "run", "--detach", "--name", loose, "--label", "sidecert-test", "--env", "PASSWORD="+canary, "nginx:1")
	forbidden := []string{otherID, selfID, own, looseID}
	before := s.Docker(t, append([]string{"inspect", "--format", "{{.Id}} {{.State.StartedAt}} {{.RestartCount}} {{.HostConfig.Memory}} {{.Name}}"}, forbidden...)...)
	things := func() string {
		return s.Docker(t, "ps", "--all", "--filter", "name=sidecert-hostile") + s.Docker(t, "images", "sidecert-hostile") +
			s.Docker(t, "volume", "ls", "--filter", "name=sidecert-hostile") + s.Docker(t, "network", "ls", "--filter", "name=sidecert-hostile")
	}
	none := things()

	s.proxy(t, own, reload.DiscoverProject, cert.Target{Word: "web"})
	all := rows(s.Project+"-web-1", webID, b+"-web-1", otherID, s.Project+"-sidecert-1", selfID, loose)
	hups := 0
	for step, how := range map[int]string{1: "byte by byte", 1 << 20: "at once"} {
		for _, r := range all {
			if got := s.ask(t, r.raw, step); !slices.Equal(got, r.want) {
				t.Errorf("%s, %s: answered %v, want %v:\n%.300q", r.what, how, got, r.want, r.raw)
			}
			hups += strings.Count(fmt.Sprint(r.want), "204")
		}
	}
	t.Logf("%d requests, each in two ways", len(all))

	if after := s.Docker(t, append([]string{"inspect", "--format", "{{.Id}} {{.State.StartedAt}} {{.RestartCount}} {{.HostConfig.Memory}} {{.Name}}"}, forbidden...)...); after != before {
		t.Errorf("forbidden containers were touched: before\n%s\nafter\n%s", before, after)
	}
	for _, id := range forbidden {
		if got := s.happened(t, id, "kill", "die", "restart", "stop", "pause", "exec_create", "exec_start", "rename", "update", "archive-path", "export", "attach"); got != "" {
			t.Errorf("something befell a forbidden container: %s", got)
		}
		if got := s.Docker(t, "diff", id); strings.Contains(got, "hostile") {
			t.Errorf("files were made: %s", got)
		}
	}
	if got := s.Docker(t, "diff", webID); strings.Contains(got, "hostile") {
		t.Errorf("files were made: %s", got)
	}
	if got := s.happened(t, webID, "exec_create", "exec_start", "pause", "rename", "update", "attach", "archive-path", "export"); got != "" {
		t.Errorf("commands that were prepared and never started reached the engine, or worse: %s", got)
	}
	told := 0
	for line := range strings.Lines(s.happened(t, webID, "kill")) {
		if !strings.Contains(line, "signal=1,") && !strings.Contains(line, "signal=1)") && !strings.Contains(line, "signal=9") && !strings.Contains(line, "signal=3") {
			t.Errorf("web was told what nobody asked for: %s", line)
		}
		if strings.Contains(line, "signal=1,") || strings.Contains(line, "signal=1)") {
			told++
		}
	}
	if want := hups - 2; told != want { // two of the 204 are the restart's
		t.Errorf("web was told HUP %d times, want %d", told, want)
	}
	if got := things(); got != none {
		t.Errorf("things were made: %s", got)
	}
	if i := strings.Index(string(s.heard), canary); i >= 0 {
		t.Errorf("a value of the environment, or somebody's label, came through: %.300q", s.heard[max(0, i-200):])
	}
	if log := s.log.String(); strings.Count(log, "\n") > 300 || strings.ContainsAny(log, "\x00\x07\x1b") || !utf8.ValidString(log) {
		t.Errorf("the log is flooded, or hostile:\n%s", log)
	}
}

// happened are the events of a container since the stage was set.
func (s *stage) happened(t *testing.T, id string, actions ...string) string {
	t.Helper()
	args := []string{"events", "--since", s.started, "--until", "0s", "--filter", "container=" + id}
	for _, action := range actions {
		args = append(args, "--filter", "event="+action)
	}
	return s.Docker(t, args...)
}
