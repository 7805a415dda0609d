-- Functions, procedures, aggregates. Composed from pg_proc, because pg_get_functiondef looks past the snapshot.
, fn AS (
    SELECT p.*, n.nspname, l.lanname,
           format('%I.%I(%s)', n.nspname, p.proname, pg_get_function_identity_arguments(p.oid)) AS name
    FROM pg_proc p
    JOIN nsp n ON n.oid = p.pronamespace
    JOIN pg_language l ON l.oid = p.prolang
    WHERE NOT EXISTS (SELECT FROM member m WHERE m.classid = 'pg_proc'::regclass AND m.objid = p.oid)
      -- the constructors of ranges, which come with the type
      AND NOT EXISTS (SELECT FROM pg_depend d
                      WHERE d.classid = 'pg_proc'::regclass AND d.objid = p.oid AND d.deptype = 'i')
)
SELECT CASE f.prokind WHEN 'p' THEN 'procedure' ELSE 'function' END AS kind, f.name AS identity,
       concat_ws(' ',
           '(' || pg_get_function_arguments(f.oid) || ')',
           'returns ' || pg_get_function_result(f.oid),
           'language ' || quote_ident(f.lanname),
           CASE WHEN f.prokind = 'w' THEN 'window' END,
           CASE f.provolatile WHEN 'i' THEN 'immutable' WHEN 's' THEN 'stable' END,
           CASE WHEN f.proisstrict THEN 'strict' END,
           CASE WHEN f.prosecdef THEN 'security definer' END,
           CASE WHEN f.proleakproof THEN 'leakproof' END,
           CASE f.proparallel WHEN 's' THEN 'parallel safe' WHEN 'r' THEN 'parallel restricted' END,
           'cost ' || f.procost,
           CASE WHEN f.prorows <> 0 THEN 'rows ' || f.prorows END,
           CASE WHEN f.prosupport <> 0 THEN 'support ' || f.prosupport::regproc::text END,
           'transform ' || (SELECT string_agg(format_type(t, NULL), ', ') FROM unnest(f.protrftypes) t),
           'set ' || array_to_string(f.proconfig, ', '),
           'from ' || quote_literal(f.probin),
           'as ' || coalesce(pg_get_function_sqlbody(f.oid), f.prosrc)) AS definition,
       f.nspname::text AS nsp, NULL::text AS rel
FROM fn f
WHERE f.prokind <> 'a'

UNION ALL
SELECT 'aggregate', f.name,
       concat_ws(' ', 'kind ' || a.aggkind::text, 'direct ' || a.aggnumdirectargs, 'sfunc ' || a.aggtransfn::regprocedure::text,
           'stype ' || format_type(a.aggtranstype, NULL), 'space ' || a.aggtransspace,
           'final ' || nullif(a.aggfinalfn::oid, 0)::regprocedure::text, a.aggfinalextra, a.aggfinalmodify,
           'combine ' || nullif(a.aggcombinefn::oid, 0)::regprocedure::text,
           'serial ' || nullif(a.aggserialfn::oid, 0)::regprocedure::text,
           'deserial ' || nullif(a.aggdeserialfn::oid, 0)::regprocedure::text,
           'initial ' || quote_literal(a.agginitval),
           'moving ' || nullif(a.aggmtransfn::oid, 0)::regprocedure::text,
           nullif(a.aggminvtransfn::oid, 0)::regprocedure::text, format_type(nullif(a.aggmtranstype, 0), NULL),
           nullif(a.aggmfinalfn::oid, 0)::regprocedure::text, a.aggmfinalextra, a.aggmfinalmodify,
           quote_literal(a.aggminitval), 'sort ' || nullif(a.aggsortop, 0)::regoperator::text,
           CASE f.proparallel WHEN 's' THEN 'parallel safe' WHEN 'r' THEN 'parallel restricted' END),
       f.nspname, NULL
FROM fn f
JOIN pg_aggregate a ON a.aggfnoid = f.oid
