package acme

import (
	"strings"
	"testing"
	"unicode/utf8"
)

func TestCleanGivesOneBoundedPrintableLine(t *testing.T) {
	rows := map[string]string{
		"plain":                    "plain",
		"two\r\nlines\tand\x00nul": "two lines and nul",
		"\x1b[31mred\x1b[0m":       "[31mred [0m",
		"right\u202eto left":       "right to left",
		"bad \xff\xfe bytes":       "bad bytes",
		strings.Repeat("ü", 300):   strings.Repeat("ü", 248) + "…",
	}
	for in, want := range rows {
		if got := clean(in, 500); got != want {
			t.Errorf("clean(%.40q) = %q, want %q", in, got, want)
		}
	}
}

func FuzzClean(f *testing.F) {
	f.Add("text\n", 10)
	f.Fuzz(func(t *testing.T, text string, limit int) {
		limit = 10 + limit&0xff
		got := clean(text, limit)
		if len(got) > limit || !utf8.ValidString(got) || strings.ContainsAny(got, "\r\n\x1b\x00") {
			t.Errorf("clean(%q, %d) = %q", text, limit, got)
		}
	})
}
