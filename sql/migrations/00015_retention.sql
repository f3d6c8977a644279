-- What was pruned (docs/retention.md).

-- +goose Up

-- The seq of the last row that was pruned from drift_alerts and from audit_log. It is no
-- column of the counters: a record locks the counter's row, and waits for no pruning.
CREATE TABLE provwatch.pruned (
    stream    text PRIMARY KEY CHECK (stream IN ('drift', 'audit')),
    seq       bigint NOT NULL,
    pruned_at timestamptz NOT NULL DEFAULT now()
);

-- Since when a worker that prunes has seen that the acceptance does not hold; null while
-- it holds.
ALTER TABLE provwatch.accepted_drift ADD COLUMN lapsed_at timestamptz;
