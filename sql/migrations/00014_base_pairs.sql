-- What both sides of a provider were when they last agreed, so that an alert names
-- the side that has moved since, and the way in which a drift ended.

-- +goose Up

-- A row for each provider that both sides have agreed on: when they were equal, or when
-- a difference was accepted. It stays when the environment no longer names the provider.
-- A base URL that can hold credentials, and a value that is too long to be stored a second
-- time, is a keyed digest.
CREATE TABLE provwatch.base_pairs (
    provider           text PRIMARY KEY,
    env_hash           text NOT NULL,
    env_type           text NOT NULL,
    env_base_url       text NOT NULL,
    env_bedrock_region text NOT NULL,
    -- Those of the row by itself: the type of a Bedrock row is bedrock.
    db_hash            text NOT NULL,
    db_type            text NOT NULL,
    db_base_url        text NOT NULL,
    db_bedrock_region  text NOT NULL,
    -- Identifies the key of the digests, empty without a digest.
    hash_key           text NOT NULL DEFAULT '',
    -- What made both sides agree. Once that is recorded of a provider, it is 'agreement'.
    origin             text NOT NULL CHECK (origin IN ('agreement', 'resolve')),
    -- Whether the environment has named the provider ever since.
    named              boolean NOT NULL DEFAULT true,
    set_at             timestamptz NOT NULL DEFAULT now()
);

-- The latest alert of the drift that lasts, null where the provider is in sync, and where
-- a drift was there before the first verification.
ALTER TABLE provwatch.drift_state ADD COLUMN alert_seq bigint;

ALTER TABLE provwatch.drift_alerts
    ADD COLUMN moved text NOT NULL DEFAULT '',
    ADD COLUMN how text NOT NULL DEFAULT '',
    ADD COLUMN resolves bigint;
