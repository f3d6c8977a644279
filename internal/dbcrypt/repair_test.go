package dbcrypt_test

import (
	"errors"
	"testing"

	"github.com/stretchr/testify/require"

	"provwatch/internal/dbcrypt"
)

func TestRepair(t *testing.T) {
	t.Parallel()
	for name, c := range map[string]struct {
		reason error
		want   string
	}{
		"an unknown key":  {&dbcrypt.DecryptError{KeyID: "a1b2c3d", Err: dbcrypt.ErrUnknownKey}, "add the key to the variable, or remove its variables (GPT_*)"},
		"a former keyset": {&dbcrypt.DecryptError{KeyID: "1234567", Err: dbcrypt.ErrFormerKeyset}, "or remove its variables (GPT_*)"},
		"damaged":         {&dbcrypt.DecryptError{KeyID: "a1b2c3d", Err: dbcrypt.ErrDamaged}, "repair its settings, or remove its variables (GPT_*)"},
		"not JSON":        {errors.New("settings are not a JSON object"), "repair its settings, or remove its variables (GPT_*)"},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			require.Equal(t, c.want, dbcrypt.Repair(c.reason, "GPT_*"))
		})
	}
}
