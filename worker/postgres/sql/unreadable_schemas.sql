-- Schemas with something to dump that the connected role may not enter.
-- excluded: oids of relations that are left out of the dump.
SELECT n.nspname
  FROM pg_namespace n
 WHERE n.nspname !~ '^pg_'
   AND n.nspname <> 'information_schema'
   AND NOT has_schema_privilege(n.oid, 'USAGE')
   AND EXISTS (SELECT FROM pg_class c
                WHERE c.relnamespace = n.oid
                  AND c.relkind IN ('r', 'p', 'S')
                  AND c.oid <> ALL (%(excluded)s::oid[]))
 ORDER BY n.nspname
