-- name: startUnmanaged :many
-- Takes the enabled, live rows that the environment does not name for known ones, the first
-- time. It writes nothing when the term, the epoch or the newest generation of environments is
-- another by now, or the counter's row was not written by a worker last. It then returns no row.
WITH claimed AS (
    UPDATE provwatch.alert_counter SET generation = generation + 1, writer = pg_current_xact_id()
    WHERE term = @term AND alert_counter.epoch = @epoch
        AND (writer IS NULL OR xmin::text::bigint = mod(writer::text::bigint, 4294967296))
        AND (@newest_environment::bigint < 0 OR @newest_environment::bigint = coalesce((SELECT e.generation FROM provwatch.environments e ORDER BY e.generation DESC LIMIT 1), 0))
    RETURNING alert_counter.generation
), started AS (
    INSERT INTO provwatch.unmanaged_baseline (singleton)
    SELECT true WHERE EXISTS (SELECT FROM claimed)
    ON CONFLICT DO NOTHING
), known AS (
    INSERT INTO provwatch.unmanaged_rows (provider_id, provider, kind)
    SELECT p.id, p.name, 'known'
    FROM gateway.ai_providers p
    WHERE p.enabled AND NOT p.deleted AND NOT EXISTS (SELECT FROM unnest(@named::text[]) AS named (name) WHERE named.name = p.name)
        AND EXISTS (SELECT FROM claimed)
    ON CONFLICT DO NOTHING
)
SELECT claimed.generation FROM claimed;

-- name: listRecordedKinds :many
-- The generation, whether the first unmanaged rows were taken for known ones, and every
-- unmanaged row that is recorded. A row of which only a pending drift or an acceptance is there has
-- no kind. At least one row, and in one moment.
SELECT c.generation, EXISTS (SELECT FROM provwatch.unmanaged_baseline)::boolean AS started,
    coalesce(u.provider_id, '00000000-0000-0000-0000-000000000000')::uuid AS provider_id, coalesce(u.kind, '')::text AS kind
FROM provwatch.alert_counter c
LEFT JOIN (
    SELECT recorded.provider_id, recorded.kind FROM provwatch.unmanaged_rows recorded
    UNION ALL
    SELECT r.provider_id, '' FROM provwatch.pending_rows r
    WHERE NOT EXISTS (SELECT FROM provwatch.unmanaged_rows recorded WHERE recorded.provider_id = r.provider_id)
    UNION ALL
    SELECT a.provider_id, '' FROM provwatch.accepted_rows a
    WHERE NOT EXISTS (SELECT FROM provwatch.unmanaged_rows recorded WHERE recorded.provider_id = a.provider_id)
        AND NOT EXISTS (SELECT FROM provwatch.pending_rows r WHERE r.provider_id = a.provider_id)
) AS u ON true;

-- name: listRecordedRows :many
-- What is recorded of the rows of the ids. By that also for how many providers each stands, and
-- whether an environment names a provider of the name.
SELECT
    wanted.id::uuid AS id, wanted.name::text AS name, u.provider, u.kind, u.db_hash, coalesce(u.alert_seq, 0)::bigint AS alert_seq,
    coalesce(u.silenced_seq = u.alert_seq, false)::boolean AS silenced, to_jsonb(r)::jsonb AS pending,
    a.db_hash AS accepted_db_hash, a.part_hash AS accepted_part_hash, a.expires_at AS accepted_expires_at, a.accepted_at, now()::timestamptz AS at,
    (
        (SELECT count(*) FROM provwatch.drift_state s WHERE s.provider_id = wanted.id AND s.kind <> 'missing'
            AND NOT EXISTS (SELECT FROM provwatch.pending_drifts lost WHERE lost.provider = s.provider AND lost.kind = 'missing'))
        + (SELECT count(*) FROM provwatch.pending_drifts d WHERE d.provider_id = wanted.id AND d.kind <> 'missing')
    )::bigint AS providers,
    (EXISTS (SELECT FROM provwatch.base_pairs b WHERE b.provider = wanted.name AND b.named)
        OR EXISTS (SELECT FROM provwatch.not_comparable n WHERE n.provider = wanted.name))::boolean AS is_named
FROM (SELECT unnest(@ids::uuid[]) AS id, unnest(@names::text[]) AS name) AS wanted
LEFT JOIN provwatch.unmanaged_rows u ON u.provider_id = wanted.id
LEFT JOIN provwatch.pending_rows r ON r.provider_id = wanted.id
LEFT JOIN provwatch.accepted_rows a ON a.provider_id = wanted.id;

-- name: hasUnmanagedBaseline :one
-- Whether the first unmanaged rows were taken for known ones.
SELECT EXISTS (SELECT FROM provwatch.unmanaged_baseline)::boolean AS started;

-- name: listUnmanagedIDs :many
-- The ids of the unmanaged rows that are recorded or accepted.
SELECT provider_id FROM provwatch.unmanaged_rows
UNION
SELECT provider_id FROM provwatch.pending_rows
UNION
SELECT provider_id FROM provwatch.accepted_rows
ORDER BY provider_id;

-- name: listDriftingRows :many
-- The unmanaged rows whose drift lasts, alerted or pending.
SELECT coalesce(r.provider_id, u.provider_id)::uuid AS id, u.provider, u.kind, u.db_hash, coalesce(u.alert_seq, 0)::bigint AS alert_seq,
    coalesce(u.silenced_seq = u.alert_seq, false)::boolean AS silenced, to_jsonb(r)::jsonb AS pending,
    (SELECT generation FROM provwatch.alert_counter) AS generation,
    (SELECT last_seq FROM provwatch.alert_counter) AS last_seq,
    coalesce((SELECT e.generation FROM provwatch.environments e ORDER BY e.generation DESC LIMIT 1), 0)::bigint AS newest_environment
FROM provwatch.unmanaged_rows u
FULL JOIN provwatch.pending_rows r ON r.provider_id = u.provider_id
WHERE u.kind = 'unmanaged' OR r.provider_id IS NOT NULL
ORDER BY coalesce(r.provider, u.provider), 1;

-- name: listUnmanaged :many
-- The enabled, live rows that the environment does not name, each beside what is recorded of
-- it. Besides, whether the environment of a worker names a provider of its name. With limited set,
-- only the rows of the names wanted.
SELECT
    p.id, p.name, p.type, p.base_url, p.enabled, p.deleted, p.settings, p.settings_key_id,
    coalesce(CASE WHEN isfinite(p.updated_at) THEN p.updated_at END, 'epoch')::timestamptz AS updated_at,
    u.provider AS recorded_provider, u.kind, u.db_hash, coalesce(u.alert_seq, 0)::bigint AS alert_seq,
    a.db_hash AS accepted_db_hash, a.part_hash AS accepted_part_hash, a.expires_at AS accepted_expires_at, a.accepted_at, now()::timestamptz AS at,
    EXISTS (SELECT FROM provwatch.base_pairs b WHERE b.provider = p.name AND b.named)::boolean AS is_named
FROM gateway.ai_providers p
LEFT JOIN provwatch.unmanaged_rows u ON u.provider_id = p.id
LEFT JOIN provwatch.accepted_rows a ON a.provider_id = p.id
WHERE p.enabled AND NOT p.deleted
    AND NOT EXISTS (SELECT FROM unnest(@named::text[]) AS named (name) WHERE named.name = p.name)
    AND (NOT @limited::boolean OR p.name = ANY(@wanted::text[]))
ORDER BY p.name;

-- name: listEnabled :many
-- The enabled, live rows that the environment does not name, of a database that need not have
-- been migrated.
SELECT p.id, p.name, p.type, p.base_url, p.enabled, p.deleted, p.settings, p.settings_key_id,
    coalesce(CASE WHEN isfinite(p.updated_at) THEN p.updated_at END, 'epoch')::timestamptz AS updated_at
FROM gateway.ai_providers p
WHERE p.enabled AND NOT p.deleted AND NOT EXISTS (SELECT FROM unnest(@named::text[]) AS named (name) WHERE named.name = p.name)
ORDER BY p.name;

-- name: acceptRows :exec
-- The time is that of acceptDrift.
INSERT INTO provwatch.accepted_rows (provider_id, provider, db_hash, part_hash, accepted_by, accepted_at, reason, expires_at)
SELECT new.provider_id, new.provider, new.db_hash, new.part_hash, @accepted_by, clock_timestamp(), @reason, @expires_at
FROM jsonb_to_recordset(@rows::jsonb) AS new (provider_id uuid, provider text, db_hash text, part_hash text)
ON CONFLICT (provider_id) DO UPDATE
SET provider = excluded.provider, db_hash = excluded.db_hash, part_hash = excluded.part_hash, accepted_by = excluded.accepted_by, accepted_at = excluded.accepted_at,
    reason = excluded.reason, expires_at = excluded.expires_at;

-- name: listMirrorSuspects :many
-- A page of the rows of the mirror that the transaction has written, that are enabled and live, and
-- not recorded as known. Rows that have the name of a provider, by what is recorded, are left out unless
-- something is recorded of them. The writes must not have been in a subtransaction, which has an id of its own.
SELECT m.id FROM provwatch.wal_mirror m
LEFT JOIN provwatch.unmanaged_rows u ON u.provider_id = m.id
WHERE m.id > @after::uuid AND m.enabled AND NOT m.deleted AND u.kind IS DISTINCT FROM 'known'
    AND m.xmin::text::bigint = mod(pg_current_xact_id()::text::bigint, 4294967296)
    AND (u.provider_id IS NOT NULL
        OR EXISTS (SELECT FROM provwatch.pending_rows r WHERE r.provider_id = m.id)
        OR EXISTS (SELECT FROM provwatch.accepted_rows a WHERE a.provider_id = m.id)
        OR NOT EXISTS (SELECT FROM provwatch.drift_state s WHERE s.provider = m.name))
ORDER BY m.id
LIMIT @max_rows;

-- name: listLeftFromMirror :many
-- A page of the unmanaged rows that are recorded or accepted, and that the mirror has not as enabled, live ones.
SELECT u.provider_id::uuid AS id
FROM (
    SELECT recorded.provider_id FROM provwatch.unmanaged_rows recorded
    UNION
    SELECT r.provider_id FROM provwatch.pending_rows r
    UNION
    SELECT a.provider_id FROM provwatch.accepted_rows a
) AS u
WHERE u.provider_id > @after::uuid
    AND NOT EXISTS (SELECT FROM provwatch.wal_mirror m WHERE m.id = u.provider_id AND m.enabled AND NOT m.deleted)
ORDER BY u.provider_id
LIMIT @max_rows;
