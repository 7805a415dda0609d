-- Validated foreign keys; those of partitions are their parent's. *_only: whether the rows of the table alone are
-- meant (a partitioned table has none of its own). operators: (schema, name) of each column's equality.
-- Left out: NOT ENFORCED ones and those with PERIOD (18), which plain equality does not tell.
SELECT c.conname AS name, cn.nspname AS child_schema, cc.relname AS child, pn.nspname AS parent_schema,
       pc.relname AS parent, cc.relkind <> 'p' AS child_only, pc.relkind <> 'p' AS parent_only,
       k.columns, k.parent_columns, k.operators
FROM pg_constraint c
JOIN pg_class cc ON cc.oid = c.conrelid
JOIN pg_namespace cn ON cn.oid = cc.relnamespace
JOIN pg_class pc ON pc.oid = c.confrelid
JOIN pg_namespace pn ON pn.oid = pc.relnamespace
CROSS JOIN LATERAL (
    SELECT array_agg(ca.attname::text ORDER BY x.position) AS columns,
           array_agg(pa.attname::text ORDER BY x.position) AS parent_columns,
           array_agg(ARRAY[opn.nspname::text, o.oprname::text] ORDER BY x.position) AS operators
    FROM unnest(c.conkey, c.confkey, c.conpfeqop) WITH ORDINALITY x (child, parent, operator, position)
    JOIN pg_attribute ca ON ca.attrelid = c.conrelid AND ca.attnum = x.child
    JOIN pg_attribute pa ON pa.attrelid = c.confrelid AND pa.attnum = x.parent
    JOIN pg_operator o ON o.oid = x.operator
    JOIN pg_namespace opn ON opn.oid = o.oprnamespace
) k
WHERE c.contype = 'f' AND c.convalidated AND c.conparentid = 0
  AND coalesce((to_jsonb(c) ->> 'conenforced')::boolean, true)
  AND NOT coalesce((to_jsonb(c) ->> 'conperiod')::boolean, false)
ORDER BY cn.nspname, cc.relname, c.conname
