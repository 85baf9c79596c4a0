package cert

import (
	"fmt"
	"maps"
	"slices"
	"strings"
)

// Wishes are the certificates that a person wants kept.
type Wishes struct {
	// Specs are those that the environment names.
	Specs []Spec
	// Adopt says that every lineage that certbot made is kept too, whether Specs name it or not.
	Adopt bool
	// General is the spec of an adopted lineage as far as its conf says nothing.
	General func(lineage string) Spec
	// Mounted reports whether a webroot that certbot used is there for us too.
	Mounted func(webroot string) bool
	// Labels reads what containers ask for; nil where nobody is heard. Asked are the certificates among that.
	Labels func([]Labelled) Asked
	Asked  []Spec
}

// Wish is one certificate that is kept, and the lineage that it is kept in.
type Wish struct {
	Spec    Spec
	Lineage string
	// Adopted says that certbot made it and nobody has configured it.
	Adopted bool
	// Asked says that a container asks for it by label.
	Asked bool
	// Doubts are what was taken otherwise than certbot's conf says.
	Doubts []Doubt
}

// Doubt is something that a person should know, and what to do about it.
type Doubt struct{ Text, Hint string }

// Plan says which lineage each certificate is kept in, those of Specs first, and which of certbot's lineages are left to certbot, by
// name, with the reason.
func (w Wishes) Plan(lineages []Lineage) (plan []Wish, left map[string]string) {
	left = map[string]string{}
	byName := map[string]Lineage{}
	for _, l := range lineages {
		byName[l.Name] = l
	}
	names := Match(w.Specs, lineages)
	for i, spec := range w.Specs {
		plan = append(plan, w.settle(spec, byName[names[i]], Wish{Lineage: names[i]}))
	}
	asked, _ := w.askedFor(lineages, names)
	for _, wish := range asked {
		names = append(names, wish.Lineage)
		plan = append(plan, w.settle(wish.Spec, byName[wish.Lineage], wish))
	}
	if !w.Adopt {
		return plan, left
	}
	for _, name := range slices.Sorted(maps.Keys(byName)) {
		l := byName[name]
		if !l.Conf.Certbot || !l.Issued() || slices.Contains(names, name) {
			continue
		}
		if why := leftToCertbot(l); why != "" {
			left[name] = why
			continue
		}
		spec := w.General(name)
		spec.Name, spec.Named, spec.Names = name, true, l.Names()
		plan = append(plan, w.settle(spec, l, Wish{Lineage: name, Adopted: true}))
	}
	return plan, left
}

// askedFor matches what containers ask for with what the environment's certificates, whose names are taken, leave over. A label gets no
// lineage of somebody else's: one that has a certificate must have a name in common with what is asked for.
func (w Wishes) askedFor(lineages []Lineage, taken []string) (wishes []Wish, refused []Doubt) {
	rest := slices.DeleteFunc(slices.Clone(lineages), func(l Lineage) bool { return slices.Contains(taken, l.Name) })
	for i, name := range Match(w.Asked, rest) {
		spec := w.Asked[i]
		stored := slices.IndexFunc(lineages, func(l Lineage) bool { return l.Name == name && l.Issued() })
		if slices.Contains(taken, name) || stored >= 0 && !overlap(lineages[stored].Names(), spec.Names) {
			refused = append(refused, Doubt{
				fmt.Sprintf("label asks for %s under the name %s, which another certificate has, and is not heard", strings.Join(spec.Names, ","), name),
				fmt.Sprintf("give it another name in the label: %.20s-2=%s", name, strings.Join(spec.Names, ",")),
			})
			continue
		}
		wishes = append(wishes, Wish{Spec: spec, Lineage: name, Asked: true})
	}
	return wishes, refused
}

// Refused are the certificates that containers ask for and do not get.
func (w Wishes) Refused(lineages []Lineage) []Doubt {
	_, refused := w.askedFor(lineages, Match(w.Specs, lineages))
	return refused
}

// leftToCertbot says why a lineage of certbot's cannot be kept, "" if it can.
func leftToCertbot(l Lineage) string {
	switch {
	case slices.ContainsFunc(l.Names(), func(name string) bool { return strings.HasPrefix(name, "*.") }):
		return "it has a wildcard name, which HTTP-01 cannot prove"
	case l.Conf.Paused:
		return "its conf says autorenew = False"
	}
	return ""
}

// settle takes over what the conf of a lineage says, as far as it can be done here.
func (w Wishes) settle(s Spec, l Lineage, wish Wish) Wish {
	wish.Spec = s.Settle(l)
	if !l.Conf.Certbot {
		return wish
	}
	if a := l.Conf.Authenticator; a != "" && a != "webroot" {
		wish.doubt(fmt.Sprintf("certbot proved its names by %q, from now on it goes by webroot", a),
			fmt.Sprintf("let the web container serve /.well-known/acme-challenge/ from %s; a pre_hook and post_hook in the conf are not run any more", wish.Spec.Webroot))
	}
	if path := wish.Spec.Webroot; path != s.Webroot && !w.Mounted(path) {
		wish.Spec.Webroot = s.Webroot
		wish.absent(path, s.Webroot)
	}
	for name, path := range wish.Spec.Webroots {
		if s.Webroots[name] != path && !w.Mounted(path) {
			wish.Spec.Webroots = without(wish.Spec.Webroots, name)
			wish.absent(path, wish.Spec.Webroot)
		}
	}
	return wish
}

func (w *Wish) absent(path, instead string) {
	w.Spec.StandIn = true
	w.doubt(fmt.Sprintf("certbot's webroot %s is not mounted here, %s is used", path, instead),
		fmt.Sprintf("mount the volume that the web container serves challenges from at %s, or at %s", instead, path))
}

func (w *Wish) doubt(text, hint string) {
	if d := (Doubt{text, hint}); !slices.Contains(w.Doubts, d) {
		w.Doubts = append(w.Doubts, d)
	}
}

func without(webroots map[string]string, name string) map[string]string {
	webroots = maps.Clone(webroots)
	delete(webroots, name)
	return webroots
}
