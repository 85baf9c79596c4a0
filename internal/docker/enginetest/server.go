package enginetest

import (
	"path/filepath"
	"slices"
	"testing"
)

// NginxConf, HttpdConf and HaproxyConf are configurations of servers that serve a.test with what Store writes.
const NginxConf = `server {
	listen 443 ssl;
	server_name a.test;
	ssl_certificate /tls/fullchain.pem;
	ssl_certificate_key /tls/privkey.pem;
}
`

const HttpdConf = `ServerRoot /usr/local/apache2
ServerName a.test
Listen 443
LoadModule mpm_event_module modules/mod_mpm_event.so
LoadModule authz_core_module modules/mod_authz_core.so
LoadModule socache_shmcb_module modules/mod_socache_shmcb.so
LoadModule ssl_module modules/mod_ssl.so
LoadModule unixd_module modules/mod_unixd.so
ErrorLog /proc/self/fd/2
<VirtualHost *:443>
	SSLEngine on
	SSLCertificateFile /tls/fullchain.pem
	SSLCertificateKeyFile /tls/privkey.pem
</VirtualHost>
`

const HaproxyConf = `defaults
	mode http
	timeout client 5s
	timeout connect 5s
	timeout server 5s
frontend web
	bind :443 ssl crt /tls/haproxy.pem
	http-request return status 204
`

// Server is a kind of web server in a container of its image.
type Server struct {
	Image string
	// File is the configuration's name in the stage's folder, and Place where the image reads it.
	File, Conf, Place string
	// Flags of docker run, and the Command in place of the image's.
	Flags, Command []string
}

// The servers that sidecert knows.
var (
	Nginx   = Server{Image: "nginx:1", File: "nginx.conf", Conf: NginxConf, Place: "/etc/nginx/conf.d/default.conf"}
	Httpd   = Server{Image: "httpd:2.4", File: "httpd.conf", Conf: HttpdConf, Place: "/usr/local/apache2/conf/httpd.conf"}
	Haproxy = Server{Image: "haproxy:lts-alpine", File: "haproxy.cfg", Conf: HaproxyConf, Place: "/usr/local/etc/haproxy/haproxy.cfg"}
)

// Start starts one as a container of a service, with restart: always unless before says otherwise.
func (s *Stage) Start(t *testing.T, server Server, service string, number int, before ...string) (name string) {
	t.Helper()
	conf := s.File(t, server.File, server.Conf)
	flags := []string{"--restart", "always", "--volume", conf + ":" + server.Place + ":ro"}
	return s.Run(t, service, number, slices.Concat(flags, server.Flags, before), append([]string{server.Image}, server.Command...)...)
}

// Tecnativa puts a stand-in for tecnativa/docker-socket-proxy before the engine: compose/testdata/socket-proxy.cfg, which has its rules,
// in a real HAProxy, with its defaults but for the switches that are named. host is its DOCKER_HOST.
func (s *Stage) Tecnativa(t *testing.T, switches ...string) (name, host string) {
	t.Helper()
	config, err := filepath.Abs("../../compose/testdata/socket-proxy.cfg")
	if err != nil {
		t.Fatal(err)
	}
	before := []string{"--user", "0", "--publish", "127.0.0.1:0:2375", "--volume", "/var/run/docker.sock:/var/run/docker.sock",
		"--volume", config + ":/usr/local/etc/haproxy/haproxy.cfg:ro", "--env", "EVENTS=1", "--env", "PING=1", "--env", "VERSION=1"}
	for _, on := range switches {
		before = append(before, "--env", on)
	}
	name = s.Run(t, "socket-proxy", 1, before, Haproxy.Image)
	return name, "tcp://" + s.Published(t, name, "2375")
}
