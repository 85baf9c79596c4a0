package config

import (
	"slices"
	"strings"
)

// Secret reports whether a variable holds what must not be seen. The key's ID is among them since the two are easily confused, and
// so are the files' names, since a key that is written in place of its file's name must not be shown either.
func Secret(variable string) bool {
	name := strings.ToUpper(strings.TrimPrefix(variable, byteOrderMark))
	if m := certVariable.FindStringSubmatch(name); m != nil {
		name = m[2]
	}
	return isOneOf(strings.TrimSuffix(name, "_FILE"), "ACME_EAB_KID", "ACME_EAB_HMAC_KEY", "NOTIFY_URLS", "HEARTBEAT_URL")
}

// hidden says whose values are never shown: secrets, and commands, which may hold some.
func hidden(variable string) bool {
	return Secret(variable) || isOneOf(variable, "PRE_HOOK", "DEPLOY_HOOK", "POST_HOOK")
}

// HookEnviron is what hooks inherit of an environment: all but what is never shown, since what a hook says is in the log.
func (Config) HookEnviron(environ []string) []string {
	return slices.DeleteFunc(slices.Clone(environ), func(entry string) bool {
		name, _, _ := strings.Cut(entry, "=")
		return hidden(name)
	})
}
