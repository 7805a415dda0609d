-- Comments and security labels on what belongs to the user.
, remark AS (
    SELECT 'comment' AS kind, classoid, objoid, objsubid, description AS text, '' AS provider FROM pg_description
    UNION ALL
    SELECT 'security label', classoid, objoid, objsubid, label, ' by ' || provider FROM pg_seclabel
)
SELECT r.kind, i.type || ' ' || i.identity || r.provider AS identity, r.text AS definition,
       coalesce(h.home_nsp, i.schema, CASE WHEN i.type = 'schema' THEN i.name WHEN cardinality(a.object_names) > 2
                                           THEN a.object_names[1] END) AS nsp,
       coalesce(h.home_rel, CASE WHEN cardinality(a.object_names) > 2 THEN a.object_names[2] END) AS rel
FROM remark r
CROSS JOIN pg_identify_object(r.classoid, r.objoid, r.objsubid) i
CROSS JOIN pg_identify_object_as_address(r.classoid, r.objoid, r.objsubid) a
LEFT JOIN pg_index x ON r.classoid = 'pg_class'::regclass AND x.indexrelid = r.objoid
LEFT JOIN rel h ON r.classoid = 'pg_class'::regclass AND h.oid = coalesce(x.indrelid, r.objoid)
-- 16384 is FirstNormalObjectId, which large objects do not heed; the schema public keeps its comment from initdb
-- unless somebody changes it
WHERE (r.objoid >= 16384 OR r.classoid = 'pg_largeobject'::regclass OR r.classoid = 'pg_namespace'::regclass AND i.identity = 'public')
  AND NOT EXISTS (SELECT FROM member m WHERE m.classid = r.classoid AND m.objid = r.objoid)
