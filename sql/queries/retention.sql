-- name: BeginPruning :exec
-- Bounds what follows in the transaction: no statement waits for another session for long,
-- and the server ends the transaction when the program freezes in it.
SELECT set_config('lock_timeout', '1s', true), set_config('statement_timeout', '10s', true),
    set_config('idle_in_transaction_session_timeout', '15s', true);

-- name: PruneAlerts :one
-- Deletes alerts of a page: those after a seq that are older than what is kept. It keeps
-- what a sink has not had, the last alert, the last one of each drift that lasts, and a
-- provider's alerts from its first dead letter on. The drift of an unmanaged row is the
-- row's: another row can have its name by now. Only an alert that all sinks have had
-- replaces another, and a silenced one, which no sink gets, replaces silenced ones alone: a
-- sink that begins again needs the alert that it was sent last.
--
-- The page ends at the first alert that is young by both clocks, the server's and the
-- program's. One from the future has a wrong time, and goes with its neighbours.
WITH bounds AS (
    SELECT least(now(), @now::timestamptz) - make_interval(secs => @keep_seconds::float8) AS before,
        (SELECT max(a.seq) FROM provwatch.drift_alerts a) AS last,
        least((SELECT max(a.seq) FROM provwatch.drift_alerts a), (SELECT min(c.seq) FROM provwatch.sink_cursors c WHERE c.stream = 'drift')) AS had
), page AS (
    SELECT a.seq, a.provider, a.provider_id, a.unmanaged, a.kind, a.certain, a.silenced, a.detected_at
    FROM provwatch.drift_alerts a
    WHERE a.seq > @after::bigint AND a.seq < (SELECT last FROM bounds) AND a.seq <= (SELECT had FROM bounds)
    ORDER BY a.seq
    LIMIT @max_rows::int
), young AS (
    SELECT min(page.seq) AS seq FROM page CROSS JOIN bounds WHERE page.detected_at BETWEEN bounds.before AND now()
), old AS (
    SELECT max(page.seq) AS seq
    FROM page CROSS JOIN bounds CROSS JOIN young
    WHERE page.detected_at < bounds.before AND (young.seq IS NULL OR page.seq < young.seq)
), letters AS (
    SELECT d.provider, min(d.seq) AS seq FROM provwatch.sink_dead_letters d WHERE d.stream = 'drift' GROUP BY d.provider
), prunable AS (
    SELECT page.seq
    FROM page
    WHERE page.seq <= (SELECT old.seq FROM old)
        AND (page.kind = 'resolved'
            -- What it ends was deleted, or is deleted with it: the cursors can have moved since the page before.
            AND NOT CASE
                WHEN page.unmanaged THEN EXISTS (
                    SELECT FROM provwatch.drift_alerts earlier WHERE earlier.unmanaged AND earlier.provider_id = page.provider_id AND earlier.seq <= @after)
                ELSE EXISTS (
                    SELECT FROM provwatch.drift_alerts earlier WHERE earlier.provider = page.provider AND NOT earlier.unmanaged AND earlier.seq <= @after)
            END
        OR CASE
            WHEN page.unmanaged THEN EXISTS (
                SELECT FROM provwatch.drift_alerts later
                WHERE later.unmanaged AND later.provider_id = page.provider_id AND later.seq > page.seq AND later.seq <= (SELECT had FROM bounds)
                    AND (page.silenced OR NOT later.silenced))
            ELSE EXISTS (
                SELECT FROM provwatch.drift_alerts later
                WHERE later.provider = page.provider AND NOT later.unmanaged AND later.seq > page.seq AND later.seq <= (SELECT had FROM bounds)
                    AND (page.silenced OR NOT later.silenced)
                    -- About no provider, the last of each kind lasts.
                    AND (page.provider <> '' OR later.kind = page.kind AND later.certain IS NOT DISTINCT FROM page.certain))
        END)
        AND NOT EXISTS (SELECT FROM letters WHERE letters.provider = page.provider AND letters.seq <= page.seq)
), deleted AS (
    DELETE FROM provwatch.drift_alerts WHERE seq IN (SELECT prunable.seq FROM prunable) AND NOT @dry_run::boolean
    RETURNING seq
), noted AS (
    INSERT INTO provwatch.pruned (stream, seq)
    SELECT 'drift', max(deleted.seq) FROM deleted HAVING count(*) > 0
    ON CONFLICT (stream) DO UPDATE SET seq = greatest(pruned.seq, excluded.seq), pruned_at = now()
)
SELECT
    (SELECT count(*) FROM prunable WHERE @dry_run::boolean OR prunable.seq IN (SELECT deleted.seq FROM deleted))::bigint AS pruned,
    coalesce((SELECT max(prunable.seq) FROM prunable), 0)::bigint AS pruned_up_to,
    coalesce((SELECT old.seq FROM old), 0)::bigint AS read_up_to,
    ((SELECT old.seq FROM old) IS NULL OR (SELECT young.seq FROM young) IS NOT NULL OR (SELECT count(*) FROM page) < @max_rows::int)::boolean AS is_end;

-- name: PruneAuditEntries :one
-- PruneAlerts for audit entries, by when they were delivered: the role that stages an
-- entry chooses when it occurred. It keeps what a sink has not had, the last entry, and the rows
-- of dead letters. Rows above the counter are no entries.
WITH bounds AS (
    SELECT least(now(), @now::timestamptz) - make_interval(secs => @keep_seconds::float8) AS before,
        (SELECT max(l.seq) FROM provwatch.audit_log l WHERE l.seq <= (SELECT c.last_seq FROM provwatch.audit_counter c)) AS last,
        (SELECT min(c.seq) FROM provwatch.sink_cursors c WHERE c.stream = 'audit') AS had
), page AS (
    SELECT l.seq, l.id, l.delivered_at
    FROM provwatch.audit_log l
    WHERE l.seq > @after::bigint AND l.seq < (SELECT last FROM bounds) AND l.seq <= coalesce((SELECT had FROM bounds), (SELECT last FROM bounds))
    ORDER BY l.seq, l.id
    LIMIT @max_rows::int
), young AS (
    SELECT min(page.seq) AS seq FROM page CROSS JOIN bounds WHERE page.delivered_at BETWEEN bounds.before AND now()
), old AS (
    SELECT max(page.seq) AS seq
    FROM page CROSS JOIN bounds CROSS JOIN young
    WHERE page.delivered_at < bounds.before AND (young.seq IS NULL OR page.seq < young.seq)
), prunable AS (
    SELECT page.seq, page.id
    FROM page
    WHERE page.seq <= (SELECT old.seq FROM old)
        AND NOT EXISTS (SELECT FROM provwatch.sink_dead_letters d WHERE d.stream = 'audit' AND d.event_id = page.id)
), deleted AS (
    DELETE FROM provwatch.audit_log WHERE id IN (SELECT prunable.id FROM prunable) AND NOT @dry_run::boolean
    RETURNING seq, id
), noted AS (
    INSERT INTO provwatch.pruned (stream, seq)
    SELECT 'audit', max(deleted.seq) FROM deleted HAVING count(*) > 0
    ON CONFLICT (stream) DO UPDATE SET seq = greatest(pruned.seq, excluded.seq), pruned_at = now()
)
SELECT
    (SELECT count(*) FROM prunable WHERE @dry_run::boolean OR prunable.id IN (SELECT deleted.id FROM deleted))::bigint AS pruned,
    coalesce((SELECT max(prunable.seq) FROM prunable), 0)::bigint AS pruned_up_to,
    coalesce((SELECT old.seq FROM old), 0)::bigint AS read_up_to,
    ((SELECT old.seq FROM old) IS NULL OR (SELECT young.seq FROM young) IS NOT NULL OR (SELECT count(*) FROM page) < @max_rows::int)::boolean AS is_end;

-- name: listKeptAcceptances :many
-- A page of the acceptances, each beside what is recorded of its provider, and whether it
-- has lapsed for longer than what is kept, by both clocks.
SELECT a.provider, a.kind, a.env_hash, a.db_hash, a.expires_at, now()::timestamptz AS at, s.kind AS state_kind, s.env_hash AS state_env_hash, s.db_hash AS state_db_hash,
    (a.lapsed_at IS NOT NULL)::boolean AS lapsed,
    coalesce(a.lapsed_at < least(now(), @now::timestamptz) - make_interval(secs => @keep_seconds::float8), false)::boolean AS is_old
FROM provwatch.accepted_drift a
LEFT JOIN provwatch.drift_state s ON s.provider = a.provider
WHERE a.provider > @after::text
ORDER BY a.provider
LIMIT @max_rows;

-- name: markAcceptances :exec
-- Records which acceptances have lapsed, and which hold again, unless they were accepted
-- again since they were read.
UPDATE provwatch.accepted_drift a
SET lapsed_at = CASE WHEN marked.lapsed THEN now() END
FROM jsonb_to_recordset(@marked::jsonb) AS marked (provider text, kind text, env_hash text, db_hash text, expires_at timestamptz, lapsed boolean)
WHERE (a.provider, a.kind, a.env_hash, a.db_hash) = (marked.provider, marked.kind, marked.env_hash, marked.db_hash)
    AND a.expires_at IS NOT DISTINCT FROM marked.expires_at AND (a.lapsed_at IS NOT NULL) <> marked.lapsed;

-- name: pruneAcceptances :execrows
-- Deletes acceptances that are over, unless they were accepted again since they were read, or
-- hold again by what was recorded since.
DELETE FROM provwatch.accepted_drift a
USING jsonb_to_recordset(@over::jsonb) AS over (provider text, kind text, env_hash text, db_hash text, expires_at timestamptz)
WHERE (a.provider, a.kind, a.env_hash, a.db_hash) = (over.provider, over.kind, over.env_hash, over.db_hash)
    AND a.expires_at IS NOT DISTINCT FROM over.expires_at AND a.lapsed_at IS NOT NULL
    AND (a.expires_at <= now() OR NOT EXISTS (
        SELECT FROM provwatch.drift_state s
        WHERE s.provider = a.provider AND s.kind = 'in_sync' AND s.env_hash = a.env_hash AND s.db_hash = a.db_hash));

-- name: PruneSilences :one
-- Deletes a page of silences: those after an id that ended before what is kept, by both clocks.
WITH prunable AS (
    SELECT s.id
    FROM provwatch.silences s
    WHERE s.id > @after::bigint AND s.ends_at < least(now(), @now::timestamptz) - make_interval(secs => @keep_seconds::float8)
    ORDER BY s.id
    LIMIT @max_rows::int
), deleted AS (
    DELETE FROM provwatch.silences WHERE id IN (SELECT prunable.id FROM prunable) AND NOT @dry_run::boolean
    RETURNING id
)
SELECT
    (SELECT count(*) FROM prunable WHERE @dry_run::boolean OR prunable.id IN (SELECT deleted.id FROM deleted))::bigint AS pruned,
    coalesce((SELECT max(prunable.id) FROM prunable), 0)::bigint AS read_up_to,
    ((SELECT count(*) FROM prunable) < @max_rows::int)::boolean AS is_end;

-- name: ListPruningHolders :many
-- The sinks that keep old rows from being pruned: the first row that each has not had is
-- older than what is kept.
SELECT c.sink, c.stream, c.seq
FROM provwatch.sink_cursors c
WHERE CASE c.stream
    WHEN 'drift' THEN (
        SELECT a.detected_at FROM provwatch.drift_alerts a WHERE a.seq > c.seq ORDER BY a.seq LIMIT 1)
    ELSE (
        SELECT l.delivered_at FROM provwatch.audit_log l
        WHERE l.seq > c.seq AND l.seq <= (SELECT counter.last_seq FROM provwatch.audit_counter counter) ORDER BY l.seq LIMIT 1)
END < least(now(), @now::timestamptz) - make_interval(secs => @keep_seconds::float8)
ORDER BY c.sink, c.stream DESC;

-- name: ReadPruned :one
-- The seq of the last row of a stream that was pruned, 0 for none. A reader asks after it
-- has read the rows.
SELECT coalesce(max(seq), 0)::bigint AS seq FROM provwatch.pruned WHERE stream = @stream;
