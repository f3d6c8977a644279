package pgtest

import (
	"os"

	"provwatch/internal/waittest"
)

// timeout bounds every wait for a server.
const timeout = waittest.Patience

// BinDir returns the folder of initdb, pg_ctl and postgres that every cluster is
// started with: that of the variable PROVWATCH_TEST_POSTGRES, or "" for the
// installed ones, see [embedded.FindBinDir].
func BinDir() string { return os.Getenv("PROVWATCH_TEST_POSTGRES") }

// settings trade safety for speed: what is lost in a crash of the machine is a
// test. A killed server still recovers all that was committed.
var settings = map[string]string{
	"fsync":                 "off",
	"full_page_writes":      "off",
	"log_connections":       "on",
	"max_connections":       "300",
	"max_replication_slots": "100",
	"max_wal_senders":       "100",
	"wal_level":             "logical",
}
