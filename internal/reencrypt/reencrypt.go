// Package reencrypt encrypts the secrets of the provider tables anew while others
// read and write them: with the primary key of a keyset, or back to plain text.
package reencrypt

import (
	"context"
	"crypto/sha256"
	"fmt"
	"log/slog"
	"slices"
	"strings"
	"time"
	"unicode/utf8"

	"github.com/dustin/go-humanize/english"
	"github.com/google/uuid"
	"github.com/jackc/pgx/v5"
	"github.com/jackc/pgx/v5/pgxpool"

	"provwatch/internal/atrest"
	"provwatch/internal/audit"
	"provwatch/internal/postgres"
	"provwatch/internal/secret"
	"provwatch/internal/seed"
	"provwatch/internal/store"
)

const (
	// batchSize is how many providers one transaction writes to.
	batchSize = 200
	// maxPasses bounds how often everything is gone through. The first does all that
	// there is and the second finds nothing, unless others write at the same time.
	maxPasses = 10
	// passPause is the wait before another pass when somebody else is writing to
	// what is left.
	passPause = 200 * time.Millisecond
	// progressInterval is how often progress is logged.
	progressInterval = 2 * time.Second
)

// Failure is a provider that has a secret which cannot be decrypted.
type Failure struct {
	Provider   string    `json:"provider"`
	ProviderID uuid.UUID `json:"provider_id"`
	Reason     string    `json:"reason"`
}

// Summary says what was done.
type Summary struct {
	// KeyID is the key that everything is encrypted with now, empty for plain text.
	KeyID    string `json:"key_id"`
	Settings int    `json:"settings"` // rows written
	APIKeys  int    `json:"api_keys"`
	// Failures are left as they were.
	Failures []Failure `json:"failures"`
	// Left are rows that the last pass still has found: others were writing to them
	// all the while, or wrote them with another key.
	Left int `json:"left"`
}

// Written reports whether anything was written, and so an audit entry staged.
func (s Summary) Written() bool { return s.Settings+s.APIKeys > 0 }

// Err returns an error unless everything was done.
func (s Summary) Err() error {
	var problems []string
	if n := len(s.Failures); n > 0 {
		problems = append(problems, fmt.Sprintf("secrets of %s cannot be decrypted and are left as they were", english.Plural(n, "provider", "")))
	}
	if s.Left > 0 {
		problems = append(problems, fmt.Sprintf("others are writing to %s, or have written with another key; "+
			"run it again once whoever writes uses the same primary key", english.Plural(s.Left, "row", "")))
	}
	if len(problems) == 0 {
		return nil
	}
	return fmt.Errorf("%s", strings.Join(problems, "; "))
}

// Rotate encrypts with the primary key of the keyset what is stored in plain text
// or with another key.
//
// It reads without locks, and writes in short transactions to rows that still are
// as they were read: what others write meanwhile is never overwritten, and nobody
// is kept waiting for longer than one of them takes. It can be interrupted and
// run again, and several may run at once. It is audited in the actor's name, and
// raises no drift.
func Rotate(ctx context.Context, pool *pgxpool.Pool, keys *atrest.Keyset, actor string, logger *slog.Logger) (Summary, error) {
	r := newRun(pool, logger, actor)
	r.keyID, r.action = keys.Primary(), audit.ProviderReencrypted
	r.convert = func(stored secret.Text, keyID string, at atrest.Place) (string, error) {
		resealed, newKeyID, err := keys.Reseal(stored, keyID, at)
		if err == nil && newKeyID != r.keyID {
			return "", fmt.Errorf("the primary key has changed to %s meanwhile", newKeyID)
		}
		return resealed, err
	}
	return r.all(ctx)
}

// Decrypt stores in plain text what is encrypted, in the manner of [Rotate].
func Decrypt(ctx context.Context, pool *pgxpool.Pool, keys *atrest.Keyset, actor string, logger *slog.Logger) (Summary, error) {
	r := newRun(pool, logger, actor)
	r.keyID, r.action = "", audit.ProviderDecrypted
	r.convert = func(stored secret.Text, keyID string, at atrest.Place) (string, error) {
		plain, err := keys.Open(stored, keyID, at)
		if err != nil {
			return "", err
		}
		defer clear(plain)
		if !utf8.Valid(plain) || slices.Contains(plain, 0) {
			return "", fmt.Errorf("encrypted with key %q, and its plain text is none that the column can hold: write the value anew", keyID)
		}
		return string(plain), nil
	}
	return r.all(ctx)
}

// run is one call of Rotate or Decrypt.
type run struct {
	pool   *pgxpool.Pool
	logger *slog.Logger
	actor  string

	keyID   string // what everything is to be stored with
	action  audit.Action
	convert func(stored secret.Text, keyID string, at atrest.Place) (string, error)

	summary  Summary
	failures map[uuid.UUID]Failure // of the current pass
	reported time.Time
}

func newRun(pool *pgxpool.Pool, logger *slog.Logger, actor string) *run {
	return &run{pool: pool, logger: logger, actor: actor, reported: time.Now()}
}

func (r *run) all(ctx context.Context) (Summary, error) {
	r.summary.KeyID = r.keyID
	for range maxPasses {
		found, written, err := r.pass(ctx)
		r.summary.Left = found
		r.summary.Failures = r.failuresByName()
		if err != nil {
			return r.summary, fmt.Errorf("re-encrypt: %w", postgres.WithoutValues(err))
		}
		if found == 0 {
			break
		}
		if found == written {
			continue // others may have written with another key where the pass had been
		}
		select {
		case <-ctx.Done():
			return r.summary, ctx.Err()
		case <-time.After(passPause):
		}
	}
	return r.summary, nil
}

func (r *run) failuresByName() []Failure {
	failures := []Failure{}
	for _, f := range r.failures {
		failures = append(failures, f)
	}
	slices.SortFunc(failures, func(a, b Failure) int {
		return strings.Compare(a.Provider+a.ProviderID.String(), b.Provider+b.ProviderID.String())
	})
	return failures
}

// pass goes through all providers once, and returns how many rows it has found to
// be encrypted anew, and how many of these it has written.
func (r *run) pass(ctx context.Context) (found, written int, err error) {
	r.failures = map[uuid.UUID]Failure{}
	queries := store.On(r.pool)
	for after, first := uuid.Nil, true; ; first = false {
		providers, err := queries.ListStoredSecrets(ctx, store.ListStoredSecretsParams{
			KeyID: r.keyID, First: first, After: after, MaxProviders: batchSize,
		})
		if err != nil {
			return found, written, fmt.Errorf("list stored secrets: %w", err)
		}
		if len(providers) == 0 {
			return found, written, nil
		}
		after = providers[len(providers)-1].ID
		b, err := r.read(ctx, queries, providers)
		if err != nil {
			return found, written, err
		}
		found += len(b.settings.Ids) + len(b.keys.Ids)
		n, err := r.write(ctx, b)
		if err != nil {
			return found, written, fmt.Errorf("write a batch: %w", err)
		}
		written += n
		if time.Since(r.reported) > progressInterval {
			r.reported = time.Now()
			r.logger.InfoContext(ctx, "re-encrypting", "settings", r.summary.Settings, "api_keys", r.summary.APIKeys,
				"failures", len(r.failures), "up_to", after.String())
		}
	}
}

// batch is what one transaction is to write.
type batch struct {
	names    map[uuid.UUID]string // of providers, by id
	settings store.ReplaceStoredSettingsParams
	keys     store.ReplaceStoredKeysParams
}

// read encrypts anew what the providers store with another key.
func (r *run) read(ctx context.Context, queries *store.Queries, providers []store.ListStoredSecretsRow) (batch, error) {
	b := batch{names: map[uuid.UUID]string{}}
	b.settings.KeyID, b.keys.KeyID = r.keyID, r.keyID
	var ids []uuid.UUID
	for _, p := range providers {
		ids = append(ids, p.ID)
		b.names[p.ID] = p.Name
		if !p.SettingsStale {
			continue
		}
		replacement, err := r.convert(p.Settings, p.SettingsKeyID, atrest.SettingsOf(p.ID))
		if err != nil {
			r.fail(p.ID, p.Name, "settings", err)
			continue
		}
		b.settings.Ids = append(b.settings.Ids, p.ID)
		b.settings.OldDigests = append(b.settings.OldDigests, digest(p.Settings))
		b.settings.OldKeyIds = append(b.settings.OldKeyIds, p.SettingsKeyID)
		b.settings.News = append(b.settings.News, replacement)
	}
	keys, err := queries.ListStoredKeys(ctx, store.ListStoredKeysParams{ProviderIds: ids, KeyID: r.keyID})
	if err != nil {
		return b, fmt.Errorf("list stored API keys: %w", err)
	}
	for _, k := range keys {
		replacement, err := r.convert(k.ApiKey, k.ApiKeyKeyID, atrest.KeyOf(k.ID))
		if err != nil {
			r.fail(k.ProviderID, b.names[k.ProviderID], "API key "+k.ID.String(), err)
			continue
		}
		b.keys.Ids = append(b.keys.Ids, k.ID)
		b.keys.OldDigests = append(b.keys.OldDigests, digest(k.ApiKey))
		b.keys.OldKeyIds = append(b.keys.OldKeyIds, k.ApiKeyKeyID)
		b.keys.News = append(b.keys.News, replacement)
	}
	return b, nil
}

// digest returns what stands for a stored value in a statement that is to write
// over that value alone.
func digest(stored secret.Text) []byte {
	text := []byte(stored.Reveal())
	defer clear(text)
	sum := sha256.Sum256(text)
	return sum[:]
}

// fail notes the first failure of a provider.
func (r *run) fail(id uuid.UUID, name, what string, err error) {
	if _, noted := r.failures[id]; !noted {
		r.failures[id] = Failure{Provider: name, ProviderID: id, Reason: what + ": " + err.Error()}
	}
}

// write writes a batch and its audit entries, and returns how many rows it has
// written.
func (r *run) write(ctx context.Context, b batch) (written int, err error) {
	if len(b.settings.Ids)+len(b.keys.Ids) == 0 {
		return 0, nil
	}
	var settings []uuid.UUID
	var keys []store.ReplaceStoredKeysRow
	err = pgx.BeginFunc(ctx, r.pool, func(tx pgx.Tx) error {
		queries := store.On(tx)
		if err := queries.BoundIdleTransaction(ctx); err != nil {
			return err
		}
		// Before any row is locked: what is waited for is waited for here.
		if err := queries.LockSeed(ctx, seed.Lock); err != nil {
			return fmt.Errorf("take the seed lock: %w", err)
		}
		if err := queries.WriteProviders(ctx, func() error {
			if settings, err = queries.ReplaceStoredSettings(ctx, b.settings); err != nil {
				return err
			}
			keys, err = queries.ReplaceStoredKeys(ctx, b.keys)
			return err
		}); err != nil {
			return err
		}
		changed := slices.Clone(settings)
		for _, k := range keys {
			changed = append(changed, k.ProviderID)
		}
		return r.stage(ctx, tx, b, changed)
	})
	if err != nil {
		return 0, err
	}
	r.summary.Settings += len(settings)
	r.summary.APIKeys += len(keys)
	return len(settings) + len(keys), nil
}

// stage stages an entry for each of the providers, which can repeat.
func (r *run) stage(ctx context.Context, tx pgx.Tx, b batch, providers []uuid.UUID) error {
	var entries []audit.Entry
	staged := map[uuid.UUID]bool{}
	now := time.Now()
	for _, id := range providers {
		// An API key can have been given to a provider that is not of the batch.
		if name, ok := b.names[id]; ok && !staged[id] {
			staged[id] = true
			entryID, err := uuid.NewV7()
			if err != nil {
				return err
			}
			entries = append(entries, audit.Entry{
				ID: entryID, OccurredAt: now, Actor: r.actor, Action: r.action, Provider: name, ProviderID: id,
				Details: audit.Details{EncryptionKeyID: r.keyID},
			})
		}
	}
	return audit.Stage(ctx, tx, entries)
}
