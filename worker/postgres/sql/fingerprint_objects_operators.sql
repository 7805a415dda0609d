-- Operators, operator classes and families, casts, collations, conversions, transforms.
SELECT 'operator' AS kind, format('%I.%s (%s, %s)', n.nspname, o.oprname, format_type(nullif(o.oprleft, 0), NULL),
                                  format_type(o.oprright, NULL)) AS identity,
       concat_ws(' ', 'function ' || o.oprcode::regprocedure::text,
           'commutator ' || nullif(o.oprcom, 0)::regoperator::text, 'negator ' || nullif(o.oprnegate, 0)::regoperator::text,
           'restrict ' || nullif(o.oprrest::oid, 0)::regproc::text, 'join ' || nullif(o.oprjoin::oid, 0)::regproc::text,
           CASE WHEN o.oprcanhash THEN 'hashes' END, CASE WHEN o.oprcanmerge THEN 'merges' END) AS definition,
       n.nspname::text AS nsp, NULL::text AS rel
FROM pg_operator o
JOIN nsp n ON n.oid = o.oprnamespace
WHERE o.oprcode <> 0 AND NOT EXISTS (SELECT FROM member m WHERE m.classid = 'pg_operator'::regclass AND m.objid = o.oid)

UNION ALL
SELECT 'operator class', format('%I.%I using %I', n.nspname, c.opcname, a.amname),
       concat_ws(' ', CASE WHEN c.opcdefault THEN 'default' END, 'for type ' || format_type(c.opcintype, NULL),
           'family ' || format('%I.%I', fn.nspname, f.opfname), 'storage ' || format_type(nullif(c.opckeytype, 0), NULL)),
       n.nspname, NULL
FROM pg_opclass c
JOIN nsp n ON n.oid = c.opcnamespace
JOIN pg_am a ON a.oid = c.opcmethod
JOIN pg_opfamily f ON f.oid = c.opcfamily
JOIN pg_namespace fn ON fn.oid = f.opfnamespace
WHERE NOT EXISTS (SELECT FROM member m WHERE m.classid = 'pg_opclass'::regclass AND m.objid = c.oid)

UNION ALL
SELECT 'operator family', format('%I.%I using %I', n.nspname, f.opfname, a.amname),
       concat_ws(', ',
           (SELECT string_agg(format('operator %s %s%s', o.amopstrategy, o.amopopr::regoperator,
                                     CASE o.amoppurpose WHEN 'o' THEN ' for order by' ELSE '' END), ', '
                              ORDER BY o.amopstrategy, o.amopopr::regoperator::text)
            FROM pg_amop o WHERE o.amopfamily = f.oid),
           (SELECT string_agg(format('function %s (%s, %s) %s', p.amprocnum, format_type(p.amproclefttype, NULL),
                                     format_type(p.amprocrighttype, NULL), p.amproc::oid::regprocedure), ', '
                              ORDER BY p.amprocnum, p.amproc::oid::regprocedure::text)
            FROM pg_amproc p WHERE p.amprocfamily = f.oid)),
       n.nspname, NULL
FROM pg_opfamily f
JOIN nsp n ON n.oid = f.opfnamespace
JOIN pg_am a ON a.oid = f.opfmethod
WHERE NOT EXISTS (SELECT FROM member m WHERE m.classid = 'pg_opfamily'::regclass AND m.objid = f.oid)

UNION ALL
-- 16384 is FirstNormalObjectId: what lies below came with initdb
SELECT 'cast', format('(%s as %s)', format_type(c.castsource, NULL), format_type(c.casttarget, NULL)),
       concat_ws(' ', 'method ' || c.castmethod::text, 'context ' || c.castcontext::text,
           'function ' || nullif(c.castfunc, 0)::regprocedure::text),
       NULL, NULL
FROM pg_cast c
WHERE c.oid >= 16384 AND NOT EXISTS (SELECT FROM member m WHERE m.classid = 'pg_cast'::regclass AND m.objid = c.oid)

UNION ALL
-- the locale of an ICU collation: collcollate until 14, colliculocale in 15 and 16, colllocale since
SELECT 'collation', format('%I.%I', n.nspname, c.collname),
       concat_ws(' ', 'provider ' || c.collprovider::text,
           'locale ' || coalesce(to_jsonb(c) ->> 'colllocale', to_jsonb(c) ->> 'colliculocale', c.collcollate),
           CASE WHEN c.collprovider <> 'i' THEN 'ctype ' || c.collctype END,
           CASE WHEN NOT c.collisdeterministic THEN 'nondeterministic' END,
           'rules ' || quote_literal(to_jsonb(c) ->> 'collicurules')),
       n.nspname, NULL
FROM pg_collation c
JOIN nsp n ON n.oid = c.collnamespace
WHERE NOT EXISTS (SELECT FROM member m WHERE m.classid = 'pg_collation'::regclass AND m.objid = c.oid)

UNION ALL
SELECT 'conversion', format('%I.%I', n.nspname, c.conname),
       concat_ws(' ', pg_encoding_to_char(c.conforencoding), 'to', pg_encoding_to_char(c.contoencoding),
           'function ' || c.conproc::regproc::text, CASE WHEN c.condefault THEN 'default' END),
       n.nspname, NULL
FROM pg_conversion c
JOIN nsp n ON n.oid = c.connamespace
WHERE NOT EXISTS (SELECT FROM member m WHERE m.classid = 'pg_conversion'::regclass AND m.objid = c.oid)

UNION ALL
SELECT 'transform', format('for %s language %I', format_type(t.trftype, NULL), l.lanname),
       concat_ws(' ', 'from ' || nullif(t.trffromsql::oid, 0)::regprocedure::text,
           'to ' || nullif(t.trftosql::oid, 0)::regprocedure::text),
       NULL, NULL
FROM pg_transform t
JOIN pg_language l ON l.oid = t.trflang
WHERE NOT EXISTS (SELECT FROM member m WHERE m.classid = 'pg_transform'::regclass AND m.objid = t.oid)
