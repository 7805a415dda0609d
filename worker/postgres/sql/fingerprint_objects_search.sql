-- Full text search: parsers, templates, dictionaries, configurations.
SELECT 'text search parser' AS kind, format('%I.%I', n.nspname, p.prsname) AS identity,
       concat_ws(' ', p.prsstart::text, p.prstoken::text, p.prsend::text, p.prsheadline::text, p.prslextype::text) AS definition,
       n.nspname::text AS nsp, NULL::text AS rel
FROM pg_ts_parser p
JOIN nsp n ON n.oid = p.prsnamespace
WHERE NOT EXISTS (SELECT FROM member m WHERE m.classid = 'pg_ts_parser'::regclass AND m.objid = p.oid)

UNION ALL
SELECT 'text search template', format('%I.%I', n.nspname, t.tmplname),
       concat_ws(' ', t.tmplinit::text, t.tmpllexize::text), n.nspname, NULL
FROM pg_ts_template t
JOIN nsp n ON n.oid = t.tmplnamespace
WHERE NOT EXISTS (SELECT FROM member m WHERE m.classid = 'pg_ts_template'::regclass AND m.objid = t.oid)

UNION ALL
SELECT 'text search dictionary', format('%I.%I', n.nspname, d.dictname),
       concat_ws(' ', 'template ' || format('%I.%I', tn.nspname, t.tmplname), d.dictinitoption), n.nspname, NULL
FROM pg_ts_dict d
JOIN nsp n ON n.oid = d.dictnamespace
JOIN pg_ts_template t ON t.oid = d.dicttemplate
JOIN pg_namespace tn ON tn.oid = t.tmplnamespace
WHERE NOT EXISTS (SELECT FROM member m WHERE m.classid = 'pg_ts_dict'::regclass AND m.objid = d.oid)

UNION ALL
SELECT 'text search configuration', format('%I.%I', n.nspname, c.cfgname),
       concat_ws(' ', 'parser ' || format('%I.%I', pn.nspname, p.prsname),
           (SELECT string_agg(format('%s: %s', t.alias, m.mapdict::regdictionary), ', '
                              ORDER BY m.maptokentype, m.mapseqno)
            FROM pg_ts_config_map m
            JOIN ts_token_type(c.cfgparser) t ON t.tokid = m.maptokentype
            WHERE m.mapcfg = c.oid)),
       n.nspname, NULL
FROM pg_ts_config c
JOIN nsp n ON n.oid = c.cfgnamespace
JOIN pg_ts_parser p ON p.oid = c.cfgparser
JOIN pg_namespace pn ON pn.oid = p.prsnamespace
WHERE NOT EXISTS (SELECT FROM member m WHERE m.classid = 'pg_ts_config'::regclass AND m.objid = c.oid)
