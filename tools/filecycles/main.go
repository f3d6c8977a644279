// Command filecycles checks that no two files of a package need each other, directly or by way of
// others. What a file needs are the constants, variables, functions, types, methods and fields of
// its package that other files declare. Tests are left out.
//
//	filecycles DIR PATTERN...
//
// The patterns are those of "go list", below the folder DIR of a module.
package main

import (
	"errors"
	"fmt"
	"go/ast"
	"go/types"
	"io"
	"maps"
	"os"
	"path/filepath"
	"slices"
	"strings"

	"golang.org/x/tools/go/packages"
)

func main() {
	if len(os.Args) < 3 {
		fmt.Fprintln(os.Stderr, "usage: filecycles DIR PATTERN...")
		os.Exit(2)
	}
	if err := run(os.Stdout, os.Args[1], os.Args[2:]...); err != nil {
		fmt.Fprintln(os.Stderr, err)
		os.Exit(1)
	}
}

var errCycles = errors.New("files that need each other: move what ties them to where it belongs")

// run writes the cycles of the packages, and returns an error when there is one.
func run(w io.Writer, dir string, patterns ...string) error {
	loaded, err := packages.Load(&packages.Config{
		Mode: packages.NeedName | packages.NeedSyntax | packages.NeedTypes | packages.NeedTypesInfo | packages.NeedFiles | packages.NeedImports | packages.NeedDeps,
		Dir:  dir,
	}, patterns...)
	if err != nil {
		return err
	}
	found := false
	for _, p := range loaded {
		if len(p.Errors) > 0 {
			return p.Errors[0]
		}
		needs := needsOf(p)
		for _, cycle := range needs.cycles() {
			found = true
			fmt.Fprintf(w, "%s: %s\n", p.PkgPath, strings.Join(cycle, ", "))
			for _, from := range cycle {
				for _, to := range cycle {
					if names := needs[from][to]; len(names) > 0 {
						fmt.Fprintf(w, "\t%s needs %s for %s\n", from, to, strings.Join(slices.Sorted(maps.Keys(names)), ", "))
					}
				}
			}
		}
	}
	if found {
		return errCycles
	}
	return nil
}

// needs are the names that a file, the first key, needs of another, the second.
type needs map[string]map[string]map[string]bool

func needsOf(p *packages.Package) needs {
	n := needs{}
	for _, file := range p.Syntax {
		from := filepath.Base(p.Fset.Position(file.Package).Filename)
		n[from] = map[string]map[string]bool{}
		ast.Inspect(file, func(node ast.Node) bool {
			name, ok := node.(*ast.Ident)
			if !ok {
				return true
			}
			used := p.TypesInfo.Uses[name]
			if used == nil || used.Pkg() != p.Types {
				return true
			}
			if _, imported := used.(*types.PkgName); imported {
				return true
			}
			if to := filepath.Base(p.Fset.Position(used.Pos()).Filename); to != from {
				if n[from][to] == nil {
					n[from][to] = map[string]bool{}
				}
				n[from][to][used.Name()] = true
			}
			return true
		})
	}
	return n
}

// cycles returns the sets of files that need each other, directly or by way of others of their
// set, in the order of their first files.
func (n needs) cycles() [][]string {
	reached := map[string]map[string]bool{}
	for from := range n {
		reached[from] = map[string]bool{}
		n.reach(from, reached[from])
	}
	var cycles [][]string
	done := map[string]bool{}
	for _, file := range slices.Sorted(maps.Keys(n)) {
		if done[file] || !reached[file][file] {
			continue
		}
		var cycle []string
		for other := range reached[file] {
			if reached[other][file] {
				cycle = append(cycle, other)
				done[other] = true
			}
		}
		slices.Sort(cycle)
		cycles = append(cycles, cycle)
	}
	return cycles
}

// reach adds to seen what a file needs, and what that needs in its turn.
func (n needs) reach(from string, seen map[string]bool) {
	for to := range n[from] {
		if !seen[to] {
			seen[to] = true
			n.reach(to, seen)
		}
	}
}
