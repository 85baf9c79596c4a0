package reload

import (
	"cmp"
	"errors"
	"fmt"
	"strings"

	"github.com/sidecert/sidecert/internal/cert"
	"github.com/sidecert/sidecert/internal/docker"
)

const (
	hintNoProject = "our own Compose project is not known, so that only exact container names are found: write PROJECT/SERVICE, or set COMPOSE_PROJECT_NAME"
	hintNoEngine  = "mount the engine's socket (volumes: [/var/run/docker.sock:/var/run/docker.sock]) or set DOCKER_HOST to a socket proxy; until then web containers must be reloaded by hand"
	hintUnseen    = "see that it answers TLS on port 443 in a network that sidecert is in too, or name an address to look at: VERIFY=HOST:PORT"
	// hintSelfReload is for who is told by nobody.
	hintSelfReload = "nobody is told of this certificate, so the web server must read its files again by itself: see that it does, as in compose/no-socket.yaml"
	hintStopped    = "the container does not run; it reads the certificate when it starts"
)

// hintOf says what to do about an error of the engine.
func hintOf(err error) string {
	if !errors.Is(err, docker.ErrForbidden) {
		return ""
	}
	call, _, _ := strings.Cut(err.Error(), ": ")
	return fmt.Sprintf("allow %s in the socket proxy", call)
}

// check is the command with which a person sees what is wrong with a container's configuration.
func check(f found) string {
	in := "docker exec " + f.Name
	if f.Service != "" {
		in = "docker compose exec " + f.Service
	}
	if test := serverIn(f.Container).test; test != nil {
		return in + " " + strings.Join(test, " ")
	}
	return logs(f)
}

// hintOfAction is what to know of an action that was done. chosen says that we had a choice, which is to be explained; refused is why the
// action before could not be done.
func hintOfAction(f found, a cert.Action, chosen bool, refused error) string {
	s := serverIn(f.Container)
	switch {
	case f.blind, a.Kind == cert.ActionExec && !chosen:
		return ""
	case a.Kind == cert.ActionSignal && chosen && s.commandFirst:
		return fmt.Sprintf("no command can be run in the container, so that it was sent %s, which ends %s if its configuration is broken: %s", a, s.name, cmp.Or(hintOf(refused), fmt.Sprint(refused)))
	case a.Kind == cert.ActionSignal:
		return harmOfSignal(f.Container, a.Signal)
	case a.Kind == cert.ActionExec:
		if harm := harmOfSignal(f.Container, s.signal); harm != "" {
			return "reloaded by a command: " + harm
		}
	}
	return ""
}

func hintOfFailure(f found, d deed) string {
	if hint := hintOf(d.err); hint != "" {
		return hint
	}
	if errors.Is(d.err, docker.ErrNotFound) && f.ID == "" {
		return fmt.Sprintf("the socket proxy lets nothing be looked up, so that RELOAD must have the exact name of a container, as `docker ps` shows it, and not of a service; or give the service container_name: %s", f.Name)
	}
	if errors.Is(d.err, docker.ErrNotFound) || errors.Is(d.err, docker.ErrNotRunning) {
		return ""
	}
	return fmt.Sprintf("its configuration is probably broken; what it serves now stays in service; see %s", check(f))
}

// hintOfStale is for a container that was told and serves the older version all the same.
func hintOfStale(f found, done string) string {
	s := serverIn(f.Container)
	if f.blind || s.name == "" {
		return "see that it reads the files in live/ again when told so, or set another action: RELOAD=" + target(f) + ":restart"
	}
	if done == s.signal {
		return fmt.Sprintf("its configuration is probably broken, or its first process is a shell that swallows the signal: see %s; against the latter RELOAD=%s:exec=%s helps",
			check(f), target(f), strings.Join(s.commands[0], " "))
	}
	return fmt.Sprintf("its configuration is probably broken, or names other files than those in live/: see %s", check(f))
}

func hintOfForeign(f found, k cert.Kept) string {
	return fmt.Sprintf("let %s use %s/fullchain.pem and privkey.pem for these names, or leave it out of RELOAD", target(f), cmp.Or(k.Lineage.Dir, "live/"+k.Lineage.Name))
}

// target is the container as RELOAD would name it.
func target(f found) string { return cmp.Or(f.Service, f.Name) }

// logs is the command with which a person sees what a container says.
func logs(f found) string {
	if f.Service != "" {
		return "docker compose logs " + f.Service
	}
	return "docker logs " + f.Name
}
