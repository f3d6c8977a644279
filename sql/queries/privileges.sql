-- name: listMissingPrivileges :many
-- Which of the privileges the role lacks: on a column, on a table where the
-- column is empty, on the function of that name for EXECUTE, on a schema where the table
-- is empty too. The empty schema is that of the provider tables. What is not there is
-- passed over. A table whose rows policies can hide from the role is one with the
-- privilege "row security", by its qualified name: a standby has one statement for all.
-- sqlc does not know the columns of jsonb_to_recordset here.
WITH wanted AS (
    SELECT
        (p ->> 'schema_name')::text AS schema_name, (p ->> 'table_name')::text AS table_name,
        (p ->> 'column_name')::text AS column_name, (p ->> 'privilege')::text AS privilege
    FROM jsonb_array_elements(@privileges::jsonb) AS p
)
SELECT
    current_user::text AS role, quote_ident(n.nspname)::text AS schema_name, (wanted.schema_name = '')::boolean AS of_providers,
    wanted.table_name::text AS table_name, wanted.column_name::text AS column_name, wanted.privilege::text AS privilege
FROM wanted
JOIN pg_catalog.pg_namespace n ON n.nspname = CASE wanted.schema_name WHEN '' THEN 'gateway' ELSE wanted.schema_name END
LEFT JOIN pg_catalog.pg_class c ON c.relnamespace = n.oid AND c.relname = wanted.table_name
LEFT JOIN pg_catalog.pg_proc f ON f.pronamespace = n.oid AND f.proname = wanted.table_name AND wanted.privilege = 'EXECUTE'
LEFT JOIN pg_catalog.pg_attribute a ON a.attrelid = c.oid AND a.attname = wanted.column_name AND NOT a.attisdropped
WHERE NOT CASE
    WHEN wanted.table_name = '' THEN has_schema_privilege(n.oid, wanted.privilege)
    WHEN wanted.privilege = 'EXECUTE' THEN has_function_privilege(f.oid, 'EXECUTE')
    WHEN wanted.column_name = '' THEN has_table_privilege(c.oid, wanted.privilege)
    ELSE has_column_privilege(c.oid, a.attnum, wanted.privilege)
END
UNION ALL
SELECT DISTINCT current_user::text, quote_ident(n.nspname), (wanted.schema_name = ''), format('%I.%I', n.nspname, c.relname), '', 'row security'
FROM wanted
JOIN pg_catalog.pg_namespace n ON n.nspname = CASE wanted.schema_name WHEN '' THEN 'gateway' ELSE wanted.schema_name END
JOIN pg_catalog.pg_class c ON c.relnamespace = n.oid AND c.relname = wanted.table_name AND c.relkind = 'r'
WHERE row_security_active(c.oid);
