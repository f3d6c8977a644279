package dbcrypt

import (
	"fmt"
	"strconv"
	"strings"

	"github.com/dustin/go-humanize/english"
)

// FormerKeysetError says that stored secrets are of the --keyset of a former version. It
// is an [ErrFormerKeyset].
type FormerKeysetError struct {
	Providers []string // some of those that have such secrets
	KeyIDs    []string // of the keyset
}

// Unwrap returns [ErrFormerKeyset].
func (e *FormerKeysetError) Unwrap() error { return ErrFormerKeyset }

func (e *FormerKeysetError) Error() string {
	quoted := make([]string, len(e.Providers))
	for i, name := range e.Providers {
		quoted[i] = strconv.Quote(name)
	}
	return fmt.Sprintf("stored secrets of %s %s are encrypted with %s %s of the --keyset of a former version: %s",
		english.PluralWord(len(quoted), "provider", ""), strings.Join(quoted, ", "),
		english.PluralWord(len(e.KeyIDs), "key", ""), strings.Join(e.KeyIDs, ", "), FormerKeysetRemedy)
}
