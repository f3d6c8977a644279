-- Provider tables as another program could have made them: with more columns,
-- enum labels, indexes, constraints and a trigger of its own. {{owner}} is the
-- role of that program.

SET ROLE {{owner}};

CREATE TYPE ai_provider_type AS ENUM ('copilot', 'openai', 'azure', 'anthropic', 'vertex');
CREATE TYPE ai_provider_tier AS ENUM ('gold', 'silver');

CREATE TABLE organizations (
    id   uuid PRIMARY KEY DEFAULT gen_random_uuid(),
    name text NOT NULL
);
INSERT INTO organizations (id, name) VALUES ('11111111-1111-1111-1111-111111111111', 'default');

CREATE TABLE ai_providers (
    icon            text NOT NULL DEFAULT '/emojis/robot.png',
    id              uuid DEFAULT gen_random_uuid() NOT NULL,
    organization_id uuid NOT NULL DEFAULT '11111111-1111-1111-1111-111111111111' REFERENCES organizations (id),
    name            text NOT NULL,
    display_name    text,
    type            ai_provider_type NOT NULL,
    tier            ai_provider_tier NOT NULL DEFAULT 'silver',
    base_url        text NOT NULL DEFAULT '',
    settings        text,
    settings_key_id text,
    enabled         boolean NOT NULL DEFAULT true,
    deleted         boolean NOT NULL DEFAULT false,
    serial_number   bigint GENERATED ALWAYS AS IDENTITY,
    slug            text GENERATED ALWAYS AS ('provider/' || name) STORED,
    tags            text[] NOT NULL DEFAULT '{}',
    created_at      timestamptz NOT NULL DEFAULT now(),
    updated_at      timestamptz NOT NULL DEFAULT now(),
    CONSTRAINT ai_providers_pkey PRIMARY KEY (id),
    CONSTRAINT ai_providers_name_check CHECK (name ~ '^[a-z0-9]+(-[a-z0-9]+)*$'),
    CONSTRAINT ai_providers_icon_check CHECK (length(icon) <= 256),
    CONSTRAINT ai_providers_tags_check CHECK (cardinality(tags) < 10)
);
CREATE UNIQUE INDEX ai_providers_lower_name ON ai_providers (organization_id, lower(name)) WHERE NOT deleted;
CREATE INDEX ai_providers_by_tier ON ai_providers USING btree (tier, created_at DESC) INCLUDE (name);

CREATE TABLE ai_provider_keys (
    id             uuid PRIMARY KEY DEFAULT gen_random_uuid(),
    provider_id    uuid NOT NULL REFERENCES ai_providers (id) ON DELETE CASCADE,
    label          varchar(64) NOT NULL DEFAULT 'unnamed',
    api_key        text NOT NULL CHECK (api_key <> ''),
    api_key_key_id text,
    last_used_at   timestamptz,
    created_at     timestamptz NOT NULL DEFAULT now(),
    updated_at     timestamptz NOT NULL DEFAULT now()
);
CREATE INDEX ai_provider_keys_provider ON ai_provider_keys USING hash (provider_id);

-- The program's own trigger: it keeps updated_at and counts what is written.
CREATE TABLE ai_provider_writes (
    operation text PRIMARY KEY,
    rows      bigint NOT NULL
);
CREATE FUNCTION ai_providers_written() RETURNS trigger
LANGUAGE plpgsql AS $$
BEGIN
    INSERT INTO ai_provider_writes VALUES (TG_OP, 1)
    ON CONFLICT (operation) DO UPDATE SET rows = ai_provider_writes.rows + 1;
    NEW.updated_at := now();
    RETURN NEW;
END
$$;
CREATE TRIGGER ai_providers_written BEFORE INSERT OR UPDATE ON ai_providers
    FOR EACH ROW EXECUTE FUNCTION ai_providers_written();

COMMENT ON COLUMN ai_providers.icon IS 'shown beside the name';

INSERT INTO ai_providers (id, type, name, display_name, icon, tier, base_url, settings, deleted) VALUES
    ('22222222-2222-2222-2222-222222222222', 'copilot', 'copilot', 'Copilot', '/emojis/plane.png', 'gold', 'https://copilot.example/', NULL, false),
    ('33333333-3333-3333-3333-333333333333', 'azure', 'azure-eu', NULL, '/emojis/cloud.png', 'gold', 'https://azure.example/', '{"_type": "azure", "_version": 3}', false),
    ('44444444-4444-4444-4444-444444444444', 'openai', 'retired', 'Retired', '/emojis/zzz.png', 'silver', 'https://retired.example/', NULL, true);
INSERT INTO ai_provider_keys (id, provider_id, label, api_key) VALUES
    ('55555555-5555-5555-5555-555555555555', '22222222-2222-2222-2222-222222222222', 'first', 'sk-of-the-other-program-0123456789');

RESET ROLE;
