-- What a dump by the connected role would not get, one row an object: schema, name, kind, why. No parameters.
-- pg_dump locks tables (which takes SELECT), reads sequences, and refuses to dump what row-level security hides.
-- Tables of extensions are not dumped, except their configuration tables.
SELECT n.nspname::text AS nsp,
       c.relname::text AS name,
       CASE c.relkind WHEN 'S' THEN 'sequence' ELSE 'table' END AS kind,
       CASE WHEN NOT pg_catalog.has_schema_privilege(n.oid, 'USAGE') THEN 'no USAGE on its schema'
            WHEN c.relkind = 'S' AND NOT pg_catalog.has_sequence_privilege(c.oid, 'SELECT') THEN 'no SELECT'
            WHEN c.relkind <> 'S' AND NOT pg_catalog.has_table_privilege(c.oid, 'SELECT') THEN 'no SELECT'
            ELSE 'row-level security'
       END AS why
  FROM pg_catalog.pg_class c
  JOIN pg_catalog.pg_namespace n ON n.oid = c.relnamespace
 WHERE c.relkind IN ('r', 'p', 'S')
   AND c.relpersistence <> 't'
   AND n.nspname !~ '^pg_'
   AND n.nspname <> 'information_schema'
   AND NOT EXISTS (SELECT
                     FROM pg_catalog.pg_depend d
                     JOIN pg_catalog.pg_extension e ON e.oid = d.refobjid
                    WHERE d.classid = 'pg_catalog.pg_class'::regclass AND d.objid = c.oid AND d.deptype = 'e'
                      AND NOT c.oid = ANY (coalesce(e.extconfig, '{}')))
   AND (NOT pg_catalog.has_schema_privilege(n.oid, 'USAGE')
        OR c.relkind = 'S' AND NOT pg_catalog.has_sequence_privilege(c.oid, 'SELECT')
        OR c.relkind <> 'S' AND (NOT pg_catalog.has_table_privilege(c.oid, 'SELECT')
                                 OR pg_catalog.row_security_active(c.oid)))
UNION ALL
SELECT '', l.oid::text, 'large object', 'no SELECT'
  FROM pg_catalog.pg_largeobject_metadata l
 WHERE NOT pg_catalog.pg_has_role(l.lomowner, 'USAGE')
   AND NOT EXISTS (SELECT
                     FROM pg_catalog.aclexplode(l.lomacl) a
                    WHERE a.privilege_type = 'SELECT'
                      AND (a.grantee = 0 OR pg_catalog.pg_has_role(a.grantee, 'USAGE')))
   AND NOT (SELECT r.rolsuper FROM pg_catalog.pg_roles r WHERE r.rolname = current_user)
 ORDER BY 1, 2
