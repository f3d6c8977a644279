-- provwatch's own tables, all in the schema provwatch (docs/specification.md,
-- sections 3 to 6).

-- +goose Up

-- Audit entries wait here, staged in the transaction that they describe, until
-- they are delivered. seq orders them: transactions that stage entries hold the
-- seed lock, so seq is in commit order.
CREATE TABLE provwatch.audit_outbox (
    seq         bigint GENERATED ALWAYS AS IDENTITY PRIMARY KEY,
    id          uuid NOT NULL UNIQUE,
    occurred_at timestamptz NOT NULL,
    actor       text NOT NULL,
    action      text NOT NULL,
    provider    text NOT NULL,
    provider_id uuid,
    details     jsonb NOT NULL
);

-- Delivered entries, each exactly once by id.
CREATE TABLE provwatch.audit_log (
    id           uuid PRIMARY KEY,
    seq          bigint NOT NULL UNIQUE,
    occurred_at  timestamptz NOT NULL,
    actor        text NOT NULL,
    action       text NOT NULL,
    provider     text NOT NULL,
    provider_id  uuid,
    details      jsonb NOT NULL,
    delivered_at timestamptz NOT NULL DEFAULT now()
);
CREATE INDEX audit_log_provider_idx ON provwatch.audit_log (provider, seq);

-- What was last observed of each provider that the environment names. It
-- outlives the worker, so that a restart repeats no alert and misses none.
CREATE TABLE provwatch.drift_state (
    provider    text PRIMARY KEY,
    provider_id uuid,
    kind        text NOT NULL,
    env_hash    text NOT NULL,
    db_hash     text NOT NULL,
    credentials text NOT NULL DEFAULT '',
    observed_at timestamptz NOT NULL DEFAULT now()
);
CREATE INDEX drift_state_provider_id_idx ON provwatch.drift_state (provider_id);

-- Every alert that was published.
CREATE TABLE provwatch.drift_alerts (
    seq         bigint PRIMARY KEY,
    id          uuid NOT NULL UNIQUE,
    kind        text NOT NULL,
    provider    text NOT NULL,
    provider_id uuid,
    fields      jsonb NOT NULL,
    env_hash    text NOT NULL,
    db_hash     text NOT NULL,
    source      text NOT NULL,
    detected_at timestamptz NOT NULL
);
CREATE INDEX drift_alerts_provider_idx ON provwatch.drift_alerts (provider, seq);

-- The last seq of drift_alerts. A sequence would leave gaps after a rollback;
-- this row is locked for the length of the transaction that writes alerts,
-- which also puts the workers of one database in turn.
CREATE TABLE provwatch.alert_counter (
    singleton boolean PRIMARY KEY DEFAULT true CHECK (singleton),
    last_seq  bigint NOT NULL
);
INSERT INTO provwatch.alert_counter (last_seq) VALUES (0);

-- Drifts that an operator accepted with "worker resolve --take db": each
-- holds while both hashes stay as they were.
CREATE TABLE provwatch.accepted_drift (
    provider    text PRIMARY KEY,
    kind        text NOT NULL,
    env_hash    text NOT NULL,
    db_hash     text NOT NULL,
    accepted_by text NOT NULL,
    accepted_at timestamptz NOT NULL DEFAULT now()
);

-- The function of the triggers in sql/statements/triggers.sql. Migration 7 replaces it.

-- +goose StatementBegin
CREATE FUNCTION provwatch.notify_change() RETURNS trigger
LANGUAGE plpgsql AS $$
DECLARE
    hints pg_catalog.text[];
    lookup pg_catalog.text := 'SELECT ARRAY(SELECT %1$I::pg_catalog.text FROM changed';
BEGIN
    IF pg_catalog.current_setting('provwatch.seeding', true) = 'on' THEN
        RETURN NULL;
    END IF;
    IF TG_OP <> 'TRUNCATE' THEN
        IF TG_OP = 'UPDATE' THEN
            lookup := lookup || ' UNION SELECT %1$I::pg_catalog.text FROM former';
        ELSE
            lookup := lookup || ' GROUP BY 1';
        END IF;
        EXECUTE pg_catalog.format(lookup || ' ORDER BY 1 LIMIT 65)', TG_ARGV[0]) INTO hints;
    END IF;
    IF TG_OP = 'TRUNCATE' OR pg_catalog.cardinality(hints) > 64 THEN
        PERFORM pg_catalog.pg_notify('ai_providers_changed', '');
    ELSE
        PERFORM pg_catalog.pg_notify('ai_providers_changed', hint) FROM pg_catalog.unnest(hints) AS hint;
    END IF;
    RETURN NULL;
EXCEPTION WHEN OTHERS THEN
    PERFORM pg_catalog.pg_notify('ai_providers_changed', '');
    RETURN NULL;
END
$$;
-- +goose StatementEnd
