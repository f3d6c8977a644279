//go:build e2e

package test

import (
	"strings"
	"syscall"
	"testing"

	"github.com/stretchr/testify/require"
)

func TestEnvironment(t *testing.T) {
	t.Parallel()
	t.Run("FieldNames", testEnvironmentFieldNames)
	t.Run("Values", testEnvironmentValues)
	t.Run("SharedFile", testEnvironmentSharedFile)
	t.Run("SecretFiles", testEnvironmentSecretFiles)
	t.Run("SettingsOfAnotherKind", testEnvironmentSettingsOfAnotherKind)
}

func testEnvironmentSecretFiles(t *testing.T) {
	t.Parallel()
	w := newWorldWithoutRows(t, "notify")
	openAI := w.file("openai", w.secret("made-up-key-0001")+"\n")
	google := w.file("google", w.secret("made-up-key-0002")+"\r\n"+w.secret("made-up,key-0003")+"\n")
	env := environ{
		"CODER_AIBRIDGE_OPENAI_KEY_FILE":      openAI,
		"CODER_AIBRIDGE_PROVIDER_0_TYPE":      "google",
		"CODER_AIBRIDGE_PROVIDER_0_KEYS_FILE": google,
	}
	r := w.run(env, "seed")
	require.Equal(t, 0, r.Code, r.Stderr)
	require.NotContains(t, r.Stderr, "level=WARN")
	require.ElementsMatch(t, []string{"made-up-key-0001", "made-up-key-0002", "made-up,key-0003"}, w.strings(`SELECT api_key FROM ai_provider_keys`))

	r = w.run(env.With("CODER_AIBRIDGE_OPENAI_KEY", w.secret("made-up-key-0004")).With("CODER_AIBRIDGE_PROVIDER_0_KEYS_FILE", google+".absent"), "run")
	require.Equal(t, result{Code: 3, Stderr: "worker: 2 errors in the environment:\n" +
		"  CODER_AIBRIDGE_OPENAI_KEY_FILE: cannot be combined with CODER_AIBRIDGE_OPENAI_KEY; remove one of them\n" +
		"  CODER_AIBRIDGE_PROVIDER_0_KEYS_FILE: the file " + google + ".absent cannot be read: no such file or directory\n"}, r)
}

func testEnvironmentFieldNames(t *testing.T) {
	t.Parallel()
	w := newWorldWithoutRows(t, "")
	env := environ{
		"CODER_AIBRIDGE_PROVIDER_0_Type": "openai",
		"CODER_AIBRIDGE_PROVIDER_0_Name": "test",
		"CODER_AIBRIDGE_PROVIDER_0_keys": w.secret(openAIKey),
		"CODER_AIBRIDGE_Anthropic_Key":   w.secret(anthropicKey),
	}
	r := w.run(env, "seed")
	require.Equal(t, 0, r.Code, r.Stderr)
	require.NotContains(t, r.Stderr, "level=WARN")
	require.Equal(t, []string{"anthropic 1", "test 1"},
		w.strings(`SELECT name || ' ' || (SELECT count(*) FROM ai_provider_keys WHERE provider_id = p.id) FROM ai_providers p ORDER BY name`))

	// Two spellings of one field are an error, equal values included.
	r = w.run(env.With("CODER_AIBRIDGE_PROVIDER_0_NAME", "test"), "run")
	require.Equal(t, result{Code: 3, Stderr: "worker: 1 error in the environment:\n" +
		"  CODER_AIBRIDGE_PROVIDER_0_Name: spells the field of CODER_AIBRIDGE_PROVIDER_0_NAME in another way; remove one of them\n"}, r)
}

func testEnvironmentValues(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	r := w.run(environ{
		"CODER_AIBRIDGE_OPENAI_KEY":                w.secret("made-up-key-0001") + "\n",
		"CODER_AIBRIDGE_BEDROCK_REGION":            "us-east-1\r\n",
		"CODER_AIBRIDGE_PROVIDER_0_TYPE":           "google",
		"CODER_AIBRIDGE_PROVIDER_0_KEYS":           w.secret("made-up-key-0002") + "\t," + w.secret("made-up-key-0003"),
		"CODER_AIBRIDGE_PROVIDER_0_UNKNOWN_TO_ALL": "a\nb",
	}, "run")
	require.Equal(t, 3, r.Code)
	require.Contains(t, r.Stderr, block(`
		worker: 3 errors in the environment:
		  CODER_AIBRIDGE_BEDROCK_REGION: ends with a line break; set it without one
		  CODER_AIBRIDGE_OPENAI_KEY: ends with a line break; set it without one
		  CODER_AIBRIDGE_PROVIDER_0_KEYS: element 0 holds a control character, such as a line break or a tab; remove it
		`))

	// A warning each, and stored as they are.
	env := environ{
		"CODER_AIBRIDGE_OPENAI_KEY":         w.secret(`"made-up-key-0004"`),
		"CODER_AIBRIDGE_OPENAI_BASE_URL":    "https://north.invalid/v1/ ",
		"CODER_AIBRIDGE_PROVIDER_0_TYPE":    "google",
		"CODER_AIBRIDGE_PROVIDER_0_KEY":     w.secret("${GOOGLE_KEY:-made-up-key-0005}"),
		"CODER_AIBRIDGE_ANTHROPIC_KEY":      w.secret("$(MADE_UP_NAME)"),
		"CODER_AIBRIDGE_ANTHROPIC_DUMP_DIR": `"${HOME}" `,
	}
	r = w.run(env, "seed")
	require.Equal(t, 0, r.Code, r.Stderr)
	for _, warning := range []string{
		`msg="is in quotes, which.*variable=CODER_AIBRIDGE_OPENAI_KEY`,
		`msg="begins or ends with a space.*variable=CODER_AIBRIDGE_OPENAI_BASE_URL`,
		`msg="holds a reference.*variable=CODER_AIBRIDGE_PROVIDER_0_KEY`,
		`msg="holds a reference.*variable=CODER_AIBRIDGE_ANTHROPIC_KEY`,
	} {
		require.Regexp(t, warning, r.Stderr)
	}
	require.Equal(t, 4, strings.Count(r.Stderr, "level=WARN"), r.Stderr)
	require.Equal(t, []string{"https://north.invalid/v1/ "}, w.strings(`SELECT base_url FROM ai_providers WHERE name = 'openai'`))
}

func testCompatEntriesOfOneName(t *testing.T) {
	t.Parallel()
	w := newWorldOf(t, "notify")
	first, second := w.secret("made-up-key-0001"), w.secret("made-up-key-0002")
	text := func(second string) string {
		return strings.Join([]string{
			"CODER_AIBRIDGE_PROVIDER_0_TYPE=openai", "CODER_AIBRIDGE_PROVIDER_0_NAME=north", "CODER_AIBRIDGE_PROVIDER_0_KEYS=" + first,
			"CODER_AIBRIDGE_PROVIDER_1_TYPE=openai", "CODER_AIBRIDGE_PROVIDER_1_NAME=north", "CODER_AIBRIDGE_PROVIDER_1_KEYS=" + second,
		}, "\n")
	}
	file := w.file("providers.env", text(second))
	const problem = "CODER_AIBRIDGE_PROVIDER_1_NAME: its provider has the name that CODER_AIBRIDGE_PROVIDER_0_NAME gives to another one, and its keys differ; " +
		"with --compat=upstream-credentials they must agree: give it another name, or remove one of the two"
	for _, command := range []string{"run", "seed", "verify"} {
		require.Equal(t, result{Code: 3, Stderr: "worker: 1 error in the environment:\n  " + problem + "\n"},
			w.run(nil, command, "--env-file="+file, "--compat=upstream-credentials"))
	}
	urlFile := w.file("database.url", w.url)
	config := w.file("provwatch.yaml", "targets:\n  - {name: one, env_file: "+file+", compat: upstream-credentials, database_url_file: "+urlFile+"}\n")
	r := w.run(environ{"DATABASE_URL": ""}, "verify", "--config="+config, "--target=one")
	require.Equal(t, 3, r.Code, r.Stderr)
	require.Contains(t, r.Stderr, problem)

	// Without it the second key set is dropped, with a warning.
	r = w.run(nil, "seed", "--env-file="+file, "--dry-run")
	require.Equal(t, 0, r.Code, r.Stderr)
	require.Contains(t, r.Stderr, "its keys differ and are ignored")

	// A reload is refused as a start is.
	w.rewrite(file, text(first))
	p := w.start(nil, "run", "--env-file="+file, "--compat=upstream-credentials").ready()
	w.rewrite(file, text(second))
	p.signal(syscall.SIGHUP)
	p.waitFor("level=ERROR", "the environment cannot be used, keeping the one in use", "its keys differ")
	p.stop()
}

func testEnvironmentSharedFile(t *testing.T) {
	t.Parallel()
	w := newWorldWithoutRows(t, "notify")
	key := w.secret("made-up-key-0001")
	certificate := "CA_CERT=\"-----BEGIN CERTIFICATE-----\n" + w.secret("MIIBmade-up+certificate/") + "\n-----END CERTIFICATE-----\"\n"
	shared := "\ufeffexport LANG\nexport CODER_AIBRIDGE_PROVIDER_0_TYPE=openai\nspring.name=x\n" + certificate +
		"CODER_AIBRIDGE_PROVIDER_0_NAME='north'\nCODER_AIBRIDGE_PROVIDER_0_KEYS=" + key
	file := w.file("shared.env", shared)
	p := w.start(nil, "run", "--env-file="+file).ready()
	require.Equal(t, 1, p.logged("level=WARN", "variable="))
	require.Equal(t, 1, p.logged(`msg="lines 1, 4 to 6 passed over: not NAME=value, and no provider variable" variable=`+file))
	require.Equal(t, []string{"north"}, w.strings(`SELECT name FROM ai_providers`))

	// A reload passes the same lines over, and refuses a line of a provider variable.
	p.signal(syscall.SIGHUP)
	p.waitFor("environment reloaded", "providers=1")
	require.Equal(t, 2, p.logged("level=WARN", "lines 1, 4 to 6 passed over"))
	w.rewrite(file, shared+"\nexport CODER_AI_GATEWAY_PROVIDER_1_TYPE\n")
	p.signal(syscall.SIGHUP)
	p.waitFor("level=ERROR", "the environment cannot be used, keeping the one in use", "line 9: missing =")
	p.stop()
}

func testEnvironmentSettingsOfAnotherKind(t *testing.T) {
	t.Parallel()
	bothSources(t, func(t *testing.T, w *world) {
		w.migrate()
		secret := w.secret("made-up-header-0001")
		headers := `{"_type":"upstream-headers","headers":{ "x-key" : "` + secret + `" },"_version":3}`
		w.insertProvider("openai-compat", "north", "https://north.invalid/v1/")
		w.insertProvider("openai", "openai", "https://api.openai.com/v1/", `settings = 'ciphertext', settings_key_id = NULL`)
		w.exec(`UPDATE ai_providers SET settings = $1 WHERE name = 'north'`, headers)
		env := environ{
			"CODER_AIBRIDGE_PROVIDER_0_TYPE":     "openai-compat",
			"CODER_AIBRIDGE_PROVIDER_0_NAME":     "north",
			"CODER_AIBRIDGE_PROVIDER_0_BASE_URL": "https://north.invalid/v1/",
			"CODER_AIBRIDGE_OPENAI_KEY":          w.secret(openAIKey),
		}
		r := w.run(env, "seed", "--dry-run")
		require.Equal(t, 0, r.Code, r.Stderr)
		require.Contains(t, r.Stdout, "Plan: 0 to insert,")
		p := w.start(env, "run").ready()
		require.Equal(t, 0, w.run(env, "verify").Code)
		r = w.run(env, "status")
		require.Equal(t, 0, r.Code, r.Stderr)
		require.Regexp(t, `north +in sync`, r.Stdout)
		require.Regexp(t, `openai +in sync`, r.Stdout)

		// Other settings are no change, also those that make a Bedrock row of another type.
		w.exec(`UPDATE ai_providers SET settings = '{"_type":"bedrock","_version":1,"region":"us-east-1"}' WHERE name = 'openai'`)
		w.exec(`UPDATE ai_providers SET base_url = 'https://south.invalid/' WHERE name = 'north'`)
		w.expectAlerts("changed north")
		r = w.run(env, "resolve", "north", "--take", "env", "--with-keys")
		require.Equal(t, 0, r.Code, r.Stderr)
		require.Contains(t, r.Squeezed().Stdout, "base_url https://north.invalid/v1/ https://south.invalid/")
		w.expectAlerts("changed north", "resolved north")
		require.Equal(t, []string{headers}, w.strings(`SELECT settings FROM ai_providers WHERE name = 'north'`))

		// A type whose hash needs them makes them count.
		w.exec(`UPDATE ai_providers SET type = 'anthropic' WHERE name = 'openai'`)
		w.expectAlerts("changed north", "resolved north", "changed openai")
		w.exec(`UPDATE ai_providers SET type = 'openai' WHERE name = 'openai'`)
		w.expectAlerts("changed north", "resolved north", "changed openai", "resolved openai")
		p.stop()
		require.Equal(t, 0, w.run(env, "seed").Code)
	})
}
