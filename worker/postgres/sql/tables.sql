-- Every relation with rows that belongs in a dump. As pg_dump sees it: no system schema, nothing temporary,
-- and of the tables of extensions only those whose rows the extension wants dumped.
-- excluded: oids to leave out.
SELECT c.oid,
       n.nspname AS schema,
       c.relname AS name,
       CASE c.relkind WHEN 'r' THEN 'table' WHEN 'p' THEN 'partitioned' WHEN 'm' THEN 'matview' ELSE 'foreign' END
         AS kind,
       c.relpersistence = 'u' AS unlogged,
       has_schema_privilege(n.oid, 'USAGE') AND has_table_privilege(c.oid, 'SELECT') AS readable,
       row_security_active(c.oid) AS filtered
  FROM pg_class c
  JOIN pg_namespace n ON n.oid = c.relnamespace
 WHERE c.relkind IN ('r', 'p', 'm', 'f')
   AND c.relpersistence <> 't'
   AND n.nspname !~ '^pg_'
   AND n.nspname <> 'information_schema'
   AND c.oid <> ALL (%(excluded)s::oid[])
   AND NOT EXISTS (
         SELECT FROM pg_depend d
           JOIN pg_extension e ON e.oid = d.refobjid
          WHERE d.classid = 'pg_class'::regclass
            AND d.objid = c.oid
            AND d.refclassid = 'pg_extension'::regclass
            AND d.deptype = 'e'
            AND c.oid <> ALL (coalesce(e.extconfig, '{}')))
 ORDER BY n.nspname, c.relname
