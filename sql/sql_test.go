package sql_test

import (
	"os"
	"path/filepath"
	"regexp"
	"strings"
	"testing"

	"github.com/stretchr/testify/require"
)

var (
	comment = regexp.MustCompile(`(?m)--.*$`)
	literal = regexp.MustCompile(`'[^']*'`)
	message = regexp.MustCompile(`RAISE EXCEPTION '[^']*'`)
	table   = regexp.MustCompile(`[\w.$%]*\b(ai_provider(s|_keys|_type)|dbcrypt_keys)\b`)
)

// TestProviderTablesAreQualified reads the SQL: a name of theirs is that of a schema
// that is known, or part of a catalog query, which has it in quotes.
func TestProviderTablesAreQualified(t *testing.T) {
	t.Parallel()
	named := 0
	for _, pattern := range []string{"*.sql", "*/*.sql"} {
		files, err := filepath.Glob(pattern)
		require.NoError(t, err)
		for _, file := range files {
			content, err := os.ReadFile(file)
			require.NoError(t, err)
			// The schema's name is put in as text, and would end a comment or a literal.
			for _, found := range comment.FindAllString(string(content), -1) {
				require.NotRegexp(t, `gateway\.(ai_|dbcrypt_)|'gateway'`, found, file)
			}
			text := comment.ReplaceAllString(string(content), "")
			schema := "gateway."
			if file == "roles.sql" {
				schema = "%1$I." // of a statement in quotes, which format() makes
				text = message.ReplaceAllString(text, "")
			} else {
				for _, found := range literal.FindAllString(text, -1) {
					require.NotContains(t, found, "gateway.ai_", file)
				}
				text = literal.ReplaceAllString(text, "''")
			}
			text = strings.NewReplacer("'ai_providers'", "", "'dbcrypt_keys'", "").Replace(text)
			for _, found := range table.FindAllString(text, -1) {
				require.True(t, strings.HasPrefix(found, schema), "%s: %s", file, found)
				named++
			}
		}
	}
	require.Greater(t, named, 50)
}

// TestQueriesAreMadeOfAQualifiedDatabase looks for the constructor that knows of no
// schema.
func TestQueriesAreMadeOfAQualifiedDatabase(t *testing.T) {
	t.Parallel()
	files, err := filepath.Glob("../*/*/*.go")
	require.NoError(t, err)
	require.NotEmpty(t, files)
	for _, file := range files {
		content, err := os.ReadFile(file)
		require.NoError(t, err)
		require.NotContains(t, string(content), "store.New"+"(", file+": use store.On")
		require.NotContains(t, string(content), ".WithTx"+"(", file+": use store.On")
	}
}
