package main

import (
	"runtime"
	"runtime/debug"

	"github.com/spf13/cobra"

	"provwatch/internal/report"
)

func versionCommand(f *flags) *cobra.Command {
	return &cobra.Command{
		Use:   "version",
		Short: "Print the version, the commit it was built from, and the version of Go",
		Args:  noArguments,
		RunE: func(*cobra.Command, []string) error {
			return f.printer().Version(buildInfo())
		},
	}
}

// version and commit are set by the build; see buildInfo for a build without them.
var version, commit string

// buildInfo returns what this program was built from: what the build set, else
// what the go command noted, as "go install" does.
func buildInfo() report.Build {
	build := report.Build{Version: version, Commit: commit, Go: runtime.Version()}
	info, ok := debug.ReadBuildInfo()
	if ok && build.Version == "" && info.Main.Version != "(devel)" {
		build.Version = info.Main.Version
	}
	if build.Version == "" {
		build.Version = "dev"
	}
	if ok && build.Commit == "" {
		for _, setting := range info.Settings {
			if setting.Key == "vcs.revision" {
				build.Commit = setting.Value
			}
		}
	}
	return build
}
