package verify

import (
	"context"
	"encoding/json"
	"fmt"
	"time"

	"github.com/google/uuid"
	"github.com/jackc/pgx/v5"

	"provwatch/internal/provider"
	"provwatch/internal/pubsub"
	"provwatch/internal/secret"
	"provwatch/internal/store"
)

// state is what was last recorded of a provider.
type state struct {
	kind        provider.Kind
	providerID  uuid.UUID
	envHash     string
	dbHash      string
	credentials string
}

// acceptance is a drift that an operator accepted.
type acceptance struct {
	kind            provider.Kind
	envHash, dbHash string
}

// sighting is everything that one look shows of one name.
type sighting struct {
	rows     []provider.Row
	state    *state
	accepted *acceptance
}

func newSighting(row store.LookAtProvidersRow) *sighting {
	var s sighting
	if row.StateKind != nil {
		s.state = &state{
			kind:        provider.Kind(*row.StateKind),
			envHash:     deref(row.StateEnvHash),
			dbHash:      deref(row.StateDbHash),
			credentials: deref(row.StateCredentials),
			providerID:  deref(row.StateProviderID),
		}
	}
	if row.AcceptedKind != nil {
		s.accepted = &acceptance{
			kind:    provider.Kind(*row.AcceptedKind),
			envHash: deref(row.AcceptedEnvHash),
			dbHash:  deref(row.AcceptedDbHash),
		}
	}
	return &s
}

func providerRow(row store.LookAtProvidersRow) provider.Row {
	var keys []provider.StoredKey
	for i, key := range row.ApiKeys {
		keys = append(keys, provider.StoredKey{Key: secret.New(key), KeyID: row.ApiKeyKeyIds[i]})
	}
	return provider.Row{
		ID: *row.ID, Name: row.Name, Type: deref(row.Type), BaseURL: deref(row.BaseUrl),
		Enabled: deref(row.Enabled), Deleted: deref(row.Deleted),
		Settings: row.Settings, SettingsKeyID: deref(row.SettingsKeyID),
		UpdatedAt: row.UpdatedAt, Keys: keys,
	}
}

func deref[T any](p *T) T {
	if p == nil {
		var zero T
		return zero
	}
	return *p
}

// finding is the judgement on one provider: how it is now, and what of this is
// new.
type finding struct {
	name        string
	kind        provider.Kind // in sync as well when its drift is accepted
	observation provider.Observation
	// alert is the kind of the alert to publish, empty for none.
	alert  provider.Kind
	record bool // the recorded state is to be replaced
	// withdraw is an accepted drift that no longer holds, nil for none.
	withdraw *acceptance
}

func (f finding) isNews() bool { return f.alert != "" || f.record || f.withdraw != nil }

// judge compares an observation with what was last recorded. A provider without
// a recorded state counts as in sync until now.
func judge(name string, o provider.Observation, s *sighting) finding {
	f := finding{name: name, kind: o.Kind}
	before := state{kind: provider.InSync}
	if s.state != nil {
		before = *s.state
	}
	if o.ProviderID == uuid.Nil {
		// The row is gone: name the one that was there.
		o.ProviderID = before.providerID
	}
	f.observation = o

	if a := s.accepted; a != nil {
		switch {
		case a.dbHash != o.DBHash, a.envHash == o.EnvHash && o.Kind == provider.InSync:
			// With another environment alone it does not hold, and is kept all the
			// same: of two workers during a deployment one must not undo what was
			// accepted for the other.
			f.withdraw = a
		case a.envHash == o.EnvHash && a.kind == o.Kind:
			f.kind = provider.InSync
		}
	}

	now := state{kind: f.kind, providerID: o.ProviderID, envHash: o.EnvHash, dbHash: o.DBHash, credentials: o.Credentials}
	f.record = s.state == nil || now != before
	switch {
	case f.kind == provider.InSync && before.kind != provider.InSync:
		f.alert = provider.Resolved
	case f.kind != provider.InSync && !sameDrift(before, now):
		f.alert = f.kind
	}
	return f
}

// sameDrift reports whether two states are the same drift, so that the second
// needs no alert. Of a provider that is there, a drift to other values is
// another drift; of one that is gone or deleted, the values no longer matter.
func sameDrift(a, b state) bool {
	if a.kind != b.kind {
		return false
	}
	if a.kind == provider.Missing || a.kind == provider.Deleted {
		return true
	}
	return a.envHash == b.envHash && a.dbHash == b.dbHash && a.credentials == b.credentials
}

func (f finding) appendTo(p *store.RecordObservationsParams) {
	p.Providers = append(p.Providers, f.name)
	p.ProviderIds = append(p.ProviderIds, f.observation.ProviderID)
	p.Kinds = append(p.Kinds, string(f.kind))
	p.EnvHashes = append(p.EnvHashes, f.observation.EnvHash)
	p.DbHashes = append(p.DbHashes, f.observation.DBHash)
	p.Credentials = append(p.Credentials, f.observation.Credentials)
}

func (f finding) driftAlert(seq int64, source pubsub.Source) (pubsub.DriftAlert, error) {
	id, err := uuid.NewV7()
	if err != nil {
		return pubsub.DriftAlert{}, err
	}
	alert := pubsub.DriftAlert{
		ID: id, Seq: seq, Kind: f.alert, Provider: f.name,
		EnvHash: f.observation.EnvHash, DBHash: f.observation.DBHash,
		Source: source, DetectedAt: time.Now(),
	}
	if f.observation.ProviderID != uuid.Nil {
		alert.ProviderID = &f.observation.ProviderID
	}
	if f.alert != provider.Resolved {
		alert.Fields = f.observation.Fields
	}
	return alert, nil
}

// publish writes alerts as rows, advances the counter, whose row the transaction
// holds locked, and notifies.
func publish(ctx context.Context, tx pgx.Tx, alerts []pubsub.DriftAlert) error {
	if len(alerts) == 0 {
		return nil
	}
	var rows store.InsertAlertsParams
	payloads := make([]string, len(alerts))
	for i, a := range alerts {
		fields := a.Fields
		if fields == nil {
			fields = []provider.Field{}
		}
		encoded, err := json.Marshal(fields)
		if err != nil {
			return fmt.Errorf("encode the fields of provider %q: %w", a.Provider, err)
		}
		rows.Seqs = append(rows.Seqs, a.Seq)
		rows.Ids = append(rows.Ids, a.ID)
		rows.Kinds = append(rows.Kinds, string(a.Kind))
		rows.Providers = append(rows.Providers, a.Provider)
		rows.ProviderIds = append(rows.ProviderIds, deref(a.ProviderID))
		rows.Fields = append(rows.Fields, string(encoded))
		rows.EnvHashes = append(rows.EnvHashes, a.EnvHash)
		rows.DbHashes = append(rows.DbHashes, a.DBHash)
		rows.Sources = append(rows.Sources, string(a.Source))
		rows.DetectedAts = append(rows.DetectedAts, a.DetectedAt)
		payloads[i] = a.Payload()
	}
	queries := store.New(tx)
	if err := store.FirstError(queries.InsertAlerts(ctx, []store.InsertAlertsParams{rows}).Exec); err != nil {
		return err
	}
	if err := queries.AdvanceAlertCounter(ctx, alerts[len(alerts)-1].Seq); err != nil {
		return err
	}
	return pubsub.Publish(ctx, tx, pubsub.DriftAlerts, payloads...)
}
