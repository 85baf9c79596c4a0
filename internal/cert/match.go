package cert

import "slices"

// Match finds for each spec the name of the lineage that it is kept in: the explicit name, then the lineage with the same
// set of names, then the one that is called like the spec, then a sole lineage with a name in common. A lineage belongs to one
// spec at most. A spec without a lineage gets a new one under its own name.
func Match(specs []Spec, lineages []Lineage) []string {
	names := make([]string, len(specs))
	taken := map[string]bool{}
	give := func(i int, lineage string) {
		names[i], taken[lineage] = lineage, true
	}
	open := func(i int) bool { return names[i] == "" }
	// A lineage that is called like another spec is kept for that one, which could have no other.
	anothers := func(i int, lineage string) bool {
		return slices.ContainsFunc(specs, func(s Spec) bool { return s.Name == lineage }) && specs[i].Name != lineage
	}

	for i, s := range specs {
		if s.Named {
			give(i, s.Name)
		}
	}
	for i, s := range specs {
		for _, l := range lineages {
			if open(i) && !taken[l.Name] && !anothers(i, l.Name) && l.Issued() && SameNames(l.Names(), s.Names) {
				give(i, l.Name)
			}
		}
	}
	for i, s := range specs {
		for _, l := range lineages {
			if open(i) && !taken[l.Name] && l.Name == s.Name {
				give(i, l.Name)
			}
		}
	}
	for i, s := range specs {
		var overlapping []string
		for _, l := range lineages {
			if !taken[l.Name] && !anothers(i, l.Name) && l.Issued() && overlap(l.Names(), s.Names) {
				overlapping = append(overlapping, l.Name)
			}
		}
		if open(i) && len(overlapping) == 1 {
			give(i, overlapping[0])
		}
	}
	for i, s := range specs {
		if open(i) {
			give(i, s.Name)
		}
	}
	return names
}

func overlap(a, b []string) bool {
	return slices.ContainsFunc(sorted(a), func(name string) bool { return slices.Contains(sorted(b), name) })
}
