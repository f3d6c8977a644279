package drift_test

import (
	"testing"

	"github.com/stretchr/testify/require"

	"provwatch/internal/drift"
)

// TestDisplayedFields shows that only an unmanaged row has no environment's side.
func TestDisplayedFields(t *testing.T) {
	fields := []drift.Field{{Name: "type", DB: "openai"}, {Name: "base_url", DB: ""}}
	require.Equal(t, []drift.Field{{Name: "type", Env: "-", DB: "openai"}, {Name: "base_url", Env: "-"}}, drift.Displayed(drift.Unmanaged, fields))
	require.Empty(t, fields[0].Env, "the fields of an alert stay as they are")
	require.Equal(t, fields, drift.Displayed(drift.Changed, fields))
	require.Equal(t, `type (environment -, database "openai"), base_url (environment -, database "")`, drift.List(drift.Unmanaged, fields))
	require.Equal(t, `type (environment "", database "openai"), base_url (environment "", database "")`, drift.List(drift.Changed, fields))
}
