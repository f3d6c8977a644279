package dbcrypt

import "errors"

// Repair returns what makes the row of a provider comparable whose settings cannot be read
// for the reason. variables are the variables that name the provider.
func Repair(reason error, variables string) string {
	otherwise := "or remove its variables (" + variables + ")"
	switch {
	case errors.Is(reason, ErrFormerKeyset):
		return otherwise // the reason has the remedy
	case SaysUnknownKey(reason.Error()):
		return "add the key to the variable, " + otherwise
	default:
		return "repair its settings, " + otherwise
	}
}
