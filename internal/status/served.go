package status

import (
	"context"
	"fmt"
	"log/slog"

	"provwatch/internal/dbcrypt"
	"provwatch/internal/provider"
	"provwatch/internal/remedy"
	"provwatch/internal/store"
)

// NoticeUnserved returns the enabled providers that the gateway does not serve, or serves
// otherwise than their rows suggest: [provider.Notices] judges them. It reads what the
// gateway reads, whatever the environment asks for. The result is never nil, except for a
// role that cannot read all of it, which is no error.
func NoticeUnserved(ctx context.Context, db store.DBTX, keys *dbcrypt.Ring) ([]provider.Notice, error) {
	queries := store.On(db)
	may, err := queries.MayListServed(ctx)
	if err != nil {
		return nil, fmt.Errorf("look at the role's privileges: %w", err)
	}
	if !may {
		return nil, nil
	}
	rows, err := queries.ListServed(ctx, keys)
	if err != nil {
		return nil, fmt.Errorf("list the enabled providers: %w", err)
	}
	return append([]provider.Notice{}, provider.Notices(rows)...), nil
}

// maxNoticesLogged bounds the notices that are logged at once.
const maxNoticesLogged = 20

// LogNotices logs a warning for each notice, up to a number of them.
func LogNotices(ctx context.Context, logger *slog.Logger, notices []provider.Notice) {
	for _, n := range notices[:min(len(notices), maxNoticesLogged)] {
		logger.WarnContext(ctx, "the gateway does not serve the provider as its row suggests",
			"provider", n.Provider, "problem", n.Problem, "remedy", n.Remedy)
	}
	if more := len(notices) - maxNoticesLogged; more > 0 {
		logger.WarnContext(ctx, "the gateway does not serve more providers as their rows suggest", "providers", more,
			"remedy", remedy.Advice{`run "`, remedy.Run("status"), `"`})
	}
}
