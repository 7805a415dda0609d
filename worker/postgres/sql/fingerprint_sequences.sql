-- Sequences whose values a dump carries, the step and the wrap that say which of two values is the later one,
-- and the table that owns each. Of the sequences of an extension only those of its configuration are dumped.
SELECT c.nspname, c.relname, s.seqincrement > 0 AS ascending, s.seqcycle AS cycles,
       c.home_nsp, c.home_rel
FROM (SELECT r.oid, r.nspname, r.relname, r.relpersistence, r.home_nsp, r.home_rel FROM rel r WHERE r.relkind = 'S'
      UNION ALL
      SELECT q.oid, n.nspname, q.relname, q.relpersistence, n.nspname, q.relname
      FROM pg_extension e
      JOIN pg_class q ON q.oid = ANY (e.extconfig) AND q.relkind = 'S'
      JOIN pg_namespace n ON n.oid = q.relnamespace) c
JOIN pg_sequence s ON s.seqrelid = c.oid
WHERE NOT (c.relpersistence = 'u' AND pg_is_in_recovery())
ORDER BY c.nspname, c.relname
