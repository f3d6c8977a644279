// Package served finds the enabled providers of a database that the gateway does not
// serve, or serves otherwise than their rows suggest: see [provider.Notices], which
// judges them. It reads what the gateway reads, whatever the environment asks for.
package served

import (
	"context"
	"fmt"
	"log/slog"

	"provwatch/internal/provider"
	"provwatch/internal/store"
)

// Keys decodes what rows hold encrypted.
type Keys interface {
	OpenRow(row *provider.Row, credentials bool)
}

// Inspect returns what there is to notice about the providers of a database, never nil
// where it could be looked at. A role that may not read all that it takes sees
// nothing, which is no error.
func Inspect(ctx context.Context, db store.DBTX, keys Keys) ([]provider.Notice, error) {
	queries := store.On(db)
	may, err := queries.MayListServed(ctx)
	if err != nil {
		return nil, fmt.Errorf("look at the role's privileges: %w", err)
	}
	if !may {
		return nil, nil
	}
	stored, err := queries.ListServed(ctx)
	if err != nil {
		return nil, fmt.Errorf("list the enabled providers: %w", err)
	}
	rows := make([]provider.ServedRow, len(stored))
	for i, s := range stored {
		row := provider.Row{ID: s.ID, Name: s.Name, Type: s.Type, BaseURL: s.BaseUrl, Enabled: true}
		if row.Type.HashNeedsSettings() {
			row.Settings = s.Settings
			if s.SettingsKeyID != nil {
				row.SettingsKeyID = *s.SettingsKeyID
			}
			keys.OpenRow(&row, true)
		}
		rows[i] = provider.ServedRow{Row: row, HasKeys: s.HasKeys}
	}
	return append([]provider.Notice{}, provider.Notices(rows)...), nil
}

// maxLogged bounds the notices that are logged at once.
const maxLogged = 20

// Log logs a warning for each notice, up to a number of them.
func Log(ctx context.Context, logger *slog.Logger, notices []provider.Notice) {
	for _, n := range notices[:min(len(notices), maxLogged)] {
		logger.WarnContext(ctx, "the gateway does not serve the provider as its row suggests",
			"provider", n.Provider, "problem", n.Problem, "remedy", n.Remedy)
	}
	if more := len(notices) - maxLogged; more > 0 {
		logger.WarnContext(ctx, "the gateway does not serve more providers as their rows suggest", "providers", more,
			"remedy", "run \"worker status\"")
	}
}
