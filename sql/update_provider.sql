-- Writes columns of a row (worker resolve --take env). internal/store leaves out
-- the lines of the columns that keep their values: what is written here fires
-- triggers of "UPDATE OF" that column, and needs a privilege on it.
UPDATE ai_providers SET
    type = @type::text::ai_provider_type,
    base_url = @base_url::text,
    enabled = @enabled::boolean,
    deleted = @deleted::boolean,
    settings = nullif(@settings::text, ''),
    settings_key_id = nullif(@settings_key_id::text, ''),
    updated_at = now()
WHERE id = @id::uuid
