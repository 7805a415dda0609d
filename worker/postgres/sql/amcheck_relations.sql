-- What amcheck can check: valid B-tree indexes, and heaps, of the user's schemas.
SELECT CASE c.relkind WHEN 'i' THEN 'index' ELSE 'table' END AS kind, format('%s.%s', n.nspname, c.relname) AS name,
       c.oid
FROM pg_class c
JOIN pg_namespace n ON n.oid = c.relnamespace
JOIN pg_am a ON a.oid = c.relam
LEFT JOIN pg_index i ON i.indexrelid = c.oid
WHERE n.nspname !~ '^pg_' AND n.nspname <> 'information_schema' AND c.relpersistence <> 't'
  AND (c.relkind = 'i' AND a.amname = 'btree' AND i.indisvalid AND i.indisready
       OR c.relkind IN ('r', 'm') AND a.amname = 'heap')
ORDER BY c.relkind, n.nspname, c.relname
