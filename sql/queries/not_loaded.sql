-- name: recordNotLoaded :exec
-- Records which files of its environment a worker has not loaded as they are on disk.
INSERT INTO provwatch.not_loaded (worker, paths) VALUES (@worker::uuid, @paths::text[])
ON CONFLICT (worker) DO UPDATE SET paths = excluded.paths, seen_at = excluded.seen_at;

-- name: clearNotLoaded :exec
-- Records that a worker has loaded all of its files.
DELETE FROM provwatch.not_loaded WHERE worker = @worker::uuid;

-- name: forgetNotLoaded :exec
-- Forgets workers that were last seen more than a day ago.
DELETE FROM provwatch.not_loaded WHERE worker IN (
    SELECT n.worker FROM provwatch.not_loaded n WHERE n.seen_at < clock_timestamp() - interval '1 day' FOR UPDATE SKIP LOCKED
);

-- name: ListNotLoaded :many
-- The workers that were seen within the window, and have files that they have not loaded.
SELECT n.worker, n.paths, n.role, n.since, n.seen_at
FROM provwatch.not_loaded n
WHERE extract(epoch FROM now() - n.seen_at) * 1000 < @window_ms::bigint
ORDER BY n.since, n.worker
LIMIT @max_workers;
