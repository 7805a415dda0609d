-- Every object kind that a dump can carry and that each supported major knows (without contrib, ICU, libxml).
-- Parameters: {role}, {quoted}: two roles that the test made; {db}: this database.
CREATE SCHEMA "Odd Schema";
CREATE SCHEMA tools AUTHORIZATION {role};
CREATE TYPE mood AS ENUM ('sad', 'so-so', 'glücklich ✓', 'it''s');
CREATE TYPE pair AS (a int, b text);
CREATE TYPE span AS RANGE (subtype = float8, subtype_diff = float8mi);
CREATE DOMAIN email AS text CHECK (value ~ '@') DEFAULT 'a@b';
CREATE DOMAIN positive AS numeric(12, 4) NOT NULL CONSTRAINT above_zero CHECK (value > 0);
CREATE COLLATION "by byte" FROM "C";
CREATE SEQUENCE counter START 1000 INCREMENT 7 MAXVALUE 100000 CYCLE;
SELECT nextval('counter'), nextval('counter');
CREATE TABLE people (
  id bigint GENERATED ALWAYS AS IDENTITY (START 50) PRIMARY KEY,
  email email NOT NULL UNIQUE,
  name text COLLATE "by byte" NOT NULL,
  feels mood DEFAULT 'so-so',
  twice int GENERATED ALWAYS AS (id::int * 2) STORED,
  born date, spent positive DEFAULT 1, tags text[] DEFAULT '{{}}', duo pair, reach span
);
INSERT INTO people (email, name, feels, born, tags, duo, reach)
  SELECT 'u' || i || '@example.com', 'Name ' || i || E' "q", tab\t nl\n back\\', (ARRAY['sad', 'it''s']::mood[])[1 + i % 2],
         '2024-02-29'::date + i, ARRAY['a,b', 'NULL', '"', NULL], ROW(i, E'x\ny')::pair, span(i, i + 0.5)
  FROM generate_series(1, 200) i;
INSERT INTO people (email, name, born) VALUES ('inf@x', 'infinite', 'infinity'), ('bc@x', 'old', '0044-03-15 BC');
CREATE TABLE "Odd Schema"."Ünïcode ""table"" ✓" ("the ""key""" int PRIMARY KEY, "spalte mit leerzeichen" text DEFAULT E'\\.\n');
INSERT INTO "Odd Schema"."Ünïcode ""table"" ✓" VALUES (1, NULL), (2, ''), (3, E'\\N'), (4, E'\\.');
CREATE TABLE nothing ();
INSERT INTO nothing DEFAULT VALUES;
INSERT INTO nothing DEFAULT VALUES;
CREATE TABLE empty_table (id int PRIMARY KEY, at timestamptz DEFAULT now());
CREATE TABLE odd_values (id int, raw bytea, doc jsonb, text_doc json, num numeric, f float8, bits bit varying, net inet);
INSERT INTO odd_values VALUES
  (1, '\x00ff5c0a', '{{"a": [1, 2.50, null, "\u00e9\"\\"], "": {{}}}}', '{{"b" :  1, "b": 2}}', 'NaN', '-0', B'1010', '::1'),
  (2, '', 'null', '[]', 12345678901234567890.000100, 'Infinity', B'', '10.0.0.0/8'),
  (3, NULL, NULL, NULL, 0.1, 1e-300, NULL, NULL);
CREATE TABLE chicken (id int PRIMARY KEY, egg int);
CREATE TABLE egg (id int PRIMARY KEY, chicken int REFERENCES chicken DEFERRABLE INITIALLY DEFERRED);
ALTER TABLE chicken ADD CONSTRAINT from_egg FOREIGN KEY (egg) REFERENCES egg DEFERRABLE;
INSERT INTO chicken VALUES (1, NULL);
INSERT INTO egg VALUES (1, 1);
UPDATE chicken SET egg = 1;
CREATE TABLE tree (id int PRIMARY KEY, parent int REFERENCES tree ON DELETE CASCADE, CONSTRAINT not_self CHECK (id <> parent));
INSERT INTO tree SELECT i, nullif(i / 2, 0) FROM generate_series(1, 50) i;
ALTER TABLE tree ADD CONSTRAINT unproven CHECK (id < 10) NOT VALID;
CREATE TABLE events (id bigserial, at timestamptz NOT NULL, kind text NOT NULL, PRIMARY KEY (id, at, kind)) PARTITION BY RANGE (at);
CREATE TABLE events_2024 PARTITION OF events FOR VALUES FROM ('2024-01-01') TO ('2025-01-01') PARTITION BY LIST (kind);
CREATE TABLE events_2024_a PARTITION OF events_2024 FOR VALUES IN ('a');
CREATE TABLE events_2024_rest PARTITION OF events_2024 DEFAULT;
CREATE TABLE events_rest PARTITION OF events DEFAULT;
INSERT INTO events (at, kind) SELECT '2024-06-01'::timestamptz + i * interval '3 days', (ARRAY['a', 'b', 'c'])[1 + i % 3] FROM generate_series(1, 300) i;
CREATE INDEX events_kind ON events (kind) INCLUDE (id);
CREATE TABLE hashed (id int) PARTITION BY HASH (id);
CREATE TABLE hashed_0 PARTITION OF hashed FOR VALUES WITH (MODULUS 2, REMAINDER 0);
CREATE TABLE hashed_1 PARTITION OF hashed FOR VALUES WITH (MODULUS 2, REMAINDER 1);
INSERT INTO hashed SELECT generate_series(1, 100);
CREATE TABLE parent_table (a int, b text);
CREATE TABLE child_table (c int) INHERITS (parent_table);
INSERT INTO parent_table VALUES (1, 'p');
INSERT INTO child_table VALUES (2, 'c', 3);
CREATE UNLOGGED TABLE cache (k text PRIMARY KEY, v text) WITH (fillfactor = 70);
INSERT INTO cache VALUES ('a', 'b');
CREATE TABLE booked (room int, during tsrange, EXCLUDE USING gist (during WITH &&));
INSERT INTO booked VALUES (1, '[2024-01-01, 2024-01-02)');
ALTER TABLE people ALTER COLUMN name SET STATISTICS 500, ALTER COLUMN tags SET STORAGE EXTERNAL;
CREATE INDEX people_partial ON people (lower(name) DESC NULLS LAST) WHERE feels = 'sad';
CREATE INDEX people_expression ON people USING gin (to_tsvector('simple', email::text));
CREATE STATISTICS people_stats (dependencies, ndistinct) ON feels, born FROM people;
CLUSTER people USING people_pkey;
CREATE FUNCTION tools.half(n int) RETURNS int LANGUAGE sql IMMUTABLE STRICT PARALLEL SAFE AS 'SELECT n / 2';
CREATE FUNCTION tools.touched() RETURNS trigger LANGUAGE plpgsql AS $f$ BEGIN RETURN NEW; END; -- 'quote" $f$;
CREATE PROCEDURE tools.nothing_much(INOUT n int) LANGUAGE plpgsql AS $$ BEGIN n := n + 1; END $$;
CREATE AGGREGATE tools.product (int) (SFUNC = int4mul, STYPE = int, INITCOND = '1');
CREATE OPERATOR tools.@@@ (FUNCTION = int4pl, LEFTARG = int, RIGHTARG = int, COMMUTATOR = OPERATOR(tools.@@@));
CREATE FUNCTION tools.mood_rank(m mood) RETURNS int LANGUAGE sql IMMUTABLE AS 'SELECT 1';
CREATE CAST (mood AS int) WITH FUNCTION tools.mood_rank(mood);
CREATE TEXT SEARCH CONFIGURATION tools.plain (COPY = simple);
CREATE TEXT SEARCH DICTIONARY tools.short (TEMPLATE = simple, STOPWORDS = english);
CREATE TRIGGER people_touched BEFORE UPDATE OF name ON people FOR EACH ROW WHEN (old.name IS DISTINCT FROM new.name) EXECUTE FUNCTION tools.touched();
CREATE TRIGGER events_touched AFTER INSERT ON events FOR EACH ROW EXECUTE FUNCTION tools.touched();
CREATE CONSTRAINT TRIGGER later AFTER INSERT ON tree DEFERRABLE INITIALLY DEFERRED FOR EACH ROW EXECUTE FUNCTION tools.touched();
CREATE TRIGGER asleep BEFORE INSERT ON tree FOR EACH ROW EXECUTE FUNCTION tools.touched();
ALTER TABLE tree DISABLE TRIGGER asleep;
CREATE VIEW grown AS SELECT p.id, p.email, tools.half(p.twice) AS half FROM people p WITH LOCAL CHECK OPTION;
ALTER VIEW grown RESET (check_option);
CREATE VIEW "Odd Schema".summary WITH (security_barrier) AS SELECT count(*) AS n FROM grown;
CREATE RECURSIVE VIEW up (id, depth) AS SELECT id, 0 FROM tree WHERE parent IS NULL UNION ALL SELECT t.id, depth + 1 FROM tree t JOIN up ON t.parent = up.id;
CREATE MATERIALIZED VIEW z_first AS SELECT feels, count(*) AS n FROM people GROUP BY feels;
CREATE MATERIALIZED VIEW a_second AS SELECT sum(n) AS n FROM z_first;
CREATE UNIQUE INDEX z_first_key ON z_first (feels);
CREATE MATERIALIZED VIEW unfilled AS SELECT 1 AS one WITH NO DATA;
CREATE RULE keep AS ON DELETE TO empty_table DO INSTEAD NOTHING;
CREATE RULE grown_insert AS ON INSERT TO grown DO INSTEAD INSERT INTO people (email, name) VALUES (new.email, 'by rule');
ALTER TABLE people ENABLE ROW LEVEL SECURITY;
ALTER TABLE people FORCE ROW LEVEL SECURITY;
CREATE POLICY own_rows ON people AS RESTRICTIVE FOR SELECT TO {role}, PUBLIC USING (email = current_user::text);
CREATE POLICY writes ON people FOR INSERT WITH CHECK (id > 0);
CREATE FUNCTION tools.noted() RETURNS event_trigger LANGUAGE plpgsql AS $$ BEGIN PERFORM 1; END $$;
CREATE EVENT TRIGGER note_ddl ON ddl_command_end WHEN TAG IN ('CREATE TABLE') EXECUTE FUNCTION tools.noted();
ALTER EVENT TRIGGER note_ddl ENABLE ALWAYS;
CREATE PUBLICATION chosen FOR TABLE people (id, email) WHERE (id > 10), tree WITH (publish = 'insert');
CREATE PUBLICATION whole_schema FOR TABLES IN SCHEMA tools;
CREATE SUBSCRIPTION asleep CONNECTION 'host=nowhere dbname=x' PUBLICATION p WITH (connect = false, slot_name = NONE);
CREATE FOREIGN DATA WRAPPER nowhere;
CREATE SERVER far TYPE 'x' VERSION '1' FOREIGN DATA WRAPPER nowhere;
CREATE USER MAPPING FOR {role} SERVER far OPTIONS (secret 'pass''word');
CREATE FOREIGN TABLE abroad (id int, t text NOT NULL) SERVER far;
SELECT lo_from_bytea(700000 + i, decode(repeat(md5(i::text), 3000), 'hex')) FROM generate_series(1, 5) i;
ALTER LARGE OBJECT 700001 OWNER TO {role};
GRANT SELECT ON LARGE OBJECT 700002 TO {role};
COMMENT ON LARGE OBJECT 700003 IS 'a large object; ✓';
ALTER TABLE empty_table OWNER TO {quoted};
GRANT SELECT (id, email), UPDATE (name) ON people TO {role} WITH GRANT OPTION;
GRANT ALL ON ALL TABLES IN SCHEMA "Odd Schema" TO {quoted};
REVOKE ALL ON FUNCTION tools.half FROM PUBLIC;
ALTER DEFAULT PRIVILEGES IN SCHEMA tools GRANT EXECUTE ON FUNCTIONS TO {role};
GRANT USAGE ON SCHEMA tools TO {quoted};
COMMENT ON TABLE people IS 'It''s; "quotes", \back and unicode ✓
second line';
COMMENT ON COLUMN people.twice IS 'generated';
COMMENT ON CONSTRAINT not_self ON tree IS 'a constraint';
COMMENT ON DATABASE {db} IS 'the zoo; "x"';
COMMENT ON FUNCTION tools.half(int) IS 'half';
ALTER DATABASE {db} SET search_path TO "$user", "Odd Schema", public;
ALTER DATABASE {db} SET app.tenant TO 'a; DROP TABLE "x"''s';
ALTER DATABASE {db} SET default_transaction_read_only TO off;
ALTER ROLE {role} IN DATABASE {db} SET work_mem TO '8MB';
ALTER DATABASE {db} CONNECTION LIMIT 77;
REVOKE TEMPORARY ON DATABASE {db} FROM PUBLIC;
GRANT CONNECT, CREATE ON DATABASE {db} TO {quoted};
