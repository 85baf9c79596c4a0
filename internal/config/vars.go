package config

import (
	"fmt"
	"reflect"

	"github.com/caarlos0/env/v11"
)

// vars are the variables as they are written; checking them is the other files' part. The comments are the README's table: a
// field without one belongs to the row above it, and the tag "default" is a default for the table alone, where unset and
// default are not the same to us.
type vars struct {
	// The certificates, one per line or separated by `;`. Names of one certificate are joined by commas; the first is the
	// certificate's name unless `name=` stands before: `shop=shop.example.jp,www.shop.example.jp`. Upper case, trailing dots
	// and commas, duplicates and Unicode names are put right with a notice.
	Domains string `env:"DOMAINS"`
	// The same one by one, counted from 0 without a gap, each with settings of its own.
	Certs []certVars `envPrefix:"CERT_"`

	// Contact of the ACME account: one address; optional.
	Email string `env:"EMAIL"`
	// The CA: `letsencrypt`, `letsencrypt-staging`, `zerossl`, `google`, `google-staging`, or the URL (https) of a directory.
	ACMECA string `env:"ACME_CA" default:"letsencrypt"`
	// Short for `ACME_CA=letsencrypt-staging`, for trying things out: browsers do not accept its certificates. Together with
	// `ACME_CA` a mistake.
	Staging string `env:"STAGING" envDefault:"false"`
	// File with the PEM roots that sign the HTTPS of a CA of your own, at most 1 MiB. Not used for the CAs that have a name here.
	ACMECABundle string `env:"ACME_CA_BUNDLE"`
	// External account binding, both or none: `zerossl` and `google` ask for it. The HMAC key is base64url. With `_FILE` at
	// the end, the variable names a file (Docker secret) that holds the value.
	ACMEEABKID         string `env:"ACME_EAB_KID"`
	ACMEEABHMACKey     string `env:"ACME_EAB_HMAC_KEY"`
	ACMEEABKIDFile     string `env:"ACME_EAB_KID_FILE"`
	ACMEEABHMACKeyFile string `env:"ACME_EAB_HMAC_KEY_FILE"`
	// Order profile asked of the CA: `classic`, `tlsserver`, `shortlived` and what else it offers; unset leaves it to the CA.
	ACMEProfile string `env:"ACME_PROFILE"`
	// `false` registers no account; the URL of the terms is logged at registration.
	AgreeTOS string `env:"AGREE_TOS" envDefault:"true"`
	// Common name of the issuer whose chain is preferred among those that the CA offers.
	PreferredChain string `env:"PREFERRED_CHAIN"`
	// `ec-256`, `ec-384`, `rsa-2048`, `rsa-3072` or `rsa-4096`. Unset keeps the type of a stored certificate, and new ones get
	// the default.
	KeyType string `env:"KEY_TYPE" default:"ec-256"`
	// Keep the private key over renewals.
	ReuseKey string `env:"REUSE_KEY" default:"false"`
	// How long before expiry to renew, `30d` or `12h`, at most half of the lifetime; sooner where the CA suggests it (ARI, RFC 9773).
	// `auto`: when the CA suggests it, without suggestion when 1/3 of the lifetime is left, 1/2 below 10 days; never when less than three
	// quarters of that are left.
	RenewBefore string `env:"RENEW_BEFORE" envDefault:"auto"`

	// Folder for challenge files, `WEBROOT/.well-known/acme-challenge/TOKEN`; the web container serves it.
	Webroot string `env:"WEBROOT" default:"/var/www/certbot"`
	// The certificate store, laid out as certbot's; the web container mounts it.
	CertDir string `env:"CERT_DIR" envDefault:"/etc/letsencrypt"`
	// Certificates that certbot made and `CERT_DIR/renewal/` still names are kept too, configured here or not. Where nothing is set
	// here, their CA and account, webroots, reuse of the key, profile, chain and time of renewal are those of `renewal/NAME.conf`.
	// `off` leaves them alone.
	Adopt string `env:"ADOPT" envDefault:"on"`
	// Account keys, journal and locks: private, never mounted in the web container. In a container each of the three folders
	// must be on a volume.
	StateDir string `env:"STATE_DIR" envDefault:"/var/lib/sidecert"`
	// Number of the user who owns private keys and their folders; needs the capability CHOWN. Unset: who sidecert runs as.
	FilesUID string `env:"FILES_UID"`
	// Number of the group of private keys and their folders; with `FILES_PERMS=640` the way for web servers that are not root.
	// Unset or 0: as the version before has it, and sidecert's own for the first.
	FilesGID string `env:"FILES_GID" default:"0"`
	// Octal mode of private keys, `600` to `660`: others never get at them. Unset: as the version before has it, `600` for the first.
	FilesPerms string `env:"FILES_PERMS" default:"600"`
	// Octal mode of the folders that hold private keys, `700` to `775`. Unset: as they are, `755` for new ones.
	FoldersPerms string `env:"FOLDERS_PERMS" default:"755"`
	// `haproxy`: also `live/NAME/haproxy.pem`, chain and private key in one file, with the mode and owner of private keys. It is made for
	// every certificate that is kept, also for those that are stored already, and never over a file of your own. Taken out again, no new
	// ones are made, and those that stand go on being kept up to date.
	ExtraFiles string `env:"EXTRA_FILES"`

	// Web containers to reload: `TARGET[:ACTION]`, separated by comma, newline or `;`. TARGET is a Compose service of the own
	// project, `PROJECT/SERVICE`, a container name, or `label=KEY[=VALUE]`; ACTION is `auto` (default), `HUP`, `USR1`, `USR2`,
	// `restart`, or `exec=COMMAND`, which runs to the next newline or `;` and knows no shell. `off`: none, by choice.
	Reload string `env:"RELOAD"`
	// ACTION for when the old certificate is still served after the first one; unset does nothing more.
	ReloadFallback string `env:"RELOAD_FALLBACK"`
	// Where a TLS handshake proves the reload: `auto` dials each target, `[CERT=]HOST:PORT`, several separated by commas, dials
	// those, `off` none. CERT is the name of a certificate that is configured or adopted.
	Verify string `env:"VERIFY" envDefault:"auto"`
	// Before the first order of a name a test file is fetched from the web container: `warn` waits for it up to 60 s and then
	// orders, `enforce` holds the order, `off`.
	Preflight string `env:"PREFLIGHT" envDefault:"warn"`

	// Command that is run in sidecert's container before a pass in which a certificate is due: once, and for at most 5 min. It is split
	// into words without a shell, and the image has none; [Hooks](#hooks) tells how to build one that has, for `sh -c '…'`. A hook
	// that fails is reported and stops nothing. It gets sidecert's environment without the secrets.
	PreHook string `env:"PRE_HOOK"`
	// The same after each certificate obtained, with `RENEWED_LINEAGE`, its folder under `live/`, and `RENEWED_DOMAINS`, its names with
	// spaces between. No hook is needed to reload web containers: `RELOAD` does, and sees that it worked.
	DeployHook string `env:"DEPLOY_HOOK"`
	// The same once after such a pass, with `RENEWED_DOMAINS` and `FAILED_DOMAINS`.
	PostHook string `env:"POST_HOOK"`

	// Where people are told of what goes wrong: [shoutrrr](https://shoutrrr.nickfedor.com) URLs with white space between, for mail
	// (`smtp://`), `ntfy://`, `gotify://`, `slack://`, `discord://`, `telegram://`, `teams://`, `matrix://` and others, and any webhook
	// (`generic+https://`); see [Notifications](#notifications). They hold passwords and are never shown; `_FILE` reads them from a file.
	NotifyURLs     string `env:"NOTIFY_URLS"`
	NotifyURLsFile string `env:"NOTIFY_URLS_FILE"`
	// Of what, with commas between: `failure`, when something begins to fail; `expiry`, reminders as the expiry nears; `recovery`, when it
	// is well again; `renewal`, each certificate obtained.
	NotifyOn string `env:"NOTIFY_ON" envDefault:"failure,expiry,recovery"`
	// Fetched (GET) after each good pass, at least every hour, and with `/fail` at its end after one that finds something ailing, so that
	// somebody else notices when sidecert itself is gone: healthchecks.io and the like.
	HeartbeatURL     string `env:"HEARTBEAT_URL"`
	HeartbeatURLFile string `env:"HEARTBEAT_URL_FILE"`
	// From how long before expiry on `sidecert check` finds a certificate WARNING (20 days) and CRITICAL (7 days); at most 2/3 and 1/3 of what is
	// left when it is due for renewal, so that a healthy one never is.
	ExpiryWarning  string `env:"EXPIRY_WARNING" envDefault:"20d"`
	ExpiryCritical string `env:"EXPIRY_CRITICAL" envDefault:"7d"`
	// Where the [status page and the metrics](#what-you-see) are: `HOST:PORT`, `:PORT` in every network that sidecert is in, or `off`.
	// They change nothing, and whoever reaches the port reads them: by default only who is in sidecert's own container.
	Listen string `env:"LISTEN" envDefault:"127.0.0.1:9180"`
	// `debug`, `info`, `warn` or `error`.
	LogLevel string `env:"LOG_LEVEL" envDefault:"info"`
	// `text` or `json`.
	LogFormat string `env:"LOG_FORMAT" envDefault:"text"`
	// The engine's address: `unix:///PATH` or `tcp://HOST:PORT`. Without an engine certificates are still kept, but nobody is
	// reloaded.
	DockerHost string `env:"DOCKER_HOST" envDefault:"unix:///var/run/docker.sock"`
	// TLS to the engine, and the folder with `ca.pem`, `cert.pem` and `key.pem`.
	DockerTLSVerify string `env:"DOCKER_TLS_VERIFY" envDefault:"false"`
	DockerCertPath  string `env:"DOCKER_CERT_PATH"`
	// Version of the engine's API, like `1.41`; unset negotiates it.
	DockerAPIVersion string `env:"DOCKER_API_VERSION"`
	// Whose [labels](#labels) are heard: `project`, containers of the own Compose project; `all`, those of every project on the host;
	// `off`.
	Discover string `env:"DISCOVER" envDefault:"project"`
	// The own Compose project, where sidecert cannot find its own container to read it from.
	ComposeProjectName string `env:"COMPOSE_PROJECT_NAME"`
	// Where `sidecert socket-proxy` listens: `unix:///PATH`, or `tcp://HOST:PORT` for everybody in its networks. It reads this one,
	// `RELOAD`, `DISCOVER`, the `DOCKER_…` of the engine, `COMPOSE_PROJECT_NAME`, `LOG_LEVEL` and `LOG_FORMAT`.
	SocketProxyListen string `env:"SOCKET_PROXY_LISTEN" envDefault:"unix:///run/sidecert/docker.sock"`
}

// certVars are the variables of one certificate, CERT_n_….
type certVars struct {
	// Names of this certificate, joined by commas.
	Domains string `env:"DOMAINS"`
	// Name of this certificate and of its folder under `live/`: letters, digits, `.`, `_` and `-`, at most 200. Default: the
	// first of its names.
	Name string `env:"NAME"`
	// As `WEBROOT`, also name by name: `a.example=/var/www/a,b.example=/var/www/b`.
	Webroot string `env:"WEBROOT"`
	// As the variables without `CERT_0_` (`ACME_PROFILE` for `PROFILE`), for this certificate alone. With an `ACME_CA` of its
	// own it needs its own binding too, which may also come by `_FILE`.
	KeyType            string `env:"KEY_TYPE"`
	Profile            string `env:"PROFILE"`
	RenewBefore        string `env:"RENEW_BEFORE"`
	Reload             string `env:"RELOAD"`
	Verify             string `env:"VERIFY"`
	ACMECA             string `env:"ACME_CA"`
	ACMEEABKID         string `env:"ACME_EAB_KID"`
	ACMEEABHMACKey     string `env:"ACME_EAB_HMAC_KEY"`
	ACMEEABKIDFile     string `env:"ACME_EAB_KID_FILE"`
	ACMEEABHMACKeyFile string `env:"ACME_EAB_HMAC_KEY_FILE"`

	// number is the n of CERT_n_.
	number int
}

// variable is the full name of one of the certificate's.
func (c certVars) variable(name string) string { return fmt.Sprintf("CERT_%d_%s", c.number, name) }

// fill puts texts, by name, into a struct of text fields. Only the reflection over our own structs can fail in it.
func fill(into any, texts map[string]string) {
	if err := env.ParseWithOptions(into, env.Options{Environment: texts}); err != nil {
		panic(err)
	}
}

// params are the variables that the fields of a struct name.
func params(of any) []env.FieldParams {
	list, err := env.GetFieldParamsWithOptions(of, env.Options{Environment: map[string]string{}})
	if err != nil {
		panic(err)
	}
	return list
}

// defaultOf is a variable's default as the table has it.
func defaultOf(name string) string {
	for _, field := range reflect.VisibleFields(reflect.TypeFor[vars]()) {
		if field.Tag.Get("env") == name {
			return field.Tag.Get("envDefault") + field.Tag.Get("default")
		}
	}
	return ""
}
