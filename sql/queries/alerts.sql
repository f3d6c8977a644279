-- name: LockAlerts :one
-- Reads the last seq and puts all writers of alerts in turn until the end of
-- the transaction.
SELECT last_seq FROM provwatch.alert_counter FOR UPDATE;

-- name: AdvanceAlertCounter :exec
UPDATE provwatch.alert_counter SET last_seq = @last_seq;

-- name: InsertAlerts :batchexec
INSERT INTO provwatch.drift_alerts
    (seq, id, kind, provider, provider_id, fields, env_hash, db_hash, source, detected_at, lsn, xid, committed_at)
SELECT
    unnest(@seqs::bigint[]), unnest(@ids::uuid[]), unnest(@kinds::text[]), unnest(@providers::text[]),
    nullif(unnest(@provider_ids::uuid[]), '00000000-0000-0000-0000-000000000000'::uuid),
    unnest(@fields::text[])::jsonb, unnest(@env_hashes::text[]), unnest(@db_hashes::text[]),
    unnest(@sources::text[]), unnest(@detected_ats::timestamptz[]),
    -- An empty lsn means that the alert is not from the WAL.
    nullif(unnest(@lsns::text[]), '')::pg_lsn, nullif(unnest(@xids::bigint[]), 0),
    nullif(unnest(@committed_ats::timestamptz[]), 'epoch');

-- name: RecordObservations :batchexec
INSERT INTO provwatch.drift_state (provider, provider_id, kind, env_hash, db_hash, credentials)
SELECT
    unnest(@providers::text[]),
    nullif(unnest(@provider_ids::uuid[]), '00000000-0000-0000-0000-000000000000'::uuid),
    unnest(@kinds::text[]), unnest(@env_hashes::text[]), unnest(@db_hashes::text[]), unnest(@credentials::text[])
ON CONFLICT (provider) DO UPDATE
SET provider_id = excluded.provider_id, kind = excluded.kind, env_hash = excluded.env_hash,
    db_hash = excluded.db_hash, credentials = excluded.credentials, observed_at = now();

-- name: ListUnnamedStates :many
-- What was observed of providers that the environment no longer names.
SELECT provider, provider_id, kind, env_hash, db_hash
FROM provwatch.drift_state
WHERE NOT EXISTS (SELECT FROM unnest(@named::text[]) AS named WHERE named = provider)
ORDER BY provider;

-- name: ForgetObservations :exec
DELETE FROM provwatch.drift_state WHERE provider = ANY(@providers::text[]);

-- name: LastAlertSeq :one
SELECT coalesce(max(seq), 0)::bigint AS seq FROM provwatch.drift_alerts;

-- name: ListAlertsSince :many
SELECT seq, id, kind, provider, provider_id, fields, env_hash, db_hash, source, detected_at,
    coalesce(lsn::text, '')::text AS lsn, coalesce(xid, 0)::bigint AS xid, committed_at
FROM provwatch.drift_alerts
WHERE seq > @seq
ORDER BY seq
LIMIT @max_alerts;

-- name: ListStates :many
-- What was last recorded of the providers named, and what was accepted.
SELECT
    named::text AS name,
    s.kind AS state_kind, s.provider_id AS state_provider_id, s.env_hash AS state_env_hash,
    s.db_hash AS state_db_hash, s.credentials AS state_credentials,
    a.kind AS accepted_kind, a.env_hash AS accepted_env_hash, a.db_hash AS accepted_db_hash
FROM unnest(@names::text[]) AS named
LEFT JOIN provwatch.drift_state s ON s.provider = named
LEFT JOIN provwatch.accepted_drift a ON a.provider = named;
