-- What hangs on tables: constraints, indexes, triggers, rules, policies, extended statistics.
-- Foreign keys of partitions are copies of their parent's, made and named by the server (conparentid).
SELECT CASE c.contype WHEN 'p' THEN 'primary key' WHEN 'u' THEN 'unique constraint' WHEN 'f' THEN 'foreign key'
                      WHEN 'c' THEN 'check constraint' WHEN 'x' THEN 'exclusion constraint'
                      ELSE 'not null constraint' END AS kind,
       format('%I on %s', c.conname, r.name) AS identity,
       concat_ws(' ', pg_get_constraintdef(c.oid), CASE WHEN NOT c.convalidated THEN '(not validated)' END) AS definition,
       r.nspname::text AS nsp, r.relname::text AS rel
FROM rel r
JOIN pg_constraint c ON c.conrelid = r.oid
WHERE c.contype <> 't' AND NOT (c.contype = 'f' AND c.conparentid <> 0)

UNION ALL
SELECT 'index', format('%I.%I', r.nspname, x.relname),
       concat_ws(' ',
           pg_get_indexdef(i.indexrelid),
           CASE WHEN NOT i.indisvalid THEN '(invalid)' END,
           CASE WHEN i.indisclustered THEN '(clustered)' END,
           CASE WHEN i.indisreplident THEN '(replica identity)' END,
           '(part of ' || (SELECT h.inhparent::regclass::text FROM pg_inherits h WHERE h.inhrelid = i.indexrelid) || ')',
           '(statistics ' || (SELECT string_agg(a.attnum || '=' || (to_jsonb(a) ->> 'attstattarget'), ', '
                                                ORDER BY a.attnum)
                              FROM pg_attribute a
                              WHERE a.attrelid = i.indexrelid AND to_jsonb(a) ->> 'attstattarget' <> '-1') || ')'),
       r.nspname, r.relname
FROM rel r
JOIN pg_index i ON i.indrelid = r.oid
JOIN pg_class x ON x.oid = i.indexrelid

UNION ALL
-- tgisinternal marks the triggers of constraints; until PostgreSQL 14 it also marks a partition's copy of its
-- parent's trigger.
SELECT 'trigger', format('%I on %s', t.tgname, r.name),
       concat_ws(' ', pg_get_triggerdef(t.oid),
           CASE t.tgenabled WHEN 'D' THEN '(disabled)' WHEN 'R' THEN '(enabled on replicas)'
                            WHEN 'A' THEN '(enabled always)' END),
       r.nspname, r.relname
FROM rel r
JOIN pg_trigger t ON t.tgrelid = r.oid
JOIN pg_proc p ON p.oid = t.tgfoid
WHERE NOT t.tgisinternal OR (t.tgparentid <> 0 AND p.proname !~ '^RI_FKey_')

UNION ALL
SELECT 'rule', format('%I on %s', w.rulename, r.name),
       concat_ws(' ', pg_get_ruledef(w.oid),
           CASE w.ev_enabled WHEN 'D' THEN '(disabled)' WHEN 'R' THEN '(enabled on replicas)'
                             WHEN 'A' THEN '(enabled always)' END),
       r.nspname, r.relname
FROM rel r
JOIN pg_rewrite w ON w.ev_class = r.oid
WHERE w.rulename <> '_RETURN'

UNION ALL
SELECT 'policy', format('%I on %s', p.polname, r.name),
       concat_ws(' ',
           CASE WHEN NOT p.polpermissive THEN 'restrictive' END,
           'for ' || CASE p.polcmd WHEN 'r' THEN 'select' WHEN 'a' THEN 'insert' WHEN 'w' THEN 'update'
                                   WHEN 'd' THEN 'delete' ELSE 'all' END,
           'to ' || (SELECT string_agg(CASE WHEN g = 0 THEN 'public' ELSE quote_ident(pg_get_userbyid(g)) END, ', '
                                       ORDER BY CASE WHEN g = 0 THEN 'public' ELSE pg_get_userbyid(g) END)
                     FROM unnest(p.polroles) g),
           'using (' || pg_get_expr(p.polqual, p.polrelid) || ')',
           'with check (' || pg_get_expr(p.polwithcheck, p.polrelid) || ')'),
       r.nspname, r.relname
FROM rel r
JOIN pg_policy p ON p.polrelid = r.oid

UNION ALL
SELECT 'statistics', format('%I.%I', n.nspname, s.stxname),
       concat_ws(' ', pg_get_statisticsobjdef(s.oid),
           CASE WHEN to_jsonb(s) ->> 'stxstattarget' <> '-1' THEN 'target ' || (to_jsonb(s) ->> 'stxstattarget') END),
       r.nspname, r.relname
FROM rel r
JOIN pg_statistic_ext s ON s.stxrelid = r.oid
JOIN pg_namespace n ON n.oid = s.stxnamespace
