-- Takes migrations 7 and later back, and makes what an earlier form of migrations 2 and 5 made
-- beside what they make now.

DELETE FROM provwatch.schema_migrations WHERE version_id >= 7;
DROP FUNCTION provwatch.stand_by;
ALTER TABLE provwatch.alert_counter DROP COLUMN term, DROP COLUMN epoch, DROP COLUMN writer, DROP COLUMN system_identifier,
    DROP COLUMN timeline, DROP COLUMN table_oid, DROP COLUMN former_epochs;
ALTER TABLE provwatch.drift_alerts DROP COLUMN epoch, DROP COLUMN reason, DROP COLUMN certain, DROP COLUMN moved, DROP COLUMN how, DROP COLUMN resolves,
    DROP COLUMN silenced, DROP COLUMN repeats, DROP COLUMN renamed_to, DROP COLUMN unmanaged;
ALTER TABLE provwatch.drift_state DROP COLUMN alert_seq, DROP COLUMN silenced_seq;
ALTER TABLE provwatch.accepted_drift DROP COLUMN reason, DROP COLUMN expires_at, DROP COLUMN lapsed_at;
ALTER TABLE provwatch.wal_position DROP COLUMN system_identifier;
DROP TABLE provwatch.hash_key, provwatch.not_comparable, provwatch.base_pairs, provwatch.pruned, provwatch.silences, provwatch.pending_drifts, provwatch.environments, provwatch.workers, provwatch.not_loaded,
    provwatch.unmanaged_rows, provwatch.unmanaged_baseline, provwatch.accepted_rows, provwatch.pending_rows;
ALTER TABLE provwatch.wal_mirror RENAME COLUMN not_comparable TO undecodable;
ALTER TABLE gateway.ai_providers DROP CONSTRAINT ai_providers_settings_key_id_fkey;
ALTER TABLE gateway.ai_provider_keys DROP CONSTRAINT ai_provider_keys_api_key_key_id_fkey;
DROP TABLE gateway.dbcrypt_keys;
DROP TABLE provwatch.audit_counter;
ALTER TABLE provwatch.wal_mirror DROP COLUMN bedrock_settings, DROP COLUMN db_hash_anthropic, DROP COLUMN bedrock_region_cut;
DROP INDEX provwatch.audit_log_seq_idx;
ALTER TABLE provwatch.audit_log DROP CONSTRAINT audit_log_deliverable, ADD UNIQUE (seq);
ALTER TABLE provwatch.audit_outbox DROP CONSTRAINT audit_outbox_deliverable;
ALTER TABLE provwatch.sink_dead_letters DROP CONSTRAINT sink_dead_letters_pkey, ADD PRIMARY KEY (sink, stream, seq);
GRANT EXECUTE ON FUNCTION provwatch.notify_change() TO PUBLIC;

CREATE TABLE provwatch.sink_gaps (
    id     bigint GENERATED ALWAYS AS IDENTITY PRIMARY KEY,
    sink   text NOT NULL,
    stream text NOT NULL,
    lost   bigint NOT NULL,
    up_to  bigint NOT NULL
);

CREATE FUNCTION provwatch.note_pruned() RETURNS trigger
LANGUAGE plpgsql SECURITY DEFINER SET search_path = pg_catalog, pg_temp AS $$
BEGIN
    IF TG_OP = 'TRUNCATE' THEN
        EXECUTE format('INSERT INTO provwatch.sink_gaps (sink, stream, lost, up_to)
            SELECT c.sink, c.stream, count(*), max(e.seq) FROM provwatch.sink_cursors c JOIN %I.%I e ON e.seq > c.seq
            WHERE c.stream = $1 GROUP BY 1, 2', TG_TABLE_SCHEMA, TG_TABLE_NAME) USING TG_ARGV[0];
    ELSE
        INSERT INTO provwatch.sink_gaps (sink, stream, lost, up_to)
        SELECT c.sink, c.stream, count(*), max(e.seq) FROM provwatch.sink_cursors c JOIN pruned e ON e.seq > c.seq
        WHERE c.stream = TG_ARGV[0] GROUP BY 1, 2;
    END IF;
    IF EXISTS (SELECT FROM provwatch.sink_gaps) THEN
        PERFORM pg_notify('provwatch_sinks', '');
    END IF;
    RETURN NULL;
END
$$;

CREATE TRIGGER note_pruned AFTER DELETE ON provwatch.drift_alerts
    REFERENCING OLD TABLE AS pruned FOR EACH STATEMENT EXECUTE FUNCTION provwatch.note_pruned('drift');
CREATE TRIGGER note_pruned AFTER DELETE ON provwatch.audit_log
    REFERENCING OLD TABLE AS pruned FOR EACH STATEMENT EXECUTE FUNCTION provwatch.note_pruned('audit');
CREATE TRIGGER note_truncated BEFORE TRUNCATE ON provwatch.drift_alerts
    FOR EACH STATEMENT EXECUTE FUNCTION provwatch.note_pruned('drift');
CREATE TRIGGER note_truncated BEFORE TRUNCATE ON provwatch.audit_log
    FOR EACH STATEMENT EXECUTE FUNCTION provwatch.note_pruned('audit');
