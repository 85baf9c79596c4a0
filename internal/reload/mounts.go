package reload

import (
	"context"
	"fmt"
	"path"
	"slices"
	"strings"

	"github.com/sidecert/sidecert/internal/cert"
	"github.com/sidecert/sidecert/internal/docker"
)

// Volumes and folders of the host are compared by where they lie on the host, so that a container may mount the volume's folder,
// a part of it, or the folder around it.

// source is where a mount lies on the host. A volume that the engine keeps elsewhere has its name only.
func source(m docker.Mount) string {
	if m.Source == "" {
		return "volume:" + m.Name
	}
	return path.Clean(m.Source)
}

// onHost is where a folder of a container lies on the host, and the mount that it is on.
func onHost(c docker.Container, dir string) (host string, on docker.Mount, ok bool) {
	for _, m := range c.Mounts {
		if m.Type != "tmpfs" && within(dir, m.Destination) && (!ok || len(m.Destination) > len(on.Destination)) {
			on, ok = m, true
		}
	}
	if !ok {
		return "", on, false
	}
	return path.Join(source(on), strings.TrimPrefix(path.Clean(dir), path.Clean(on.Destination))), on, true
}

// within reports whether a path is the other one or below it.
func within(p, of string) bool {
	p, of = path.Clean(p), path.Clean(of)
	return p == of || strings.HasPrefix(p, strings.TrimSuffix(of, "/")+"/")
}

// examineMounts says whether the web containers share with us what they should and nothing else.
func (x *examination) examineMounts(ctx context.Context) {
	if !slices.ContainsFunc(x.tasks, func(t *task) bool { return !t.blind }) {
		return
	}
	if x.own.ID == "" {
		x.add(cert.Finding{
			Level: cert.Unknown, Topic: topicContainer,
			Text: "Whether web containers mount what they should is not known, since our own container is not known.",
			Hint: "run doctor in the container: docker compose exec sidecert sidecert doctor",
		})
		return
	}
	x.examineOwn()
	for _, t := range x.tasks {
		if !t.blind {
			before := len(x.findings)
			x.examineCerts(t)
			x.examinePrivate(t)
			x.examineWebroots(ctx, t)
			if len(x.findings) == before {
				x.about(t.found, cert.Fine, "It mounts what it should.", "")
			}
		}
	}
}

// examineOwn names our own folders that no other container can mount.
func (x *examination) examineOwn() {
	dirs := []string{x.r.certs}
	for _, k := range x.kept {
		dirs = append(dirs, webroots(k.Spec)...)
	}
	slices.Sort(dirs)
	for _, dir := range slices.Compact(dirs) {
		if _, _, ok := onHost(x.own, dir); !ok && dir != "" {
			x.add(cert.Finding{
				Level: cert.Unknown, Topic: topicContainer, About: dir,
				Text: "Whether web containers share this folder is not known, since it is on no volume of the sidecert container.",
			})
		}
	}
}

// examineCerts is about CERT_DIR.
func (x *examination) examineCerts(t *task) {
	home, _, ok := onHost(x.own, x.r.certs)
	if !ok {
		return
	}
	var parts []string // of CERT_DIR, that are mounted alone
	var whole, writable bool
	for _, m := range t.Mounts {
		from := source(m)
		switch {
		case within(home, from):
			whole = true
		case within(from, home):
			parts = append(parts, strings.TrimPrefix(from, home+"/"))
		default:
			continue
		}
		writable = writable || !m.ReadOnly
	}
	hint := "mount the whole of it: " + x.line(x.r.certs)
	old := slices.IndexFunc(parts, func(part string) bool { return strings.HasPrefix(part, "live/") || strings.HasPrefix(part, "archive/") })
	live, archive := slices.Contains(parts, "live"), slices.Contains(parts, "archive")
	switch {
	case old >= 0:
		x.about(t.found, cert.Bad, fmt.Sprintf("It mounts %s alone, which stays at the version that was live when the container started: the next one comes by an exchange of the folder.", parts[old]), hint)
	case whole, live && archive:
	case live:
		x.about(t.found, cert.Bad, "It mounts live without archive, to which the links in live lead.", hint)
	case archive:
		x.about(t.found, cert.Bad, "It mounts archive without live: files in archive have other names after each renewal.", hint)
	default:
		x.about(t.found, cert.Bad, fmt.Sprintf("It does not mount the certificates, %s.", x.r.certs), "mount them: "+x.line(x.r.certs))
	}
	if writable {
		x.about(t.found, cert.Doubtful, "It can write to the certificates' volume, and so can whoever breaks into it.", "mount it read-only: "+x.line(x.r.certs))
	}
}

// examinePrivate is about STATE_DIR.
func (x *examination) examinePrivate(t *task) {
	home, _, ok := onHost(x.own, x.r.private)
	if !ok || x.r.private == "" {
		return
	}
	for _, m := range t.Mounts {
		if from := source(m); within(home, from) || within(from, home) {
			x.about(t.found, cert.Bad, fmt.Sprintf("It has STATE_DIR as %s, with the keys of the ACME accounts in it.", m.Destination),
				fmt.Sprintf("take %s out of the volumes of %s", m.Destination, target(t.found)))
		}
	}
}

// examineWebroots is about the folders for challenge files of a container's certificates. Not every target of a certificate
// answers the CA: one that mounts the folder is enough. A server that serves no files may pass the challenges on to a container that does.
func (x *examination) examineWebroots(ctx context.Context, t *task) {
	files, level := serverIn(t.Container).files(), cert.Doubtful
	if files {
		level = cert.Bad
	}
	var said []string
	for _, v := range t.views {
		for _, root := range webroots(v.kept.Spec) {
			host, _, ok := onHost(x.own, root)
			if !ok || slices.Contains(said, root) || x.shared(v.kept.Lineage.Name, host) || !files && x.sharedBeside(ctx, host) {
				continue
			}
			said = append(said, root)
			x.about(t.found, level, fmt.Sprintf("It does not mount %s, where the CA's challenges for %s are answered from.", root, v.kept.Spec.Name), "mount it: "+x.line(root))
		}
	}
}

// shared reports whether a target of the certificate has the challenge files below a folder of the host.
func (x *examination) shared(name, root string) bool {
	return slices.ContainsFunc(x.tasks, func(t *task) bool {
		return slices.ContainsFunc(t.views, func(v *view) bool { return v.kept.Lineage.Name == name }) && hasChallenges(t.Container, root)
	})
}

// sharedBeside reports whether a container of our project that is no target has them, as far as the engine lets us see.
func (x *examination) sharedBeside(ctx context.Context, root string) bool {
	if x.own.Project == "" {
		return false
	}
	list, _ := x.r.engine.List(ctx, docker.Filter{Project: x.own.Project})
	return slices.ContainsFunc(list, func(c docker.Container) bool {
		if c.ID == x.own.ID {
			return false
		}
		full, err := x.r.engine.Inspect(ctx, c.ID)
		return err == nil && full.State.Running() && hasChallenges(full, root)
	})
}

func hasChallenges(c docker.Container, root string) bool {
	challenges := path.Join(root, ".well-known/acme-challenge")
	return slices.ContainsFunc(c.Mounts, func(m docker.Mount) bool { return within(challenges, source(m)) })
}

// webroots are the folders for the challenge files of a certificate.
func webroots(s cert.Spec) []string {
	var roots []string
	for _, name := range s.Names {
		if root := s.WebrootOf(name); root != "" {
			roots = append(roots, root)
		}
	}
	slices.Sort(roots)
	return slices.Compact(roots)
}

// line is what mounts one of our folders, read-only and at the same place, as a Compose file spells it.
func (x *examination) line(dir string) string {
	from, on, _ := onHost(x.own, dir)
	if on.Type == "volume" {
		from, dir = strings.TrimPrefix(on.Name, x.own.Project+"_"), on.Destination
	}
	return fmt.Sprintf("volumes: [%s:%s:ro]", from, dir)
}
