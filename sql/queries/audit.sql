-- name: StageAuditEntries :copyfrom
-- By COPY, which writes the rows of a page at once, and while they still arrive.
INSERT INTO provwatch.audit_outbox (id, occurred_at, actor, action, provider, provider_id, details)
VALUES (@id, @occurred_at, @actor, @action, @provider, @provider_id, @details);

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
