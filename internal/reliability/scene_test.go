package reliability

import (
	"context"
	"crypto/tls"
	"crypto/x509"
	"errors"
	"fmt"
	"net"
	"os"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/sidecert/sidecert/internal/cert"
	"github.com/sidecert/sidecert/internal/cert/certtest"
	"github.com/sidecert/sidecert/internal/docker"
	"github.com/sidecert/sidecert/internal/docker/enginetest"
	"github.com/sidecert/sidecert/internal/reload"
	"github.com/sidecert/sidecert/internal/socketproxy"
	"github.com/sidecert/sidecert/internal/store"
)

// domain is the name that every web server of the matrix serves.
const domain = "a.test"

// kind is a web server as the matrix has it.
type kind struct {
	name string
	enginetest.Server
	port int
	// gid is the group that reads the keys.
	gid int
	// broken is appended to its configuration where that is to be broken.
	broken string
	// byName is what it is told where nothing can be looked up.
	byName cert.Action
	// late says that it serves before it heeds HUP.
	late bool
}

var (
	hup     = cert.Action{Kind: cert.ActionSignal, Signal: "HUP"}
	restart = cert.Action{Kind: cert.ActionRestart}

	nginx       = kind{name: "nginx", Server: enginetest.Nginx, port: 443, broken: "}", byName: hup}
	nginxNoRoot = kind{name: "nginx, not root", Server: unprivileged(enginetest.Nginx), port: 8443, gid: 101, broken: "}", byName: hup}
	httpd       = kind{name: "httpd", Server: enginetest.Httpd, port: 443, broken: "Nonsense\n", byName: cert.Action{Kind: cert.ActionSignal, Signal: "USR1"}}
	haproxy     = kind{name: "haproxy", Server: enginetest.Haproxy, port: 443, gid: 99, broken: "nonsense\n", byName: hup, late: true}
	// other is one that sidecert does not know, which is restarted: nginx's program under another name.
	other = kind{name: "other", Server: unknown(enginetest.Nginx), port: 443, broken: "}", byName: restart}
)

func unprivileged(s enginetest.Server) enginetest.Server {
	s.Conf = strings.Replace(s.Conf, "listen 443", "listen 8443", 1)
	s.Flags = []string{"--user", "101:101", "--cap-drop", "ALL", "--tmpfs", "/var/cache/nginx:uid=101,gid=101", "--tmpfs", "/run:uid=101,gid=101"}
	return s
}

// unknown has nothing that tells what it is: neither the program's name nor, in the environment, the image's version. scene puts the image's
// ID in the place of its name.
func unknown(s enginetest.Server) enginetest.Server {
	s.Flags = []string{"--env", "NGINX_VERSION", "--entrypoint", "/tls/unknown"}
	s.Command = []string{"-g", "daemon off;"}
	return s
}

// scene is one cell of the matrix while it is played.
type scene struct {
	*testing.T
	*enginetest.Stage
	kind
	fault   mishap
	service string
	names   []string // of its containers; what is wanted is said of the last
	before  []docker.Container
	store   *store.Store
	ca      *certtest.CA
	number  int // of versions

	engine *docker.Engine // by the cell's way
	host   string         // of the engine that the way leads to
	reload *reload.Reloader
	spec   cert.Spec
	ahead  time.Duration // of our clock
	away   func()        // what the way leads through ends
	back   func()        // and is there again
	struck sync.Once
}

// play goes through a cell, and says what came of it.
func (c *scene) play(by way, first, then want) (r result) {
	c.ca, c.spec = certtest.New(), cert.Spec{Name: domain, Names: []string{domain}}
	var err error
	c.store, err = store.Open(store.Options{CertDir: filepath.Join(c.TLS, "certs"), StateDir: filepath.Join(c.TempDir(), "state"), GID: c.gid,
		FilesPerms: 0o640, FoldersPerms: 0o755, Haproxy: c.name == haproxy.name, Now: time.Now})
	if err != nil {
		c.Fatal(err)
	}
	c.Server.Conf = strings.ReplaceAll(c.Server.Conf, "/tls/", "/tls/certs/live/"+domain+"/")
	if c.name == other.name {
		c.copyProgram()
	}
	c.renew()
	c.host = os.Getenv("DOCKER_HOST")
	c.service = "web"
	if c.fault.dress != nil {
		c.fault.dress(c)
	}
	for i := range max(1, c.fault.replicas) {
		c.names = append(c.names, c.start(i+1))
	}
	for _, name := range c.names {
		c.serves(name, 1)
	}
	by.open(c)
	config := reload.Config{Project: c.Project, Memory: c.store, Now: func() time.Time { return time.Now().Add(c.ahead) }}
	if c.engine != nil {
		config.Engine = interrupted{c.engine, c}
	}
	c.reload = reload.New(config)
	for _, name := range c.names {
		c.before = append(c.before, c.inspect(name))
	}
	if c.fault.strike != nil {
		c.fault.strike(c)
	}
	c.renew()
	c.look(&r, first)
	if c.fault.mend != nil {
		c.fault.mend(c)
		c.look(&r, then)
	}
	if c.fault.spared != nil {
		c.fault.spared(c)
	}
	r.ok = !c.Failed()
	return r
}

// copyProgram takes nginx out of its image, to be run under another name.
func (c *scene) copyProgram() {
	c.Image = c.Docker(c.T, "image", "inspect", "--format", "{{.Id}}", c.Image)
	from := c.Docker(c.T, "create", c.Image)
	defer c.Docker(c.T, "rm", from)
	c.Docker(c.T, "cp", from+":/usr/sbin/nginx", filepath.Join(c.TLS, "unknown"))
}

// start starts a container, which has a configuration of its own.
func (c *scene) start(number int) (name string) {
	s := c.Server
	s.File = fmt.Sprintf("%d-%s", number, s.File)
	return c.Start(c.T, s, c.service, number)
}

// configure changes the configuration of the last container.
func (c *scene) configure(text string) {
	c.File(c.T, fmt.Sprintf("%d-%s", len(c.names), c.Server.File), text)
}

// renew stores a new version.
func (c *scene) renew() {
	c.number++
	if _, err := c.store.Save(c.Context(), domain, c.spec, c.ca.Issue(time.Now().Add(-time.Hour), 90*24*time.Hour, domain)); err != nil {
		c.Fatal(err)
	}
}

// look is one of sidecert's, and what is to be so after it.
func (c *scene) look(r *result, want want) {
	l, err := c.store.Lineage(domain)
	if err != nil {
		c.Fatal(err)
	}
	seen := c.reload.Look(c.Context(), []cert.Kept{{Spec: c.spec, Lineage: l}})
	c.ahead += time.Minute // past the backoff, at the next
	o := c.outcome(seen)
	says := strings.Trim(errorText(o.Err)+"; "+o.Hint, "; ")
	last := len(c.names) - 1
	served := c.served(c.names[last])
	r.note(o.Action, served, c.number, excerpt(says, want.says))

	if want.class != anything && o.Class != want.class {
		c.Errorf("sidecert finds it %q, want %q: %s", o.Class, want.class, says)
	}
	if o.Action != want.action {
		c.Errorf("it was told by %q, want %q: %s", o.Action, want.action, says)
	}
	if want.class == cert.Current && o.Err != nil {
		c.Errorf("sidecert says %q of what is well", says)
	}
	for _, words := range want.says {
		if !strings.Contains(says, words) {
			c.Errorf("sidecert says %q, want %q in it", says, words)
		}
	}
	if o.Class != cert.Current && c.spec.Told() && seen.Next.IsZero() {
		c.Error("no other look is asked for")
	}
	if want.served != anything && served != want.number(c.number) {
		c.Errorf("a client is shown version %d (0 is none) of %d, want %s", served, c.number, want.served)
	}
	if got := fate(c.before[last], c.inspect(c.names[last])); want.fate != anything && got != want.fate {
		c.Errorf("the container was %s, want it %s", got, want.fate)
	}
}

// outcome is that of the last container, or of the look where nothing could be looked at.
func (c *scene) outcome(l cert.Look) cert.Outcome {
	var told cert.Outcome
	for _, o := range l.Outcomes {
		if o.Container == c.names[len(c.names)-1] || c.spec.Reload.Off && len(c.spec.Verify.Endpoints) > 0 {
			return o
		}
		told = o
	}
	if l.Err != nil {
		return cert.Outcome{Class: cert.Unseen, Err: l.Err, Hint: l.Hint}
	}
	return told
}

// excerpt is what sidecert says from where the first of the words stands that are wanted.
func excerpt(says string, words []string) string {
	if len(words) > 0 {
		if at := strings.Index(says, words[0]); at > 0 {
			says = "…" + says[at:]
		}
	}
	if all := []rune(says); len(all) > 80 {
		return string(all[:79]) + "…"
	}
	return says
}

func errorText(err error) string {
	if err == nil {
		return ""
	}
	return err.Error()
}

// inspect is what the engine itself knows; its zero value of a container that has gone.
func (c *scene) inspect(name string) docker.Container {
	is, err := c.Engine.Inspect(c.Context(), name)
	if err != nil && !errors.Is(err, docker.ErrNotFound) {
		c.Fatal(err)
	}
	return is
}

// fate is what became of a container since.
func fate(was, is docker.Container) string {
	switch {
	case is.ID != was.ID:
		return recreated
	case !is.State.Running():
		return ended
	case !is.State.StartedAt.Equal(was.State.StartedAt):
		return started
	}
	return untouched
}

// served is the number of the version that a client is shown which trusts the CA; 0 is none. It is the test's own look, and shares
// nothing with sidecert's.
func (c *scene) served(name string) int {
	addr, err := c.Address(name, c.port)
	if err != nil {
		return 0
	}
	roots := x509.NewCertPool()
	roots.AddCert(c.ca.Root)
	conn, err := tls.DialWithDialer(&net.Dialer{Timeout: 5 * time.Second}, "tcp", addr, &tls.Config{ServerName: domain, RootCAs: roots})
	if err != nil {
		return 0
	}
	defer conn.Close()
	leaf := conn.ConnectionState().PeerCertificates[0]
	for n := range c.number {
		data, err := os.ReadFile(filepath.Join(c.TLS, "certs", "archive", domain, fmt.Sprintf("cert%d.pem", n+1)))
		if err != nil {
			c.Fatal(err)
		}
		stored, err := cert.ParseChain(data)
		if err != nil {
			c.Fatal(err)
		}
		if stored[0].Equal(leaf) {
			return n + 1
		}
	}
	return 0
}

// serves waits until a version is served.
func (c *scene) serves(name string, number int) {
	c.Helper()
	enginetest.Until(c.T, name+" serves", func() error {
		if got := c.served(name); got != number {
			return fmt.Errorf("it serves version %d, want %d, and says:\n%s", got, number, c.Docker(c.T, "logs", name))
		}
		if c.late && !c.heeds(name) {
			return errors.New("it does not heed HUP")
		}
		return nil
	})
}

// heeds reports whether a container's first process has a handler for HUP, and is past its start, where it executes itself anew.
func (c *scene) heeds(name string) bool {
	for line := range strings.Lines(c.Docker(c.T, "exec", name, "cat", "/proc/1/status")) {
		mask, ok := strings.CutPrefix(line, "SigCgt:")
		if !ok {
			continue
		}
		caught, err := strconv.ParseUint(strings.TrimSpace(mask), 16, 64)
		return err == nil && caught&1 != 0 && strings.Contains(c.Docker(c.T, "logs", name), "Loading success")
	}
	return false
}

// interrupted is an engine at which something happens when sidecert is about to tell a container something.
type interrupted struct {
	*docker.Engine
	c *scene
}

func (e interrupted) strike() {
	if e.c.fault.during != nil {
		e.c.struck.Do(func() { e.c.fault.during(e.c) })
	}
}

func (e interrupted) Kill(ctx context.Context, id, signal string) error {
	e.strike()
	return e.Engine.Kill(ctx, id, signal)
}

func (e interrupted) Restart(ctx context.Context, id string) error {
	e.strike()
	return e.Engine.Restart(ctx, id)
}

func (e interrupted) Exec(ctx context.Context, id string, command []string) (docker.Ended, error) {
	e.strike()
	return e.Engine.Exec(ctx, id, command)
}

// way is how sidecert gets to the engine.
type way struct {
	name string
	open func(*scene)
}

var (
	bySocket = way{name: "socket", open: func(c *scene) {
		c.engine = c.Reach(c.T, docker.Config{Host: c.host})
		c.target(c.service, cert.Action{Kind: cert.ActionAuto})
	}}
	bySocketProxy = way{name: "socket-proxy", open: func(c *scene) {
		c.target(c.service, cert.Action{Kind: cert.ActionAuto})
		engine := c.Reach(c.T, docker.Config{Host: c.host})
		web := reload.New(reload.Config{Engine: engine, Project: c.Project, Discover: reload.DiscoverProject})
		path := filepath.Join(c.TempDir(), "docker.sock")
		serve := func() (stop func()) {
			l, err := socketproxy.Listen(&net.UnixAddr{Name: path, Net: "unix"})
			if err != nil {
				c.Fatal(err)
			}
			return enginetest.Serve(c.T, socketproxy.New(socketproxy.Config{
				Engine: engine, Select: func(ctx context.Context) (docker.Container, []docker.Container, error) {
					return web.Select(ctx, c.spec.Reload.Targets)
				},
			}), l)
		}
		stop := serve()
		if c.away == nil {
			c.away, c.back = func() { stop() }, func() { stop = serve() }
		}
		c.engine = c.Reach(c.T, docker.Config{Host: "unix://" + path})
	}}
	// byName is another maker's proxy that lets nothing be looked up. An endpoint stands in for DNS, which would know the name.
	byName = way{name: "foreign, names only", open: func(c *scene) {
		c.throughForeign("POST=1", "ALLOW_RESTARTS=1")
		c.target(c.names[0], c.byName)
		c.spec.Verify.Endpoints = []string{c.Endpoint(c.T, c.names[0], c.port)}
	}}
	reading = way{name: "foreign, reads only", open: func(c *scene) {
		c.throughForeign("CONTAINERS=1")
		c.target(c.service, cert.Action{Kind: cert.ActionAuto})
	}}
	withoutExec = way{name: "foreign, no exec", open: func(c *scene) {
		c.throughForeign("CONTAINERS=1", "POST=1")
		c.target(c.service, cert.Action{Kind: cert.ActionAuto})
	}}
	off = way{name: "RELOAD=off", open: func(c *scene) {
		c.spec.Reload.Off = true
		c.spec.Verify.Endpoints = []string{c.Endpoint(c.T, c.names[0], c.port)}
	}}
)

func (c *scene) throughForeign(switches ...string) {
	proxy, host := c.Tecnativa(c.T, switches...)
	c.engine = c.Reach(c.T, docker.Config{Host: host})
	c.away, c.back = func() { c.Docker(c.T, "pause", proxy) }, func() { c.Docker(c.T, "unpause", proxy) }
}

// target is what is told. A port that is not 443 is named as the label sidecert.verify names it.
func (c *scene) target(word string, action cert.Action) {
	t := cert.Target{Word: word, Action: action}
	if c.port != 443 {
		t.Port = c.port
	}
	c.spec.Reload.Targets = []cert.Target{t}
}

// mishap is what befalls a renewal. All of its parts may be nil.
type mishap struct {
	name     string
	replicas int
	// dress comes before the containers, strike before the new version, during when sidecert is about to tell something, and mend after
	// its first look, before a second. spared sees that nobody else came to harm.
	dress, strike, during, mend, spared func(*scene)
}

// with adds what happens before the containers start.
func (m mishap) with(dress func(*scene)) mishap {
	m.dress = dress
	return m
}

func breakConfiguration(c *scene) { c.configure(c.Server.Conf + c.broken) }

var (
	none               = mishap{name: "none"}
	broken             = mishap{name: "configuration broken", strike: breakConfiguration}
	recreatedMeanwhile = mishap{name: "recreated between list and signal", during: func(c *scene) {
		c.Docker(c.T, "rm", "--force", c.names[0])
		c.start(1)
		c.serves(c.names[0], c.number)
	}, mend: func(*scene) {}}
	stopped = mishap{name: "stopped, started later", strike: func(c *scene) { c.Docker(c.T, "stop", c.names[0]) }, mend: func(c *scene) {
		c.Docker(c.T, "start", c.names[0])
		c.serves(c.names[0], c.number)
	}}
	oneOfThree = mishap{name: "one of three replicas broken", replicas: 3, strike: breakConfiguration, spared: func(c *scene) {
		for _, name := range c.names[:2] {
			if got := c.served(name); got != c.number {
				c.Errorf("%s serves version %d, want %d as if the third were well", name, got, c.number)
			}
		}
	}}
	sameName = mishap{name: "another project's container has our service's name"}.with(func(c *scene) {
		neighbour := &enginetest.Stage{Engine: c.Engine, Project: c.Project + "b", TLS: c.TLS}
		c.service = neighbour.Name("web", 1)
		theirs := c.Server
		theirs.File = "theirs-" + theirs.File
		neighbour.Start(c.T, theirs, "web", 1)
		c.serves(c.service, 1)
		was := c.inspect(c.service)
		c.fault.spared = func(c *scene) {
			if got := c.Signals(c.T, c.service); got != "" {
				c.Errorf("the other project's container was told something: %s", got)
			}
			if got := fate(was, c.inspect(c.service)); got != untouched {
				c.Errorf("the other project's container was %s", got)
			}
			if got := c.served(c.service); got != 1 {
				c.Errorf("the other project's container serves version %d, want what it served", got)
			}
		}
	})
	endedBySignal = mishap{name: "signal ends the container, then renewed", mend: func(c *scene) {
		c.serves(c.names[0], c.number)
		c.renew()
	}}.with(func(c *scene) {
		c.Flags = append(c.Flags, "--init", "--entrypoint", "sh")
		c.Command = []string{"-c", "nginx -g 'daemon off;' & wait"}
	})
	ignored = mishap{name: "signal ignored: a shell is PID 1"}.with(func(c *scene) {
		c.Flags = append(c.Flags, "--entrypoint", "sh")
		c.Command = []string{"-c", "nginx -g 'daemon off;' & while :; do sleep 1; done"}
	})
	ignoredFallback = mishap{name: "signal ignored, RELOAD_FALLBACK=restart"}.with(func(c *scene) {
		ignored.dress(c)
		c.Flags = append(c.Flags, "--stop-signal", "KILL")
		c.spec.Reload.Fallback = restart
	})
	unhealthy = mishap{name: "never healthy after the restart", strike: func(c *scene) {
		c.configure(strings.Replace(c.Server.Conf, "listen 443", "listen 444", 1))
	}}.with(func(c *scene) {
		c.Flags = append(c.Flags, "--health-cmd", "grep -q 443 "+c.Place, "--health-interval", "1s", "--health-retries", "1")
	})
	engineAway = mishap{name: "engine away during the look, then back", mend: func(c *scene) { c.back() }, during: func(c *scene) { c.away() }}.with(func(c *scene) {
		at := strings.TrimPrefix(c.host, "unix://")
		if at == "" {
			at = "/var/run/docker.sock"
		}
		path := filepath.Join(c.TempDir(), "engine.sock")
		serve := func() (stop func()) {
			l, err := net.Listen("unix", path)
			if err != nil {
				c.Fatal(err)
			}
			return enginetest.Serve(c.T, enginetest.Relay(func() (net.Conn, error) { return net.Dial("unix", at) }), l)
		}
		stop := serve()
		c.host, c.away, c.back = "unix://"+path, func() { stop() }, func() { stop = serve() }
	})
	proxyAway = mishap{name: "proxy away during the look, then back", during: func(c *scene) { c.away() }, mend: func(c *scene) { c.back() }}
	refused   = mishap{name: "the proxy answers 403"}
	oldCopy   = mishap{name: "live/NAME is mounted alone"}.with(mountLiveAlone)
	// reloadsItself is a server with our script that does so, which asks each second here.
	reloadsItself = mishap{name: "none, it reloads itself", mend: func(c *scene) { c.serves(c.names[0], c.number) }}.with(selfReloading)
	selfBroken    = mishap{name: "configuration broken, it reloads itself", strike: breakConfiguration, mend: func(c *scene) {
		enginetest.Until(c.T, "it has tried to reload itself", func() error {
			if logs := c.Docker(c.T, "logs", c.names[0]); !strings.Contains(logs, `unexpected "}"`) {
				return fmt.Errorf("it says:\n%s", logs)
			}
			return nil
		})
		if got := c.served(c.names[0]); got != c.number-1 {
			c.Errorf("a client is shown version %d of %d, want the old one", got, c.number)
		}
		c.configure(c.Server.Conf)
		c.serves(c.names[0], c.number)
	}}.with(selfReloading)
)

// mountLiveAlone has the folder that is live now, which the next version is exchanged for, in the place of all of CERT_DIR.
func mountLiveAlone(c *scene) {
	c.Server.Conf = strings.ReplaceAll(c.Server.Conf, "/tls/certs/", "/alone/")
	for _, folder := range []string{"live", "archive"} {
		c.Flags = append(slices.Clone(c.Flags), "--volume", filepath.Join(c.TLS, "certs", folder, domain)+":/alone/"+folder+"/"+domain+":ro")
	}
}

func selfReloading(c *scene) {
	script, err := os.ReadFile("../../docker/nginx/reload-when-renewed.sh")
	if err != nil {
		c.Fatal(err)
	}
	faster := strings.NewReplacer("sleep 60", "sleep 1", "/etc/letsencrypt/", "/tls/certs/").Replace(string(script))
	path := c.File(c.T, "reload-when-renewed.sh", faster)
	if err := os.Chmod(path, 0o755); err != nil {
		c.Fatal(err)
	}
	c.Flags = append(slices.Clone(c.Flags), "--volume", path+":/docker-entrypoint.d/reload-when-renewed.sh:ro")
}
