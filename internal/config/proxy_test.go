package config

import (
	"log/slog"
	"reflect"
	"slices"
	"strings"
	"testing"

	"github.com/sidecert/sidecert/internal/cert"
)

func TestProxyReadsItsOwnVariables(t *testing.T) {
	auto := cert.Action{Kind: cert.ActionAuto}
	c, notices, err := ParseProxy([]string{
		"RELOAD=web, shop/web:HUP; label=tls=on", "DISCOVER=OFF", "COMPOSE_PROJECT_NAME=p", "LOG_LEVEL=debug", "LOG_FORMAT=json",
		"DOCKER_HOST=tcp://engine:2376", "DOCKER_TLS_VERIFY=1", "DOCKER_CERT_PATH=/certs",
	})
	want := Proxy{
		Listen: c.Listen, Host: "unix:///run/sidecert/docker.sock", Discover: "off", LogLevel: slog.LevelDebug, LogFormat: "json", Project: "p",
		Docker: Docker{Host: "tcp://engine:2376", TLSVerify: true, CertPath: "/certs"},
		Targets: []cert.Target{
			{Word: "web", Action: auto},
			{Project: "shop", Word: "web", Action: cert.Action{Kind: cert.ActionSignal, Signal: "HUP"}},
			{Label: "tls=on", Action: auto},
		},
	}
	if err != nil || notices != nil || !reflect.DeepEqual(c, want) {
		t.Errorf("ParseProxy() = %+v, %v, %v, want %+v", c, notices, err, want)
	}
	for value, want := range map[string][3]string{
		"":                          {"unix", "/run/sidecert/docker.sock", "unix:///run/sidecert/docker.sock"},
		"unix:///a/../b.sock":       {"unix", "/b.sock", "unix:///b.sock"},
		"tcp://0.0.0.0:2375":        {"tcp", "0.0.0.0:2375", "tcp://127.0.0.1:2375"},
		"tcp://[::]:2375":           {"tcp", "[::]:2375", "tcp://127.0.0.1:2375"},
		"tcp://:2375":               {"tcp", ":2375", "tcp://127.0.0.1:2375"},
		"tcp://socket-proxy:2375":   {"tcp", "socket-proxy:2375", "tcp://socket-proxy:2375"},
		"tcp://[fe80::1]:2375":      {"tcp", "[fe80::1]:2375", "tcp://[fe80::1]:2375"},
		" \"tcp://127.0.0.1:2375\"": {"tcp", "127.0.0.1:2375", "tcp://127.0.0.1:2375"},
	} {
		c, _, err := ParseProxy([]string{"SOCKET_PROXY_LISTEN=" + value})
		if err != nil || [3]string{c.Listen.Network(), c.Listen.String(), c.Host} != want {
			t.Errorf("SOCKET_PROXY_LISTEN=%s is %+v, %v, want %q", value, c, err, want)
		}
	}
}

func TestProxysMistakesAreToldTogether(t *testing.T) {
	const listens = "; write unix:///run/sidecert/docker.sock, or tcp://0.0.0.0:2375"
	for _, test := range []struct {
		env  string
		want string
	}{
		{"DISCOVER=off", "RELOAD names no container, and DISCOVER is off, so that nothing would be let through; write e.g. RELOAD=web"},
		{"DISCOVER=off RELOAD=off", "RELOAD names no container, and DISCOVER is off, so that nothing would be let through; write e.g. RELOAD=web"},
		{"DISCOVER=some RELOAD=web:KILL LOG_LEVEL=loud SOCKET_PROXY_LISTEN=/run/x", `DISCOVER: "some" is none of its values; write project, all or off
LOG_LEVEL: "loud" is none of its values; write info, debug, warn or error
SOCKET_PROXY_LISTEN: "/run/x" is no address to listen at` + listens + `
RELOAD: "web:KILL" asks for the signal KILL, which ends the server and drops its connections; write auto, HUP, USR1, USR2 or restart`},
		{"RELAOD=web", "RELAOD is unknown; did you mean RELOAD?"},
		{"SOCKET_PROXY_LISTEN=unix://run/x", `SOCKET_PROXY_LISTEN: "unix://run/x" has no path that a socket can have; write an absolute one of at most 107 bytes, e.g. unix:///run/sidecert/docker.sock`},
		{"SOCKET_PROXY_LISTEN=unix:///" + strings.Repeat("a", 107), `SOCKET_PROXY_LISTEN: "unix:///` + strings.Repeat("a", 107) + `" has no path that a socket can have; write an absolute one of at most 107 bytes, e.g. unix:///run/sidecert/docker.sock`},
		{"SOCKET_PROXY_LISTEN=tcp://0.0.0.0", `SOCKET_PROXY_LISTEN: "tcp://0.0.0.0" is no address to listen at` + listens},
		{"SOCKET_PROXY_LISTEN=tcp://0.0.0.0:0", `SOCKET_PROXY_LISTEN: "tcp://0.0.0.0:0" is no address to listen at` + listens},
		{"SOCKET_PROXY_LISTEN=tcp://0.0.0.0:2375/x", `SOCKET_PROXY_LISTEN: "tcp://0.0.0.0:2375/x" is no address to listen at` + listens},
		{"SOCKET_PROXY_LISTEN=tcp://a@b:1", `SOCKET_PROXY_LISTEN: "tcp://a@b:1" is no address to listen at` + listens},
		{"SOCKET_PROXY_LISTEN=fd://", `SOCKET_PROXY_LISTEN: "fd://" is no address to listen at` + listens},
		{"DOCKER_HOST=unix:///run/sidecert/docker.sock", `DOCKER_HOST: "unix:///run/sidecert/docker.sock" is where the proxy itself listens; name the engine, e.g. unix:///var/run/docker.sock`},
	} {
		_, _, err := ParseProxy(strings.Fields(test.env))
		if err == nil || err.Error() != test.want {
			t.Errorf("%s:\n%v\nwant\n%s", test.env, err, test.want)
		}
	}
}

func TestDaemonsVariablesAreWarnedOfByTheProxy(t *testing.T) {
	_, notices, err := ParseProxy([]string{
		"DOMAINS=a.example b", "CERT_0_DOMAINS=\x00", "CERT_0_RELOAD=web2", "EMAIL=", "ACME_EAB_HMAC_KEY=secret", "NOTIFY_URLS=x", "LETSENCRYPT_HOST=a", "PATH=/bin", "RELOAD=web",
	})
	var got []string
	for _, n := range notices {
		got = append(got, n.Level.String()+" "+n.Text)
	}
	want := []string{
		"WARN ACME_EAB_HMAC_KEY does nothing for the socket proxy", "WARN CERT_0_DOMAINS does nothing for the socket proxy",
		"WARN CERT_0_RELOAD does nothing for the socket proxy; name its containers in RELOAD too", "WARN DOMAINS does nothing for the socket proxy",
		"WARN NOTIFY_URLS does nothing for the socket proxy", "WARN LETSENCRYPT_HOST does nothing here; DOMAINS names the certificates",
	}
	if err != nil || !slices.Equal(got, want) {
		t.Errorf("ParseProxy() says %q, %v, want %q", got, err, want)
	}
}

func TestProxysVariablesAreInTheTable(t *testing.T) {
	for name := range proxyVars {
		if !vocabulary().has(name) {
			t.Errorf("%s is no variable of vars.go", name)
		}
	}
}
