//go:build e2e

package test

import (
	"encoding/json"
	"slices"
	"strings"
	"testing"

	"github.com/stretchr/testify/require"
)

// recordUpdates keeps, for each UPDATE of a provider's row, the columns that it
// names and the columns that it changes.
func (w *world) recordUpdates() {
	w.t.Helper()
	w.exec(`
		CREATE TABLE named_columns (seq bigint GENERATED ALWAYS AS IDENTITY, name text);
		CREATE TABLE changed_columns (seq bigint GENERATED ALWAYS AS IDENTITY, name text);
		CREATE FUNCTION record_named() RETURNS trigger LANGUAGE plpgsql SECURITY DEFINER AS $$
		BEGIN
			INSERT INTO named_columns (name) VALUES (TG_ARGV[0]);
			RETURN NULL;
		END $$;
		CREATE FUNCTION record_changed() RETURNS trigger LANGUAGE plpgsql SECURITY DEFINER AS $$
		BEGIN
			INSERT INTO changed_columns (name) SELECT n.key FROM jsonb_each(to_jsonb(new)) n
			WHERE n.value IS DISTINCT FROM to_jsonb(old) -> n.key ORDER BY 1;
			RETURN NULL;
		END $$;
		CREATE TRIGGER changed AFTER UPDATE ON ai_providers FOR EACH ROW EXECUTE FUNCTION record_changed();
		DO $$
		DECLARE
			named name;
		BEGIN
			FOR named IN SELECT attname FROM pg_attribute WHERE attrelid = 'ai_providers'::regclass AND attnum > 0 AND NOT attisdropped LOOP
				EXECUTE format('CREATE TRIGGER %I AFTER UPDATE OF %I ON ai_providers FOR EACH ROW EXECUTE FUNCTION record_named(%L)', 'named_' || named, named, named);
			END LOOP;
		END $$`)
}

// updated returns what was recorded since it was last called: the columns that
// were named, which all have changed.
func (w *world) updated() []string {
	w.t.Helper()
	sorted := func(table string) []string {
		list := w.strings(`WITH gone AS (DELETE FROM ` + table + ` RETURNING name) SELECT name FROM gone ORDER BY 1`)
		return slices.Compact(list)
	}
	named := sorted("named_columns")
	require.Equal(w.t, named, sorted("changed_columns"))
	return named
}

func TestBedrock(t *testing.T) {
	t.Parallel()
	t.Run("ResolveTakeEnv", testBedrockResolveTakeEnv)
	t.Run("TypesAreEqual", testBedrockTypesAreEqual)
}

func testBedrockResolveTakeEnv(t *testing.T) {
	t.Parallel()
	// As a gateway stores it, with members that provwatch does not know.
	const settings = `{"_type":"bedrock","_version":1,"access_key":"AKIAX","access_key_secret":"SS","external_id":"ext-1","model":"arn:profile-a",` +
		`"protocol":"invoke-model","region":"us-east-1","role_arn":"arn:aws:iam::123456789012:role/B","small_fast_model":"arn:profile-b"}`
	inRegion := func(region string) string { return strings.Replace(settings, "us-east-1", region, 1) }
	bothSourcesOf(t, newWorldWithoutRows, func(t *testing.T, w *world) {
		w.exec(`INSERT INTO ai_providers (id, type, name, display_name, base_url, settings, icon, created_at, updated_at)
			VALUES (gen_random_uuid(), 'anthropic', 'anthropic', 'Claude', '', $1, '/claude.svg', '2026-01-01', '2026-01-01')`, settings)
		w.recordUpdates()
		env := environ{"CODER_AIBRIDGE_BEDROCK_REGION": "us-east-1"}
		pair := env.With("CODER_AIBRIDGE_BEDROCK_ACCESS_KEY", w.secret("AKIA-ENVIRONMENT-0123456789")).
			With("CODER_AIBRIDGE_BEDROCK_ACCESS_KEY_SECRET", w.secret("aws-environment-0123456789"))
		p := w.start(env, "run").ready()
		drift := func(update string) {
			t.Helper()
			w.exec(update)
			w.updated()
		}
		stored := func() string { return w.strings(`SELECT settings FROM ai_providers`)[0] }
		resolved := func(env environ, args ...string) (fields []string) {
			t.Helper()
			r := w.run(env, append([]string{"resolve", "anthropic", "--take", "env", "-o", "json"}, args...)...)
			require.Equal(t, 0, r.Code, r.Stderr)
			var printed struct {
				Outcomes []struct {
					Fields []struct{ Name string } `json:"fields"`
				} `json:"outcomes"`
			}
			require.NoError(t, json.Unmarshal([]byte(r.Stdout), &printed))
			for _, f := range printed.Outcomes[0].Fields {
				fields = append(fields, f.Name)
			}
			audited := w.strings(`SELECT c ->> 'field' FROM (
				SELECT details FROM provwatch.audit_log UNION ALL SELECT details FROM provwatch.audit_outbox) e, jsonb_array_elements(e.details -> 'changes') c`)
			require.Equal(t, fields, audited[max(0, len(audited)-len(fields)):], "what is printed is what is audited")
			return fields
		}

		for _, args := range [][]string{nil, {"--with-keys"}} {
			with := env
			if args != nil {
				// Where the environment has no credentials, those stored are not removed.
				r := w.run(env, "resolve", "anthropic", "--take", "env", "--with-keys")
				require.Equal(t, 1, r.Code, r.Stdout)
				require.Contains(t, r.Stderr, "its stored access_key would be removed, and the environment has none in their place")
				require.Empty(t, w.updated())
				with = env.With("CODER_AIBRIDGE_BEDROCK_ACCESS_KEY", "AKIAX").With("CODER_AIBRIDGE_BEDROCK_ACCESS_KEY_SECRET", "SS")
			}
			drift(`UPDATE ai_providers SET enabled = false`)
			require.Equal(t, []string{"enabled"}, resolved(with, args...))
			require.Equal(t, []string{"enabled", "updated_at"}, w.updated())
			require.Equal(t, settings, stored())

			drift(`UPDATE ai_providers SET deleted = true, enabled = false`)
			require.Equal(t, []string{"deleted", "enabled"}, resolved(with, args...))
			require.Equal(t, []string{"deleted", "enabled", "updated_at"}, w.updated())
			require.Equal(t, settings, stored())

			require.Equal(t, []string{"bedrock_region"}, resolved(with.With("CODER_AIBRIDGE_BEDROCK_REGION", "eu-west-1"), args...))
			require.Equal(t, []string{"settings", "updated_at"}, w.updated())
			require.Equal(t, inRegion("eu-west-1"), stored(), "the region alone, all else byte for byte")
			require.Equal(t, []string{"bedrock_region"}, resolved(with, args...))
			require.Equal(t, settings, stored())
			w.updated()

			drift(`UPDATE ai_providers SET base_url = 'https://elsewhere.invalid/', type = 'bedrock'`)
			require.Equal(t, []string{"base_url"}, resolved(with, args...))
			require.Equal(t, []string{"base_url", "updated_at"}, w.updated())
			if args == nil {
				drift(`UPDATE ai_providers SET type = 'anthropic'`)
			}
		}
		require.Equal(t, []string{"bedrock_credentials"}, resolved(pair, "--with-keys"))
		require.Equal(t, []string{"settings", "updated_at"}, w.updated())
		require.Equal(t, strings.NewReplacer(`"AKIAX"`, `"AKIA-ENVIRONMENT-0123456789"`, `"SS"`, `"aws-environment-0123456789"`).Replace(settings), stored())
		require.Equal(t, []string{"Claude /claude.svg"}, w.strings(`SELECT display_name || ' ' || icon FROM ai_providers`))

		// As a bearer provider the row would lose what provwatch does not know.
		bearer := environ{"CODER_AIBRIDGE_ANTHROPIC_KEY": w.secret(anthropicKey)}
		for _, args := range [][]string{nil, {"--with-keys"}} {
			r := w.run(bearer, append([]string{"resolve", "anthropic", "--take", "env"}, args...)...)
			require.Equal(t, 1, r.Code, r.Stdout)
			require.Contains(t, r.Stderr, `hold what provwatch does not know and would remove: "external_id", "protocol", "role_arn"; `)
			require.NotContains(t, r.Stderr, "ext-1")
			require.Empty(t, w.updated())
		}
		p.stop()
	})
}

func testBedrockTypesAreEqual(t *testing.T) {
	t.Parallel()
	t.Run("TheGatewayRewritesTheType", func(t *testing.T) {
		t.Parallel()
		bothSourcesOf(t, newBareWorld, func(t *testing.T, w *world) {
			env := environ{
				"CODER_AIBRIDGE_BEDROCK_REGION": "us-east-1", "CODER_AIBRIDGE_OPENAI_KEY": w.secret(openAIKey),
				// A base URL with a secret is known to the WAL source by its hash alone
				// after a restart.
				"CODER_AIBRIDGE_BEDROCK_BASE_URL": "https://u:" + w.secret("bedrock-url-0123456789") + "@bedrock.invalid/",
			}
			p := w.start(env, "run").ready()
			require.Equal(t, []string{"anthropic"}, w.strings(`SELECT type::text FROM ai_providers WHERE name = 'anthropic'`))
			w.addGatewayTypes()
			var alerts []string
			// Alerts come in the order of the changes: the alert of a later change shows
			// that an earlier one caused none.
			silent := func(what string) {
				t.Helper()
				w.exec(`UPDATE ai_providers SET enabled = false WHERE name = 'openai'`)
				alerts = append(alerts, "disabled openai")
				w.expectAlerts(alerts...)
				w.exec(`UPDATE ai_providers SET enabled = true WHERE name = 'openai'`)
				alerts = append(alerts, "resolved openai")
				w.expectAlerts(alerts...)
				require.Equal(t, 0, w.run(env, "verify").Code, what)
			}
			for _, label := range []string{"bedrock", "anthropic", "bedrock"} {
				w.exec(`UPDATE ai_providers SET type = $1::text::ai_provider_type WHERE name = 'anthropic'`, label)
				silent(label)
			}
			p.stop()
			for _, label := range []string{"anthropic", "bedrock"} {
				w.exec(`UPDATE ai_providers SET type = $1::text::ai_provider_type WHERE name = 'anthropic'`, label)
				require.Equal(t, 0, w.run(env, "seed").Code, label)
				p = w.start(env, "run").ready()
				silent(label)
				p.stop()
			}
			before := w.strings(`SELECT to_jsonb(p)::text FROM ai_providers p ORDER BY id`)
			r := w.run(env, "resolve", "anthropic", "--take", "env")
			require.Equal(t, "anthropic already agrees with the environment; nothing was written.\n", r.Stdout, r.Stderr)
			require.Equal(t, before, w.strings(`SELECT to_jsonb(p)::text FROM ai_providers p ORDER BY id`))

			// Another region is a drift, which the type does not end.
			p = w.start(env, "run").ready()
			w.exec(`UPDATE ai_providers SET settings = replace(settings, 'us-east-1', 'eu-west-1') WHERE name = 'anthropic'`)
			alerts = append(alerts, "changed anthropic")
			w.expectAlerts(alerts...)
			require.Equal(t, []string{`[{"db": "eu-west-1", "env": "us-east-1", "name": "bedrock_region"}]`},
				w.strings(`SELECT fields::text FROM provwatch.drift_alerts ORDER BY seq DESC LIMIT 1`))
			require.Equal(t, 2, w.run(env, "verify").Code)
			require.Equal(t, 2, w.run(env, "seed").Code)

			// Accepted, it stays so.
			require.Equal(t, 0, w.run(env, "resolve", "anthropic", "--take", "db").Code)
			alerts = append(alerts, "resolved anthropic")
			w.expectAlerts(alerts...)
			for _, label := range []string{"anthropic", "bedrock"} {
				w.exec(`UPDATE ai_providers SET type = $1::text::ai_provider_type WHERE name = 'anthropic'`, label)
				silent(label)
				require.Equal(t, 1, w.count(`SELECT count(*) FROM provwatch.accepted_drift`))
				require.Equal(t, 0, w.run(env, "seed").Code)
			}
			p.stop()
			p = w.start(env, "run").ready()
			silent("accepted")
			p.stop()
		})
	})
	t.Run("TheEnvironmentNamesTheNewType", func(t *testing.T) {
		t.Parallel()
		bothSources(t, func(t *testing.T, w *world) {
			w.insertProvider("anthropic", "aws", "", `settings = '{"_type":"bedrock","_version":1,"region":"us-east-1","model":"m","small_fast_model":"s"}'`)
			env := environ{
				"CODER_AIBRIDGE_PROVIDER_0_TYPE": "bedrock", "CODER_AIBRIDGE_PROVIDER_0_NAME": "aws",
				"CODER_AIBRIDGE_PROVIDER_0_BEDROCK_REGION": "us-east-1",
			}
			p := w.start(env, "run").ready()
			require.Equal(t, 0, w.run(env, "verify").Code)
			w.exec(`UPDATE ai_providers SET type = 'bedrock'`)
			w.exec(`UPDATE ai_providers SET enabled = false WHERE name = 'aws'`)
			w.expectAlerts("disabled aws")
			w.exec(`UPDATE ai_providers SET enabled = true, type = 'anthropic', settings = NULL WHERE name = 'aws'`)
			w.expectAlerts("disabled aws", "changed aws")
			require.Equal(t, []string{"type", "bedrock_region"}, w.strings(`SELECT f ->> 'name' FROM provwatch.drift_alerts, jsonb_array_elements(fields) f WHERE seq = 2`))
			require.Equal(t, 2, w.run(env, "verify").Code)
			r := w.run(env, "resolve", "aws", "--take", "env")
			require.Equal(t, 0, r.Code, r.Stderr)
			w.expectAlerts("disabled aws", "changed aws", "resolved aws")
			p.stop()
		})
	})
	t.Run("ASeedStoresTheTypeThatTheGatewayWould", func(t *testing.T) {
		t.Parallel()
		w := newWorld(t)
		env := environ{"CODER_AIBRIDGE_BEDROCK_REGION": "us-east-1"}
		r := w.run(env, "seed", "--dry-run")
		require.Equal(t, 0, r.Code, r.Stderr)
		require.Contains(t, r.Squeezed().Stdout, "+ anthropic insert type bedrock")
		w.start(env, "run").ready().stop()
		require.Equal(t, []string{"anthropic bedrock"}, w.strings(`SELECT name || ' ' || type FROM ai_providers WHERE name NOT LIKE 'gw-%'`))
		require.Equal(t, []string{"bedrock"}, w.strings(`SELECT details ->> 'type' FROM provwatch.audit_log`))
		require.Empty(t, w.alerts())
	})
}
