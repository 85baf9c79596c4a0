package config

// peers are variables of other certificate containers and what takes their place here. They are no aliases: most of them
// mean something slightly different.
var peers = map[string]string{
	// nginx-proxy/acme-companion
	"ACME_CA_URI":                     "ACME_CA names the CA",
	"ACME_POST_HOOK":                  "POST_HOOK is the command after renewals",
	"ACME_PRE_HOOK":                   "PRE_HOOK is the command before renewals",
	"CA_BUNDLE":                       "ACME_CA_BUNDLE names the file with the CA's roots",
	"CERTS_UPDATE_INTERVAL":           "sidecert finds the time by itself, or by RENEW_BEFORE",
	"DEBUG":                           "LOG_LEVEL=debug says more",
	"DEFAULT_EMAIL":                   "EMAIL is the account's contact",
	"DEFAULT_RENEW":                   "RENEW_BEFORE is how long before expiry to renew",
	"DHPARAM_BITS":                    "Diffie-Hellman parameters are the web server's own",
	"LETSENCRYPT_EMAIL":               "EMAIL is the account's contact",
	"LETSENCRYPT_HOST":                "DOMAINS names the certificates",
	"LETSENCRYPT_KEYSIZE":             "KEY_TYPE is the type of key, e.g. rsa-4096",
	"LETSENCRYPT_RESTART_CONTAINER":   "RELOAD names what is told, e.g. RELOAD=web:restart",
	"LETSENCRYPT_SINGLE_DOMAIN_CERTS": "DOMAINS makes one certificate of each name with ; between them",
	"LETSENCRYPT_TEST":                "STAGING=true rehearses",
	"NGINX_PROXY_CONTAINER":           "RELOAD names the web containers",
	"RENEW_PRIVATE_KEYS":              "REUSE_KEY=true keeps the keys over renewals",
	"REUSE_PRIVATE_KEYS":              "REUSE_KEY=true keeps the keys over renewals",
	"ZEROSSL_API_KEY":                 "ACME_CA=zerossl needs ACME_EAB_KID and ACME_EAB_HMAC_KEY",
	// JonasAlfredsson/docker-nginx-certbot, certbot scripts
	"ACME_EMAIL":          "EMAIL is the account's contact",
	"CERTBOT_AGREE_TOS":   "AGREE_TOS agrees to the CA's terms, and does by default",
	"CERTBOT_DEPLOY_HOOK": "DEPLOY_HOOK is the command after each renewal",
	"CERTBOT_DOMAIN":      "DOMAINS names the certificates",
	"CERTBOT_DOMAINS":     "DOMAINS names the certificates",
	"CERTBOT_EMAIL":       "EMAIL is the account's contact",
	"CERTBOT_POST_HOOK":   "POST_HOOK is the command after renewals",
	"CERTBOT_PRE_HOOK":    "PRE_HOOK is the command before renewals",
	"CERTBOT_STAGING":     "STAGING=true rehearses",
	"DHPARAM_SIZE":        "Diffie-Hellman parameters are the web server's own",
	"DRY_RUN":             "`sidecert renew --dry-run` rehearses",
	"ELLIPTIC_CURVE":      "KEY_TYPE is the type of key, ec-256 or ec-384",
	"RENEWAL_INTERVAL":    "sidecert finds the time by itself, or by RENEW_BEFORE",
	"RENEW_HOOK":          "DEPLOY_HOOK is the command after each renewal",
	"RSA_KEY_SIZE":        "KEY_TYPE is the type of key, e.g. rsa-4096",
	"USE_ECDSA":           "KEY_TYPE is the type of key, e.g. ec-256",
	"WEBROOT_PATH":        "WEBROOT is the folder for challenge files",
	// umputun/nginx-le
	"LE_EMAIL": "EMAIL is the account's contact",
	"LE_FQDN":  "DOMAINS names the certificates",
	// ours, as they are called behind CERT_0_
	"PROFILE": "ACME_PROFILE is the order profile",
	// linuxserver/swag
	"SUBDOMAINS": "DOMAINS names the certificates in full",
}
