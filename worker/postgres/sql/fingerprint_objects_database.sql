-- What belongs to no schema: extensions, languages, access methods, foreign servers, event triggers,
-- subscriptions, and the properties of the database itself. Never here: what can hold a password (the options of
-- user mappings, the connection of a subscription).
SELECT 'extension' AS kind, quote_ident(e.extname) AS identity,
       format('%s in schema %I', e.extversion, n.nspname) AS definition, NULL::text AS nsp, NULL::text AS rel
FROM pg_extension e
JOIN pg_namespace n ON n.oid = e.extnamespace

UNION ALL
SELECT 'depends on extension', i.type || ' ' || i.identity, quote_ident(e.extname), NULL, NULL
FROM pg_depend d
JOIN pg_extension e ON d.refclassid = 'pg_extension'::regclass AND e.oid = d.refobjid
CROSS JOIN pg_identify_object(d.classid, d.objid, d.objsubid) i
WHERE d.deptype = 'x'

UNION ALL
SELECT 'language', quote_ident(l.lanname),
       concat_ws(' ', CASE WHEN l.lanpltrusted THEN 'trusted' END, 'handler ' || nullif(l.lanplcallfoid, 0)::regproc::text,
           'inline ' || nullif(l.laninline, 0)::regproc::text, 'validator ' || nullif(l.lanvalidator, 0)::regproc::text),
       NULL, NULL
FROM pg_language l
WHERE l.lanispl AND NOT EXISTS (SELECT FROM member m WHERE m.classid = 'pg_language'::regclass AND m.objid = l.oid)

UNION ALL
SELECT 'access method', quote_ident(a.amname), format('type %s handler %s', a.amtype, a.amhandler), NULL, NULL
FROM pg_am a
WHERE a.oid >= 16384 AND NOT EXISTS (SELECT FROM member m WHERE m.classid = 'pg_am'::regclass AND m.objid = a.oid)

UNION ALL
SELECT 'foreign data wrapper', quote_ident(w.fdwname),
       concat_ws(' ', 'handler ' || nullif(w.fdwhandler, 0)::regproc::text,
           'validator ' || nullif(w.fdwvalidator, 0)::regproc::text, 'options ' || array_to_string(w.fdwoptions, ', ')),
       NULL, NULL
FROM pg_foreign_data_wrapper w
WHERE NOT EXISTS (SELECT FROM member m WHERE m.classid = 'pg_foreign_data_wrapper'::regclass AND m.objid = w.oid)

UNION ALL
SELECT 'foreign server', quote_ident(s.srvname),
       concat_ws(' ', 'wrapper ' || quote_ident(w.fdwname), 'type ' || s.srvtype, 'version ' || s.srvversion,
           'options ' || array_to_string(s.srvoptions, ', ')),
       NULL, NULL
FROM pg_foreign_server s
JOIN pg_foreign_data_wrapper w ON w.oid = s.srvfdw
WHERE NOT EXISTS (SELECT FROM member m WHERE m.classid = 'pg_foreign_server'::regclass AND m.objid = s.oid)

UNION ALL
SELECT 'user mapping', format('for %I server %I', u.usename, u.srvname), '', NULL, NULL
FROM pg_user_mappings u

UNION ALL
SELECT 'event trigger', quote_ident(t.evtname),
       concat_ws(' ', 'on ' || t.evtevent, 'tags ' || array_to_string(t.evttags, ', '),
           'function ' || t.evtfoid::regprocedure::text,
           CASE t.evtenabled WHEN 'D' THEN '(disabled)' WHEN 'R' THEN '(enabled on replicas)'
                             WHEN 'A' THEN '(enabled always)' END),
       NULL, NULL
FROM pg_event_trigger t
WHERE NOT EXISTS (SELECT FROM member m WHERE m.classid = 'pg_event_trigger'::regclass AND m.objid = t.oid)

UNION ALL
SELECT 'subscription', quote_ident(s.subname),
       concat_ws(' ', 'publications ' || array_to_string(s.subpublications, ', '), 'slot ' || quote_ident(s.subslotname)),
       NULL, NULL
FROM pg_subscription s
WHERE s.subdbid = (SELECT oid FROM pg_database WHERE datname = current_database())

UNION ALL
SELECT 'database', p.name, p.value, NULL, NULL
FROM pg_database d
CROSS JOIN LATERAL (VALUES
    ('encoding', pg_encoding_to_char(d.encoding)),
    ('collate', d.datcollate),
    ('ctype', d.datctype),
    ('locale provider', coalesce(to_jsonb(d) ->> 'datlocprovider', 'c')),
    ('locale', coalesce(to_jsonb(d) ->> 'datlocale', to_jsonb(d) ->> 'daticulocale')),
    ('connection limit', nullif(d.datconnlimit, -1)::text),
    ('owner', quote_ident(pg_get_userbyid(d.datdba))),
    ('comment', shobj_description(d.oid, 'pg_database'))) p (name, value)
WHERE d.datname = current_database() AND p.value IS NOT NULL

UNION ALL
SELECT 'database', concat_ws(' ', 'settings', 'of role ' || quote_ident(r.rolname)),
       array_to_string(ARRAY(SELECT unnest(s.setconfig) ORDER BY 1), ', '), NULL, NULL
FROM pg_db_role_setting s
LEFT JOIN pg_roles r ON r.oid = s.setrole
WHERE s.setdatabase = (SELECT oid FROM pg_database WHERE datname = current_database())
