package history

import (
	"context"
	"fmt"
	"log/slog"

	"github.com/google/uuid"

	"provwatch/internal/store"
)

// maxKnown bounds how many alerts a place remembers.
const maxKnown = 1000

// place is how far a reader has got in the sequence of alerts. It belongs to one goroutine.
type place struct {
	seq   int64
	epoch uuid.UUID // of the sequence when it was last seen
	// known are the latest alerts that were read, by seq, or that of the seq where the
	// reader began.
	known map[int64]uuid.UUID
}

// begin returns the place of a reader that has read all up to since, or all that there is
// where since is negative.
func begin(ctx context.Context, queries *store.Queries, since int64, logger *slog.Logger) (*place, error) {
	end, err := queries.ReadAlertsEnd(ctx, since)
	if err != nil {
		return nil, err
	}
	if since > end.LastSeq {
		logger.WarnContext(ctx, "there is no alert of that seq: the sequence of alerts was rewound, as by a restore, if there ever was; printing those after the last one",
			"since", since, "last_seq", end.LastSeq)
		since = end.LastSeq
	}
	if since < 0 {
		since = end.LastSeq
	}
	if end, err = queries.ReadAlertsEnd(ctx, since); err != nil {
		return nil, err
	}
	p := &place{seq: since, epoch: end.Epoch, known: map[int64]uuid.UUID{}}
	if end.ID != nil {
		p.known[since] = *end.ID
	}
	return p, nil
}

// next returns the alerts to be read next, at most as many as a page has.
func (p *place) next(ctx context.Context, queries *store.Queries, logger *slog.Logger) ([]store.ListAlertsSinceRow, error) {
	if err := p.check(ctx, queries, logger); err != nil {
		return nil, err
	}
	return queries.ListAlertsSince(ctx, store.ListAlertsSinceParams{Seq: p.seq, MaxAlerts: pageSize})
}

// read notes that an alert was read.
func (p *place) read(row store.ListAlertsSinceRow) {
	p.seq, p.epoch = row.Seq, row.Epoch
	p.known[row.Seq] = row.ID
	delete(p.known, row.Seq-maxKnown)
}

// check goes back to the last alert that this reader and the table share, when the sequence
// was rewound since it last looked.
func (p *place) check(ctx context.Context, queries *store.Queries, logger *slog.Logger) error {
	end, err := queries.ReadAlertsEnd(ctx, p.seq)
	if err != nil {
		return err
	}
	if p.seq == 0 {
		p.epoch = end.Epoch
		return nil
	}
	id, known := p.known[p.seq]
	switch {
	case end.ID != nil && known && *end.ID != id, end.LastSeq < p.seq:
		// Another alert has its seq, or none.
	case end.Epoch == p.epoch, end.ID != nil && known:
		// It is there; or it was deleted, or was never known, and nothing was rewound.
		p.epoch = end.Epoch
		return nil
	}
	shared, err := p.shared(ctx, queries, end.LastSeq)
	if err != nil {
		return err
	}
	logger.WarnContext(ctx, "the sequence of alerts was rewound, as by a restore; going on after the last alert that is still there",
		"read_up_to", p.seq, "still_there", shared, "epoch", end.Epoch.String())
	for seq := range p.known {
		if seq > shared {
			delete(p.known, seq)
		}
	}
	p.seq, p.epoch = shared, end.Epoch
	return nil
}

// shared returns the seq of the last alert that was read and is still there.
func (p *place) shared(ctx context.Context, queries *store.Queries, last int64) (int64, error) {
	seqs := make([]int64, 0, len(p.known))
	lowest := min(p.seq, last)
	for seq := range p.known {
		seqs = append(seqs, seq)
		lowest = min(lowest, seq-1)
	}
	found, err := queries.FindAlerts(ctx, seqs)
	if err != nil {
		return 0, fmt.Errorf("look for alerts that were read: %w", err)
	}
	shared := int64(-1)
	for _, row := range found {
		if p.known[row.Seq] == row.ID {
			shared = max(shared, row.Seq)
		}
	}
	if shared >= 0 {
		return shared, nil
	}
	// Of those before there is the epoch alone.
	return queries.LastOfEpoch(ctx, store.LastOfEpochParams{Epoch: p.epoch, Seq: lowest})
}
