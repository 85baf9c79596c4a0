package store

import (
	"cmp"
	"fmt"
	"path"
	"slices"
	"strings"

	"github.com/sidecert/sidecert/internal/cert"
)

// Examine looks at the volumes before they do harm: what can be written, how much is left, who may read private keys, what a backup
// needs. What it makes it removes.
func (s *Store) Examine() []cert.Finding {
	var all []cert.Finding
	for _, v := range []struct {
		variable, dir string
		fs            FS
	}{{"CERT_DIR", s.CertDir, s.certs}, {"STATE_DIR", s.StateDir, s.state}} {
		all = append(all, s.writable(v.variable, v.dir, v.fs), space(v.variable, v.dir, v.fs))
	}
	if all[0].Level == cert.Fine { // where nothing can be written, nothing can be said of links
		all = append(all, s.examineLinks())
	}
	all = append(all, s.examineKeys()...)
	all = append(all, s.examineHaproxy()...)
	return append(all, s.examineBackup())
}

func (s *Store) writable(variable, dir string, v FS) cert.Finding {
	f := cert.Finding{Topic: "volume", About: dir, Text: variable + " can be written and synced."}
	if err := try(v); err != nil {
		f.Level, f.Text = cert.Bad, fmt.Sprintf("%s cannot be written: %v.", variable, err)
		f.Hint = cmp.Or(s.ownerHint(err), fmt.Sprintf("Make the volume at %s writable and free some space; no certificate is ordered that could not be stored.", dir))
	}
	return f
}

// What is left below which nothing can be stored, and below which that is not far.
const (
	fewBytes, someBytes = 1 << 20, 50 << 20
	fewInodes           = 100
)

func space(variable, dir string, v FS) cert.Finding {
	f := cert.Finding{Topic: "volume", About: dir}
	left, err := v.Space()
	if err != nil {
		f.Level, f.Text = cert.Unknown, fmt.Sprintf("The free space of %s cannot be asked for: %v.", variable, err)
		return f
	}
	f.Text = fmt.Sprintf("%s has %d MiB free.", variable, left.Bytes>>20)
	switch {
	case left.Bytes < fewBytes:
		f.Level, f.Text = cert.Bad, fmt.Sprintf("%s has %d KiB free.", variable, left.Bytes>>10)
	case left.Inodes >= 0 && left.Inodes < fewInodes:
		f.Level, f.Text = cert.Bad, fmt.Sprintf("%s has room for %d more files.", variable, left.Inodes)
	case left.Bytes < someBytes:
		f.Level = cert.Doubtful
	}
	if f.Level != cert.Fine {
		f.Hint = fmt.Sprintf("Free some space on the file system of %s.", dir)
	}
	return f
}

func (s *Store) examineLinks() cert.Finding {
	f := cert.Finding{Topic: "volume", About: s.CertDir, Text: "CERT_DIR has links, and folders can be exchanged in one step."}
	link, exchange := s.canLink(), s.canExchange()
	switch {
	case !link:
		f.Level, f.Text = cert.Doubtful, "CERT_DIR has no symbolic links, so live/ holds copies: certbot could not take over from here."
		f.Hint = "Put CERT_DIR on a volume of the engine's own; network and Windows shares have no links."
	case !exchange:
		f.Level, f.Text = cert.Doubtful, "CERT_DIR cannot exchange two folders: key and certificate change one after the other, within milliseconds."
		f.Hint = "It does no harm where web servers are told to reload; a volume of the engine's own avoids it."
	}
	return f
}

// canExchange tries it on two folders of its own.
func (s *Store) canExchange() bool {
	name := tryName()
	a, b := name+".a", name+".b"
	defer discard(s.certs, a, b)
	for _, dir := range []string{a, b} {
		if err := s.certs.Mkdir(dir, 0o700); err != nil {
			return false
		}
	}
	return s.certs.Exchange(a, b) == nil
}

// examineKeys looks who may read private keys.
func (s *Store) examineKeys() []cert.Finding {
	var all []cert.Finding
	keys, groups := 0, []string{}
	lineages, _ := s.Lineages() // what cannot be read is told elsewhere
	for _, l := range lineages {
		if !l.Issued() {
			continue
		}
		keys++
		info := s.keyFile(l.Name, l.Number)
		if info == nil {
			continue
		}
		at := path.Join(s.CertDir, archived(l.Name, cert.PrivkeyPEM, l.Number))
		if s.KeyIsOpen(l.Name, l.Number) {
			all = append(all, cert.Finding{Level: cert.Doubtful, Topic: "keys", About: l.Name,
				Text: fmt.Sprintf("Everybody may read the private key %s.", at),
				Hint: fmt.Sprintf("chmod o-rwx %s (the next version keeps the mode); FILES_GID with FILES_PERMS=640 is the way for web servers that are not root.", at)})
		}
		if at := path.Join(s.CertDir, haproxyName(l.Name)); s.HaproxyIsOpen(l.Name) {
			all = append(all, cert.Finding{Level: cert.Doubtful, Topic: "keys", About: l.Name,
				Text: fmt.Sprintf("Everybody may read %s, which holds the private key.", at),
				Hint: fmt.Sprintf("chmod o-rwx %s (the next version keeps the mode); FILES_GID with FILES_PERMS=640 is the way for a haproxy that is not root.", at)})
		}
		if stat, ok := sysOf(info); ok && info.Mode()&0o040 != 0 {
			if group := fmt.Sprint(stat.Gid); !slices.Contains(groups, group) {
				groups = append(groups, group)
			}
		}
	}
	for _, a := range s.allCertbotAccounts() {
		at := path.Join(a.at, keyJSON)
		if info, err := s.certs.Lstat(at); err == nil && info.Mode().IsRegular() && info.Mode()&0o044 != 0 {
			all = append(all, cert.Finding{Level: cert.Doubtful, Topic: "keys", About: a.Directory,
				Text: fmt.Sprintf("Others may read the account key %s, with which they can issue and revoke for all names.", path.Join(s.CertDir, at)),
				Hint: fmt.Sprintf("chmod go-rwx %s", path.Join(s.CertDir, at))})
		}
	}
	if len(all) == 0 && keys > 0 {
		text := "Private keys can be read by their owner alone."
		if len(groups) > 0 {
			text = fmt.Sprintf("Private keys can be read by their owner and group %s alone.", strings.Join(groups, ", "))
		}
		all = append(all, cert.Finding{Topic: "keys", Text: text})
	}
	return all
}

// examineHaproxy tells of files in the place of those that EXTRA_FILES asks for.
func (s *Store) examineHaproxy() (all []cert.Finding) {
	lineages, _ := s.Lineages() // what cannot be read is told elsewhere
	for _, l := range lineages {
		if s.HaproxyIsForeign(l.Name) {
			all = append(all, cert.Finding{Level: cert.Doubtful, Topic: "files", About: l.Name,
				Text: fmt.Sprintf("%s is not sidecert's and is left as it is: nobody keeps it up to date.", path.Join(s.CertDir, haproxyName(l.Name))),
				Hint: "Move it away, and sidecert makes one; or take haproxy out of EXTRA_FILES and keep yours up to date yourself."})
		}
	}
	return all
}

// KeyIsOpen reports whether everybody may read the private key of a version, as far as it is seen from within the volume: where a file
// system refuses modes a key is written all the same, with the mode that the mount gives.
func (s *Store) KeyIsOpen(name string, number int) bool {
	info := s.keyFile(name, number)
	return info != nil && info.Mode()&0o004 != 0 && s.openToAll(path.Join("archive", name))
}

// openToAll reports whether everybody can go down to a folder, as far as it is seen from within the volume.
func (s *Store) openToAll(dir string) bool {
	info, err := s.certs.Lstat(dir)
	if err != nil || info.Mode()&0o001 == 0 {
		return false
	}
	return dir == "." || s.openToAll(path.Dir(dir))
}

func (s *Store) examineBackup() cert.Finding {
	where := s.CertDir
	if slices.ContainsFunc(s.Accounts(), func(a StoredAccount) bool { return !a.Certbot }) {
		where += " (certificates and their keys) and " + s.StateDir + " (the account key, and what was tried)"
	} else {
		where += " (certificates and their keys, certbot's account) and " + s.StateDir + " (what was tried)"
	}
	return cert.Finding{Topic: "backup", Text: "What to back up: " + where + "."}
}
