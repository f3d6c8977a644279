-- name: MayListServed :one
-- Whether the role may read all that ListServed reads.
SELECT (count(*) = 4 AND bool_and(has_column_privilege(a.attrelid, a.attnum, 'SELECT')))::boolean AS may_list
FROM pg_catalog.pg_attribute a
JOIN pg_catalog.pg_class c ON c.oid = a.attrelid
JOIN pg_catalog.pg_namespace n ON n.oid = c.relnamespace
WHERE n.nspname = 'gateway' AND has_schema_privilege(n.oid, 'USAGE') AND (
    c.relname = 'ai_providers' AND a.attname IN ('settings', 'settings_key_id', 'base_url')
    OR c.relname = 'ai_provider_keys' AND a.attname = 'provider_id');

-- name: listServed :many
-- The providers that the gateway serves requests to, if nothing else is in the way.
SELECT
    p.id, p.name, p.type, p.base_url, p.settings, p.settings_key_id,
    EXISTS (SELECT FROM gateway.ai_provider_keys k WHERE k.provider_id = p.id)::boolean AS has_keys
FROM gateway.ai_providers p
WHERE p.enabled AND NOT p.deleted
ORDER BY p.name;
