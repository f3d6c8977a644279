-- name: lookAtProviders :many
-- Everything that a comparison needs, for the providers named and for those
-- that the hinted ids belong to or were last seen under: all rows of each name,
-- what was last observed, an accepted drift, and what both sides last agreed on. The
-- newest generation of environments is of the same moment as the rows: a worker that applies
-- another environment to a row records that in the same transaction.
--
-- Of the row that was last observed also its name, where it is live, and whether it is enabled. Of
-- each row what is recorded of it as an unmanaged one; also of removed rows of the hinted ids.
WITH looked_at AS (
    SELECT unnest(@names::text[]) AS name, NULL::uuid AS gone
    UNION
    SELECT p.name, NULL FROM gateway.ai_providers p WHERE p.id = ANY(@ids::uuid[])
    UNION
    SELECT s.provider, NULL FROM provwatch.drift_state s WHERE s.provider_id = ANY(@ids::uuid[])
    UNION
    SELECT d.provider, NULL FROM provwatch.pending_drifts d WHERE d.provider_id = ANY(@ids::uuid[])
    UNION
    SELECT r.provider, r.provider_id FROM provwatch.pending_rows r
    WHERE r.provider_id = ANY(@ids::uuid[]) AND NOT EXISTS (SELECT FROM gateway.ai_providers p WHERE p.id = r.provider_id)
    UNION
    SELECT u.provider, u.provider_id FROM provwatch.unmanaged_rows u
    WHERE u.provider_id = ANY(@ids::uuid[]) AND NOT EXISTS (SELECT FROM gateway.ai_providers p WHERE p.id = u.provider_id)
        AND NOT EXISTS (SELECT FROM provwatch.pending_rows r WHERE r.provider_id = u.provider_id)
    UNION
    SELECT a.provider, a.provider_id FROM provwatch.accepted_rows a
    WHERE a.provider_id = ANY(@ids::uuid[]) AND NOT EXISTS (SELECT FROM gateway.ai_providers p WHERE p.id = a.provider_id)
        AND NOT EXISTS (SELECT FROM provwatch.unmanaged_rows u WHERE u.provider_id = a.provider_id)
        AND NOT EXISTS (SELECT FROM provwatch.pending_rows r WHERE r.provider_id = a.provider_id)
)
SELECT
    looked_at.name::text AS name, coalesce(looked_at.gone, '00000000-0000-0000-0000-000000000000')::uuid AS gone,
    p.id, p.type, p.base_url, p.enabled, p.deleted, p.settings, p.settings_key_id,
    coalesce(CASE WHEN isfinite(p.updated_at) THEN p.updated_at END, 'epoch')::timestamptz AS updated_at,
    s.kind AS state_kind, s.provider_id AS state_provider_id, s.env_hash AS state_env_hash,
    s.db_hash AS state_db_hash, s.credentials AS state_credentials,
    a.kind AS accepted_kind, a.env_hash AS accepted_env_hash, a.db_hash AS accepted_db_hash, a.expires_at AS accepted_expires_at, a.accepted_at,
    now()::timestamptz AS at,
    coalesce(n.reason, '')::text AS not_comparable, coalesce(s.alert_seq, 0)::bigint AS alert_seq,
    coalesce(s.silenced_seq = s.alert_seq, false)::boolean AS silenced,
    to_jsonb(b)::jsonb AS base, to_jsonb(d)::jsonb AS pending,
    coalesce(former.name, '')::text AS former_name, coalesce(former.enabled, false)::boolean AS former_enabled,
    u.provider AS row_provider, u.kind AS row_kind, u.db_hash AS row_db_hash, coalesce(u.alert_seq, 0)::bigint AS row_alert_seq,
    coalesce(u.silenced_seq = u.alert_seq, false)::boolean AS row_silenced, to_jsonb(r)::jsonb AS row_pending,
    ar.db_hash AS row_accepted_db_hash, ar.part_hash AS row_accepted_part_hash, ar.expires_at AS row_accepted_expires_at, ar.accepted_at AS row_accepted_at,
    -- A missing provider's row has lost its name. What is recorded of it by then shows that it is known.
    (coalesce(b.named, false) OR n.provider IS NOT NULL OR EXISTS (
        SELECT FROM provwatch.drift_state own
        WHERE own.provider_id = p.id AND own.kind <> 'missing'
            AND NOT EXISTS (SELECT FROM provwatch.pending_drifts lost WHERE lost.provider = own.provider AND lost.kind = 'missing')
    ) OR EXISTS (SELECT FROM provwatch.pending_drifts own WHERE own.provider_id = p.id AND own.kind <> 'missing'))::boolean AS named_before,
    EXISTS (SELECT FROM provwatch.unmanaged_baseline)::boolean AS started,
    (SELECT generation FROM provwatch.alert_counter) AS generation,
    (SELECT last_seq FROM provwatch.alert_counter) AS last_seq,
    coalesce((SELECT e.generation FROM provwatch.environments e ORDER BY e.generation DESC LIMIT 1), 0)::bigint AS newest_environment,
    -- In this statement, so that a row and its keys are of one moment.
    CASE WHEN @with_keys::boolean THEN ARRAY(
        SELECT k.id FROM gateway.ai_provider_keys k WHERE k.provider_id = p.id ORDER BY k.id) END::uuid[] AS api_key_row_ids,
    CASE WHEN @with_keys::boolean THEN ARRAY(
        SELECT k.api_key FROM gateway.ai_provider_keys k WHERE k.provider_id = p.id ORDER BY k.id) END::text[] AS api_keys,
    CASE WHEN @with_keys::boolean THEN ARRAY(
        SELECT coalesce(k.api_key_key_id, '') FROM gateway.ai_provider_keys k WHERE k.provider_id = p.id ORDER BY k.id) END::text[] AS api_key_key_ids
FROM looked_at
LEFT JOIN gateway.ai_providers p ON p.name = looked_at.name AND looked_at.gone IS NULL
LEFT JOIN provwatch.unmanaged_rows u ON u.provider_id = coalesce(looked_at.gone, p.id)
LEFT JOIN provwatch.accepted_rows ar ON ar.provider_id = coalesce(looked_at.gone, p.id)
LEFT JOIN provwatch.drift_state s ON s.provider = looked_at.name
LEFT JOIN provwatch.accepted_drift a ON a.provider = looked_at.name
LEFT JOIN provwatch.not_comparable n ON n.provider = looked_at.name
LEFT JOIN provwatch.base_pairs b ON b.provider = looked_at.name
LEFT JOIN provwatch.pending_drifts d ON d.provider = looked_at.name
LEFT JOIN provwatch.pending_rows r ON r.provider_id = coalesce(looked_at.gone, p.id)
LEFT JOIN gateway.ai_providers former ON former.id = s.provider_id AND NOT former.deleted;

-- name: listProviders :many
-- All rows of the names given, soft-deleted and disabled ones too.
SELECT id, name, type, base_url, enabled, deleted, settings, settings_key_id,
    coalesce(CASE WHEN isfinite(updated_at) THEN updated_at END, 'epoch')::timestamptz AS updated_at
FROM gateway.ai_providers
WHERE name = ANY(@names::text[]);

-- name: listProviderKeys :many
SELECT id, provider_id, api_key, api_key_key_id
FROM gateway.ai_provider_keys
WHERE provider_id = ANY(@provider_ids::uuid[])
ORDER BY id;

-- name: ListProviderTypes :many
-- The labels of the database's enum, which can be other than ours: the enum is the
-- type of the column, whatever it is called and wherever it is.
SELECT e.enumlabel::text AS label
FROM pg_catalog.pg_enum e
JOIN pg_catalog.pg_attribute a ON a.atttypid = e.enumtypid AND a.attname = 'type' AND NOT a.attisdropped
JOIN pg_catalog.pg_class c ON c.oid = a.attrelid AND c.relname = 'ai_providers'
JOIN pg_catalog.pg_namespace n ON n.oid = c.relnamespace AND n.nspname = 'gateway'
ORDER BY e.enumsortorder;

-- name: insertProviders :exec
-- Run by WriteProviders, as are all statements that write to the provider tables:
-- with a search path that others may write to. Functions and operators are
-- qualified, and types come from pg_catalog, which is first.
INSERT INTO gateway.ai_providers (id, type, name, base_url, settings, settings_key_id)
SELECT id, type::gateway.ai_provider_type, name, base_url, settings, settings_key_id
FROM pg_catalog.jsonb_to_recordset(@providers::jsonb)
    AS new (id uuid, type text, name text, base_url text, settings text, settings_key_id text);

-- name: insertProviderKeys :exec
INSERT INTO gateway.ai_provider_keys (id, provider_id, api_key, api_key_key_id)
SELECT id, provider_id, api_key, api_key_key_id
FROM pg_catalog.jsonb_to_recordset(@keys::jsonb) AS new (id uuid, provider_id uuid, api_key text, api_key_key_id text);

-- name: LockProviders :many
-- Locks all rows of the names until the end of the transaction, so that what is
-- read of them is what is written over.
SELECT id FROM gateway.ai_providers WHERE name = ANY(@names::text[]) ORDER BY name, id FOR UPDATE;

-- name: ShareProviders :many
-- Waits for the writers of the rows of the ids, and lets none write until the end of the transaction.
-- A gateway can go on inserting keys of such a row.
SELECT id FROM gateway.ai_providers WHERE id = ANY(@ids::uuid[]) ORDER BY id FOR SHARE;

-- name: DeleteProviderKeys :exec
DELETE FROM gateway.ai_provider_keys
WHERE provider_id OPERATOR(pg_catalog.=) @provider_id::uuid AND id OPERATOR(pg_catalog.=) ANY (@ids::uuid[]);
