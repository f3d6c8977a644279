package store

import (
	"context"
	"encoding/json"
	"time"

	"github.com/google/uuid"

	"provwatch/internal/dbcrypt"
	"provwatch/internal/drift"
	"provwatch/internal/provider"
	"provwatch/internal/secret"
)

// Snapshot is what the database has of some providers at one moment.
type Snapshot struct {
	Providers map[string]*Sighting // by name
	IDs       map[uuid.UUID]bool   // of the rows and of the recorded states
	Rows      []RowSighting        // with removed rows that are recorded as unmanaged
	// Started is that of [RecordedKinds].
	Started    bool
	Generation int64 // of what is recorded
	LastSeq    int64 // of the latest alert
	Newest     int64 // generation of environments, [AnyEnvironment] where nothing was found
}

// Sighting is one provider: all rows of its name, and what is recorded of it.
type Sighting struct {
	Rows     []provider.Row
	Recorded drift.Recorded
	// FormerName is the name that the row which was recorded last has now, empty where it is
	// not live. FormerEnabled reports whether that row is enabled.
	FormerName    string
	FormerEnabled bool
}

// RenamedTo returns the name that the row which was recorded last was given, empty for none.
func (s Sighting) RenamedTo(provider string) string {
	if s.FormerName == provider {
		return ""
	}
	return s.FormerName
}

// LookAtProviders returns the providers named, and the providers of the ids, the ones recorded
// under them included. The keys decrypt the rows. The API keys are loaded where credentials is
// set.
func (q *Queries) LookAtProviders(ctx context.Context, names []string, ids []uuid.UUID, keys *dbcrypt.Ring, credentials bool) (Snapshot, error) {
	found, err := q.lookAtProviders(ctx, lookAtProvidersParams{Names: notNil(names), Ids: notNil(ids), WithKeys: credentials})
	if err != nil {
		return Snapshot{}, err
	}
	s := Snapshot{Providers: make(map[string]*Sighting, len(found)), IDs: make(map[uuid.UUID]bool, len(found)), Newest: AnyEnvironment}
	for _, row := range found {
		s.Generation, s.LastSeq, s.Newest, s.Started = row.Generation, row.LastSeq, row.NewestEnvironment, row.Started
		s.IDs[deref(row.ID)], s.IDs[deref(row.StateProviderID)], s.IDs[row.Gone] = true, true, true
		if row.Gone != uuid.Nil {
			gone, err := rowSighting(row, nil)
			if err != nil {
				return Snapshot{}, err
			}
			s.Rows = append(s.Rows, gone)
			continue
		}
		seen := s.Providers[row.Name]
		if seen == nil {
			base, err := baseOf(row.Base)
			if err != nil {
				return Snapshot{}, err
			}
			pending, err := pendingOf(row.Pending)
			if err != nil {
				return Snapshot{}, err
			}
			seen = &Sighting{Recorded: drift.Recorded{
				State:         stateOf(row.StateKind, row.StateEnvHash, row.StateDbHash, row.StateCredentials, row.StateProviderID),
				Accepted:      acceptanceOf(row.AcceptedKind, row.AcceptedEnvHash, row.AcceptedDbHash, row.AcceptedExpiresAt, row.AcceptedAt, row.At),
				NotComparable: row.NotComparable, Base: base, AlertSeq: row.AlertSeq, Silenced: row.Silenced, Pending: pending, At: row.At,
			}, FormerName: row.FormerName, FormerEnabled: row.FormerEnabled}
			s.Providers[row.Name] = seen
		}
		if row.ID != nil {
			opened := rowSeen(row)
			keys.OpenRow(&opened, credentials)
			seen.Rows = append(seen.Rows, opened)
			sighting, err := rowSighting(row, &opened)
			if err != nil {
				return Snapshot{}, err
			}
			s.Rows = append(s.Rows, sighting)
		}
	}
	return s, nil
}

// rowSeen returns the provider table's part of a row, as it is stored.
func rowSeen(row lookAtProvidersRow) provider.Row {
	var keys []provider.StoredKey
	for i, key := range row.ApiKeys {
		keys = append(keys, provider.StoredKey{ID: row.ApiKeyRowIds[i], Key: secret.New(key), KeyID: row.ApiKeyKeyIds[i]})
	}
	return provider.Row{
		ID: *row.ID, Name: row.Name, Type: deref(row.Type), BaseURL: deref(row.BaseUrl),
		Enabled: deref(row.Enabled), Deleted: deref(row.Deleted),
		Settings: row.Settings, SettingsKeyID: deref(row.SettingsKeyID),
		UpdatedAt: row.UpdatedAt, Keys: keys,
	}
}

// ReadRecorded returns what is recorded of the providers named, by name.
func (q *Queries) ReadRecorded(ctx context.Context, names []string) (map[string]drift.Recorded, error) {
	rows, err := q.listStates(ctx, names)
	if err != nil {
		return nil, err
	}
	recorded := make(map[string]drift.Recorded, len(rows))
	for _, row := range rows {
		base, err := baseOf(row.Base)
		if err != nil {
			return nil, err
		}
		pending, err := pendingOf(row.Pending)
		if err != nil {
			return nil, err
		}
		recorded[row.Name] = drift.Recorded{
			State:         stateOf(row.StateKind, row.StateEnvHash, row.StateDbHash, row.StateCredentials, row.StateProviderID),
			Accepted:      acceptanceOf(row.AcceptedKind, row.AcceptedEnvHash, row.AcceptedDbHash, row.AcceptedExpiresAt, row.AcceptedAt, row.At),
			NotComparable: row.NotComparable, Base: base, AlertSeq: row.AlertSeq, Silenced: row.Silenced, Pending: pending, At: row.At,
		}
	}
	return recorded, nil
}

// Unnamed is what is recorded of the providers that the environment does not name, at
// one moment.
type Unnamed struct {
	States                      []NamedState // by name
	Generation, LastSeq, Newest int64        // as in [Snapshot]
}

// NamedState is the recorded state of a provider. It has no kind where nothing is
// recorded but that the provider could not be compared, or that a drift is pending.
type NamedState struct {
	Provider string
	drift.State
	AlertSeq int64 // of the latest alert of the drift that lasts, 0 for none
	Silenced bool  // no alert of the drift was for sinks
	Pending  bool  // a drift is pending
	// RowName is the name that the row of the state has now, empty where it is not enabled
	// and live, and where the state is one to record.
	RowName string
}

// ListUnnamedStates returns what is recorded of other providers than those named.
func (q *Queries) ListUnnamedStates(ctx context.Context, named []string) (Unnamed, error) {
	rows, err := q.listUnnamedStates(ctx, named)
	if err != nil {
		return Unnamed{}, err
	}
	var unnamed Unnamed
	for _, row := range rows {
		unnamed.Generation, unnamed.LastSeq, unnamed.Newest = row.Generation, row.LastSeq, row.NewestEnvironment
		unnamed.States = append(unnamed.States, NamedState{
			Provider: row.Provider, AlertSeq: row.AlertSeq, Silenced: row.Silenced, Pending: row.Pending, RowName: row.RowName,
			State: drift.State{Kind: drift.Kind(row.Kind), ProviderID: deref(row.ProviderID), EnvHash: row.EnvHash, DBHash: row.DbHash},
		})
	}
	return unnamed, nil
}

// Outlived are drifts that have outlived the silences that matched them, at one moment.
type Outlived struct {
	Drifts                      []OutlivedDrift // in the order of their latest alerts
	Generation, LastSeq, Newest int64           // as in [Snapshot]
}

// OutlivedDrift is a drift that lasts, and whose latest alert is silenced.
type OutlivedDrift struct {
	NamedState
	// Fields, Moved, RenamedTo and Unmanaged are those of the latest alert. Fields is nil where
	// they cannot be decoded.
	Fields    []drift.Field
	Moved     drift.Moved
	RenamedTo string
	Unmanaged bool
}

// ListOutlived returns the drifts that have outlived the silences that matched them, at most so
// many.
func (q *Queries) ListOutlived(ctx context.Context, most int) (Outlived, error) {
	rows, err := q.listOutlived(ctx, int32(most))
	if err != nil {
		return Outlived{}, err
	}
	var outlived Outlived
	for _, row := range rows {
		outlived.Generation, outlived.LastSeq, outlived.Newest = row.Generation, row.LastSeq, row.NewestEnvironment
		d := OutlivedDrift{Moved: drift.Moved(row.Moved), RenamedTo: row.RenamedTo, Unmanaged: row.Unmanaged, NamedState: NamedState{
			Provider: row.Provider, AlertSeq: row.AlertSeq, Silenced: row.Silenced,
			State: *stateOf(&row.Kind, &row.EnvHash, &row.DbHash, &row.Credentials, row.ProviderID),
		}}
		if json.Unmarshal(row.Fields, &d.Fields) != nil {
			d.Fields = nil // another version wrote them
		}
		outlived.Drifts = append(outlived.Drifts, d)
	}
	return outlived, nil
}

// ListAccepted returns the names of the providers that are recorded as in sync because
// their drift was accepted, without providers that cannot be compared: those of which the
// acceptance lasts, and those of which it has expired.
func (q *Queries) ListAccepted(ctx context.Context) (accepted, expired []string, err error) {
	rows, err := q.listAcceptances(ctx)
	accepted, expired = []string{}, []string{}
	for _, row := range rows {
		recorded := drift.Recorded{
			State:    stateOf(&row.StateKind, &row.StateEnvHash, &row.StateDbHash, nil, nil),
			Accepted: acceptanceOf(&row.Kind, &row.EnvHash, &row.DbHash, row.ExpiresAt, nil, row.At),
		}
		switch {
		case recorded.IsAccepted():
			accepted = append(accepted, row.Provider)
		case recorded.IsExpired():
			expired = append(expired, row.Provider)
		}
	}
	return accepted, expired, err
}

// AcceptDrift records that an actor accepts a drift of a provider, for the reason given, empty
// for none.
func (q *Queries) AcceptDrift(ctx context.Context, name string, a drift.Acceptance, actor, reason string) error {
	return q.acceptDrift(ctx, acceptDriftParams{Provider: name, Kind: string(a.Kind), EnvHash: a.EnvHash, DbHash: a.DBHash, AcceptedBy: actor, Reason: reason, ExpiresAt: unlessZero(a.Expires)})
}

// RenewAcceptedDrift makes the acceptance of a provider's drift, with its end and who
// accepted it, one of another pair.
func (q *Queries) RenewAcceptedDrift(ctx context.Context, name string, a drift.Acceptance) error {
	return q.renewAcceptedDrift(ctx, renewAcceptedDriftParams{Provider: name, EnvHash: a.EnvHash, DbHash: a.DBHash})
}

// Page is what a listing of providers asks for. Rank orders the providers: see the query
// listRecorded.
type Page struct {
	Ranks             []int32
	Search            string
	Accepted, Expired []string // see [Queries.ListAccepted]
	// Unsupported are the names of the providers whose type the enum lacks.
	Unsupported []string
	// AfterRank and AfterName are those of the provider before the page.
	AfterRank int32
	AfterName string
	Most      int32
}

// Listed is a provider of a listing. Its state is not listed where it cannot be compared.
type Listed struct {
	Name       string
	Rank       int32
	Recorded   drift.Recorded
	ObservedAt time.Time // the epoch where nothing was observed
	AcceptedBy string
	AcceptedAt *time.Time
	// AcceptedReason is why it was accepted, empty where that is not recorded.
	AcceptedReason string
	// AcceptedUntil is when the acceptance ends, nil where it has no end.
	AcceptedUntil *time.Time
}

// ListRecorded returns a page of the providers that are recorded or in the database. With
// names, those of the environment, it goes by them: nil stands for an environment that is
// not known.
func (q *Queries) ListRecorded(ctx context.Context, named []string, page Page) ([]Listed, error) {
	if named == nil {
		rows, err := q.listRecorded(ctx, listRecordedParams{
			Ranks: page.Ranks, Search: page.Search, Accepted: page.Accepted, Expired: page.Expired, Unsupported: page.Unsupported, AfterRank: page.AfterRank, AfterName: page.AfterName, MaxProviders: page.Most,
		})
		if err != nil {
			return nil, err
		}
		return listedOf(rows)
	}
	found, err := q.listNamed(ctx, listNamedParams{
		Ranks: page.Ranks, Search: page.Search, Accepted: page.Accepted, Expired: page.Expired, Unsupported: page.Unsupported, AfterRank: page.AfterRank, AfterName: page.AfterName, MaxProviders: page.Most, Named: named,
	})
	if err != nil {
		return nil, err
	}
	rows := make([]listRecordedRow, len(found))
	for i, row := range found {
		rows[i] = listRecordedRow(row)
	}
	return listedOf(rows)
}

func listedOf(rows []listRecordedRow) ([]Listed, error) {
	listed := make([]Listed, len(rows))
	for i, row := range rows {
		pending, err := pendingOf(row.Pending)
		if err != nil {
			return nil, err
		}
		l := Listed{
			Name: row.Name, Rank: row.Rank, Recorded: drift.Recorded{NotComparable: row.Reason, Pending: pending},
			ObservedAt: row.ObservedAt, AcceptedBy: deref(row.AcceptedBy), AcceptedAt: row.AcceptedAt,
			AcceptedReason: deref(row.AcceptedReason), AcceptedUntil: row.AcceptedExpiresAt,
		}
		if row.Kind != "" {
			l.Recorded.State = stateOf(&row.Kind, &row.EnvHash, &row.DbHash, &row.Credentials, nil)
		}
		l.Recorded.Accepted = acceptanceOf(row.AcceptedKind, &row.EnvHash, &row.DbHash, nil, nil, time.Time{})
		listed[i] = l
	}
	return listed, nil
}

// CountRecorded returns how many providers are of each rank. The parameters are those of
// [Queries.ListRecorded], without the limits of the page.
func (q *Queries) CountRecorded(ctx context.Context, named []string, page Page) (map[int32]int64, error) {
	counts := map[int32]int64{}
	if named == nil {
		rows, err := q.countRecorded(ctx, countRecordedParams{Accepted: page.Accepted, Expired: page.Expired, Unsupported: page.Unsupported})
		for _, row := range rows {
			counts[row.Rank] += row.Providers
		}
		return counts, err
	}
	rows, err := q.countNamed(ctx, countNamedParams{Named: named, Accepted: page.Accepted, Expired: page.Expired, Unsupported: page.Unsupported})
	for _, row := range rows {
		counts[row.Rank] += row.Providers
	}
	return counts, err
}

// stateOf returns a recorded state, nil where its columns are NULL.
func stateOf(kind, envHash, dbHash, credentials *string, id *uuid.UUID) *drift.State {
	if kind == nil {
		return nil
	}
	return &drift.State{
		Kind: drift.Kind(*kind), EnvHash: deref(envHash), DBHash: deref(dbHash),
		Credentials: deref(credentials), ProviderID: deref(id),
	}
}

// acceptanceOf returns an accepted drift as of a time, nil where its columns are NULL. When it was
// accepted is nil where that was not read.
func acceptanceOf(kind, envHash, dbHash *string, expires, accepted *time.Time, at time.Time) *drift.Acceptance {
	if kind == nil {
		return nil
	}
	return &drift.Acceptance{
		Kind: drift.Kind(*kind), EnvHash: deref(envHash), DBHash: deref(dbHash), Expires: deref(expires), AcceptedAt: deref(accepted), At: at,
	}
}
