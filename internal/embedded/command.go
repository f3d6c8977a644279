package embedded

import (
	"context"
	"maps"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"syscall"
	"time"
)

const (
	// cleanupTimeout is how long what failed, or was interrupted, may take to clean up.
	cleanupTimeout = 30 * time.Second

	// pg_ctl gives up after 60 seconds of its own accord, which a crash recovery
	// may well need; the context is the only limit here.
	noTimeout = "86400"
)

// command returns a command that runs a program of the installation in the
// data dir, as the server's account, and interrupts it when the context is
// done.
func (c *cluster) command(ctx context.Context, program string, args ...string) *exec.Cmd {
	cmd := exec.CommandContext(ctx, filepath.Join(c.binDir, program), args...)
	// Paths relative to the data dir spare pg_ctl, which goes through a shell,
	// from whatever characters there are in its path.
	cmd.Dir = c.dir
	cmd.Env = environment()
	c.account.apply(cmd)
	// A Ctrl-C in the terminal is the worker's to handle, not the program'c.
	if cmd.SysProcAttr == nil {
		cmd.SysProcAttr = new(syscall.SysProcAttr)
	}
	cmd.SysProcAttr.Setpgid = true
	cmd.Cancel = func() error { return syscall.Kill(-cmd.Process.Pid, syscall.SIGINT) }
	cmd.WaitDelay = cleanupTimeout
	return cmd
}

// output runs a command and returns what it printed. Its error is that of the
// context if this is done.
func output(ctx context.Context, cmd *exec.Cmd) (string, error) {
	out, err := cmd.CombinedOutput()
	if err != nil && ctx.Err() != nil {
		err = context.Cause(ctx)
	}
	return string(out), err
}

// startCommand returns the command that starts the server. Interrupting pg_ctl
// might leave behind a server that has not got as far as writing its
// postmaster.pid, so it is the server that is interrupted, which ends pg_ctl.
func (c *cluster) startCommand(ctx context.Context, settings map[string]string) *exec.Cmd {
	cmd := c.command(ctx, "pg_ctl", "start", "-D", "pgdata", "-l", "postgres.log", "-w", "-t", noTimeout, "-o", serverArgs(settings))
	interrupt := cmd.Cancel
	cmd.Cancel = func() error {
		for deadline := time.Now().Add(cleanupTimeout); time.Now().Before(deadline); time.Sleep(5 * time.Millisecond) {
			if p, ok := running(c.pgdata); ok {
				return syscall.Kill(p.pid, syscall.SIGINT)
			}
			if err := cmd.Process.Signal(syscall.Signal(0)); err != nil {
				return err // pg_ctl has ended
			}
		}
		return interrupt()
	}
	return cmd
}

// stopCommand returns the command that stops the server and waits for its end.
func (c *cluster) stopCommand(ctx context.Context) *exec.Cmd {
	return c.command(ctx, "pg_ctl", "stop", "-D", "pgdata", "-m", "fast", "-w", "-t", noTimeout)
}

// environment returns what the server gets of the worker's environment: not
// the PG* variables, which would change what initdb and pg_ctl do, and none of
// the worker's secrets, which any superuser of the database could read.
func environment() []string {
	env := []string{"LC_ALL=C"}
	for _, name := range []string{"PATH", "HOME", "TZ", "TMPDIR", "LD_LIBRARY_PATH", "DYLD_LIBRARY_PATH"} {
		if value, ok := os.LookupEnv(name); ok {
			env = append(env, name+"="+value)
		}
	}
	return env
}

// serverArgs returns settings as arguments for postgres, quoted for the shell
// that pg_ctl -o hands them to.
func serverArgs(settings map[string]string) string {
	var args []string
	for _, name := range slices.Sorted(maps.Keys(settings)) {
		args = append(args, "-c", `'`+strings.ReplaceAll(name+"="+settings[name], `'`, `'\''`)+`'`)
	}
	return strings.Join(args, " ")
}

// quoteLines returns the last lines of a program's output, each indented and
// on a line of its own, to be appended to an error.
func quoteLines(output string) string {
	const last = 10
	var b strings.Builder
	lines := strings.Split(strings.TrimSpace(output), "\n")
	for _, line := range lines[max(0, len(lines)-last):] {
		if line = strings.TrimRight(line, " \r"); line != "" {
			b.WriteString("\n\t" + line)
		}
	}
	return b.String()
}
