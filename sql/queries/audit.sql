-- name: StageAuditEntries :copyfrom
-- By COPY, which writes the rows of a page at once, and while they still arrive.
INSERT INTO provwatch.audit_outbox (id, occurred_at, actor, action, provider, provider_id, details)
VALUES (@id, @occurred_at, @actor, @action, @provider, @provider_id, @details);

-- name: LockDelivery :one
-- Puts deliveries in turn until the end of the transaction. Not an advisory lock:
-- anyone could hold that.
SELECT last_seq FROM provwatch.audit_counter FOR UPDATE;

-- name: ListStagedAuditEntries :many
-- Details of more than max_details bytes are null: the log gets them all the same.
SELECT id, occurred_at, actor, action, provider, provider_id,
    (CASE WHEN octet_length(details::text) <= @max_details::int THEN details END)::jsonb AS details
FROM provwatch.audit_outbox
ORDER BY seq
LIMIT @max_entries;

-- name: DeliverAuditEntries :many
-- Moves entries from the outbox to the log, and returns the ids of the new ones. An
-- entry whose id the log already has leaves the outbox and changes nothing. The
-- transaction must hold the lock of LockDelivery.
WITH taken AS (
    DELETE FROM provwatch.audit_outbox WHERE id = ANY(@ids::uuid[])
    RETURNING seq, id, occurred_at, actor, action, provider, provider_id, details
), logged AS (
    INSERT INTO provwatch.audit_log (seq, id, occurred_at, actor, action, provider, provider_id, details)
    SELECT (SELECT last_seq FROM provwatch.audit_counter) + row_number() OVER (ORDER BY taken.seq),
        id, occurred_at, actor, action, provider, provider_id, details
    FROM taken
    WHERE NOT EXISTS (SELECT FROM provwatch.audit_log former WHERE former.id = taken.id)
    RETURNING id
), counted AS (
    UPDATE provwatch.audit_counter SET last_seq = last_seq + (SELECT count(*) FROM logged)
)
SELECT id FROM logged;

-- name: OutboxDepth :one
SELECT count(*) AS depth, coalesce(extract(epoch FROM now() - min(occurred_at)), 0)::float8 AS oldest_age_seconds
FROM provwatch.audit_outbox;
