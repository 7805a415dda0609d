-- Publications of PostgreSQL 14: whole tables only.
SELECT 'publication' AS kind, quote_ident(p.pubname) AS identity,
       concat_ws(' ', CASE WHEN p.puballtables THEN 'for all tables' END, CASE WHEN p.pubinsert THEN 'insert' END,
           CASE WHEN p.pubupdate THEN 'update' END, CASE WHEN p.pubdelete THEN 'delete' END,
           CASE WHEN p.pubtruncate THEN 'truncate' END, CASE WHEN p.pubviaroot THEN 'via root' END) AS definition,
       NULL::text AS nsp, NULL::text AS rel
FROM pg_publication p

UNION ALL
SELECT 'publication member', format('%I: %s', p.pubname, r.name), '', r.nspname, r.relname
FROM pg_publication_rel m
JOIN pg_publication p ON p.oid = m.prpubid
JOIN rel r ON r.oid = m.prrelid
