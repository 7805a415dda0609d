-- What sequences are set to do; their values are read apart, because they do not follow the snapshot.
SELECT 'sequence' AS kind, r.name AS identity,
       concat_ws(' ', CASE WHEN r.relpersistence = 'u' THEN 'unlogged' END, 'as ' || format_type(s.seqtypid, NULL),
           'start ' || s.seqstart, 'increment ' || s.seqincrement, 'minimum ' || s.seqmin, 'maximum ' || s.seqmax,
           'cache ' || s.seqcache, CASE WHEN s.seqcycle THEN 'cycle' END,
           CASE d.deptype WHEN 'i' THEN 'identity of ' ELSE 'owned by ' END || o.name || '.' || quote_ident(a.attname)) AS definition,
       r.home_nsp::text AS nsp, r.home_rel::text AS rel
FROM rel r
JOIN pg_sequence s ON s.seqrelid = r.oid
LEFT JOIN pg_depend d ON d.classid = 'pg_class'::regclass AND d.objid = r.oid AND d.deptype IN ('a', 'i')
                     AND d.refclassid = 'pg_class'::regclass AND d.refobjsubid <> 0
LEFT JOIN rel o ON o.oid = d.refobjid
LEFT JOIN pg_attribute a ON a.attrelid = d.refobjid AND a.attnum = d.refobjsubid
