-- Tables and materialised views whose rows a fingerprint holds: bytes on disk with TOAST, pages of the main fork
-- in the server's blocks, whether the storage knows ctid ranges (heap). A member of an extension has its rows
-- dumped only as configuration (extconfig), and then under that condition. unread: why rows cannot be told.
SELECT c.oid, n.nspname AS schema_name, c.relname AS name,
       CASE c.relkind WHEN 'm' THEN 'materialized view' ELSE 'table' END AS kind,
       coalesce(pg_table_size(c.oid), 0) AS bytes,
       coalesce(pg_relation_size(c.oid), 0) / current_setting('block_size')::int AS pages,
       a.amname = 'heap' AND coalesce(e.condition, '') = '' AND c.relispopulated AS ctid_ranges,
       CASE WHEN c.relispopulated THEN coalesce(e.condition, '') ELSE 'WHERE false' END AS condition,
       CASE WHEN c.relkind = 'f' THEN 'foreign'
            WHEN m.objid IS NOT NULL AND e.condition IS NULL THEN 'extension'
            WHEN c.relpersistence = 'u' AND pg_is_in_recovery() THEN 'unlogged' END AS unread
FROM pg_class c
JOIN nsp n ON n.oid = c.relnamespace
LEFT JOIN pg_am a ON a.oid = c.relam
LEFT JOIN member m ON m.classid = 'pg_class'::regclass AND m.objid = c.oid
LEFT JOIN (SELECT k.oid, coalesce(x.extcondition[k.number], '') AS condition
           FROM pg_extension x
           CROSS JOIN unnest(x.extconfig) WITH ORDINALITY k (oid, number)) e ON e.oid = c.oid
WHERE c.relkind IN ('r', 'm', 'f') AND c.relpersistence <> 't'
ORDER BY n.nspname, c.relname
