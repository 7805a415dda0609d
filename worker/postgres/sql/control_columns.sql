-- The columns of a table that may be changed, those that no unique index has first. table: its qualified name.
-- category: pg_type.typcategory. enum: another label than the first, for an enum of more than one.
SELECT a.attname AS name, t.typcategory AS category, pg_catalog.format_type(a.atttypid, a.atttypmod) AS type,
       a.attnotnull AS required,
       EXISTS (SELECT FROM pg_catalog.pg_index i
               WHERE i.indrelid = a.attrelid AND i.indisunique AND a.attnum = ANY (i.indkey)) AS in_unique
FROM pg_catalog.pg_attribute a
JOIN pg_catalog.pg_type t ON t.oid = a.atttypid
WHERE a.attrelid = %(table)s::pg_catalog.regclass AND a.attnum > 0 AND NOT a.attisdropped
  AND a.attgenerated = '' AND a.attidentity <> 'a'
ORDER BY in_unique, a.attnum
