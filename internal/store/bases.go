package store

import (
	"context"
	"encoding/json"
	"fmt"
	"slices"

	"github.com/jackc/pglogrepl"

	"provwatch/internal/drift"
	"provwatch/internal/provider"
)

// NamedBase is the base of a provider.
type NamedBase struct {
	Provider string
	drift.Base
	// Applied is set for a base of an apply, in the transaction that writes the row.
	Applied bool
}

// baseRecord is a row of base_pairs.
type baseRecord struct {
	Provider         text  `json:"provider"`
	EnvHash          text  `json:"env_hash"`
	EnvType          text  `json:"env_type"`
	EnvBaseURL       text  `json:"env_base_url"`
	EnvBedrockRegion text  `json:"env_bedrock_region"`
	DBHash           text  `json:"db_hash"`
	DBType           text  `json:"db_type"`
	DBBaseURL        text  `json:"db_base_url"`
	DBBedrockRegion  text  `json:"db_bedrock_region"`
	HashKey          text  `json:"hash_key"`
	Origin           text  `json:"origin"`
	Named            bool  `json:"named"`
	SetAt            *text `json:"set_at"` // of the base before, where it is written
	Applied          bool  `json:"applied"`
	AppliedLSN       *text `json:"applied_lsn,omitempty"` // where it is read
}

func encodeBases(bases []NamedBase) ([]byte, error) {
	records := make([]baseRecord, len(bases))
	for i, b := range bases {
		records[i] = baseRecord{
			Provider: text(b.Provider), HashKey: text(b.HashKey), Origin: text(b.Origin), Named: b.Named, SetAt: nullable(b.SetAt), Applied: b.Applied,
			EnvHash: text(b.Env.Hash), EnvType: text(b.Env.Type), EnvBaseURL: text(b.Env.BaseURL), EnvBedrockRegion: text(b.Env.BedrockRegion),
			DBHash: text(b.DB.Hash), DBType: text(b.DB.Type), DBBaseURL: text(b.DB.BaseURL), DBBedrockRegion: text(b.DB.BedrockRegion),
		}
	}
	return encode(records)
}

// baseOf returns the base that a row of base_pairs holds as JSON, nil for none.
func baseOf(row []byte) (*drift.Base, error) {
	if row == nil {
		return nil, nil
	}
	var r baseRecord
	if err := json.Unmarshal(row, &r); err != nil {
		return nil, fmt.Errorf("decode a row of provwatch.base_pairs: %w", err)
	}
	var applied pglogrepl.LSN
	if lsn := string(deref(r.AppliedLSN)); lsn != "" {
		var err error
		if applied, err = pglogrepl.ParseLSN(lsn); err != nil {
			return nil, fmt.Errorf("decode a row of provwatch.base_pairs: %w", err)
		}
	}
	return &drift.Base{
		Env:     drift.Side{Hash: string(r.EnvHash), Type: provider.Type(r.EnvType), BaseURL: string(r.EnvBaseURL), BedrockRegion: string(r.EnvBedrockRegion)},
		DB:      drift.Side{Hash: string(r.DBHash), Type: provider.Type(r.DBType), BaseURL: string(r.DBBaseURL), BedrockRegion: string(r.DBBedrockRegion)},
		HashKey: string(r.HashKey), Origin: drift.Origin(r.Origin), Named: r.Named, SetAt: string(deref(r.SetAt)), AppliedLSN: uint64(applied),
	}, nil
}

// ListBases returns the bases of the providers named, by name.
func (q *Queries) ListBases(ctx context.Context, names []string) (map[string]*drift.Base, error) {
	rows, err := q.listBases(ctx, names)
	if err != nil {
		return nil, err
	}
	return basesOf(rows)
}

func basesOf(rows []listBasesRow) (map[string]*drift.Base, error) {
	bases := make(map[string]*drift.Base, len(rows))
	for _, row := range rows {
		base, err := baseOf(row.Base)
		if err != nil {
			return nil, err
		}
		bases[row.Provider] = base
	}
	return bases, nil
}

// SetBases records bases. A base that another transaction has replaced since it was
// read stands.
func (q *Queries) SetBases(ctx context.Context, bases []NamedBase) error {
	return q.writeBases(ctx, bases, false)
}

// ReplaceBase records a base in the transaction that locks the provider's row, or inserts it.
// Whatever else was recorded since the base was read is from before this agreement.
func (q *Queries) ReplaceBase(ctx context.Context, base NamedBase) error {
	base.SetAt = ""
	return q.writeBases(ctx, []NamedBase{base}, true)
}

func (q *Queries) writeBases(ctx context.Context, bases []NamedBase, replaces bool) error {
	for some := range slices.Chunk(bases, chunk) {
		encoded, err := encodeBases(some)
		if err != nil {
			return err
		}
		if err := q.setBases(ctx, setBasesParams{Replaces: replaces, Bases: encoded}); err != nil {
			return fmt.Errorf("record what both sides agree on: %w", err)
		}
	}
	return nil
}
