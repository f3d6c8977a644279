-- name: InsertSilences :many
-- Silences the alerts of providers between two times.
INSERT INTO provwatch.silences (provider, author, reason, begins_at, ends_at)
SELECT named, @author::text, @reason::text, @begins_at::timestamptz, @ends_at::timestamptz
FROM unnest(@providers::text[]) AS named
RETURNING id, provider, author, reason, begins_at, ends_at, ended_by;

-- name: LockSilence :many
-- A silence, which is locked until the end of the transaction, and the database's time: no
-- row without such a silence.
SELECT id, provider, author, reason, begins_at, ends_at, ended_by, clock_timestamp()::timestamptz AS at
FROM provwatch.silences
WHERE id = @id
FOR UPDATE;

-- name: EndSilence :exec
UPDATE provwatch.silences SET ends_at = @ends_at, ended_by = @ended_by WHERE id = @id;

-- name: ListSilences :many
-- The silences that last, the first to end first, and with ended also the ended ones, the
-- last one first.
SELECT id, provider, author, reason, begins_at, ends_at, ended_by, (ends_at > now())::boolean AS active
FROM provwatch.silences
WHERE @ended::boolean OR ends_at > now()
ORDER BY ends_at > now() DESC, abs(extract(epoch FROM ends_at - now())), id
LIMIT @max_silences;

-- name: ListActiveSilences :many
-- Of each provider whose alerts are silenced now, and of * for all, for how many seconds more.
SELECT provider, extract(epoch FROM max(ends_at) - statement_timestamp())::float8 AS seconds
FROM provwatch.silences
WHERE begins_at <= statement_timestamp() AND ends_at > statement_timestamp()
GROUP BY provider;

-- name: CountSilencedDrifts :one
-- How many drifts last whose latest alert is silenced, and of how many of them no silence
-- matches the provider any more: the condition is that of listOutlived.
SELECT
    count(*)::bigint AS silenced,
    count(*) FILTER (WHERE NOT EXISTS (
        SELECT FROM provwatch.silences x
        WHERE x.provider IN (s.provider, '*') AND x.begins_at <= statement_timestamp() AND x.ends_at > statement_timestamp()))::bigint AS outlived
FROM (
    SELECT state.provider, state.alert_seq FROM provwatch.drift_state state WHERE state.kind <> 'in_sync'
    UNION ALL
    SELECT u.provider, u.alert_seq FROM provwatch.unmanaged_rows u WHERE u.kind = 'unmanaged'
) AS s
JOIN provwatch.drift_alerts a ON a.seq = s.alert_seq
WHERE a.silenced;

-- name: listOutlived :many
-- The drifts that last, whose latest alert is silenced, and whose provider no silence matches
-- any more, in the order of these alerts. An unmanaged row has the name that it had when it was
-- alerted.
SELECT s.provider, s.provider_id, s.kind, s.env_hash, s.db_hash, s.credentials, a.seq AS alert_seq,
    coalesce(s.silenced_seq = s.alert_seq, false)::boolean AS silenced, a.fields, a.moved, a.renamed_to, a.unmanaged,
    (SELECT generation FROM provwatch.alert_counter) AS generation,
    (SELECT last_seq FROM provwatch.alert_counter) AS last_seq,
    coalesce((SELECT e.generation FROM provwatch.environments e ORDER BY e.generation DESC LIMIT 1), 0)::bigint AS newest_environment
FROM (
    SELECT state.provider, state.provider_id, state.kind, state.env_hash, state.db_hash, state.credentials, state.alert_seq, state.silenced_seq
    FROM provwatch.drift_state state
    WHERE state.kind <> 'in_sync'
    UNION ALL
    SELECT u.provider, u.provider_id, u.kind, '', u.db_hash, '', u.alert_seq, u.silenced_seq FROM provwatch.unmanaged_rows u WHERE u.kind = 'unmanaged'
) AS s
JOIN provwatch.drift_alerts a ON a.seq = s.alert_seq
WHERE a.silenced AND NOT EXISTS (
    SELECT FROM provwatch.silences x
    WHERE x.provider IN (s.provider, '*') AND x.begins_at <= statement_timestamp() AND x.ends_at > statement_timestamp())
ORDER BY a.seq
LIMIT @max_drifts;
