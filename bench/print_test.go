//go:build bench

package bench

import (
	"fmt"
	"math"
	"slices"
	"strings"
	"time"
)

// quantile returns the q-th quantile of a sorted list, by the nearest rank.
func quantile[T any](sorted []T, q float64) T {
	return sorted[max(0, int(math.Ceil(q*float64(len(sorted))))-1)]
}

func median(list []float64) float64 {
	s := slices.Sorted(slices.Values(list))
	if n := len(s); n%2 == 0 {
		return (s[n/2-1] + s[n/2]) / 2
	}
	return s[len(s)/2]
}

// middle formats a list as its median and quartiles.
func middle(format string, list []float64) string {
	if len(list) == 0 {
		return "–"
	}
	if len(list) == 1 {
		return fmt.Sprintf(format, list[0])
	}
	s := slices.Sorted(slices.Values(list))
	return fmt.Sprintf(format+" ["+format+" … "+format+"]", median(s), quantile(s, 0.25), quantile(s, 0.75))
}

func milliseconds(d time.Duration) string { return fmt.Sprintf("%.1f", float64(d.Microseconds())/1000) }

// row prints a row of a Markdown table.
func row(cells ...any) {
	var texts []string
	for _, c := range cells {
		texts = append(texts, fmt.Sprint(c))
	}
	fmt.Println("| " + strings.Join(texts, " | ") + " |")
}

func header(cells ...any) {
	row(cells...)
	fmt.Println(strings.Repeat("|---", len(cells)) + "|")
}
