package config

import (
	"net"
	"strconv"
	"strings"
)

// listenTCP reads LISTEN; "" is off, and what it is where there is a mistake.
func (p *parser) listenTCP(text string) string {
	const variable = "LISTEN"
	if isOneOf(strings.ToLower(text), "off", "false", "no") {
		return ""
	}
	host, number, err := net.SplitHostPort(text)
	if err != nil {
		if port(text) {
			p.wrong(variable, text, "is a port without the colon; write 127.0.0.1:%s, :%s for every network that sidecert is in, or off", text, text)
		} else {
			p.wrong(variable, text, "is no address to listen at; write %s, :9180 or off", defaultOf(variable))
		}
		return ""
	}
	if !port(number) || host != "" && net.ParseIP(host) == nil && !hostname.MatchString(host) {
		p.wrong(variable, text, "is no address to listen at; write %s, :9180 or off", defaultOf(variable))
		return ""
	}
	return net.JoinHostPort(host, number)
}

func port(text string) bool {
	n, err := strconv.ParseUint(text, 10, 16)
	return err == nil && n > 0
}
