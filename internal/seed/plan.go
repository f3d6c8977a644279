package seed

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"log/slog"
	"slices"
	"strings"

	"github.com/google/uuid"
	"github.com/jackc/pgx/v5"
	"github.com/jackc/pgx/v5/pgxpool"

	"provwatch/internal/dbcrypt"
	"provwatch/internal/drift"
	"provwatch/internal/provider"
	"provwatch/internal/store"
)

// Action is what a seed does about one desired provider (docs/specification.md,
// section 4).
type Action string

// The actions of a plan.
const (
	// Insert: there is no row, so the row and its keys are inserted.
	Insert Action = "insert"
	// Unchanged: the live row has the same canonical hash, and the same credentials
	// where they are required to agree. Nothing is written; keys are never added to
	// or changed.
	Unchanged Action = "unchanged"
	// Accepted: the live row differs, and an operator accepted that with
	// "worker resolve --take db".
	Accepted Action = "accepted"
	// Drifted: the live row has another canonical hash, or other credentials where
	// they are required to agree.
	Drifted Action = "drift"
	// NotComparable: the live row's settings cannot be decoded or decrypted, or its
	// credentials are required to agree and cannot be decrypted, so that there is no
	// telling whether it differs.
	NotComparable Action = "not_comparable"
	// StickyDeleted: the row is soft-deleted and is not resurrected.
	StickyDeleted Action = "deleted"
	// Unsupported: the database's enum lacks the provider's type.
	Unsupported Action = "unsupported"
)

// Step is what a seed does, or would do, about one desired provider.
type Step struct {
	Action      Action
	Desired     provider.Desired
	Observation drift.Observation
	Row         *provider.Row // the row compared with, nil when there is none
	// RowType is the type that a row is written with: bedrock for a Bedrock provider
	// where the enum has it, else the environment's.
	RowType provider.Type

	accepted bool
	// mustAgree is set where credentials are required to agree.
	mustAgree bool
	remedies  Remedies
}

// CredentialsProblem returns how credentials that are required to agree do not,
// nil where they do or are not required to. The seed goes by no acceptance of it.
func (s Step) CredentialsProblem() error {
	if !s.mustAgree || s.Observation.Kind == drift.Deleted { // which stays deleted, whatever its credentials
		return nil
	}
	return s.Observation.CredentialsProblem()
}

// WhyNotComparable returns the reason of the action [NotComparable], nil for another one.
func (s Step) WhyNotComparable() error {
	if s.Action != NotComparable {
		return nil
	}
	return cmp.Or(s.Observation.Unreadable, s.Observation.UnreadableCredentials)
}

// IsDrift reports whether the provider is not as the environment asks for, and that was
// not accepted. One that cannot be compared is no drift.
func (s Step) IsDrift() bool {
	return s.Action != Unsupported && s.Observation.IsDrift() && !s.accepted
}

// IsNotComparable reports whether the provider cannot be compared. The reason can be its
// credentials, where they were compared.
func (s Step) IsNotComparable() bool {
	return s.Action == NotComparable || s.Action != Unsupported && s.Observation.Kind == drift.NotComparable
}

// Accepted reports whether the provider's drift is one that an operator
// accepted and that still is as it was then.
func (s Step) Accepted() bool { return s.accepted }

// Plan is a step for each desired provider, in name order.
type Plan struct {
	Steps []Step

	flags    string // see [ForTarget]
	tolerate string // see [Remedies]
}

// Count returns how many steps have the action.
func (p Plan) Count(action Action) int {
	n := 0
	for _, s := range p.Steps {
		if s.Action == action {
			n++
		}
	}
	return n
}

// NotComparable returns the reasons of the rows that cannot be compared, by the name of
// their providers; with credentials set, also the reasons of rows whose credentials alone
// cannot be compared.
func (p Plan) NotComparable(credentials bool) map[string]string {
	reasons := map[string]string{}
	for _, s := range p.Steps {
		if reason := s.WhyNotComparable(); reason != nil && (credentials || s.Observation.Unreadable != nil) {
			reasons[s.Desired.Name] = reason.Error()
		}
	}
	return reasons
}

// Err returns a [*DriftError] when the plan holds a drift or a row that cannot
// be compared, else nil.
func (p Plan) Err() error {
	e := DriftError{tolerate: p.tolerate}
	for _, s := range p.Steps {
		if s.Action == Drifted || s.Action == NotComparable {
			e.Steps = append(e.Steps, s)
		}
	}
	if len(e.Steps) == 0 {
		return nil
	}
	return &e
}

// DriftError reports every provider whose row is not the one that the
// environment asks for.
type DriftError struct {
	Steps []Step // of action Drifted or NotComparable

	tolerate string // see [Remedies]
}

// Comparable reports whether all steps are drifts, and none is a row that cannot be
// compared.
func (e *DriftError) Comparable() bool {
	return !slices.ContainsFunc(e.Steps, func(s Step) bool { return s.Action == NotComparable })
}

// Error names each provider, what differs, and the ways out.
func (e *DriftError) Error() string {
	lines := make([]string, len(e.Steps))
	for i, s := range e.Steps {
		lines[i] = s.problem()
	}
	if e.tolerate != "" {
		lines = append(lines, "or start all the same, seeding what is missing and alerting what differs: "+e.tolerate)
	}
	return strings.Join(lines, "\n")
}

func (s Step) problem() string {
	name := s.Desired.Name
	switch unread := s.Observation.UnreadableCredentials; {
	case s.mustAgree && unread != nil:
		besides := ""
		if s.Observation.HashDiffers() {
			besides = "; it differs in " + drift.List(s.Observation.Fields)
		}
		return fmt.Sprintf("AI provider %q already exists in the database, and its credentials cannot be compared with the environment's: %v%s; "+
			"otherwise replace the stored credentials by those of the environment (%s) with "+
			"\"%s\", or drop --compat=upstream-credentials",
			name, unread, besides, s.CredentialsOrigin(), s.resolveBy("env --with-keys"))
	case s.CredentialsProblem() != nil:
		return fmt.Sprintf("AI provider %q already exists in the database and differs from the current environment configuration: %s; "+
			"with --compat=upstream-credentials credentials must agree as well: either set those of the database in the environment (%s), "+
			"or write the environment's to the database with \"%s\", or drop --compat=upstream-credentials",
			name, drift.List(s.Observation.Fields), s.CredentialsOrigin(), s.resolveBy("env --with-keys"))
	case s.Action == NotComparable:
		return fmt.Sprintf("AI provider %q already exists in the database and cannot be compared: %v; %s",
			name, s.Observation.Unreadable, s.repair())
	}
	return fmt.Sprintf("AI provider %q already exists in the database and differs from the current environment configuration: %s; "+
		"either make both agree (change the variables %s, or \"%s\" to write them to the database), "+
		"or keep the database's values with \"%s\"",
		name, drift.List(s.Observation.Fields), s.Desired.Variables, s.resolveBy("env"), s.resolveBy("db"))
}

// repair says how a row becomes comparable.
func (s Step) repair() string { return Repair(s.Desired, s.Observation.Unreadable) }

// Repair says how a row of the provider becomes comparable whose settings cannot be
// read for the reason.
func Repair(d provider.Desired, reason error) string {
	otherwise := "or remove its variables (" + d.Variables + ")"
	switch {
	case errors.Is(reason, dbcrypt.ErrFormerKeyset):
		return otherwise // the reason has the remedy
	case dbcrypt.SaysUnknownKey(reason.Error()):
		return "add the key to the variable, " + otherwise
	default:
		return "repair its settings, " + otherwise
	}
}

// resolveBy returns the command that resolves the step's drift.
func (s Step) resolveBy(take string) string {
	command := s.remedies.Command
	if command == "" {
		command = "worker"
	}
	return command + " resolve " + s.Desired.Name + " --take " + take + s.remedies.Flags
}

// CredentialsOrigin returns the variable to look at for credentials, for messages.
func (s Step) CredentialsOrigin() string {
	if s.Desired.CredentialsOrigin != "" {
		return s.Desired.CredentialsOrigin
	}
	return "none is set in the variables " + s.Desired.Variables
}

// MakePlan compares the desired providers with the database, as db sees it, and
// writes nothing. With credentials set, credentials are compared as well, and
// show in the observations; a seed acts on canonical hashes alone, unless with
// [RequireCredentials].
func MakePlan(ctx context.Context, db store.DBTX, desired []provider.Desired, credentials bool, options ...Option) (Plan, error) {
	queries := store.On(db)
	o := optionsOf(options)
	stored, err := queries.LoadPlan(ctx, names(desired))
	if err != nil {
		return Plan{}, fmt.Errorf("load providers, accepted drifts and the types that the database knows: %w", err)
	}
	rows, err := openRows(ctx, queries, stored.Providers, credentials || o.credentials, o.keys)
	if err != nil {
		return Plan{}, err
	}
	accepted := make(map[string]*drift.Acceptance, len(stored.Accepted))
	for _, s := range stored.Accepted {
		accepted[s.Provider] = &drift.Acceptance{Kind: drift.Kind(s.Kind), EnvHash: s.EnvHash, DBHash: s.DbHash}
	}
	return makePlan(desired, rows, accepted, stored.Types, stored.Hasher, credentials, o), nil
}

// DryRun is MakePlan in a read-only transaction, for a database that need not
// have been migrated: tables that are not there count as empty ones.
func DryRun(ctx context.Context, pool *pgxpool.Pool, desired []provider.Desired, credentials bool, options ...Option) (plan Plan, err error) {
	o := optionsOf(options)
	readOnly := pgx.TxOptions{IsoLevel: pgx.RepeatableRead, AccessMode: pgx.ReadOnly}
	err = pgx.BeginTxFunc(ctx, pool, readOnly, func(tx pgx.Tx) error {
		queries := store.On(tx)
		found, err := queries.InspectSchema(ctx)
		if err != nil {
			return fmt.Errorf("look at the schema: %w", err)
		}
		if found.Providers && found.ProviderKeys && found.AcceptedDrifts && found.HashKey {
			plan, err = MakePlan(ctx, tx, desired, credentials, options...)
			return err
		}
		var rows map[string][]provider.Row
		labels := migratedTypes
		if found.Providers && found.ProviderKeys {
			stored, err := queries.ListProviders(ctx, names(desired))
			if err != nil {
				return fmt.Errorf("load providers: %w", err)
			}
			if rows, err = openRows(ctx, queries, stored, credentials || o.credentials, o.keys); err != nil {
				return err
			}
			if labels, err = queries.ListProviderTypes(ctx); err != nil {
				return fmt.Errorf("look up the types that the database knows: %w", err)
			}
		}
		plan = makePlan(desired, rows, nil, labels, provider.NewRandomHasher(), credentials, o)
		return nil
	})
	return plan, err
}

// migratedTypes are the labels of the enum that our migration makes where there
// is none.
var migratedTypes = []string{string(provider.OpenAI), string(provider.Anthropic)}

// makePlan compares credentials as well when they are to be shown, or required to
// agree.
func makePlan(desired []provider.Desired, rows map[string][]provider.Row, accepted map[string]*drift.Acceptance, labels []string, hasher provider.Hasher, shown bool, o options) Plan {
	plan := Plan{Steps: make([]Step, len(desired)), flags: o.flags, tolerate: o.remedies.Tolerate}
	for i, d := range desired {
		row := provider.Current(rows[d.Name])
		step := Step{
			Desired: d, Row: row, RowType: d.Type, mustAgree: o.credentials, remedies: o.remedies,
			Observation: drift.Compare(hasher, d, row, shown || o.credentials),
		}
		if d.Bedrock != nil && slices.Contains(labels, string(provider.AmazonBedrock)) {
			step.RowType = provider.AmazonBedrock
		}
		step.Action = step.action(accepted[d.Name], labels)
		step.accepted = accepted[d.Name].Holds(step.Observation) && step.CredentialsProblem() == nil
		plan.Steps[i] = step
	}
	return plan
}

// action returns what a seed does about the provider. The labels are those of the
// database's enum.
func (s Step) action(accepted *drift.Acceptance, labels []string) Action {
	if !slices.Contains(labels, string(s.Desired.Type)) {
		return Unsupported
	}
	switch s.Observation.AtBoot(s.mustAgree) {
	case drift.Missing:
		return Insert
	case drift.Deleted:
		return StickyDeleted
	case drift.NotComparable:
		return NotComparable
	case drift.InSync:
		return Unchanged
	}
	if accepted.Covers(s.Observation) && s.CredentialsProblem() == nil {
		return Accepted
	}
	return Drifted
}

// openRows returns the stored rows by name, with their keys, loaded in one query,
// where they are compared. What is encrypted is decoded.
func openRows(ctx context.Context, queries *store.Queries, stored []store.ListProvidersRow, keys bool, ring *dbcrypt.Ring) (_ map[string][]provider.Row, err error) {
	keysOf := map[uuid.UUID][]provider.StoredKey{}
	if keys {
		ids := make([]uuid.UUID, len(stored))
		for i, row := range stored {
			ids[i] = row.ID
		}
		if keysOf, err = loadKeys(ctx, queries, ids); err != nil {
			return nil, err
		}
	}
	rows := make(map[string][]provider.Row, len(stored))
	for _, s := range stored {
		row := provider.Row{
			ID: s.ID, Name: s.Name, Type: s.Type, BaseURL: s.BaseUrl, Enabled: s.Enabled, Deleted: s.Deleted,
			Settings: s.Settings, UpdatedAt: s.UpdatedAt, Keys: keysOf[s.ID],
		}
		if s.SettingsKeyID != nil {
			row.SettingsKeyID = *s.SettingsKeyID
		}
		ring.OpenRow(&row, keys)
		rows[s.Name] = append(rows[s.Name], row)
	}
	return rows, nil
}

// loadKeys loads the stored keys of the providers given.
func loadKeys(ctx context.Context, queries *store.Queries, providerIDs []uuid.UUID) (map[uuid.UUID][]provider.StoredKey, error) {
	stored, err := queries.ListProviderKeys(ctx, providerIDs)
	if err != nil {
		return nil, fmt.Errorf("load provider keys: %w", err)
	}
	keys := make(map[uuid.UUID][]provider.StoredKey, len(providerIDs))
	for _, s := range stored {
		key := provider.StoredKey{ID: s.ID, Key: s.ApiKey}
		if s.ApiKeyKeyID != nil {
			key.KeyID = *s.ApiKeyKeyID
		}
		keys[s.ProviderID] = append(keys[s.ProviderID], key)
	}
	return keys, nil
}

func names(desired []provider.Desired) []string {
	list := make([]string, len(desired))
	for i, d := range desired {
		list[i] = d.Name
	}
	return list
}

// Supported divides the desired providers into those whose type the database
// knows and the rest.
func Supported(ctx context.Context, db store.DBTX, desired []provider.Desired) (supported, unsupported []provider.Desired, err error) {
	labels, err := store.On(db).ListProviderTypes(ctx)
	if err != nil {
		return nil, nil, fmt.Errorf("look up the types that the database knows: %w", err)
	}
	for _, d := range desired {
		if slices.Contains(labels, string(d.Type)) {
			supported = append(supported, d)
		} else {
			unsupported = append(unsupported, d)
		}
	}
	return supported, unsupported, nil
}

// LogUnsupported warns of providers whose type the database does not know.
func LogUnsupported(ctx context.Context, logger *slog.Logger, unsupported []provider.Desired) {
	for _, d := range unsupported {
		logger.WarnContext(ctx, "the database's enum ai_provider_type lacks the provider's type, skipping the provider",
			"provider", d.Name, "type", string(d.Type),
			"remedy", "upgrade the gateway, whose migrations add the types that it can serve, and restart the worker; or remove its variables ("+d.Variables+")")
	}
}

// Supported returns the desired providers whose type the database knows.
func (p Plan) Supported() []provider.Desired {
	var supported []provider.Desired
	for _, s := range p.Steps {
		if s.Action != Unsupported {
			supported = append(supported, s.Desired)
		}
	}
	return supported
}

// WarnOfNoProviders warns when the environment names none: there is nothing to seed,
// to watch or to compare, which can be a prefix misspelt or a file emptied. flags are
// those of [ForTarget], empty without --config.
func WarnOfNoProviders(ctx context.Context, logger *slog.Logger, named int, flags string) {
	if named == 0 {
		logger.WarnContext(ctx, "the environment names no provider: there is nothing to seed or to watch", "remedy", NoProvidersRemedy(flags))
	}
}

// ErrNoProviders says that the environment names no provider.
var ErrNoProviders = errors.New("it names no provider")

// NoProvidersRemedy says how an environment comes to name providers. flags are those
// of [ForTarget].
func NoProvidersRemedy(flags string) string {
	if flags != "" { // --config forbids what follows
		return "set CODER_AIBRIDGE_* variables in the target's env_file, or variables that begin with its env_prefix"
	}
	return "set CODER_AIBRIDGE_* variables, or --env-file"
}

// logTolerated warns of a drift that a start has tolerated.
func logTolerated(ctx context.Context, logger *slog.Logger, s Step) {
	if s.Action == NotComparable {
		remedy := s.repair()
		if s.Observation.Unreadable == nil {
			remedy = s.resolveBy("env --with-keys")
		}
		logger.WarnContext(ctx, "provider cannot be compared with the environment", "provider", s.Desired.Name, "error", s.WhyNotComparable(), "remedy", remedy)
		return
	}
	remedy := s.resolveBy("env") + ", or " + s.resolveBy("db")
	if s.CredentialsProblem() != nil {
		remedy = s.resolveBy("env --with-keys")
	}
	logger.WarnContext(ctx, "provider differs from the environment", "provider", s.Desired.Name,
		"fields", drift.List(s.Observation.Fields), "remedy", remedy)
}

// LogPlan logs what a seed did, a line for each provider that it did anything
// about and one for the whole.
func LogPlan(ctx context.Context, logger *slog.Logger, p Plan) {
	if len(p.Steps) == 0 {
		WarnOfNoProviders(ctx, logger, 0, p.flags)
		return
	}
	for _, s := range p.Steps {
		switch s.Action {
		case Insert:
			logger.InfoContext(ctx, "provider seeded", "provider", s.Desired.Name, "provider_id", s.Observation.ProviderID.String(),
				"type", string(s.RowType), "keys", len(s.Desired.Keys))
		case StickyDeleted:
			logger.WarnContext(ctx, "provider is soft-deleted in the database and stays so", "provider", s.Desired.Name,
				"remedy", "remove its variables ("+s.Desired.Variables+"), or \""+s.resolveBy("env")+"\"")
		case Drifted, NotComparable:
			logTolerated(ctx, logger, s)
		case Unsupported:
			LogUnsupported(ctx, logger, []provider.Desired{s.Desired})
		case Accepted:
			logger.InfoContext(ctx, "provider differs from the environment, which was accepted", "provider", s.Desired.Name)
		}
	}
	logger.InfoContext(ctx, "seed done", "inserted", p.Count(Insert), "unchanged", p.Count(Unchanged), "accepted", p.Count(Accepted),
		"drifted", p.Count(Drifted), "not_comparable", p.Count(NotComparable), "soft_deleted", p.Count(StickyDeleted), "unsupported", p.Count(Unsupported))
	LogUnheard(ctx, logger, p)
}

// LogUnheard logs, of a seed that inserted something, that a gateway which runs already
// need not know of it.
func LogUnheard(ctx context.Context, logger *slog.Logger, p Plan) {
	if n := p.Count(Insert); n > 0 {
		logger.InfoContext(ctx, "a running gateway may not use the seeded providers yet", "inserted", n,
			"remedy", "restart it, or change a provider through its API; one built before September 2026 hears --announce-seed")
	}
}
