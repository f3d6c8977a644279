package main

import (
	"fmt"
	"io"
	"slices"
	"strings"

	"github.com/spf13/cobra"

	"provwatch/internal/config"
	"provwatch/internal/sink"
)

// shells have a completion script.
var shells = []string{"bash", "fish", "powershell", "zsh"}

func completionCommand() *cobra.Command {
	return &cobra.Command{
		Use:   "completion SHELL",
		Short: "Print a script that completes commands, values and names in " + strings.Join(shells, ", "),
		Long: "Print a script that completes commands, values and names in a shell.\n\n" +
			"To load completions in the current session:\n\n" +
			"  bash        source <(worker completion bash)   # needs the package bash-completion\n" +
			"  fish        worker completion fish | source\n" +
			"  powershell  worker completion powershell | Out-String | Invoke-Expression\n" +
			"  zsh         source <(worker completion zsh)    # after compinit\n\n" +
			"To load them in every session, add that line to the shell's start-up file, or store the script in:\n\n" +
			"  bash        /etc/bash_completion.d/worker\n" +
			"  fish        ~/.config/fish/completions/worker.fish\n" +
			"  zsh         the file _worker in a folder of $fpath",
		Args: func(_ *cobra.Command, args []string) error {
			if len(args) != 1 || !slices.Contains(shells, args[0]) {
				return fmt.Errorf("the shell must be one of %s", strings.Join(shells, ", "))
			}
			return nil
		},
		ValidArgsFunction: func(_ *cobra.Command, args []string, _ string) ([]string, cobra.ShellCompDirective) {
			if len(args) > 0 {
				return nil, cobra.ShellCompDirectiveNoFileComp
			}
			return shells, cobra.ShellCompDirectiveNoFileComp
		},
		RunE: func(c *cobra.Command, args []string) error {
			root, out := c.Root(), c.OutOrStdout()
			return map[string]func(io.Writer) error{
				"bash":       func(w io.Writer) error { return root.GenBashCompletionV2(w, true) },
				"fish":       func(w io.Writer) error { return root.GenFishCompletion(w, true) },
				"powershell": root.GenPowerShellCompletionWithDesc,
				"zsh":        root.GenZshCompletion,
			}[args[0]](out)
		},
	}
}

// completes returns what a shell offers for the value of a setting, nil for names of files,
// which shells complete by themselves.
func (f *flags) completes(s setting) cobra.CompletionFunc {
	switch s.completion {
	case words:
		return cobra.FixedCompletions(s.value.(interface{ words() []string }).words(), cobra.ShellCompDirectiveNoFileComp)
	case files:
		return nil
	case folders:
		return cobra.FixedCompletions(nil, cobra.ShellCompDirectiveFilterDirs)
	case targets:
		return f.completeTarget
	default:
		return cobra.NoFileCompletions
	}
}

// completeTarget completes the name of a target of --config, of a file with mistakes
// as well. It connects to nothing.
func (f *flags) completeTarget(c *cobra.Command, _ []string, _ string) (names []string, _ cobra.ShellCompDirective) {
	if setFromEnvironment(c.Flags()) == nil && f.config != "" {
		targets, _ := config.Read(f.config, overridable())
		for _, t := range targets {
			if t.Name != "" {
				names = append(names, t.Name)
			}
		}
	}
	return names, cobra.ShellCompDirectiveNoFileComp
}

// completeSink completes the name of a sink, which is the first argument.
func completeSink(_ *cobra.Command, args []string, _ string) (names []string, _ cobra.ShellCompDirective) {
	if len(args) == 0 {
		names = sink.Names
	}
	return names, cobra.ShellCompDirectiveNoFileComp
}

// completeProvider completes the name of a provider of the environment that was not given
// yet. It connects to nothing.
func (f *flags) completeProvider(c *cobra.Command, args []string, _ string) (names []string, _ cobra.ShellCompDirective) {
	if f.all || setFromEnvironment(c.Flags()) != nil || f.selectTarget() != nil {
		return nil, cobra.ShellCompDirectiveNoFileComp
	}
	environment, err := f.readEnvironment()
	if err != nil {
		return nil, cobra.ShellCompDirectiveNoFileComp
	}
	for _, p := range environment.Providers {
		if !slices.Contains(args, p.Name) {
			names = append(names, p.Name)
		}
	}
	return names, cobra.ShellCompDirectiveNoFileComp
}
