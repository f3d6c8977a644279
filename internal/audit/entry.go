// Package audit keeps audit entries: they are staged in an outbox inside the
// transaction that they describe, and delivered after it commits
// (docs/specification.md, section 5). A rollback leaves no entry, a kill loses none.
package audit

import (
	"context"
	"encoding/json"
	"fmt"
	"slices"
	"time"
	"unicode/utf8"

	"github.com/google/uuid"

	"provwatch/internal/provider"
	"provwatch/internal/store"
)

// Action is what was done to a provider.
type Action string

// The actions that are audited.
const (
	ProviderCreated Action = "provider.create"
	ProviderUpdated Action = "provider.update"
	KeyCreated      Action = "provider_key.create"
	KeyDeleted      Action = "provider_key.delete"
	DriftAccepted   Action = "drift.accept"
)

// System is the actor of what the worker does on its own.
const System = "system"

// The outbox refuses what is longer, in bytes: migration 7.
const (
	maxText    = 1000      // actor, action, provider
	maxDetails = 256 << 10 // as jsonb shows them
	// maxValue bounds each text of details that are too long as a whole.
	maxValue = 2 << 10
)

// Entry is one audited action. Its details must hold no secret: keys are masked
// before an entry is made of them.
type Entry struct {
	ID         uuid.UUID
	OccurredAt time.Time
	Actor      string
	Action     Action
	Provider   string
	ProviderID uuid.UUID // uuid.Nil where there is no row
	Details    Details
}

// Details says what an action did. Fields that do not apply are left out.
type Details struct {
	Type    string `json:"type,omitempty"`
	BaseURL string `json:"base_url,omitempty"` // without userinfo and query
	Region  string `json:"bedrock_region,omitempty"`
	Keys    *int   `json:"keys,omitempty"` // how many keys were stored
	KeyID   string `json:"key_id,omitempty"`
	Masked  string `json:"masked_key,omitempty"`
	// Changes are the fields that were written, with both values.
	Changes []Change `json:"changes,omitempty"`
	EnvHash string   `json:"env_hash,omitempty"`
	DBHash  string   `json:"db_hash,omitempty"`
	// HashKeyed reports whether a hash is a keyed digest: see [provider.Hasher].
	HashKeyed bool   `json:"hash_keyed,omitempty"`
	Kind      string `json:"kind,omitempty"` // of the accepted drift
}

// Change is one field that an action wrote.
type Change struct {
	Field string `json:"field"`
	Old   string `json:"old"`
	New   string `json:"new"`
}

// bounded returns the details with each text cut.
func (d Details) bounded() Details {
	for _, text := range []*string{&d.Type, &d.BaseURL, &d.Region, &d.KeyID, &d.Masked, &d.EnvHash, &d.DBHash, &d.Kind} {
		*text = cut(*text, maxValue)
	}
	d.Changes = slices.Clone(d.Changes)
	for i, c := range d.Changes {
		d.Changes[i] = Change{Field: cut(c.Field, maxValue), Old: cut(c.Old, maxValue), New: cut(c.New, maxValue)}
	}
	return d
}

// cut shortens text to a number of bytes, between two characters.
func cut(text string, most int) string {
	if len(text) <= most {
		return text
	}
	for most > 0 && !utf8.RuneStart(text[most]) {
		most--
	}
	return text[:most]
}

// encode returns the details as JSON that the outbox takes: where they are too
// long, their texts are cut.
func (d Details) encode() ([]byte, error) {
	d.HashKeyed = provider.IsKeyed(d.EnvHash) || provider.IsKeyed(d.DBHash)
	details, err := json.Marshal(d)
	// PostgreSQL adds a space after each colon and comma.
	if err == nil && len(details) > maxDetails/2 {
		details, err = json.Marshal(d.bounded())
	}
	return details, err
}

// Stage writes entries to the outbox. db must be the transaction that the
// entries describe, and that transaction must hold the seed lock, which puts
// the entries of one provider in the order of their commits. Texts that the outbox
// does not take are cut.
func Stage(ctx context.Context, db store.DBTX, entries []Entry) error {
	if len(entries) == 0 {
		return nil
	}
	rows := make([]store.StageAuditEntriesParams, len(entries))
	for i, e := range entries {
		details, err := e.Details.encode()
		if err != nil {
			return fmt.Errorf("encode audit entry for provider %q: %w", e.Provider, err)
		}
		rows[i] = store.StageAuditEntriesParams{
			ID: e.ID, OccurredAt: e.OccurredAt, Actor: cut(e.Actor, maxText), Action: cut(string(e.Action), maxText),
			Provider: cut(e.Provider, maxText), Details: details,
		}
		if e.ProviderID != uuid.Nil {
			rows[i].ProviderID = &entries[i].ProviderID
		}
	}
	if _, err := store.On(db).StageAuditEntries(ctx, rows); err != nil {
		return fmt.Errorf("stage audit entries: %w", err)
	}
	return nil
}
