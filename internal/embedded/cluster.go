package embedded

import (
	"log/slog"
	"path/filepath"
)

const superuser = "provwatch" // also the name of the database

// cluster is what a data dir holds, and how programs of PostgreSQL run in it.
type cluster struct {
	dir     string // the data dir, absolute
	pgdata  string
	binDir  string
	account *account // nil: the server runs as the user of this process
	log     *slog.Logger
}

// logName returns the path of the server's log.
func (c *cluster) logName() string { return filepath.Join(c.dir, "postgres.log") }
