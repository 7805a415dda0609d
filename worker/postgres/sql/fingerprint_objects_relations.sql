-- Schemas, tables, views, materialised views, foreign tables, composite types.
SELECT 'schema' AS kind, quote_ident(nspname) AS identity, '' AS definition, nspname::text AS nsp, NULL::text AS rel
FROM nsp
WHERE NOT is_member

UNION ALL
SELECT r.kind, r.name,
       concat_ws(' ',
           CASE r.relpersistence WHEN 'u' THEN 'unlogged' END,
           CASE WHEN a.amname <> 'heap' THEN 'using ' || quote_ident(a.amname) END,
           CASE WHEN r.reloftype <> 0 THEN 'of ' || format_type(r.reloftype, NULL) END,
           CASE WHEN r.relispartition THEN pg_get_expr(r.relpartbound, r.oid) END,
           'inherits ' || (SELECT string_agg(i.inhparent::regclass::text
                                             || CASE WHEN i.inhdetachpending THEN ' (detach pending)' ELSE '' END,
                                             ', ' ORDER BY i.inhseqno)
                           FROM pg_inherits i WHERE i.inhrelid = r.oid),
           CASE WHEN r.relkind = 'p' THEN 'partition by ' || pg_get_partkeydef(r.oid) END,
           'with (' || (SELECT string_agg(o, ', ' ORDER BY o) FROM unnest(r.reloptions) o) || ')',
           'toast (' || (SELECT string_agg(o, ', ' ORDER BY o) FROM unnest(t.reloptions) o) || ')',
           CASE WHEN r.relrowsecurity THEN 'row security enabled' END,
           CASE WHEN r.relforcerowsecurity THEN 'row security forced' END,
           CASE WHEN r.relkind IN ('r', 'p', 'm')
                THEN CASE r.relreplident WHEN 'n' THEN 'replica identity nothing'
                                         WHEN 'f' THEN 'replica identity full' END END,
           'server ' || quote_ident(s.srvname),
           'options ' || array_to_string(f.ftoptions, ', '),
           CASE WHEN r.relkind = 'm' AND NOT r.relispopulated THEN 'with no data' END,
           CASE WHEN r.relkind IN ('v', 'm') THEN 'as ' || pg_get_viewdef(r.oid) END),
       r.nspname, r.relname
FROM rel r
LEFT JOIN pg_am a ON a.oid = r.relam
LEFT JOIN pg_class t ON t.oid = r.reltoastrelid
LEFT JOIN pg_foreign_table f ON f.ftrelid = r.oid
LEFT JOIN pg_foreign_server s ON s.oid = f.ftserver
WHERE r.relkind <> 'S'

UNION ALL
SELECT 'tablespace', r.kind || ' ' || r.name, quote_ident(s.spcname), r.nspname, r.relname
FROM rel r
JOIN pg_tablespace s ON s.oid = r.reltablespace

UNION ALL
SELECT 'tablespace', 'index ' || format('%I.%I', r.nspname, c.relname), quote_ident(s.spcname), r.nspname, r.relname
FROM rel r
JOIN pg_index i ON i.indrelid = r.oid
JOIN pg_class c ON c.oid = i.indexrelid
JOIN pg_tablespace s ON s.oid = c.reltablespace
