// Package suggest finds the known name that a name is most likely a misspelling of.
package suggest

import (
	"math"

	"github.com/agnivade/levenshtein"
)

// Nearest returns the known name that the name is most likely a misspelling of:
// of those at the least distance the one with the longest beginning in common.
func Nearest(name string, known []string) string {
	best, bestDistance, bestCommon := "", math.MaxInt, 0
	for _, k := range known {
		distance, common := levenshtein.ComputeDistance(name, k), commonPrefix(name, k)
		if distance < bestDistance || distance == bestDistance && common > bestCommon {
			best, bestDistance, bestCommon = k, distance, common
		}
	}
	return best
}

// maxMisspelling is how many letters a name may differ by from the one that is meant.
const maxMisspelling = 2

// Misspelt returns the known name that the name is a misspelling of, empty when
// there is none so near.
func Misspelt(name string, known []string) string {
	nearest := Nearest(name, known)
	if levenshtein.ComputeDistance(name, nearest) > maxMisspelling {
		return ""
	}
	return nearest
}

// DidYouMean returns the end of an error about a name that is not known: a question with
// the known name that it is a misspelling of. It is empty when no known name is so near.
func DidYouMean(name string, known []string) string {
	if nearest := Misspelt(name, known); nearest != "" {
		return "; did you mean " + nearest + "?"
	}
	return ""
}

func commonPrefix(a, b string) int {
	n := 0
	for n < len(a) && n < len(b) && a[n] == b[n] {
		n++
	}
	return n
}
