-- Columns of every table in order of name (a restore may change the order of an inheritance child's), each
-- with the type below its domains and that type's output function. Columns computed at reading are not stored.
WITH RECURSIVE base AS (
    SELECT oid AS column_type, oid, typtype, typbasetype FROM pg_type
    UNION ALL
    SELECT b.column_type, t.oid, t.typtype, t.typbasetype
    FROM base b
    JOIN pg_type t ON b.typtype = 'd' AND t.oid = b.typbasetype
)
SELECT a.attrelid, a.attname AS name, format_type(t.oid, -1) AS type, t.typnamespace = 'pg_catalog'::regnamespace AS is_builtin,
       b.column_type <> t.oid AS is_domain, t.typoutput::text AS output, a.attgenerated <> '' AS generated
FROM pg_attribute a
JOIN pg_class c ON c.oid = a.attrelid
JOIN base b ON b.column_type = a.atttypid AND b.typtype <> 'd'
JOIN pg_type t ON t.oid = b.oid
WHERE c.relkind IN ('r', 'm') AND c.relnamespace = ANY (SELECT oid FROM pg_namespace
                                                        WHERE nspname !~ '^pg_' AND nspname <> 'information_schema')
  AND a.attnum > 0 AND NOT a.attisdropped AND a.attgenerated <> 'v'
ORDER BY a.attrelid, a.attname COLLATE "C"
