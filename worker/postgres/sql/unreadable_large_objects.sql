-- How many large objects the connected role may not read. No parameters.
-- has_largeobject_privilege came with 18, and up to 18 pg_read_all_data says nothing about large objects.
SELECT count(*)
  FROM pg_largeobject_metadata m
 WHERE NOT pg_has_role(m.lomowner, 'USAGE')
   AND NOT EXISTS (SELECT FROM aclexplode(m.lomacl) a
                    WHERE a.privilege_type = 'SELECT'
                      AND CASE WHEN a.grantee = 0 THEN true ELSE pg_has_role(a.grantee, 'USAGE') END)
   AND NOT (SELECT r.rolsuper FROM pg_roles r WHERE r.rolname = current_user)
   AND NOT current_setting('lo_compat_privileges')::bool
