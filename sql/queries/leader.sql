-- name: StandBy :one
-- A turn of a standby, see the migration of provwatch.stand_by.
SELECT s.term::bigint AS term, s.ended::boolean AS ended, coalesce(s.leader, 0)::int AS leader, coalesce(s.beat, -1)::bigint AS beat,
    -- As of the turn's begin.
    c.epoch, c.last_seq, c.verified_at
FROM provwatch.stand_by(@patience::int) AS s CROSS JOIN provwatch.alert_counter AS c;

-- name: SeeLeader :one
-- What a turn of a standby sees, for a worker that does not wait for the lock, nor takes it.
SELECT c.term, coalesce(held.pid, 0)::int AS leader, coalesce(held.beat, -1)::bigint AS beat, c.epoch, c.last_seq, c.verified_at
FROM provwatch.alert_counter c
LEFT JOIN LATERAL (
    -- As in provwatch.stand_by: only a session whose role can lead has signs of life.
    SELECT l.pid, b.objid::bigint AS beat
    FROM pg_catalog.pg_locks l
    LEFT JOIN pg_catalog.pg_stat_activity a ON a.pid = l.pid AND has_function_privilege(a.usesysid, 'provwatch.stand_by(integer)', 'EXECUTE')
    LEFT JOIN pg_catalog.pg_locks b ON b.pid = a.pid AND b.locktype = 'advisory' AND b.granted
        AND b.database = l.database AND b.objsubid = 2 AND b.classid = 1886872180
    WHERE l.locktype = 'advisory' AND l.granted AND l.objsubid = 2 AND l.classid = 1886874724
        AND l.database = (SELECT oid FROM pg_catalog.pg_database WHERE datname = current_database())
        AND l.objid::bigint = c.term % 2147483648
    ORDER BY b.objid
    LIMIT 1
) AS held ON true;

-- name: BeginTerm :many
-- Begins the term after the one given, unless another session has: it then returns no
-- row. With waited, the session has the lock of the former term, which is released. What
-- was looked at before can no longer be recorded. That the row was not written by a worker
-- last stays to be seen.
--
-- The lock is taken before others can see the term. Somebody else can have taken it on
-- purpose: others then do not see this leader, and replace it after a while.
WITH begun AS (
    UPDATE provwatch.alert_counter SET term = term + 1, generation = generation + 1,
        writer = CASE WHEN (writer IS NULL OR xmin::text::bigint = mod(writer::text::bigint, 4294967296)) THEN pg_current_xact_id() ELSE '0'::xid8 END
    WHERE term = @former
    RETURNING term
)
SELECT begun.term, pg_backend_pid() AS pid,
    pg_try_advisory_lock(1886874724, (begun.term % 2147483648)::int) AS locked,
    (CASE WHEN @waited::boolean THEN pg_advisory_unlock(1886874724, ((begun.term - 1) % 2147483648)::int) ELSE false END)::boolean AS released
FROM begun;

-- name: ReleaseTerm :exec
-- Releases the lock of a term that another session has followed.
SELECT pg_advisory_unlock(1886874724, mod(@former::bigint, 2147483648)::int);

-- name: StepDown :exec
-- Releases the lock of the session's term, and takes its sign of life back. A number below 0
-- is that of no sign.
SELECT pg_advisory_unlock(1886874724, mod(@term::bigint, 2147483648)::int),
    (CASE WHEN @shown::int >= 0 THEN pg_advisory_unlock_shared(1886872180, @shown::int) ELSE false END)::boolean AS released;

-- name: Beat :one
-- Replaces the leader's sign of life, and returns the current term, the end of the sequence
-- of alerts, and whether a worker has written the counter's row last.
-- Another session may hold the lock on purpose: there is no sign of life then, and the
-- next one has another number.
SELECT c.term, c.epoch, c.last_seq,
    (c.writer IS NULL OR c.xmin::text::bigint = mod(c.writer::text::bigint, 4294967296))::boolean AS intact,
    pg_try_advisory_lock_shared(1886872180, @next::int) AS beats,
    (CASE WHEN @previous::int >= 0 THEN pg_advisory_unlock_shared(1886872180, @previous::int) ELSE false END)::boolean AS released
FROM provwatch.alert_counter c;

-- name: IsContended :one
-- Whether a session that can lead waits for the lock of the term.
SELECT EXISTS (
    SELECT FROM pg_catalog.pg_locks l
    JOIN pg_catalog.pg_stat_activity a ON a.pid = l.pid
    WHERE l.locktype = 'advisory' AND NOT l.granted AND l.objsubid = 2 AND l.classid = 1886874724
        AND l.database = (SELECT oid FROM pg_catalog.pg_database WHERE datname = current_database())
        AND l.objid::bigint = mod(@term::bigint, 2147483648)
        AND has_function_privilege(a.usesysid, 'provwatch.stand_by(integer)', 'EXECUTE')
);

-- name: CurrentTerm :one
SELECT term FROM provwatch.alert_counter;
