//go:build e2e

package lockwait_test

import (
	"fmt"
	"testing"

	"github.com/stretchr/testify/require"

	"provwatch/internal/pgtest"
)

// TestPreparedHolders has a transaction that was prepared, which holds a lock.
func TestPreparedHolders(t *testing.T) {
	t.Parallel()
	cluster := pgtest.NewCluster(t)
	url := cluster.NewDatabase(t)
	exec(t, session(t, url, "owner"), "ALTER SYSTEM SET max_prepared_transactions = 2")
	cluster.Restart(t, "fast")
	config, name := databaseOf(t, url)
	owner, waiting := session(t, url, "owner"), session(t, url, "waiting")
	exec(t, owner, "CREATE TABLE public.rows (id int); INSERT INTO public.rows VALUES (1)", "BEGIN", "UPDATE public.rows SET id = 2", "PREPARE TRANSACTION 'forgotten'")
	for _, statement := range []string{"UPDATE public.rows SET id = 3", "LOCK TABLE public.rows IN ACCESS EXCLUSIVE MODE"} {
		exec(t, waiting, "BEGIN")
		waits(t, waiting, statement)
		require.Regexp(t, fmt.Sprintf(`^the prepared transaction "forgotten" \(role "provwatch", database %q, since 20\S+\); COMMIT PREPARED or ROLLBACK PREPARED it in its database`, name),
			found(t, config, waiting).String())
		waiting = session(t, url, "waiting")
	}
	exec(t, owner, "ROLLBACK PREPARED 'forgotten'")
}
