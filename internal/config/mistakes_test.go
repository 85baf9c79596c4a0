package config

import (
	"errors"
	"fmt"
	"strings"
	"testing"
)

func TestMistakesSayWhatWouldBeRight(t *testing.T) {
	const a = "DOMAINS=a.example"
	for _, test := range []struct {
		name string
		env  []string
		want []string
	}{
		{"no certificate", []string{}, []string{
			"DOMAINS is not set, nor is CERT_0_DOMAINS, nor has certbot made anything in CERT_DIR, nor is there an engine to read labels from; name what to get a certificate for, e.g. DOMAINS=example.org,www.example.org, or mount certbot's directory at /etc/letsencrypt",
		}},
		{"no certificate, and nothing is to be adopted", []string{"ADOPT=off"}, []string{
			"DOMAINS is not set, nor is CERT_0_DOMAINS, and ADOPT is off, nor is there an engine to read labels from; name what to get a certificate for, e.g. DOMAINS=example.org,www.example.org",
		}},
		{"no certificate, and certbot's directory elsewhere", []string{"CERT_DIR=/srv/certs"}, []string{
			"DOMAINS is not set, nor is CERT_0_DOMAINS, nor has certbot made anything in CERT_DIR, nor is there an engine to read labels from; name what to get a certificate for, e.g. DOMAINS=example.org,www.example.org, or mount certbot's directory at /srv/certs",
		}},
		{"only separators", []string{"DOMAINS=; ;"}, []string{
			`DOMAINS: "; ;" names nothing; write e.g. DOMAINS=example.org,www.example.org`,
		}},
		{"only a comma", []string{"DOMAINS=,"}, []string{
			`DOMAINS: "," names nothing; write e.g. example.org,www.example.org`,
		}},
		{"a certificate's name alone", []string{"DOMAINS=shop="}, []string{
			`DOMAINS: "shop=" names nothing; write e.g. example.org,www.example.org`,
		}},
		{"a space between names", []string{"DOMAINS=a.example b.example"}, []string{
			`DOMAINS: "a.example b.example" has only a space between names; write a.example,b.example for one certificate, or a.example;b.example for one each`,
		}},
		{"lines folded into one by YAML", []string{"DOMAINS=a.example, b.example c.example"}, []string{
			`DOMAINS: "b.example c.example" has only a space between names; write b.example,c.example for one certificate, or b.example;c.example for one each`,
		}},
		{"a URL", []string{"DOMAINS=https://A.example:8443/shop"}, []string{
			`DOMAINS: "https://A.example:8443/shop" is more than a name; write a.example`,
		}},
		{"a port", []string{"DOMAINS=a.example:443"}, []string{
			`DOMAINS: "a.example:443" is more than a name; write a.example`,
		}},
		{"a path", []string{"DOMAINS=a.example/shop"}, []string{
			`DOMAINS: "a.example/shop" is more than a name; write a.example`,
		}},
		{"a wildcard", []string{"DOMAINS=a.example,*.a.example"}, []string{
			`DOMAINS: "*.a.example" is a wildcard, which a CA gives by a DNS-01 challenge only, and sidecert answers HTTP-01; write out the names, or keep this one with another client`,
		}},
		{"a URL of a wildcard", []string{"DOMAINS=https://*.a.example/"}, []string{
			`DOMAINS: "https://*.a.example/" is a wildcard, which a CA gives by a DNS-01 challenge only, and sidecert answers HTTP-01; write out the names, or keep this one with another client`,
		}},
		{"an IP address without the profile for it", []string{"DOMAINS=203.0.113.7"}, []string{
			`DOMAINS: "203.0.113.7" is an IP address, which Let's Encrypt certifies with the profile shortlived only; write ACME_PROFILE=shortlived`,
		}},
		{"an IP address of one certificate without the profile for it", []string{"CERT_0_DOMAINS=[2001:db8::1]"}, []string{
			`CERT_0_DOMAINS: "[2001:db8::1]" is an IP address, which Let's Encrypt certifies with the profile shortlived only; write CERT_0_PROFILE=shortlived`,
		}},
		{"a private IP address", []string{"DOMAINS=10.0.0.1", "ACME_PROFILE=shortlived"}, []string{
			`DOMAINS: "10.0.0.1" is a private IP address, which no public CA certifies; write a public one, or ACME_CA with a CA of your own`,
		}},
		{"an IP address with a zone", []string{"DOMAINS=fe80::1%eth0"}, []string{
			`DOMAINS: "fe80::1%eth0" is an address with a zone, which means something on one machine only; write the address alone`,
		}},
		{"a single word", []string{"DOMAINS=web"}, []string{
			`DOMAINS: "web" is a single word, which no public CA certifies; write the full name, or ACME_CA with a CA of your own`,
		}},
		{"a name of the local network", []string{"DOMAINS=nas.local,nas.home.arpa"}, []string{
			`DOMAINS: "nas.local" ends in .local, which is not in the public DNS, so no public CA certifies it; write a public name, or ACME_CA with a CA of your own`,
			`DOMAINS: "nas.home.arpa" ends in .home.arpa, which is not in the public DNS, so no public CA certifies it; write a public name, or ACME_CA with a CA of your own`,
		}},
		{"a public suffix", []string{"DOMAINS=co.uk"}, []string{
			`DOMAINS: "co.uk" is a public suffix, below which people register their names; write a name below it`,
		}},
		{"an underscore", []string{"DOMAINS=my_host.a.example"}, []string{
			`DOMAINS: "my_host.a.example" has an underscore, which no CA certifies; give the host a name with a hyphen`,
		}},
		{"two dots", []string{"DOMAINS=a..example"}, []string{
			`DOMAINS: "a..example" has nothing before, between or after its dots`,
		}},
		{"a hyphen in front", []string{"DOMAINS=-a.example"}, []string{
			`DOMAINS: "-a.example" has a hyphen beside a dot or at an end, where none may be`,
		}},
		{"a label too long", []string{"DOMAINS=" + strings.Repeat("a", 64) + ".example"}, []string{
			`DOMAINS: "aaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaa.example" has a part of 64 characters; between dots are at most 63`,
		}},
		{"a name too long", []string{"DOMAINS=" + strings.Repeat("abcdefghi.", 25) + "example"}, []string{
			`DOMAINS: "abcdefghi.abcdefghi.abcdefghi.abcdefghi.abcdefghi.abcdefghi.abcdefghi.abcdefghi.abcdefghi.abcdefghi.abcdefghi.abcdefghi.…" has 257 characters; a name has at most 253`,
		}},
		{"a name without end", []string{"DOMAINS=" + strings.Repeat("a", 3000)}, []string{
			`DOMAINS: "aaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaa…" is 3000 bytes long; a name has at most 253`,
		}},
		{"a number at the end", []string{"DOMAINS=203.0.113"}, []string{
			`DOMAINS: "203.0.113" ends in a number, so it is neither a name nor an IP address`,
		}},
		{"a character that is in no name", []string{"DOMAINS=a!b.example"}, []string{
			`DOMAINS: "a!b.example" holds '!', which is in no name`,
		}},
		{"one quote", []string{`DOMAINS="a.example`}, []string{
			`DOMAINS: "\"a.example" holds '"', which is in no name`,
		}},
		{"a snowman and a broken A-label", []string{"DOMAINS=☃-.a.example,xn--a.example"}, []string{
			`DOMAINS: "☃-.a.example" is no international name that DNS allows; look for a character that does not belong there`,
			`DOMAINS: "xn--a.example" is no international name that DNS allows; look for a character that does not belong there`,
		}},
		{"a certificate's name in the middle", []string{"DOMAINS=a.example,shop=b.a.example"}, []string{
			`DOMAINS: "shop=b.a.example" has a certificate's name before a name that is not the first; begin each certificate with ; or on a new line`,
		}},
		{"a certificate's name with a space", []string{"DOMAINS=my shop=a.example"}, []string{
			`DOMAINS: "my shop" cannot be a certificate's name; one has letters, digits, . _ and - and begins with no dot`,
		}},
		{"a certificate's name that hides", []string{"CERT_0_DOMAINS=a.example", "CERT_0_NAME=.git"}, []string{
			`CERT_0_NAME: ".git" cannot be a certificate's name; one has letters, digits, . _ and - and begins with no dot`,
		}},
		{"a certificate's name that is a file", []string{"DOMAINS=readme=a.example"}, []string{
			`DOMAINS: "readme" cannot be a certificate's name, since a file beside the certificates has it; write another`,
		}},
		{"a certificate's name too long", []string{"CERT_0_DOMAINS=a.example", "CERT_0_NAME=" + strings.Repeat("n", 201)}, []string{
			`CERT_0_NAME: "nnnnnnnnnnnnnnnnnnnnnnnnnnnnnnnnnnnnnnnnnnnnnnnnnnnnnnnnnnnnnnnnnnnnnnnnnnnnnnnnnnnnnnnnnnnnnnnnnnnnnnnnnnnnnnnnnnnnnnnn…" is too long for a certificate's name; 200 characters are the most`,
		}},
		{"a first name too long for a folder", []string{"DOMAINS=" + strings.Repeat("abcdefghi.", 20) + "example"}, []string{
			`DOMAINS: "abcdefghi.abcdefghi.abcdefghi.abcdefghi.abcdefghi.abcdefghi.abcdefghi.abcdefghi.abcdefghi.abcdefghi.abcdefghi.abcdefghi.…" is too long for a certificate's name; write e.g. shop=abcdefghi.abcdefghi.…`,
		}},
		{"more names than a certificate holds", []string{"DOMAINS=" + many(101)}, []string{
			`DOMAINS: "n0.a.example,…" has 101 names; a certificate holds at most 100, so split it in 2: put a ; after each 100 names`,
		}},
		{"more names than the profile allows", []string{"ACME_PROFILE=tlsserver", "CERT_0_DOMAINS=" + many(26)}, []string{
			`CERT_0_DOMAINS: "n0.a.example,…" has 26 names; a certificate holds at most 25 with the profile tlsserver, so split it in 2: give the rest a CERT_n_DOMAINS of its own`,
		}},
		{"more certificates than there may be", []string{"DOMAINS=" + strings.ReplaceAll(many(1001), ",", ";")}, []string{
			"DOMAINS has 1001 certificates; 1000 are the most",
		}},
		{"the same names twice", []string{"DOMAINS=a.example,b.a.example;B.a.example,a.example"}, []string{
			`DOMAINS: "b.a.example,a.example" is in two certificates with just these names (a.example and b.a.example); leave one out`,
		}},
		{"the same certificate's name twice", []string{"DOMAINS=shop=a.example;Shop=b.example"}, []string{
			`DOMAINS: "Shop" is the name of two certificates; give one of them another, e.g. Shop-2=b.example`,
		}},
		{"the same CERT_n_NAME twice", []string{"CERT_0_DOMAINS=a.example", "CERT_0_NAME=shop", "CERT_1_DOMAINS=b.example", "CERT_1_NAME=shop"}, []string{
			`CERT_1_DOMAINS: "shop" is the name of two certificates; give one of them another, e.g. CERT_1_NAME=shop-2`,
		}},
		{"gaps in the numbers", []string{"CERT_0_DOMAINS=a.example", "CERT_2_DOMAINS=b.example", "CERT_5_DOMAINS=c.example"}, []string{
			"CERT_1_DOMAINS is missing: the numbers run from 0 without a gap, and CERT_2_DOMAINS is set",
			"CERT_3_DOMAINS is missing: the numbers run from 0 without a gap, and CERT_5_DOMAINS is set",
		}},
		{"settings without names", []string{"CERT_0_KEY_TYPE=ec-256"}, []string{
			"CERT_0_DOMAINS names nothing, though there are other variables with CERT_0_; write e.g. CERT_0_DOMAINS=example.org",
		}},
		{"a setting that no certificate has", []string{"CERT_0_DOMAINS=a.example", "CERT_0_EMAIL=me@a.example"}, []string{
			"CERT_0_EMAIL is unknown; a certificate has ACME_CA, ACME_EAB_HMAC_KEY, ACME_EAB_HMAC_KEY_FILE, ACME_EAB_KID, ACME_EAB_KID_FILE, DOMAINS, KEY_TYPE, NAME, PROFILE, RELOAD, RENEW_BEFORE, VERIFY, WEBROOT",
		}},
		{"a misspelled setting of a certificate", []string{"CERT_0_DOMAINS=a.example", "CERT_0_KEYTYPE=ec-256"}, []string{
			"CERT_0_KEYTYPE is unknown; did you mean CERT_0_KEY_TYPE?",
		}},
		{"a number with a zero in front", []string{"CERT_0_DOMAINS=a.example", "CERT_01_DOMAINS=b.example"}, []string{
			"CERT_01_DOMAINS has a number that begins with 0; write CERT_1_DOMAINS",
		}},
		{"a number too high", []string{"CERT_0_DOMAINS=a.example", "CERT_1000_DOMAINS=b.example"}, []string{
			"CERT_1000_DOMAINS has too high a number; 1000 certificates are the most",
		}},
		{"a number in the wrong place", []string{"CERT_0_DOMAINS=a.example", "CERT1_DOMAINS=b.example"}, []string{
			"CERT1_DOMAINS is unknown; did you mean CERT_1_DOMAINS?",
		}},
		{"two certificates in one variable", []string{"CERT_0_DOMAINS=a.example;b.example"}, []string{
			`CERT_0_DOMAINS: "a.example;b.example" is more than one certificate; join its names by commas, and give the others a CERT_n_DOMAINS of their own`,
		}},
		{"a certificate named twice", []string{"CERT_0_DOMAINS=x=a.example", "CERT_0_NAME=y"}, []string{
			`CERT_0_NAME: "y" names the certificate a second time, after x= in CERT_0_DOMAINS; leave one out`,
		}},
		{"swapped letters", []string{"DOMIANS=a.example"}, []string{
			"DOMIANS is unknown; did you mean DOMAINS?",
			"DOMAINS is not set, nor is CERT_0_DOMAINS, nor has certbot made anything in CERT_DIR, nor is there an engine to read labels from; name what to get a certificate for, e.g. DOMAINS=example.org,www.example.org, or mount certbot's directory at /etc/letsencrypt",
		}},
		{"a letter too few, its value a secret", []string{a, "ACME_EAB_HMAC_KE=canary"}, []string{
			"ACME_EAB_HMAC_KE is unknown; did you mean ACME_EAB_HMAC_KEY?",
		}},
		{"an unknown CA", []string{a, "ACME_CA=lets-encrypt"}, []string{
			`ACME_CA: "lets-encrypt" is no CA; write letsencrypt, letsencrypt-staging, zerossl, google, google-staging or the https URL of a directory`,
		}},
		{"a CA over HTTP", []string{a, "ACME_CA=http://ca.lan/directory"}, []string{
			`ACME_CA: "http://ca.lan/directory" is not secure, and ACME asks for HTTPS; write the https URL, and ACME_CA_BUNDLE=FILE with the roots of a CA of your own`,
		}},
		{"a CA with a password", []string{a, "ACME_CA=https://me:canary@ca.lan/directory"}, []string{
			"ACME_CA: [redacted] holds a user or password; write the URL without, and ACME_EAB_KID and ACME_EAB_HMAC_KEY if the CA asks who you are",
		}},
		{"a CA over FTP", []string{a, "ACME_CA=ftp://ca.lan"}, []string{
			`ACME_CA: "ftp://ca.lan" is no URL of a directory; write e.g. https://ca.example.org/acme/acme/directory`,
		}},
		{"a CA that needs a binding", []string{a, "ACME_CA=zerossl"}, []string{
			"ACME_EAB_KID and ACME_EAB_HMAC_KEY are missing: this CA knows its customers by them and gives them out at https://app.zerossl.com/developer",
		}},
		{"a certificate's CA that needs a binding of its own", []string{"ACME_CA=zerossl", "ACME_EAB_KID=kid", "ACME_EAB_HMAC_KEY=a2V5", "CERT_0_DOMAINS=a.example", "CERT_0_ACME_CA=google"}, []string{
			"CERT_0_ACME_EAB_KID and CERT_0_ACME_EAB_HMAC_KEY are missing: this CA knows its customers by them and gives them out at https://cloud.google.com/certificate-manager/docs/public-ca-tutorial",
		}},
		{"staging and a CA", []string{a, "STAGING=yes", "ACME_CA=letsencrypt-staging"}, []string{
			`STAGING: "yes" stands beside ACME_CA, and the two are one setting; leave one out`,
		}},
		{"staging and a certificate's CA", []string{"STAGING=yes", "CERT_0_DOMAINS=a.example", "CERT_0_ACME_CA=letsencrypt"}, []string{
			`CERT_0_ACME_CA stands beside STAGING; leave one out`,
		}},
		{"a binding without a key", []string{a, "ACME_EAB_KID=kid"}, []string{
			"ACME_EAB_HMAC_KEY is missing beside ACME_EAB_KID; the CA gives both",
		}},
		{"a binding without a key ID", []string{a, "ACME_EAB_HMAC_KEY_FILE=/run/secrets/hmac"}, []string{
			"ACME_EAB_KID is missing beside ACME_EAB_HMAC_KEY; the CA gives both",
		}},
		{"a binding that is none", []string{a, "ACME_EAB_KID=a b", "ACME_EAB_HMAC_KEY=canary!"}, []string{
			"ACME_EAB_KID: [redacted] is no key ID; copy it from the CA without spaces and line ends",
			"ACME_EAB_HMAC_KEY: [redacted] is not base64url; copy it from the CA without spaces and line ends",
		}},
		{"a secret both ways", []string{a, "ACME_EAB_KID=kid", "ACME_EAB_KID_FILE=/run/secrets/kid", "ACME_EAB_HMAC_KEY=a2V5"}, []string{
			"ACME_EAB_KID_FILE stands beside the same without _FILE; leave one out",
		}},
		{"a secret in place of its file's name", []string{a, "ACME_EAB_KID_FILE=/run/secrets/missing", "ACME_EAB_HMAC_KEY_FILE=canary"}, []string{
			`ACME_EAB_KID_FILE: "/run/secrets/missing" cannot be read (file does not exist); mount the file in the container of sidecert`,
			"ACME_EAB_HMAC_KEY_FILE: [redacted] is no absolute path; write e.g. /run/secrets/NAME",
		}},
		{"a secret with a slash in place of its file's name", []string{a, "ACME_EAB_KID_FILE=/run/secrets/empty", "ACME_EAB_HMAC_KEY_FILE=/canary"}, []string{
			"ACME_EAB_KID_FILE names an empty file; write the value into it",
			"ACME_EAB_HMAC_KEY_FILE: [redacted] cannot be read (file does not exist); mount the file in the container of sidecert",
		}},
		{"a secret with a control character", []string{a, "ACME_EAB_KID=kid", "ACME_EAB_HMAC_KEY=\u0001canary"}, []string{
			"ACME_EAB_HMAC_KEY: [redacted] holds the control character U+0001; leave it out",
		}},
		{"roots by a relative path", []string{a, "ACME_CA_BUNDLE=roots.pem"}, []string{
			`ACME_CA_BUNDLE: "roots.pem" is no absolute path; write e.g. /run/secrets/NAME`,
		}},
		{"roots that are missing", []string{a, "ACME_CA_BUNDLE=/missing.pem"}, []string{
			`ACME_CA_BUNDLE: "/missing.pem" cannot be read (file does not exist); mount the file in the container of sidecert`,
		}},
		{"roots without a certificate", []string{a, "ACME_CA_BUNDLE=/run/secrets/kid"}, []string{
			`ACME_CA_BUNDLE: "/run/secrets/kid" holds no certificate in PEM form; name a file with -----BEGIN CERTIFICATE-----`,
		}},
		{"roots with a damaged certificate", []string{a, "ACME_CA_BUNDLE=/damaged.pem"}, []string{
			`ACME_CA_BUNDLE: "/damaged.pem" holds a damaged certificate; export the roots again`,
		}},
		{"roots with a private key", []string{a, "ACME_CA_BUNDLE=/key.pem"}, []string{
			`ACME_CA_BUNDLE: "/key.pem" holds a private key, which nobody but the CA should have; name a file with certificates only`,
		}},
		{"roots without end", []string{a, "ACME_CA_BUNDLE=/huge.pem"}, []string{
			`ACME_CA_BUNDLE: "/huge.pem" is a file of 1048577 bytes; 1048576 are the most`,
		}},
		{"several at once", []string{a, "KEY_TYPE=rsa", "REUSE_KEY=maybe", "ACME_PROFILE=a b", "PREFERRED_CHAIN=a\nb", "EMAIL=me", "LOG_LEVEL=loud", "LOG_FORMAT=xml", "PREFLIGHT=on", "AGREE_TOS=perhaps", "STAGING=2"}, []string{
			`PREFLIGHT: "on" is none of its values; write warn, enforce or off`,
			`LOG_FORMAT: "xml" is none of its values; write text or json`,
			`LOG_LEVEL: "loud" is none of its values; write info, debug, warn or error`,
			`STAGING: "2" is neither yes nor no; write true or false`,
			`REUSE_KEY: "maybe" is neither yes nor no; write true or false`,
			`ACME_PROFILE: "a b" is no profile; write e.g. classic, tlsserver or shortlived`,
			`PREFERRED_CHAIN: "a\nb" is not one line of at most 253 bytes`,
			`EMAIL: "me" is not one address; write e.g. admin@example.org`,
			`AGREE_TOS: "perhaps" is neither yes nor no; write true or false`,
			`KEY_TYPE: "rsa" is no key type; write ec-256, ec-384, rsa-2048, rsa-3072 or rsa-4096`,
		}},
		{"an address with a display name", []string{a, "EMAIL=Me <me@a.example>"}, []string{
			`EMAIL: "Me <me@a.example>" has more than the address; write me@a.example`,
		}},
		{"two addresses", []string{a, "EMAIL=me@a.example,you@a.example"}, []string{
			`EMAIL: "me@a.example,you@a.example" is not one address; write e.g. admin@example.org`,
		}},
		{"a duration without a unit", []string{a, "RENEW_BEFORE=30"}, []string{
			`RENEW_BEFORE: "30" has no unit; write 30d for days, or h for hours, m for minutes`,
		}},
		{"no duration at all", []string{a, "RENEW_BEFORE=0d"}, []string{
			`RENEW_BEFORE: "0d" would renew after the expiry; write e.g. 30d, or auto`,
		}},
		{"a negative duration", []string{a, "RENEW_BEFORE=-3d"}, []string{
			`RENEW_BEFORE: "-3d" is no duration; write e.g. 30d, 12h or 90m, or auto`,
		}},
		{"a duration of ages", []string{a, "RENEW_BEFORE=99999999999999999999d"}, []string{
			`RENEW_BEFORE: "99999999999999999999d" is longer than 3650 days, which no certificate lives; write e.g. 30d, or auto`,
		}},
		{"thresholds of the expiry", []string{a, "EXPIRY_WARNING=20", "EXPIRY_CRITICAL=soon"}, []string{
			`EXPIRY_WARNING: "20" has no unit; write 20d for days, or h for hours, m for minutes`,
			`EXPIRY_CRITICAL: "soon" is no duration; write e.g. 30d, 12h or 90m`,
		}},
		{"a duration of centuries", []string{a, "RENEW_BEFORE=3651d"}, []string{
			`RENEW_BEFORE: "3651d" is longer than 3650 days, which no certificate lives; write e.g. 30d, or auto`,
		}},
		{"a duration as Go has it", []string{a, "RENEW_BEFORE=1h30m"}, []string{
			`RENEW_BEFORE: "1h30m" is no duration; write e.g. 30d, 12h or 90m, or auto`,
		}},
		{"a certificate's settings", []string{"CERT_0_DOMAINS=a.example", "CERT_0_RENEW_BEFORE=month", "CERT_0_KEY_TYPE=dsa", "CERT_0_PROFILE=a/b", "CERT_0_RELOAD=web:TERM"}, []string{
			`CERT_0_KEY_TYPE: "dsa" is no key type; write ec-256, ec-384, rsa-2048, rsa-3072 or rsa-4096`,
			`CERT_0_PROFILE: "a/b" is no profile; write e.g. classic, tlsserver or shortlived`,
			`CERT_0_RENEW_BEFORE: "month" is no duration; write e.g. 30d, 12h or 90m, or auto`,
			`CERT_0_RELOAD: "web:TERM" asks for the signal TERM, which ends the server; write auto, HUP, USR1, USR2 or restart`,
		}},
		{"users and groups by name", []string{a, "FILES_UID=www-data", "FILES_GID=4294967295"}, []string{
			"FILES_UID: \"www-data\" is no number; write the one that `id` shows in the web container, e.g. 101",
			"FILES_GID: \"4294967295\" is no number; write the one that `id` shows in the web container, e.g. 101",
		}},
		{"modes for everybody", []string{a, "FILES_PERMS=644", "FOLDERS_PERMS=777"}, []string{
			`FILES_PERMS: "644" gives private keys to everybody on the machine; write 640 and FILES_GID=GROUP, with the web container in that group`,
			`FOLDERS_PERMS: "777" lets everybody on the machine replace private keys; write 755, 750 or 700`,
		}},
		{"modes with too many bits", []string{a, "FILES_PERMS=4600", "FOLDERS_PERMS=0o755"}, []string{
			`FILES_PERMS: "4600" has more than the bits for owner, group and others; write e.g. 600`,
			`FOLDERS_PERMS: "0o755" is no octal mode; write e.g. 755`,
		}},
		{"extra files that nobody makes", []string{a, "EXTRA_FILES=haproxy, PFX;pkcs12"}, []string{
			`EXTRA_FILES: "PFX" is no extra file that sidecert makes; write haproxy, or leave it out`,
			`EXTRA_FILES: "pkcs12" is no extra file that sidecert makes; write haproxy, or leave it out`,
		}},
		{"modes that shut the owner out", []string{a, "FILES_PERMS=440", "FOLDERS_PERMS=600"}, []string{
			`FILES_PERMS: "440" is no mode for a file that its owner reads and writes; write 600 or 640`,
			`FOLDERS_PERMS: "600" shuts the owner out; write 755, 750 or 700`,
		}},
		{"relative folders", []string{a, "CERT_DIR=certs", "WEBROOT=./www", "STATE_DIR=state"}, []string{
			`CERT_DIR: "certs" is no absolute path; write one that begins with /`,
			`STATE_DIR: "state" is no absolute path; write one that begins with /`,
			`WEBROOT: "./www" is no absolute path; write one that begins with /`,
		}},
		{"state in the store", []string{a, "STATE_DIR=/etc/letsencrypt/state"}, []string{
			`STATE_DIR: "/etc/letsencrypt/state" and CERT_DIR=/etc/letsencrypt are not apart: the web container mounts CERT_DIR and would see the account key; write e.g. STATE_DIR=/var/lib/sidecert`,
		}},
		{"the store around the state", []string{a, "CERT_DIR=/var/lib/"}, []string{
			`STATE_DIR: "/var/lib/sidecert" and CERT_DIR=/var/lib are not apart: the web container mounts CERT_DIR and would see the account key; write e.g. CERT_DIR=/etc/letsencrypt`,
		}},
		{"state in a certificate's webroot", []string{"CERT_0_DOMAINS=a.example", "CERT_0_WEBROOT=/srv", "STATE_DIR=/srv/state"}, []string{
			`STATE_DIR: "/srv/state" and CERT_0_WEBROOT=/srv are not apart: the web container mounts the webroot and would see the account key; write e.g. STATE_DIR=/var/lib/sidecert`,
		}},
		{"a webroot around everything", []string{a, "WEBROOT=/"}, []string{
			`STATE_DIR: "/var/lib/sidecert" and WEBROOT=/ are not apart: the web container mounts the webroot and would see the account key; write e.g. WEBROOT=/var/www/certbot`,
			`CERT_DIR: "/etc/letsencrypt" lies in WEBROOT=/: the web container would serve the private keys to everybody; write e.g. WEBROOT=/var/www/certbot`,
		}},
		{"the store in the webroot", []string{a, "CERT_DIR=/var/www/certbot/certs"}, []string{
			`CERT_DIR: "/var/www/certbot/certs" lies in WEBROOT=/var/www/certbot: the web container would serve the private keys to everybody; write e.g. CERT_DIR=/etc/letsencrypt`,
		}},
		{"an empty signal", []string{a, "RELOAD=web:"}, []string{
			`RELOAD: "web:" ends in an empty action, which an engine takes for KILL; write web or web:HUP`,
		}},
		{"signals that reload nothing", []string{a, "RELOAD=web:KILL,db:SIGTERM,mail:stop,www:winch,x:9"}, []string{
			`RELOAD: "web:KILL" asks for the signal KILL, which ends the server and drops its connections; write auto, HUP, USR1, USR2 or restart`,
			`RELOAD: "db:SIGTERM" asks for the signal TERM, which ends the server; write auto, HUP, USR1, USR2 or restart`,
			`RELOAD: "mail:stop" asks for the signal STOP, which freezes the server; write auto, HUP, USR1, USR2 or restart`,
			`RELOAD: "www:winch" asks for the signal WINCH, which ends httpd and the workers of nginx; write auto, HUP, USR1, USR2 or restart`,
			`RELOAD: "x:9" asks for "9", which is no action; write auto, HUP, USR1, USR2, restart or exec=COMMAND`,
		}},
		{"a space between targets", []string{a, "RELOAD=web haproxy"}, []string{
			`RELOAD: "web haproxy" has only a space between targets; write web,haproxy`,
		}},
		{"an action alone", []string{a, "RELOAD=HUP"}, []string{
			`RELOAD: "HUP" is an action without a target; write e.g. web:HUP`,
		}},
		{"targets that are none", []string{a, "RELOAD=/web;label=;My/web;web:HUP:x"}, []string{
			`RELOAD: "/web" is no target; write a Compose service (web), PROJECT/SERVICE, a container's name or label=KEY=VALUE, and the action after a colon (web:HUP)`,
			`RELOAD: "label=" has no label; write label=KEY or label=KEY=VALUE`,
			`RELOAD: "My/web" is no target; write a Compose service (web), PROJECT/SERVICE, a container's name or label=KEY=VALUE, and the action after a colon (web:HUP)`,
			`RELOAD: "web:HUP:x" is no target; write a Compose service (web), PROJECT/SERVICE, a container's name or label=KEY=VALUE, and the action after a colon (web:HUP)`,
		}},
		{"off and a target", []string{a, "RELOAD=off,web"}, []string{
			`RELOAD: "off,web" is off and names targets; leave one out`,
		}},
		{"one target with two actions", []string{a, "RELOAD=web:HUP,web:restart"}, []string{
			`RELOAD: "web:restart" is the same target as before with another action (HUP); leave one out`,
		}},
		{"commands that are none", []string{a, "RELOAD=a:exec=\nb:exec=''\nc:exec=x 'y\nd:exec=x \\"}, []string{
			`RELOAD: "a:exec=" has no command after exec=; write e.g. exec=nginx -s reload`,
			`RELOAD: "b:exec=''" has no command after exec=; write e.g. exec=nginx -s reload`,
			`RELOAD: "c:exec=x 'y" opens a quote and does not close it; a ; or a new line ends an entry even in quotes`,
			`RELOAD: "d:exec=x \\" ends in a backslash with nothing to escape; write \\ for a backslash`,
		}},
		{"a fallback that is none", []string{a, "RELOAD_FALLBACK=off"}, []string{
			`RELOAD_FALLBACK: "off" asks for "off", which is no action; write auto, HUP, USR1, USR2, restart or exec=COMMAND`,
		}},
		{"endpoints that are none", []string{a, "VERIFY=web,https://web:8443/x,https://:x,auto,a.example=web:0,::1,a:b:c,:443"}, []string{
			`VERIFY: "web" has no port; write web:443`,
			`VERIFY: "https://web:8443/x" is a URL; write web:8443`,
			`VERIFY: "https://:x" is a URL; write HOST:PORT`,
			`VERIFY: "auto" stands beside endpoints; leave one out`,
			`VERIFY: "a.example=web:0" has "0" for a port; write 1 to 65535`,
			`VERIFY: "::1" has no port; write [::1]:443`,
			`VERIFY: "a:b:c" is not HOST:PORT; write e.g. web:443, or [::1]:443 for an IPv6 address`,
			`VERIFY: ":443" has no host before the port; write e.g. web:443`,
		}},
		{"an endpoint of an unknown certificate", []string{a, "ADOPT=no", "VERIFY=b.example=web:443"}, []string{
			`VERIFY: "b.example=web:443" is about a certificate that is not configured; there is a.example`,
		}},
		{"an endpoint without any certificate", []string{"ADOPT=0", "VERIFY=a.example=web:443"}, []string{
			"DOMAINS is not set, nor is CERT_0_DOMAINS, and ADOPT is off, nor is there an engine to read labels from; name what to get a certificate for, e.g. DOMAINS=example.org,www.example.org",
			`VERIFY: "a.example=web:443" is about a certificate that is not configured; there is none`,
		}},
		{"an endpoint of another certificate", []string{"CERT_0_DOMAINS=a.example", "CERT_0_VERIFY=b.example=web:443"}, []string{
			`CERT_0_VERIFY: "b.example=web:443" is about a certificate that is not configured; there is a.example`,
		}},
		{"a choice that is none", []string{"ADOPT=maybe"}, []string{
			`ADOPT: "maybe" is neither yes nor no; write true or false`,
			"DOMAINS is not set, nor is CERT_0_DOMAINS, nor has certbot made anything in CERT_DIR, nor is there an engine to read labels from; name what to get a certificate for, e.g. DOMAINS=example.org,www.example.org, or mount certbot's directory at /etc/letsencrypt",
		}},
		{"hooks that are no commands", []string{a, "PRE_HOOK='' canary", "DEPLOY_HOOK=tell 'canary", "POST_HOOK=tell canary\n--now"}, []string{
			"PRE_HOOK: [redacted] has nothing for a command; write e.g. PRE_HOOK=/usr/local/bin/tell-me",
			"DEPLOY_HOOK: [redacted] opens a quote and does not close it",
			"POST_HOOK: [redacted] has several lines, and a hook is one command; write it on one line",
		}},
		{"a hook with a control character, one that ends too early, and one of megabytes", []string{a, "PRE_HOOK=\x01canary", `DEPLOY_HOOK=canary \`, "POST_HOOK=" + strings.Repeat("canary", 12000)}, []string{
			"POST_HOOK: [redacted] is 72000 bytes long; 65536 are the most",
			"PRE_HOOK: [redacted] holds the control character U+0001; leave it out",
			"DEPLOY_HOOK: [redacted] ends in a backslash with nothing to escape; write \\\\ for a backslash",
		}},
		{"webroots by name", []string{"CERT_0_DOMAINS=a.example", "CERT_0_WEBROOT=b.example=/b,a.example=,a.example=www"}, []string{
			`CERT_0_WEBROOT: "b.example" is no name of this certificate; it has a.example`,
			`CERT_0_WEBROOT: "a.example=" has no folder; write e.g. a.example=/var/www/a.example`,
			`CERT_0_WEBROOT: "www" is no absolute path; write one that begins with /`,
		}},
		{"webroots without names", []string{"CERT_0_DOMAINS=a.example", "CERT_0_WEBROOT=/b,/c"}, []string{
			`CERT_0_WEBROOT: "/b,/c" names several folders; write NAME=FOLDER for each but one`,
		}},
		{"a webroot twice", []string{"CERT_0_DOMAINS=a.example", "CERT_0_WEBROOT=a.example=/b,A.example=/c"}, []string{
			`CERT_0_WEBROOT: "A.example" stands there twice; leave one out`,
		}},
		{"a port alone", []string{a, "LISTEN=9180"}, []string{
			`LISTEN: "9180" is a port without the colon; write 127.0.0.1:9180, :9180 for every network that sidecert is in, or off`,
		}},
		{"no port", []string{a, "LISTEN=localhost"}, []string{
			`LISTEN: "localhost" is no address to listen at; write 127.0.0.1:9180, :9180 or off`,
		}},
		{"a port that is none", []string{a, "LISTEN=:0"}, []string{
			`LISTEN: ":0" is no address to listen at; write 127.0.0.1:9180, :9180 or off`,
		}},
		{"a URL to listen at", []string{a, "LISTEN=http://:9180"}, []string{
			`LISTEN: "http://:9180" is no address to listen at; write 127.0.0.1:9180, :9180 or off`,
		}},
		{"a user in the address to listen at", []string{a, "LISTEN=me@host:9180"}, []string{
			`LISTEN: "me@host:9180" is no address to listen at; write 127.0.0.1:9180, :9180 or off`,
		}},
		{"an engine by SSH", []string{a, "DOCKER_HOST=ssh://me@host"}, []string{
			`DOCKER_HOST: [redacted] goes by ssh, which sidecert does not speak; mount the socket, or write tcp://HOST:PORT with DOCKER_TLS_VERIFY=1`,
		}},
		{"an engine with a password", []string{a, "DOCKER_HOST=tcp://me:canary@host:2375"}, []string{
			`DOCKER_HOST: [redacted] holds a user or password, which no engine asks for; write tcp://HOST:PORT`,
		}},
		{"an engine by a path, and relative keys", []string{a, "DOCKER_HOST=/var/run/docker.sock", "DOCKER_CERT_PATH=keys"}, []string{
			`DOCKER_CERT_PATH: "keys" is no absolute path; write one that begins with /`,
			`DOCKER_HOST: "/var/run/docker.sock" is no address of an engine; write unix:///var/run/docker.sock or tcp://HOST:PORT`,
		}},
		{"an engine with TLS and no keys", []string{a, "DOCKER_HOST=tcp://host:2376", "DOCKER_TLS_VERIFY=1"}, []string{
			"DOCKER_CERT_PATH is not set, and DOCKER_TLS_VERIFY needs it; name the folder with ca.pem, cert.pem and key.pem",
		}},
		{"an API version with a letter", []string{a, "DOCKER_API_VERSION=v1.41"}, []string{
			`DOCKER_API_VERSION: "v1.41" is no version; write e.g. 1.41, or leave it out to have it negotiated`,
		}},
		{"a project in upper case", []string{a, "COMPOSE_PROJECT_NAME=Shop"}, []string{
			`COMPOSE_PROJECT_NAME: "Shop" is no project name; one has lower case letters, digits, - and _ and begins with a letter or digit`,
		}},
		{"a receiver that is none, and words that mean nothing", []string{a, "NOTIFY_URLS=ntfy://a.lan/b mqtt://secret@a.lan/b", "NOTIFY_ON=failure,success ntfy://secret"}, []string{
			"NOTIFY_URLS number 2 of its URLs is for nobody",
			`NOTIFY_ON: "success" is nothing that is told of; write failure, expiry, recovery or renewal, with commas between`,
			"NOTIFY_ON: [redacted] is nothing that is told of; write failure, expiry, recovery or renewal, with commas between",
		}},
		{"a heartbeat that cannot be fetched", []string{a, "HEARTBEAT_URL=hc-ping.com/secret"}, []string{
			"HEARTBEAT_URL: [redacted] is no URL that can be fetched; write one as https://hc-ping.com/YOUR-UUID",
		}},
		{"two homes of one receiver", []string{a, "NOTIFY_URLS=ntfy://a.lan/b", "NOTIFY_URLS_FILE=/run/secrets/urls"}, []string{
			"NOTIFY_URLS_FILE stands beside the same without _FILE; leave one out",
		}},
		{"a NUL", []string{"DOMAINS=a\x00.example"}, []string{
			`DOMAINS: "a\x00.example" holds the control character U+0000; leave it out`,
		}},
		{"a value too long", []string{a, "EMAIL=" + strings.Repeat("x", 70000)}, []string{
			`EMAIL: "xxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxx…" is 70000 bytes long; 65536 are the most`,
		}},
		{"no UTF-8", []string{a, "EMAIL=\xff@a.example"}, []string{
			`EMAIL: "�@a.example" is not UTF-8; save the file that it comes from as UTF-8`,
		}},
		{"settings of a certificate whose names are no UTF-8", []string{"CERT_0_NAME=shop", "CERT_0_DOMAINS=\xff"}, []string{
			`CERT_0_DOMAINS: "�" is not UTF-8; save the file that it comes from as UTF-8`,
		}},
		{"a folder without its underscore", []string{a, "STATEDIR=/x"}, []string{
			"STATEDIR is unknown; did you mean STATE_DIR?",
		}},
	} {
		t.Run(test.name, func(t *testing.T) {
			_, _, err := Parse(test.env, testWorld())
			if err == nil {
				t.Fatalf("Parse(%.200q) found no mistake, want\n%s", test.env, strings.Join(test.want, "\n"))
			}
			if want := strings.Join(test.want, "\n"); err.Error() != want {
				t.Errorf("Parse(%.200q) found\n%v\nwant\n%s", test.env, err, want)
			}
		})
	}
}

// many are n related names.
func many(n int) string {
	names := make([]string, n)
	for i := range names {
		names[i] = fmt.Sprintf("n%d.a.example", i)
	}
	return strings.Join(names, ",")
}

func TestMistakesEndWhereNobodyReadsOn(t *testing.T) {
	_, _, err := Parse([]string{"DOMAINS=" + strings.Repeat("*.a.example,", 102)}, testWorld())
	mistakes, ok := errors.AsType[Mistakes](err)
	if !ok || len(mistakes) != 101 {
		t.Fatalf("Parse() of 102 wildcards gave %d mistakes, want 100 and one more line", len(mistakes))
	}
	if got, want := mistakes[100].String(), "the environment holds 2 more mistakes"; got != want {
		t.Errorf("the last mistake is %q, want %q", got, want)
	}
}
