-- Relations that belong to an extension: only a part of their rows may be in a dump.
SELECT objid FROM pg_depend WHERE classid = 'pg_class'::regclass AND deptype = 'e'
