package main

import (
	"errors"
	"strings"
	"testing"
)

func TestRun(t *testing.T) {
	t.Parallel()
	t.Run("Circle", func(t *testing.T) {
		t.Parallel()
		var out strings.Builder
		if err := run(&out, ".", "./testdata/circle"); !errors.Is(err, errCycles) {
			t.Errorf("run: %v", err)
		}
		want := `provwatch/tools/filecycles/testdata/circle: a.go, b.go
	a.go needs b.go for count
	b.go needs a.go for thing
`
		if out.String() != want {
			t.Errorf("got:\n%s\nwant:\n%s", &out, want)
		}
	})
	t.Run("Order", func(t *testing.T) {
		t.Parallel()
		var out strings.Builder
		if err := run(&out, ".", "./testdata/order"); err != nil || out.Len() > 0 {
			t.Errorf("run: %v, %s", err, &out)
		}
	})
	t.Run("NoPackage", func(t *testing.T) {
		t.Parallel()
		var out strings.Builder
		if err := run(&out, ".", "./testdata/none"); err == nil || errors.Is(err, errCycles) {
			t.Errorf("run: %v", err)
		}
	})
}
