// Package remedy holds ways out of a problem as data. Errors and log attributes carry a
// [Remedy]. The edges of the program render it by a [Site], which knows how the process was
// called and which database it works on.
package remedy

// Remedy is a way out of a problem: a command of this program, or a setting.
type Remedy struct {
	Command string   // such as "migrate" or "sinks retry"; empty for a setting and for [Repeat]
	Args    []string // of the command, or the flags of the setting or of [Repeat]
	// variables makes it the remedy of [NameProviders].
	variables bool
	repeats   bool // it is of [Repeat]
}

// Run is the remedy of a command.
func Run(command string, args ...string) Remedy { return Remedy{Command: command, Args: args} }

// Set is the remedy of a setting, as a flag such as "--source=wal".
func Set(flag string) Remedy { return Remedy{Args: []string{flag}} }

// Repeat is the remedy of the command that failed, with these flags instead. It renders as
// the flags alone, without quotation marks.
func Repeat(flags ...string) Remedy { return Remedy{Args: flags, repeats: true} }

// NameProviders is the remedy of an environment that names no provider.
func NameProviders() Remedy { return Remedy{variables: true} }

// Advice is a text of strings and remedies, for the attribute "remedy" of a log line.
type Advice []any
