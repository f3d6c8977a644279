-- The gateway's own tables, for a database that has none yet (docs/specification.md,
-- section 3). Where another program has made them this migration is left out, and
-- nothing of theirs is changed: see internal/schema.

-- +goose Up
CREATE TYPE gateway.ai_provider_type AS ENUM ('openai', 'anthropic');

-- The keys that secrets are encrypted with. active_key_digest is null once a key is
-- revoked; test is the word "coder", encrypted with the key.
CREATE TABLE gateway.dbcrypt_keys (
    number             integer PRIMARY KEY,
    active_key_digest  text UNIQUE,
    revoked_key_digest text UNIQUE,
    created_at         timestamptz DEFAULT now(),
    revoked_at         timestamptz,
    test               text NOT NULL
);

CREATE TABLE gateway.ai_providers (
    id              uuid PRIMARY KEY,
    type            gateway.ai_provider_type NOT NULL,
    name            text NOT NULL CHECK (name ~ '^[a-z0-9]+(-[a-z0-9]+)*$'),
    display_name    text,
    enabled         boolean NOT NULL DEFAULT true,
    deleted         boolean NOT NULL DEFAULT false,
    base_url        text NOT NULL,
    settings        text,
    settings_key_id text REFERENCES gateway.dbcrypt_keys (active_key_digest),
    created_at      timestamptz NOT NULL DEFAULT now(),
    updated_at      timestamptz NOT NULL DEFAULT now()
);

CREATE UNIQUE INDEX ai_providers_name_live_idx ON gateway.ai_providers (name) WHERE NOT deleted;
-- Verification looks names up among soft-deleted rows as well.
CREATE INDEX ai_providers_name_idx ON gateway.ai_providers (name);

CREATE TABLE gateway.ai_provider_keys (
    id             uuid PRIMARY KEY,
    provider_id    uuid NOT NULL REFERENCES gateway.ai_providers (id) ON DELETE CASCADE,
    api_key        text NOT NULL,
    api_key_key_id text REFERENCES gateway.dbcrypt_keys (active_key_digest),
    created_at     timestamptz NOT NULL DEFAULT now(),
    updated_at     timestamptz NOT NULL DEFAULT now()
);

CREATE INDEX ai_provider_keys_provider_id_idx ON gateway.ai_provider_keys (provider_id);
