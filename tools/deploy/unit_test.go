//go:build nspawn

package deploy

import (
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"strconv"
	"strings"
	"testing"

	"github.com/stretchr/testify/require"

	"provwatch/internal/waittest"
)

// machine is a Debian with systemd and PostgreSQL that runs in a container.
type machine struct {
	t      *testing.T
	leader string // the PID of its systemd
}

// newMachine boots the Debian in the folder DEBIAN, which is made where there is
// none and not written to afterwards.
func newMachine(t *testing.T) *machine {
	t.Helper()
	tree := os.Getenv("DEBIAN")
	require.NotEmpty(t, tree, "the folder of a Debian")
	require.Zero(t, os.Getuid(), "only root can boot a container")
	if _, err := os.Stat(filepath.Join(tree, "etc", "os-release")); err != nil {
		// Under another name until it is whole.
		require.NoError(t, os.RemoveAll(tree+".new"))
		out, err := exec.Command("debootstrap", "--variant=minbase", "--include=systemd-sysv,dbus,postgresql,procps", "bookworm", tree+".new").CombinedOutput()
		require.NoError(t, err, "%s", out)
		require.NoError(t, os.Rename(tree+".new", tree))
	}
	documents, err := filepath.Abs(repository)
	require.NoError(t, err)
	nspawn := exec.Command("systemd-nspawn", "--directory", tree, "--volatile=overlay", "--machine=provwatch-test", "--register=no", "--keep-unit",
		"--private-network", "--console=pipe", "--bind-ro="+worker+":/usr/local/bin/worker", "--bind-ro="+documents+"/deploy:/root/deploy", "--boot")
	nspawn.Env = append(os.Environ(), "SYSTEMD_NSPAWN_UNIFIED_HIERARCHY=1")
	var said strings.Builder
	nspawn.Stdout, nspawn.Stderr = &said, &said
	require.NoError(t, nspawn.Start())
	m := &machine{t: t}
	t.Cleanup(func() {
		if m.leader != "" {
			_, _ = m.try("systemctl poweroff")
		} else {
			_ = nspawn.Process.Kill()
		}
		_ = nspawn.Wait()
		if t.Failed() {
			t.Log(said.String())
		}
	})
	children := fmt.Sprintf("/proc/%d/task/%[1]d/children", nspawn.Process.Pid)
	m.until("the machine has started", func() bool {
		content, err := os.ReadFile(children)
		require.NoError(t, err, said.String())
		for _, child := range strings.Fields(string(content)) {
			if name, err := os.ReadFile("/proc/" + child + "/comm"); err == nil && string(name) == "systemd\n" {
				m.leader = child
			}
		}
		return m.leader != ""
	})
	m.until("its systemd answers", func() bool {
		out, _ := m.try("systemctl is-system-running")
		return out == "running" || out == "degraded"
	})
	return m
}

// try runs a command of the shell in the machine.
func (m *machine) try(command string) (string, error) {
	out, err := exec.Command("nsenter", "--target", m.leader, "--all", "--wdns=/root", "env", "-i",
		"PATH=/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin", "sh", "-ec", command).CombinedOutput()
	return strings.TrimSpace(string(out)), err
}

func (m *machine) do(command string) string {
	m.t.Helper()
	out, err := m.try(command)
	require.NoError(m.t, err, "%s\n%s\n%s", command, out, m.log())
	return out
}

func (m *machine) log() string {
	out, _ := m.try("journalctl --no-pager --unit provwatch --output cat | tail -n 30")
	return out
}

func (m *machine) until(what string, condition func() bool) {
	m.t.Helper()
	waittest.Until(m.t, condition, "%s\n%s", what, waittest.Lazy(func() any { return m.log() }))
}

// unit returns a property of the unit.
func (m *machine) unit(property string) string {
	m.t.Helper()
	return m.do("systemctl show --property " + property + " --value provwatch")
}

// set sets a variable of the unit's environment file.
func (m *machine) set(name, value string) {
	m.t.Helper()
	m.do(fmt.Sprintf("sed -i '/^%[1]s=/d' /etc/provwatch/provwatch.env && echo '%[1]s=%[2]s' >>/etc/provwatch/provwatch.env", name, value))
}

// TestBootedUnit installs the unit as docs/deployment.md says, and takes it through a life
// beside a PostgreSQL.
func TestBootedUnit(t *testing.T) {
	document, err := os.ReadFile(repository + "/docs/deployment.md")
	require.NoError(t, err)
	block := regexp.MustCompile("(?s)\n## systemd\n.*?```sh\n(.*?)\n```.*?```sh\n(.*?)\n(systemctl [^\n]*)\n```").FindStringSubmatch(string(document))
	require.NotNil(t, block)
	install, look, start := block[1], block[2], block[3]
	runbook, err := os.ReadFile(repository + "/docs/runbook.md")
	require.NoError(t, err)
	withIt := regexp.MustCompile("(?s)\n## With the unit's environment\n.*?```sh\n(systemd-run --shell [^\n]*)\n(systemd-run .*?)\n```").FindStringSubmatch(string(runbook))
	require.NotNil(t, withIt)
	shell, command := withIt[1], withIt[2]

	m := newMachine(t)
	m.do(install)
	// Unedited it does not start, and names what is to be edited.
	_, err = m.try(start)
	require.Error(t, err)
	require.Equal(t, "4", m.unit("ExecMainStatus"), m.log())
	require.Contains(t, m.log(), "db.example")
	m.do("systemctl stop provwatch")
	m.do("cat deploy/example.env >/etc/provwatch/providers.env")

	// What a shell would take otherwise than systemd does.
	const password = "made-up$HOME#1 &;2"
	m.do("pg_lsclusters --no-header | grep -q online; cd / && su postgres -c 'psql -qv ON_ERROR_STOP=1' <<'E'\n" +
		"CREATE ROLE worker LOGIN PASSWORD '" + password + "';\nCREATE DATABASE gateway OWNER worker;\nE")
	m.set("PGPASSWORD", password)
	m.set("DATABASE_URL", "postgres://worker@127.0.0.1/gateway?sslmode=require&connect_timeout=10")
	require.Contains(t, m.do(look), "Plan: 2 to insert, ")
	m.do(start)
	require.Contains(t, m.do(command), "0 of 2 providers drift.")
	// Of a shell that takes what was typed before its prompt.
	require.Contains(t, m.do(fmt.Sprintf("echo 'worker verify; exit' | SHELL=/bin/sh script -qec '%s' /dev/null", shell)), "0 of 2 providers drift.")
	require.Equal(t, "active", m.unit("ActiveState"))
	require.Equal(t, "watching 2 providers, leading, source notify", m.unit("StatusText"))
	pid, err := strconv.Atoi(m.unit("MainPID"))
	require.NoError(t, err)
	for _, line := range []string{"CapEff:\t0000000000000000", "CapBnd:\t0000000000000000", "NoNewPrivs:\t1", "Seccomp:\t2"} {
		require.Contains(t, m.do(fmt.Sprintf("cat /proc/%d/status", pid)), line)
	}
	_, err = m.try(fmt.Sprintf("nsenter --target %d --mount touch /etc/written", pid))
	require.Error(t, err, "the root directory cannot be written")

	m.do("systemctl reload provwatch")
	m.do("journalctl --no-pager --unit provwatch --output cat | grep -F 'environment reloaded'")
	require.Equal(t, strconv.Itoa(pid), m.unit("MainPID"))

	// The watchdog, in less time than it has.
	m.do("mkdir /run/systemd/system/provwatch.service.d && echo '[Service]\nWatchdogSec=3s' >/run/systemd/system/provwatch.service.d/test.conf && systemctl daemon-reload && systemctl restart provwatch")
	restarts := func(before string) func() bool {
		return func() bool { return m.unit("NRestarts") != before && m.unit("ActiveState") == "active" }
	}
	before := m.unit("NRestarts")
	m.do("kill -STOP $(systemctl show --property MainPID --value provwatch)")
	m.until("a worker that is frozen is restarted", restarts(before))
	m.do("journalctl --no-pager --unit provwatch --output cat | grep -F 'Watchdog timeout'")
	before = m.unit("NRestarts")
	m.do("kill -SEGV $(systemctl show --property MainPID --value provwatch)")
	m.until("a worker that has crashed is restarted", restarts(before))

	// By socket, while the server is away for longer than the watchdog waits.
	m.set("DATABASE_URL", "postgres:///gateway?host=/run/postgresql&user=worker")
	m.do(`sed -i '1i local all worker scram-sha-256' /etc/postgresql/*/main/pg_hba.conf && systemctl reload postgresql && systemctl restart provwatch`)
	worker := m.unit("MainPID")
	m.do("systemctl stop postgresql && sleep 5")
	require.Equal(t, "active", m.unit("ActiveState"))
	require.Regexp(t, "^not ready: ", m.unit("StatusText"))
	m.do("systemctl start postgresql")
	m.until("it watches again", func() bool { return strings.HasPrefix(m.unit("StatusText"), "watching 2 providers") })
	require.Equal(t, worker, m.unit("MainPID"), "and was not restarted")

	m.do("systemctl stop provwatch")
	require.Equal(t, "inactive success", m.unit("ActiveState")+" "+m.unit("Result"))

	// What waits for a person is not restarted, and what may pass is.
	failed := func(code string) {
		t.Helper()
		_, err := m.try("systemctl start provwatch")
		require.Error(t, err)
		require.Equal(t, code, m.unit("ExecMainStatus"), m.log())
	}
	m.do(`cd / && su postgres -c "psql -qd gateway -c \"UPDATE ai_providers SET base_url = 'https://elsewhere.example/'\""`)
	failed("2")
	require.Equal(t, "failed", m.unit("ActiveState"))
	m.set("PROVWATCH_SOURCE", "guess")
	failed("3")
	require.Equal(t, "failed", m.unit("ActiveState"))
	m.set("PROVWATCH_SOURCE", "notify")
	m.set("PROVWATCH_ON_BOOT_DRIFT", "alert")
	m.set("PROVWATCH_CONNECT_TIMEOUT", "1s")
	m.do("systemctl stop postgresql")
	failed("4")
	m.do("systemctl start postgresql")
	m.until("it is started again", func() bool { return m.unit("ActiveState") == "active" })
	require.NotEqual(t, "0", m.unit("NRestarts"))

	require.NotRegexp(t, `made-up|sk-example`, m.do("journalctl --no-pager --output cat"), "no secret is logged, in no crash either")
	t.Log(m.do("systemd-analyze security --no-pager provwatch | tail -n 1"))
}
