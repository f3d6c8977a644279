-- The gateway's tables, as far as provwatch knows them: the names, types, defaults,
-- constraints and indexes that the gateway's own migrations leave behind, in the
-- order in which its upgrades have added them. Names are not qualified, so that the
-- search path says where they go.

CREATE TYPE ai_provider_type AS ENUM (
    'openai', 'anthropic', 'azure', 'bedrock', 'google', 'openai-compat', 'openrouter', 'vercel', 'copilot'
);

CREATE TABLE dbcrypt_keys (
    number             integer NOT NULL,
    active_key_digest  text,
    revoked_key_digest text,
    created_at         timestamptz DEFAULT CURRENT_TIMESTAMP,
    revoked_at         timestamptz,
    test               text NOT NULL,
    CONSTRAINT dbcrypt_keys_pkey PRIMARY KEY (number),
    CONSTRAINT dbcrypt_keys_active_key_digest_key UNIQUE (active_key_digest),
    CONSTRAINT dbcrypt_keys_revoked_key_digest_key UNIQUE (revoked_key_digest)
);

CREATE TABLE ai_providers (
    id              uuid NOT NULL DEFAULT gen_random_uuid(),
    type            ai_provider_type NOT NULL,
    name            text NOT NULL,
    display_name    text,
    enabled         boolean NOT NULL DEFAULT true,
    deleted         boolean NOT NULL DEFAULT false,
    base_url        text NOT NULL,
    settings        text,
    settings_key_id text,
    created_at      timestamptz NOT NULL DEFAULT now(),
    updated_at      timestamptz NOT NULL DEFAULT now(),
    icon            text NOT NULL DEFAULT '',
    CONSTRAINT ai_providers_pkey PRIMARY KEY (id),
    CONSTRAINT ai_providers_name_check CHECK (name ~ '^[a-z0-9]+(-[a-z0-9]+)*$'),
    CONSTRAINT ai_providers_settings_key_id_fkey FOREIGN KEY (settings_key_id) REFERENCES dbcrypt_keys (active_key_digest)
);
CREATE UNIQUE INDEX ai_providers_name_unique ON ai_providers (name) WHERE NOT deleted;
CREATE INDEX idx_ai_providers_enabled ON ai_providers (enabled) WHERE NOT deleted;

CREATE TABLE ai_provider_keys (
    id             uuid NOT NULL DEFAULT gen_random_uuid(),
    provider_id    uuid NOT NULL,
    api_key        text NOT NULL,
    api_key_key_id text,
    created_at     timestamptz NOT NULL DEFAULT now(),
    updated_at     timestamptz NOT NULL DEFAULT now(),
    CONSTRAINT ai_provider_keys_pkey PRIMARY KEY (id),
    CONSTRAINT ai_provider_keys_provider_id_fkey FOREIGN KEY (provider_id) REFERENCES ai_providers (id) ON DELETE CASCADE,
    CONSTRAINT ai_provider_keys_api_key_key_id_fkey FOREIGN KEY (api_key_key_id) REFERENCES dbcrypt_keys (active_key_digest)
);
CREATE INDEX idx_ai_provider_keys_provider_id ON ai_provider_keys (provider_id);
