-- name: InspectSchema :one
SELECT
    EXISTS (SELECT FROM pg_catalog.pg_class c JOIN pg_catalog.pg_namespace n ON n.oid = c.relnamespace
        WHERE n.nspname = 'gateway' AND c.relname = 'ai_providers')::boolean AS providers,
    EXISTS (SELECT FROM pg_catalog.pg_class c JOIN pg_catalog.pg_namespace n ON n.oid = c.relnamespace
        WHERE n.nspname = 'gateway' AND c.relname = 'ai_provider_keys')::boolean AS provider_keys,
    (to_regclass('provwatch.schema_migrations') IS NOT NULL)::boolean AS migrations,
    EXISTS (SELECT FROM pg_catalog.pg_attribute
        WHERE attrelid = to_regclass('provwatch.accepted_drift') AND attname = 'expires_at' AND NOT attisdropped)::boolean AS accepted_drifts,
    (to_regclass('provwatch.base_pairs') IS NOT NULL)::boolean AS base_pairs,
    (to_regclass('provwatch.hash_key') IS NOT NULL)::boolean AS hash_key,
    (to_regclass('provwatch.unmanaged_rows') IS NOT NULL)::boolean AS unmanaged_rows,
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
    t.typtype = 'e' AS is_enum,
    (a.attnotnull AND NOT a.atthasdef AND a.attidentity = '' AND a.attgenerated = '')::boolean AS required
FROM pg_catalog.pg_attribute a
JOIN pg_catalog.pg_type t ON t.oid = a.atttypid
JOIN pg_catalog.pg_class c ON c.oid = a.attrelid
JOIN pg_catalog.pg_namespace n ON n.oid = c.relnamespace
WHERE n.nspname = 'gateway' AND c.relname = @table_name::text AND a.attnum > 0 AND NOT a.attisdropped
ORDER BY a.attnum;

-- name: CountTriggers :one
-- How many of our triggers there are on the provider tables, how many of them fire in
-- every session (ENABLE ALWAYS), and how many fire so or as those of a role that does not
-- own the tables can; and whether the role owns them. ALTER TABLE … ENABLE TRIGGER, as
-- after pg_restore --disable-triggers, makes a trigger one that does not fire in sessions
-- with session_replication_role = replica.
--
-- The version differs after each statement that makes, replaces, enables or disables one of
-- the triggers: it has the transactions that wrote them last.
SELECT
    count(t.oid) AS found,
    count(t.oid) FILTER (WHERE t.tgenabled = 'A') AS always,
    count(t.oid) FILTER (WHERE t.tgenabled = 'A' OR t.tgenabled = 'O' AND NOT pg_has_role(c.relowner, 'USAGE')) AS usable,
    coalesce(bool_and(pg_has_role(c.relowner, 'USAGE')), false)::boolean AS owned,
    ('triggers ' || coalesce(string_agg(t.oid::text || '/' || t.xmin::text, ' ' ORDER BY t.oid), 'none'))::text AS version
FROM pg_catalog.pg_class c
JOIN pg_catalog.pg_namespace cn ON cn.oid = c.relnamespace
LEFT JOIN pg_catalog.pg_trigger t ON t.tgrelid = c.oid AND NOT t.tgisinternal
    AND t.tgfoid IN (
        SELECT f.oid FROM pg_catalog.pg_proc f JOIN pg_catalog.pg_namespace n ON n.oid = f.pronamespace
        WHERE n.nspname = 'provwatch' AND f.proname = 'notify_change')
WHERE cn.nspname = 'gateway' AND c.relname IN ('ai_providers', 'ai_provider_keys');

-- name: ListStrangers :many
-- Roles that could have planted something in the schema provwatch: its owner, the
-- owners of what is in it, and those who may create in it, where they are neither
-- trusted nor members of its owner. Trusted are the current role, the owners of the
-- database and of the provider tables, and members of these, as superusers are. So
-- is a group without LOGIN that the current role is a member of. A role that can log
-- in is not: before PostgreSQL 16 it can make any role its member.
WITH own AS (
    SELECT n.oid, n.nspowner, n.nspacl FROM pg_catalog.pg_namespace n WHERE n.nspname = 'provwatch'
), me AS (
    SELECT r.oid FROM pg_catalog.pg_roles r WHERE r.rolname = current_user
), trusted AS (
    SELECT me.oid FROM me
    UNION
    SELECT d.datdba FROM pg_catalog.pg_database d WHERE d.datname = current_database()
    UNION
    SELECT c.relowner FROM pg_catalog.pg_class c JOIN pg_catalog.pg_namespace n ON n.oid = c.relnamespace
    WHERE n.nspname = 'gateway' AND c.relname = 'ai_providers'
), candidates AS (
    SELECT own.nspowner AS role, 'owns it'::text AS how FROM own
    UNION
    SELECT c.relowner, 'owns something in it' FROM pg_catalog.pg_class c JOIN own ON own.oid = c.relnamespace
    UNION
    SELECT p.proowner, 'owns something in it' FROM pg_catalog.pg_proc p JOIN own ON own.oid = p.pronamespace
    UNION
    SELECT t.typowner, 'owns something in it' FROM pg_catalog.pg_type t JOIN own ON own.oid = t.typnamespace
    UNION
    SELECT a.grantee, 'may create in it' FROM own, aclexplode(own.nspacl) AS a WHERE a.privilege_type = 'CREATE'
)
SELECT coalesce(r.rolname, 'PUBLIC')::text AS role, candidates.how
FROM candidates
LEFT JOIN pg_catalog.pg_roles r ON r.oid = candidates.role
WHERE candidates.role = 0 OR NOT (
    EXISTS (SELECT FROM trusted WHERE pg_has_role(candidates.role, trusted.oid, 'MEMBER'))
    OR candidates.how <> 'owns it' AND EXISTS (SELECT FROM own WHERE pg_has_role(candidates.role, own.nspowner, 'MEMBER'))
)
ORDER BY candidates.how = 'owns it' DESC, role, how;

-- name: ListStrangersAtHome :many
-- The owner of the schema in which the provider tables will be made, where it is
-- a stranger: it could replace them. "$user" is a schema that anyone who may create
-- schemas can make for another role.
SELECT r.rolname::text AS role
FROM pg_catalog.pg_namespace n
JOIN pg_catalog.pg_roles r ON r.oid = n.nspowner
WHERE n.nspname = 'gateway' AND NOT (
    r.rolsuper OR r.rolname = current_user OR r.rolname = 'pg_database_owner'
    OR pg_has_role(r.oid, (SELECT d.datdba FROM pg_catalog.pg_database d WHERE d.datname = current_database()), 'MEMBER')
);

-- name: LockMigration :exec
SELECT pg_advisory_lock(@lock_id::bigint);

-- name: CreateSchema :exec
CREATE SCHEMA provwatch;

-- name: CloseSchema :exec
-- Default privileges of the owner can let PUBLIC create in a new schema.
REVOKE ALL ON SCHEMA provwatch FROM PUBLIC;
