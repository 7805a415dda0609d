-- Enums, domains, ranges, base types; composite types are relations.
, typ AS (
    SELECT t.*, n.nspname, format('%I.%I', n.nspname, t.typname) AS name
    FROM pg_type t
    JOIN nsp n ON n.oid = t.typnamespace
    WHERE t.typtype IN ('e', 'd', 'r', 'b') AND t.typelem = 0
      AND NOT EXISTS (SELECT FROM member m WHERE m.classid = 'pg_type'::regclass AND m.objid = t.oid)
)
SELECT 'enum' AS kind, t.name AS identity,
       (SELECT coalesce(string_agg(quote_literal(e.enumlabel), ', ' ORDER BY e.enumsortorder), '')
        FROM pg_enum e WHERE e.enumtypid = t.oid) AS definition,
       t.nspname::text AS nsp, NULL::text AS rel
FROM typ t
WHERE t.typtype = 'e'

UNION ALL
SELECT 'domain', t.name,
       concat_ws(' ', format_type(t.typbasetype, t.typtypmod),
           CASE WHEN t.typcollation <> b.typcollation
                THEN 'collate ' || (SELECT format('%I.%I', n.nspname, l.collname)
                                    FROM pg_collation l JOIN pg_namespace n ON n.oid = l.collnamespace
                                    WHERE l.oid = t.typcollation) END,
           CASE WHEN t.typnotnull THEN 'not null' END,
           'default ' || coalesce(pg_get_expr(t.typdefaultbin, 0), t.typdefault)),
       t.nspname, NULL
FROM typ t
JOIN pg_type b ON b.oid = t.typbasetype
WHERE t.typtype = 'd'

UNION ALL
SELECT CASE c.contype WHEN 'n' THEN 'not null constraint' ELSE 'check constraint' END,
       format('%I on domain %s', c.conname, t.name),
       concat_ws(' ', pg_get_constraintdef(c.oid), CASE WHEN NOT c.convalidated THEN '(not validated)' END),
       t.nspname, NULL
FROM typ t
JOIN pg_constraint c ON c.contypid = t.oid

UNION ALL
SELECT 'range', t.name,
       concat_ws(' ', format_type(r.rngsubtype, NULL),
           'opclass ' || format('%I.%I', on_.nspname, o.opcname),
           CASE WHEN r.rngcollation <> s.typcollation
                THEN 'collate ' || (SELECT format('%I.%I', n.nspname, l.collname)
                                    FROM pg_collation l JOIN pg_namespace n ON n.oid = l.collnamespace
                                    WHERE l.oid = r.rngcollation) END,
           CASE WHEN r.rngcanonical <> 0 THEN 'canonical ' || r.rngcanonical::regproc::text END,
           CASE WHEN r.rngsubdiff <> 0 THEN 'subtype_diff ' || r.rngsubdiff::regproc::text END,
           'multirange ' || format_type(r.rngmultitypid, NULL)),
       t.nspname, NULL
FROM typ t
JOIN pg_range r ON r.rngtypid = t.oid
JOIN pg_type s ON s.oid = r.rngsubtype
JOIN pg_opclass o ON o.oid = r.rngsubopc
JOIN pg_namespace on_ ON on_.oid = o.opcnamespace
WHERE t.typtype = 'r'

UNION ALL
SELECT 'base type', t.name,
       concat_ws(' ', t.typinput::text, t.typoutput::text, t.typreceive::text, t.typsend::text, t.typmodin::text,
           t.typmodout::text, t.typanalyze::text, to_jsonb(t) ->> 'typsubscript',
           'length ' || t.typlen, 'by value ' || t.typbyval, 'category ' || t.typcategory::text,
           'preferred ' || t.typispreferred, 'align ' || t.typalign::text, 'storage ' || t.typstorage::text,
           'delimiter ' || t.typdelim::text, 'default ' || t.typdefault, 'collatable ' || (t.typcollation <> 0)),
       t.nspname, NULL
FROM typ t
WHERE t.typtype = 'b' AND t.typisdefined
