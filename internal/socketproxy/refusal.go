package socketproxy

import (
	"slices"
	"strings"
	"sync"
	"unicode"
)

// apiWords are the words of the API's paths. Any other word of a path is somebody's name for something, or an attack.
var apiWords = strings.Fields(`_ping archive attach auth build changes commit configs containers create df distribution events exec export
	get history images import info init inspect join json kill leave load logs networks nodes pause plugins prune push pull restart rename
	resize search secrets services session set start stats stop swarm system tag tasks top unlock unpause update upgrade version volumes wait
	connect disconnect grpc ws disable enable`)

// methods are those of HTTP.
var methods = []string{"GET", "HEAD", "POST", "PUT", "PATCH", "DELETE", "OPTIONS", "CONNECT", "TRACE"}

// described names a call that there is no shape for, in words of our own alone: what came may be anything.
func described(r request) string {
	method, path := "another method", ""
	if slices.Contains(methods, r.method) {
		method = r.method
	}
	target, _, _ := strings.Cut(r.target, "?")
	rest, rooted := strings.CutPrefix(target, "/")
	if !rooted {
		return method + " of no path"
	}
	for i, word := range strings.Split(rest, "/") {
		switch {
		case i == 4:
			return method + path + "/…"
		case i == 0 && strings.HasPrefix(word, "v1."):
			continue
		case slices.Contains(apiWords, word):
			path += "/" + word
		case word == "":
			path += "/"
		default:
			path += "/{id}"
		}
	}
	return method + " " + path
}

// once remembers what has been said, up to a bound after which nothing is said any more.
type once struct {
	mu   sync.Mutex
	said map[string]bool
}

const maxSaid = 200

func (o *once) first(text string) bool {
	o.mu.Lock()
	defer o.mu.Unlock()
	if o.said[text] || len(o.said) >= maxSaid {
		return false
	}
	if o.said == nil {
		o.said = map[string]bool{}
	}
	o.said[text] = true
	return true
}

// clean makes one line of what the engine says.
func clean(text string) string {
	const most = 300
	text = strings.Join(strings.Fields(strings.Map(func(r rune) rune {
		if !unicode.IsPrint(r) {
			return ' '
		}
		return r
	}, strings.ToValidUTF8(text, "?"))), " ")
	if all := []rune(text); len(all) > most {
		text = string(all[:most]) + "…"
	}
	return text
}
