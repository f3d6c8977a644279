package schema

import (
	"context"
	"time"

	"github.com/jackc/pgx/v5"
)

func withConn(ctx context.Context, config *pgx.ConnConfig, do func(*pgx.Conn) error) error {
	conn, err := pgx.ConnectConfig(ctx, config)
	if err != nil {
		return unusable("connect", err)
	}
	defer func() {
		closing, cancel := context.WithTimeout(context.WithoutCancel(ctx), time.Second)
		defer cancel()
		_ = conn.Close(closing)
		select {
		case <-conn.PgConn().CleanupDone(): // the server has ended a statement that was broken off
		case <-closing.Done():
		}
	}()
	return do(conn)
}
