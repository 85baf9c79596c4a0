// Package config turns environment variables into what sidecert is to do. It finds every mistake before the first request to a
// CA and says for each what would be right. It changes nothing, and asks the machine only what World answers.
//
// vars.go is the reference of all variables: the README's table is made from its comments.
package config

import (
	"cmp"
	"io/fs"
	"log/slog"
	"strings"
	"time"

	"github.com/sidecert/sidecert/internal/cert"
)

// Config is everything that the environment says.
type Config struct {
	// Specs are the certificates, those of DOMAINS first. One whose names hold a mistake is left out.
	Specs []cert.Spec
	// General is what holds for every certificate that says nothing else, those that are adopted included; it has no names.
	General cert.Spec
	// Adopt says that what certbot made in CertDir is kept too.
	Adopt bool
	Hooks Hooks

	CertDir  string
	StateDir string

	// FilesUID is -1 where the owner is to stay who sidecert runs as.
	FilesUID int
	// FilesGID is 0 where the group is to stay that of the version before, and sidecert's own at first.
	FilesGID int
	// FilesPerms is the mode of private keys, FoldersPerms that of the folders that hold them; 0 where they are to stay what they
	// are, and 0600 and 0755 at first.
	FilesPerms   fs.FileMode
	FoldersPerms fs.FileMode
	// ExtraFiles are the words of EXTRA_FILES.
	ExtraFiles []string

	Preflight Preflight
	Notify    Notify
	// ExpiryWarning and ExpiryCritical are how long before expiry a certificate is ailing.
	ExpiryWarning, ExpiryCritical time.Duration

	// Listen is HOST:PORT of the status page and the metrics; "" where there are to be none.
	Listen string

	LogLevel slog.Level
	// LogFormat is "text" or "json".
	LogFormat string
	Docker    Docker
	// Project stands in for our own Compose project where our own container cannot be found; may be empty.
	Project string
	// Discover says whose labels are heard, by Labels; Hears that there is an engine to hear them from, or was.
	Discover Discover
	Hears    bool

	// endpoints are those of VERIFY, for VerifyFor.
	endpoints []endpoint
}

// Hooks are commands that are run around renewals, split into words; each may be empty.
type Hooks struct{ Pre, Deploy, Post []string }

// Preflight says what a failed probe of the web container means for the first order of a name.
type Preflight string

const (
	PreflightWarn    Preflight = "warn"
	PreflightEnforce Preflight = "enforce"
	PreflightOff     Preflight = "off"
)

// Docker says how to reach the engine.
type Docker struct {
	Host      string
	TLSVerify bool
	// CertPath is a folder with ca.pem, cert.pem and key.pem; may be empty.
	CertPath string
	// APIVersion is empty where it is to be negotiated.
	APIVersion string
}

// Parse reads the configuration from the environment, given as os.Environ has it. Its error is Mistakes, all there are; the
// Config is then as much as could be made, with the defaults where a value is wrong, so that what only looks at the disk
// works all the same.
func Parse(environ []string, world World) (Config, []Notice, error) {
	p := &parser{world: world}
	v := p.read(environ)

	c := p.settings(v)
	c.Hears = p.hears(v)
	p.adopting = c.Adopt && p.adoptable(v)
	g := p.general(v)
	drafts := p.drafts(v, g)
	c.General = g.spec
	p.verify(v, &c, drafts)
	p.folders(v, &c, drafts)
	for _, d := range drafts {
		if !d.broken {
			c.Specs = append(c.Specs, d.spec)
		}
	}
	return c, p.allNotices(), p.err()
}

// settings reads what is not about single certificates. The folders are left to folders, which compares them.
func (p *parser) settings(v vars) Config {
	c := Config{
		Adopt:          p.boolean("ADOPT", v.Adopt),
		Hooks:          Hooks{Pre: p.hook("PRE_HOOK", v.PreHook), Deploy: p.hook("DEPLOY_HOOK", v.DeployHook), Post: p.hook("POST_HOOK", v.PostHook)},
		FilesUID:       -1,
		FilesPerms:     p.filesPerms(v.FilesPerms),
		FoldersPerms:   p.foldersPerms(v.FoldersPerms),
		ExtraFiles:     p.extraFiles(v.ExtraFiles),
		Preflight:      Preflight(p.choice("PREFLIGHT", v.Preflight, "warn", "enforce", "off")),
		Notify:         p.notify(v),
		ExpiryWarning:  p.expiry("EXPIRY_WARNING", v.ExpiryWarning),
		ExpiryCritical: p.expiry("EXPIRY_CRITICAL", v.ExpiryCritical),
		Listen:         p.listenTCP(v.Listen),
		LogFormat:      p.logFormat(v),
		Docker:         p.docker(v),
		Project:        p.project(v.ComposeProjectName),
		Discover:       p.discover(v),
	}
	c.LogLevel = p.logLevel(v)
	if v.FilesUID != "" {
		c.FilesUID = p.id("FILES_UID", v.FilesUID, -1)
	}
	if v.FilesGID != "" {
		c.FilesGID = p.id("FILES_GID", v.FilesGID, 0)
	}
	p.uselessGroup(v, c)
	return c
}

func (p *parser) logFormat(v vars) string {
	return p.choice("LOG_FORMAT", v.LogFormat, "text", "json")
}

func (p *parser) logLevel(v vars) slog.Level {
	return map[string]slog.Level{
		"debug": slog.LevelDebug,
		"info":  slog.LevelInfo,
		"warn":  slog.LevelWarn,
		"error": slog.LevelError,
	}[p.choice("LOG_LEVEL", v.LogLevel, "info", "debug", "warn", "error")]
}

// uselessGroup warns of a group that the mode shuts out, as far as the mode is known.
func (p *parser) uselessGroup(v vars, c Config) {
	switch {
	case c.FilesGID == 0:
	case v.FilesPerms == "":
		p.warn("FILES_GID", "FILES_PERMS is not set: private keys keep the mode of the version before and begin with 600, which group %d cannot read; FILES_PERMS=640 lets it", c.FilesGID)
	case c.FilesPerms != 0 && c.FilesPerms&0o040 == 0:
		p.warn("FILES_GID", "group %d still cannot read the private keys: FILES_PERMS is %o; FILES_PERMS=640 lets it", c.FilesGID, c.FilesPerms)
	}
}

// docker reads the engine's variables with the meaning that Docker's own clients give them, but for DOCKER_TLS_VERIFY=0,
// which those take for yes.
func (p *parser) docker(v vars) Docker {
	d := Docker{
		Host:       v.DockerHost,
		TLSVerify:  p.boolean("DOCKER_TLS_VERIFY", v.DockerTLSVerify),
		CertPath:   p.folder("DOCKER_CERT_PATH", v.DockerCertPath),
		APIVersion: v.DockerAPIVersion,
	}
	scheme, rest, ok := strings.Cut(d.Host, "://")
	switch {
	case scheme == "ssh":
		p.wrong("DOCKER_HOST", redacted, "goes by ssh, which sidecert does not speak; mount the socket, or write tcp://HOST:PORT with DOCKER_TLS_VERIFY=1")
		d.Host = defaultOf("DOCKER_HOST")
	case strings.Contains(d.Host, "@"):
		p.wrong("DOCKER_HOST", redacted, "holds a user or password, which no engine asks for; write tcp://HOST:PORT")
		d.Host = defaultOf("DOCKER_HOST")
	case !ok || rest == "" || !isOneOf(scheme, "unix", "tcp", "http", "https"):
		p.wrong("DOCKER_HOST", d.Host, "is no address of an engine; write unix:///var/run/docker.sock or tcp://HOST:PORT")
		d.Host = defaultOf("DOCKER_HOST")
	case d.TLSVerify && v.DockerCertPath == "" && scheme != "unix":
		p.missing("DOCKER_CERT_PATH", "is not set, and DOCKER_TLS_VERIFY needs it; name the folder with ca.pem, cert.pem and key.pem")
	}
	if d.APIVersion != "" && !apiVersion.MatchString(d.APIVersion) {
		p.wrong("DOCKER_API_VERSION", d.APIVersion, "is no version; write e.g. 1.41, or leave it out to have it negotiated")
		d.APIVersion = ""
	}
	return d
}

func (p *parser) project(text string) string {
	if text != "" && !composeProject.MatchString(text) {
		p.wrong("COMPOSE_PROJECT_NAME", text, "is no project name; one has lower case letters, digits, - and _ and begins with a letter or digit")
		return ""
	}
	return text
}

// folders checks where files go as a whole: who sees which folder decides whether keys stay private.
func (p *parser) folders(v vars, c *Config, drafts []*draft) {
	certs := certPlace(p.folder("CERT_DIR", v.CertDir))
	state := statePlace(p.folder("STATE_DIR", v.StateDir))
	general := webrootPlace("WEBROOT", p.folder("WEBROOT", cmp.Or(v.Webroot, defaultOf("WEBROOT"))))
	// Where nobody has set it, an adopted certificate goes by the webroot of its conf.
	webroots := webrootsOf(drafts, general, p.adopting && v.Webroot != "" || !p.adopting && len(drafts) == 0)

	p.apart(state, certs, "the web container mounts CERT_DIR and would see the account key")
	for _, w := range webroots {
		p.apart(state, w, "the web container mounts the webroot and would see the account key")
		p.keysApart(certs, w)
	}
	for _, place := range append([]place{certs, state}, webroots...) {
		p.onVolume(place)
	}
	c.CertDir = cmp.Or(certs.path, defaultOf("CERT_DIR"))
	c.StateDir = cmp.Or(state.path, defaultOf("STATE_DIR"))
}
