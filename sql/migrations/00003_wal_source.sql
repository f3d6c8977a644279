-- What the WAL source keeps (docs/architecture.md): the mirror of the provider
-- table as of the last transaction that it handled, and which one that was.

-- +goose Up
ALTER TABLE provwatch.drift_alerts
    ADD COLUMN lsn pg_lsn,
    ADD COLUMN xid bigint,
    ADD COLUMN committed_at timestamptz;

-- A row for each row of ai_providers, with what the canonical hash needs and
-- nothing else. base_url is null where it has a part that can be secret; it is
-- read again from the provider table where it is needed.
CREATE TABLE provwatch.wal_mirror (
    id             uuid PRIMARY KEY,
    name           text NOT NULL,
    type           text NOT NULL,
    base_url       text,
    base_url_shown text NOT NULL,
    bedrock_region text NOT NULL,
    undecodable    text NOT NULL,
    db_hash        text NOT NULL,
    enabled        boolean NOT NULL,
    deleted        boolean NOT NULL,
    updated_at     timestamptz NOT NULL
);

-- The slot that the mirror goes with, and the end of the last transaction whose
-- changes and alerts are durable. Its row is locked by whoever applies one.
CREATE TABLE provwatch.wal_position (
    singleton   boolean PRIMARY KEY DEFAULT true CHECK (singleton),
    slot        text NOT NULL,
    applied_lsn pg_lsn NOT NULL,
    -- Why the slot can no longer be relied upon, empty while it can. It is set
    -- before the slot is touched, and cleared by the transaction after which
    -- another one counts and the gap is announced.
    gap         text NOT NULL DEFAULT ''
);
