package remedy_test

import (
	"errors"
	"fmt"
	"strings"
	"testing"

	"github.com/stretchr/testify/require"

	"provwatch/internal/remedy"
)

var (
	plain  = remedy.Site{Program: "bin/worker", Settings: []string{"--env-file", "it's here"}, Tolerating: []string{"--credential-drift=alert"}}
	target = remedy.Site{Target: &remedy.Target{Name: "billing", File: "/etc/provwatch.yaml"}, Settings: []string{"--compat", "none"}}
)

func TestSite(t *testing.T) {
	for name, c := range map[string]struct {
		remedy                 remedy.Remedy
		none, plain, ofATarget string
	}{
		"migrate": {
			remedy: remedy.Run("migrate", "--source=notify"), none: "worker migrate --source=notify",
			plain: "bin/worker migrate --source=notify", ofATarget: "worker migrate --source=notify --config /etc/provwatch.yaml --target billing",
		},
		"resolve": {
			remedy: remedy.Run("resolve", "openai", "--take", "db"), none: "worker resolve openai --take db",
			plain:     `bin/worker resolve openai --take db --env-file 'it'\''s here'`,
			ofATarget: "worker resolve openai --take db --config /etc/provwatch.yaml --target billing --compat none",
		},
		"run": {
			remedy: remedy.Run("run", "--on-boot-drift=alert"), none: "worker run --on-boot-drift=alert",
			plain:     `bin/worker run --on-boot-drift=alert --credential-drift=alert --env-file 'it'\''s here'`,
			ofATarget: "on_boot_drift: alert for the target billing in /etc/provwatch.yaml",
		},
		"setting": {
			remedy: remedy.Set("--source=wal"), none: "--source=wal", plain: "--source=wal",
			ofATarget: "source: wal for the target billing in /etc/provwatch.yaml",
		},
		"setting of any value": {
			remedy: remedy.Set("--http-token-file"), none: "--http-token-file", plain: "--http-token-file",
			ofATarget: "http_token_file for the target billing in /etc/provwatch.yaml",
		},
		"repeat": {
			remedy: remedy.Repeat("--take", "env", "--with-keys"), none: "--take env --with-keys", plain: "--take env --with-keys", ofATarget: "--take env --with-keys",
		},
		"variables": {
			remedy: remedy.NameProviders(), none: "set CODER_AIBRIDGE_* variables, or --env-file", plain: "set CODER_AIBRIDGE_* variables, or --env-file",
			ofATarget: "set CODER_AIBRIDGE_* variables in the target's env_file, or variables that begin with its env_prefix",
		},
		"connection": {
			remedy:    remedy.CheckConnection(),
			none:      "check DATABASE_URL (or --database-url-file, or PG*), that the server runs, and --connect-timeout",
			plain:     "check DATABASE_URL (or --database-url-file, or PG*), that the server runs, and --connect-timeout",
			ofATarget: "check the target's database in the file of --config, that the server runs, and --connect-timeout",
		},
		"user": {
			remedy:    remedy.CheckUser(),
			none:      "check the user in DATABASE_URL (or PGUSER), and that its role is there and has LOGIN",
			plain:     "check the user in DATABASE_URL (or PGUSER), and that its role is there and has LOGIN",
			ofATarget: "check the user in the target's database_url_env, database_url_file or database (or PGUSER), and that its role is there and has LOGIN",
		},
		"password": {
			remedy:    remedy.CheckPassword(),
			none:      "check the user and the password of DATABASE_URL (or PGUSER, PGPASSWORD and PGPASSFILE)",
			plain:     "check the user and the password of DATABASE_URL (or PGUSER, PGPASSWORD and PGPASSFILE)",
			ofATarget: "check the user and the password of the target's database: those of its database_url_env or database_url_file, else PGUSER, PGPASSWORD and PGPASSFILE",
		},
		"database": {
			remedy:    remedy.CheckDatabase(),
			none:      "check the database's name in DATABASE_URL (or PGDATABASE)",
			plain:     "check the database's name in DATABASE_URL (or PGDATABASE)",
			ofATarget: "check the database's name in the target's database_url_env, database_url_file or database",
		},
	} {
		t.Run(name, func(t *testing.T) {
			require.Equal(t, c.none, c.remedy.String())
			require.Equal(t, c.none, c.remedy.LogValue().String())
			require.Equal(t, c.plain, plain.Render(c.remedy))
			require.Equal(t, c.ofATarget, target.Render(c.remedy))
		})
	}
}

func TestText(t *testing.T) {
	migrate := remedy.Problem("it is old; run ", remedy.Run("migrate"), " as the owner")
	wal := remedy.Problem("it lacks a publication; run ", remedy.Run("migrate", "--source=wal"))
	start := remedy.Problem("it drifts; use ", remedy.Run("run", "--on-boot-drift=alert"))
	err := fmt.Errorf("boot: %w", errors.Join(errors.New("another"), migrate, fmt.Errorf("WAL: %w", wal), start))
	require.EqualError(t, err, `boot: another
it is old; run "worker migrate" as the owner
WAL: it lacks a publication; run "worker migrate --source=wal"
it drifts; use "worker run --on-boot-drift=alert"`)
	require.Equal(t, err.Error(), remedy.Site{}.Text(err))
	require.Equal(t, `boot: another
it is old; run "worker migrate --config /etc/provwatch.yaml --target billing" as the owner
WAL: it lacks a publication; run "worker migrate --source=wal --config /etc/provwatch.yaml --target billing"
it drifts; use on_boot_drift: alert for the target billing in /etc/provwatch.yaml`, target.Text(err))

	rendered := target.Error(err)
	require.EqualError(t, rendered, target.Text(err))
	require.ErrorIs(t, rendered, wal)
	require.Equal(t, rendered.Error(), target.Text(rendered), "it is rendered once")
	require.NoError(t, target.Error(nil))
	other := errors.New(`run "worker migrate"`)
	require.Same(t, other, target.Error(other), "it has no remedy")

	wrapping := remedy.Problem(migrate, "; repeat with ", remedy.Repeat("--force"))
	require.ErrorIs(t, wrapping, migrate)
	require.EqualError(t, wrapping, `it is old; run "worker migrate" as the owner; repeat with --force`)
	require.Equal(t, []remedy.Remedy{remedy.Repeat("--force"), remedy.Run("migrate")}, remedy.Of(wrapping))
}

func TestAdvice(t *testing.T) {
	advice := remedy.Advice{remedy.Run("resolve", "a", "--take", "env"), ", or ", remedy.Run("resolve", "a", "--take", "db")}
	require.Equal(t, "worker resolve a --take env, or worker resolve a --take db", advice.String())
	require.Equal(t, `bin/worker resolve a --take env --env-file 'it'\''s here', or bin/worker resolve a --take db --env-file 'it'\''s here'`, plain.Advice(advice))
}

func TestQuote(t *testing.T) {
	for word, want := range map[string]string{
		"/etc/a-b_c.env": "/etc/a-b_c.env", "--resync=5m": "--resync=5m", "": "''", "a b": "'a b'", "$HOME": "'$HOME'", "it's": `'it'\''s'`, "=ls": "'=ls'",
	} {
		require.Equal(t, want, remedy.Quote(word))
	}
}

// TestLongText renders an error of as many providers as an environment can name, which
// takes one pass, and a text that is rendered already.
func TestLongText(t *testing.T) {
	const providers = 20_000
	var list []error
	for i := range providers {
		list = append(list, remedy.Problem("run ", remedy.Run("resolve", fmt.Sprintf("provider-%d", i), "--take", "db"), " or ", remedy.Run("migrate")))
	}
	err := target.Error(errors.Join(list...))
	lines := strings.Split(err.Error(), "\n")
	require.Len(t, lines, providers)
	for i, line := range lines {
		require.Equal(t, fmt.Sprintf(`run "worker resolve provider-%d --take db --config /etc/provwatch.yaml --target billing --compat none" or "worker migrate --config /etc/provwatch.yaml --target billing"`, i), line)
	}
	require.Equal(t, err.Error(), target.Text(err))
	require.Equal(t, "boot: "+err.Error(), target.Text(fmt.Errorf("boot: %w", err)))
}
