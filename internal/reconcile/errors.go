package reconcile

import (
	"fmt"
	"strconv"
	"strings"

	"provwatch/internal/drift"

	"github.com/google/uuid"
)

func removesCredentials(step drift.Step, what string) error {
	return fmt.Errorf("%s would be removed, and the environment has none in their place; "+
		"drop --with-keys to keep what is stored, set it in the environment (%s), or remove it in the gateway", what, step.Desired.CredentialVariables())
}

// maxListed bounds how many names of members an error holds, and maxMember how
// long each is: any writer of the row can choose them.
const (
	maxListed = 20
	maxMember = 60
)

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
	return fmt.Errorf("its stored settings cannot be decoded, and what they hold would be lost: %w; repair them, or give them up with "+
		"\"UPDATE ai_providers SET settings = NULL, settings_key_id = NULL WHERE id = '%s'\" and repeat with --with-keys", reason, id)
}
