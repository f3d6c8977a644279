-- name: InspectStatus :one
-- The slot is the one of this database, see internal/wal.
SELECT
    current_database()::text AS database,
    current_setting('server_version')::text AS server_version,
    now()::timestamptz AS at,
    -- Whether the role may compare rows with an environment, and not only read
    -- what was recorded of them.
    coalesce(has_column_privilege(to_regclass('ai_providers'), 'settings', 'SELECT')
        AND has_column_privilege(to_regclass('ai_providers'), 'settings_key_id', 'SELECT')
        AND has_column_privilege(to_regclass('ai_providers'), 'base_url', 'SELECT'), false)::boolean AS may_compare,
    (SELECT 'provwatch_' || oid FROM pg_catalog.pg_database WHERE datname = current_database())::text AS slot,
    pg_is_in_recovery() AS in_recovery,
    coalesce(pg_last_xact_replay_timestamp(), 'epoch')::timestamptz AS replayed_at,
    -- Whether the database notes when everything was verified, which one that an
    -- earlier version has migrated does not, and whether the role may know.
    (kept.attnum IS NOT NULL)::boolean AS keeps_verified,
    coalesce(has_column_privilege(kept.attrelid, kept.attnum, 'SELECT'), false)::boolean AS may_read_verified
FROM (SELECT) AS one
LEFT JOIN pg_catalog.pg_attribute kept
    ON kept.attrelid = to_regclass('provwatch.alert_counter') AND kept.attname = 'verified_at' AND NOT kept.attisdropped;

-- name: ReadVerified :one
SELECT verified_at FROM provwatch.alert_counter;

-- name: ListWorkers :many
-- The listening sessions of this database's workers, and which of them leads.
-- Where a session is another role's, only a member of pg_read_all_stats sees
-- where it comes from and since when.
SELECT
    a.pid::int AS pid, coalesce(a.usename, '')::text AS role, coalesce(host(a.client_addr), '')::text AS address, a.backend_start,
    EXISTS (
        SELECT FROM pg_catalog.pg_locks l
        WHERE l.locktype = 'advisory' AND l.granted AND l.pid = a.pid AND l.database = a.datid AND l.objsubid = 1
            AND l.classid::bigint = (@lock_id::bigint >> 32) AND l.objid::bigint = (@lock_id::bigint & 4294967295)
    )::boolean AS leads
FROM pg_catalog.pg_stat_activity a
WHERE a.datname = current_database() AND a.application_name LIKE '%-listener'
ORDER BY leads DESC, a.pid
LIMIT @max_workers;

-- name: CountStates :many
-- How many providers are in each state, by the rank that ListStatus gives it.
-- Of the arms for what is in the database alone the server runs one.
SELECT
    CASE WHEN s.kind = 'deleted' THEN 1 WHEN s.kind <> 'in_sync' THEN 0 WHEN a.provider IS NOT NULL THEN 4 ELSE 5 END::int AS rank,
    count(*) AS providers
FROM provwatch.drift_state s
LEFT JOIN provwatch.accepted_drift a ON a.provider = s.provider AND a.env_hash = s.env_hash AND a.db_hash = s.db_hash
LEFT JOIN unnest(@named::text[]) AS named (name) ON named.name = s.provider
WHERE NOT @by_environment::boolean OR named.name IS NOT NULL
GROUP BY 1
UNION ALL
SELECT 2, count(*)
FROM ai_providers p
WHERE NOT @by_environment::boolean AND NOT p.deleted AND NOT EXISTS (SELECT FROM provwatch.drift_state s WHERE s.provider = p.name)
UNION ALL
SELECT 2, count(*)
FROM ai_providers p
WHERE @by_environment::boolean AND NOT p.deleted AND NOT EXISTS (SELECT FROM unnest(@named::text[]) AS named (name) WHERE named.name = p.name)
UNION ALL
SELECT 3, count(*)
FROM unnest(@named::text[]) AS named (name)
WHERE NOT EXISTS (SELECT FROM provwatch.drift_state s WHERE s.provider = named.name);

-- name: ListStatus :many
-- A page of providers, what is worth a look first: those that drift (0), are
-- soft-deleted (1), are in the database alone (2), were not verified yet (3),
-- whose drift was accepted (4), that are in sync (5).
--
-- Which providers the environment names is told by what was recorded, or with
-- by_environment set by the names given.
WITH listed AS (
    SELECT
        s.provider AS name,
        CASE WHEN s.kind = 'deleted' THEN 1 WHEN s.kind <> 'in_sync' THEN 0 WHEN a.provider IS NOT NULL THEN 4 ELSE 5 END AS rank,
        s.kind, s.env_hash, s.db_hash, s.credentials, s.observed_at, a.kind AS accepted_kind, a.accepted_by, a.accepted_at
    FROM provwatch.drift_state s
    LEFT JOIN provwatch.accepted_drift a ON a.provider = s.provider AND a.env_hash = s.env_hash AND a.db_hash = s.db_hash
    LEFT JOIN unnest(@named::text[]) AS named (name) ON named.name = s.provider
    WHERE NOT @by_environment::boolean OR named.name IS NOT NULL
    UNION ALL
    SELECT p.name, 2, '', '', '', '', NULL::timestamptz, NULL, NULL, NULL::timestamptz
    FROM ai_providers p
    WHERE NOT @by_environment::boolean AND NOT p.deleted AND NOT EXISTS (SELECT FROM provwatch.drift_state s WHERE s.provider = p.name)
    UNION ALL
    SELECT p.name, 2, '', '', '', '', NULL, NULL, NULL, NULL
    FROM ai_providers p
    WHERE @by_environment::boolean AND NOT p.deleted AND NOT EXISTS (SELECT FROM unnest(@named::text[]) AS named (name) WHERE named.name = p.name)
    UNION ALL
    SELECT named.name, 3, '', '', '', '', NULL, NULL, NULL, NULL
    FROM unnest(@named::text[]) AS named (name)
    WHERE NOT EXISTS (SELECT FROM provwatch.drift_state s WHERE s.provider = named.name)
)
SELECT
    name::text AS name, rank::int AS rank, kind::text AS kind, env_hash::text AS env_hash, db_hash::text AS db_hash,
    credentials::text AS credentials, coalesce(observed_at, 'epoch')::timestamptz AS observed_at, accepted_kind, accepted_by, accepted_at
FROM listed
WHERE rank = ANY(@ranks::int[]) AND strpos(name, @search::text) > 0
    AND (rank, name) > (@after_rank::int, @after_name::text)
ORDER BY rank, name
LIMIT @max_providers;

-- name: ListRowsInBrief :many
-- What a role may see of live providers that may not compare them.
SELECT id, name, type::text AS type, enabled FROM ai_providers WHERE NOT deleted AND name = ANY(@names::text[]);

-- name: ListLatestDrifts :many
-- The latest alert of a drift of each provider named.
SELECT a.provider, a.kind, a.fields, a.env_hash, a.db_hash
FROM unnest(@names::text[]) AS named
JOIN LATERAL (
    SELECT provider, kind, fields, env_hash, db_hash
    FROM provwatch.drift_alerts
    WHERE provider = named AND kind <> 'resolved'
    ORDER BY seq DESC
    LIMIT 1
) AS a ON true;

-- name: ListAlertsBefore :many
-- The latest alerts below a seq, the latest first.
SELECT seq, kind, provider, fields, source, detected_at, committed_at
FROM provwatch.drift_alerts
WHERE seq < @before
ORDER BY seq DESC
LIMIT @max_alerts;

-- name: ListAuditEntriesBefore :many
-- The latest delivered entries below a seq, the latest first.
SELECT seq, occurred_at, actor, action, provider, details
FROM provwatch.audit_log
WHERE seq < @before
ORDER BY seq DESC
LIMIT @max_entries;
