-- Which files of their environments workers have not loaded as they are on disk. "worker status"
-- shows it.

-- +goose Up

-- A row for each run of a worker, observing or not, while there are such files.
CREATE TABLE provwatch.not_loaded (
    worker  uuid PRIMARY KEY,
    paths   text[] NOT NULL, -- as they may be shown
    role    text NOT NULL DEFAULT session_user,
    since   timestamptz NOT NULL DEFAULT clock_timestamp(), -- when the worker first recorded some
    seen_at timestamptz NOT NULL DEFAULT clock_timestamp()
);
