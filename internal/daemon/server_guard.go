package daemon

import (
	"context"

	"github.com/jackc/pgx/v5"
	"github.com/jackc/pgx/v5/pgxpool"

	"provwatch/internal/postgres"
)

// serverGuard keeps the listening session on the server of the other sessions. The
// listener's goroutine alone calls its method.
type serverGuard struct{ pool *pgxpool.Pool }

// Check implements [listener.Guard].
func (g *serverGuard) Check(ctx context.Context, conn *pgx.Conn) error {
	return postgres.CheckServer(ctx, conn, g.pool)
}
