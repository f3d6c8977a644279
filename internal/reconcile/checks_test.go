//go:build !e2e

package reconcile_test

import "flag"

// Each check is a few rounds to the database, so that without the tag e2e there are fewer
// of them than rapid makes by default.
func init() {
	if err := flag.Set("rapid.checks", "15"); err != nil {
		panic(err)
	}
}
