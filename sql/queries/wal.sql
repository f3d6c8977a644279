-- name: LimitIdle :exec
-- Begins a transaction that writes: the server ends it soon when its worker freezes in it.
SELECT set_config('idle_in_transaction_session_timeout', '15s', true);

-- name: LockWALPosition :one
-- Makes workers that apply transactions wait for each other. The server ends this
-- transaction soon when its worker freezes in it.
SELECT slot, applied_lsn::text AS applied_lsn, gap, set_config('idle_in_transaction_session_timeout', '15s', true)::text AS idle_timeout
FROM provwatch.wal_position FOR UPDATE;

-- name: ReadWALPosition :one
-- Waits for a transaction that moves the position, such as of a former leader: from then
-- on that leader moves nothing.
SELECT slot, applied_lsn::text AS applied_lsn, gap, coalesce(system_identifier, 0)::bigint AS system_identifier,
    (applied_lsn > pg_current_wal_lsn())::boolean AS is_future
FROM provwatch.wal_position FOR UPDATE;

-- name: ReadWALGap :many
-- Why the slot can no longer be relied upon, empty while it can: another worker, or a
-- migration, can have marked that. No row without a position.
SELECT gap FROM provwatch.wal_position;

-- name: StartWALPosition :execrows
-- For the leader of the current term alone.
INSERT INTO provwatch.wal_position (slot, applied_lsn, system_identifier)
SELECT @slot, (@applied_lsn::text)::pg_lsn, nullif(@system_identifier::bigint, 0)
WHERE (SELECT term FROM provwatch.alert_counter) = @term::bigint
ON CONFLICT (singleton) DO UPDATE SET slot = excluded.slot, applied_lsn = excluded.applied_lsn,
    system_identifier = excluded.system_identifier, gap = '';

-- name: MarkGap :exec
-- Says durably that the slot can no longer be relied upon. The first reason stands.
UPDATE provwatch.wal_position SET gap = @reason WHERE gap = '' AND (SELECT term FROM provwatch.alert_counter) = @term::bigint;

-- name: AdvanceWALPosition :execrows
-- Ends a transaction that applies others: for the leader of the current term alone.
UPDATE provwatch.wal_position
SET applied_lsn = (@applied_lsn::text)::pg_lsn, system_identifier = coalesce(nullif(@system_identifier::bigint, 0), system_identifier)
WHERE (SELECT term FROM provwatch.alert_counter) = @term::bigint;

-- name: ForgetWALPosition :execrows
-- For the leader of the current term alone.
DELETE FROM provwatch.wal_position WHERE (SELECT term FROM provwatch.alert_counter) = @term::bigint;

-- name: PlanEachTime :exec
-- Makes the server plan each execution of a statement in the transaction.
SELECT set_config('plan_cache_mode', 'force_custom_plan', true);

-- name: StayActive :exec
-- Keeps a transaction from being idle for long.
SELECT;

-- name: ClearMirror :exec
DELETE FROM provwatch.wal_mirror;

-- name: listMirror :many
-- The rows of the mirror that have one of the ids or names, or share a name with
-- a row of one of the ids. It is run in transactions that can last, and locks nothing
-- of the gateway's.
SELECT m.id, m.name, m.type, m.base_url, m.base_url_shown, m.bedrock_region, m.bedrock_region_cut, m.bedrock_settings, m.not_comparable,
    m.db_hash, m.db_hash_anthropic, m.enabled, m.deleted, m.updated_at
FROM provwatch.wal_mirror m
WHERE m.name IN (
    SELECT unnest(@names::text[])
    UNION ALL
    SELECT known.name FROM provwatch.wal_mirror known WHERE known.id = ANY(@ids::uuid[])
);

-- name: listMirrorByID :many
-- The rows of the mirror that have one of the ids, as ListMirror has them.
SELECT m.id, m.name, m.type, m.base_url, m.base_url_shown, m.bedrock_region, m.bedrock_region_cut, m.bedrock_settings, m.not_comparable,
    m.db_hash, m.db_hash_anthropic, m.enabled, m.deleted, m.updated_at
FROM provwatch.wal_mirror m
WHERE m.id = ANY(@ids::uuid[]);

-- name: ListBaseURLs :many
-- The base URLs of rows of which the mirror does not keep them.
SELECT id, base_url FROM gateway.ai_providers WHERE id = ANY(@ids::uuid[]);

-- name: putMirror :exec
INSERT INTO provwatch.wal_mirror
    (id, name, type, base_url, base_url_shown, bedrock_region, bedrock_region_cut, bedrock_settings, not_comparable, db_hash, db_hash_anthropic, enabled, deleted, updated_at)
SELECT id, name, type, base_url, base_url_shown, bedrock_region, bedrock_region_cut, bedrock_settings, not_comparable, db_hash, db_hash_anthropic,
    enabled, deleted, updated_at
FROM jsonb_to_recordset(@rows::jsonb) AS rows (
    id uuid, name text, type text, base_url text, base_url_shown text, bedrock_region text, bedrock_region_cut boolean, bedrock_settings boolean,
    not_comparable text, db_hash text, db_hash_anthropic text, enabled boolean, deleted boolean, updated_at timestamptz)
ON CONFLICT (id) DO UPDATE SET
    name = excluded.name, type = excluded.type, base_url = excluded.base_url, base_url_shown = excluded.base_url_shown,
    bedrock_region = excluded.bedrock_region, bedrock_region_cut = excluded.bedrock_region_cut, bedrock_settings = excluded.bedrock_settings, not_comparable = excluded.not_comparable,
    db_hash = excluded.db_hash, db_hash_anthropic = excluded.db_hash_anthropic,
    enabled = excluded.enabled, deleted = excluded.deleted, updated_at = excluded.updated_at;

-- name: DropFromMirror :exec
DELETE FROM provwatch.wal_mirror WHERE id = ANY(@ids::uuid[]);

-- name: listProvidersAfter :many
-- Rows of the provider table in the order of their ids, for a new mirror.
SELECT id, name, type, base_url, enabled, deleted, settings, settings_key_id,
    coalesce(CASE WHEN isfinite(updated_at) THEN updated_at END, 'epoch')::timestamptz AS updated_at
FROM gateway.ai_providers
WHERE id > @after::uuid OR @first::boolean
ORDER BY id
LIMIT @max_providers;

-- name: EmitMarker :exec
-- Writes a message to the WAL, in a transaction of its own: whoever reads the
-- stream up to it has read everything that was committed before.
SELECT pg_logical_emit_message(true, 'provwatch', @token::text);

-- name: ReadWALEnd :one
-- Where the server's next record goes: all that was committed before is below it.
SELECT pg_current_wal_insert_lsn()::text AS lsn;

-- name: ListInvisible :many
-- Which of these transactions, by the numbers that the stream has, queries do not see
-- yet. Those are the low 32 bits: of all transactions that have them the one nearest to
-- now is meant.
SELECT streamed.xid::bigint AS xid
FROM (SELECT pg_snapshot_xmax(pg_current_snapshot())::text::bigint AS next) AS now,
    unnest(@xids::bigint[]) AS streamed (xid)
WHERE pg_xact_status((now.next - (mod(now.next - streamed.xid + 6442450944, 4294967296) - 2147483648))::text::xid8) = 'in progress';

-- name: InspectReplication :one
SELECT
    current_setting('wal_level')::text AS wal_level,
    current_setting('server_version_num')::int AS server_version,
    current_user::text AS role,
    (SELECT oid::bigint FROM pg_catalog.pg_database WHERE datname = current_database()) AS database_oid,
    -- The attribute. Patched servers have other ways, so that without it an attempt decides.
    (SELECT rolsuper OR rolreplication FROM pg_catalog.pg_roles WHERE rolname = current_user)::boolean AS may_replicate,
    EXISTS (SELECT FROM pg_catalog.pg_roles WHERE rolname = 'rds_replication')::boolean AS is_rds,
    pg_is_in_recovery() AS in_recovery,
    -- Only the owner of a table can publish it.
    (EXISTS (SELECT FROM pg_catalog.pg_publication WHERE pubname = 'provwatch') OR NOT EXISTS (
        SELECT FROM pg_catalog.pg_class c
        JOIN pg_catalog.pg_namespace n ON n.oid = c.relnamespace
        WHERE n.nspname = 'gateway' AND c.relname IN ('ai_providers', 'ai_provider_keys') AND NOT pg_has_role(c.relowner, 'USAGE')
    ))::boolean AS may_publish,
    -- A publication of updates and deletes fails those of a table whose replica
    -- identity is not covered by the columns that travel.
    (NOT EXISTS (SELECT FROM pg_catalog.pg_class c JOIN pg_catalog.pg_namespace n ON n.oid = c.relnamespace
        WHERE n.nspname = 'gateway' AND c.relname = 'ai_providers') OR (
        SELECT count(*) FROM pg_catalog.pg_class c
        JOIN pg_catalog.pg_namespace n ON n.oid = c.relnamespace
        JOIN pg_catalog.pg_index i ON i.indrelid = c.oid
        JOIN pg_catalog.pg_attribute a ON a.attrelid = c.oid AND a.attnum = i.indkey[0]
        WHERE n.nspname = 'gateway' AND c.relname IN ('ai_providers', 'ai_provider_keys') AND c.relkind = 'r'
            AND CASE c.relreplident WHEN 'd' THEN i.indisprimary WHEN 'i' THEN i.indisreplident ELSE false END
            AND i.indnkeyatts = 1 AND a.attname = 'id'
    ) = 2)::boolean AS identified;

-- name: InspectSlot :one
SELECT
    active, coalesce(active_pid, 0)::int AS active_pid, coalesce(wal_status, 'lost')::text AS wal_status, coalesce(confirmed_flush_lsn::text, '')::text AS confirmed_flush_lsn,
    coalesce(pg_wal_lsn_diff(pg_current_wal_lsn(), restart_lsn), 0)::bigint AS retained_bytes,
    -- Why the server has invalidated it, where it says that: 16 in part, 17 and later.
    coalesce(to_jsonb(s.*) ->> 'invalidation_reason', CASE WHEN to_jsonb(s.*) ->> 'conflicting' = 'true' THEN 'conflicting' END, '')::text AS invalidation,
    -- Whether it is as the worker makes it.
    (coalesce(plugin, '') = 'pgoutput' AND coalesce(database = current_database(), false) AND NOT temporary
        AND coalesce(to_jsonb(s.*) ->> 'two_phase', 'false') = 'false')::boolean AS is_ours
FROM pg_catalog.pg_replication_slots AS s
WHERE slot_name = @slot::text;

-- name: ReadTimeline :one
-- The timeline that the server writes. The control file lags behind after a promotion.
SELECT ('x' || left(pg_walfile_name(pg_current_wal_lsn()), 8))::bit(32)::int AS timeline;

-- name: MayReadSystem :one
-- Whether the role may read the server's system identifier, which it is refused on some
-- managed servers.
SELECT has_function_privilege('pg_catalog.pg_control_system()', 'EXECUTE')::boolean AS may_read;

-- name: ReadSystem :one
SELECT system_identifier::bigint AS system_identifier FROM pg_catalog.pg_control_system();

-- name: DropSlot :exec
SELECT pg_drop_replication_slot(slot_name) FROM pg_catalog.pg_replication_slots WHERE slot_name = @slot::text;

-- name: TerminateSlotHolder :exec
-- Ends whoever streams from the slot, such as a worker that froze.
SELECT pg_terminate_backend(active_pid) FROM pg_catalog.pg_replication_slots WHERE slot_name = @slot::text AND active;

-- name: IsPublished :one
-- Whether both provider tables are published as in publication.sql: of the keys a
-- list of columns, which PostgreSQL 14 does not know, of the providers all, and of
-- neither a filter of rows.
SELECT (count(*) FILTER (WHERE
    (current_setting('server_version_num')::int < 150000 OR (to_jsonb(r.*) ->> 'prattrs' IS NOT NULL) = (c.relname = 'ai_provider_keys'))
    AND to_jsonb(r.*) ->> 'prqual' IS NULL) = 2)::boolean AS published
FROM pg_catalog.pg_publication_rel r
JOIN pg_catalog.pg_publication p ON p.oid = r.prpubid
JOIN pg_catalog.pg_class c ON c.oid = r.prrelid
JOIN pg_catalog.pg_namespace n ON n.oid = c.relnamespace
WHERE p.pubname = 'provwatch' AND p.pubinsert AND p.pubupdate AND p.pubdelete AND p.pubtruncate
    AND n.nspname = 'gateway' AND c.relname IN ('ai_providers', 'ai_provider_keys');
