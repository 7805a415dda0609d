-- Tables and materialised views whose rows are read, smallest facts first: bytes with TOAST, 8 kB-block pages of
-- the main fork, and whether the storage knows ctid ranges (heap). For a member of an extension: the condition
-- under which pg_dump writes its rows (extconfig), or NULL where it writes none.
SELECT c.oid, n.nspname, c.relname, CASE c.relkind WHEN 'm' THEN 'materialized view' ELSE 'table' END AS kind,
       CASE WHEN c.relkind IN ('r', 'm') THEN pg_table_size(c.oid) END AS bytes,
       CASE WHEN c.relkind IN ('r', 'm') THEN pg_relation_size(c.oid) / current_setting('block_size')::int END AS pages,
       a.amname = 'heap' AS has_ctid_ranges,
       CASE WHEN c.relkind = 'f' THEN 'foreign'
            WHEN e.extname IS NOT NULL AND k.position IS NULL THEN 'extension ' || e.extname
            WHEN c.relpersistence = 'u' AND pg_is_in_recovery() THEN 'unlogged'
            WHEN NOT c.relispopulated THEN 'unpopulated' END AS unread,
       coalesce(e.extcondition[k.position], '') AS condition
FROM pg_class c
JOIN nsp n ON n.oid = c.relnamespace
LEFT JOIN pg_am a ON a.oid = c.relam
LEFT JOIN member m ON m.classid = 'pg_class'::regclass AND m.objid = c.oid
LEFT JOIN pg_depend d ON m.objid IS NOT NULL AND d.classid = m.classid AND d.objid = m.objid AND d.deptype = 'e'
LEFT JOIN pg_extension e ON e.oid = d.refobjid
LEFT JOIN LATERAL (SELECT array_position(e.extconfig, c.oid) AS position) k ON true
WHERE c.relkind IN ('r', 'm', 'f') AND c.relpersistence <> 't'
ORDER BY n.nspname, c.relname
