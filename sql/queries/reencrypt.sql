-- name: ListStoredSecrets :many
-- The next providers, by id, that store a secret with another key than the one
-- given, empty for plain text. Where there is neither a secret nor the id of a key
-- there is nothing to encrypt.
SELECT p.id, p.name, p.settings, coalesce(p.settings_key_id, '')::text AS settings_key_id,
    -- Whether the settings are among what is stored so.
    coalesce((p.settings <> '' OR p.settings_key_id <> '') AND coalesce(p.settings_key_id, '') <> @key_id::text, false)::boolean AS settings_stale
FROM gateway.ai_providers p
WHERE (@first::boolean OR p.id > @after) AND (
    (p.settings <> '' OR p.settings_key_id <> '') AND coalesce(p.settings_key_id, '') <> @key_id::text
    OR EXISTS (SELECT FROM gateway.ai_provider_keys k
        WHERE k.provider_id = p.id AND (k.api_key <> '' OR k.api_key_key_id <> '') AND coalesce(k.api_key_key_id, '') <> @key_id::text))
ORDER BY p.id
LIMIT @max_providers;

-- name: ListStoredKeys :many
-- The API keys of providers that are stored with another key than the one given.
SELECT k.id, k.provider_id, k.api_key, coalesce(k.api_key_key_id, '')::text AS api_key_key_id
FROM gateway.ai_provider_keys k
WHERE k.provider_id = ANY(@provider_ids::uuid[]) AND (k.api_key <> '' OR k.api_key_key_id <> '') AND coalesce(k.api_key_key_id, '') <> @key_id::text
ORDER BY k.id;

-- name: ReplaceStoredSettings :many
-- Writes settings that are encrypted anew to the rows whose settings still are
-- what was read, told by its SHA-256: what was read can be plain text, and a server
-- that logs statements logs their parameters. A row that somebody else is writing to is left for the next
-- time: nobody is waited for while rows are locked.
WITH replacement AS (
    SELECT pg_catalog.unnest(@ids::uuid[]) AS id, pg_catalog.unnest(@old_digests::bytea[]) AS old_digest, pg_catalog.unnest(@old_key_ids::text[]) AS old_key_id,
        pg_catalog.unnest(@news::text[]) AS new
), locked AS MATERIALIZED (
    SELECT p.id, r.new
    FROM gateway.ai_providers p JOIN replacement r ON r.id OPERATOR(pg_catalog.=) p.id
    WHERE pg_catalog.sha256(pg_catalog.convert_to(p.settings, 'UTF8')) OPERATOR(pg_catalog.=) r.old_digest AND coalesce(p.settings_key_id, '') OPERATOR(pg_catalog.=) r.old_key_id
    FOR NO KEY UPDATE OF p SKIP LOCKED
)
UPDATE gateway.ai_providers p
SET settings = locked.new, settings_key_id = CASE WHEN @key_id::text OPERATOR(pg_catalog.<>) '' THEN @key_id::text END
FROM locked
WHERE p.id OPERATOR(pg_catalog.=) locked.id
RETURNING p.id;

-- name: ReplaceStoredKeys :many
-- The same for API keys.
WITH replacement AS (
    SELECT pg_catalog.unnest(@ids::uuid[]) AS id, pg_catalog.unnest(@old_digests::bytea[]) AS old_digest, pg_catalog.unnest(@old_key_ids::text[]) AS old_key_id,
        pg_catalog.unnest(@news::text[]) AS new
), locked AS MATERIALIZED (
    SELECT k.id, r.new
    FROM gateway.ai_provider_keys k JOIN replacement r ON r.id OPERATOR(pg_catalog.=) k.id
    WHERE pg_catalog.sha256(pg_catalog.convert_to(k.api_key, 'UTF8')) OPERATOR(pg_catalog.=) r.old_digest AND coalesce(k.api_key_key_id, '') OPERATOR(pg_catalog.=) r.old_key_id
    FOR NO KEY UPDATE OF k SKIP LOCKED
)
UPDATE gateway.ai_provider_keys k
SET api_key = locked.new, api_key_key_id = CASE WHEN @key_id::text OPERATOR(pg_catalog.<>) '' THEN @key_id::text END
FROM locked
WHERE k.id OPERATOR(pg_catalog.=) locked.id
RETURNING k.id, k.provider_id;

-- name: BoundIdleTransaction :exec
-- Makes the server end this transaction if its client freezes in it.
SELECT set_config('idle_in_transaction_session_timeout', '5s', true);

-- name: CountKeyUse :many
-- How many settings and API keys are stored with each key, empty for plain text.
SELECT key_id::text AS key_id, sum(settings)::bigint AS settings, sum(api_keys)::bigint AS api_keys
FROM (
    SELECT coalesce(settings_key_id, '') AS key_id, count(*) AS settings, 0 AS api_keys
    FROM gateway.ai_providers WHERE settings <> '' OR settings_key_id <> '' GROUP BY 1
    UNION ALL
    SELECT coalesce(api_key_key_id, ''), 0, count(*)
    FROM gateway.ai_provider_keys WHERE api_key <> '' OR api_key_key_id <> '' GROUP BY 1
) AS used
GROUP BY key_id
ORDER BY key_id;
