-- How far alerts and audit entries were delivered outside (docs/sinks.md).

-- +goose Up

-- A row for each sink and stream: all events up to seq are acknowledged by the
-- sink, or in sink_dead_letters. drift_alerts.seq and audit_log.seq are both in
-- commit order, so that no event can appear below a seq that was read.
CREATE TABLE provwatch.sink_cursors (
    sink     text NOT NULL,
    stream   text NOT NULL CHECK (stream IN ('drift', 'audit')),
    seq      bigint NOT NULL,
    moved_at timestamptz NOT NULL DEFAULT now(),
    PRIMARY KEY (sink, stream)
);

-- Events that a sink refused, or did not take within --sink-give-up.
CREATE TABLE provwatch.sink_dead_letters (
    sink     text NOT NULL,
    stream   text NOT NULL CHECK (stream IN ('drift', 'audit')),
    seq      bigint NOT NULL,
    event_id uuid NOT NULL,
    provider text NOT NULL,
    reason   text NOT NULL,
    attempts integer NOT NULL,
    at       timestamptz NOT NULL DEFAULT now(),
    -- Whether an operator has asked for another try.
    retry    boolean NOT NULL DEFAULT false,
    PRIMARY KEY (sink, stream, seq)
);

-- Events that were deleted from their table before a sink had them, until that
-- is announced. Rows of their own, so that whoever deletes and a sink that moves
-- its cursor do not wait for each other.
CREATE TABLE provwatch.sink_gaps (
    id     bigint GENERATED ALWAYS AS IDENTITY PRIMARY KEY,
    sink   text NOT NULL,
    stream text NOT NULL,
    lost   bigint NOT NULL,
    up_to  bigint NOT NULL
);

-- Old rows may be deleted by whoever owns the tables; it must not go unnoticed
-- where a sink has not got them yet. With the owner's rights, since whoever may
-- delete need not know of sinks.

-- +goose StatementBegin
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
-- +goose StatementEnd

CREATE TRIGGER note_pruned AFTER DELETE ON provwatch.drift_alerts
    REFERENCING OLD TABLE AS pruned FOR EACH STATEMENT EXECUTE FUNCTION provwatch.note_pruned('drift');
CREATE TRIGGER note_pruned AFTER DELETE ON provwatch.audit_log
    REFERENCING OLD TABLE AS pruned FOR EACH STATEMENT EXECUTE FUNCTION provwatch.note_pruned('audit');
CREATE TRIGGER note_truncated BEFORE TRUNCATE ON provwatch.drift_alerts
    FOR EACH STATEMENT EXECUTE FUNCTION provwatch.note_pruned('drift');
CREATE TRIGGER note_truncated BEFORE TRUNCATE ON provwatch.audit_log
    FOR EACH STATEMENT EXECUTE FUNCTION provwatch.note_pruned('audit');
