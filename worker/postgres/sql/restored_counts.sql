-- How many of each kind a dump has an entry for. No parameters.
SELECT (SELECT count(*)::int FROM pg_catalog.pg_trigger t
          JOIN pg_catalog.pg_class c ON c.oid = t.tgrelid
          JOIN pg_catalog.pg_namespace n ON n.oid = c.relnamespace
         WHERE NOT t.tgisinternal AND t.tgparentid = 0 AND n.nspname !~ '^pg_'
           AND NOT EXISTS (SELECT FROM pg_catalog.pg_depend d WHERE d.objid = c.oid AND d.deptype = 'e')) AS triggers,
       (SELECT count(*)::int FROM pg_catalog.pg_constraint o
         WHERE o.contype = 'f' AND o.conparentid = 0) AS foreign_keys,
       (SELECT count(*)::int FROM pg_catalog.pg_policy) AS policies
