-- Publications, with what each one carries. Row filters, column lists and whole schemas exist since 15.
SELECT 'publication' AS kind, quote_ident(p.pubname) AS identity,
       concat_ws(' ', CASE WHEN p.puballtables THEN 'for all tables' END, CASE WHEN p.pubinsert THEN 'insert' END,
           CASE WHEN p.pubupdate THEN 'update' END, CASE WHEN p.pubdelete THEN 'delete' END,
           CASE WHEN p.pubtruncate THEN 'truncate' END, CASE WHEN p.pubviaroot THEN 'via root' END,
           'generated columns ' || nullif(to_jsonb(p) ->> 'pubgencols', 'n')) AS definition,
       NULL::text AS nsp, NULL::text AS rel
FROM pg_publication p

UNION ALL
SELECT 'publication member', format('%I: %s', p.pubname, r.name),
       concat_ws(' ',
           'columns ' || (SELECT string_agg(quote_ident(a.attname), ', ' ORDER BY a.attname)
                          FROM pg_attribute a WHERE a.attrelid = r.oid AND a.attnum = ANY (m.prattrs)),
           'where ' || pg_get_expr(m.prqual, m.prrelid)),
       r.nspname, r.relname
FROM pg_publication_rel m
JOIN pg_publication p ON p.oid = m.prpubid
JOIN rel r ON r.oid = m.prrelid

UNION ALL
SELECT 'publication member', format('%I: schema %I', p.pubname, n.nspname), '', n.nspname, NULL
FROM pg_publication_namespace m
JOIN pg_publication p ON p.oid = m.pnpubid
JOIN pg_namespace n ON n.oid = m.pnnspid
