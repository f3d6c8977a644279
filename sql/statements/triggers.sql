-- The triggers that send hints on ai_providers_changed. Run by internal/schema
-- where they are missing. Dropping the schema provwatch with CASCADE removes
-- them, and nothing else, from the provider tables.

CREATE OR REPLACE TRIGGER provwatch_provider_insert AFTER INSERT ON gateway.ai_providers
    REFERENCING NEW TABLE AS changed
    FOR EACH STATEMENT EXECUTE FUNCTION provwatch.notify_change('id');
CREATE OR REPLACE TRIGGER provwatch_provider_update AFTER UPDATE ON gateway.ai_providers
    REFERENCING OLD TABLE AS former NEW TABLE AS changed
    FOR EACH STATEMENT EXECUTE FUNCTION provwatch.notify_change('id');
CREATE OR REPLACE TRIGGER provwatch_provider_delete AFTER DELETE ON gateway.ai_providers
    REFERENCING OLD TABLE AS changed
    FOR EACH STATEMENT EXECUTE FUNCTION provwatch.notify_change('id');
CREATE OR REPLACE TRIGGER provwatch_provider_truncate AFTER TRUNCATE ON gateway.ai_providers
    FOR EACH STATEMENT EXECUTE FUNCTION provwatch.notify_change('id');

CREATE OR REPLACE TRIGGER provwatch_key_insert AFTER INSERT ON gateway.ai_provider_keys
    REFERENCING NEW TABLE AS changed
    FOR EACH STATEMENT EXECUTE FUNCTION provwatch.notify_change('provider_id');
CREATE OR REPLACE TRIGGER provwatch_key_update AFTER UPDATE ON gateway.ai_provider_keys
    REFERENCING OLD TABLE AS former NEW TABLE AS changed
    FOR EACH STATEMENT EXECUTE FUNCTION provwatch.notify_change('provider_id');
CREATE OR REPLACE TRIGGER provwatch_key_delete AFTER DELETE ON gateway.ai_provider_keys
    REFERENCING OLD TABLE AS changed
    FOR EACH STATEMENT EXECUTE FUNCTION provwatch.notify_change('provider_id');
CREATE OR REPLACE TRIGGER provwatch_key_truncate AFTER TRUNCATE ON gateway.ai_provider_keys
    FOR EACH STATEMENT EXECUTE FUNCTION provwatch.notify_change('provider_id');
