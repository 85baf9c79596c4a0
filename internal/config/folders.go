package config

import (
	"cmp"
	"maps"
	"path"
	"slices"
	"strings"
)

// place is a folder with the variable that names it.
type place struct {
	variable string
	// path is empty where there is a mistake.
	path string
	// volume is what a volume for it would be called, mountedBy who has it, and without what happens where there is none.
	volume    string
	mountedBy string
	without   string
}

func certPlace(path string) place {
	return place{variable: "CERT_DIR", path: path, volume: "certs", mountedBy: "sidecert and of the web container", without: "the certificates are lost with the container"}
}

func statePlace(path string) place {
	return place{variable: "STATE_DIR", path: path, volume: "state", mountedBy: "sidecert", without: "the account key is lost with the container"}
}

func webrootPlace(variable, path string) place {
	volume := "webroot"
	if variable != "WEBROOT" {
		volume = strings.ReplaceAll(strings.Trim(path, "/"), "/", "-")
	}
	return place{variable: variable, path: path, volume: volume, mountedBy: "sidecert and of the web container", without: "the web container cannot serve it"}
}

// folder is an absolute path without superfluous parts, "" where there is a mistake or nothing.
func (p *parser) folder(variable, text string) string {
	if text == "" {
		return ""
	}
	clean, ok := cleanPath(text)
	if !ok {
		p.wrong(variable, text, "is no absolute path; write one that begins with /")
	}
	return clean
}

func cleanPath(text string) (string, bool) {
	if !path.IsAbs(text) || len(text) > 4000 || strings.ContainsAny(text, "\n\t") {
		return "", false
	}
	return path.Clean(text), true
}

// within reports whether one folder is another or lies in it.
func within(inner, outer string) bool {
	return inner == outer || strings.HasPrefix(inner, strings.TrimSuffix(outer, "/")+"/")
}

// apart demands that neither folder lies in the other.
func (p *parser) apart(a, b place, why string) {
	if a.path != "" && b.path != "" && overlap(a.path, b.path) {
		p.wrong(a.variable, a.path, "and %s=%s are not apart: %s; write e.g. %s", b.variable, b.path, why, moved(a, b))
	}
}

// keysApart demands that what is served to everybody holds no private keys. A webroot within CERT_DIR is served alone.
func (p *parser) keysApart(certs, webroot place) {
	if certs.path != "" && webroot.path != "" && within(certs.path, webroot.path) {
		p.wrong(certs.variable, certs.path, "lies in %s=%s: the web container would serve the private keys to everybody; write e.g. %s", webroot.variable, webroot.path, moved(certs, webroot))
	}
}

func overlap(a, b string) bool { return within(a, b) || within(b, a) }

// moved puts one of two folders where it is by default, which is not where the other one is.
func moved(a, b place) string {
	if to := defaultOf(a.variable); !overlap(to, b.path) {
		return a.variable + "=" + to
	}
	return b.variable + "=" + cmp.Or(defaultOf(b.variable), defaultOf("WEBROOT"))
}

// onVolume demands that what must be shared or survive is not in the container's own layer.
func (p *parser) onVolume(f place) {
	if f.path == "" || !p.world.InContainer || p.world.Mounted(f.path) {
		return
	}
	p.wrong(f.variable, f.path, "is on no volume, so %s; add `- %s:%s` under `volumes:` of %s", f.without, f.volume, f.path, f.mountedBy)
}

// ownWebroot reads CERT_n_WEBROOT: a folder, or exceptions by name, or both.
func (p *parser) ownWebroot(d *draft) {
	variable := d.own.variable("WEBROOT")
	isSeparator := func(r rune) bool { return strings.ContainsRune(",;\n", r) }
	plain := 0
	for _, entry := range strings.FieldsFunc(d.own.Webroot, isSeparator) {
		entry = strings.TrimSpace(entry)
		name, folder, byName := strings.Cut(entry, "=")
		switch {
		case entry == "":
		case byName && !strings.HasPrefix(entry, "/"):
			p.webrootOf(d, strings.TrimSpace(name), strings.TrimSpace(folder))
		default:
			d.spec.Webroot = p.folder(variable, entry)
			plain++
		}
	}
	if plain > 1 {
		p.wrong(variable, d.own.Webroot, "names several folders; write NAME=FOLDER for each but one")
	}
}

func (p *parser) webrootOf(d *draft, text, folder string) {
	variable := d.own.variable("WEBROOT")
	name, err := canonical(text)
	if err != nil || !slices.Contains(d.spec.Names, name) && !d.broken {
		p.wrong(variable, text, "is no name of this certificate; it has %s", orNone(d.spec.Names))
		return
	}
	if folder == "" {
		p.wrong(variable, text+"=", "has no folder; write e.g. %s=/var/www/%s", name, name)
		return
	}
	if d.spec.Webroots == nil {
		d.spec.Webroots = map[string]string{}
	}
	if d.spec.Webroots[name] != "" {
		p.wrong(variable, text, "stands there twice; leave one out")
		return
	}
	if clean := p.folder(variable, folder); clean != "" {
		d.spec.Webroots[name] = clean
	}
}

// webrootsOf are the webroots that are in use, each once; the general one also where generally says so.
func webrootsOf(drafts []*draft, general place, generally bool) []place {
	byPath := map[string]place{}
	if generally {
		byPath[general.path] = general
	}
	for _, d := range drafts {
		add := func(folder string) {
			if _, known := byPath[folder]; known || folder == "" {
				return
			}
			byPath[folder] = webrootPlace(d.own.variable("WEBROOT"), folder)
			if folder == general.path {
				byPath[folder] = general
			}
		}
		add(d.spec.Webroot)
		for _, folder := range d.spec.Webroots {
			add(folder)
		}
	}
	roots := slices.Collect(maps.Values(byPath))
	slices.SortFunc(roots, func(a, b place) int { return strings.Compare(a.path, b.path) })
	return roots
}
