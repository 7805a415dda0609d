-- How many of each kind a dump has an entry for: as in pg_dump, nothing of tables that an extension makes. No parameters.
WITH members AS (
    SELECT d.objid FROM pg_catalog.pg_depend d
     WHERE d.classid = 'pg_catalog.pg_class'::regclass AND d.objsubid = 0 AND d.deptype = 'e')
SELECT (SELECT count(*)::int FROM pg_catalog.pg_trigger t
          JOIN pg_catalog.pg_class c ON c.oid = t.tgrelid
          JOIN pg_catalog.pg_namespace n ON n.oid = c.relnamespace
          LEFT JOIN pg_catalog.pg_trigger parent ON parent.oid = t.tgparentid
         WHERE ((NOT t.tgisinternal AND t.tgparentid = 0) OR t.tgenabled <> parent.tgenabled)
           AND n.nspname !~ '^pg_' AND c.oid NOT IN (SELECT objid FROM members)) AS triggers,
       (SELECT count(*)::int FROM pg_catalog.pg_constraint o
         WHERE o.contype = 'f' AND o.conparentid = 0
           AND o.conrelid NOT IN (SELECT objid FROM members)) AS foreign_keys,
       (SELECT count(*)::int FROM pg_catalog.pg_policy p
         WHERE p.polrelid NOT IN (SELECT objid FROM members)) AS policies
