-- name: InspectSchema :one
SELECT
    (to_regclass('ai_providers') IS NOT NULL)::boolean AS providers,
    (to_regclass('ai_provider_keys') IS NOT NULL)::boolean AS provider_keys,
    (to_regtype('ai_provider_type') IS NOT NULL)::boolean AS provider_type,
    (to_regclass('provwatch.schema_migrations') IS NOT NULL)::boolean AS migrations,
    (to_regclass('provwatch.accepted_drift') IS NOT NULL)::boolean AS accepted_drifts,
    (to_regnamespace('provwatch') IS NOT NULL)::boolean AS own_schema,
    current_setting('transaction_read_only')::boolean AS read_only,
    pg_is_in_recovery() AS in_recovery,
    current_setting('server_version_num')::int AS server_version;

-- name: ListAppliedMigrations :many
SELECT version_id FROM provwatch.schema_migrations WHERE is_applied ORDER BY version_id;

-- name: ListColumns :many
-- The columns of a provider table; those that an insert must give a value to
-- are required.
SELECT
    a.attname::text AS name,
    format_type(a.atttypid, a.atttypmod) AS type,
    (a.attnotnull AND NOT a.atthasdef AND a.attidentity = '' AND a.attgenerated = '')::boolean AS required
FROM pg_catalog.pg_attribute a
WHERE a.attrelid = to_regclass(@table_name::text) AND a.attnum > 0 AND NOT a.attisdropped
ORDER BY a.attnum;

-- name: CountTriggers :one
-- How many of our triggers there are on the provider tables and enabled.
SELECT count(*)
FROM pg_catalog.pg_trigger t
JOIN pg_catalog.pg_proc f ON f.oid = t.tgfoid
JOIN pg_catalog.pg_namespace n ON n.oid = f.pronamespace
WHERE t.tgrelid IN (to_regclass('ai_providers'), to_regclass('ai_provider_keys'))
    AND NOT t.tgisinternal AND t.tgenabled <> 'D'
    AND n.nspname = 'provwatch' AND f.proname = 'notify_change';

-- name: LockMigration :exec
SELECT pg_advisory_lock(@lock_id::bigint);

-- name: CreateSchema :exec
CREATE SCHEMA IF NOT EXISTS provwatch;

-- name: ProviderSearchPath :one
-- The search_path without our own schema, which a role named provwatch has on
-- it by way of "$user": the gateway's tables do not belong there.
SELECT coalesce(string_agg(quote_ident(name), ', ' ORDER BY position), '')::text AS search_path
FROM unnest(current_schemas(false)) WITH ORDINALITY AS path (name, position)
WHERE name <> 'provwatch';
