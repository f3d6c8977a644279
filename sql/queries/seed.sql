-- name: LockSeed :exec
-- Puts seeds, and everything else that stages audit entries, in turn until the
-- end of the transaction.
SELECT pg_advisory_xact_lock(@lock_id::bigint);

-- name: BeginSeed :exec
-- LockSeed and then the gateway's own lock, and keeps our triggers silent of what the
-- transaction inserts.
SELECT pg_advisory_xact_lock(@lock_id::bigint), pg_advisory_xact_lock(@gateway_lock_id::bigint), set_config('provwatch.seeding', 'on', true);

-- name: listAcceptedDrifts :many
SELECT provider, kind, env_hash, db_hash, expires_at, now()::timestamptz AS at
FROM provwatch.accepted_drift
WHERE provider = ANY(@providers::text[]);

-- name: listBases :many
-- What both sides of the providers named last agreed on.
SELECT provider, to_jsonb(b)::jsonb AS base FROM provwatch.base_pairs b WHERE provider = ANY(@providers::text[]);

-- name: setBases :exec
-- Records what both sides agree on: with replaces in any case, and otherwise unless another
-- transaction has replaced it since. That can commit while this statement waits for its row.
INSERT INTO provwatch.base_pairs (provider, env_hash, env_type, env_base_url, env_bedrock_region, db_hash, db_type, db_base_url, db_bedrock_region, hash_key, origin, set_at, applied_lsn)
SELECT new.provider, new.env_hash, new.env_type, new.env_base_url, new.env_bedrock_region, new.db_hash, new.db_type, new.db_base_url, new.db_bedrock_region, new.hash_key, new.origin,
    coalesce(new.set_at, clock_timestamp()), CASE WHEN new.applied THEN pg_current_wal_insert_lsn() END
FROM jsonb_to_recordset(@bases::jsonb) AS new (provider text, env_hash text, env_type text, env_base_url text, env_bedrock_region text,
    db_hash text, db_type text, db_base_url text, db_bedrock_region text, hash_key text, origin text, set_at timestamptz, applied boolean)
LEFT JOIN provwatch.base_pairs former ON former.provider = new.provider
WHERE @replaces::boolean OR former.set_at IS NOT DISTINCT FROM new.set_at
ON CONFLICT (provider) DO UPDATE
SET env_hash = excluded.env_hash, env_type = excluded.env_type, env_base_url = excluded.env_base_url, env_bedrock_region = excluded.env_bedrock_region,
    db_hash = excluded.db_hash, db_type = excluded.db_type, db_base_url = excluded.db_base_url, db_bedrock_region = excluded.db_bedrock_region,
    hash_key = excluded.hash_key, origin = excluded.origin,
    named = true, set_at = clock_timestamp(), applied_lsn = coalesce(excluded.applied_lsn, base_pairs.applied_lsn)
WHERE @replaces::boolean OR base_pairs.set_at = excluded.set_at;

-- name: acceptDrift :exec
-- The time of an acceptance comes after that of each commit that changed the row before: the
-- caller has locked the row.
INSERT INTO provwatch.accepted_drift (provider, kind, env_hash, db_hash, accepted_by, accepted_at, reason, expires_at)
VALUES (@provider, @kind, @env_hash, @db_hash, @accepted_by, clock_timestamp(), @reason, @expires_at)
ON CONFLICT (provider) DO UPDATE
SET kind = excluded.kind, env_hash = excluded.env_hash, db_hash = excluded.db_hash,
    accepted_by = excluded.accepted_by, accepted_at = excluded.accepted_at, reason = excluded.reason, expires_at = excluded.expires_at, lapsed_at = NULL;

-- name: renewAcceptedDrift :exec
UPDATE provwatch.accepted_drift SET env_hash = @env_hash, db_hash = @db_hash, lapsed_at = NULL WHERE provider = @provider;

-- name: ReadSession :one
-- The role that the session logged in with, whatever role it has taken on since, and the
-- database's time.
SELECT session_user::text AS role, clock_timestamp()::timestamptz AS at;

-- name: WithdrawAcceptedDrift :exec
DELETE FROM provwatch.accepted_drift WHERE provider = @provider;

-- name: recordFirstObservations :exec
-- The starting state of providers never observed before: no alert comes of it.
INSERT INTO provwatch.drift_state (provider, provider_id, kind, env_hash, db_hash)
SELECT provider, provider_id, kind, env_hash, db_hash
FROM jsonb_to_recordset(@observations::jsonb) AS new (provider text, provider_id uuid, kind text, env_hash text, db_hash text)
ON CONFLICT (provider) DO NOTHING;

-- name: notify :exec
-- Sends one notification for each payload.
SELECT pg_notify(@channel::text, payload) FROM unnest(@payloads::text[]) AS payload;

-- name: NotificationQueueUsage :one
-- How full the server's queue of notifications is, from 0 to 1. Asking for it
-- also frees the part that every session has read. The server does that by itself
-- only when a notification goes out, so that a queue which is full stays full.
SELECT pg_notification_queue_usage()::float8;

-- name: RestoreSearchPath :exec
-- Puts the search path that the session began with after pg_catalog, until the end
-- of the transaction: see WriteProviders.
SELECT set_config('search_path', concat_ws(', ', 'pg_catalog', nullif(current_setting('provwatch.search_path'), ''), 'pg_temp'), true),
    set_config('row_security', 'on', true);

-- name: FixSearchPath :exec
-- Ends what RestoreSearchPath began.
SELECT pg_catalog.set_config('search_path', 'pg_catalog, pg_temp', true), pg_catalog.set_config('row_security', 'off', true);
