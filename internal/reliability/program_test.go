package reliability

import (
	"os"
	"path/filepath"
)

// command is a call of a program with its environment.
type command struct{ args, environ []string }

// program is one that keeps certificates, by its commands for a place.
type program struct {
	name, path string
	// issue obtains what is missing, and is what a person runs again after a fault.
	issue func(*authority, place) command
	// look renews what is due, and renew the certificate in any case.
	look, renew func(*authority, place) command
}

// sidecert is asked by name: after a failure that waives its own waiting time, which would only delay the judgement.
func sidecert(binary string) program {
	call := func(args ...string) func(*authority, place) command {
		return func(a *authority, p place) command {
			return command{append(append([]string{binary}, args...), p.name), sidecertEnviron(a, p)}
		}
	}
	return program{"sidecert", binary, call("renew"), call("renew"), call("renew", "--force")}
}

// sidecertEnviron has no engine and no web server to reload.
func sidecertEnviron(a *authority, p place) []string {
	return []string{
		"PATH=" + os.Getenv("PATH"), "DOMAINS=" + p.name, "CERT_DIR=" + p.certs(), "STATE_DIR=" + p.state(), "WEBROOT=" + p.webroot(),
		"ACME_CA=" + a.Directory, "ACME_CA_BUNDLE=" + a.roots, "PREFLIGHT=off", "RELOAD=off", "DOCKER_HOST=unix://" + filepath.Join(p.dir, "no.sock"), "LISTEN=off",
	}
}

// certbot writes its log outside of the place, and keeps no old ones: they are no certificates.
func certbot() program {
	call := func(args ...string) func(*authority, place) command {
		return func(a *authority, p place) command {
			args := append([]string{"certbot"}, args...)
			if args[1] == "certonly" {
				args = append(args, "--server", a.Directory, "--webroot", "--webroot-path", p.webroot(), "--domains", p.name,
					"--agree-tos", "--register-unsafely-without-email")
			}
			logs := filepath.Join(a.dir, "logs-of-certbot")
			args = append(args, "--non-interactive", "--config-dir", p.certs(), "--work-dir", logs, "--logs-dir", logs, "--max-log-backups", "0")
			return command{args, append(os.Environ(), "REQUESTS_CA_BUNDLE="+a.roots)}
		}
	}
	return program{
		"certbot", "certbot", call("certonly"), call("renew", "--no-random-sleep-on-renew"),
		call("renew", "--no-random-sleep-on-renew", "--force-renewal"),
	}
}
