package store

import (
	"context"
	"strings"
)

// ImportSnapshot makes the transaction see the tables as of a snapshot that another session
// has exported. The server takes its name as a literal only.
func (q *Queries) ImportSnapshot(ctx context.Context, name string) error {
	_, err := q.db.Exec(ctx, "SET TRANSACTION SNAPSHOT '"+strings.ReplaceAll(name, "'", "''")+"'")
	return err
}
