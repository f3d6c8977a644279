package retention

import (
	"context"
	"fmt"
	"time"

	"provwatch/internal/store"
)

// Holder is a sink that has not had rows which are old enough to be pruned: they stay, from
// the one after the seq on.
type Holder struct {
	Sink   string `json:"sink"`
	Stream string `json:"stream"`
	Seq    int64  `json:"seq"`
}

// holders returns the sinks that keep old rows from being pruned.
func holders(ctx context.Context, db store.DBTX, keep time.Duration) ([]Holder, error) {
	rows, err := store.On(db).ListPruningHolders(ctx, store.ListPruningHoldersParams{Now: time.Now(), KeepSeconds: keep.Seconds()})
	if err != nil {
		return nil, fmt.Errorf("look for sinks that keep old rows: %w", err)
	}
	list := make([]Holder, len(rows))
	for i, row := range rows {
		list[i] = Holder(row)
	}
	return list, nil
}
