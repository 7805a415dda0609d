-- What is not as a finished restore should have it. No parameters. fatal: no dump can have meant it.
SELECT 'invalid index' AS what, i.indexrelid::regclass::text AS name, c.relkind = 'i' AS fatal
  FROM pg_catalog.pg_index i
  JOIN pg_catalog.pg_class c ON c.oid = i.indexrelid
  JOIN pg_catalog.pg_namespace n ON n.oid = c.relnamespace
 WHERE NOT (i.indisvalid AND i.indisready) AND n.nspname !~ '^pg_'
UNION ALL
SELECT 'constraint that is not validated', o.conrelid::regclass::text || ' ' || pg_catalog.quote_ident(o.conname), false
  FROM pg_catalog.pg_constraint o
 WHERE NOT o.convalidated AND o.conrelid <> 0
UNION ALL
SELECT 'trigger that is off', t.tgrelid::regclass::text || ' ' || pg_catalog.quote_ident(t.tgname), false
  FROM pg_catalog.pg_trigger t
 WHERE NOT t.tgisinternal AND t.tgenabled = 'D' AND t.tgparentid = 0
UNION ALL
-- the triggers that a foreign key works by
SELECT 'foreign key that is off', t.tgrelid::regclass::text || ' ' || pg_catalog.quote_ident(o.conname), true
  FROM pg_catalog.pg_trigger t
  JOIN pg_catalog.pg_constraint o ON o.oid = t.tgconstraint AND o.contype = 'f'
 WHERE t.tgisinternal AND t.tgenabled = 'D'
 ORDER BY 1, 2
