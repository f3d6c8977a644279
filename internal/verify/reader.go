package verify

import (
	"cmp"
	"context"
	"slices"

	"github.com/google/uuid"

	"provwatch/internal/dbcrypt"
	"provwatch/internal/drift"
	"provwatch/internal/provider"
	"provwatch/internal/secret"
	"provwatch/internal/store"
)

// reader reads providers as they are compared: decoded, and with digests instead of
// credentials, made with a key that only this process has. So it compares credentials
// without keeping any.
//
// It has no state, and is not changed after the first verification has begun.
type reader struct {
	credentials drift.CredentialMode
	unmanaged   drift.UnmanagedMode
	keys        *dbcrypt.Ring // nil: what is encrypted cannot be decoded
	digest      secret.Digester
}

// comparison is one provider as observed, beside what is recorded of it.
type comparison struct {
	observation drift.Observation
	recorded    drift.Recorded
	// formerServes reports whether the row that was recorded is unmanaged by now: it has
	// another name, and is enabled and live.
	formerServes bool
}

// reading is what one statement has shown, in one moment.
type reading struct {
	comparisons []comparison       // in the order of their names
	rows        []rowComparison    // of unmanaged rows, in the order of their names
	ids         map[uuid.UUID]bool // that it came across
	generation  int64              // of what is recorded
	lastSeq     int64              // of the latest alert
	newest      int64              // generation of environments
}

// subjects returns what the reading has shown something of.
func (r reading) subjects() []drift.Subject {
	var list []drift.Subject
	for _, c := range r.rows {
		list = append(list, c.observation.Subject())
	}
	for _, c := range r.comparisons {
		list = append(list, c.observation.Subject())
	}
	return list
}

// read compares the providers named, and the providers and rows of the ids. It passes over
// names that the environment does not have.
func (r reader) read(ctx context.Context, db store.DBTX, e *environment, h provider.Hasher, names []string, ids []uuid.UUID, credentials bool) (reading, error) {
	found, err := store.On(db).LookAtProviders(ctx, names, ids, r.keys, credentials)
	if err != nil {
		return reading{}, err
	}
	read := reading{ids: found.IDs, generation: found.Generation, lastSeq: found.LastSeq, newest: found.Newest}
	for name, seen := range found.Providers {
		desired, named := e.find(name)
		if !named {
			continue
		}
		if credentials {
			for i := range seen.Rows {
				r.digestOf(&seen.Rows[i])
			}
		}
		observed := drift.Compare(h, desired, provider.Current(seen.Rows), credentials)
		if observed.Kind == drift.Missing {
			observed.RenamedTo = seen.RenamedTo(name)
		}
		serves := seen.FormerEnabled && seen.FormerName != "" && !e.mentions(seen.FormerName)
		read.comparisons = append(read.comparisons, comparison{observed, seen.Recorded, serves})
	}
	slices.SortFunc(read.comparisons, func(a, b comparison) int { return cmp.Compare(a.observation.Provider, b.observation.Provider) })
	if r.unmanaged.Looks() && found.Started {
		read.rows = compareRows(e, h, found.Rows)
	}
	return read, nil
}

// desired returns of a desired provider what is compared, and no credential.
func (r reader) desired(d provider.Desired) provider.Desired {
	compared := d.WithoutCredentials()
	if !r.credentials.Compares() {
		return compared
	}
	for _, key := range d.Keys {
		compared.Keys = append(compared.Keys, r.digest.Of(key))
	}
	if b := d.Bedrock; b != nil {
		compared.Bedrock.AccessKey, compared.Bedrock.AccessKeySecret = r.digest.Of(b.AccessKey), r.digest.Of(b.AccessKeySecret)
	}
	return compared
}

// digestOf decodes a row and replaces its credentials by digests.
func (r reader) digestOf(row *provider.Row) {
	if !row.Type.HashNeedsSettings() {
		row.Decoded = &provider.DecodedSettings{}
	} else if row.Decoded == nil {
		row.Decoded = provider.DecodedWithCredentials(provider.DecodeSettings(row.Settings, row.SettingsKeyID))
	}
	row.Decoded.AccessKey, row.Decoded.AccessKeySecret = r.digest.Of(row.Decoded.AccessKey), r.digest.Of(row.Decoded.AccessKeySecret)
	for i := range row.Keys {
		if row.Keys[i].KeyID == "" {
			row.Keys[i].Key = r.digest.Of(row.Keys[i].Key)
		}
	}
}
