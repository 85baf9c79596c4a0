package socketproxy

import (
	"encoding/json"
	"fmt"
	"maps"
	"regexp"
	"slices"
	"strings"

	"github.com/sidecert/sidecert/internal/docker"
)

// filters are what a list or events are narrowed by: all labels, and one of the values of any other key.
type filters map[string][]string

const (
	// maxFilters is how many values there may be in all, and maxFilter how long one may be, in bytes.
	maxFilters, maxFilter = 32, 512
)

// filterKeys are those that our client and the docker command send.
var filterKeys = map[string][]string{
	callList:   {"label", "status", "name", "id"},
	callEvents: {"type", "event", "label"},
}

// filterValues are what a value must look like.
var filterValues = map[string]*regexp.Regexp{
	"label":  regexp.MustCompile(`^[^\s=][^\n]*$`),
	"status": regexp.MustCompile(`^(created|running|paused|restarting|removing|exited|dead)$`),
	"name":   regexp.MustCompile(`^/?[a-zA-Z0-9_.-]+$`),
	"id":     regexp.MustCompile(`^[0-9a-f]{1,64}$`),
	"type":   regexp.MustCompile(`^container$`),
	"event":  regexp.MustCompile(`^(` + strings.Join(actions, "|") + `)$`),
}

// actions are the events that are told. Those of commands are not, since health checks run some in every container all the time.
var actions = []string{"create", "start", "restart", "stop", "die", "kill", "oom", "pause", "unpause", "rename", "destroy", "health_status"}

// filtersOf reads the API's filters, {"label":{"a=b":true}} or {"label":["a=b"]} as older clients write them, and says what is wrong.
func filtersOf(text string, keys []string) (f filters, why string) {
	var raw map[string]json.RawMessage
	if err := strictly([]byte(text), &raw); err != nil || raw == nil {
		return nil, "its filters are no JSON of filters"
	}
	f = filters{}
	count := 0
	for key, value := range raw {
		if !slices.Contains(keys, key) {
			return nil, "its filters may be " + or(keys, "none")
		}
		var list []string
		var set map[string]bool
		switch {
		case strictly(value, &list) == nil:
		case strictly(value, &set) == nil && !slices.Contains(slices.Collect(maps.Values(set)), false):
			list = slices.Sorted(maps.Keys(set))
		default:
			return nil, "its filters are no JSON of filters"
		}
		count += len(list)
		for _, v := range list {
			if len(v) > maxFilter || count > maxFilters || !filterValues[key].MatchString(v) {
				return nil, fmt.Sprintf("its filter %s has a value that is none", key)
			}
		}
		f[key] = list
	}
	return f, ""
}

// matches looks at everything but labels.
func (f filters) matches(c docker.Container) bool {
	return f.any("status", func(v string) bool { return c.State.Status == v }) &&
		f.any("name", func(v string) bool { return strings.Contains("/"+c.Name, v) }) &&
		f.any("id", func(v string) bool { return strings.HasPrefix(c.ID, v) })
}

func (f filters) any(key string, is func(string) bool) bool {
	return len(f[key]) == 0 || slices.ContainsFunc(f[key], is)
}
