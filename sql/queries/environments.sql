-- name: seeEnvironments :one
-- Where the environment of a digest stands: the newest generation that is recorded, its own,
-- and the worker with a newer environment that was seen last, if there is one. That
-- worker is there when it was seen within the window. A time further ahead than the window is
-- from before the server's clock was set back.
SELECT
    coalesce((SELECT e.generation FROM provwatch.environments e ORDER BY e.generation DESC LIMIT 1), 0)::bigint AS newest,
    coalesce(own.generation, 0)::bigint AS own,
    coalesce(newer.worker, '00000000-0000-0000-0000-000000000000')::uuid AS worker, coalesce(newer.role, '')::text AS role, coalesce(newer.generation, 0)::bigint AS generation,
    coalesce(newer.recorded_at, 'epoch')::timestamptz AS recorded_at, coalesce(newer.seen_at, 'epoch')::timestamptz AS seen_at,
    coalesce(newer.is_there, false)::boolean AS is_there,
    clock.at::timestamptz AS at
FROM (SELECT clock_timestamp() AS at) AS clock
LEFT JOIN provwatch.environments own ON own.digest = @digest::text
LEFT JOIN LATERAL (
    SELECT w.worker, w.role, w.seen_at, e.generation, e.recorded_at,
        abs(extract(epoch FROM clock.at - w.seen_at)) * 1000 < @window_ms::bigint AS is_there
    FROM provwatch.workers w
    JOIN provwatch.environments e ON e.digest = w.digest
    WHERE e.generation > own.generation
    ORDER BY is_there DESC, w.seen_at DESC
    LIMIT 1
) AS newer ON true;

-- name: attendEnvironments :one
-- Records that a worker is there with the environment of a digest, and returns what
-- seeEnvironments does. With takes, it gives the environment the next generation, unless it has
-- the newest. An environment that is older than that of a worker which is there gets none,
-- unless forced.
--
-- Where a generation is given, workers are notified. Where the WAL is decoded, a message in it
-- marks the transaction: a worker that reads the WAL can get a transaction before its queries
-- see it.
WITH clock AS MATERIALIZED (
    SELECT clock_timestamp() AS at
), newest AS (
    SELECT e.generation FROM provwatch.environments e ORDER BY e.generation DESC LIMIT 1
), own AS (
    SELECT e.generation FROM provwatch.environments e WHERE e.digest = @digest::text
), newer AS (
    SELECT w.worker, w.role, w.seen_at, e.generation, e.recorded_at,
        abs(extract(epoch FROM clock.at - w.seen_at)) * 1000 < @window_ms::bigint AS is_there
    FROM provwatch.workers w
    JOIN provwatch.environments e ON e.digest = w.digest
    CROSS JOIN clock
    WHERE e.generation > (SELECT own.generation FROM own)
        AND w.worker <> @worker::uuid -- whose environment may have been another one until now
    ORDER BY is_there DESC, w.seen_at DESC
    LIMIT 1
), announced AS (
    INSERT INTO provwatch.workers (worker, digest) VALUES (@worker::uuid, @digest::text)
    ON CONFLICT (worker) DO UPDATE SET digest = excluded.digest, seen_at = excluded.seen_at
), taken AS (
    INSERT INTO provwatch.environments (digest)
    SELECT @digest::text
    WHERE @takes::boolean
        AND coalesce((SELECT newest.generation FROM newest), 0) <> coalesce((SELECT own.generation FROM own), -1)
        AND (@forced::boolean OR NOT EXISTS (SELECT FROM newer WHERE newer.is_there))
    ON CONFLICT (digest) DO UPDATE SET generation = DEFAULT, recorded_at = excluded.recorded_at
    RETURNING generation, (pg_notify('provwatch_environments', '') IS NULL) AS notified,
        CASE WHEN current_setting('wal_level') = 'logical' THEN pg_logical_emit_message(true, 'provwatch', 'environment') END AS message
)
SELECT
    coalesce(taken.generation, newest.generation, 0)::bigint AS newest,
    coalesce(taken.generation, own.generation, 0)::bigint AS own,
    coalesce(newer.worker, '00000000-0000-0000-0000-000000000000')::uuid AS worker, coalesce(newer.role, '')::text AS role,
    coalesce(newer.generation, 0)::bigint AS generation,
    coalesce(newer.recorded_at, 'epoch')::timestamptz AS recorded_at, coalesce(newer.seen_at, 'epoch')::timestamptz AS seen_at,
    coalesce(newer.is_there, false)::boolean AS is_there,
    clock.at::timestamptz AS at
FROM clock
LEFT JOIN newest ON true
LEFT JOIN own ON true
LEFT JOIN taken ON true
LEFT JOIN newer ON taken.generation IS NULL;

-- name: forgetWorkers :exec
-- Forgets workers that were last seen more than a day ago.
DELETE FROM provwatch.workers WHERE worker IN (
    SELECT w.worker FROM provwatch.workers w WHERE w.seen_at < clock_timestamp() - interval '1 day' FOR UPDATE SKIP LOCKED
);

-- name: ListWorkerEnvironments :many
-- The workers that were seen within the window and do not observe, those with the newest
-- environment first. The environment of a standby need not be recorded.
SELECT w.worker, w.role, coalesce(e.generation, 0)::bigint AS generation, coalesce(e.recorded_at, 'epoch')::timestamptz AS recorded_at, w.seen_at
FROM provwatch.workers w
LEFT JOIN provwatch.environments e ON e.digest = w.digest
WHERE extract(epoch FROM now() - w.seen_at) * 1000 < @window_ms::bigint
ORDER BY generation DESC, w.seen_at DESC, w.worker
LIMIT @max_workers;
