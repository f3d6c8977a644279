package embedded

import (
	"errors"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/jackc/pgx/v5"
	"github.com/stretchr/testify/require"
)

// FuzzReadPostmaster reads arbitrary files postmaster.pid, which can be of a server
// that is only beginning to write it, or cut short by a full disk: the result is a
// process and where it can be connected to, or none.
func FuzzReadPostmaster(f *testing.F) {
	for _, text := range []string{
		"", "\n", "4711\n/data\n1782900000\n5432\n/tmp\n127.0.0.1\n  5432001    32768\nready   \n", "4711", "-4711\n/data\n1\n", "4711\n/data\n1\n5432\n/tm",
		"4711\n/data\n1\n5432\nit's \\ a folder\n\n", "1\n2\n3\n-5\n/x\n\n", "1\n2\n3\n99999\n/x\n\n", "0\n", "99999999999999999999\n", "1\n2\n3\n0\n/x' port=1\n\n", " 7 \r\n",
	} {
		f.Add(text)
	}
	dir := f.TempDir()
	f.Fuzz(func(t *testing.T, text string) {
		require.NoError(t, os.WriteFile(filepath.Join(dir, "postmaster.pid"), []byte(text), 0o600))
		p, err := readPostmaster(dir)
		if err != nil {
			require.True(t, errors.Is(err, errMalformed))
			require.Zero(t, p)
			return
		}
		require.NotZero(t, p.pid)
		require.Equal(t, p.port == 0, p.socketDir == "")
		if p.socketDir == "" {
			return
		}
		require.True(t, p.port > 0 && p.port < 1<<16, "%d", p.port)
		require.True(t, filepath.IsAbs(p.socketDir))
		if strings.Contains(p.socketDir, ",") {
			return // clients take it to separate hosts: our own folders have none
		}
		// Whatever the folder is called, it is connected to and nothing else.
		config, err := pgx.ParseConfig(p.connString("postgres"))
		if err != nil {
			return
		}
		require.Equal(t, []any{p.socketDir, uint16(p.port), "postgres"}, []any{config.Host, config.Port, config.Database})
	})
}
