-- name: RegisterSink :exec
-- Makes the cursor of a new sink, at the end of its stream or before the first event
-- that is left. An existing cursor stays unchanged. A cursor that has never moved has the
-- epoch as its time.
INSERT INTO provwatch.sink_cursors (sink, stream, moved_at, seq)
SELECT @sink::text, @stream::text, 'epoch', CASE
    WHEN @stream::text = 'drift' THEN least(
        (SELECT last_seq FROM provwatch.alert_counter),
        CASE WHEN @from_start::boolean THEN (SELECT min(seq) - 1 FROM provwatch.drift_alerts WHERE seq > 0) END)
    ELSE least(
        (SELECT last_seq FROM provwatch.audit_counter),
        CASE WHEN @from_start::boolean THEN (SELECT min(seq) - 1 FROM provwatch.audit_log WHERE seq > 0) END)
END
ON CONFLICT DO NOTHING;

-- name: ReadSinkCursor :one
SELECT seq, moved_at FROM provwatch.sink_cursors WHERE sink = @sink AND stream = @stream;

-- name: MoveSinkCursor :many
-- Moves the cursor and returns when, unless it was moved since the caller read or moved
-- it, at former_moved_at: another worker has delivered more, or a restore has ended the
-- sequence that the caller counts in.
UPDATE provwatch.sink_cursors SET seq = @seq, moved_at = clock_timestamp()
WHERE sink = @sink AND stream = @stream AND seq = @former_seq AND moved_at = @former_moved_at
RETURNING moved_at;

-- name: ReadAlertCounter :one
-- The seq of the last alert, whether or not its row is left.
SELECT last_seq FROM provwatch.alert_counter;

-- name: ReadAuditCounter :one
-- The seq of the last entry delivered, whether or not its row is left.
SELECT last_seq FROM provwatch.audit_counter;

-- name: ListAuditEntriesSince :many
-- Rows above the counter are not the deliverer's. Nothing keeps others from having
-- the seq of an entry, so that a seq alone is no place to go on from.
SELECT seq, id, occurred_at, actor, action, provider, provider_id, details
FROM provwatch.audit_log
WHERE (seq, id) > (@seq::bigint, @id::uuid) AND seq <= @last_seq::bigint
ORDER BY seq, id
LIMIT @max_entries;

-- name: listFiring :many
-- By seq, the last alert of each provider whose drift was alerted and is not over, or
-- is over by an alert above seq. Where that is above seq, also the provider's last one
-- up to seq, which is what a sink was sent. The same of each unmanaged row, by its id. And
-- those up to seq without a provider that are not older than a time: gaps, and rewinds that
-- are certain. Silenced alerts, which no sink gets, do not count.
WITH last AS (
    SELECT alert.provider, alert.seq
    FROM provwatch.drift_state s
    JOIN provwatch.drift_alerts alert
        ON alert.seq = (SELECT max(a.seq) FROM provwatch.drift_alerts a WHERE a.provider = s.provider AND NOT a.unmanaged AND NOT a.silenced)
    WHERE s.kind <> 'in_sync' AND alert.kind <> 'resolved' OR alert.kind = 'resolved' AND alert.seq > @seq::bigint
), last_of_row AS (
    SELECT alert.provider_id, alert.seq
    FROM (
        SELECT u.provider_id FROM provwatch.unmanaged_rows u WHERE u.kind = 'unmanaged'
        UNION
        SELECT a.provider_id FROM provwatch.drift_alerts a WHERE a.unmanaged AND a.seq > @seq AND NOT a.silenced
    ) AS drifting
    JOIN provwatch.drift_alerts alert
        ON alert.seq = (SELECT max(a.seq) FROM provwatch.drift_alerts a WHERE a.unmanaged AND a.provider_id = drifting.provider_id AND NOT a.silenced)
    WHERE alert.kind <> 'resolved' OR alert.seq > @seq
), sent AS (
    SELECT (SELECT max(a.seq) FROM provwatch.drift_alerts a WHERE a.provider = last.provider AND NOT a.unmanaged AND a.seq <= @seq AND NOT a.silenced) AS seq
    FROM last
    WHERE last.seq > @seq
    UNION ALL
    SELECT (SELECT max(a.seq) FROM provwatch.drift_alerts a WHERE a.unmanaged AND a.provider_id = last_of_row.provider_id AND a.seq <= @seq AND NOT a.silenced)
    FROM last_of_row
    WHERE last_of_row.seq > @seq
)
SELECT alert.seq, alert.id, alert.kind, alert.provider, alert.provider_id, alert.fields, alert.env_hash, alert.db_hash, alert.source,
    alert.detected_at, coalesce(alert.lsn::text, '')::text AS lsn, coalesce(alert.xid, 0)::bigint AS xid, alert.committed_at,
    alert.epoch, alert.reason, alert.certain, alert.moved, alert.how, coalesce(alert.resolves, 0)::bigint AS resolves, alert.silenced,
    coalesce(alert.repeats, 0)::bigint AS repeats, alert.renamed_to, alert.unmanaged
FROM (
    SELECT seq FROM last UNION ALL SELECT seq FROM last_of_row UNION ALL SELECT seq FROM sent
    UNION ALL
    SELECT a.seq FROM provwatch.drift_alerts a
    WHERE a.provider = '' AND a.seq <= @seq AND a.detected_at > @not_before::timestamptz AND (a.kind = 'gap' OR a.certain)
) AS told
JOIN provwatch.drift_alerts alert ON alert.seq = told.seq
ORDER BY alert.seq;

-- name: BuryEvent :execrows
-- Only while the cursor is where the caller has read or moved it: a former leader must not
-- declare dead what was delivered since.
INSERT INTO provwatch.sink_dead_letters (sink, stream, seq, event_id, provider, reason, attempts)
SELECT @sink::text, @stream::text, @seq::bigint, @event_id::uuid, @provider::text, @reason::text, @attempts::integer
WHERE EXISTS (SELECT FROM provwatch.sink_cursors c WHERE c.sink = @sink AND c.stream = @stream AND c.seq = @former_seq AND c.moved_at = @former_moved_at)
ON CONFLICT DO NOTHING;

-- name: NextSinkRetry :many
-- The first dead letter whose retry is requested, if there is one, and the transaction that
-- has written its row last.
SELECT seq, event_id, xmin::text::bigint AS writer FROM provwatch.sink_dead_letters WHERE sink = @sink AND stream = @stream AND retry ORDER BY seq, event_id LIMIT 1;

-- name: EndSinkRetry :exec
-- The dead letter stays, with another reason. A retry that was requested while this one was
-- under way stays requested: the transaction that has written the row last is another one.
UPDATE provwatch.sink_dead_letters SET retry = retry AND xmin::text::bigint <> @writer::bigint, attempts = attempts + 1, reason = @reason, at = now()
WHERE sink = @sink AND stream = @stream AND seq = @seq AND event_id = @event_id;

-- name: DropDeadLetter :exec
DELETE FROM provwatch.sink_dead_letters WHERE sink = @sink AND stream = @stream AND seq = @seq AND event_id = @event_id;

-- name: ListSinks :many
SELECT
    c.sink, c.stream, c.seq, c.moved_at,
    greatest((CASE c.stream
        WHEN 'drift' THEN (SELECT last_seq FROM provwatch.alert_counter)
        ELSE (SELECT last_seq FROM provwatch.audit_counter)
    END) - c.seq, 0)::bigint AS behind,
    (SELECT count(*) FROM provwatch.sink_dead_letters d WHERE d.sink = c.sink AND d.stream = c.stream) AS dead_letters
FROM provwatch.sink_cursors c
ORDER BY c.sink, c.stream DESC;

-- name: ListDeadLetters :many
SELECT sink, stream, seq, event_id, provider, reason, attempts, at, retry
FROM provwatch.sink_dead_letters
ORDER BY sink, stream DESC, seq
LIMIT @max_letters;

-- name: ListLatestDeadLetters :many
SELECT sink, stream, seq, event_id, provider, reason, attempts, at, retry
FROM provwatch.sink_dead_letters
ORDER BY at DESC, seq DESC, sink
LIMIT @max_letters;

-- name: RequestSinkRetries :execrows
UPDATE provwatch.sink_dead_letters SET retry = true
WHERE (@sink::text = '' OR sink = @sink::text) AND (@every::boolean OR seq = ANY(@seqs::bigint[])) AND (@stream::text = '' OR stream = @stream::text);

-- name: DescribeSystem :one
-- What tells this database from others.
SELECT current_database()::text AS database, (SELECT system_identifier FROM pg_catalog.pg_control_system())::bigint AS system_identifier;
