package store

import (
	"context"
	"time"

	"github.com/google/uuid"

	"provwatch/internal/provider"
)

// MirrorRow is a row of wal_mirror: a provider as the WAL last showed it.
type MirrorRow struct {
	ID               uuid.UUID
	Name             string
	Type             provider.Type
	BaseURL          *string // nil where it is not kept
	BaseURLShown     string
	BedrockRegion    string
	BedrockRegionCut bool
	BedrockSettings  bool
	NotComparable    string
	Hashes           provider.RowHashes
	Enabled, Deleted bool
	UpdatedAt        time.Time
}

// mirrorRecord is a row of the query putMirror.
type mirrorRecord struct {
	ID               uuid.UUID `json:"id"`
	Name             text      `json:"name"`
	Type             text      `json:"type"`
	BaseURL          *text     `json:"base_url"`
	BaseURLShown     text      `json:"base_url_shown"`
	BedrockRegion    text      `json:"bedrock_region"`
	BedrockRegionCut bool      `json:"bedrock_region_cut"`
	BedrockSettings  bool      `json:"bedrock_settings"`
	NotComparable    text      `json:"not_comparable"`
	DBHash           text      `json:"db_hash"`
	DBHashAnthropic  text      `json:"db_hash_anthropic"`
	Enabled          bool      `json:"enabled"`
	Deleted          bool      `json:"deleted"`
	UpdatedAt        timestamp `json:"updated_at"`
}

// ListMirror returns the rows of the mirror that have one of the ids or names, or share a
// name with a row of one of the ids.
func (q *Queries) ListMirror(ctx context.Context, ids []uuid.UUID, names []string) ([]MirrorRow, error) {
	stored, err := q.listMirror(ctx, listMirrorParams{Ids: ids, Names: names})
	rows := make([]MirrorRow, len(stored))
	for i, s := range stored {
		rows[i] = s.row()
	}
	return rows, err
}

// ListMirrorByID returns the rows of the mirror that have one of the ids.
func (q *Queries) ListMirrorByID(ctx context.Context, ids []uuid.UUID) ([]MirrorRow, error) {
	stored, err := q.listMirrorByID(ctx, ids)
	rows := make([]MirrorRow, len(stored))
	for i, s := range stored {
		rows[i] = listMirrorRow(s).row()
	}
	return rows, err
}

func (s listMirrorRow) row() MirrorRow {
	return MirrorRow{
		ID: s.ID, Name: s.Name, Type: provider.Type(s.Type), BaseURL: s.BaseUrl, BaseURLShown: s.BaseUrlShown,
		BedrockRegion: s.BedrockRegion, BedrockRegionCut: s.BedrockRegionCut, BedrockSettings: s.BedrockSettings, NotComparable: s.NotComparable,
		Hashes: provider.RowHashes{Alone: s.DbHash, Anthropic: s.DbHashAnthropic}, Enabled: s.Enabled, Deleted: s.Deleted, UpdatedAt: s.UpdatedAt.UTC(),
	}
}

// PutMirror writes rows to the mirror. It replaces the rows of the same ids.
func (q *Queries) PutMirror(ctx context.Context, rows []MirrorRow) error {
	records := make([]mirrorRecord, len(rows))
	for i, row := range rows {
		records[i] = mirrorRecord{
			ID: row.ID, Name: text(row.Name), Type: text(row.Type), BaseURL: (*text)(row.BaseURL), BaseURLShown: text(row.BaseURLShown),
			BedrockRegion: text(row.BedrockRegion), BedrockRegionCut: row.BedrockRegionCut, BedrockSettings: row.BedrockSettings,
			NotComparable: text(row.NotComparable), DBHash: text(row.Hashes.Alone), DBHashAnthropic: text(row.Hashes.Anthropic),
			Enabled: row.Enabled, Deleted: row.Deleted, UpdatedAt: timestamp(row.UpdatedAt),
		}
	}
	return write(ctx, records, q.putMirror)
}
