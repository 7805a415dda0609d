-- The head of every fingerprint_objects_*.sql and of the other catalog queries: what belongs to the user.
-- Each of those queries gives rows (kind, identity, definition, nsp, rel): nsp and rel say which schema and
-- which relation the object goes with, so that what a backup leaves out can be left out here.
-- Left out, as pg_dump does: the system's own schemas, temporary relations, members of extensions.
WITH member AS MATERIALIZED (
    SELECT classid, objid FROM pg_depend WHERE deptype = 'e'
),
nsp AS MATERIALIZED (
    SELECT n.oid, n.nspname, n.nspowner, n.nspacl,
           EXISTS (SELECT FROM member m WHERE m.classid = 'pg_namespace'::regclass AND m.objid = n.oid) AS is_member
    FROM pg_namespace n
    WHERE n.nspname !~ '^pg_' AND n.nspname <> 'information_schema'
),
rel AS MATERIALIZED (
    -- home: the table that owns a sequence, else the relation itself
    SELECT c.*, n.nspname, format('%I.%I', n.nspname, c.relname) AS name,
           coalesce(h.nspname, n.nspname) AS home_nsp, coalesce(h.relname, c.relname) AS home_rel,
           CASE c.relkind WHEN 'r' THEN 'table' WHEN 'p' THEN 'partitioned table' WHEN 'f' THEN 'foreign table'
                          WHEN 'v' THEN 'view' WHEN 'm' THEN 'materialized view' WHEN 'S' THEN 'sequence'
                          WHEN 'c' THEN 'composite type' END AS kind
    FROM pg_class c
    JOIN nsp n ON n.oid = c.relnamespace
    LEFT JOIN (SELECT d.objid, hn.nspname, hc.relname
               FROM pg_depend d
               JOIN pg_class hc ON hc.oid = d.refobjid
               JOIN pg_namespace hn ON hn.oid = hc.relnamespace
               WHERE d.classid = 'pg_class'::regclass AND d.refclassid = 'pg_class'::regclass AND d.refobjsubid <> 0
                 AND d.deptype IN ('a', 'i')) h ON c.relkind = 'S' AND h.objid = c.oid
    WHERE c.relkind IN ('r', 'p', 'f', 'v', 'm', 'S', 'c') AND c.relpersistence <> 't'
      AND NOT EXISTS (SELECT FROM member m
                      WHERE (m.classid = 'pg_class'::regclass AND m.objid = c.oid)
                         OR (c.relkind = 'c' AND m.classid = 'pg_type'::regclass AND m.objid = c.reltype))
)
