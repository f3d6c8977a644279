-- The triggers that send hints on ai_providers_changed. Run by internal/schema
-- where they are missing. Dropping the schema provwatch with CASCADE removes
-- them, and nothing else, from the provider tables.

DROP TRIGGER IF EXISTS provwatch_provider_insert ON ai_providers;
DROP TRIGGER IF EXISTS provwatch_provider_update ON ai_providers;
DROP TRIGGER IF EXISTS provwatch_provider_delete ON ai_providers;
DROP TRIGGER IF EXISTS provwatch_provider_truncate ON ai_providers;
DROP TRIGGER IF EXISTS provwatch_key_insert ON ai_provider_keys;
DROP TRIGGER IF EXISTS provwatch_key_update ON ai_provider_keys;
DROP TRIGGER IF EXISTS provwatch_key_delete ON ai_provider_keys;
DROP TRIGGER IF EXISTS provwatch_key_truncate ON ai_provider_keys;

CREATE TRIGGER provwatch_provider_insert AFTER INSERT ON ai_providers
    REFERENCING NEW TABLE AS changed
    FOR EACH STATEMENT EXECUTE FUNCTION provwatch.notify_change('id');
CREATE TRIGGER provwatch_provider_update AFTER UPDATE ON ai_providers
    REFERENCING NEW TABLE AS changed
    FOR EACH STATEMENT EXECUTE FUNCTION provwatch.notify_change('id');
CREATE TRIGGER provwatch_provider_delete AFTER DELETE ON ai_providers
    REFERENCING OLD TABLE AS changed
    FOR EACH STATEMENT EXECUTE FUNCTION provwatch.notify_change('id');
CREATE TRIGGER provwatch_provider_truncate AFTER TRUNCATE ON ai_providers
    FOR EACH STATEMENT EXECUTE FUNCTION provwatch.notify_change('id');

CREATE TRIGGER provwatch_key_insert AFTER INSERT ON ai_provider_keys
    REFERENCING NEW TABLE AS changed
    FOR EACH STATEMENT EXECUTE FUNCTION provwatch.notify_change('provider_id');
CREATE TRIGGER provwatch_key_update AFTER UPDATE ON ai_provider_keys
    REFERENCING NEW TABLE AS changed
    FOR EACH STATEMENT EXECUTE FUNCTION provwatch.notify_change('provider_id');
CREATE TRIGGER provwatch_key_delete AFTER DELETE ON ai_provider_keys
    REFERENCING OLD TABLE AS changed
    FOR EACH STATEMENT EXECUTE FUNCTION provwatch.notify_change('provider_id');
CREATE TRIGGER provwatch_key_truncate AFTER TRUNCATE ON ai_provider_keys
    FOR EACH STATEMENT EXECUTE FUNCTION provwatch.notify_change('provider_id');
