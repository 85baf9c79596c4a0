package config

import (
	"errors"
	"strings"
)

var errOpenQuote = errors.New("opens a quote and does not close it")

// splitWords splits a command as a shell would, and does nothing else of a shell: '…' takes everything as it is, "…" all but
// \" and \\, and outside of quotes a backslash takes the next character as it is.
func splitWords(text string) ([]string, error) {
	var words []string
	var word strings.Builder
	inWord := false
	var quote rune
	escaped := false
	for _, r := range text {
		switch {
		case escaped:
			if quote == '"' && r != '"' && r != '\\' {
				word.WriteByte('\\')
			}
			word.WriteRune(r)
			escaped = false
		case r == '\\' && quote != '\'':
			escaped, inWord = true, true
		case quote != 0 && r == quote:
			quote = 0
		case quote != 0:
			word.WriteRune(r)
		case r == '\'' || r == '"':
			quote, inWord = r, true
		case r == ' ' || r == '\t':
			if inWord {
				words = append(words, word.String())
			}
			word.Reset()
			inWord = false
		default:
			word.WriteRune(r)
			inWord = true
		}
	}
	switch {
	case quote != 0:
		return nil, errOpenQuote
	case escaped:
		return nil, errors.New("ends in a backslash with nothing to escape; write \\\\ for a backslash")
	case inWord:
		words = append(words, word.String())
	}
	return words, nil
}
