package config

import (
	"reflect"
	"testing"

	"github.com/sidecert/sidecert/internal/cert"
)

func TestReloadIsReadAsWritten(t *testing.T) {
	auto := cert.Action{Kind: cert.ActionAuto}
	signal := func(name string) cert.Action { return cert.Action{Kind: cert.ActionSignal, Signal: name} }
	exec := func(words ...string) cert.Action { return cert.Action{Kind: cert.ActionExec, Command: words} }
	for _, test := range []struct {
		text string
		want []cert.Target
	}{
		{"web", []cert.Target{{Word: "web", Action: auto}}},
		{" web , mail;db\n\nwww", []cert.Target{{Word: "web", Action: auto}, {Word: "mail", Action: auto}, {Word: "db", Action: auto}, {Word: "www", Action: auto}}},
		{"web:hup,mail:SIGUSR1,db:USR2,www:Restart,x:auto", []cert.Target{
			{Word: "web", Action: signal("HUP")}, {Word: "mail", Action: signal("USR1")}, {Word: "db", Action: signal("USR2")},
			{Word: "www", Action: cert.Action{Kind: cert.ActionRestart}}, {Word: "x", Action: auto}}},
		{"other/web:HUP", []cert.Target{{Project: "other", Word: "web", Action: signal("HUP")}}},
		{"My_web.1", []cert.Target{{Word: "My_web.1", Action: auto}}},
		{"label=reload", []cert.Target{{Label: "reload", Action: auto}}},
		{"label=tls.url=http://x:HUP", []cert.Target{{Label: "tls.url=http://x", Action: signal("HUP")}}},
		{"a:exec=nginx -s reload,b ; c", []cert.Target{{Word: "a", Action: exec("nginx", "-s", "reload,b")}, {Word: "c", Action: auto}}},
		{"a,b:exec=x:exec=y\nc", []cert.Target{{Word: "a", Action: auto}, {Word: "b", Action: exec("x:exec=y")}, {Word: "c", Action: auto}}},
		{"label=a=b:exec=httpd -k 'graceful now'", []cert.Target{{Label: "a=b", Action: exec("httpd", "-k", "graceful now")}}},
		{"web,web:auto", []cert.Target{{Word: "web", Action: auto}}},
	} {
		c, _ := mustParse(t, "DOMAINS=a.example", "RELOAD="+test.text)
		if got := c.Specs[0].Reload.Targets; !reflect.DeepEqual(got, test.want) {
			t.Errorf("RELOAD=%q names\n%+v\nwant\n%+v", test.text, got, test.want)
		}
	}
}

func TestReloadOffIsAChoice(t *testing.T) {
	c, notices := mustParse(t, "DOMAINS=a.example", "RELOAD=OFF")
	if got := c.Specs[0].Reload; !got.Off || len(got.Targets) != 0 {
		t.Errorf("RELOAD=OFF gives %+v, want it off", got)
	}
	if len(notices) != 0 {
		t.Errorf("RELOAD=OFF is nagged about: %v", notices)
	}
}

func TestWordsAreSplitWithoutAShell(t *testing.T) {
	for text, want := range map[string][]string{
		"":                           nil,
		"  a\tb  ":                   {"a", "b"},
		`a 'b c' "d e"`:              {"a", "b c", "d e"},
		`a'b'"c"d`:                   {"abcd"},
		`'' ""`:                      {"", ""},
		`a\ b \' \"`:                 {"a b", "'", `"`},
		`"a\"b\\c\d"`:                {`a"b\c\d`},
		`'a\b"'`:                     {`a\b"`},
		"$HOME * | ; # `x` ~ \u00a0": {"$HOME", "*", "|", ";", "#", "`x`", "~", "\u00a0"},
	} {
		got, err := splitWords(text)
		if err != nil || !reflect.DeepEqual(got, want) {
			t.Errorf("splitWords(%q) = %q, %v, want %q", text, got, err, want)
		}
	}
	for _, text := range []string{`'a`, `"a`, `"a\"`, `a\`} {
		if got, err := splitWords(text); err == nil {
			t.Errorf("splitWords(%q) = %q, want an error", text, got)
		}
	}
}
