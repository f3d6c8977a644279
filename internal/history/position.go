package history

import (
	"context"
	"fmt"
	"log/slog"

	"github.com/google/uuid"
	"github.com/jackc/pgx/v5"
	"github.com/jackc/pgx/v5/pgxpool"

	"provwatch/internal/postgres"
	"provwatch/internal/store"
)

// snapshot is how a position reads. Where the sequence ends, which alerts are there, and which
// were pruned are as of one moment.
var snapshot = pgx.TxOptions{IsoLevel: pgx.RepeatableRead, AccessMode: pgx.ReadOnly}

const (
	// pageSize is how many alerts are read at a time.
	pageSize = 500
	// maxKnown bounds how many alerts a position remembers.
	maxKnown = 1000
)

// position is how far a reader has read the sequence of alerts. It belongs to one goroutine.
type position struct {
	seq   int64
	epoch uuid.UUID // of the sequence at the last read
	// known are the latest alerts that were read, by seq. At the beginning it has the alert
	// of the seq where the reader begins.
	known map[int64]uuid.UUID
	// pruned is the seq up to which alerts were pruned, as last logged.
	pruned int64
}

// begin returns the position of a reader that has read all alerts up to since, or all
// alerts where since is negative.
func begin(ctx context.Context, pool *pgxpool.Pool, since int64, logger *slog.Logger) (p *position, err error) {
	err = postgres.BeginTx(ctx, pool, snapshot, func(tx pgx.Tx) (err error) {
		p, err = beginAt(ctx, store.On(tx), since, logger)
		return err
	})
	return p, err
}

func beginAt(ctx context.Context, queries *store.Queries, since int64, logger *slog.Logger) (*position, error) {
	end, err := queries.ReadAlertsEnd(ctx, since)
	if err != nil {
		return nil, err
	}
	if since > end.LastSeq {
		logger.WarnContext(ctx, "there is no alert of that seq, starting after the last one",
			"since", since, "last_seq", end.LastSeq)
		since = end.LastSeq
	}
	if since < 0 {
		since = end.LastSeq
	}
	if end, err = queries.ReadAlertsEnd(ctx, since); err != nil {
		return nil, err
	}
	p := &position{seq: since, epoch: end.Epoch, known: map[int64]uuid.UUID{}}
	if end.ID != nil {
		p.known[since] = *end.ID
	}
	return p, nil
}

// next returns the next alerts, at most a page of them.
func (p *position) next(ctx context.Context, pool *pgxpool.Pool, logger *slog.Logger) (alerts []store.StoredAlert, err error) {
	err = postgres.BeginTx(ctx, pool, snapshot, func(tx pgx.Tx) (err error) {
		alerts, err = p.list(ctx, store.On(tx), logger)
		return err
	})
	return alerts, err
}

func (p *position) list(ctx context.Context, queries *store.Queries, logger *slog.Logger) ([]store.StoredAlert, error) {
	if err := p.check(ctx, queries, logger); err != nil {
		return nil, err
	}
	alerts, err := queries.ListAlertsSince(ctx, p.seq, pageSize)
	if err != nil || !p.hasHole(alerts) {
		return alerts, err
	}
	return alerts, p.checkPruned(ctx, queries, logger)
}

// hasHole reports whether alerts are missing before the last of the alerts that were read.
// Nothing prunes the last alert of all.
func (p *position) hasHole(alerts []store.StoredAlert) bool {
	return len(alerts) > 0 && alerts[len(alerts)-1].Seq > p.seq+int64(len(alerts))
}

// checkPruned logs, once for each seq, that alerts after this position were pruned.
func (p *position) checkPruned(ctx context.Context, queries *store.Queries, logger *slog.Logger) error {
	pruned, err := queries.ReadPruned(ctx, "drift")
	if err != nil || pruned <= p.seq || pruned <= p.pruned {
		return err
	}
	logger.InfoContext(ctx, "alerts were pruned, continuing with the alerts that are left", "since", p.seq, "pruned_up_to", pruned)
	p.pruned = pruned
	return nil
}

// read records that an alert was read.
func (p *position) read(alert store.StoredAlert) {
	p.seq, p.epoch = alert.Seq, alert.Epoch
	p.known[alert.Seq] = alert.ID
	delete(p.known, alert.Seq-maxKnown)
}

// check goes back to the last alert that this reader and the table share, when the sequence
// was rewound since the last read.
func (p *position) check(ctx context.Context, queries *store.Queries, logger *slog.Logger) error {
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
		// Its seq has another alert, or is above the last one.
	case end.Epoch == p.epoch, end.ID != nil && known:
		// The alert exists, or it was deleted or never known and nothing was rewound.
		p.epoch = end.Epoch
		return nil
	}
	shared, err := p.shared(ctx, queries, end.LastSeq)
	if err != nil {
		return err
	}
	logger.WarnContext(ctx, "sequence of alerts rewound, continuing after the last alert that still exists",
		"read_up_to", p.seq, "still_there", shared, "epoch", end.Epoch.String())
	for seq := range p.known {
		if seq > shared {
			delete(p.known, seq)
		}
	}
	p.seq, p.epoch = shared, end.Epoch
	return nil
}

// shared returns the seq of the last alert that was read and still exists.
func (p *position) shared(ctx context.Context, queries *store.Queries, last int64) (int64, error) {
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
	// Of the alerts before them only the epoch is known.
	return queries.LastOfEpoch(ctx, store.LastOfEpochParams{Epoch: p.epoch, Seq: lowest})
}
