-- The schemas of the search path that the session began with, in its order, and
-- what each has of the provider tables. The path is read as the server reads it. A
-- schema that the role cannot use is listed too. The server's own schemas are not,
-- nor is provwatch, which a role of that name has on its path by way of "$user".
WITH path AS (
    SELECT
        CASE WHEN entry.match[1] LIKE '"%' THEN replace(substr(entry.match[1], 2, length(entry.match[1]) - 2), '""', '"')
            ELSE lower(entry.match[1] COLLATE "C") END::name AS name,
        entry.position
    FROM regexp_matches(current_setting('provwatch.search_path'), '"(?:[^"]|"")*"|[^",[:space:]]+', 'g') WITH ORDINALITY AS entry (match, position)
), schemas AS (
    SELECT n.oid, n.nspname, n.nspowner, min(path.position) AS position
    FROM path
    JOIN pg_catalog.pg_namespace n ON n.nspname = CASE path.name WHEN '$user' THEN current_user ELSE path.name END
    WHERE left(n.nspname::text, 3) <> 'pg_' AND n.nspname NOT IN ('information_schema', 'provwatch')
    GROUP BY n.oid, n.nspname, n.nspowner
)
SELECT
    s.nspname::text AS schema,
    c.oid IS NOT NULL AS has_tables,
    -- In the schema of a stranger, who could replace them, they are not made: anyone
    -- who may create schemas can make one for the "$user" of another role.
    has_schema_privilege(s.oid, 'CREATE') AND EXISTS (
        SELECT FROM pg_catalog.pg_roles r
        WHERE r.oid = s.nspowner AND (r.rolsuper OR r.rolname = current_user OR r.rolname = 'pg_database_owner'
            OR pg_has_role(r.oid, (SELECT d.datdba FROM pg_catalog.pg_database d WHERE d.datname = current_database()), 'MEMBER'))
    ) AS may_create,
    -- The enum is the type of the column, whatever it is called and wherever it is.
    coalesce(tn.nspname, s.nspname)::text AS type_schema,
    coalesce(t.typname, 'ai_provider_type')::text AS type_name,
    coalesce(c.relkind::text, '') AS providers_kind,
    coalesce(k.relkind::text, '') AS keys_kind
FROM schemas s
LEFT JOIN pg_catalog.pg_class c ON c.relnamespace = s.oid AND c.relname = 'ai_providers' AND c.relkind IN ('r', 'p', 'v', 'm', 'f')
LEFT JOIN pg_catalog.pg_class k ON k.relnamespace = s.oid AND k.relname = 'ai_provider_keys' AND k.relkind IN ('r', 'p', 'v', 'm', 'f')
LEFT JOIN pg_catalog.pg_attribute a ON a.attrelid = c.oid AND a.attname = 'type' AND NOT a.attisdropped
LEFT JOIN pg_catalog.pg_type t ON t.oid = a.atttypid
LEFT JOIN pg_catalog.pg_namespace tn ON tn.oid = t.typnamespace
ORDER BY s.position
