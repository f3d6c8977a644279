-- Terms of leadership, and how a worker waits for one.

-- +goose Up

-- The number of the current term. A statement that records names the term of its worker,
-- and does nothing when there is a later one.
ALTER TABLE provwatch.alert_counter ADD COLUMN term bigint NOT NULL DEFAULT 0;

-- A turn of a standby: waits until the leader of the current term has ended, for as many
-- milliseconds as patience says, and no longer than a minute. The leader of a term holds
-- its advisory lock, of the class "pwld", until its session ends.
--
-- ended says that the session has the lock now. Otherwise leader is the server's process
-- that holds it, and beat its latest sign of life: the number of an advisory lock of the
-- class "pwbt".
--
-- The wait is given up without an ERROR in the server's log. The server checks once a
-- second, where the platform can, whether the client is still there.

-- +goose StatementBegin
CREATE FUNCTION provwatch.stand_by(patience pg_catalog.int4)
RETURNS TABLE (term pg_catalog.int8, ended pg_catalog.bool, leader pg_catalog.int4, beat pg_catalog.int8)
LANGUAGE plpgsql SET search_path = pg_catalog, pg_temp AS $$
BEGIN
    IF current_setting('client_connection_check_interval') = '0' THEN
        BEGIN
            -- From the next turn on.
            PERFORM set_config('client_connection_check_interval', '1s', false);
        EXCEPTION WHEN invalid_parameter_value THEN
            NULL;
        END;
    END IF;
    SELECT c.term INTO STRICT term FROM provwatch.alert_counter c;
    ended := false;
    BEGIN
        -- Zero would be for ever.
        PERFORM set_config('lock_timeout', greatest(1, least(coalesce(patience, 1), 60000))::text, true);
        PERFORM pg_advisory_lock(1886874724, (term % 2147483648)::int4);
        ended := true;
    EXCEPTION WHEN lock_not_available OR query_canceled THEN
        -- Only a session whose role can lead has signs of life.
        SELECT l.pid, b.objid::bigint INTO leader, beat
        FROM pg_locks l
        LEFT JOIN pg_stat_activity a ON a.pid = l.pid AND has_function_privilege(a.usesysid, 'provwatch.stand_by(integer)', 'EXECUTE')
        LEFT JOIN pg_locks b ON b.pid = a.pid AND b.locktype = 'advisory' AND b.granted
            AND b.database = l.database AND b.objsubid = 2 AND b.classid = 1886872180
        WHERE l.locktype = 'advisory' AND l.granted AND l.objsubid = 2 AND l.classid = 1886874724
            AND l.database = (SELECT oid FROM pg_database WHERE datname = current_database())
            AND l.objid::bigint = term % 2147483648
        ORDER BY b.objid LIMIT 1;
        -- The limit can pass at the moment in which the lock is there.
        ended := coalesce(leader = pg_backend_pid(), false);
    END;
    RETURN NEXT;
END
$$;
-- +goose StatementEnd

REVOKE EXECUTE ON FUNCTION provwatch.stand_by(pg_catalog.int4) FROM PUBLIC;
