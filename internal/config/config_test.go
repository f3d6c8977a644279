package config

import (
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/stretchr/testify/require"
)

// flags are the flags that a target can have in these tests.
var flags = []string{"source", "resync", "slot-max-lag", "cluster-name", "announce-seed", "on-boot-drift", "migrate", "compat", "credential-drift"}

func write(t *testing.T, text string) string {
	t.Helper()
	path := filepath.Join(t.TempDir(), "provwatch.yaml")
	require.NoError(t, os.WriteFile(path, []byte(text), 0o600))
	return path
}

func TestRead(t *testing.T) {
	t.Run("Targets", testReadTargets)
	t.Run("Mistakes", testReadMistakes)
	t.Run("NoFile", testReadNoFile)
	t.Run("Example", testReadExample)
}

func testReadTargets(t *testing.T) {
	path := write(t, `
targets:
  - name: billing
    env_file: billing.env
    database_url_env: BILLING_DATABASE_URL
    source: notify
    slot_max_lag: 1GiB
    encryption_keys_file: keys/billing
  - &search
    name: search-2
    env_prefix: SEARCH_
    database_url_file: /run/secrets/search
  - name: "3"
    env_prefix: THREE_
    database: host=db.example dbname=three
`)
	targets, err := Read(path, flags)
	require.NoError(t, err)
	beside := func(name string) string { return filepath.Join(filepath.Dir(path), name) }
	require.Equal(t, []Target{
		{
			Name: "billing", Line: 3, EnvFile: beside("billing.env"), EncryptionKeysFile: beside("keys/billing"), DatabaseURLEnv: "BILLING_DATABASE_URL",
			Overrides: []Override{
				{Flag: "source", Value: "notify", Line: 6}, {Flag: "slot-max-lag", Value: "1GiB", Line: 7},
			},
		},
		{Name: "search-2", Line: 9, EnvPrefix: "SEARCH_", DatabaseURLFile: "/run/secrets/search"},
		{Name: "3", Line: 13, EnvPrefix: "THREE_", Database: "host=db.example dbname=three"},
	}, targets)
}

// testReadMistakes requires all mistakes, each with line and target, and no value of the file.
func testReadMistakes(t *testing.T) {
	const usable = "env_prefix: A_, database: host=db"
	for name, c := range map[string]struct {
		text string
		want []string
	}{
		"empty":            {"", []string{": it is empty"}},
		"a comment":        {"# nothing\n", []string{": it is empty"}},
		"not YAML":         {"targets:\n  - {name: a\n  b", []string{":1: it is not YAML: did not find expected"}},
		"an anchor":        {"targets: *s3cret\n", []string{": it is not YAML"}},
		"two documents":    {"targets: [{name: a, " + usable + "}]\n---\na: 1\n", []string{":2: it holds a second document"}},
		"a text":           {"s3cret", []string{":1: the file must be a mapping"}},
		"no targets":       {"{}", []string{":1: targets is missing"}},
		"no target":        {"targets: []", []string{":1: targets must be a list"}},
		"targets a text":   {"targets: s3cret", []string{":1: targets must be a list"}},
		"an unknown field": {"target: s3cret\ntargets: [{name: a, " + usable + "}]", []string{`:1: the file has the unknown field "target"; did you mean targets?`}},
		"a misspelt field": {"targets:\n- {name: a, env_fil: s3cret, " + usable + "}", []string{`:2: target a: target 1 of the list has the unknown field "env_fil"; did you mean env_file?`}},
		"another field":    {"targets:\n- {name: a, provider: s3cret, " + usable + "}", []string{`:2: target a: target 1 of the list has the unknown field "provider", which is not one of name, `}},
		"a value alone":    {"targets:\n- {name: a, 'postgres://u:s3cret@h/d', " + usable + "}", []string{":2: target a: target 1 of the list has a field that is not one of name,"}},
		"a target a text":  {"targets: [s3cret]", []string{":1: target 1 of the list must be a mapping"}},
		"no name":          {"targets: [{" + usable + "}]", []string{":1: target 1 of the list needs a name"}},
		"a bad name":       {"targets: [{name: A_s3cret, " + usable + "}]", []string{":1: target 1 of the list needs a name"}},
		"the same name twice": {"targets:\n- {name: a, " + usable + "}\n- {name: a, " + usable + "}",
			[]string{":3: target a: the target at line 2 has the same name"}},
		"the same name for sinks twice": {"targets:\n- {name: a, cluster_name: x, " + usable + "}\n- {name: b, cluster_name: x, " + usable + "}",
			[]string{":3: target b: its cluster_name is that of target a: sinks could not distinguish their providers"}},
		"all at once": {"targets:\n- name: a\n  s3cret: s3cret\n  env_file: x\n  env_prefix: s3cret\n- name: b\n  env_file: [s3cret]\n  source:\n", []string{
			":2: target a: it needs exactly one of env_file, env_prefix, and has 2",
			":2: target a: it needs exactly one of database_url_env, database_url_file, database, and has 0",
			":3: target a: target 1 of the list has a field that is not one of name,",
			":5: target a: env_prefix must be",
			":6: target b: it needs exactly one of database_url_env",
			":7: target b: env_file must be a text",
			":8: target b: source must be a text",
		}},
		"a field twice":             {"targets: [{name: a, source: wal, source: s3cret, " + usable + "}]", []string{":1: target a: source is there twice"}},
		"a value for a variable":    {"targets: [{name: a, env_prefix: A_, database_url_env: 'postgres://u:s3cret@h/d'}]", []string{":1: target a: database_url_env must be the name of a variable"}},
		"a prefix without its end":  {"targets: [{name: a, env_prefix: A, database: host=db}]", []string{":1: target a: env_prefix must be"}},
		"a password":                {"targets: [{name: a, env_prefix: A_, database: host=db password=s3cret}]", []string{":1: target a: database must not hold a password"}},
		"a password in capitals":    {"targets: [{name: a, env_prefix: A_, database: 'PASSWORD = s3cret'}]", []string{":1: target a: database must not hold a password"}},
		"a password of a URL":       {"targets: [{name: a, env_prefix: A_, database: 'postgres://u:s3cret@h/d'}]", []string{":1: target a: database must not hold a password"}},
		"a password as a parameter": {"targets: [{name: a, env_prefix: A_, database: 'postgres://h/d?password=s3cret'}]", []string{":1: target a: database must not hold a password"}},
		"a merge":                   {"targets: [{name: a, <<: {source: s3cret}, " + usable + "}]", []string{":1: target a: target 1 of the list has a field"}},
	} {
		t.Run(name, func(t *testing.T) {
			path := write(t, c.text)
			_, err := Read(path, flags)
			var failed *Error
			require.ErrorAs(t, err, &failed)
			lines := strings.Split(err.Error(), "\n")
			require.Len(t, lines, len(c.want), err.Error())
			for i, want := range c.want {
				require.Contains(t, lines[i], path+want)
			}
			require.NotContains(t, err.Error(), "s3cret")
		})
	}
}

func testReadNoFile(t *testing.T) {
	_, err := Read("/does/not/exist.yaml", flags)
	require.EqualError(t, err, "/does/not/exist.yaml: the file of --config cannot be read: no such file or directory")
}

func testReadExample(t *testing.T) {
	targets, err := Read("../../deploy/provwatch.example.yaml", flags)
	require.NoError(t, err)
	require.Len(t, targets, 3)
	var ways [5]bool
	for _, target := range targets {
		for i, value := range []string{target.EnvFile, target.EnvPrefix, target.DatabaseURLEnv, target.DatabaseURLFile, target.Database} {
			ways[i] = ways[i] || value != ""
		}
	}
	require.Equal(t, [5]bool{true, true, true, true, true}, ways)
}
