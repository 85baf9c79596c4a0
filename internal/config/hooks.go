package config

import (
	"cmp"
	"path"
	"strings"
)

// hook reads a command; nil if there is none. Nothing of it is shown: commands hold passwords.
func (p *parser) hook(variable, text string) []string {
	words, err := splitWords(text)
	token := shellSyntax(text, isShell(words))
	switch {
	case err != nil:
		p.wrong(variable, redacted, "%v", err)
		return nil
	case text == "":
		return nil
	case words[0] == "":
		p.wrong(variable, redacted, "has nothing for a command; write e.g. %s=/usr/local/bin/tell-me", variable)
		return nil
	case token == "\n":
		p.wrong(variable, redacted, "has several lines, and a hook is one command; write it on one line")
		return nil
	case token != "":
		p.warn(variable, "%s holds %s, which only a shell understands, and there is none: the command gets it as it stands. Where a shell is needed, build an image that has one, as the README says at PRE_HOOK, and write %s=sh -c '…'", variable, token, variable)
	}
	return words
}

// isShell reports whether a command is a shell's.
func isShell(words []string) bool {
	return len(words) > 0 && isOneOf(path.Base(words[0]), "sh", "ash", "bash", "dash", "ksh", "zsh")
}

// shellSyntax is the first thing in a command that a shell would act on, or the end of a line wherever it is; "" if there is none.
// Between double quotes it would replace variables and commands, unless another shell gets the text as its script.
func shellSyntax(text string, shell bool) (first string) {
	var quote byte
	for i := 0; i < len(text); i++ {
		token := ""
		switch c := text[i]; {
		case c == '\\' && quote != '\'':
			i++
		case quote != 0 && c == quote:
			quote = 0
		case quote == 0 && (c == '\'' || c == '"'):
			quote = c
		case quote == '\'' || quote == '"' && shell:
		case c == '`' || c == '$' && replaced(text[i+1:]):
			token = string(c)
		case quote != 0:
		case c == '\n':
			return "\n"
		case c == '|' || c == ';' || c == '<' || c == '>':
			token = string(c)
		case strings.HasPrefix(text[i:], "&&"):
			token = "&&"
		}
		first = cmp.Or(first, token)
	}
	return first
}

// replaced reports whether a shell would replace a dollar sign and what follows.
func replaced(after string) bool {
	return after != "" && (strings.ContainsRune("({_@*#?", rune(after[0])) || 'A' <= after[0] && after[0] <= 'Z' || 'a' <= after[0] && after[0] <= 'z')
}
