package reconcile

import (
	"fmt"
	"strconv"
	"strings"

	"github.com/google/uuid"

	"provwatch/internal/drift"
	"provwatch/internal/remedy"
)

func removesCredentials(step drift.Step, what string) error {
	return remedy.Problem(what, " would be removed, and the environment has none in their place; drop ", withKeysFlag,
		" to keep what is stored, set it in the environment ("+step.Desired.CredentialVariables()+"), or remove it in the gateway")
}

// withKeysFlag is the flag that has a resolution write credentials.
var withKeysFlag = remedy.Repeat("--with-keys")

// maxListed bounds how many names of members or rows an error holds, and maxMember how
// long each is: any writer of the row can choose them.
const (
	maxListed = 20
	maxMember = 60
)

// memberList returns names in quotes.
func memberList(names []string) string {
	var shown []string
	for _, name := range names[:min(len(names), maxListed)] {
		if runes := []rune(name); len(runes) > maxMember {
			name = string(runes[:maxMember]) + "…"
		}
		shown = append(shown, strconv.QuoteToASCII(name))
	}
	if more := len(names) - len(shown); more > 0 {
		shown = append(shown, fmt.Sprintf("and %d more", more))
	}
	return strings.Join(shown, ", ")
}

// unreadable says that a row's settings cannot be merged into.
func unreadable(id uuid.UUID, reason error) error {
	return remedy.Problem("its stored settings cannot be decoded, and what they hold would be lost: ", reason, "; repair them, or give them up with "+
		`"UPDATE ai_providers SET settings = NULL, settings_key_id = NULL WHERE id = '`+id.String()+`'" and repeat with `, withKeysFlag)
}

// of returns an error of one of the providers, named where there are several.
func of(name string, err error, providers int) error {
	if providers == 1 {
		return err
	}
	return fmt.Errorf("provider %q: %w", name, err)
}
