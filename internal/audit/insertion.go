package audit

import (
	"time"

	"provwatch/internal/provider"
	"provwatch/internal/store"
)

// Inserted returns the entries of rows that the actor inserts: of each provider, followed by
// those of its keys, and then of keys that providers get which were there.
func Inserted(rows store.NewRows, actor string, at time.Time) []Entry {
	entries := make([]Entry, 0, len(rows.Providers)+len(rows.Keys))
	keys := rows.Keys
	for _, p := range rows.Providers {
		count := len(p.Desired.Keys)
		entries = append(entries, Entry{
			OccurredAt: at, Actor: actor, Action: ProviderCreated, Provider: p.Desired.Name, ProviderID: p.ID,
			Details: Details{
				Type:    string(p.Type),
				BaseURL: provider.DisplayURL(p.Desired.BaseURL),
				Region:  p.Desired.DisplayRegion(),
				Keys:    &count,
			},
		})
		for len(keys) > 0 && keys[0].ProviderID == p.ID {
			entries = append(entries, insertedKey(keys[0], actor, at))
			keys = keys[1:]
		}
	}
	for _, key := range keys {
		entries = append(entries, insertedKey(key, actor, at))
	}
	return entries
}

func insertedKey(key store.NewKey, actor string, at time.Time) Entry {
	return Entry{
		OccurredAt: at, Actor: actor, Action: KeyCreated, Provider: key.Provider, ProviderID: key.ProviderID,
		Details: Details{KeyID: key.ID.String(), Masked: key.Key.Mask()},
	}
}
