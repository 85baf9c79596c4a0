package config

import (
	"fmt"
	"io/fs"
	"strings"
	"testing"
)

func TestSecretsAreNeverShown(t *testing.T) {
	const canary = "canary42"
	var env []string
	// Each way that a secret can go wrong, and some in which it goes right.
	for i, value := range []string{
		canary, canary + "!", `"` + canary + `"`, `"` + canary, canary + "\r\n" + canary, "\x01" + canary, "\xff" + canary,
		byteOrderMark + canary, strings.Repeat(canary, maxValue/8+1), "/" + canary,
	} {
		for _, name := range []string{"ACME_EAB_KID", "ACME_EAB_HMAC_KEY", "ACME_EAB_HMAC_KEY_FILE", "ACME_EAB_HMAC_KEZ", "ACME_EAB_HMAC_KEZ2"} {
			env = append(env, fmt.Sprintf("CERT_%d_%s=%s", i, name, value))
		}
		env = append(env, fmt.Sprintf("CERT_%d_DOMAINS=n%d.example", i, i), fmt.Sprintf("CERT_%d_ACME_CA=zerossl", i))
	}
	env = append(env, "ACME_CA=https://me:"+canary+"@ca.lan/%zz", "STAGING=1", "CERT_90_DOMAINS=x.example", "CERT_90_ACME_CA=https://me:"+canary+"@ca.lan/",
		"DOCKER_HOST=tcp://me:"+canary+"@host", "NOTIFY_URLS="+canary+" mqtt://"+canary, "NOTIFY_ON=https://x/"+canary, "HEARTBEAT_URL="+canary,
		"PRE_HOOK=wget http://x/"+canary+" | tail", "DEPLOY_HOOK='tell "+canary+"'", "POST_HOOK=tell '"+canary, "PRE_HOOKS="+canary,
		"HEARTBEAT_URLS="+canary, "ACME_EAB_KDI="+canary, "ZEROSSL_API_KEY="+canary, "ACME_EAB_KID_FILE=/run/kid")
	world := testWorld()
	world.ReadFile = func(path string) ([]byte, error) {
		if path == "/run/kid" {
			return []byte(canary + " " + canary), nil
		}
		return nil, &fs.PathError{Op: "open", Path: path, Err: fs.ErrNotExist}
	}

	c, notices, err := Parse(env, world)
	if err == nil || len(notices) == 0 || len(c.Specs) == 0 {
		t.Fatalf("Parse() gave %d notices, %d certificates and the mistakes %v, want some of each", len(notices), len(c.Specs), err)
	}
	for _, text := range []string{err.Error(), fmt.Sprintf("%+v %#v", err, err), fmt.Sprintf("%+v %#v", notices, notices)} {
		if i := strings.Index(text, canary[:6]); i >= 0 {
			t.Errorf("a secret is shown: …%.200s", text[max(0, i-100):])
		}
	}
}
