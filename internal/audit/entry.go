// Package audit keeps audit entries: they are staged in an outbox inside the
// transaction that they describe, and delivered after it commits
// (docs/specification.md, section 5). A rollback leaves no entry, a kill loses none.
package audit

import (
	"time"

	"github.com/google/uuid"

	"provwatch/internal/provider"
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
	HistoryPruned   Action = "history.prune"
	SilenceCreated  Action = "silence.create"
	SilenceEnded    Action = "silence.end"
)

// AllProviders is the provider of an entry that concerns all of them.
const AllProviders = provider.All

// System is the actor of what the worker does on its own.
const System = "system"

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
	// Expires is when the acceptance of a drift ends, or a silence, in RFC 3339 and UTC.
	Expires string `json:"expires,omitempty"`
	// Silence is the id of the silence.
	Silence int64 `json:"silence,omitempty"`
	// Reason is why an operator did it, in the operator's words.
	Reason string `json:"reason,omitempty"`
	// Pruned is what was deleted.
	Pruned *Pruned `json:"pruned,omitempty"`
}

// Pruned is what was deleted for its age.
type Pruned struct {
	OlderThanSeconds int64 `json:"older_than_seconds"`
	Alerts           int64 `json:"alerts"`
	AlertsUpTo       int64 `json:"alerts_up_to"` // seq of the last one, 0 for none
	AuditEntries     int64 `json:"audit_entries"`
	AuditUpTo        int64 `json:"audit_up_to"` // seq of the last one, 0 for none
	Acceptances      int64 `json:"acceptances"`
	Silences         int64 `json:"silences"`
}

// Change is one field that an action wrote.
type Change struct {
	Field string `json:"field"`
	Old   string `json:"old"`
	New   string `json:"new"`
}
