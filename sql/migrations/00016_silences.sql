-- Silences: an alert that one matches is recorded and published, and does not go to sinks.

-- +goose Up

-- A row for each silence, made by an operator. It lasts from begins_at until ends_at, by the
-- database's clock.
CREATE TABLE provwatch.silences (
    id        bigint GENERATED ALWAYS AS IDENTITY PRIMARY KEY,
    -- The provider's name, which the environment need not name, or '*' for all providers.
    provider  text NOT NULL CHECK (octet_length(provider) BETWEEN 1 AND 1000),
    author    text NOT NULL,
    reason    text NOT NULL CHECK (char_length(reason) <= 500),
    begins_at timestamptz NOT NULL CHECK (isfinite(begins_at)),
    ends_at   timestamptz NOT NULL CHECK (isfinite(ends_at)),
    -- The operator who ended it before its time, empty for none.
    ended_by  text NOT NULL DEFAULT '',
    CHECK (ends_at >= begins_at)
);
CREATE INDEX silences_ends_at_idx ON provwatch.silences (ends_at);

-- Whether a silence matched the alert, and the seq of the alert that it repeats: a drift
-- that outlives its silence gets a new alert.
ALTER TABLE provwatch.drift_alerts
    ADD COLUMN silenced boolean NOT NULL DEFAULT false,
    ADD COLUMN repeats bigint;

-- The latest alert of a drift whose alerts were all silenced. It counts only where it is
-- equal to alert_seq, which an earlier version writes without it.
ALTER TABLE provwatch.drift_state ADD COLUMN silenced_seq bigint;

-- Drifts that were alerted before migration 14 and last.
UPDATE provwatch.drift_state s SET alert_seq = latest.seq
FROM (
    SELECT DISTINCT ON (provider) provider, seq, kind FROM provwatch.drift_alerts ORDER BY provider, seq DESC
) AS latest
WHERE latest.provider = s.provider AND latest.kind <> 'resolved' AND s.kind <> 'in_sync' AND s.alert_seq IS NULL;
