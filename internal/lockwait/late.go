package lockwait

import (
	"cmp"
	"fmt"
	"time"

	"provwatch/internal/postgres"
)

// lockStatements are the statements that take an advisory lock for which a start or a command waits.
var lockStatements = map[string]string{
	"a statement (BeginSeed)":     "the seed, which takes the lock of seeds and then the gateway's,",
	"a statement (LockSeed)":      "the command, which takes the lock of seeds,",
	"a statement (LockMigration)": "the migration, which takes the lock of migrations,",
}

// LateError says that something has not ended in time.
type LateError struct {
	What    string
	Since   time.Time
	Holders Holders // who hold it up, none where it is not known
}

// Late returns the error of a wait whose holders are not known yet.
func Late(wait postgres.Wait) *LateError {
	return &LateError{What: cmp.Or(lockStatements[wait.What], wait.What), Since: wait.Since}
}

func (e *LateError) Error() string {
	since := e.Since.UTC().Format(time.RFC3339)
	if len(e.Holders) > 0 {
		return fmt.Sprintf("%s has waited since %s for %s", e.What, since, e.Holders)
	}
	return fmt.Sprintf("%s has not ended since %s", e.What, since)
}

// Matter is what the error is about: one statement after the other can wait for the same.
func (e *LateError) Matter() string {
	if len(e.Holders) > 0 {
		return e.Holders.String()
	}
	return "not ended"
}
