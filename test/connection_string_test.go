//go:build e2e

package test

import (
	"os"
	"path/filepath"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/stretchr/testify/require"
)

// malformed are texts that are no connection string, or one in which the password's
// special characters are not escaped.
func malformed(host string) map[string]string {
	const password = "S3cretQz7vLk9x"
	url := "postgres://app:" + password + "@" + host + "/gateway?sslmode=disable"
	return map[string]string{
		"in quotes": `"` + url + `"`, "in single quotes": "'" + url + "'", "leading space": " " + url, "line break": url + "\n",
		"byte order mark": "\uFEFF" + url, "another scheme": "mysql://app:" + password + "@h/x?x=1", "misspelt scheme": "postgress" + url[8:],
		"no colon": "Postgres//app:" + password + "@" + host + "/gateway?sslmode=disable", "with its name": "DATABASE_URL=" + url,
		"slash":         "postgres://app:" + password[:6] + "/" + password[6:] + "@" + host + "/gateway",
		"digits, slash": "postgres://127.0.0.1:5432/" + password + "@" + host + "/gateway?sslmode=disable",
		"at":            "postgres://app:" + password[:6] + "@" + password[6:] + "@" + host + "/gateway", "percent": "postgres://app:" + password[:6] + "%zz" + password[6:] + "@" + host + "/gateway",
		"question mark":  "postgres://app:" + password[:6] + "?" + password[6:] + "=1@" + host + "/gateway",
		"space in value": "host=127.0.0.1 password=" + password[:6] + " " + password[6:],
		"not quoted":     "host=127.0.0.1 password=" + password[:6] + " " + strings.ToLower(password[6:]) + "=1 dbname=gateway",
		"semicolons":     "host=127.0.0.1;user=app;password=" + password, "the password": password, "a word and a sign": password + "=",
		"no such keyword": "host=127.0.0.1 passwd=" + password, "no such sslmode": url[:len(url)-len("disable")] + "bogus", "keyword that is not honoured": url + "&sslcrl=/crl",
	}
}

// requireNoPieceOfPassword requires that no four characters of it are in the text.
func requireNoPieceOfPassword(t *testing.T, text, message string) {
	t.Helper()
	for _, password := range []string{"S3cretQz7vLk9x", "qz7vlk9x"} {
		for i := range len(password) - 3 {
			require.NotContains(t, text, password[i:i+4], message)
		}
	}
}

func TestSensitiveInput(t *testing.T) {
	t.Parallel()
	t.Run("NoConnectionString", testSecretInputNoConnectionString)
	t.Run("SinkURLs", testSecretInputSinkURLs)
	t.Run("ConnectionStringAsFolder", testSecretInputConnectionStringAsFolder)
}

// testSecretInputNoConnectionString gives every command every such
// text, beside PG* variables by which it could connect.
func testSecretInputNoConnectionString(t *testing.T) {
	t.Parallel()
	w := &world{t: t}
	d := newDecoy(t, w)
	address := strings.TrimSuffix(d.url[strings.Index(d.url, "@")+1:], "/d")
	host, port, _ := strings.Cut(address, ":")
	provider := environ{"CODER_AIBRIDGE_OPENAI_KEY": w.secret(openAIKey)}
	libpq := provider.With("PGHOST", host).With("PGPORT", port).With("PGUSER", "u").With("PGDATABASE", "d")
	commands := [][]string{{"run"}, {"seed"}, {"status"}, {"verify"}, {"migrate"}}
	dir := t.TempDir()
	config := writeFile(t, filepath.Join(dir, "provwatch.yaml"), `
targets:
  - {name: variable, env_prefix: CODER_AIBRIDGE_, database_url_env: A_URL}
  - {name: file, env_prefix: CODER_AIBRIDGE_, database_url_file: url}
`)

	check := func(name string, r result) {
		t.Helper()
		require.Equal(t, 3, r.Code, "%s: %s", name, r.Stderr)
		requireNoPieceOfPassword(t, r.Stdout+r.Stderr, name)
	}
	n := 0
	for name, text := range malformed(address) {
		for _, env := range []environ{provider, libpq} {
			command := commands[n%len(commands)] // each text by two, each command by several texts
			n++
			r := w.run(env.With("DATABASE_URL", text), command...)
			check(name, r)
			require.Contains(t, r.Stderr, "DATABASE_URL ", name)
		}
		check("database: "+name, w.run(libpq.With("DATABASE_URL", ""), "run", "--config="+writeFile(t, filepath.Join(dir, "inline.yaml"),
			"targets:\n- {name: a, env_prefix: CODER_AIBRIDGE_, database: '"+strings.ReplaceAll(strings.TrimSpace(text), "'", "''")+"'}\n")))

		content := text
		if trimmed := strings.TrimSpace(text); trimmed != text {
			content = `"` + trimmed + `"` // spaces around the text of a file do not count
		}
		writeFile(t, filepath.Join(dir, "url"), content)
		r := w.run(libpq.With("DATABASE_URL", ""), "verify", "--database-url-file="+filepath.Join(dir, "url"))
		check("--database-url-file: "+name, r)
		require.Contains(t, r.Stderr, filepath.Join(dir, "url")+" ", name)
		for _, args := range [][]string{{"run", "--config=" + config}, {"status", "--config=" + config, "--target=file"}} {
			r := w.run(libpq.With("DATABASE_URL", "").With("A_URL", text), args...)
			check("--config: "+name, r)
			require.Contains(t, r.Stderr, config+":3: target variable: A_URL ", name)
			require.Contains(t, r.Stderr, config+":4: target file: "+filepath.Join(dir, "url")+" ", name)
		}
	}
	for _, variable := range []string{"PGHOST", "PGDATABASE", "PGUSER", "PGAPPNAME"} {
		r := w.run(libpq.With("DATABASE_URL", "").With(variable, malformed(address)["in quotes"]), "verify")
		check(variable, r)
		require.Contains(t, r.Stderr, variable+" has ")
	}
	require.Zero(t, d.connections.Load(), "nothing connects")

	// The decoy would have noticed.
	r := w.run(libpq.With("DATABASE_URL", "sslmode=disable"), "verify", "--connect-timeout=2s")
	require.Equal(t, 4, r.Code, r.Stderr)
	require.Positive(t, d.connections.Load())
}

// testSecretInputSinkURLs gives the URLs of sinks whose passwords are not
// escaped.
func testSecretInputSinkURLs(t *testing.T) {
	t.Parallel()
	w := &world{t: t}
	d := newDecoy(t, w)
	env := environ{"DATABASE_URL": d.url, "CODER_AIBRIDGE_OPENAI_KEY": w.secret(openAIKey)}
	secret := writeFile(t, filepath.Join(t.TempDir(), "secret"), "0123456789abcdef\n")
	for variable, flags := range map[string][]string{
		"PROVWATCH_WEBHOOK_URL": {"--webhook-secret-file=" + secret}, "PROVWATCH_ALERTMANAGER_URL": nil, "PROVWATCH_NATS_URL": nil,
	} {
		scheme := "https"
		if variable == "PROVWATCH_NATS_URL" {
			scheme = "nats"
		}
		for _, url := range []string{
			scheme + "://app:S3cret/Qz7vLk9x@h:4222", scheme + "://app:12/S3cretQz7vLk9x@h:4222", scheme + "://app:12?S3cretQz7vLk9x@h:4222", scheme + "://app:12#S3cretQz7vLk9x@h:4222",
			scheme + "://app:S3cret%zzQz7vLk9x@h:4222", `"` + scheme + `://app:S3cretQz7vLk9x@h:4222"`, scheme + "//app:S3cretQz7vLk9x@h:4222",
		} {
			r := w.run(env.With(variable, url), append([]string{"run"}, flags...)...)
			require.Equal(t, 3, r.Code, "%s %s: %s", variable, url, r.Stderr)
			requireNoPieceOfPassword(t, r.Stdout+r.Stderr, url)
		}
	}
	require.Zero(t, d.connections.Load())
}

// testSecretInputConnectionStringAsFolder gives it by the flag and by the variable
// of the private PostgreSQL's folder, which is made where it is absent and then shown.
func testSecretInputConnectionStringAsFolder(t *testing.T) {
	t.Parallel()
	w := &world{t: t}
	dir := t.TempDir()
	env := environ{"DATABASE_URL": "", "CODER_AIBRIDGE_OPENAI_KEY": w.secret(openAIKey)}
	for _, text := range []string{
		"postgres://app:S3cretQz7vLk9x@h/gateway", `"postgresql://app:S3cretQz7vLk9x@h/gateway"`, "postgres:/app:S3cretQz7vLk9x@h/gateway",
		"jdbc:postgresql://h/gateway?user=app&password=S3cretQz7vLk9x", "host=h user=app password=S3cretQz7vLk9x",
	} {
		for _, command := range []string{"run", "status", "resolve openai --take=db"} {
			r := w.run(env, append(strings.Fields(command), "--data-dir="+filepath.Join(dir, text))...)
			require.Equal(t, 3, r.Code, "%s: %s", command, r.Stderr)
			require.Contains(t, r.Stderr, "--data-dir (or PROVWATCH_DATA_DIR) must be the path of a folder; a connection string goes into DATABASE_URL")
			requireNoPieceOfPassword(t, r.Stdout+r.Stderr, text)
		}
		r := w.run(env.With("PROVWATCH_DATA_DIR", text), "run")
		require.Equal(t, 3, r.Code, r.Stderr)
		requireNoPieceOfPassword(t, r.Stdout+r.Stderr, text)
	}
	made, err := os.ReadDir(dir)
	require.NoError(t, err)
	require.Empty(t, made)
}

func TestIrregularFiles(t *testing.T) {
	t.Parallel()
	t.Run("AreRefused", testIrregularFilesAreRefused)
	t.Run("PipeAtReloadChangesNothing", testIrregularFilesPipeAtReloadChangesNothing)
}

// testIrregularFilesAreRefused gives every flag and field that names a file
// a pipe without a writer, a device without end, a folder and too large a file.
func testIrregularFilesAreRefused(t *testing.T) {
	t.Parallel()
	w := &world{t: t}
	d := newDecoy(t, w)
	env := environ{"DATABASE_URL": d.url, "CODER_AIBRIDGE_OPENAI_KEY": w.secret(openAIKey)}
	dir := t.TempDir()
	fifo, large, secret := filepath.Join(dir, "fifo"), filepath.Join(dir, "large"), writeFile(t, filepath.Join(dir, "secret"), "0123456789abcdef\n")
	require.NoError(t, syscall.Mkfifo(fifo, 0o600))
	require.NoError(t, os.WriteFile(large, nil, 0o600))
	require.NoError(t, os.Truncate(large, 10<<20+1))

	config := func(field string) []string {
		return []string{"run", "--config=" + writeFile(t, filepath.Join(dir, "provwatch.yaml"), "targets:\n- {name: a, env_prefix: CODER_AIBRIDGE_, "+field+"}\n")}
	}
	for file, want := range map[string]string{
		fifo: "it is a pipe, not a regular file", "/dev/zero": "it is a device, not a regular file", dir: "it is a directory, not a regular file", large: "it is larger than ",
	} {
		for name, args := range map[string][]string{
			"env": {"run", "--env-file=" + file}, "env of seed": {"seed", "--env-file=" + file}, "token": {"run", "--http-addr=127.0.0.1:0", "--http-token-file=" + file},
			"config": {"run", "--config=" + file}, "config of status": {"status", "--target=a", "--config=" + file},
			"webhook's secret": {"run", "--webhook-url=http://127.0.0.1:1", "--webhook-secret-file=" + file}, "webhook's CA": {"run", "--webhook-url=http://127.0.0.1:1", "--webhook-secret-file=" + secret, "--webhook-ca-file=" + file},
			"NATS creds": {"run", "--nats-url=nats://127.0.0.1:1", "--nats-creds=" + file}, "NATS CA": {"run", "--nats-url=nats://127.0.0.1:1", "--nats-ca-file=" + file},
			"database_url_file": config("database_url_file: " + file), "database's URL": {"verify", "--database-url-file=" + file},
		} {
			with := env
			if all := strings.Join(args, " "); strings.Contains(all, "--config") || strings.Contains(all, "--database-url-file") {
				with = env.With("DATABASE_URL", "")
			}
			start := time.Now()
			r := w.run(with, args...)
			require.Equal(t, 3, r.Code, "%s of %s: %s", name, file, r.Stderr)
			require.Contains(t, r.Stderr, want, "%s of %s", name, file)
			require.Less(t, time.Since(start), patience)
		}
		for _, variable := range []string{"PGPASSFILE", "PGSSLROOTCERT"} {
			r := w.run(env.With("DATABASE_URL", "host=127.0.0.1 port=1").With(variable, file), "verify")
			require.Equal(t, 3, r.Code, "%s of %s: %s", variable, file, r.Stderr)
			require.Contains(t, r.Stderr, want)
		}
	}
	require.Zero(t, d.connections.Load())
}

// testIrregularFilesPipeAtReloadChangesNothing replaces the file of a running
// worker by a pipe, which keeps neither the worker nor SIGTERM waiting.
func testIrregularFilesPipeAtReloadChangesNothing(t *testing.T) {
	t.Parallel()
	w := newWorldOf(t, "notify")
	file := filepath.Join(t.TempDir(), "provwatch.env")
	writeFile(t, file, "CODER_AIBRIDGE_OPENAI_KEY="+w.secret(openAIKey)+"\n")
	p := w.start(nil, "run", "--env-file="+file).ready()
	require.NoError(t, os.Remove(file))
	require.NoError(t, syscall.Mkfifo(file, 0o600))
	p.signal(syscall.SIGHUP)
	p.waitFor("level=ERROR", "it is a pipe, not a regular file")
	w.exec(`UPDATE ai_providers SET enabled = false WHERE name = 'openai'`)
	w.expectAlerts("disabled openai")
	p.signal(syscall.SIGHUP)
	p.stop()
}
