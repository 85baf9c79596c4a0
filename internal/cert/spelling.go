package cert

import "strings"

// Nearest is the word with the fewest edits to what somebody wrote, the first of equals; 3 stands for any more, and the word is "" then.
func Nearest(name string, words []string) (near string, least int) {
	near, least = "", 3
	for _, word := range words {
		if strings.EqualFold(word, name) {
			return word, 1
		}
		if abs(len(word)-len(name)) >= least {
			continue
		}
		if d := edits(name, word); d < least {
			near, least = word, d
		}
	}
	return near, least
}

// edits counts the letters left out, added, changed or swapped with their neighbour between two words (optimal string
// alignment).
func edits(a, b string) int {
	d := make([][]int, len(a)+1)
	for i := range d {
		d[i] = make([]int, len(b)+1)
		d[i][0] = i
	}
	for j := range d[0] {
		d[0][j] = j
	}
	for i := 1; i <= len(a); i++ {
		for j := 1; j <= len(b); j++ {
			change := 1
			if a[i-1] == b[j-1] {
				change = 0
			}
			d[i][j] = min(d[i-1][j]+1, d[i][j-1]+1, d[i-1][j-1]+change)
			if i > 1 && j > 1 && a[i-1] == b[j-2] && a[i-2] == b[j-1] {
				d[i][j] = min(d[i][j], d[i-2][j-2]+1)
			}
		}
	}
	return d[len(a)][len(b)]
}

func abs(n int) int { return max(n, -n) }
