-- name: InspectStatus :one
-- The slot is the one of this database, see internal/wal.
SELECT
    current_database()::text AS database,
    current_setting('server_version')::text AS server_version,
    now()::timestamptz AS at,
    -- Whether the role may compare rows with an environment, and not only read
    -- what was recorded of them.
    (SELECT count(*) = 3 AND bool_and(has_column_privilege(a.attrelid, a.attnum, 'SELECT'))
        FROM pg_catalog.pg_attribute a
        JOIN pg_catalog.pg_class c ON c.oid = a.attrelid
        JOIN pg_catalog.pg_namespace n ON n.oid = c.relnamespace
        WHERE n.nspname = 'gateway' AND c.relname = 'ai_providers' AND a.attname IN ('settings', 'settings_key_id', 'base_url')
            AND has_schema_privilege(n.oid, 'USAGE'))::boolean AS may_compare,
    (SELECT 'provwatch_' || oid FROM pg_catalog.pg_database WHERE datname = current_database())::text AS slot,
    pg_is_in_recovery() AS in_recovery,
    coalesce(pg_last_xact_replay_timestamp(), 'epoch')::timestamptz AS replayed_at,
    -- Whether the database notes when everything was verified, which one that an
    -- earlier version has migrated does not, and whether the role may know.
    (kept.attnum IS NOT NULL)::boolean AS keeps_verified,
    coalesce(has_column_privilege(kept.attrelid, kept.attnum, 'SELECT'), false)::boolean AS may_read_verified,
    -- The key of digests, which a database that an earlier version has migrated lacks.
    coalesce(has_column_privilege(to_regclass('provwatch.hash_key'), 'key', 'SELECT'), false)::boolean AS may_read_hash_key,
    -- The environments of workers, which such a database lacks as well.
    coalesce(has_table_privilege(to_regclass('provwatch.environments'), 'SELECT') AND has_table_privilege(to_regclass('provwatch.workers'), 'SELECT'), false)::boolean
        AS may_read_environments,
    coalesce(has_table_privilege(to_regclass('provwatch.not_loaded'), 'SELECT'), false)::boolean AS may_read_not_loaded
FROM (SELECT) AS one
LEFT JOIN pg_catalog.pg_attribute kept
    ON kept.attrelid = to_regclass('provwatch.alert_counter') AND kept.attname = 'verified_at' AND NOT kept.attisdropped;

-- name: ReadVerified :one
SELECT verified_at FROM provwatch.alert_counter;

-- name: ListWorkers :many
-- The listening sessions of this database's workers. A session that observes has its own
-- application name. The session that holds the lock of the current term leads, see
-- provwatch.stand_by. Where another program holds that lock, the leader is the only session
-- that shows signs of life.
-- Where a session is another role's, only a member of pg_read_all_stats sees
-- where it comes from and since when.
WITH locks AS (
    SELECT l.pid, l.classid = 1886872180 AS beats
    FROM pg_catalog.pg_locks l
    WHERE l.locktype = 'advisory' AND l.granted AND l.objsubid = 2
        AND l.database = (SELECT oid FROM pg_catalog.pg_database WHERE datname = current_database())
        AND (l.classid = 1886872180
            OR l.classid = 1886874724 AND l.objid::bigint = (SELECT term % 2147483648 FROM provwatch.alert_counter))
), workers AS (
    SELECT a.pid, a.usename, a.client_addr, a.backend_start, a.application_name LIKE '%-observer-listener' AS observes,
        EXISTS (SELECT FROM locks WHERE locks.pid = a.pid AND NOT locks.beats) AS locked,
        EXISTS (SELECT FROM locks WHERE locks.pid = a.pid AND locks.beats) AS beats
    FROM pg_catalog.pg_stat_activity a
    WHERE a.datname = current_database() AND a.application_name LIKE '%-listener'
)
SELECT
    w.pid::int AS pid, coalesce(w.usename, '')::text AS role, coalesce(host(w.client_addr), '')::text AS address, w.backend_start, w.observes::boolean AS observes,
    (w.locked OR w.beats
        AND NOT EXISTS (SELECT FROM workers o WHERE o.locked OR o.beats AND o.pid <> w.pid)
        AND EXISTS (SELECT FROM locks WHERE NOT locks.beats))::boolean AS leads
FROM workers w
ORDER BY leads DESC, w.pid
LIMIT @max_workers;

-- name: ListLeaderLockHolders :many
-- Who holds the leader's lock and is not the listening session of a worker: a session, or
-- a prepared transaction.
WITH held AS (
    SELECT l.pid, l.virtualtransaction
    FROM pg_catalog.pg_locks l
    WHERE l.locktype = 'advisory' AND l.granted AND l.objsubid = 2 AND l.classid = 1886874724
        AND l.objid::bigint = (SELECT term % 2147483648 FROM provwatch.alert_counter)
        AND l.database = (SELECT oid FROM pg_catalog.pg_database WHERE datname = current_database())
)
SELECT a.pid::int AS pid, coalesce(a.usename, '')::text AS role, a.application_name::text AS application, coalesce(a.datname, '')::text AS database,
    ''::text AS prepared, NULL::timestamptz AS since
FROM held
JOIN pg_catalog.pg_stat_activity a ON a.pid = held.pid
WHERE a.application_name NOT LIKE '%-listener'
UNION ALL
SELECT 0, p.owner::text, '', p.database::text, p.gid, p.prepared
FROM held
JOIN pg_catalog.pg_locks own ON own.pid IS NULL AND own.locktype = 'transactionid' AND own.virtualtransaction = held.virtualtransaction
JOIN pg_catalog.pg_prepared_xacts p ON p.transaction = own.transactionid
WHERE held.pid IS NULL
ORDER BY pid, prepared
LIMIT 1;

-- name: listAcceptances :many
-- The accepted drifts, each beside what is recorded of its provider, without providers
-- that cannot be compared, or that have a pending drift.
SELECT a.provider, a.kind, a.env_hash, a.db_hash, a.expires_at, now()::timestamptz AS at, s.kind AS state_kind, s.env_hash AS state_env_hash, s.db_hash AS state_db_hash
FROM provwatch.accepted_drift a
JOIN provwatch.drift_state s ON s.provider = a.provider
WHERE NOT EXISTS (SELECT FROM provwatch.not_comparable n WHERE n.provider = a.provider)
    AND NOT EXISTS (SELECT FROM provwatch.pending_drifts d WHERE d.provider = a.provider)
ORDER BY a.provider;

-- name: countRecorded :many
-- How many providers are in each state, by the rank that ListRecorded gives it, as
-- it was recorded which providers the environment names. What is of one rank adds
-- up. Those whose drift was accepted, and those whose type the enum lacks, are named by the
-- caller, here and below. So are those whose acceptance has expired, which are recorded as in
-- sync until a worker verifies them.
SELECT CASE kind WHEN 'in_sync' THEN 8 WHEN 'deleted' THEN 2 ELSE 0 END::int AS rank, count(*)::bigint AS providers
FROM provwatch.drift_state s
WHERE NOT EXISTS (SELECT FROM provwatch.not_comparable n WHERE n.provider = s.provider)
GROUP BY 1
UNION ALL
SELECT 3, count(*)
FROM provwatch.pending_drifts d
WHERE NOT EXISTS (SELECT FROM provwatch.drift_state s WHERE s.provider = d.provider AND s.kind <> 'in_sync')
    AND NOT EXISTS (SELECT FROM provwatch.not_comparable n WHERE n.provider = d.provider)
UNION ALL
SELECT 8, -count(*)
FROM provwatch.pending_drifts d
JOIN provwatch.drift_state s ON s.provider = d.provider AND s.kind = 'in_sync'
WHERE NOT EXISTS (SELECT FROM provwatch.not_comparable n WHERE n.provider = d.provider)
UNION ALL
SELECT 1, count(*) FROM provwatch.not_comparable
UNION ALL
SELECT 7, cardinality(@accepted::text[])::bigint
UNION ALL
SELECT 8, -cardinality(@accepted::text[])::bigint
UNION ALL
SELECT 5, cardinality(@unsupported::text[])::bigint
UNION ALL
SELECT CASE a.kind WHEN 'deleted' THEN 2 ELSE 0 END, count(*) FROM provwatch.accepted_drift a WHERE a.provider = ANY(@expired::text[]) GROUP BY 1
UNION ALL
SELECT 8, -cardinality(@expired::text[])::bigint
UNION ALL
SELECT CASE WHEN r.provider_id IS NOT NULL THEN 3 WHEN u.kind IS NULL THEN 4 WHEN ar.provider_id IS NULL THEN 0 ELSE 7 END, count(*)
FROM gateway.ai_providers p
LEFT JOIN provwatch.unmanaged_rows u ON u.provider_id = p.id AND u.kind <> 'known'
LEFT JOIN provwatch.pending_rows r ON r.provider_id = p.id
LEFT JOIN provwatch.accepted_rows ar ON ar.provider_id = u.provider_id AND u.kind = 'in_sync' AND (ar.expires_at IS NULL OR ar.expires_at > now())
WHERE p.enabled AND NOT p.deleted AND NOT EXISTS (SELECT FROM provwatch.drift_state s WHERE s.provider = p.name)
    AND NOT EXISTS (SELECT FROM provwatch.not_comparable n WHERE n.provider = p.name)
    AND NOT EXISTS (SELECT FROM provwatch.pending_drifts d WHERE d.provider = p.name) AND p.name <> ALL(@unsupported::text[])
GROUP BY 1;

-- name: listRecorded :many
-- A page of providers, the most urgent first, by rank: drifting (0), not comparable (1),
-- soft-deleted (2), pending (3), unmanaged (4), of a type that the enum lacks (5), accepted (7),
-- in sync (8). The recorded states show which providers the environment names. An unmanaged row
-- that was alerted drifts, and one whose alert waits is pending. An alerted one can be accepted.
-- Any other one is unmanaged.
--
-- Each arm ends with the page, so that those in sync are read in the order of their
-- index, and no further; an arm whose rank is not asked for is not run.
WITH listed AS (
    (
        SELECT s.provider AS name, 0 AS rank, s.kind, s.env_hash, s.db_hash, s.credentials, s.observed_at,
            NULL::text AS accepted_kind, NULL::text AS accepted_by, NULL::timestamptz AS accepted_at, NULL::text AS accepted_reason, NULL::timestamptz AS accepted_expires_at, '' AS reason,
            NULL::jsonb AS pending
        FROM provwatch.drift_state s
        WHERE 0 = ANY(@ranks::int[]) AND s.kind NOT IN ('in_sync', 'deleted')
            AND strpos(s.provider, @search::text) > 0 AND (0, s.provider) > (@after_rank::int, @after_name::text)
            AND NOT EXISTS (SELECT FROM provwatch.not_comparable n WHERE n.provider = s.provider)
        ORDER BY s.provider
        LIMIT @max_providers
    )
    UNION ALL
    (
        SELECT s.provider, CASE a.kind WHEN 'deleted' THEN 2 ELSE 0 END, a.kind, s.env_hash, s.db_hash, s.credentials, s.observed_at, NULL, NULL, NULL, NULL, NULL, '', NULL
        FROM provwatch.accepted_drift a
        JOIN provwatch.drift_state s ON s.provider = a.provider
        WHERE a.provider = ANY(@expired::text[]) AND CASE a.kind WHEN 'deleted' THEN 2 ELSE 0 END = ANY(@ranks::int[])
            AND strpos(s.provider, @search::text) > 0 AND (CASE a.kind WHEN 'deleted' THEN 2 ELSE 0 END, s.provider) > (@after_rank::int, @after_name::text)
        ORDER BY 2, s.provider
        LIMIT @max_providers
    )
    UNION ALL
    (
        SELECT n.provider, 1, '', '', '', '', n.observed_at, NULL, NULL, NULL, NULL, NULL, n.reason, NULL
        FROM provwatch.not_comparable n
        WHERE 1 = ANY(@ranks::int[]) AND strpos(n.provider, @search::text) > 0 AND (1, n.provider) > (@after_rank::int, @after_name::text)
        ORDER BY n.provider
        LIMIT @max_providers
    )
    UNION ALL
    (
        SELECT s.provider, 2, s.kind, s.env_hash, s.db_hash, s.credentials, s.observed_at, NULL, NULL, NULL, NULL, NULL, '', NULL
        FROM provwatch.drift_state s
        WHERE 2 = ANY(@ranks::int[]) AND s.kind = 'deleted'
            AND strpos(s.provider, @search::text) > 0 AND (2, s.provider) > (@after_rank::int, @after_name::text)
            AND NOT EXISTS (SELECT FROM provwatch.not_comparable n WHERE n.provider = s.provider)
        ORDER BY s.provider
        LIMIT @max_providers
    )
    UNION ALL
    (
        SELECT d.provider, 3, coalesce(s.kind, ''), coalesce(s.env_hash, ''), coalesce(s.db_hash, ''), coalesce(s.credentials, ''), d.since,
            NULL, NULL, NULL, NULL, NULL, '', to_jsonb(d)::jsonb
        FROM provwatch.pending_drifts d
        LEFT JOIN provwatch.drift_state s ON s.provider = d.provider
        WHERE 3 = ANY(@ranks::int[]) AND coalesce(s.kind, 'in_sync') = 'in_sync'
            AND strpos(d.provider, @search::text) > 0 AND (3, d.provider) > (@after_rank::int, @after_name::text)
            AND NOT EXISTS (SELECT FROM provwatch.not_comparable n WHERE n.provider = d.provider)
        ORDER BY d.provider
        LIMIT @max_providers
    )
    UNION ALL
    (
        SELECT p.name, 4, '', '', '', '', NULL, NULL, NULL, NULL, NULL, NULL, '', NULL
        FROM gateway.ai_providers p
        WHERE 4 = ANY(@ranks::int[]) AND p.enabled AND NOT p.deleted AND NOT EXISTS (SELECT FROM provwatch.drift_state s WHERE s.provider = p.name)
            AND NOT EXISTS (SELECT FROM provwatch.not_comparable n WHERE n.provider = p.name)
            AND NOT EXISTS (SELECT FROM provwatch.pending_drifts d WHERE d.provider = p.name) AND p.name <> ALL(@unsupported::text[])
            AND NOT EXISTS (SELECT FROM provwatch.unmanaged_rows u WHERE u.provider_id = p.id AND u.kind <> 'known')
            AND NOT EXISTS (SELECT FROM provwatch.pending_rows r WHERE r.provider_id = p.id)
            AND strpos(p.name, @search::text) > 0 AND (4, p.name) > (@after_rank::int, @after_name::text)
        ORDER BY p.name
        LIMIT @max_providers
    )
    UNION ALL
    (
        SELECT p.name, ranked.rank, CASE ranked.rank WHEN 3 THEN '' ELSE 'unmanaged' END, '', coalesce(u.db_hash, ''), '', coalesce(r.since, u.observed_at),
            CASE ranked.rank WHEN 7 THEN 'unmanaged' END, ar.accepted_by, ar.accepted_at, ar.reason, ar.expires_at, '',
            to_jsonb(r)::jsonb || '{"kind": "unmanaged", "moved": "database"}'::jsonb
        FROM (
            SELECT alerted.provider_id FROM provwatch.unmanaged_rows alerted WHERE alerted.kind <> 'known'
            UNION
            SELECT waiting.provider_id FROM provwatch.pending_rows waiting
        ) AS known
        JOIN gateway.ai_providers p ON p.id = known.provider_id AND p.enabled AND NOT p.deleted
        LEFT JOIN provwatch.unmanaged_rows u ON u.provider_id = p.id AND u.kind <> 'known'
        LEFT JOIN provwatch.pending_rows r ON r.provider_id = p.id
        LEFT JOIN provwatch.accepted_rows ar ON ar.provider_id = u.provider_id AND u.kind = 'in_sync' AND (ar.expires_at IS NULL OR ar.expires_at > now())
        CROSS JOIN LATERAL (SELECT CASE WHEN r.provider_id IS NOT NULL THEN 3 WHEN ar.provider_id IS NULL THEN 0 ELSE 7 END AS rank) AS ranked
        WHERE @ranks::int[] && '{0,3,7}'::int[] AND ranked.rank = ANY(@ranks::int[])
            AND NOT EXISTS (SELECT FROM provwatch.drift_state s WHERE s.provider = p.name)
            AND NOT EXISTS (SELECT FROM provwatch.not_comparable n WHERE n.provider = p.name)
            AND NOT EXISTS (SELECT FROM provwatch.pending_drifts d WHERE d.provider = p.name) AND p.name <> ALL(@unsupported::text[])
            AND strpos(p.name, @search::text) > 0 AND (ranked.rank, p.name) > (@after_rank::int, @after_name::text)
        ORDER BY 2, p.name
        LIMIT @max_providers
    )
    UNION ALL
    (
        SELECT named.name, 5, '', '', '', '', NULL, NULL, NULL, NULL, NULL, NULL, '', NULL
        FROM unnest(@unsupported::text[]) AS named (name)
        WHERE 5 = ANY(@ranks::int[]) AND strpos(named.name, @search::text) > 0 AND (5, named.name) > (@after_rank::int, @after_name::text)
        ORDER BY named.name
        LIMIT @max_providers
    )
    UNION ALL
    (
        SELECT s.provider, 7, s.kind, s.env_hash, s.db_hash, s.credentials, s.observed_at, a.kind, a.accepted_by, a.accepted_at, a.reason, a.expires_at, '', NULL
        FROM provwatch.accepted_drift a
        JOIN provwatch.drift_state s ON s.provider = a.provider
        WHERE 7 = ANY(@ranks::int[]) AND a.provider = ANY(@accepted::text[])
            AND strpos(s.provider, @search::text) > 0 AND (7, s.provider) > (@after_rank::int, @after_name::text)
        ORDER BY s.provider
        LIMIT @max_providers
    )
    UNION ALL
    (
        SELECT s.provider, 8, s.kind, s.env_hash, s.db_hash, s.credentials, s.observed_at, NULL, NULL, NULL, NULL, NULL, '', NULL
        FROM provwatch.drift_state s
        WHERE 8 = ANY(@ranks::int[]) AND s.kind = 'in_sync' AND strpos(s.provider, @search::text) > 0
            AND s.provider > CASE @after_rank::int WHEN 8 THEN @after_name::text ELSE '' END
            AND s.provider <> ALL(@accepted::text[]) AND s.provider <> ALL(@expired::text[])
            AND NOT EXISTS (SELECT FROM provwatch.not_comparable n WHERE n.provider = s.provider)
            AND NOT EXISTS (SELECT FROM provwatch.pending_drifts d WHERE d.provider = s.provider)
        ORDER BY s.provider
        LIMIT @max_providers
    )
)
SELECT
    name::text AS name, rank::int AS rank, kind::text AS kind, env_hash::text AS env_hash, db_hash::text AS db_hash,
    credentials::text AS credentials, coalesce(observed_at, 'epoch')::timestamptz AS observed_at, accepted_kind, accepted_by, accepted_at, accepted_reason, accepted_expires_at,
    reason::text AS reason, pending::jsonb AS pending
FROM listed
ORDER BY rank, name
LIMIT @max_providers;

-- name: countNamed :many
-- CountRecorded where the names that the environment names are given.
SELECT
    CASE WHEN unsupported.name IS NOT NULL THEN 5 WHEN n.provider IS NOT NULL THEN 1 WHEN coalesce(expired.kind, s.kind) = 'deleted' THEN 2
        WHEN coalesce(expired.kind, s.kind) <> 'in_sync' THEN 0 WHEN d.provider IS NOT NULL THEN 3 WHEN accepted.name IS NOT NULL THEN 7
        WHEN s.provider IS NULL THEN 6 ELSE 8 END::int AS rank,
    count(*) AS providers
FROM unnest(@named::text[]) AS named (name)
LEFT JOIN provwatch.drift_state s ON s.provider = named.name
LEFT JOIN provwatch.not_comparable n ON n.provider = named.name
LEFT JOIN provwatch.pending_drifts d ON d.provider = named.name
LEFT JOIN unnest(@accepted::text[]) AS accepted (name) ON accepted.name = named.name
LEFT JOIN unnest(@unsupported::text[]) AS unsupported (name) ON unsupported.name = named.name
LEFT JOIN provwatch.accepted_drift expired ON expired.provider = named.name AND expired.provider = ANY(@expired::text[])
GROUP BY 1
UNION ALL
SELECT CASE WHEN r.provider_id IS NOT NULL THEN 3 WHEN u.kind IS NULL THEN 4 WHEN ar.provider_id IS NULL THEN 0 ELSE 7 END, count(*)
FROM gateway.ai_providers p
LEFT JOIN provwatch.unmanaged_rows u ON u.provider_id = p.id AND u.kind <> 'known'
LEFT JOIN provwatch.pending_rows r ON r.provider_id = p.id
LEFT JOIN provwatch.accepted_rows ar ON ar.provider_id = u.provider_id AND u.kind = 'in_sync' AND (ar.expires_at IS NULL OR ar.expires_at > now())
WHERE p.enabled AND NOT p.deleted AND NOT EXISTS (SELECT FROM unnest(@named::text[]) AS named (name) WHERE named.name = p.name)
GROUP BY 1;

-- name: listNamed :many
-- ListRecorded where the names that the environment names are given. Providers that were
-- not verified yet (6) are in it as well.
WITH listed AS (
    SELECT
        s.provider AS name,
        CASE WHEN coalesce(expired.kind, s.kind) = 'deleted' THEN 2 WHEN coalesce(expired.kind, s.kind) <> 'in_sync' THEN 0
            WHEN d.provider IS NOT NULL THEN 3 WHEN a.provider IS NOT NULL THEN 7 ELSE 8 END AS rank,
        coalesce(expired.kind, s.kind) AS kind, s.env_hash, s.db_hash, s.credentials, coalesce(d.since, s.observed_at) AS observed_at,
        a.kind AS accepted_kind, a.accepted_by, a.accepted_at, a.reason AS accepted_reason, a.expires_at AS accepted_expires_at, '' AS reason, to_jsonb(d)::jsonb AS pending
    FROM provwatch.drift_state s
    JOIN unnest(@named::text[]) AS named (name) ON named.name = s.provider
    LEFT JOIN provwatch.accepted_drift a ON a.provider = s.provider AND a.provider = ANY(@accepted::text[])
    LEFT JOIN provwatch.accepted_drift expired ON expired.provider = s.provider AND expired.provider = ANY(@expired::text[])
    LEFT JOIN provwatch.pending_drifts d ON d.provider = s.provider AND s.kind = 'in_sync'
    -- What the rank tells as well, before the joins.
    WHERE (s.kind <> 'in_sync' OR expired.provider IS NOT NULL OR @ranks::int[] && '{3,7,8}'::int[]) AND s.provider <> ALL(@unsupported::text[])
        AND NOT EXISTS (SELECT FROM provwatch.not_comparable n WHERE n.provider = s.provider)
    UNION ALL
    SELECT n.provider, 1, '', '', '', '', n.observed_at, NULL, NULL, NULL, NULL, NULL, n.reason, NULL
    FROM provwatch.not_comparable n
    WHERE EXISTS (SELECT FROM unnest(@named::text[]) AS named (name) WHERE named.name = n.provider) AND n.provider <> ALL(@unsupported::text[])
    UNION ALL
    SELECT p.name, CASE WHEN r.provider_id IS NOT NULL THEN 3 WHEN u.kind IS NULL THEN 4 WHEN ar.provider_id IS NULL THEN 0 ELSE 7 END,
        CASE WHEN r.provider_id IS NULL AND u.kind IS NOT NULL THEN 'unmanaged' ELSE '' END, '', coalesce(u.db_hash, ''), '', coalesce(r.since, u.observed_at),
        CASE WHEN r.provider_id IS NULL AND ar.provider_id IS NOT NULL THEN 'unmanaged' END, ar.accepted_by, ar.accepted_at, ar.reason, ar.expires_at, '',
        to_jsonb(r)::jsonb || '{"kind": "unmanaged", "moved": "database"}'::jsonb
    FROM gateway.ai_providers p
    LEFT JOIN provwatch.unmanaged_rows u ON u.provider_id = p.id AND u.kind <> 'known'
    LEFT JOIN provwatch.pending_rows r ON r.provider_id = p.id
    LEFT JOIN provwatch.accepted_rows ar ON ar.provider_id = u.provider_id AND u.kind = 'in_sync' AND (ar.expires_at IS NULL OR ar.expires_at > now())
    WHERE p.enabled AND NOT p.deleted AND NOT EXISTS (SELECT FROM unnest(@named::text[]) AS named (name) WHERE named.name = p.name)
    UNION ALL
    SELECT named.name, 5, '', '', '', '', NULL, NULL, NULL, NULL, NULL, NULL, '', NULL
    FROM unnest(@unsupported::text[]) AS named (name)
    UNION ALL
    SELECT named.name, CASE WHEN d.provider IS NULL THEN 6 ELSE 3 END, '', '', '', '', d.since, NULL, NULL, NULL, NULL, NULL, '', to_jsonb(d)::jsonb
    FROM unnest(@named::text[]) AS named (name)
    LEFT JOIN provwatch.pending_drifts d ON d.provider = named.name
    WHERE named.name <> ALL(@unsupported::text[]) AND NOT EXISTS (SELECT FROM provwatch.drift_state s WHERE s.provider = named.name)
        AND NOT EXISTS (SELECT FROM provwatch.not_comparable n WHERE n.provider = named.name)
)
SELECT
    name::text AS name, rank::int AS rank, kind::text AS kind, env_hash::text AS env_hash, db_hash::text AS db_hash,
    credentials::text AS credentials, coalesce(observed_at, 'epoch')::timestamptz AS observed_at, accepted_kind, accepted_by, accepted_at, accepted_reason, accepted_expires_at,
    reason::text AS reason, pending::jsonb AS pending
FROM listed
WHERE rank = ANY(@ranks::int[]) AND strpos(name, @search::text) > 0
    AND (rank, name) > (@after_rank::int, @after_name::text)
ORDER BY rank, name
LIMIT @max_providers;

-- name: ListRowsInBrief :many
-- What a role may see of live providers that may not compare them.
SELECT id, name, type::text AS type FROM gateway.ai_providers WHERE NOT deleted AND name = ANY(@names::text[]);

-- name: listLatestDrifts :many
-- The latest alert of a drift of each provider named.
SELECT a.seq, a.id, a.kind, a.provider, a.provider_id, a.fields, a.env_hash, a.db_hash, a.source, a.detected_at,
    coalesce(a.lsn::text, '')::text AS lsn, coalesce(a.xid, 0)::bigint AS xid, a.committed_at, a.epoch, a.reason, a.certain, a.moved, a.how,
    coalesce(a.resolves, 0)::bigint AS resolves, a.silenced, coalesce(a.repeats, 0)::bigint AS repeats, a.renamed_to, a.unmanaged
FROM unnest(@names::text[]) AS named
JOIN LATERAL (
    SELECT *
    FROM provwatch.drift_alerts
    WHERE provider = named AND kind <> 'resolved'
    ORDER BY seq DESC
    LIMIT 1
) AS a ON true;

-- name: listAlertsBefore :many
-- The latest alerts below a seq, the latest first.
SELECT seq, id, kind, provider, provider_id, fields, env_hash, db_hash, source, detected_at,
    coalesce(lsn::text, '')::text AS lsn, coalesce(xid, 0)::bigint AS xid, committed_at, epoch, reason, certain, moved, how,
    coalesce(resolves, 0)::bigint AS resolves, silenced, coalesce(repeats, 0)::bigint AS repeats, renamed_to, unmanaged
FROM provwatch.drift_alerts
WHERE seq < @before
ORDER BY seq DESC
LIMIT @max_alerts;

-- name: ListAuditEntriesBefore :many
-- The latest delivered entries below a seq, the latest first.
SELECT seq, occurred_at, actor, action, provider, details
FROM provwatch.audit_log
WHERE seq < @before AND seq <= (SELECT last_seq FROM provwatch.audit_counter)
ORDER BY seq DESC
LIMIT @max_entries;
