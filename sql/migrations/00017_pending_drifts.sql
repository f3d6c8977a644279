-- Drifts that are not alerted yet, since they have not lasted for --alert-after.

-- +goose Up

-- A row for each provider that drifts and whose drift is not alerted yet. What drift_state has of
-- it stands meanwhile.
CREATE TABLE provwatch.pending_drifts (
    provider     text PRIMARY KEY,
    -- The drift as it was last seen.
    provider_id  uuid,
    kind         text NOT NULL,
    env_hash     text NOT NULL,
    db_hash      text NOT NULL,
    credentials  text NOT NULL DEFAULT '',
    fields       jsonb NOT NULL,
    moved        text NOT NULL,
    -- What has shown that: the source of a verification, or a transaction of the WAL.
    source       text NOT NULL,
    lsn          pg_lsn,
    xid          bigint,
    committed_at timestamptz,
    -- When the provider began to drift. Other values do not change it.
    since        timestamptz NOT NULL
);
CREATE INDEX pending_drifts_provider_id_idx ON provwatch.pending_drifts (provider_id);
