-- How far alerts and audit entries were delivered outside (docs/sinks.md).

-- +goose Up

-- A row for each sink and stream: all events up to seq are acknowledged by the
-- sink, or in sink_dead_letters, or was deleted before the sink had them, which
-- is announced as the cursor passes them.
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
