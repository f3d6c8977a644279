-- Writes columns of a row (worker resolve --take env). internal/store leaves out
-- the lines of the columns that keep their values: what is written here fires
-- triggers of "UPDATE OF" that column, and needs a privilege on it. It runs in
-- [store.Queries.WriteProviders], so no name is left to the search path.
UPDATE gateway.ai_providers SET
    type = @type::text::gateway.ai_provider_type,
    base_url = @base_url::text,
    enabled = @enabled::boolean,
    deleted = @deleted::boolean,
    settings = CASE WHEN @settings::text OPERATOR(pg_catalog.<>) '' THEN @settings::text END,
    settings_key_id = CASE WHEN @settings_key_id::text OPERATOR(pg_catalog.<>) '' THEN @settings_key_id::text END,
    updated_at = pg_catalog.now()
WHERE id OPERATOR(pg_catalog.=) @id::uuid
