//go:build e2e

package schema_test

import (
	"context"
	"strings"
	"testing"

	"github.com/jackc/pgx/v5"
	"github.com/stretchr/testify/require"

	"provwatch/internal/pgtest"
	"provwatch/internal/postgres"
	"provwatch/internal/schema"
)

// TestPlantedSchema lets another role have a hand in the schema provwatch, before it is
// made or afterwards.
func TestPlantedSchema(t *testing.T) {
	t.Parallel()
	const migrate = "migrate"
	for name, c := range map[string]struct {
		steps []string
		want  string // what the error says of roles, empty for none
	}{
		"a schema that the other role owns":        {[]string{`CREATE SCHEMA provwatch AUTHORIZATION {mallory}`}, `"{mallory}" owns it`},
		"one that it was given afterwards":         {[]string{migrate, `ALTER SCHEMA provwatch OWNER TO {mallory}`}, `"{mallory}" owns it`},
		"one that it may create in":                {[]string{migrate, `GRANT CREATE ON SCHEMA provwatch TO {mallory}`}, `"{mallory}" may create in it`},
		"one that everybody may create in":         {[]string{`CREATE SCHEMA provwatch`, `GRANT CREATE ON SCHEMA provwatch TO PUBLIC`}, `"PUBLIC" may create in it`},
		"one in which it has left a table":         {[]string{`CREATE SCHEMA provwatch`, `CREATE TABLE provwatch.schema_migrations (id int)`, `ALTER TABLE provwatch.schema_migrations OWNER TO {mallory}`}, `"{mallory}" owns something in it`},
		"one in which it has a function":           {[]string{migrate, `CREATE FUNCTION provwatch.f() RETURNS int LANGUAGE sql AS 'SELECT 1'`, `ALTER FUNCTION provwatch.f() OWNER TO {mallory}`}, `"{mallory}" owns something in it`},
		"one of a role that made us its member":    {[]string{`CREATE SCHEMA provwatch AUTHORIZATION {mallory}`, `GRANT {mallory} TO {owner}`}, `"{mallory}" owns it`},
		"a schema for our tables, of another role": {[]string{`CREATE SCHEMA {owner} AUTHORIZATION {mallory}`, `GRANT ALL ON SCHEMA {owner} TO {owner}`, `REVOKE CREATE ON SCHEMA public FROM {owner}, PUBLIC`}, `"{owner}", whose owner "{mallory}"`},
		"one beside a schema that is not":          {[]string{`CREATE SCHEMA {owner} AUTHORIZATION {mallory}`, `GRANT ALL ON SCHEMA {owner} TO {owner}`}, ""},
		"one that is empty and ours":               {[]string{`CREATE SCHEMA provwatch AUTHORIZATION {owner}`}, ""},
		"one of a superuser":                       {[]string{`CREATE SCHEMA provwatch`, `GRANT ALL ON SCHEMA provwatch TO {owner}`}, ""},
		"one of a group that we are a member of":   {[]string{`CREATE SCHEMA provwatch AUTHORIZATION {group}`, `GRANT {group} TO {owner}`}, `"{group}" owns it`},
		"one of the owner of the provider tables":  {[]string{migrate, `ALTER SCHEMA provwatch OWNER TO {owner}`}, ""},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			url := pgtest.NewDatabase(t)
			admin, err := pgx.Connect(t.Context(), url)
			require.NoError(t, err)
			names := admin.Config().Database
			fill := strings.NewReplacer("{mallory}", names+"_mallory", "{owner}", names+"_owner", "{group}", names+"_group", "{database}", names).Replace
			run := func(statement string) {
				t.Helper()
				_, err := admin.Exec(context.WithoutCancel(t.Context()), fill(statement))
				require.NoError(t, err, statement)
			}
			run(`CREATE ROLE {mallory} LOGIN; CREATE ROLE {owner} LOGIN; CREATE ROLE {group}; GRANT CREATE ON SCHEMA public TO {owner}; GRANT CREATE ON DATABASE {database} TO {owner}`)
			t.Cleanup(func() {
				run(`DROP OWNED BY {mallory}, {owner}, {group} CASCADE; DROP ROLE {mallory}, {owner}, {group}`)
				_ = admin.Close(context.Background())
			})
			config, err := postgres.ParseURL(strings.Replace(url, "postgres://provwatch@", "postgres://"+fill("{owner}")+"@", 1))
			require.NoError(t, err)
			for _, step := range c.steps {
				if step != migrate {
					run(step)
				} else {
					_, _, err := schema.Migrate(t.Context(), config.ConnConfig, schema.Needs{Triggers: true})
					require.NoError(t, err)
				}
			}
			var before string
			objects := `SELECT coalesce(string_agg(oid::text, ' ' ORDER BY oid), '') FROM pg_class WHERE relnamespace IN (to_regnamespace('provwatch'), 'public'::regnamespace)`
			require.NoError(t, admin.QueryRow(t.Context(), objects).Scan(&before))
			_, _, err = schema.Migrate(t.Context(), config.ConnConfig, schema.Needs{Triggers: true})
			if c.want == "" {
				require.NoError(t, err)
				return
			}
			var unusable *schema.UnusableError
			require.ErrorAs(t, err, &unusable)
			require.ErrorContains(t, err, fill(c.want))
			var after string
			require.NoError(t, admin.QueryRow(t.Context(), objects).Scan(&after))
			require.Equal(t, before, after, "nothing is made in it")
		})
	}
}
