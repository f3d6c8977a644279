//go:build e2e

package test

import (
	"context"
	"fmt"
	"net/url"
	"os"
	"os/exec"
	"path/filepath"
	"syscall"

	"github.com/jackc/pgx/v5"
	"github.com/stretchr/testify/require"

	"provwatch/internal/pgtest"
)

// disable disables a provider.
func (s *stated) disable() (alert string) {
	s.exec(`UPDATE ai_providers SET enabled = false WHERE name = 'openai'`)
	return "disabled openai"
}

// deleteKeys deletes the keys of a provider whose row another session has locked.
func (s *stated) deleteKeys() (alert string) {
	s.exec(`DELETE FROM ai_provider_keys WHERE provider_id = $1::uuid`, s.openai)
	return "changed openai"
}

// once is end, which is also called at the end of a test that has failed.
func (s *stated) once(end func()) func() {
	s.t.Cleanup(func() {
		if s.t.Failed() {
			end()
		}
	})
	return end
}

// hold runs a statement in a transaction that another session leaves open.
func (s *stated) hold(statement string) (end func()) {
	s.t.Helper()
	return s.holdOn(s.url, statement)
}

func (s *stated) holdOn(databaseURL, statement string) (end func()) {
	s.t.Helper()
	config, err := pgx.ParseConfig(databaseURL)
	require.NoError(s.t, err)
	config.RuntimeParams["application_name"] = "holder"
	conn, err := pgx.ConnectConfig(s.t.Context(), config)
	require.NoError(s.t, err)
	s.t.Cleanup(func() { _ = conn.Close(context.Background()) })
	require.NoError(s.t, conn.PgConn().Exec(s.t.Context(), "BEGIN; "+statement).Close())
	return func() { require.NoError(s.t, conn.Close(s.t.Context())) }
}

// freeze stops the server's processes of the worker's sessions that the condition selects.
func (s *stated) freeze(condition string) (thaw func()) {
	s.t.Helper()
	var pids []int
	eventually(s.t, func() bool {
		pids = nil
		rows, err := s.db.Query(s.t.Context(), `SELECT pid FROM pg_stat_activity WHERE datname = current_database() AND application_name LIKE 'provwatch%' AND `+condition)
		require.NoError(s.t, err)
		pids, err = pgx.CollectRows(rows, pgx.RowTo[int])
		require.NoError(s.t, err)
		return len(pids) > 0
	}, "the session is there")
	signalAll := func(signal syscall.Signal) {
		for _, pid := range pids {
			_ = syscall.Kill(pid, signal)
		}
	}
	s.t.Cleanup(func() { signalAll(syscall.SIGCONT) })
	signalAll(syscall.SIGSTOP)
	return func() { signalAll(syscall.SIGCONT) }
}

// logInAlone makes the worker log in as a role that no other test has.
func (s *stated) logInAlone() {
	s.t.Helper()
	name := fmt.Sprintf("alone_%s_%s", s.db.Config().Database, s.source)
	s.createRole(name, map[string]string{"notify": "IN ROLE provwatch_notify", "wal": "REPLICATION IN ROLE provwatch_wal", "auto": "REPLICATION IN ROLE provwatch_wal"}[s.source])
	s.login["run"] = name
}

// restart restarts the world's own server with a setting.
func (s *stated) restart(setting string) {
	s.t.Helper()
	s.exec(`ALTER SYSTEM SET ` + setting)
	s.cluster.Restart(s.t, "fast")
	s.db = s.connect()
	s.listen()
}

// restartWith restarts the world's own server with another value of a setting that it is
// started with, without its replication slots. The test listens before a worker connects.
func (s *stated) restartWith(name, value string) {
	s.t.Helper()
	s.onServer(`ALTER DATABASE %s CONNECTION LIMIT 0`) // of others than superusers
	s.endSessions()
	s.awaitFreeSlots()
	s.exec(`SELECT pg_drop_replication_slot(slot_name) FROM pg_replication_slots`)
	s.cluster.RestartWith(s.t, name, value)
	s.db = s.connect()
	s.listen()
	s.onServer(`ALTER DATABASE %s CONNECTION LIMIT -1`)
}

func (s *stated) allowPrepared() { s.restart(`max_prepared_transactions = 5`) }

// addServer gives the worker a second host, of another server that has the same database.
// It reaches the first one by a relay.
func (s *stated) addServer() {
	s.t.Helper()
	other := newWorldOn(s.t, pgtest.NewCluster(s.t).NewDatabase(s.t), s.source)
	require.Equal(s.t, s.db.Config().Database, other.db.Config().Database)
	first, err := url.Parse(s.withPassword(s.login["run"]))
	require.NoError(s.t, err)
	second, err := url.Parse(other.withPassword(other.login["run"]))
	require.NoError(s.t, err)
	s.relay = newRelay(s.t, first.Host)
	first.Host = s.relay.address + "," + second.Host
	s.env = s.env.With("DATABASE_URL", first.String())
}

// connectByLink has the worker connect by a socket that is a link: to that of the server, until
// [stated.link] lets it lead elsewhere.
func (s *stated) connectByLink() {
	s.t.Helper()
	role := s.login["run"]
	s.pooler = s.startPooler("session", role, passwordOf(role))
	s.linked = s.t.TempDir()
	s.link(s.socket())
	u, err := url.Parse(s.pooler.url)
	require.NoError(s.t, err)
	query := u.Query()
	query.Set("host", s.linked)
	u.RawQuery = query.Encode()
	s.env = s.env.With("DATABASE_URL", u.String())
}

// link makes the link lead to a socket.
func (s *stated) link(socket string) {
	s.t.Helper()
	next := filepath.Join(s.linked, "next")
	require.NoError(s.t, os.Symlink(socket, next))
	require.NoError(s.t, os.Rename(next, filepath.Join(s.linked, filepath.Base(s.pooler.socket()))))
}

// socket returns that of the server.
func (s *stated) socket() string {
	s.t.Helper()
	config, err := pgx.ParseConfig(s.url)
	require.NoError(s.t, err)
	return filepath.Join(config.Host, fmt.Sprintf(".s.PGSQL.%d", config.Port))
}

// moveAlertsToSmallDisk moves the table of alerts to a file system of its own.
func (s *stated) moveAlertsToSmallDisk() {
	s.t.Helper()
	s.disk = filepath.Join(s.server, "small")
	require.NoError(s.t, os.Mkdir(s.disk, 0o755))
	if out, err := exec.Command("mount", "-t", "tmpfs", "-o", "size=1m", "provwatch-test", s.disk).CombinedOutput(); err != nil {
		s.t.Skipf("no file system can be mounted: %v: %s", err, out)
	}
	s.t.Cleanup(func() {
		// The tables are searched for secrets later.
		if err := tryExec(context.Background(), s.url, `ALTER TABLE provwatch.drift_alerts SET TABLESPACE pg_default`); err != nil {
			s.t.Errorf("move the alerts back: %v", err)
		}
		_ = exec.Command("umount", "-l", s.disk).Run()
	})
	folder := filepath.Join(s.disk, "space")
	require.NoError(s.t, os.Mkdir(folder, 0o700))
	data, err := os.Stat(s.strings("SHOW data_directory")[0])
	require.NoError(s.t, err)
	owner := data.Sys().(*syscall.Stat_t)
	require.NoError(s.t, os.Chown(folder, int(owner.Uid), int(owner.Gid)))
	s.exec(`CREATE TABLESPACE small LOCATION '` + folder + `'`)
	s.exec(`ALTER TABLE provwatch.drift_alerts SET TABLESPACE small`)
}

func (s *stated) fillSmallDisk() (end func()) {
	s.t.Helper()
	file := filepath.Join(s.disk, "filling")
	fill, err := os.Create(file)
	require.NoError(s.t, err)
	for err == nil {
		_, err = fill.Write(make([]byte, 4096))
	}
	require.ErrorIs(s.t, err, syscall.ENOSPC)
	require.NoError(s.t, fill.Close())
	return func() { require.NoError(s.t, os.Remove(file)) }
}

// makeQueueSmall gives the server a queue of notifications that can be filled.
func (s *stated) makeQueueSmall() {
	s.t.Helper()
	if s.count(`SELECT count(*) FROM pg_settings WHERE name = 'max_notify_queue_pages'`) == 0 {
		s.t.Skip("the queue's size cannot be set before PostgreSQL 17")
	}
	s.restart(`max_notify_queue_pages = 64`)
}

func (s *stated) fillQueue() (end func()) {
	s.t.Helper()
	end = s.hold(`LISTEN held; COMMIT; BEGIN; SELECT 1`)
	var err error
	for range 100 {
		if _, err = s.db.Exec(s.t.Context(), "SELECT pg_notify('held', n || repeat('x', 800)) FROM generate_series(1, 50) n"); err != nil {
			break
		}
	}
	require.ErrorContains(s.t, err, "too many notifications")
	return end
}
