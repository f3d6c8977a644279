-- name: NoteVerified :exec
-- Notes that everything has been verified, unless there is a later term: what others
-- see of it is what the leader says.
UPDATE provwatch.alert_counter SET verified_at = now(), writer = CASE WHEN (writer IS NULL OR xmin::text::bigint = mod(writer::text::bigint, 4294967296)) THEN pg_current_xact_id() ELSE '0'::xid8 END
WHERE term = @term;

-- name: LockAlerts :one
-- Reads the last seq and puts all writers of alerts in turn until the end of
-- the transaction, which the server ends when a worker freezes in it.
SELECT last_seq, generation, epoch, clock_timestamp()::timestamptz AS at, set_config('idle_in_transaction_session_timeout', '15s', true)::text AS idle_timeout
FROM provwatch.alert_counter FOR UPDATE;

-- name: ReadCounter :one
-- The counter's row, what it says of where it was written, and where that is. It is intact
-- when the transaction that it notes has written it last: other than after a restore from
-- a dump.
SELECT term, generation, last_seq, epoch, former_epochs::uuid[] AS former_epochs,
    (writer IS NULL OR xmin::text::bigint = mod(writer::text::bigint, 4294967296))::boolean AS intact, (writer IS NOT NULL)::boolean AS is_noted,
    coalesce(system_identifier, 0)::bigint AS system_identifier, coalesce(timeline, 0)::int AS timeline, coalesce(table_oid::bigint, 0)::bigint AS table_oid,
    'provwatch.alert_counter'::regclass::oid::bigint AS oid_here,
    coalesce((SELECT max(a.seq) FROM provwatch.drift_alerts a), 0)::bigint AS last_row,
    coalesce((SELECT max(s.seq) FROM provwatch.sink_cursors s WHERE s.stream = 'drift'), 0)::bigint AS last_cursor
FROM provwatch.alert_counter;

-- name: NoteCounter :execrows
-- Notes where the counter's row is written, as far as that was not noted yet.
UPDATE provwatch.alert_counter SET writer = pg_current_xact_id(), timeline = coalesce(nullif(@timeline::int, 0), timeline), table_oid = (@table_oid::bigint)::oid,
    system_identifier = coalesce(nullif(@system_identifier::bigint, 0), system_identifier)
WHERE term = @term AND generation = @generation AND (writer IS NULL OR xmin::text::bigint = mod(writer::text::bigint, 4294967296));

-- name: Rewind :many
-- Begins an epoch: writes the alert that says so and notifies, notes where the counter's
-- row is written from now on, and sets back the cursors of sinks that are ahead. It marks
-- all cursors as moved, so that no worker that counts in the former epoch moves one. When
-- the generation or the term is another by now it does nothing, and returns no row.
WITH counted AS (
    UPDATE provwatch.alert_counter SET last_seq = @seq, generation = alert_counter.generation + 1, epoch = @epoch, writer = pg_current_xact_id(),
        former_epochs = former_epochs || alert_counter.epoch,
        timeline = nullif(@timeline::int, 0), table_oid = (@table_oid::bigint)::oid, system_identifier = nullif(@system_identifier::bigint, 0)
    WHERE term = @term AND alert_counter.generation = @generation
    RETURNING alert_counter.generation, alert_counter.last_seq, alert_counter.epoch
), alerted AS (
    INSERT INTO provwatch.drift_alerts (seq, id, kind, provider, fields, env_hash, db_hash, source, detected_at, epoch, reason, certain)
    SELECT counted.last_seq, @id, 'rewound', '', '[]', '', '', @source, @detected_at, counted.epoch, @reason, @certain::boolean FROM counted
), set_back AS (
    UPDATE provwatch.sink_cursors SET seq = least(sink_cursors.seq, counted.last_seq - 1), moved_at = clock_timestamp()
    FROM counted
    WHERE sink_cursors.stream = 'drift'
), forgotten AS (
    UPDATE provwatch.base_pairs SET applied_lsn = NULL FROM counted WHERE base_pairs.applied_lsn IS NOT NULL
)
SELECT counted.generation, (pg_notify('ai_provider_drift', @payload::text) IS NULL)::boolean AS notified FROM counted;

-- name: ReadEpoch :one
-- The epoch of the sequence of alerts.
SELECT epoch FROM provwatch.alert_counter;

-- name: LatestGaps :many
-- When the latest gap was found, and the latest rewind that is certain.
SELECT kind, max(detected_at)::timestamptz AS detected_at
FROM provwatch.drift_alerts
WHERE provider = '' AND (kind = 'gap' OR kind = 'rewound' AND certain)
GROUP BY kind;

-- name: record :many
-- Writes states, pending drifts and alerts, withdraws accepted drifts, and notifies: all of it
-- or nothing. It writes nothing, and returns no row, when the generation, the term, the epoch or
-- the newest generation of environments is another by now. The same holds when the counter's row
-- was not written by a worker last. A newest generation of environments below 0 is not compared. It returns
-- the seqs of the alerts that are silenced.
-- One statement, so that it is one round trip. Each statement that writes the counter's
-- row notes its transaction there, and must not be in a subtransaction, which has an id of
-- its own.
WITH claimed AS (
    UPDATE provwatch.alert_counter SET last_seq = last_seq + jsonb_array_length(@alerts::jsonb), generation = generation + 1,
        writer = pg_current_xact_id()
    WHERE alert_counter.generation = @generation AND term = @term AND alert_counter.epoch = @epoch
        AND (writer IS NULL OR xmin::text::bigint = mod(writer::text::bigint, 4294967296))
        AND (@newest_environment::bigint < 0 OR @newest_environment::bigint = coalesce((SELECT e.generation FROM provwatch.environments e ORDER BY e.generation DESC LIMIT 1), 0))
    RETURNING alert_counter.generation, alert_counter.epoch
), silencing AS (
    -- The providers whose alerts are silenced now, * for all.
    SELECT s.provider
    FROM provwatch.silences s
    WHERE s.begins_at <= statement_timestamp() AND s.ends_at > statement_timestamp()
), withdrawn AS (
    -- What was seen to hold no longer, unless it was accepted anew since.
    DELETE FROM provwatch.accepted_drift a
    USING jsonb_to_recordset(@withdrawn::jsonb) AS stale (provider text, kind text, env_hash text, db_hash text, expires_at timestamptz, accepted_at timestamptz)
    WHERE (a.provider, a.kind, a.env_hash, a.db_hash, a.accepted_at) = (stale.provider, stale.kind, stale.env_hash, stale.db_hash, stale.accepted_at)
        AND a.expires_at IS NOT DISTINCT FROM stale.expires_at
        AND EXISTS (SELECT FROM claimed)
), recorded AS (
    -- Where silenced is null, the silences that last decide, here and below.
    INSERT INTO provwatch.drift_state (provider, provider_id, kind, env_hash, db_hash, credentials, alert_seq, silenced_seq)
    SELECT provider, provider_id, kind, env_hash, db_hash, credentials, alert_seq,
        CASE WHEN coalesce(silenced, provider IN (SELECT silencing.provider FROM silencing) OR '*' IN (SELECT silencing.provider FROM silencing))
            THEN alert_seq END
    FROM jsonb_to_recordset(@states::jsonb) AS states
        (provider text, provider_id uuid, kind text, env_hash text, db_hash text, credentials text, alert_seq bigint, silenced boolean)
    WHERE EXISTS (SELECT FROM claimed)
    ON CONFLICT (provider) DO UPDATE
    SET provider_id = excluded.provider_id, kind = excluded.kind, env_hash = excluded.env_hash,
        db_hash = excluded.db_hash, credentials = excluded.credentials, alert_seq = excluded.alert_seq, silenced_seq = excluded.silenced_seq,
        -- A drift that is alerted again is as it was.
        observed_at = CASE WHEN excluded.provider IN (
            SELECT repeated.provider FROM jsonb_to_recordset(@alerts::jsonb) AS repeated (provider text, repeats bigint, unmanaged boolean)
            WHERE repeated.repeats IS NOT NULL AND NOT repeated.unmanaged
        ) THEN drift_state.observed_at ELSE now() END
), forgotten AS (
    DELETE FROM provwatch.drift_state
    WHERE provider = ANY(@forgotten::text[]) AND EXISTS (SELECT FROM claimed)
), based AS (
    -- What both sides agreed on, unless another transaction has replaced it since. That can commit
    -- while this statement waits for its row.
    INSERT INTO provwatch.base_pairs (provider, env_hash, env_type, env_base_url, env_bedrock_region, db_hash, db_type, db_base_url, db_bedrock_region, hash_key, origin, set_at)
    SELECT new.provider, new.env_hash, new.env_type, new.env_base_url, new.env_bedrock_region, new.db_hash, new.db_type, new.db_base_url, new.db_bedrock_region, new.hash_key, new.origin,
        coalesce(new.set_at, clock_timestamp())
    FROM jsonb_to_recordset(@bases::jsonb) AS new (provider text, env_hash text, env_type text, env_base_url text, env_bedrock_region text,
        db_hash text, db_type text, db_base_url text, db_bedrock_region text, hash_key text, origin text, set_at timestamptz)
    LEFT JOIN provwatch.base_pairs former ON former.provider = new.provider
    WHERE former.set_at IS NOT DISTINCT FROM new.set_at
        AND EXISTS (SELECT FROM claimed)
    ON CONFLICT (provider) DO UPDATE
    SET env_hash = excluded.env_hash, env_type = excluded.env_type, env_base_url = excluded.env_base_url, env_bedrock_region = excluded.env_bedrock_region,
        db_hash = excluded.db_hash, db_type = excluded.db_type, db_base_url = excluded.db_base_url, db_bedrock_region = excluded.db_bedrock_region,
        hash_key = excluded.hash_key, origin = excluded.origin,
        named = true, set_at = clock_timestamp()
    WHERE base_pairs.set_at = excluded.set_at
), unnamed AS (
    UPDATE provwatch.base_pairs SET named = false
    WHERE provider = ANY(@forgotten::text[]) AND named AND EXISTS (SELECT FROM claimed)
), rows_recorded AS (
    INSERT INTO provwatch.unmanaged_rows (provider_id, provider, kind, db_hash, alert_seq, silenced_seq)
    SELECT provider_id, provider, kind, db_hash, alert_seq,
        CASE WHEN coalesce(silenced, provider IN (SELECT silencing.provider FROM silencing) OR '*' IN (SELECT silencing.provider FROM silencing))
            THEN alert_seq END
    FROM jsonb_to_recordset(@rows::jsonb) AS rows (provider_id uuid, provider text, kind text, db_hash text, alert_seq bigint, silenced boolean)
    WHERE EXISTS (SELECT FROM claimed)
    ON CONFLICT (provider_id) DO UPDATE
    SET provider = excluded.provider, kind = excluded.kind, db_hash = excluded.db_hash, alert_seq = excluded.alert_seq, silenced_seq = excluded.silenced_seq,
        observed_at = CASE WHEN excluded.provider_id IN (
            SELECT repeated.provider_id FROM jsonb_to_recordset(@alerts::jsonb) AS repeated (provider_id uuid, repeats bigint, unmanaged boolean)
            WHERE repeated.repeats IS NOT NULL AND repeated.unmanaged
        ) THEN unmanaged_rows.observed_at ELSE now() END
), rows_named_before AS (
    INSERT INTO provwatch.unmanaged_rows (provider_id, provider, kind)
    SELECT provider_id, provider, 'known'
    FROM jsonb_to_recordset(@named_before::jsonb) AS rows (provider_id uuid, provider text)
    WHERE EXISTS (SELECT FROM claimed)
    ON CONFLICT (provider_id) DO NOTHING
), rows_forgotten AS (
    DELETE FROM provwatch.unmanaged_rows
    WHERE provider_id = ANY(@forgotten_rows::uuid[]) AND EXISTS (SELECT FROM claimed)
), rows_withdrawn AS (
    DELETE FROM provwatch.accepted_rows a
    USING jsonb_to_recordset(@withdrawn_rows::jsonb) AS stale (provider_id uuid, db_hash text, expires_at timestamptz, accepted_at timestamptz)
    WHERE (a.provider_id, a.db_hash, a.accepted_at) = (stale.provider_id, stale.db_hash, stale.accepted_at) AND a.expires_at IS NOT DISTINCT FROM stale.expires_at
        AND EXISTS (SELECT FROM claimed)
), compared AS (
    DELETE FROM provwatch.not_comparable
    WHERE (provider = ANY(@compared::text[]) OR provider = ANY(@forgotten::text[])) AND EXISTS (SELECT FROM claimed)
), not_compared AS (
    INSERT INTO provwatch.not_comparable (provider, reason)
    SELECT provider, reason
    FROM jsonb_to_recordset(@not_comparable::jsonb) AS rows (provider text, reason text)
    WHERE EXISTS (SELECT FROM claimed)
    ON CONFLICT (provider) DO UPDATE SET reason = excluded.reason, observed_at = now()
), not_pending AS (
    -- What is alerted, or has ended before.
    DELETE FROM provwatch.pending_drifts
    WHERE (provider = ANY(@not_pending::text[]) OR provider = ANY(@forgotten::text[])) AND EXISTS (SELECT FROM claimed)
), pended AS (
    INSERT INTO provwatch.pending_drifts
        (provider, provider_id, kind, env_hash, db_hash, credentials, fields, moved, renamed_to, source, lsn, xid, committed_at, since)
    SELECT provider, provider_id, kind, env_hash, db_hash, credentials, fields, moved, renamed_to, source, lsn, xid, committed_at, since
    FROM jsonb_to_recordset(@pending::jsonb) AS pending (
        provider text, provider_id uuid, kind text, env_hash text, db_hash text, credentials text, fields jsonb, moved text,
        renamed_to text, source text, lsn pg_lsn, xid bigint, committed_at timestamptz, since timestamptz)
    WHERE EXISTS (SELECT FROM claimed)
    ON CONFLICT (provider) DO UPDATE
    SET provider_id = excluded.provider_id, kind = excluded.kind, env_hash = excluded.env_hash, db_hash = excluded.db_hash,
        credentials = excluded.credentials, fields = excluded.fields, moved = excluded.moved, renamed_to = excluded.renamed_to,
        source = excluded.source, lsn = excluded.lsn, xid = excluded.xid, committed_at = excluded.committed_at, since = excluded.since
), rows_not_pending AS (
    DELETE FROM provwatch.pending_rows
    WHERE provider_id = ANY(@not_pending_rows::uuid[]) AND EXISTS (SELECT FROM claimed)
), rows_pended AS (
    INSERT INTO provwatch.pending_rows (provider_id, provider, db_hash, fields, source, lsn, xid, committed_at, since)
    SELECT provider_id, provider, db_hash, fields, source, lsn, xid, committed_at, since
    FROM jsonb_to_recordset(@pending_rows::jsonb) AS pending (
        provider_id uuid, provider text, db_hash text, fields jsonb, source text, lsn pg_lsn, xid bigint, committed_at timestamptz, since timestamptz)
    WHERE EXISTS (SELECT FROM claimed)
    ON CONFLICT (provider_id) DO UPDATE
    SET provider = excluded.provider, db_hash = excluded.db_hash, fields = excluded.fields, source = excluded.source,
        lsn = excluded.lsn, xid = excluded.xid, committed_at = excluded.committed_at, since = excluded.since
), alerted AS (
    -- Without an lsn an alert is not from the WAL.
    INSERT INTO provwatch.drift_alerts
        (seq, id, kind, provider, provider_id, fields, env_hash, db_hash, source, detected_at, lsn, xid, committed_at, reason, epoch,
        moved, how, resolves, repeats, silenced, renamed_to, unmanaged)
    SELECT
        seq, id, kind, provider, provider_id, fields, env_hash, db_hash, source, detected_at,
        lsn, xid, committed_at, reason, claimed.epoch, moved, how, resolves, repeats,
        coalesce(silenced, provider IN (SELECT silencing.provider FROM silencing) OR '*' IN (SELECT silencing.provider FROM silencing)),
        renamed_to, unmanaged
    FROM jsonb_to_recordset(@alerts::jsonb) AS alerts (
        seq bigint, id uuid, kind text, provider text, provider_id uuid, fields jsonb, env_hash text, db_hash text,
        source text, detected_at timestamptz, lsn pg_lsn, xid bigint, committed_at timestamptz, reason text,
        moved text, how text, resolves bigint, repeats bigint, silenced boolean, renamed_to text, unmanaged boolean)
    CROSS JOIN claimed
    RETURNING drift_alerts.seq, drift_alerts.silenced
)
SELECT
    claimed.generation,
    ARRAY(SELECT alerted.seq FROM alerted WHERE alerted.silenced)::bigint[] AS silenced,
    (SELECT count(pg_notify('ai_provider_drift', CASE WHEN seq IN (SELECT alerted.seq FROM alerted WHERE alerted.silenced) THEN silenced_payload ELSE payload END))
        FROM jsonb_to_recordset(@alerts::jsonb) AS published (seq bigint, payload text, silenced_payload text)) AS notified
FROM claimed;

-- name: listUnnamedStates :many
-- What was observed of providers that the environment no longer names. There can be
-- no state, which has no kind: of a provider that could not be compared or whose drift is pending.
-- A seed, an apply or a resolution records none either.
SELECT provider, provider_id, kind, env_hash, db_hash, alert_seq, silenced,
    EXISTS (SELECT FROM provwatch.pending_drifts p WHERE p.provider = observed.provider)::boolean AS pending,
    coalesce((SELECT p.name FROM gateway.ai_providers p WHERE p.id = observed.provider_id AND p.enabled AND NOT p.deleted), '')::text AS row_name,
    (SELECT generation FROM provwatch.alert_counter) AS generation,
    (SELECT last_seq FROM provwatch.alert_counter) AS last_seq,
    coalesce((SELECT e.generation FROM provwatch.environments e ORDER BY e.generation DESC LIMIT 1), 0)::bigint AS newest_environment
FROM (
    SELECT provider, provider_id, kind, env_hash, db_hash, coalesce(alert_seq, 0)::bigint AS alert_seq,
        coalesce(silenced_seq = alert_seq, false)::boolean AS silenced
    FROM provwatch.drift_state
    UNION ALL
    SELECT provider, NULL, '', '', '', 0, false FROM provwatch.not_comparable n
    WHERE NOT EXISTS (SELECT FROM provwatch.drift_state s WHERE s.provider = n.provider)
    UNION ALL
    SELECT provider, NULL, '', '', '', 0, false FROM provwatch.pending_drifts p
    WHERE NOT EXISTS (SELECT FROM provwatch.drift_state s WHERE s.provider = p.provider)
        AND NOT EXISTS (SELECT FROM provwatch.not_comparable n WHERE n.provider = p.provider)
    UNION ALL
    SELECT provider, NULL, '', '', '', 0, false FROM provwatch.base_pairs b
    WHERE b.named AND NOT EXISTS (SELECT FROM provwatch.drift_state s WHERE s.provider = b.provider)
        AND NOT EXISTS (SELECT FROM provwatch.not_comparable n WHERE n.provider = b.provider)
        AND NOT EXISTS (SELECT FROM provwatch.pending_drifts p WHERE p.provider = b.provider)
) AS observed
WHERE NOT EXISTS (SELECT FROM unnest(@named::text[]) AS named WHERE named = provider)
ORDER BY provider;

-- name: FindAlerts :many
-- The ids of the alerts of these seqs, where they are there.
SELECT seq, id FROM provwatch.drift_alerts WHERE seq = ANY(@seqs::bigint[]);

-- name: LastOfEpoch :one
-- The last alert of an epoch up to a seq, 0 for none.
SELECT coalesce(max(seq), 0)::bigint AS seq FROM provwatch.drift_alerts WHERE epoch = @epoch AND seq <= @seq;

-- name: ReadAlertsEnd :one
-- The end of the sequence of alerts, and the id of the alert of a seq, if it is there.
SELECT c.epoch, c.last_seq, a.id
FROM provwatch.alert_counter c
LEFT JOIN provwatch.drift_alerts a ON a.seq = @seq::bigint;

-- name: listAlertsSince :many
SELECT seq, id, kind, provider, provider_id, fields, env_hash, db_hash, source, detected_at,
    coalesce(lsn::text, '')::text AS lsn, coalesce(xid, 0)::bigint AS xid, committed_at, epoch, reason, certain, moved, how, coalesce(resolves, 0)::bigint AS resolves,
    silenced, coalesce(repeats, 0)::bigint AS repeats, renamed_to, unmanaged
FROM provwatch.drift_alerts
WHERE seq > @seq
ORDER BY seq
LIMIT @max_alerts;

-- name: listStates :many
-- What was last recorded of the providers named, and what was accepted.
SELECT
    wanted.name::text AS name,
    s.kind AS state_kind, s.provider_id AS state_provider_id, s.env_hash AS state_env_hash,
    s.db_hash AS state_db_hash, s.credentials AS state_credentials,
    a.kind AS accepted_kind, a.env_hash AS accepted_env_hash, a.db_hash AS accepted_db_hash, a.expires_at AS accepted_expires_at, a.accepted_at,
    now()::timestamptz AS at,
    coalesce(n.reason, '')::text AS not_comparable, coalesce(s.alert_seq, 0)::bigint AS alert_seq,
    coalesce(s.silenced_seq = s.alert_seq, false)::boolean AS silenced,
    to_jsonb(b)::jsonb AS base, to_jsonb(p)::jsonb AS pending
FROM unnest(@names::text[]) AS wanted (name)
LEFT JOIN provwatch.drift_state s ON s.provider = wanted.name
LEFT JOIN provwatch.accepted_drift a ON a.provider = wanted.name
LEFT JOIN provwatch.not_comparable n ON n.provider = wanted.name
LEFT JOIN provwatch.base_pairs b ON b.provider = wanted.name
LEFT JOIN provwatch.pending_drifts p ON p.provider = wanted.name;

-- name: ReadHashKey :many
-- The key of the digests that stand in place of canonical hashes which could be
-- guessed back: one row, if there is none nothing can be compared.
SELECT key FROM provwatch.hash_key;

-- name: FirstPending :one
-- How many drifts are pending, and for how many seconds the oldest of them has lasted by now. How
-- many are due: they have lasted for least_seconds, or would begin in the future, where the clock
-- was set back. And the rows of these, where they have one. Drifts of providers that cannot be
-- compared do not count. Those of unmanaged rows do.
SELECT
    count(*)::bigint AS pending,
    coalesce(extract(epoch FROM statement_timestamp() - min(since)), 0)::float8 AS seconds,
    (count(*) FILTER (WHERE is_due))::bigint AS due,
    coalesce(array_agg(provider_id) FILTER (WHERE is_due AND provider_id IS NOT NULL), '{}')::uuid[] AS ids
FROM (
    SELECT each.provider_id, each.since,
        (each.since <= statement_timestamp() - make_interval(secs => @least_seconds::float8) OR each.since > statement_timestamp()) AS is_due
    FROM (
        SELECT d.provider_id, d.since
        FROM provwatch.pending_drifts d
        WHERE NOT EXISTS (SELECT FROM provwatch.not_comparable n WHERE n.provider = d.provider)
        UNION ALL
        SELECT r.provider_id, r.since FROM provwatch.pending_rows r
    ) AS each
) AS comparable;

-- name: AcceptanceEnds :one
-- How many acceptances have ended since a time, and the time of this reading. For how many seconds
-- the first of the others lasts that have an end, 0 where none has one.
SELECT
    count(*) FILTER (WHERE expires_at <= statement_timestamp())::bigint AS ended,
    coalesce(extract(epoch FROM min(expires_at) FILTER (WHERE expires_at > statement_timestamp()) - statement_timestamp()), 0)::float8 AS seconds,
    statement_timestamp()::timestamptz AS at
FROM (
    SELECT a.expires_at FROM provwatch.accepted_drift a WHERE a.expires_at > @since
    UNION ALL
    SELECT r.expires_at FROM provwatch.accepted_rows r WHERE r.expires_at > @since
) AS accepted;
