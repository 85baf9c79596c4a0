package cert

import "testing"

func TestEditsCountSlipsOfTheFinger(t *testing.T) {
	for _, test := range []struct {
		a, b string
		want int
	}{
		{"DOMAINS", "DOMAINS", 0}, {"DOMIANS", "DOMAINS", 1}, {"DOMAIN", "DOMAINS", 1}, {"DOOMAINS", "DOMAINS", 1},
		{"DOMEINS", "DOMAINS", 1}, {"OMDAINS", "DOMAINS", 2}, {"", "AB", 2}, {"AB", "", 2},
	} {
		if got := edits(test.a, test.b); got != test.want {
			t.Errorf("edits(%q, %q) = %d, want %d", test.a, test.b, got, test.want)
		}
	}
}

func TestNearestWordIsTheOneThatWasMeant(t *testing.T) {
	words := []string{"app", "nginx", "web"}
	for _, test := range []struct {
		name, want string
		edits      int
	}{
		{"webb", "web", 1}, {"Web", "web", 1}, {"ngnix", "nginx", 1}, {"ngnxi", "nginx", 2}, {"database", "", 3},
	} {
		if got, n := Nearest(test.name, words); got != test.want || n != test.edits {
			t.Errorf("Nearest(%q) = %q, %d, want %q, %d", test.name, got, n, test.want, test.edits)
		}
	}
}
