-- name: inspectKeyTable :one
-- What is in the place of dbcrypt_keys, in the schema of the provider tables, and who
-- owns it: a role that could not replace the provider tables must not say which key
-- secrets are encrypted with. No row without provider tables.
SELECT
    coalesce(k.relkind::text, '')::text AS kind,
    coalesce(r.rolname::text, '')::text AS owner,
    coalesce(pg_has_role(k.relowner, p.relowner, 'MEMBER') OR pg_has_role(k.relowner, n.nspowner, 'MEMBER'), true)::boolean AS trusted,
    -- Whether provwatch made the provider tables: migration 1.
    EXISTS (SELECT FROM provwatch.schema_migrations m WHERE m.version_id = 1 AND m.is_applied)::boolean AS own,
    coalesce(has_table_privilege(k.oid, 'INSERT'), false)::boolean AS insertable
FROM pg_catalog.pg_class p
JOIN pg_catalog.pg_namespace n ON n.oid = p.relnamespace
LEFT JOIN pg_catalog.pg_class k ON k.relnamespace = n.oid AND k.relname = 'dbcrypt_keys' AND k.relkind IN ('r', 'p', 'v', 'm', 'f')
LEFT JOIN pg_catalog.pg_roles r ON r.oid = k.relowner
WHERE n.nspname = 'gateway' AND p.relname = 'ai_providers';

-- name: listKeys :many
SELECT number, active_key_digest, revoked_key_digest, test FROM gateway.dbcrypt_keys ORDER BY number;

-- name: registerKey :execrows
-- Does nothing where another worker registers a key at the same moment.
INSERT INTO gateway.dbcrypt_keys (number, active_key_digest, test) VALUES (@number, @active_key_digest::text, @test)
ON CONFLICT DO NOTHING;

-- name: listOfFormerKeyset :many
-- Providers and keys with a secret that a former version has encrypted with its keyset: the id
-- of its key is a number, and the value begins with a byte 1 and that number in four
-- bytes, in base64.
SELECT DISTINCT stored.name::text AS name, stored.key_id::text AS key_id
FROM (
    SELECT p.name, p.settings AS value, p.settings_key_id AS key_id FROM gateway.ai_providers p
    UNION ALL
    SELECT p.name, k.api_key, k.api_key_key_id FROM gateway.ai_provider_keys k JOIN gateway.ai_providers p ON p.id = k.provider_id
) AS stored
WHERE CASE WHEN stored.key_id ~ '^[0-9]{1,10}$' THEN
    left(stored.value, 6) = left(encode(decode('01' || lpad(to_hex(stored.key_id::bigint), 8, '0'), 'hex'), 'base64'), 6)
    ELSE false END
ORDER BY name, key_id
LIMIT @max_rows;
