//go:build e2e

package test

import (
	"cmp"
	"os"
	"os/user"
	"regexp"
	"strconv"
	"strings"
	"testing"
	"time"

	"github.com/stretchr/testify/require"
)

// operator is the actor that the worker names, run by this test's user.
func (w *world) operator() string {
	w.t.Helper()
	actor := "operator:role=" + cmp.Or(w.login["resolve"], w.db.Config().User)
	if u, err := user.LookupId(strconv.Itoa(os.Getuid())); err == nil {
		actor += ",user=" + u.Username
	}
	return actor + ",uid=" + strconv.Itoa(os.Getuid())
}

func TestResolve(t *testing.T) {
	t.Parallel()
	t.Run("TakeEnv", testResolveTakeEnv)
	t.Run("TakeDBHoldsUntilEitherSideChanges", testResolveTakeDBHoldsUntilEitherSideChanges)
	t.Run("Several", testResolveSeveral)
	t.Run("AcceptanceExpires", testResolveAcceptanceExpires)
	t.Run("Refusals", testResolveRefusals)
}

func testResolveTakeEnv(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	const model = `"model": "m", "small_fast_model": "s"`
	env := w.twoProviders()
	for name, value := range map[string]string{
		"TYPE": "anthropic", "NAME": "aws", "BEDROCK_REGION": "eu-west-1", "BEDROCK_MODEL": "m", "BEDROCK_SMALL_FAST_MODEL": "s",
		"BEDROCK_ACCESS_KEY": w.secret("AKIA0123456789ENVIRONMENT"), "BEDROCK_ACCESS_KEY_SECRET": w.secret("aws-secret-0123456789-environment"),
	} {
		env["CODER_AIBRIDGE_PROVIDER_0_"+name] = value
	}
	w.start(env, "run").ready().stop()
	p := w.start(env, "run").ready()
	w.exec(`TRUNCATE provwatch.audit_log`) // of the seed
	var alerts []string
	drift := func(script string, want ...string) {
		t.Helper()
		w.exec(script)
		alerts = append(alerts, want...)
		w.expectAlerts(alerts...)
	}
	resolve := func(output, provider string, args ...string) {
		t.Helper()
		r := w.run(env, append([]string{"resolve", provider, "--take", "env"}, args...)...)
		require.Equal(t, 0, r.Code, r.Stderr)
		require.Equal(t, output, strings.SplitAfter(r.Stdout, "\n")[0])
		alerts = append(alerts, "resolved "+provider)
		w.expectAlerts(alerts...)
	}
	row := func(name string) []string {
		t.Helper()
		return w.strings(`SELECT format('%s %s %s %s %s', type, base_url, enabled, deleted, settings) FROM ai_providers WHERE name = $1`, name)
	}
	keys := func() []string {
		t.Helper()
		return w.strings(`SELECT to_jsonb(k)::text FROM ai_provider_keys k ORDER BY id`)
	}
	keysOf := func(name string) []string {
		t.Helper()
		return w.strings(`SELECT api_key FROM ai_provider_keys k JOIN ai_providers p ON p.id = k.provider_id WHERE p.name = $1`, name)
	}
	openAIRow := []string{"openai https://api.openai.com/v1/ t f "}
	stored := keys()

	drift(`UPDATE ai_providers SET base_url = 'https://proxy.example/', type = 'anthropic' WHERE name = 'openai'`, "changed openai")
	resolve("openai was changed; the environment's fields are written, its keys are not.\n", "openai")
	require.Equal(t, openAIRow, row("openai"))
	require.Equal(t, []string{`{"changes": [{"new": "openai", "old": "anthropic", "field": "type"}, ` +
		`{"new": "https://api.openai.com/v1/", "old": "https://proxy.example/", "field": "base_url"}], ` +
		`"db_hash": "` + w.strings(`SELECT db_hash FROM provwatch.drift_alerts WHERE seq = 1`)[0] + `", "env_hash": "` + openAIHash + `"}`},
		w.delivered(`SELECT details::text FROM provwatch.audit_log`))

	drift(`UPDATE ai_providers SET enabled = false WHERE name = 'openai'`, "disabled openai")
	resolve("openai was disabled; the environment's fields are written, its keys are not.\n", "openai")
	require.Equal(t, openAIRow, row("openai"))
	drift(`UPDATE ai_providers SET deleted = true WHERE name = 'openai'`, "deleted openai")
	resolve("openai was soft-deleted; the environment's fields are written, its keys are not.\n", "openai")
	require.Equal(t, openAIRow, row("openai"))
	require.Equal(t, stored, keys())

	drift(`DELETE FROM ai_providers WHERE name = 'openai'`, "missing openai")
	resolve("openai was missing; the environment's fields are written, and it has no keys: "+
		"repeat with --with-keys to write those of the environment.\n", "openai")
	require.Equal(t, openAIRow, row("openai"))
	require.Empty(t, keysOf("openai"))
	drift(`DELETE FROM ai_providers WHERE name = 'openai'`, "missing openai")
	resolve("openai was missing; the environment's fields and keys are written.\n", "openai", "--with-keys")
	require.Equal(t, []string{openAIKey}, keysOf("openai"))

	// Only with keys the stored ones are replaced.
	w.exec(`UPDATE ai_provider_keys k SET api_key = $1 FROM ai_providers p WHERE p.id = k.provider_id AND p.name = 'openai'`,
		w.secret("sk-rotated-0123456789-abcdefghij"))
	drift(`UPDATE ai_providers SET enabled = false WHERE name = 'openai'`, "disabled openai")
	resolve("openai was disabled; the environment's fields are written, its keys are not.\n", "openai")
	require.Equal(t, []string{"sk-rotated-0123456789-abcdefghij"}, keysOf("openai"))
	drift(`UPDATE ai_providers SET enabled = false WHERE name = 'openai'`, "disabled openai")
	resolve("openai was disabled; the environment's fields and keys are written.\n", "openai", "--with-keys")
	require.Equal(t, []string{openAIKey}, keysOf("openai"))

	// A Bedrock provider keeps its rotated credentials.
	drift(`UPDATE ai_providers SET settings = '{"_type": "bedrock", "_version": 1, "region": "us-east-1", `+model+`, "access_key": "`+
		w.secret("AKIA-ROTATED-0123456789")+`", "access_key_secret": "`+w.secret("aws-rotated-0123456789")+`"}' WHERE name = 'aws'`, "changed aws")
	resolve("aws was changed; the environment's fields are written, its keys are not.\n", "aws")
	require.Equal(t, []string{`bedrock  t f {"_type": "bedrock", "_version": 1, "region": "eu-west-1", ` + model +
		`, "access_key": "AKIA-ROTATED-0123456789", "access_key_secret": "aws-rotated-0123456789"}`}, row("aws"))

	// One that becomes a bearer provider would lose them.
	drift(`UPDATE ai_providers SET settings = (SELECT settings FROM ai_providers WHERE name = 'aws') WHERE name = 'anthropic'`, "changed anthropic")
	before := w.dumpBesideWorker()
	require.Equal(t, result{Code: 1, Stderr: `worker: resolve provider "anthropic": its stored Bedrock credentials (access_key, access_key_secret) would be removed, ` +
		"since the environment's provider is not a Bedrock one; repeat with --with-keys\n"}, w.run(env, "resolve", "anthropic", "--take", "env"))
	require.Equal(t, before, w.dumpBesideWorker())
	resolve("anthropic was changed; the environment's fields and keys are written.\n", "anthropic", "--with-keys")
	require.Equal(t, []string{"anthropic https://api.anthropic.com/ t f "}, row("anthropic"))
	require.Equal(t, []string{anthropicKey}, keysOf("anthropic"))

	require.Equal(t, 0, w.run(env, "verify").Code)

	// In sync: nothing is written.
	before = w.dumpBesideWorker()
	require.Equal(t, result{Code: 0, Stdout: "openai already agrees with the environment; nothing was written.\n"}, w.run(env, "resolve", "openai", "--take", "env"))
	require.Equal(t, before, w.dumpBesideWorker())
	w.expectAlerts(alerts...)

	require.Equal(t, []string{w.operator()}, w.delivered(`SELECT DISTINCT actor FROM provwatch.audit_log`))
	require.Equal(t, []string{
		"provider.update openai", "provider.update openai", "provider.update openai", // changed, disabled, deleted
		"provider.create openai",                                        // missing
		"provider.create openai", "provider_key.create openai ****ENAI", // missing, with keys
		"provider.update openai",
		"provider.update openai", "provider_key.delete openai ****ghij", "provider_key.create openai ****ENAI",
		"provider.update aws",
		"provider.update anthropic", // whose key was stored already
	}, w.strings(`SELECT concat_ws(' ', action, provider, details ->> 'masked_key') FROM provwatch.audit_log ORDER BY seq`))
	p.stop()
}

func testResolveTakeDBHoldsUntilEitherSideChanges(t *testing.T) {
	t.Parallel()
	const changed = `UPDATE ai_providers SET base_url = 'https://proxy.example/v1' WHERE name = 'openai'`
	for kind, drift := range map[string]string{
		"changed":  changed,
		"disabled": `UPDATE ai_providers SET enabled = false WHERE name = 'openai'`,
		"deleted":  `UPDATE ai_providers SET deleted = true WHERE name = 'openai'`,
	} {
		t.Run(kind, func(t *testing.T) {
			t.Parallel()
			w := newWorld(t)
			env := w.twoProviders()
			p := w.start(env, "run").ready()
			w.exec(drift)
			w.expectAlerts(kind + " openai")
			providers := w.strings(`SELECT to_jsonb(p)::text FROM ai_providers p ORDER BY id`)
			r := w.run(env, "resolve", "openai", "--take", "db")
			require.Equal(t, 0, r.Code, r.Stderr)
			label := map[string]string{"changed": "changed", "disabled": "disabled", "deleted": "soft-deleted"}[kind]
			require.Equal(t, "openai was "+label+", which is now accepted until either side changes.\n", strings.SplitAfter(r.Stdout, "\n")[0])
			want := []string{kind + " openai", "resolved openai"}
			w.expectAlerts(want...)
			accepted := w.strings(`SELECT to_jsonb(a)::text FROM provwatch.accepted_drift a`)
			r = w.run(env, "resolve", "openai", "--take", "db")
			require.Equal(t, 0, r.Code, r.Stderr)
			require.Equal(t, "openai is "+label+", which is already accepted until either side changes; nothing was written.\n", strings.SplitAfter(r.Stdout, "\n")[0])
			require.Equal(t, accepted, w.strings(`SELECT to_jsonb(a)::text FROM provwatch.accepted_drift a`))
			require.Equal(t, providers, w.strings(`SELECT to_jsonb(p)::text FROM ai_providers p ORDER BY id`), "the database's side stands")
			require.Equal(t, []string{w.operator() + " drift.accept openai " + kind},
				w.delivered(`SELECT concat_ws(' ', actor, action, provider, details ->> 'kind') FROM provwatch.audit_log WHERE actor <> 'system'`))

			// The next boots neither fail nor alert.
			p.stop()
			require.Equal(t, 0, w.run(env, "seed").Code)
			require.Equal(t, 0, w.run(env, "seed", "--dry-run").Code)
			r = w.run(env, "verify")
			require.Equal(t, 0, r.Code)
			require.Regexp(t, `(?m)^openai +`+label+`, accepted `, r.Stdout)
			p = w.start(env, "run").ready()
			w.expectAlerts(want...)

			// The database's side changes: alerted, and the acceptance is gone for
			// good, also when the change is taken back.
			w.exec(`UPDATE ai_providers SET base_url = base_url || '/elsewhere' WHERE name = 'openai'`)
			want = append(want, kind+" openai")
			w.expectAlerts(want...)
			require.Zero(t, w.count(`SELECT count(*) FROM provwatch.accepted_drift`))
			w.exec(`UPDATE ai_providers SET base_url = replace(base_url, '/elsewhere', '') WHERE name = 'openai'`)
			if kind != "deleted" { // of which the values do not matter
				want = append(want, kind+" openai")
			}
			w.expectAlerts(want...)
			require.Equal(t, 2, w.run(env, "verify").Code)

			// Accepted again; then the environment's side changes.
			require.Equal(t, 0, w.run(env, "resolve", "openai", "--take", "db", "-o", "json").Code)
			want = append(want, "resolved openai")
			w.expectAlerts(want...)
			p.stop()
			other := env.With("CODER_AIBRIDGE_OPENAI_BASE_URL", "https://another.example/v1")
			require.Equal(t, 2, w.run(other, "verify").Code)
			if kind != "deleted" {
				require.Equal(t, 2, w.run(other, "seed").Code)
				require.Equal(t, 2, w.run(other, "run").Code)
			}
			p = w.start(other, "run", "--on-boot-drift=alert").ready()
			want = append(want, kind+" openai")
			w.expectAlerts(want...)
			require.Equal(t, []string{"boot"}, w.strings(`SELECT source FROM provwatch.drift_alerts ORDER BY seq DESC LIMIT 1`))
			p.stop()
			// It is not withdrawn for this: a worker with the environment for which it
			// was accepted, as during a deployment, still has it.
			p = w.start(env, "run").ready()
			want = append(want, "resolved openai")
			w.expectAlerts(want...)
			p.stop()
		})
	}
}

// testResolveSeveral resolves several drifts at once beside a worker, also those of a target
// of --config, with a reason; and has dry runs print the same and write nothing.
func testResolveSeveral(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	env := w.twoProviders()
	config := w.file("provwatch.yaml", "targets:\n  - {name: one, env_file: "+w.file("providers.env", env.File())+
		", database_url_file: "+w.file("database.url", w.as("test_operator"))+"}\n")
	p := w.start(env, "run").ready()
	w.exec(`UPDATE ai_providers SET base_url = 'https://proxy.example/' WHERE name = 'openai'; DELETE FROM ai_providers WHERE name = 'anthropic'`)
	want := []string{"missing anthropic", "changed openai"}
	eventually(t, func() bool { return len(w.alerts()) == 2 }, "both are alerted")
	require.ElementsMatch(t, want, w.alerts())
	before := w.dumpBesideWorker()
	for _, way := range []struct {
		env  environ
		args []string
	}{{env, nil}, {environ{"DATABASE_URL": ""}, []string{"--config=" + config, "--target=one"}}} {
		r := w.run(way.env, append([]string{"resolve", "--all", "--take=env", "--with-keys", "--dry-run"}, way.args...)...)
		require.Equal(t, result{Code: 0, Stdout: block(`
			anthropic is missing; the environment's fields and keys would be written.
			FIELD     ENVIRONMENT                 DATABASE
			type      anthropic                   -
			base_url  https://api.anthropic.com/  -
			api_keys  1                           -
			openai is changed; the environment's fields would be written, its keys were stored already.
			FIELD     ENVIRONMENT                 DATABASE
			base_url  https://api.openai.com/v1/  https://proxy.example/
			Dry run: nothing was written.
			`)}, r)
		r = w.run(way.env, append([]string{"resolve", "openai", "anthropic", "--take=db"}, way.args...)...)
		require.Equal(t, result{Code: 1, Stderr: `worker: resolve 2 providers, all or none: provider "anthropic": it has no row that could be kept, ` +
			"and the next boot seeds it again; remove its variables (CODER_AIBRIDGE_ANTHROPIC_*) instead\n"}, r)
		r = w.run(way.env, append([]string{"resolve", "openai", "openai", "--take=db", "--dry-run", "-o", "json", "--reason=planned"}, way.args...)...)
		require.Equal(t, 0, r.Code, r.Stderr)
		require.JSONEq(t, `{"taken": "db", "dry_run": true, "reason": "planned", "outcomes": [{
			"provider": "openai", "provider_id": "`+w.strings(`SELECT id::text FROM ai_providers WHERE name = 'openai'`)[0]+`", "kind": "changed",
			"fields": [{"name": "base_url", "env": "https://api.openai.com/v1/", "db": "https://proxy.example/"}],
			"keys_replaced": false, "keys_agree": false, "keys_differ": false, "already_accepted": false}]}`, r.Stdout)
		require.Equal(t, before, w.dumpBesideWorker())
	}

	r := w.run(env, "resolve", "anthropic", "openai", "--take=env", "--reason", "rotated by mistake: see ticket 12")
	require.Equal(t, 0, r.Code, r.Stderr)
	want = append(want, "resolved anthropic", "resolved openai")
	eventually(t, func() bool { return len(w.alerts()) == len(want) }, "both have ended")
	require.ElementsMatch(t, want, w.alerts())
	require.Equal(t, []string{
		w.operator() + " provider.create anthropic rotated by mistake: see ticket 12",
		w.operator() + " provider.update openai rotated by mistake: see ticket 12",
	}, w.delivered(`SELECT concat_ws(' ', actor, action, provider, details ->> 'reason') FROM provwatch.audit_log WHERE actor <> 'system' ORDER BY seq`))
	require.Equal(t, result{Code: 0, Stdout: "No provider drifts; nothing was written.\n"}, w.run(env, "resolve", "--all", "--take=db"))

	w.exec(`UPDATE ai_providers SET enabled = false`)
	eventually(t, func() bool { return len(w.alerts()) == len(want)+2 }, "both are alerted")
	r = w.run(env, "resolve", "--all", "--take=db", "--reason", "switched off until Monday")
	require.Equal(t, 0, r.Code, r.Stderr)
	eventually(t, func() bool { return len(w.alerts()) == len(want)+4 }, "both are accepted")
	r = w.run(env, "status")
	require.Equal(t, 0, r.Code, r.Stderr)
	require.Regexp(t, `(?m)^openai +\S+Z +- +`+regexp.QuoteMeta(w.operator())+` +switched off until Monday$`, r.Stdout)
	r = w.run(env, "verify", "-o", "json")
	require.Equal(t, 0, r.Code, r.Stderr)
	require.Equal(t, 2, strings.Count(r.Stdout, `"accepted": true`), r.Stdout)
	require.Equal(t, 2, w.count(`SELECT count(*) FROM provwatch.accepted_drift WHERE reason = 'switched off until Monday'`))
	p.stop()
}

// testResolveAcceptanceExpires accepts a drift until a time, which passes beside a worker and
// while none runs.
func testResolveAcceptanceExpires(t *testing.T) {
	t.Parallel()
	bothSourcesOf(t, newWorldWithoutRows, func(t *testing.T, w *world) {
		env := w.twoProviders()
		p := w.start(env, "run", "--resync=200ms").ready()
		w.exec(`UPDATE ai_providers SET base_url = 'https://proxy.example/' WHERE name = 'openai'`)
		w.expectAlerts("changed openai")
		r := w.run(env, "resolve", "openai", "--take=db", "--expires=5s")
		require.Equal(t, 0, r.Code, r.Stderr)
		require.Regexp(t, `^openai was changed, which is now accepted until 20\d\d-\S+Z, or until either side changes\.\n`, r.Stdout)
		w.expectAlerts("changed openai", "resolved openai", "changed openai")
		require.Zero(t, w.count(`SELECT count(*) FROM provwatch.accepted_drift`))
		require.Equal(t, 2, w.run(env, "verify").Code)

		at := time.Now().Add(36 * time.Hour).UTC().Truncate(time.Second)
		r = w.run(env, "resolve", "openai", "--take=db", "--expires", at.In(time.FixedZone("", 2*60*60)).Format(time.RFC3339), "-o", "json")
		require.Equal(t, 0, r.Code, r.Stderr)
		require.Contains(t, r.Stdout, `"accepted_until": "`+at.Format(time.RFC3339)+`"`)
		w.expectAlerts("changed openai", "resolved openai", "changed openai", "resolved openai")
		r = w.run(env, "status", "-o", "json")
		require.Contains(t, r.Stdout, `"accepted_until": "`+at.Format(time.RFC3339)+`"`)
		require.Equal(t, 0, w.run(env, "verify").Code)
		p.stop()

		// It ends while no worker runs.
		require.Equal(t, 0, w.run(env, "seed").Code)
		w.exec(`UPDATE provwatch.accepted_drift SET expires_at = now()`)
		require.Equal(t, 2, w.run(env, "verify").Code)
		require.Equal(t, 2, w.run(env, "seed").Code)
		r = w.run(env, "status")
		require.Contains(t, r.Stdout, "2 providers: 1 drifted, 1 in sync.\n")
		p = w.start(env, "run", "--on-boot-drift=alert").ready()
		w.expectAlerts("changed openai", "resolved openai", "changed openai", "resolved openai", "changed openai")
		require.Equal(t, []string{"boot"}, w.strings(`SELECT source FROM provwatch.drift_alerts ORDER BY seq DESC LIMIT 1`))
		p.stop()
	})
}

func testResolveRefusals(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	env := w.twoProviders()
	require.Equal(t, 0, w.run(env, "seed").Code)
	w.exec(`DELETE FROM ai_providers WHERE name = 'openai'`)
	w.exec(`INSERT INTO ai_providers (id, type, name, base_url, enabled) VALUES (gen_random_uuid(), 'openai', 'experiment', 'https://h/', true),
		(gen_random_uuid(), 'openai', 'disabled', 'https://h/', false)`)
	const unknown = "the environment names no provider of that name, and there is no enabled row of it; "
	const aboutRows = `accept an unmanaged row with "worker resolve NAME --take db", name it in the environment, or disable or delete it`
	before := w.dump()
	for _, test := range []struct {
		args string
		code int
		want string
	}{
		{"openai --take db", 1, `resolve provider "openai": it has no row that could be kept, and the next boot seeds it again; ` +
			"remove its variables (CODER_AIBRIDGE_OPENAI_*) instead"},
		{"nobody --take env", 3, `the environment names no provider of that name; run "worker verify" with the same environment to list its providers; ` + aboutRows},
		{"nobody --take db", 3, unknown + `run "worker verify" with the same environment to list its providers and the unmanaged ones`},
		{"opnai --take db", 3, unknown + `did you mean openai? Or run "worker verify" with the same environment to list its providers and the unmanaged ones`},
		{"experimnt --take db", 3, unknown + `did you mean experiment? Or run "worker verify" with the same environment to list its providers and the unmanaged ones`},
		{"experiment --take env", 3, `the environment names no provider of that name; run "worker verify" with the same environment to list its providers; ` + aboutRows},
		{"disabled --take db", 3, unknown + `run "worker verify" with the same environment to list its providers and the unmanaged ones`},
		{"openai", 3, "--take must be env (write the environment's fields to the database) or db (accept the database's)"},
		{"openai --take both", 3, "--take must be env (write the environment's fields to the database) or db (accept the database's)"},
		{"openai --take db --with-keys", 3, "--with-keys goes with --take env"},
		{"--take db", 3, `name the providers to resolve, or give --all for every provider that drifts; see "worker resolve --help"`},
		{"openai --all --take db", 3, `give names or --all, not both; see "worker resolve --help"`},
		{"anthropic antropic sk-secret --take db", 3, `argument 2: ` + unknown + `did you mean anthropic? ` +
			"Or run \"worker verify\" with the same environment to list its providers and the unmanaged ones\n" +
			`argument 3: ` + unknown + `run "worker verify" with the same environment to list its providers and the unmanaged ones`},
		{"openai --take env --expires 7d", 3, "--expires goes with --take db"},
		{"openai --take db --expires 0d", 3, "--expires must be a positive duration, such as 7d, or a time with its zone, such as 2026-08-01T18:00:00Z"},
		{"openai --take db --expires 2100-01-01", 3, "--expires must be a positive duration, such as 7d, or a time with its zone, such as 2026-08-01T18:00:00Z"},
		{"openai --take db --expires 2020-01-01T00:00:00Z", 3, "--expires must be in the future"},
		{"openai --take db --reason \x1b[31m", 3, "--reason must be a text of at most 500 characters, without control characters"},
		{"openai --take db --reason " + strings.Repeat("é", 501), 3, "--reason must be a text of at most 500 characters, without control characters"},
	} {
		r := w.run(env, append([]string{"resolve"}, strings.Fields(test.args)...)...)
		require.Equal(t, result{Code: test.code, Stderr: "worker: " + test.want + "\n"}, r, test.args)
	}
	// Another environment than that of the workers, or none: the rows are not unmanaged for that.
	for _, c := range []struct {
		env  environ
		want string
	}{
		{env.With("CODER_AIBRIDGE_ANTHROPIC_KEY", ""), "the environment here names no provider of that name, and that of the workers does; give the command the environment of the workers"},
		{nil, "the environment names no provider: "},
	} {
		r := w.run(c.env, "resolve", "anthropic", "--take=db")
		require.Equal(t, 3, r.Code, r.Stderr)
		require.Contains(t, r.Stderr, c.want)
	}
	require.Equal(t, before, w.dump())
}
