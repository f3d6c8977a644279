//go:build e2e

package golden

import (
	"encoding/json"
	"strings"
	"testing"

	"github.com/stretchr/testify/require"

	sqlfiles "provwatch/sql"
)

func testCommandsRoles(t *testing.T) {
	t.Parallel()
	w := newPlace(t)
	encoded, err := json.MarshalIndent(map[string]string{"sql": sqlfiles.Roles}, "", "  ")
	require.NoError(t, err)
	w.replace(strings.TrimSuffix(strings.TrimPrefix(string(encoded), "{\n  \"sql\": \""), "\"\n}"), "<sql/roles.sql>")
	w.replace(sqlfiles.Roles, "<sql/roles.sql>\n")
	s := transcript{w: w}
	s.run(nil, "roles")
	s.run(nil, "roles", "-o", "json")
	compare(t, "commands/roles.txt", s.normalised())
}
