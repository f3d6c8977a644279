package seed

import (
	"context"
	"log/slog"

	"github.com/google/uuid"

	"provwatch/internal/drift"
	"provwatch/internal/provider"
	"provwatch/internal/remedy"
	"provwatch/internal/rollout"
)

// LogUnsupported warns of providers whose type the database does not know.
func LogUnsupported(ctx context.Context, logger *slog.Logger, unsupported []provider.Desired) {
	for _, d := range unsupported {
		logger.WarnContext(ctx, "the database's enum ai_provider_type lacks the provider's type, skipping the provider",
			"provider", d.Name, "type", string(d.Type),
			"remedy", "upgrade the gateway, whose migrations add the types that it can serve, and restart the worker; or remove its variables ("+d.Variables+")")
	}
}

// WarnOfNoProviders warns when the environment names no provider to seed, to watch or to
// compare: the prefix is misspelt, or the file is empty.
func WarnOfNoProviders(ctx context.Context, logger *slog.Logger, named int) {
	if named == 0 {
		logger.WarnContext(ctx, "the environment names no provider: there is nothing to seed or to watch", "remedy", remedy.NameProviders())
	}
}

// logTolerated warns of a drift that a start has tolerated.
func logTolerated(ctx context.Context, logger *slog.Logger, s drift.Step) {
	withKeys := remedy.Advice{resolveBy(s, "env", "--with-keys")}
	if s.Action == drift.ActionNotComparable {
		advice := remedy.Advice{repair(s)}
		if s.Observation.Unreadable == nil {
			advice = withKeys
		}
		logger.WarnContext(ctx, "provider cannot be compared with the environment", "provider", s.Desired.Name, "error", s.WhyNotComparable(), "remedy", advice)
		return
	}
	advice := remedy.Advice{resolveBy(s, "env"), ", or ", resolveBy(s, "db")}
	if s.CredentialsProblem() != nil {
		advice = withKeys
	}
	logger.WarnContext(ctx, "provider differs from the environment", "provider", s.Desired.Name,
		"fields", drift.List(s.Observation.Kind, s.Observation.Fields), "remedy", advice)
}

// LogPlan logs what a seed did, a line for each provider that it did anything
// about and one for the whole.
func LogPlan(ctx context.Context, logger *slog.Logger, p drift.Plan) {
	if len(p.Steps) == 0 {
		WarnOfNoProviders(ctx, logger, 0)
		return
	}
	for _, s := range p.Steps {
		if s.Action != drift.ActionInsert {
			logStep(ctx, logger, s)
			continue
		}
		logger.InfoContext(ctx, "provider seeded", "provider", s.Desired.Name, "provider_id", s.Observation.ProviderID.String(),
			"type", string(s.RowType), "keys", len(s.Desired.Keys))
	}
	logger.InfoContext(ctx, "seed done", append([]any{"inserted", p.Count(drift.ActionInsert)}, counts(p)...)...)
	LogUnheard(ctx, logger, p)
}

// LogOlder logs that a start has seeded nothing, since another worker has a newer environment.
func LogOlder(ctx context.Context, logger *slog.Logger, p drift.Plan, older *rollout.OlderError) {
	for _, s := range p.Steps {
		if s.Action == drift.ActionUnsupported {
			LogUnsupported(ctx, logger, []provider.Desired{s.Desired})
		}
	}
	logger.WarnContext(ctx, "nothing is seeded: the environment is older than that of another worker", older.Attributes()...)
}

// logStep logs a step that inserts nothing, nothing for an unchanged provider.
func logStep(ctx context.Context, logger *slog.Logger, s drift.Step) {
	switch s.Action {
	case drift.ActionStickyDeleted:
		logger.WarnContext(ctx, "provider is soft-deleted in the database and stays so", "provider", s.Desired.Name,
			"remedy", remedy.Advice{"remove its variables (" + s.Desired.Variables + `), or "`, resolveBy(s, "env"), `"`})
	case drift.ActionApplied:
		LogUpdated(ctx, logger, s.Desired.Name, s.Observation.ProviderID, s.Observation.Fields)
	case drift.ActionDrifted, drift.ActionNotComparable:
		logTolerated(ctx, logger, s)
	case drift.ActionUnsupported:
		LogUnsupported(ctx, logger, []provider.Desired{s.Desired})
	case drift.ActionAccepted:
		logger.InfoContext(ctx, "provider differs from the environment, which was accepted", "provider", s.Desired.Name)
	}
}

// LogUpdated logs that an apply has written fields of a provider's row, which differed as given.
func LogUpdated(ctx context.Context, logger *slog.Logger, name string, id uuid.UUID, fields []drift.Field) {
	logger.InfoContext(ctx, "provider updated from the environment", "provider", name, "provider_id", id.String(), "fields", drift.List(drift.Changed, fields))
}

// counts returns how many steps of a plan insert nothing, as attributes of a line.
func counts(p drift.Plan) []any {
	return []any{
		"applied", p.Count(drift.ActionApplied), "unchanged", p.Count(drift.ActionUnchanged), "accepted", p.Count(drift.ActionAccepted), "drifted", p.Count(drift.ActionDrifted),
		"not_comparable", p.Count(drift.ActionNotComparable), "deleted", p.Count(drift.ActionStickyDeleted), "unsupported", p.Count(drift.ActionUnsupported),
	}
}

// LogUnheard logs, of a seed that inserted something, that a gateway which runs already
// need not know of it.
func LogUnheard(ctx context.Context, logger *slog.Logger, p drift.Plan) {
	if n := p.Count(drift.ActionInsert); n > 0 {
		logger.InfoContext(ctx, "a running gateway might not use the seeded providers yet", "inserted", n,
			"remedy", "restart it, or change a provider through its API; one built before September 2026 hears --announce-seed")
	}
}
