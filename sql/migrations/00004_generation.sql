-- The generation of what is recorded about providers, and an index by which a
-- part of the mirror is read.

-- +goose Up

-- It changes with everything that is written to drift_state and drift_alerts,
-- and whenever a worker begins to lead: who writes names the generation that it
-- has looked at, and is refused when there is another one by now.
ALTER TABLE provwatch.alert_counter ADD COLUMN generation bigint NOT NULL DEFAULT 0;

CREATE INDEX wal_mirror_name_idx ON provwatch.wal_mirror (name);
