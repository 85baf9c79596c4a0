package store

import (
	"errors"
	"fmt"
	"io/fs"
	"path"
	"slices"
	"strings"

	"github.com/sidecert/sidecert/internal/cert"
)

// The sections of a renewal configuration that are read or written.
const (
	topSection    = ""
	renewalParams = "[renewalparams]"
	webrootMap    = "[[webroot_map]]"
)

// conf is a file in certbot's renewal/, kept line by line so that what we do not know survives, comments included.
type conf struct{ lines []string }

func confName(lineage string) string { return path.Join("renewal", lineage+".conf") }

// readConf returns an empty one where there is no file.
func (s *Store) readConf(lineage string) (*conf, error) {
	data, err := s.certs.ReadFile(confName(lineage))
	if errors.Is(err, fs.ErrNotExist) {
		return &conf{}, nil
	}
	if err != nil {
		return nil, fmt.Errorf("read renewal configuration: %w", err)
	}
	return &conf{strings.Split(strings.TrimRight(string(data), "\n"), "\n")}, nil
}

// writeConf brings renewal/NAME.conf up to date for what was just ordered, with the settings that certbot would need to renew it.
func (s *Store) writeConf(lineage string, spec cert.Spec, b cert.Bundle) error {
	c, err := s.readConf(lineage)
	if err != nil {
		return err
	}
	before := slices.Clone(c.lines)
	if c.get(topSection, "version") == "" {
		c.set(topSection, "version", "2.0.0") // the oldest certbot that reads all that stands here
	}
	c.set(topSection, "archive_dir", path.Join(s.CertDir, "archive", lineage))
	for _, file := range []string{cert.CertPEM, cert.PrivkeyPEM, cert.ChainPEM, cert.FullchainPEM} {
		c.set(topSection, file, path.Join(s.CertDir, "live", lineage, file+".pem"))
	}
	c.set(renewalParams, "authenticator", "webroot")
	c.set(renewalParams, "server", spec.CA.Directory)
	s.setKeyParams(c, b)
	if spec.Profile != "" {
		c.set(renewalParams, "preferred_profile", spec.Profile)
	}
	c.set(renewalParams, "webroot_path", spec.Webroot+",") // a list, to certbot
	for _, name := range spec.Names {
		c.set(webrootMap, name, spec.WebrootOf(name))
	}
	if slices.Equal(before, c.lines) {
		return nil
	}
	if err := mkdirAll(s.certs, "renewal", 0o755, unowned); err != nil {
		return err
	}
	return replace(s.certs, confName(lineage), []byte(strings.Join(c.lines, "\n")+"\n"), publicPerm)
}

func (s *Store) setKeyParams(c *conf, b cert.Bundle) {
	switch t := cert.KeyTypeOf(b.Key.Public()); t {
	case cert.EC256, cert.EC384:
		c.set(renewalParams, "key_type", "ecdsa")
		c.set(renewalParams, "elliptic_curve", map[cert.KeyType]string{cert.EC256: "secp256r1", cert.EC384: "secp384r1"}[t])
	default:
		c.set(renewalParams, "key_type", "rsa")
		c.set(renewalParams, "rsa_key_size", strings.TrimPrefix(string(t), "rsa-"))
	}
}

// get returns the value of a key, "" if it does not stand there.
func (c *conf) get(section, key string) string {
	if i := c.find(section, key); i >= 0 {
		_, value, _ := strings.Cut(c.lines[i], "=")
		return strings.TrimSpace(value)
	}
	return ""
}

// set changes the line of a key, or adds one after the last of its section, which is made if need be.
func (c *conf) set(section, key, value string) {
	line := key + " = " + value
	if i := c.find(section, key); i >= 0 {
		c.lines[i] = line
		return
	}
	start, end := c.section(section)
	if start < 0 {
		c.lines = append(c.lines, section, line)
		return
	}
	for end > start && !isSetting(c.lines[end-1]) { // a comment before the next section belongs to that
		end--
	}
	c.lines = slices.Insert(c.lines, end, line)
}

func (c *conf) find(section, key string) int {
	start, end := c.section(section)
	for i := max(start, 0); i < end; i++ {
		if k, _, ok := strings.Cut(c.lines[i], "="); ok && strings.TrimSpace(k) == key {
			return i
		}
	}
	return -1
}

func isSetting(line string) bool {
	return strings.Contains(line, "=") && !strings.HasPrefix(strings.TrimSpace(line), "#")
}

// section returns the lines between a section's head and the next one's; start is -1 if there is none.
func (c *conf) section(name string) (start, end int) {
	start = -1
	if name == topSection {
		start = 0
	}
	for i, line := range c.lines {
		line = strings.TrimSpace(line)
		if !strings.HasPrefix(line, "[") {
			continue
		}
		if start >= 0 {
			return start, i
		}
		if line == name {
			start = i + 1
		}
	}
	if start < 0 {
		return -1, -1
	}
	return start, len(c.lines)
}
