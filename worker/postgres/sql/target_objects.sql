-- Objects of users in the connected database; none means that it is empty. No parameters.
WITH members AS (
    SELECT d.classid, d.objid FROM pg_catalog.pg_depend d WHERE d.deptype = 'e' AND d.objsubid = 0),
schemas AS (
    SELECT n.oid, n.nspname FROM pg_catalog.pg_namespace n
     WHERE n.nspname !~ '^pg_' AND n.nspname <> 'information_schema'),
objects (classid, objid, name) AS (
    SELECT 'pg_catalog.pg_class'::regclass, c.oid, n.nspname || '.' || c.relname
      FROM pg_catalog.pg_class c JOIN schemas n ON n.oid = c.relnamespace
    UNION ALL
    SELECT 'pg_catalog.pg_proc'::regclass, p.oid, 'function ' || n.nspname || '.' || p.proname
      FROM pg_catalog.pg_proc p JOIN schemas n ON n.oid = p.pronamespace
    UNION ALL
    SELECT 'pg_catalog.pg_type'::regclass, t.oid, 'type ' || n.nspname || '.' || t.typname
      FROM pg_catalog.pg_type t JOIN schemas n ON n.oid = t.typnamespace
     WHERE t.typtype IN ('d', 'e', 'r')
    UNION ALL
    SELECT 'pg_catalog.pg_namespace'::regclass, n.oid, 'schema ' || n.nspname FROM schemas n WHERE n.nspname <> 'public'
    UNION ALL
    SELECT 'pg_catalog.pg_event_trigger'::regclass, e.oid, 'event trigger ' || e.evtname FROM pg_catalog.pg_event_trigger e
    UNION ALL
    SELECT 'pg_catalog.pg_foreign_server'::regclass, f.oid, 'foreign server ' || f.srvname FROM pg_catalog.pg_foreign_server f
    UNION ALL
    SELECT 'pg_catalog.pg_publication'::regclass, p.oid, 'publication ' || p.pubname FROM pg_catalog.pg_publication p
    UNION ALL
    SELECT 'pg_catalog.pg_largeobject'::regclass, l.oid, 'large object ' || l.oid FROM pg_catalog.pg_largeobject_metadata l)
SELECT o.name FROM objects o
 WHERE NOT EXISTS (SELECT FROM members m WHERE m.classid = o.classid AND m.objid = o.objid)
 LIMIT 5
