-- Owners and grants. A grant is told as its difference from what the object would have anyway: acldefault, or
-- for the system's objects and members of extensions what initdb or the extension gave (pg_init_privs), so
-- that new privileges of a newer server are no difference. `all` is every privilege that the server knows for
-- the kind of object; a star is the grant option. The schema public is told in full: its default has changed.
, fn AS (
    SELECT p.oid, p.proowner, p.proacl, n.nspname, CASE p.prokind WHEN 'p' THEN 'procedure' WHEN 'a' THEN 'aggregate'
                                                              ELSE 'function' END AS kind,
           format('%I.%I(%s)', n.nspname, p.proname, pg_get_function_identity_arguments(p.oid)) AS name
    FROM pg_proc p
    JOIN nsp n ON n.oid = p.pronamespace
    WHERE NOT EXISTS (SELECT FROM member m WHERE m.classid = 'pg_proc'::regclass AND m.objid = p.oid)
      AND NOT EXISTS (SELECT FROM pg_depend d
                      WHERE d.classid = 'pg_proc'::regclass AND d.objid = p.oid AND d.deptype = 'i')
),
thing AS (
    SELECT 'schema' AS kind, quote_ident(nspname) AS identity, nspowner AS owner, nspacl AS acl, 'n' AS acltype,
           nspname = 'public' AS in_full, nspname::text AS nsp, NULL::text AS rel
    FROM nsp WHERE NOT is_member
    UNION ALL
    SELECT kind, name, relowner, relacl, CASE relkind WHEN 'S' THEN 's' ELSE 'r' END, false, home_nsp, home_rel
    FROM rel WHERE relkind <> 'c'
    UNION ALL
    SELECT kind, name, proowner, proacl, 'f', false, nspname, NULL FROM fn
    UNION ALL
    SELECT 'type', format('%I.%I', n.nspname, t.typname), t.typowner, t.typacl, 'T', false, n.nspname, NULL
    FROM pg_type t
    JOIN nsp n ON n.oid = t.typnamespace
    LEFT JOIN pg_class c ON c.oid = t.typrelid
    WHERE t.typelem = 0 AND t.typtype IN ('e', 'd', 'r', 'b', 'c') AND coalesce(c.relkind, 'c') = 'c'
      AND NOT EXISTS (SELECT FROM member m WHERE m.classid = 'pg_type'::regclass AND m.objid = t.oid)
    UNION ALL
    SELECT 'language', quote_ident(l.lanname), l.lanowner, l.lanacl, 'l', false, NULL, NULL
    FROM pg_language l
    WHERE l.lanispl AND NOT EXISTS (SELECT FROM member m WHERE m.classid = 'pg_language'::regclass AND m.objid = l.oid)
    UNION ALL
    SELECT 'foreign data wrapper', quote_ident(f.fdwname), f.fdwowner, f.fdwacl, 'F', false, NULL, NULL
    FROM pg_foreign_data_wrapper f
    WHERE NOT EXISTS (SELECT FROM member m
                      WHERE m.classid = 'pg_foreign_data_wrapper'::regclass AND m.objid = f.oid)
    UNION ALL
    SELECT 'foreign server', quote_ident(s.srvname), s.srvowner, s.srvacl, 'S', false, NULL, NULL
    FROM pg_foreign_server s
    WHERE NOT EXISTS (SELECT FROM member m WHERE m.classid = 'pg_foreign_server'::regclass AND m.objid = s.oid)
),
granted AS (
    SELECT kind, identity, owner, coalesce(acl, acldefault(acltype::"char", owner)) AS acl, acltype,
           CASE WHEN NOT in_full THEN acldefault(acltype::"char", owner) END AS base, nsp, rel
    FROM thing
    WHERE acl IS NOT NULL
    UNION ALL
    SELECT 'column', format('%s.%I', r.name, a.attname), r.relowner, a.attacl, 'c', NULL, r.nspname, r.relname
    FROM rel r
    JOIN pg_attribute a ON a.attrelid = r.oid
    WHERE a.attacl IS NOT NULL AND NOT a.attisdropped
    UNION ALL
    SELECT 'large object', l.oid::text, l.lomowner, l.lomacl, 'L', acldefault('L', l.lomowner), NULL, NULL
    FROM pg_largeobject_metadata l
    WHERE l.lomacl IS NOT NULL
    UNION ALL
    SELECT 'database', '', d.datdba, d.datacl, 'd', acldefault('d', d.datdba), NULL, NULL
    FROM pg_database d
    WHERE d.datname = current_database() AND d.datacl IS NOT NULL
    UNION ALL
    SELECT i.type, i.identity, s.owner, s.acl, s.acltype,
           CASE WHEN s.subid = 0 THEN coalesce(p.initprivs, acldefault(s.acltype::"char", s.owner)) ELSE p.initprivs END, NULL, NULL
    FROM (SELECT 'pg_class'::regclass AS classid, c.oid, 0 AS subid, c.relowner AS owner, c.relacl AS acl,
                 CASE c.relkind WHEN 'S' THEN 's' ELSE 'r' END AS acltype, c.relnamespace AS nspid
          FROM pg_class c
          UNION ALL
          SELECT 'pg_class'::regclass, c.oid, a.attnum, c.relowner, a.attacl, 'c', c.relnamespace
          FROM pg_attribute a JOIN pg_class c ON c.oid = a.attrelid
          UNION ALL
          SELECT 'pg_proc'::regclass, oid, 0, proowner, proacl, 'f', pronamespace FROM pg_proc
          UNION ALL
          SELECT 'pg_type'::regclass, oid, 0, typowner, typacl, 'T', typnamespace FROM pg_type
          UNION ALL
          SELECT 'pg_namespace'::regclass, oid, 0, nspowner, nspacl, 'n', oid FROM pg_namespace
          UNION ALL
          SELECT 'pg_language'::regclass, oid, 0, lanowner, lanacl, 'l', 0 FROM pg_language WHERE lanname <> 'internal'
          UNION ALL
          SELECT 'pg_foreign_data_wrapper'::regclass, oid, 0, fdwowner, fdwacl, 'F', 0 FROM pg_foreign_data_wrapper
         ) s
    LEFT JOIN pg_init_privs p ON p.classoid = s.classid AND p.objoid = s.oid AND p.objsubid = s.subid
    CROSS JOIN pg_identify_object(s.classid, s.oid, s.subid) i
    WHERE s.acl IS NOT NULL AND s.acl IS DISTINCT FROM p.initprivs
      AND (s.nspid = 'pg_catalog'::regnamespace
           OR EXISTS (SELECT FROM member m WHERE m.classid = s.classid AND m.objid = s.oid))
),
entry AS (
    SELECT g.kind, g.identity, g.nsp, g.rel, x.is_base, x.grantee, nullif(x.grantor, g.owner) AS grantor,
           CASE WHEN count(*) = CASE g.acltype WHEN 'c' THEN 4
                                    ELSE (SELECT count(*) FROM aclexplode(acldefault(g.acltype::"char", g.owner)) d
                                          WHERE d.grantee = g.owner) END
                     AND bool_and(x.is_grantable) = bool_or(x.is_grantable)
                THEN 'all' || CASE WHEN bool_or(x.is_grantable) THEN '*' ELSE '' END
                ELSE string_agg(lower(x.privilege_type) || CASE WHEN x.is_grantable THEN '*' ELSE '' END, ', '
                                ORDER BY x.privilege_type) END AS privileges
    FROM granted g
    CROSS JOIN LATERAL (SELECT false AS is_base, e.* FROM aclexplode(g.acl) e
                        UNION ALL
                        SELECT true, e.* FROM aclexplode(g.base) e) x
    GROUP BY g.kind, g.identity, g.nsp, g.rel, g.acltype, g.owner, x.is_base, x.grantee, x.grantor
)
SELECT 'owner' AS kind, t.kind || ' ' || t.identity AS identity, quote_ident(pg_get_userbyid(t.owner)) AS definition,
       t.nsp, t.rel
FROM thing t

UNION ALL
SELECT 'owner', format('%s %I.%s', o.kind, n.nspname, o.name), quote_ident(pg_get_userbyid(o.owner)), n.nspname, NULL
FROM (SELECT 'operator' AS kind, o.oid, oprname || format(' (%s, %s)', format_type(nullif(oprleft, 0), NULL),
                                                          format_type(oprright, NULL)) AS name,
             oprowner AS owner, oprnamespace AS nspid, 'pg_operator'::regclass AS classid
      FROM pg_operator o WHERE oprcode <> 0
      UNION ALL
      SELECT 'operator class using ' || amname, c.oid, quote_ident(opcname), opcowner, opcnamespace, 'pg_opclass'::regclass
      FROM pg_opclass c JOIN pg_am a ON a.oid = c.opcmethod
      UNION ALL
      SELECT 'operator family using ' || amname, f.oid, quote_ident(opfname), opfowner, opfnamespace, 'pg_opfamily'::regclass
      FROM pg_opfamily f JOIN pg_am a ON a.oid = f.opfmethod
      UNION ALL
      SELECT 'collation', oid, collname, collowner, collnamespace, 'pg_collation'::regclass FROM pg_collation
      UNION ALL
      SELECT 'conversion', oid, quote_ident(conname), conowner, connamespace, 'pg_conversion'::regclass FROM pg_conversion
      UNION ALL
      SELECT 'text search dictionary', oid, dictname, dictowner, dictnamespace, 'pg_ts_dict'::regclass FROM pg_ts_dict
      UNION ALL
      SELECT 'text search configuration', oid, quote_ident(cfgname), cfgowner, cfgnamespace, 'pg_ts_config'::regclass
      FROM pg_ts_config
      UNION ALL
      SELECT 'statistics', oid, quote_ident(stxname), stxowner, stxnamespace, 'pg_statistic_ext'::regclass FROM pg_statistic_ext
     ) o
JOIN nsp n ON n.oid = o.nspid
WHERE NOT EXISTS (SELECT FROM member m WHERE m.classid = o.classid AND m.objid = o.oid)

UNION ALL
SELECT 'owner', 'event trigger ' || quote_ident(evtname), quote_ident(pg_get_userbyid(evtowner)), NULL, NULL
FROM pg_event_trigger
WHERE NOT EXISTS (SELECT FROM member m WHERE m.classid = 'pg_event_trigger'::regclass AND m.objid = pg_event_trigger.oid)
UNION ALL
SELECT 'owner', 'publication ' || quote_ident(pubname), quote_ident(pg_get_userbyid(pubowner)), NULL, NULL
FROM pg_publication
UNION ALL
SELECT 'owner', 'subscription ' || quote_ident(subname), quote_ident(pg_get_userbyid(subowner)), NULL, NULL
FROM pg_subscription
WHERE subdbid = (SELECT oid FROM pg_database WHERE datname = current_database())
UNION ALL
SELECT 'owner', format('large objects of %I', pg_get_userbyid(lomowner)),
       format('%s, checksum %s', count(*), sum(hashoidextended(oid, 0))), NULL, NULL
FROM pg_largeobject_metadata
GROUP BY lomowner

UNION ALL
SELECT CASE e.kind WHEN 'database' THEN 'database' ELSE 'grant' END,
       concat_ws(' ', CASE e.kind WHEN 'database' THEN 'grant' ELSE e.kind || ' ' || e.identity END, 'to',
           CASE WHEN e.grantee = 0 THEN 'PUBLIC' ELSE quote_ident(pg_get_userbyid(e.grantee)) END,
           'by ' || quote_ident(pg_get_userbyid(e.grantor))),
       coalesce(max(e.privileges) FILTER (WHERE NOT e.is_base), 'nothing'), e.nsp, e.rel
FROM entry e
GROUP BY e.kind, e.identity, e.nsp, e.rel, e.grantee, e.grantor
HAVING max(e.privileges) FILTER (WHERE NOT e.is_base) IS DISTINCT FROM max(e.privileges) FILTER (WHERE e.is_base)

UNION ALL
SELECT 'default privileges',
       concat_ws(' ', 'of ' || quote_ident(pg_get_userbyid(a.defaclrole)), 'in schema ' || quote_ident(n.nspname),
           'on ' || CASE a.defaclobjtype WHEN 'r' THEN 'tables' WHEN 'S' THEN 'sequences' WHEN 'f' THEN 'functions'
                                         WHEN 'T' THEN 'types' WHEN 'n' THEN 'schemas' ELSE 'large objects' END,
           'to ' || CASE WHEN x.grantee = 0 THEN 'PUBLIC' WHEN x.grantee IS NULL THEN 'nobody'
                         ELSE quote_ident(pg_get_userbyid(x.grantee)) END),
       CASE WHEN x.grantee IS NULL THEN 'nothing'
            WHEN count(*) = (SELECT count(*)
                             FROM aclexplode(acldefault(CASE a.defaclobjtype WHEN 'S' THEN 's' ELSE a.defaclobjtype END,
                                                        a.defaclrole)) d
                             WHERE d.grantee = a.defaclrole)
                 AND bool_and(x.is_grantable) = bool_or(x.is_grantable)
            THEN 'all' || CASE WHEN bool_or(x.is_grantable) THEN '*' ELSE '' END
            ELSE string_agg(lower(x.privilege_type) || CASE WHEN x.is_grantable THEN '*' ELSE '' END, ', '
                            ORDER BY x.privilege_type) END,
       n.nspname, NULL
FROM pg_default_acl a
LEFT JOIN pg_namespace n ON n.oid = a.defaclnamespace
LEFT JOIN aclexplode(a.defaclacl) x ON true
GROUP BY a.oid, a.defaclrole, a.defaclobjtype, n.nspname, x.grantee
