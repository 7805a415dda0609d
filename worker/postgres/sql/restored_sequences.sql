-- Sequences that belong to a column: an insert fails when one is behind its column. No parameters.
SELECT s.oid::regclass::text AS sequence,
       n.nspname::text AS schema, t.relname::text AS "table", a.attname::text AS "column",
       q.seqincrement > 0 AS ascending
  FROM pg_catalog.pg_class s
  JOIN pg_catalog.pg_sequence q ON q.seqrelid = s.oid
  JOIN pg_catalog.pg_depend d ON d.classid = 'pg_catalog.pg_class'::regclass AND d.objid = s.oid
                             AND d.refclassid = 'pg_catalog.pg_class'::regclass AND d.refobjsubid > 0
                             AND d.deptype IN ('a', 'i')
  JOIN pg_catalog.pg_class t ON t.oid = d.refobjid AND t.relkind IN ('r', 'p')
  JOIN pg_catalog.pg_namespace n ON n.oid = t.relnamespace
  JOIN pg_catalog.pg_attribute a ON a.attrelid = t.oid AND a.attnum = d.refobjsubid
 WHERE a.atttypid IN ('int2'::regtype, 'int4'::regtype, 'int8'::regtype)
   -- with an index on it the greatest value costs nothing
   AND EXISTS (SELECT FROM pg_catalog.pg_index i WHERE i.indrelid = t.oid AND i.indkey[0] = a.attnum)
 ORDER BY 1
