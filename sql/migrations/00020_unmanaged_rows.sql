-- Rows of the provider table that the environment does not name, and the names that rows of
-- missing providers were given.

-- +goose Up

-- A row for each enabled, live row that the environment does not name. It is deleted when
-- the row is disabled or deleted, or the environment names it.
CREATE TABLE provwatch.unmanaged_rows (
    provider_id  uuid PRIMARY KEY,
    -- The name of the row when this was recorded: once it was alerted, the name in the alert.
    provider     text NOT NULL,
    -- known: it is not alerted, since it was there before or the environment named it.
    -- unmanaged: it was alerted. in_sync: an operator has accepted it.
    kind         text NOT NULL CHECK (kind IN ('known', 'unmanaged', 'in_sync')),
    -- The hash of the row when it was alerted or accepted.
    db_hash      text NOT NULL DEFAULT '',
    -- The latest alert of the drift that lasts.
    alert_seq    bigint,
    -- alert_seq, of a drift whose alerts were all silenced.
    silenced_seq bigint,
    observed_at  timestamptz NOT NULL DEFAULT now()
);
CREATE INDEX unmanaged_rows_drift_idx ON provwatch.unmanaged_rows (provider) WHERE kind <> 'known';

-- When a worker took the unmanaged rows that were there for known ones: no row before.
CREATE TABLE provwatch.unmanaged_baseline (
    singleton boolean PRIMARY KEY DEFAULT true CHECK (singleton),
    taken_at  timestamptz NOT NULL DEFAULT now()
);

-- Unmanaged rows that an operator accepted with "worker resolve --take db": an acceptance
-- holds while the hash of the row stays as it was.
CREATE TABLE provwatch.accepted_rows (
    provider_id uuid PRIMARY KEY,
    provider    text NOT NULL,
    db_hash     text NOT NULL,
    -- The hash of type and base URL alone, for a row whose settings can no longer be read.
    part_hash   text NOT NULL,
    accepted_by text NOT NULL,
    accepted_at timestamptz NOT NULL DEFAULT now(),
    reason      text NOT NULL DEFAULT '' CHECK (char_length(reason) <= 500),
    expires_at  timestamptz CHECK (isfinite(expires_at))
);

-- Drifts of unmanaged rows that are not alerted yet, as pending_drifts has those of providers.
CREATE TABLE provwatch.pending_rows (
    provider_id  uuid PRIMARY KEY,
    provider     text NOT NULL, -- the name of the row when this was recorded
    db_hash      text NOT NULL,
    fields       jsonb NOT NULL,
    source       text NOT NULL,
    lsn          pg_lsn,
    xid          bigint,
    committed_at timestamptz,
    since        timestamptz NOT NULL
);

-- The name that the row of a missing provider has been given.
ALTER TABLE provwatch.drift_alerts ADD COLUMN renamed_to text NOT NULL DEFAULT '';
ALTER TABLE provwatch.pending_drifts ADD COLUMN renamed_to text NOT NULL DEFAULT '';

-- Whether an alert is about an unmanaged row: the row of the id provider_id drifts, or did,
-- and no provider of the name.
ALTER TABLE provwatch.drift_alerts ADD COLUMN unmanaged boolean NOT NULL DEFAULT false;
CREATE INDEX drift_alerts_row_idx ON provwatch.drift_alerts (provider_id, seq) WHERE unmanaged;
