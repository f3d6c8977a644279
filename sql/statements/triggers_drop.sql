-- Removes our triggers from the provider tables,
-- where the WAL is the source, so that writers pay nothing.

DROP TRIGGER IF EXISTS provwatch_provider_insert ON gateway.ai_providers;
DROP TRIGGER IF EXISTS provwatch_provider_update ON gateway.ai_providers;
DROP TRIGGER IF EXISTS provwatch_provider_delete ON gateway.ai_providers;
DROP TRIGGER IF EXISTS provwatch_provider_truncate ON gateway.ai_providers;
DROP TRIGGER IF EXISTS provwatch_key_insert ON gateway.ai_provider_keys;
DROP TRIGGER IF EXISTS provwatch_key_update ON gateway.ai_provider_keys;
DROP TRIGGER IF EXISTS provwatch_key_delete ON gateway.ai_provider_keys;
DROP TRIGGER IF EXISTS provwatch_key_truncate ON gateway.ai_provider_keys;
