//go:build e2e

package test

import (
	"fmt"
	"net"
	"os"
	"os/exec"
	"os/user"
	"path/filepath"
	"strings"
	"sync/atomic"
	"syscall"
	"testing"

	"github.com/stretchr/testify/require"
)

// decoy is a server that counts connections and never answers.
type decoy struct {
	url         string
	connections atomic.Int64
}

func newDecoy(t *testing.T, w *world) *decoy {
	t.Helper()
	listener, err := net.Listen("tcp", "127.0.0.1:0")
	require.NoError(t, err)
	d := &decoy{url: "postgres://u:" + w.secret("pw-of-the-decoy") + "@" + listener.Addr().String() + "/d"}
	done := make(chan struct{})
	go func() {
		defer close(done)
		for {
			conn, err := listener.Accept()
			if err != nil {
				return
			}
			d.connections.Add(1)
			_ = conn.Close()
		}
	}()
	t.Cleanup(func() {
		_ = listener.Close()
		<-done
	})
	return d
}

func TestBadInput(t *testing.T) {
	t.Parallel()
	t.Run("FailsBeforeConnecting", testBadInputFailsBeforeConnecting)
	t.Run("UnreadableFileIsNamed", testBadInputUnreadableFileIsNamed)
}

func testBadInputFailsBeforeConnecting(t *testing.T) {
	t.Parallel()
	w := &world{t: t}
	d := newDecoy(t, w)
	good := environ{"DATABASE_URL": d.url, "CODER_AIBRIDGE_OPENAI_KEY": w.secret(openAIKey)}
	const pasted = "sk-pasted-in-the-wrong-place-0123456789"
	w.secret(pasted)
	malformed := w.file("malformed.env", "CODER_AIBRIDGE_OPENAI_KEY=fine\nCODER_AIBRIDGE_ANTHROPIC_KEY "+pasted+"\n")
	folder := t.TempDir()
	absent := filepath.Join(folder, "absent.env")

	tests := []struct {
		name string
		env  environ // beside good
		args string
		want string // without "worker: " and the final line break
	}{
		{"unknown command", nil, "frobnicate", `unknown command; see "worker --help"`},
		{"misspelt command", nil, "verfy", `unknown command; did you mean "verify"? See "worker --help"`},
		{"unknown command of a group", nil, "sinks frobnicate", `unknown command; "worker sinks" has list, retry; see "worker sinks --help"`},
		{"misspelt command of a group", nil, "sinks retr", `unknown command; did you mean "retry"? See "worker sinks --help"`},
		{"unknown shell", nil, "completion nosh", `the shell must be one of bash, fish, powershell, zsh; see "worker completion --help"`},
		{"no shell", nil, "completion", `the shell must be one of bash, fish, powershell, zsh; see "worker completion --help"`},
		{"help of an unknown command", nil, "help frobnicate", `unknown command; see "worker --help"`},
		{"help of an unknown command of a group", nil, "help sinks retr", `unknown command; did you mean "retry"? See "worker sinks --help"`},
		{"argument too many", nil, "run now", `"worker run" takes no arguments; see "worker run --help"`},
		{"variable as an argument", nil, "run CODER_AIBRIDGE_OPENAI_KEY=" + pasted, `"worker run" takes no arguments; set a variable before the command, as in NAME=VALUE worker run; see "worker run --help"`},
		{"variable as a command", nil, "CODER_AIBRIDGE_OPENAI_KEY=" + pasted, `unknown command; set a variable before the command, as in NAME=VALUE worker; see "worker --help"`},
		{"unknown flag", nil, "run --frob", `unknown flag; see "worker run --help"`},
		{"misspelt flag", nil, "run --htp-addr=x", `unknown flag; did you mean --http-addr? See "worker run --help"`},
		{"flag of another command", nil, "verify --resync=1m", `--resync is a flag of "worker run"; see "worker verify --help"`},
		{"flag without value", nil, "watch --since", `--since needs a value; see "worker watch --help"`},
		{"not a duration", nil, "run --resync=soon", `the value of --resync cannot be used: want a duration, such as 30s; see "worker run --help"`},
		{"duration without a unit", nil, "run --resync=5", `the value of --resync cannot be used: want a duration with its unit, such as 5s; see "worker run --help"`},
		{"not a number", nil, "watch --since=first", `the value of --since cannot be used: want a whole number; see "worker watch --help"`},
		{"negative duration", nil, "run --resync=-1s", "--resync (or PROVWATCH_RESYNC) must be positive, such as 30s"},
		{"zero timeout", nil, "verify --connect-timeout=0s", "--connect-timeout (or PROVWATCH_CONNECT_TIMEOUT) must be positive, such as 30s"},
		{"zero shutdown", nil, "run --shutdown-timeout=0s", "--shutdown-timeout (or PROVWATCH_SHUTDOWN_TIMEOUT) must be positive, such as 30s"},
		{"no such form", nil, "verify -o yaml", `--output (or PROVWATCH_OUTPUT) must be one of text, json`},
		{"no such log form", nil, "run --log-format=xml", `--log-format (or PROVWATCH_LOG_FORMAT) must be one of text, json`},
		{"no such level", nil, "run --log-level=loud", `--log-level (or PROVWATCH_LOG_LEVEL) must be one of debug, info, warn, error`},
		{"no such migration mode", nil, "seed --migrate=maybe", `--migrate (or PROVWATCH_MIGRATE) must be one of auto, check, off`},
		{"no such credential mode", nil, "verify --credential-drift=fail", `--credential-drift (or PROVWATCH_CREDENTIAL_DRIFT) must be one of ignore, warn, alert`},
		{"no such compat", nil, "seed --compat=upstream", `--compat (or PROVWATCH_COMPAT) must be one of none, upstream-credentials`},
		{"compat that nobody minds", environ{"PROVWATCH_COMPAT": "upstream-credentials"}, "run --on-boot-drift=alert",
			"--compat=upstream-credentials finds credentials that differ at the start, which --on-boot-drift=alert leaves to the watch, " +
				"and that ignores them: use --on-boot-drift=fail, or set --credential-drift (or PROVWATCH_CREDENTIAL_DRIFT) to warn or alert"},
		{"no such drift mode", nil, "run --on-boot-drift=ignore", `--on-boot-drift (or PROVWATCH_ON_BOOT_DRIFT) must be one of fail, alert, apply`},
		{"observe and migrate", environ{"PROVWATCH_MIGRATE": "auto"}, "run --observe", `--observe does not migrate: use --migrate=check or --migrate=off, and run "worker migrate" as the owner`},
		{"observe and fail", nil, "run --observe --on-boot-drift=fail", "--observe always alerts the drifts of the start: use --on-boot-drift=alert, or leave it out"},
		{"observe and announce", environ{"PROVWATCH_OBSERVE": "true"}, "run --announce-seed", "--observe seeds nothing that --announce-seed could announce: use one of them"},
		{"observe without a database", environ{"DATABASE_URL": ""}, "run --observe", "--observe (or PROVWATCH_OBSERVE) is for a database that its owner has prepared: set DATABASE_URL or --database-url-file"},
		{"observe and compat", environ{"PROVWATCH_COMPAT": "upstream-credentials"}, "run --observe",
			"--compat=upstream-credentials finds credentials that differ at the start, which --observe leaves to the watch, " +
				"and that ignores them: set --credential-drift (or PROVWATCH_CREDENTIAL_DRIFT) to warn or alert"},
		{"debug without HTTP", nil, "run --debug", "--debug (or PROVWATCH_DEBUG) serves the profiler on --http-addr, which is not set"},
		{"several", environ{"PROVWATCH_CONNECT_TIMEOUT": "soon"}, "run --source=notfy --resync=0", "PROVWATCH_CONNECT_TIMEOUT cannot be used for --connect-timeout: want a duration, such as 30s\n" +
			"--source (or PROVWATCH_SOURCE) must be one of auto, notify, wal\n--resync (or PROVWATCH_RESYNC) must be positive, such as 30s"},
		{"HTTP address without port", nil, "run --http-addr=localhost", "--http-addr (or PROVWATCH_HTTP_ADDR) must be HOST:PORT, such as 127.0.0.1:9464"},
		{"HTTP address of no port", nil, "run --http-addr=127.0.0.1:many", "--http-addr (or PROVWATCH_HTTP_ADDR) must be HOST:PORT, such as 127.0.0.1:9464"},
		{"HTTP port too large", nil, "run --http-addr=127.0.0.1:65536", "--http-addr (or PROVWATCH_HTTP_ADDR) must be HOST:PORT, such as 127.0.0.1:9464"},

		{"variable not a duration", environ{"PROVWATCH_RESYNC": pasted}, "run", "PROVWATCH_RESYNC cannot be used for --resync: want a duration, such as 30s"},
		{"variable not a bool", environ{"PROVWATCH_DEBUG": pasted}, "run", "PROVWATCH_DEBUG cannot be used for --debug: want true or false"},
		{"variable of no choice", environ{"PROVWATCH_MIGRATE": "maybe"}, "run", `--migrate (or PROVWATCH_MIGRATE) must be one of auto, check, off`},
		{"variable of no choice, alone", environ{"PROVWATCH_ON_BOOT_DRIFT": "maybe"}, "", `--on-boot-drift (or PROVWATCH_ON_BOOT_DRIFT) must be one of fail, alert, apply`},
		{"variable not positive", environ{"PROVWATCH_CONNECT_TIMEOUT": "-5s"}, "migrate", "--connect-timeout (or PROVWATCH_CONNECT_TIMEOUT) must be positive, such as 30s"},

		{"database URL that does not parse", environ{"DATABASE_URL": "postgres://u:" + pasted + "@host:port/d"}, "run",
			"DATABASE_URL has a port that is not a number from 1 to 65535: percent-encode special characters of the password, which may have ended up there"},
		{"database URL that is none", environ{"DATABASE_URL": pasted}, "watch",
			"DATABASE_URL is not a connection string: write a URL that begins with postgres:// or postgresql://, or libpq keywords such as host=HOST dbname=NAME"},
		{"PG variables that cannot be used", environ{"DATABASE_URL": "", "PGHOST": "h", "PGPORT": "many", "PGPASSWORD": pasted}, "run",
			"PGPORT has a port that is not a number from 1 to 65535: it must hold that value alone; a connection string goes into DATABASE_URL"},

		{"broken environment", environ{
			"CODER_AIBRIDGE_PROVIDER_0_TYPE": "openai", "CODER_AIBRIDGE_PROVIDER_0_NAME": "No_" + pasted,
			"CODER_AIBRIDGE_PROVIDER_0_BASE_URL": "not a url " + pasted,
			"CODER_AIBRIDGE_PROVIDER_2_KEYS":     pasted + ",," + pasted,
			"CODER_AI_GATEWAY_OPENAI_KEY":        pasted,
		}, "run", strings.Join([]string{
			"7 errors in the environment:",
			"  CODER_AI_GATEWAY_OPENAI_KEY: is set to another value than CODER_AIBRIDGE_OPENAI_KEY, which means the same; remove one of them",
			"  CODER_AIBRIDGE_PROVIDER_0_BASE_URL: is not an absolute http or https URL with a host; write it as https://HOST/PATH",
			"  CODER_AIBRIDGE_PROVIDER_0_NAME: the name does not match ^[a-z0-9]+(-[a-z0-9]+)*$ (lower-case letters and digits, with single hyphens between)",
			"  CODER_AIBRIDGE_PROVIDER_2_KEYS: index 1 is skipped; number the providers 0, 1, 2, … without a gap",
			"  CODER_AIBRIDGE_PROVIDER_2_KEYS: its provider has no type; set CODER_AIBRIDGE_PROVIDER_2_TYPE to " +
				"anthropic, azure, bedrock, copilot, google, openai, openai-compat, openrouter or vercel",
			"  CODER_AIBRIDGE_PROVIDER_2_KEYS: element 1 is empty; remove it, or the comma before or after it",
			"  CODER_AIBRIDGE_PROVIDER_2_KEYS: element 2 repeats element 0",
		}, "\n")},
		{"environment file that is not there", nil, "run --env-file=" + absent,
			"1 error in the environment:\n  " + absent + ": the environment file cannot be read: no such file or directory"},
		{"environment file that is a folder", environ{"PROVWATCH_ENV_FILE": folder}, "verify",
			"1 error in the environment:\n  " + folder + ": the environment file cannot be read: it is a directory, not a regular file"},
		{"environment file that does not parse", nil, "seed --env-file=" + malformed,
			"1 error in the environment:\n  " + malformed + ": line 2: missing =; write NAME=value, with the value in single quotes if it holds \", # or \\"},
	}
	for _, test := range tests {
		t.Run(test.name, func(t *testing.T) {
			w := &world{t: t, secrets: w.secrets}
			env := good
			for name, value := range test.env {
				env = env.With(name, value)
			}
			require.Equal(t, result{Code: 3, Stderr: "worker: " + test.want + "\n"}, w.run(env, strings.Fields(test.args)...))
			for _, secret := range w.secrets {
				require.NotContains(t, w.emitted.String(), secret)
			}
		})
	}
	require.Zero(t, d.connections.Load(), "nothing connects")

	// The decoy would have noticed.
	r := w.run(good, "run", "--connect-timeout=2s")
	require.Equal(t, 4, r.Code)
	require.NotZero(t, d.connections.Load())
	require.NotContains(t, r.Stderr, "pw-of-the-decoy")
}

func testBadInputUnreadableFileIsNamed(t *testing.T) {
	t.Parallel()
	if os.Geteuid() != 0 {
		t.Skip("needs root, who runs the worker as somebody else")
	}
	nobody, err := user.Lookup("nobody")
	require.NoError(t, err)
	w := &world{t: t}
	file := w.file("closed.env", "CODER_AIBRIDGE_OPENAI_KEY="+w.secret(openAIKey)+"\n")
	require.NoError(t, os.Chmod(file, 0o600))
	for dir := filepath.Dir(file); dir != os.TempDir() && dir != "/"; dir = filepath.Dir(dir) {
		require.NoError(t, os.Chmod(dir, 0o755))
	}
	var uid, gid uint32
	_, err = fmt.Sscan(nobody.Uid+" "+nobody.Gid, &uid, &gid)
	require.NoError(t, err)
	command := w.command(environ{"DATABASE_URL": "postgres://127.0.0.1:1/d"}, "run", "--env-file", file)
	command.SysProcAttr = &syscall.SysProcAttr{Credential: &syscall.Credential{Uid: uid, Gid: gid}}
	out, err := command.CombinedOutput()
	var exit *exec.ExitError
	require.ErrorAs(t, err, &exit)
	require.Equal(t, 3, exit.ExitCode())
	require.Equal(t, "worker: 1 error in the environment:\n  "+file+": the environment file cannot be read: permission denied\n", string(out))
}
