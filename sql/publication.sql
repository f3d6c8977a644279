-- The publication that the WAL source reads, run by internal/schema. Only what
-- the canonical hash needs travels, and updated_at, which tells which of several
-- rows of a name stands for the provider; of the keys nothing but their ids.

DROP PUBLICATION IF EXISTS provwatch;
CREATE PUBLICATION provwatch FOR TABLE
    gateway.ai_providers (id, type, name, enabled, deleted, base_url, settings, settings_key_id, updated_at),
    gateway.ai_provider_keys (id);
