package verify

import (
	"encoding/json"
	"fmt"
	"time"

	"github.com/google/uuid"

	"provwatch/internal/drift"
	"provwatch/internal/provider"
	"provwatch/internal/pubsub"
	"provwatch/internal/secret"
	"provwatch/internal/store"
)

// state is what was last recorded of a provider.
type state struct {
	kind        drift.Kind
	providerID  uuid.UUID
	envHash     string
	dbHash      string
	credentials string
}

// acceptance is a drift that an operator accepted.
type acceptance struct {
	kind            drift.Kind
	envHash, dbHash string
}

// sighting is one provider as observed, beside what was recorded of it.
type sighting struct {
	observation drift.Observation
	state       *state      // nil: nothing was recorded yet
	accepted    *acceptance // nil: nothing was accepted
	// notComparable is the reason that is recorded, empty for none.
	notComparable string
}

func recordedState(kind, envHash, dbHash, credentials *string, id *uuid.UUID) *state {
	if kind == nil {
		return nil
	}
	return &state{
		kind: drift.Kind(*kind), envHash: deref(envHash), dbHash: deref(dbHash),
		credentials: deref(credentials), providerID: deref(id),
	}
}

func recordedAcceptance(kind, envHash, dbHash *string) *acceptance {
	if kind == nil {
		return nil
	}
	return &acceptance{kind: drift.Kind(*kind), envHash: deref(envHash), dbHash: deref(dbHash)}
}

func providerRow(row store.LookAtProvidersRow) provider.Row {
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
	kind        drift.Kind // in sync as well when its drift is accepted; what was recorded where the row cannot be compared
	observation drift.Observation
	commit      *pubsub.Commit // the transaction that it comes from, nil unless from the WAL
	// alert is the kind of the alert to publish, empty for none.
	alert  drift.Kind
	record bool // the recorded state is to be replaced
	// reason is why the row, or its API keys, cannot be compared, empty where they can.
	reason       string
	recordReason bool // the recorded reason must be replaced
	// withdraw is an accepted drift that no longer holds, nil for none.
	withdraw *acceptance
}

func (f finding) isNews() bool {
	return f.alert != "" || f.record || f.withdraw != nil || f.recordReason
}

// judge compares an observation with what was last recorded. A provider without
// a recorded state counts as in sync until now. What was recorded of one that cannot be
// compared stands, and so does what was recorded of credentials that cannot be: a drift
// of anything else ends without them.
func judge(s sighting) finding {
	o := s.observation
	f := finding{name: o.Provider, kind: o.Kind}
	before := state{kind: drift.InSync}
	if s.state != nil {
		before = *s.state
	}
	if o.ProviderID == uuid.Nil {
		// The row is gone: name the one that was there.
		o.ProviderID = before.providerID
	}
	f.observation = o
	if o.UnreadableCredentials != nil && before.credentials != "" && (o.Kind == drift.Changed || o.Kind == drift.Disabled) {
		o.Credentials = before.credentials
		f.observation = o
	}
	if reason := o.WhyNotComparable(); reason != nil {
		f.reason = reason.Error()
	}
	f.recordReason = f.reason != s.notComparable
	if o.Kind == drift.NotComparable {
		if o.Unreadable != nil || before.kind == drift.InSync {
			f.kind = before.kind
			return f
		}
		// All but the API keys agrees: what was recorded of these is what is left of the
		// drift.
		o.Kind, o.Credentials = drift.InSync, before.credentials
		if o.Credentials != "" {
			o.Kind = drift.Changed
		}
		f.kind, f.observation = o.Kind, o
	}

	if a := s.accepted; a != nil {
		if o.Unreadable != nil && a.kind == o.Kind && a.envHash == o.EnvHash {
			// A soft-deleted row whose hash is not known meanwhile: encrypting it is no
			// change, so that what was accepted holds.
			o.DBHash = a.dbHash
			f.observation = o
		}
		switch {
		case a.dbHash != o.DBHash, a.envHash == o.EnvHash && o.Kind == drift.InSync:
			// With another environment alone it does not hold, and is kept all the
			// same: of two workers during a deployment one must not undo what was
			// accepted for the other.
			f.withdraw = a
		case a.envHash == o.EnvHash && a.kind == o.Kind:
			f.kind = drift.InSync
		}
	}

	now := f.state()
	f.record = s.state == nil || now != before
	switch {
	case f.kind == drift.InSync && before.kind != drift.InSync:
		f.alert = drift.Resolved
	case f.kind != drift.InSync && !sameDrift(before, now):
		f.alert = f.kind
	}
	return f
}

// state returns what is to be recorded.
func (f finding) state() state {
	o := f.observation
	return state{kind: f.kind, providerID: o.ProviderID, envHash: o.EnvHash, dbHash: o.DBHash, credentials: o.Credentials}
}

// sameDrift reports whether two states are the same drift, so that the second
// needs no alert. Of a provider that is there, a drift to other values is
// another drift; of one that is gone or deleted, the values no longer matter.
func sameDrift(a, b state) bool {
	if a.kind != b.kind {
		return false
	}
	if a.kind == drift.Missing || a.kind == drift.Deleted {
		return true
	}
	return a.envHash == b.envHash && a.dbHash == b.dbHash && a.credentials == b.credentials
}

func (f finding) appendTo(p *store.RecordParams) {
	p.StateProviders = append(p.StateProviders, f.name)
	p.StateProviderIds = append(p.StateProviderIds, f.observation.ProviderID)
	p.StateKinds = append(p.StateKinds, string(f.kind))
	p.StateEnvHashes = append(p.StateEnvHashes, f.observation.EnvHash)
	p.StateDbHashes = append(p.StateDbHashes, f.observation.DBHash)
	p.StateCredentials = append(p.StateCredentials, f.observation.Credentials)
}

func (f finding) driftAlert(seq int64, source pubsub.Source) (pubsub.DriftAlert, error) {
	id, err := uuid.NewV7()
	if err != nil {
		return pubsub.DriftAlert{}, err
	}
	alert := pubsub.DriftAlert{
		ID: id, Seq: seq, Kind: f.alert, Provider: f.name,
		EnvHash: f.observation.EnvHash, DBHash: f.observation.DBHash,
		Source: source, DetectedAt: time.Now(), Commit: f.commit,
	}
	if f.observation.ProviderID != uuid.Nil {
		alert.ProviderID = &f.observation.ProviderID
	}
	if f.alert != drift.Resolved {
		alert.Fields = f.observation.Fields
	}
	return alert, nil
}

// appendAlerts adds alerts and their payloads to what is recorded.
func appendAlerts(p *store.RecordParams, alerts []pubsub.DriftAlert) error {
	for _, a := range alerts {
		fields := a.Fields
		if fields == nil {
			fields = []drift.Field{}
		}
		encoded, err := json.Marshal(fields)
		if err != nil {
			return fmt.Errorf("encode the fields of provider %q: %w", a.Provider, err)
		}
		commit := pubsub.Commit{CommittedAt: time.Unix(0, 0)}
		if a.Commit != nil {
			commit = *a.Commit
		}
		p.Seqs = append(p.Seqs, a.Seq)
		p.Ids = append(p.Ids, a.ID)
		p.Kinds = append(p.Kinds, string(a.Kind))
		p.Providers = append(p.Providers, a.Provider)
		p.ProviderIds = append(p.ProviderIds, deref(a.ProviderID))
		p.Fields = append(p.Fields, string(encoded))
		p.EnvHashes = append(p.EnvHashes, a.EnvHash)
		p.DbHashes = append(p.DbHashes, a.DBHash)
		p.DetectedAts = append(p.DetectedAts, a.DetectedAt)
		p.Lsns = append(p.Lsns, commit.LSN)
		p.Xids = append(p.Xids, commit.XID)
		p.CommittedAts = append(p.CommittedAts, commit.CommittedAt)
		p.AlertReasons = append(p.AlertReasons, a.Reason)
		p.Payloads = append(p.Payloads, a.Payload())
	}
	return nil
}
