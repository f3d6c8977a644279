-- Which environments workers have had, the newest last, and which workers are there. So a worker
-- knows that its environment is older than that of another one (docs/rolling-updates.md).

-- +goose Up

-- A row for each environment that a worker has seeded from, compared with as the leader, or
-- applied. The digest is of the names and canonical hashes of its providers, with the key of
-- provwatch.hash_key. No credential goes into it.
CREATE TABLE provwatch.environments (
    digest      text PRIMARY KEY,
    -- An environment that becomes the newest again gets the next one.
    generation  bigint GENERATED ALWAYS AS IDENTITY UNIQUE,
    recorded_at timestamptz NOT NULL DEFAULT clock_timestamp()
);

-- A row for each run of a worker that does not observe, until a day after it was last seen.
CREATE TABLE provwatch.workers (
    worker  uuid PRIMARY KEY,
    digest  text NOT NULL, -- of its environment, which need not be recorded yet
    role    text NOT NULL DEFAULT session_user,
    seen_at timestamptz NOT NULL DEFAULT clock_timestamp()
);
