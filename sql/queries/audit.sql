-- name: StageAuditEntries :batchexec
-- A provider id that is all zeros means none.
INSERT INTO provwatch.audit_outbox (id, occurred_at, actor, action, provider, provider_id, details)
SELECT
    unnest(@ids::uuid[]), unnest(@occurred_ats::timestamptz[]), unnest(@actors::text[]), unnest(@actions::text[]),
    unnest(@providers::text[]), nullif(unnest(@provider_ids::uuid[]), '00000000-0000-0000-0000-000000000000'::uuid),
    unnest(@details::text[])::jsonb;

-- name: LockDelivery :exec
-- Lets one worker at a time deliver, so that the order per provider holds.
SELECT pg_advisory_xact_lock(@lock_id::bigint);

-- name: ListStagedAuditEntries :many
SELECT seq, id, occurred_at, actor, action, provider, provider_id, details
FROM provwatch.audit_outbox
ORDER BY seq
LIMIT @max_entries;

-- name: LogAuditEntries :many
-- Writes entries to the log and returns those that were not in it yet.
INSERT INTO provwatch.audit_log (seq, id, occurred_at, actor, action, provider, provider_id, details)
SELECT seq, id, occurred_at, actor, action, provider, provider_id, details
FROM provwatch.audit_outbox
WHERE id = ANY(@ids::uuid[])
ORDER BY seq
ON CONFLICT (id) DO NOTHING
RETURNING id;

-- name: AcknowledgeAuditEntries :exec
DELETE FROM provwatch.audit_outbox WHERE id = ANY(@ids::uuid[]);

-- name: OutboxDepth :one
SELECT count(*) AS depth, coalesce(extract(epoch FROM now() - min(occurred_at)), 0)::float8 AS oldest_age_seconds
FROM provwatch.audit_outbox;
