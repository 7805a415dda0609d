-- End the sessions of this role and database that go by a name. application_name: that name.
SELECT pg_terminate_backend(a.pid)
  FROM pg_stat_get_activity(NULL) a
 WHERE a.application_name = %(application_name)s
   AND a.usesysid = (SELECT r.oid FROM pg_roles r WHERE r.rolname = current_user)
   AND a.pid <> pg_backend_pid()
