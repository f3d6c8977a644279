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

// The outbox refuses what is longer, in bytes: migration 7.
const (
	maxText    = 1000      // actor, action, provider
	maxDetails = 256 << 10 // as jsonb shows them
	// maxValue bounds each text of details that are too long as a whole.
	maxValue = 2 << 10
)

// bounded returns the details with each text cut.
func (d Details) bounded() Details {
	for _, text := range []*string{&d.Type, &d.BaseURL, &d.Region, &d.KeyID, &d.Masked, &d.EnvHash, &d.DBHash, &d.Kind, &d.Expires, &d.Reason} {
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

// DecodeDetails returns the details of a stored entry. The details of another version need
// not fit: what does not is left out.
func DecodeDetails(stored []byte) (d Details) {
	_ = json.Unmarshal(stored, &d)
	return d
}

// Stage writes entries to the outbox. db must be the transaction that the
// entries describe, and that transaction must hold the seed lock, which puts
// the entries of one provider in the order of their commits. Texts that the outbox
// does not take are cut. An entry without an id gets one.
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
		if e.ID == uuid.Nil {
			if e.ID, err = uuid.NewV7(); err != nil {
				return err
			}
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

// Outbox describes the entries that wait for delivery.
type Outbox struct {
	Depth  int64
	Oldest time.Time // when the oldest entry was staged; zero when there is none
}

func oldest(outbox store.OutboxDepthRow) time.Time {
	if outbox.Depth == 0 {
		return time.Time{}
	}
	return time.Now().Add(-time.Duration(outbox.OldestAgeSeconds * float64(time.Second)))
}
