-- Removes our triggers from the provider tables,
-- where the WAL is the source, so that writers pay nothing.

DROP TRIGGER IF EXISTS provwatch_provider_insert ON ai_providers;
DROP TRIGGER IF EXISTS provwatch_provider_update ON ai_providers;
DROP TRIGGER IF EXISTS provwatch_provider_delete ON ai_providers;
DROP TRIGGER IF EXISTS provwatch_provider_truncate ON ai_providers;
DROP TRIGGER IF EXISTS provwatch_key_insert ON ai_provider_keys;
DROP TRIGGER IF EXISTS provwatch_key_update ON ai_provider_keys;
DROP TRIGGER IF EXISTS provwatch_key_delete ON ai_provider_keys;
DROP TRIGGER IF EXISTS provwatch_key_truncate ON ai_provider_keys;
