-- name: ListHolders :many
-- Who holds up the session of a process: sessions of any database that wait for nobody
-- themselves, and prepared transactions. Each role may see this much of the others.
WITH RECURSIVE chain AS (
    SELECT @pid::int AS pid
    UNION
    SELECT holding.pid FROM chain CROSS JOIN LATERAL unnest(pg_blocking_pids(chain.pid)) AS holding (pid) WHERE chain.pid <> 0
)
SELECT a.pid::int AS pid, coalesce(a.usename, '')::text AS role, a.application_name::text AS application, coalesce(a.datname, '')::text AS database,
    ''::text AS prepared, NULL::timestamptz AS since
FROM chain
JOIN pg_catalog.pg_stat_activity a ON a.pid = chain.pid
WHERE chain.pid <> @pid AND cardinality(pg_blocking_pids(chain.pid)) = 0
UNION ALL
SELECT DISTINCT 0, p.owner::text, '', p.database::text, p.gid, p.prepared
FROM pg_catalog.pg_prepared_xacts p
JOIN pg_catalog.pg_locks own ON own.pid IS NULL AND own.locktype = 'transactionid' AND own.transactionid = p.transaction
JOIN pg_catalog.pg_locks held ON held.pid IS NULL AND held.granted AND held.virtualtransaction = own.virtualtransaction
JOIN pg_catalog.pg_locks wanted ON wanted.pid IN (SELECT chain.pid FROM chain) AND NOT wanted.granted
    AND (wanted.locktype, wanted.database, wanted.relation, wanted.page, wanted.tuple, wanted.virtualxid, wanted.transactionid, wanted.classid, wanted.objid, wanted.objsubid)
        IS NOT DISTINCT FROM (held.locktype, held.database, held.relation, held.page, held.tuple, held.virtualxid, held.transactionid, held.classid, held.objid, held.objsubid)
ORDER BY pid, prepared;

-- name: MaxPrepared :one
-- How many transactions can be prepared at a time.
SELECT current_setting('max_prepared_transactions')::int AS max_prepared;

-- name: DescribeSession :many
-- The session of a process of the server, no row where it has ended.
SELECT a.pid::int AS pid, coalesce(a.usename, '')::text AS role, a.application_name::text AS application, coalesce(a.datname, '')::text AS database
FROM pg_catalog.pg_stat_activity a
WHERE a.pid = @pid::int;
