package config

import (
	"errors"
	"fmt"
	"regexp"
	"slices"
	"strings"

	"github.com/sidecert/sidecert/internal/cert"
)

// signals make a server read its certificates again. Which of them does is the server's choice.
var signals = []string{"HUP", "USR1", "USR2"}

// otherwise are signals that never do, with what they do instead.
var otherwise = map[string]string{
	"ABRT":  "ends the server",
	"INT":   "ends the server",
	"KILL":  "ends the server and drops its connections",
	"QUIT":  "ends the server",
	"STOP":  "freezes the server",
	"TERM":  "ends the server",
	"WINCH": "ends httpd and the workers of nginx",
}

var (
	containerName = regexp.MustCompile(`^[A-Za-z0-9][A-Za-z0-9_.-]{0,254}$`)
	labelKey      = regexp.MustCompile(`^[^\s=]+(=.*)?$`)
)

// reload reads RELOAD or a certificate's own.
func (p *parser) reload(variable, text string) cert.Reload {
	var r cert.Reload
	list := reloadEntries(text)
	for _, entry := range list {
		if !strings.EqualFold(entry, "off") {
			p.target(&r, variable, entry)
			continue
		}
		r.Off = true
		if len(list) > 1 {
			p.wrong(variable, text, "is off and names targets; leave one out")
		}
	}
	return r
}

// reloadEntries splits at commas too, but not in a command.
func reloadEntries(text string) []string {
	var list []string
	for _, rest := range entries(text) {
		for rest != "" {
			entry, after, _ := strings.Cut(rest, ",")
			if strings.Contains(entry, ":exec=") {
				entry, after = rest, ""
			}
			if entry = strings.TrimSpace(entry); entry != "" {
				list = append(list, entry)
			}
			rest = after
		}
	}
	return list
}

func (p *parser) target(r *cert.Reload, variable, entry string) {
	t, err := parseTarget(entry)
	if err != nil {
		p.wrong(variable, entry, "%v", err)
		return
	}
	i := slices.IndexFunc(r.Targets, func(other cert.Target) bool { return other.String() == t.String() })
	switch {
	case i < 0:
		r.Targets = append(r.Targets, t)
	case r.Targets[i].Action.String() == t.Action.String():
		p.mend(variable, "targets written twice were left out", entry)
	default:
		p.wrong(variable, entry, "is the same target as before with another action (%s); leave one out", r.Targets[i].Action)
	}
}

// parseTarget reads TARGET[:ACTION]. Its errors go on from the entry.
func parseTarget(entry string) (cert.Target, error) {
	selector, act, err := splitTarget(entry)
	if err != nil {
		return cert.Target{}, err
	}
	t, err := parseSelector(selector)
	if err != nil {
		return cert.Target{}, err
	}
	t.Action, err = parseAction(act)
	return t, err
}

// splitTarget cuts at the last colon, since a label's value may hold some, but at the first before a command.
func splitTarget(entry string) (selector, act string, err error) {
	i := strings.Index(entry, ":exec=")
	if i < 0 {
		i = strings.LastIndexByte(entry, ':')
	}
	if i < 0 {
		if _, err := parseAction(entry); err == nil {
			return "", "", fmt.Errorf("is an action without a target; write e.g. web:%s", entry)
		}
		return entry, "auto", nil
	}
	selector, act = strings.TrimSpace(entry[:i]), strings.TrimSpace(entry[i+1:])
	if act == "" {
		return "", "", fmt.Errorf("ends in an empty action, which an engine takes for KILL; write %s or %s:HUP", selector, selector)
	}
	return selector, act, nil
}

func parseSelector(selector string) (cert.Target, error) {
	if label, ok := strings.CutPrefix(selector, "label="); ok {
		if !labelKey.MatchString(label) {
			return cert.Target{}, errors.New("has no label; write label=KEY or label=KEY=VALUE")
		}
		return cert.Target{Label: label}, nil
	}
	if words := strings.Fields(selector); len(words) > 1 {
		return cert.Target{}, fmt.Errorf("has only a space between targets; write %s", strings.Join(words, ","))
	}
	project, word, both := strings.Cut(selector, "/")
	if !both {
		project, word = "", selector
	}
	if !containerName.MatchString(word) || both && !composeProject.MatchString(project) {
		return cert.Target{}, errors.New("is no target; write a Compose service (web), PROJECT/SERVICE, a container's name or label=KEY=VALUE, and the action after a colon (web:HUP)")
	}
	return cert.Target{Project: project, Word: word}, nil
}

// fallback reads RELOAD_FALLBACK.
func (p *parser) fallback(text string) cert.Action {
	a, err := parseAction(text)
	if err != nil {
		p.wrong("RELOAD_FALLBACK", text, "%v", err)
	}
	return a
}

// parseAction reads an ACTION. Its errors go on from whatever holds it.
func parseAction(text string) (cert.Action, error) {
	if command, ok := strings.CutPrefix(text, "exec="); ok {
		return parseCommand(command)
	}
	switch strings.ToLower(text) {
	case "auto":
		return cert.Action{Kind: cert.ActionAuto}, nil
	case "restart":
		return cert.Action{Kind: cert.ActionRestart}, nil
	}
	signal := strings.TrimPrefix(strings.ToUpper(text), "SIG")
	if slices.Contains(signals, signal) {
		return cert.Action{Kind: cert.ActionSignal, Signal: signal}, nil
	}
	if does, ok := otherwise[signal]; ok {
		return cert.Action{}, fmt.Errorf("asks for the signal %s, which %s; write auto, HUP, USR1, USR2 or restart", signal, does)
	}
	return cert.Action{}, fmt.Errorf("asks for %q, which is no action; write auto, HUP, USR1, USR2, restart or exec=COMMAND", shorten(text))
}

func parseCommand(command string) (cert.Action, error) {
	words, err := splitWords(command)
	if errors.Is(err, errOpenQuote) {
		return cert.Action{}, fmt.Errorf("%w; a ; or a new line ends an entry even in quotes", err)
	}
	if err != nil {
		return cert.Action{}, err
	}
	if len(words) == 0 || words[0] == "" {
		return cert.Action{}, errors.New("has no command after exec=; write e.g. exec=nginx -s reload")
	}
	return cert.Action{Kind: cert.ActionExec, Command: words}, nil
}
