// Package remedy holds ways out of a problem as data. Errors and log attributes carry a
// [Remedy]. The edges of the program render it by a [Site], which knows how the process was
// called and which database it works on.
package remedy

// Remedy is a way out of a problem: a command of this program, or a setting.
type Remedy struct {
	Command string   // such as "migrate" or "sinks retry"; empty for a setting and for [Repeat]
	Args    []string // of the command, or the flags of the setting or of [Repeat]
	kind    kind
}

// kind is what a remedy changes, where its command and its arguments do not show it.
type kind int

const (
	ofCommand    kind = iota // or of a setting
	ofRepeat                 // see [Repeat]
	ofProviders              // see [NameProviders]
	ofConnection             // see [CheckConnection]
	ofUser                   // see [CheckUser]
	ofPassword               // see [CheckPassword]
	ofDatabase               // see [CheckDatabase]
)

// Run is the remedy of a command.
func Run(command string, args ...string) Remedy { return Remedy{Command: command, Args: args} }

// Set is the remedy of a setting, as a flag such as "--source=wal".
func Set(flag string) Remedy { return Remedy{Args: []string{flag}} }

// Repeat is the remedy of the command that failed, with these flags instead. It renders as
// the flags alone, without quotation marks.
func Repeat(flags ...string) Remedy { return Remedy{Args: flags, kind: ofRepeat} }

// NameProviders is the remedy of an environment that names no provider.
func NameProviders() Remedy { return Remedy{kind: ofProviders} }

// CheckConnection is the remedy of a connection that failed for no known cause.
func CheckConnection() Remedy { return Remedy{kind: ofConnection} }

// CheckUser is the remedy of a connection string whose user the server does not know.
func CheckUser() Remedy { return Remedy{kind: ofUser} }

// CheckPassword is the remedy of a connection string whose password the server refuses.
func CheckPassword() Remedy { return Remedy{kind: ofPassword} }

// CheckDatabase is the remedy of a connection string whose database is not there.
func CheckDatabase() Remedy { return Remedy{kind: ofDatabase} }

// Advice is a text of strings and remedies, for the attribute "remedy" of a log line.
type Advice []any
