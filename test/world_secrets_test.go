//go:build e2e

package test

import (
	"bufio"
	"bytes"
	"context"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"strings"

	"github.com/jackc/pgx/v5"
	"github.com/stretchr/testify/require"
)

// findServer finds the folder of the database's server, and makes secrets of the
// passwords by which workers connect.
func (w *world) findServer() {
	w.t.Helper()
	w.server = filepath.Dir(w.strings("SHOW data_directory")[0])
	log, err := os.Stat(filepath.Join(w.server, "postgres.log"))
	require.NoError(w.t, err)
	w.logged = log.Size()
	w.secret(w.ownerPassword())
	w.secret(passwordMark)
}

// secret registers a value that nothing may emit, and returns it.
func (w *world) secret(value string) string {
	w.mu.Lock()
	defer w.mu.Unlock()
	w.secrets = append(w.secrets, value)
	return value
}

func (w *world) emit(text string) {
	w.mu.Lock()
	defer w.mu.Unlock()
	fmt.Fprintln(&w.emitted, text)
}

func (w *world) searchForSecrets() {
	ctx := context.Background()
	conn, err := pgx.Connect(ctx, w.url)
	if err != nil {
		w.t.Errorf("search provwatch's tables for secrets: %v", err)
		return
	}
	defer func() { _ = conn.Close(ctx) }()
	tables, err := queryStrings(ctx, conn, `SELECT format('%I.%I', schemaname, tablename) FROM pg_tables WHERE schemaname = 'provwatch'`)
	if err != nil {
		w.t.Errorf("search provwatch's tables for secrets: %v", err)
		return
	}
	for _, table := range tables {
		rows, err := queryStrings(ctx, conn, "SELECT to_jsonb(r)::text FROM "+table+" r")
		if err != nil {
			w.t.Errorf("search %s for secrets: %v", table, err)
		}
		w.emit(strings.Join(rows, "\n"))
	}
	if w.server != "" { // the test has not started a server of its own
		w.searchServerLog()
	}
	w.mu.Lock()
	defer w.mu.Unlock()
	// All of them have ended.
	for _, p := range w.started {
		for _, line := range append(p.Log(), p.Output()...) {
			fmt.Fprintln(&w.emitted, line)
		}
	}
	for _, secret := range w.secrets {
		if at := bytes.Index(w.emitted.Bytes(), []byte(secret)); at >= 0 {
			from, to := max(0, at-80), min(w.emitted.Len(), at+len(secret)+20)
			w.t.Errorf("a secret was emitted: …%s…", w.emitted.Bytes()[from:to])
		}
	}
}

// searchServerLog searches what the server has logged during the test, of other tests
// too, for the passwords by which workers connect. API keys are parameters of
// statements, which it logs.
func (w *world) searchServerLog() {
	passwords := [][]byte{[]byte(w.ownerPassword()), []byte(passwordMark)}
	log, err := os.Open(filepath.Join(w.server, "postgres.log"))
	if err == nil {
		_, err = log.Seek(w.logged, io.SeekStart)
	}
	if err != nil {
		w.t.Errorf("search the server's log for passwords: %v", err)
		return
	}
	defer func() { _ = log.Close() }()
	// Without a copy of each line: tests beside this one have logged tens of megabytes.
	lines, statement, statements := bufio.NewScanner(log), []byte("statement: "), 0
	lines.Buffer(nil, 64<<20)
	for lines.Scan() {
		if bytes.Contains(lines.Bytes(), statement) {
			statements++
		}
		for _, password := range passwords {
			if bytes.Contains(lines.Bytes(), password) {
				w.t.Errorf("the server has logged a password: %s", lines.Text())
			}
		}
	}
	if err := lines.Err(); err != nil || w.allLogged && statements == 0 {
		w.t.Errorf("search the server's log for passwords: %d statements, %v", statements, err)
	}
}
