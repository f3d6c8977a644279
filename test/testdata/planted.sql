-- What mallory plants in a schema that she may create in, {{schema}}: functions,
-- operators, types, casts, views and tables of the names that statements use.
-- {{functions}}, {{operators}} and {{relations}} are arrays of those names. Run as
-- her, with the search path pg_catalog.

CREATE FUNCTION {{schema}}.planted_note(pg_catalog.text) RETURNS boolean LANGUAGE plpgsql VOLATILE AS $note$
BEGIN
    RAISE LOG 'planted % ran as %', $1, current_user;
    INSERT INTO {{home}}.calls VALUES ($1, current_user);
    RETURN true;
EXCEPTION WHEN read_only_sql_transaction THEN
    RETURN true; -- the count of calls tells
END
$note$;

-- A type that others turn into by themselves.
CREATE TYPE {{schema}}.planted_trap AS ENUM ('trap');
CREATE FUNCTION {{schema}}.planted_cast(pg_catalog.text) RETURNS {{schema}}.planted_trap LANGUAGE plpgsql AS
    $$ BEGIN PERFORM {{schema}}.planted_note('cast of text'); RETURN NULL; END $$;
CREATE FUNCTION {{schema}}.planted_cast(pg_catalog.uuid) RETURNS {{schema}}.planted_trap LANGUAGE plpgsql AS
    $$ BEGIN PERFORM {{schema}}.planted_note('cast of uuid'); RETURN NULL; END $$;
CREATE FUNCTION {{schema}}.planted_cast(pg_catalog.int8) RETURNS {{schema}}.planted_trap LANGUAGE plpgsql AS
    $$ BEGIN PERFORM {{schema}}.planted_note('cast of bigint'); RETURN NULL; END $$;
CREATE CAST (pg_catalog.text AS {{schema}}.planted_trap) WITH FUNCTION {{schema}}.planted_cast(pg_catalog.text) AS IMPLICIT;
CREATE CAST (pg_catalog.uuid AS {{schema}}.planted_trap) WITH FUNCTION {{schema}}.planted_cast(pg_catalog.uuid) AS IMPLICIT;
CREATE CAST (pg_catalog.int8 AS {{schema}}.planted_trap) WITH FUNCTION {{schema}}.planted_cast(pg_catalog.int8) AS IMPLICIT;

-- count(*) is an aggregate or nothing.
CREATE FUNCTION {{schema}}.planted_count(pg_catalog.int8) RETURNS pg_catalog.int8 LANGUAGE plpgsql AS
    $$ BEGIN PERFORM {{schema}}.planted_note('count(*)'); RETURN $1; END $$;
CREATE AGGREGATE {{schema}}.count(*) (SFUNC = {{schema}}.planted_count, STYPE = pg_catalog.int8, INITCOND = '0');

DO $plant$
DECLARE
    -- What a polymorphic parameter is planted as: an exact match is preferred.
    elements CONSTANT text[] := ARRAY['text', 'uuid', 'int8', 'int4', 'timestamptz', 'jsonb', 'bool', 'bytea', 'name', 'varchar'];
    f record;
    element text;
    args text;
    result text;
    n int := 0;
BEGIN
    FOR f IN
        SELECT p.proname, p.prokind, p.proretset, p.prorettype::regtype::text AS result, t.types, t.types::text ~ 'any' AS polymorphic
        FROM pg_proc p, LATERAL (SELECT coalesce(array_agg(format_type(x, NULL) ORDER BY i), '{}') AS types
            FROM unnest(p.proargtypes) WITH ORDINALITY AS a (x, i)) t
        WHERE p.pronamespace = 'pg_catalog'::regnamespace AND p.proname = ANY ({{functions}}) AND p.prokind IN ('f', 'a')
            AND NOT t.types && ARRAY['internal', 'cstring', 'anyrange', 'anymultirange', 'anyenum', 'anycompatiblerange', 'anycompatiblemultirange']
    LOOP
        FOREACH element IN ARRAY CASE WHEN f.polymorphic THEN elements ELSE ARRAY[''] END LOOP
            SELECT coalesce(string_agg(CASE
                WHEN x IN ('anyarray', 'anycompatiblearray') THEN element || '[]'
                WHEN x IN ('anyelement', 'anycompatible', 'anynonarray', 'anycompatiblenonarray', '"any"') THEN element
                ELSE x END, ', ' ORDER BY i), '')
            INTO args FROM unnest(f.types) WITH ORDINALITY AS a (x, i);
            result := CASE
                WHEN f.result IN ('anyarray', 'anycompatiblearray') THEN element || '[]'
                WHEN f.result IN ('anyelement', 'anycompatible', 'anynonarray') THEN element
                ELSE f.result END;
            BEGIN
                EXECUTE format('CREATE FUNCTION {{schema}}.%I(%s) RETURNS %s %s LANGUAGE plpgsql VOLATILE AS %L', f.proname, args,
                    CASE WHEN f.proretset THEN 'SETOF' ELSE '' END, result,
                    format('BEGIN PERFORM {{schema}}.planted_note(%L); RETURN%s; END', format('%s(%s)', f.proname, args),
                        CASE WHEN f.proretset OR result = 'void' THEN '' ELSE ' NULL' END));
            EXCEPTION WHEN duplicate_function OR undefined_object OR invalid_function_definition OR feature_not_supported THEN
                NULL;
            END;
        END LOOP;
    END LOOP;

    FOR f IN
        SELECT o.oprname, l.name AS l, r.name AS r, o.oprresult::regtype::text AS result
        FROM pg_operator o,
            LATERAL (SELECT format_type(o.oprleft, NULL) AS name WHERE o.oprleft::regtype::text !~ '^any|^record$|cstring'
                UNION ALL SELECT e || '[]' FROM unnest(elements) AS e WHERE o.oprleft = 'anyarray'::regtype
                    AND o.oprright = 'anyarray'::regtype) AS l,
            LATERAL (SELECT format_type(o.oprright, NULL) AS name WHERE o.oprright::regtype::text !~ '^any|^record$|cstring'
                UNION ALL SELECT l.name WHERE o.oprright = 'anyarray'::regtype) AS r
        WHERE o.oprnamespace = 'pg_catalog'::regnamespace AND o.oprkind = 'b' AND o.oprname = ANY ({{operators}})
        UNION
        -- Operators that pg_catalog does not have.
        SELECT o, pair.l, pair.r, CASE o WHEN '||' THEN 'text' ELSE 'bool' END
        FROM unnest({{operators}}) AS o, (VALUES ('text', 'varchar'), ('varchar', 'text'), ('varchar', 'varchar'), ('name', 'varchar'),
            ('uuid', 'text'), ('text', 'uuid'), ('int8', 'text'), ('int4', 'numeric'), ('"char"', 'text')) AS pair (l, r)
    LOOP
        n := n + 1;
        BEGIN
            EXECUTE format('CREATE FUNCTION {{schema}}.planted_operator_%s(%s, %s) RETURNS %s LANGUAGE plpgsql VOLATILE AS %L', n, f.l, f.r, f.result,
                format('BEGIN PERFORM {{schema}}.planted_note(%L); RETURN NULL; END', format('%s %s %s', f.l, f.oprname, f.r)));
            EXECUTE format('CREATE OPERATOR {{schema}}.%s (FUNCTION = {{schema}}.planted_operator_%s, LEFTARG = %s, RIGHTARG = %s)', f.oprname, n, f.l, f.r);
        EXCEPTION WHEN duplicate_function OR invalid_function_definition THEN
            NULL;
        END;
    END LOOP;

    FOREACH element IN ARRAY ARRAY['text', 'uuid', 'jsonb', 'bytea', 'timestamptz', 'pg_lsn', 'name', 'int8', 'float8', 'regclass', 'regrole'] LOOP
        EXECUTE format('CREATE DOMAIN {{schema}}.%I AS pg_catalog.%I CHECK ({{schema}}.planted_note(%L))', element, element, 'type ' || element);
    END LOOP;

    FOR element IN
        SELECT c.relname FROM pg_class c WHERE c.relnamespace = 'pg_catalog'::regnamespace AND c.relkind IN ('r', 'v') AND c.relname = ANY ({{relations}})
    LOOP
        EXECUTE format('CREATE VIEW {{schema}}.%I AS SELECT %s FROM pg_catalog.%I WHERE {{schema}}.planted_note(%L)', element,
            (SELECT string_agg(quote_ident(a.attname), ', ') FROM pg_attribute a
                WHERE a.attrelid = ('pg_catalog.' || quote_ident(element))::regclass AND a.attnum > 0 AND a.atttypid <> 'anyarray'::regtype),
            element, 'view ' || element);
        EXECUTE format('GRANT SELECT ON {{schema}}.%I TO PUBLIC', element);
    END LOOP;
END
$plant$;
