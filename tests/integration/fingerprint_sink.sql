-- One of every object kind that a dump carries, without contrib modules: for PostgreSQL 14 and later.
-- Roles sink_owner, sink_reader, sink_writer exist.
CREATE SCHEMA sink AUTHORIZATION sink_owner;
CREATE SCHEMA "Weird ""schema"" ünï";
COMMENT ON SCHEMA sink IS 'the schema';
SET check_function_bodies = off;

CREATE TYPE sink.mood AS ENUM ('sad', 'ok', 'it''s happy');
CREATE TYPE sink.pair AS (a int, b text COLLATE "C");
CREATE DOMAIN sink.positive AS int DEFAULT 1 CONSTRAINT above_zero CHECK (VALUE > 0);
CREATE DOMAIN sink.small_positive AS sink.positive NOT NULL CHECK (VALUE < 1000);
CREATE TYPE sink.floatrange AS RANGE (subtype = float8, subtype_diff = float8mi);
CREATE COLLATION sink.german (provider = icu, locale = 'de', deterministic = true);
CREATE COLLATION sink.nocase (provider = icu, locale = 'und-u-ks-level2', deterministic = false);
CREATE FUNCTION sink.add(int, int DEFAULT 2) RETURNS int LANGUAGE sql IMMUTABLE PARALLEL SAFE AS 'SELECT $1 + $2';
CREATE FUNCTION sink.atomic(x int) RETURNS int LANGUAGE sql BEGIN ATOMIC SELECT x * 2 + (SELECT count(*) FROM pg_class)::int; END;
CREATE FUNCTION sink.touch() RETURNS trigger LANGUAGE plpgsql SECURITY DEFINER SET search_path = sink
  AS $$ BEGIN RETURN new; END $$;
CREATE PROCEDURE sink.tidy(INOUT n int) LANGUAGE plpgsql AS $$ BEGIN n := 1; END $$;
CREATE AGGREGATE sink.total(int) (sfunc = int4pl, stype = int, initcond = '0', combinefunc = int4pl, parallel = safe);
CREATE FUNCTION sink.pair_lt(sink.pair, sink.pair) RETURNS bool LANGUAGE sql IMMUTABLE AS 'SELECT ($1).a < ($2).a';
CREATE FUNCTION sink.pair_gt(sink.pair, sink.pair) RETURNS bool LANGUAGE sql IMMUTABLE AS 'SELECT ($1).a > ($2).a';
CREATE OPERATOR sink.<<< (leftarg = sink.pair, rightarg = sink.pair, function = sink.pair_lt, commutator = OPERATOR(sink.>>>));
CREATE OPERATOR sink.>>> (leftarg = sink.pair, rightarg = sink.pair, function = sink.pair_gt, commutator = OPERATOR(sink.<<<));
CREATE FUNCTION sink.abs_cmp(int, int) RETURNS int LANGUAGE sql IMMUTABLE AS 'SELECT btint4cmp(abs($1), abs($2))';
CREATE OPERATOR CLASS sink.abs_ops FOR TYPE int USING btree AS
  OPERATOR 1 <, OPERATOR 2 <=, OPERATOR 3 =, OPERATOR 4 >=, OPERATOR 5 >, FUNCTION 1 sink.abs_cmp(int, int);
CREATE FUNCTION sink.mood_number(sink.mood) RETURNS int LANGUAGE sql IMMUTABLE AS 'SELECT 1';
CREATE CAST (sink.mood AS int) WITH FUNCTION sink.mood_number(sink.mood) AS ASSIGNMENT;
CREATE TEXT SEARCH DICTIONARY sink.plain (template = simple, stopwords = english);
CREATE TEXT SEARCH CONFIGURATION sink.search (COPY = simple);
ALTER TEXT SEARCH CONFIGURATION sink.search ALTER MAPPING FOR asciiword WITH sink.plain, simple;
CREATE CONVERSION sink.conv FOR 'LATIN1' TO 'UTF8' FROM iso8859_1_to_utf8;

CREATE SEQUENCE sink.counter AS int INCREMENT -3 MINVALUE -1000 MAXVALUE 1000 START 500 CACHE 1 CYCLE;
SELECT nextval('sink.counter') FROM generate_series(1, 5);
CREATE SEQUENCE sink.untouched;

CREATE TABLE sink.person (
  id bigint GENERATED ALWAYS AS IDENTITY (START 10 INCREMENT 5) PRIMARY KEY,
  email text COLLATE sink.nocase NOT NULL CONSTRAINT one_email UNIQUE,
  name varchar(40) DEFAULT 'nobody' CHECK (length(name) > 1),
  mood sink.mood DEFAULT 'ok',
  age sink.small_positive,
  doubled int GENERATED ALWAYS AS (id * 2) STORED,
  extra sink.pair,
  dropped int,
  data bytea
);
ALTER TABLE sink.person DROP COLUMN dropped;
ALTER TABLE sink.person ALTER data SET STORAGE EXTERNAL, ALTER name SET STATISTICS 500, ALTER name SET (n_distinct = 5);
ALTER TABLE sink.person SET (fillfactor = 80, toast.autovacuum_enabled = false), OWNER TO sink_owner;
CREATE TABLE sink.pet (
  id serial PRIMARY KEY,
  owner_id bigint REFERENCES sink.person ON DELETE CASCADE DEFERRABLE INITIALLY DEFERRED,
  alive daterange, chip sink.floatrange,
  EXCLUDE USING gist (alive WITH &&)
);
INSERT INTO sink.person (email, name, mood, age, extra, data)
  SELECT 'P' || i || '@x.org', 'name ' || i, (ARRAY['sad','ok','it''s happy'])[1 + i % 3]::sink.mood, 1 + i % 90, ROW(i, 'x')::sink.pair, decode(md5(i::text), 'hex')
  FROM generate_series(1, 300) i;
INSERT INTO sink.pet (owner_id, alive, chip) SELECT NULL, daterange('2020-01-01'::date + i, '2020-01-02'::date + i), sink.floatrange(i, i + 0.5) FROM generate_series(1, 5) i;
ALTER TABLE sink.pet ADD CONSTRAINT late_check CHECK (id > 0) NOT VALID;
ALTER TABLE sink.pet ADD CONSTRAINT late_key FOREIGN KEY (id) REFERENCES sink.person NOT VALID;
ALTER TABLE sink.pet REPLICA IDENTITY FULL;
CREATE INDEX person_name ON sink.person (lower(name) DESC NULLS LAST) INCLUDE (age) WHERE age > 3;
CREATE INDEX pet_abs ON sink.pet (id sink.abs_ops);
CREATE INDEX person_search ON sink.person USING gin (to_tsvector('sink.search', name));
ALTER INDEX sink.person_name ALTER COLUMN 1 SET STATISTICS 300;
ALTER TABLE sink.person CLUSTER ON person_pkey;
CREATE STATISTICS sink.person_stats (dependencies, ndistinct) ON name, age FROM sink.person;
ALTER STATISTICS sink.person_stats SET STATISTICS 200;
CREATE TRIGGER touched BEFORE UPDATE OF name ON sink.person FOR EACH ROW WHEN (old.name IS DISTINCT FROM new.name) EXECUTE FUNCTION sink.touch('a', 'b');
CREATE TRIGGER silent AFTER INSERT ON sink.person FOR EACH STATEMENT EXECUTE FUNCTION sink.touch();
ALTER TABLE sink.person DISABLE TRIGGER silent;
CREATE TRIGGER always AFTER DELETE ON sink.person FOR EACH ROW EXECUTE FUNCTION sink.touch();
ALTER TABLE sink.person ENABLE ALWAYS TRIGGER always;
CREATE CONSTRAINT TRIGGER checked AFTER INSERT ON sink.pet DEFERRABLE INITIALLY DEFERRED FOR EACH ROW EXECUTE FUNCTION sink.touch();
CREATE RULE no_delete AS ON DELETE TO sink.pet DO INSTEAD NOTHING;
CREATE RULE sleeping AS ON UPDATE TO sink.pet WHERE old.id > 5 DO ALSO NOTHING;
ALTER TABLE sink.pet DISABLE RULE sleeping;
ALTER TABLE sink.person ENABLE ROW LEVEL SECURITY, FORCE ROW LEVEL SECURITY;
CREATE POLICY mine ON sink.person AS RESTRICTIVE FOR UPDATE TO sink_reader, sink_writer USING (name = current_user) WITH CHECK (age > 3);
CREATE POLICY everybody ON sink.person USING (true);
CREATE VIEW sink.grown WITH (security_barrier) AS
  SELECT p.id, p.name, count(t.*) AS pets FROM sink.person p LEFT JOIN sink.pet t ON t.owner_id = p.id WHERE p.age >= 18 GROUP BY p.id;
CREATE VIEW sink.simple AS SELECT person.id, person.name, (person.age + 1) * 2 AS older FROM sink.person WHERE person.age > 3 AND (person.mood = 'ok' OR person.mood IS NULL);
ALTER VIEW sink.simple ALTER COLUMN name SET DEFAULT 'x';
CREATE VIEW sink.named WITH (check_option = local) AS SELECT id, name FROM sink.person WHERE id > 0;
CREATE MATERIALIZED VIEW sink.moods AS SELECT mood, count(*) AS n FROM sink.person GROUP BY mood;
CREATE UNIQUE INDEX moods_key ON sink.moods (mood);
CREATE MATERIALIZED VIEW sink.moods_of_moods AS SELECT sum(n) AS all_of_them FROM sink.moods;
CREATE MATERIALIZED VIEW sink.not_yet AS SELECT 1 AS one WITH NO DATA;

CREATE TABLE sink.event (id bigint, at timestamptz NOT NULL, kind text, UNIQUE (id, at, kind)) PARTITION BY RANGE (at);
CREATE TABLE sink.event_old PARTITION OF sink.event FOR VALUES FROM (MINVALUE) TO ('2026-01-01');
CREATE TABLE sink.event_new PARTITION OF sink.event FOR VALUES FROM ('2026-01-01') TO ('2027-01-01') PARTITION BY LIST (kind);
CREATE TABLE sink.event_new_a PARTITION OF sink.event_new FOR VALUES IN ('a', NULL);
CREATE TABLE sink.event_rest PARTITION OF sink.event DEFAULT;
CREATE INDEX event_kind ON sink.event (kind);
CREATE TRIGGER noticed AFTER INSERT ON sink.event FOR EACH ROW EXECUTE FUNCTION sink.touch();
ALTER TABLE sink.event_old DISABLE TRIGGER noticed;
ALTER TABLE sink.event ADD COLUMN person_id bigint REFERENCES sink.person;
INSERT INTO sink.event SELECT i, '2025-12-31'::timestamptz + i * interval '1 hour', CASE WHEN i >= 24 THEN 'a' ELSE 'b' END, NULL FROM generate_series(1, 40) i;
CREATE TABLE sink.hash_parent (id int PRIMARY KEY) PARTITION BY HASH (id);
CREATE TABLE sink.hash_0 PARTITION OF sink.hash_parent FOR VALUES WITH (MODULUS 2, REMAINDER 0);
CREATE TABLE sink.hash_1 PARTITION OF sink.hash_parent FOR VALUES WITH (MODULUS 2, REMAINDER 1);
INSERT INTO sink.hash_parent SELECT generate_series(1, 20);
CREATE TABLE sink.points_there (id int REFERENCES sink.hash_parent);
CREATE INDEX event_alone ON ONLY sink.event (person_id);

CREATE TABLE sink.parent (a int, b text NOT NULL DEFAULT 'p', CONSTRAINT a_positive CHECK (a > 0));
CREATE TABLE sink.child (own text) INHERITS (sink.parent);
ALTER TABLE sink.parent ADD COLUMN late int DEFAULT 7;
INSERT INTO sink.parent VALUES (1, 'only the parent', 2);
INSERT INTO sink.child (a, b, own, late) VALUES (2, 'child', 'mine', 3);
CREATE TABLE sink.of_type OF sink.pair (PRIMARY KEY (a));
INSERT INTO sink.of_type VALUES (1, 'x');
CREATE UNLOGGED TABLE sink.unlogged (a int);
INSERT INTO sink.unlogged VALUES (1);
CREATE TABLE sink.nothing ();
INSERT INTO sink.nothing DEFAULT VALUES;
INSERT INTO sink.nothing DEFAULT VALUES;
CREATE TABLE sink.empty (a int);
CREATE TABLE "Weird ""schema"" ünï"."täble %s {} 'x' "" é" ("cölumn ""q"" %" int, "select" text);
INSERT INTO "Weird ""schema"" ünï"."täble %s {} 'x' "" é" VALUES (1, 'ü'), (2, NULL), (NULL, '');
COMMENT ON COLUMN "Weird ""schema"" ünï"."täble %s {} 'x' "" é"."select" IS 'odd';

CREATE FOREIGN DATA WRAPPER sink_wrapper OPTIONS (debug 'true');
CREATE SERVER sink_server TYPE 't' VERSION '1' FOREIGN DATA WRAPPER sink_wrapper OPTIONS (host 'nowhere');
CREATE USER MAPPING FOR sink_reader SERVER sink_server OPTIONS (password 'not to be seen');
CREATE FOREIGN TABLE sink.far (a int OPTIONS (x 'y')) SERVER sink_server OPTIONS (t 'u');
CREATE PUBLICATION sink_all FOR ALL TABLES WITH (publish = 'insert');
CREATE PUBLICATION sink_some FOR TABLE sink.pet WITH (publish_via_partition_root);
CREATE FUNCTION sink.on_ddl() RETURNS event_trigger LANGUAGE plpgsql AS $$ BEGIN END $$;
CREATE EVENT TRIGGER sink_ddl ON ddl_command_end WHEN TAG IN ('CREATE TABLE') EXECUTE FUNCTION sink.on_ddl();
ALTER EVENT TRIGGER sink_ddl DISABLE;
CREATE ACCESS METHOD sink_heap TYPE TABLE HANDLER heap_tableam_handler;

GRANT USAGE ON SCHEMA sink TO sink_reader, sink_writer;
GRANT SELECT ON ALL TABLES IN SCHEMA sink TO sink_reader;
GRANT ALL ON sink.pet TO sink_writer WITH GRANT OPTION;
GRANT UPDATE (name), SELECT (id) ON sink.person TO sink_writer;
GRANT USAGE ON SEQUENCE sink.counter TO sink_writer;
REVOKE EXECUTE ON FUNCTION sink.add(int, int) FROM PUBLIC;
REVOKE TRUNCATE ON sink.person FROM sink_owner;
GRANT USAGE ON TYPE sink.mood TO sink_reader;
REVOKE USAGE ON TYPE sink.mood FROM PUBLIC;
GRANT USAGE ON FOREIGN SERVER sink_server TO sink_reader;
GRANT EXECUTE ON FUNCTION pg_catalog.pg_read_file(text) TO sink_reader;
SET ROLE sink_writer;
GRANT SELECT ON sink.pet TO sink_owner;
RESET ROLE;
ALTER DEFAULT PRIVILEGES IN SCHEMA sink GRANT SELECT ON TABLES TO sink_reader;
ALTER DEFAULT PRIVILEGES FOR ROLE sink_owner REVOKE EXECUTE ON FUNCTIONS FROM PUBLIC;
REVOKE CREATE ON SCHEMA public FROM PUBLIC;
COMMENT ON TABLE sink.person IS 'people';
COMMENT ON COLUMN sink.person.email IS 'where to write';
COMMENT ON CONSTRAINT one_email ON sink.person IS 'one';
COMMENT ON TRIGGER touched ON sink.person IS 'trigger';
COMMENT ON INDEX sink.person_name IS 'index';
COMMENT ON FUNCTION sink.add(int, int) IS 'adds';
COMMENT ON TYPE sink.mood IS 'mood';
SELECT lo_from_bytea(4711, decode(repeat('00ff10', 1000), 'hex'));
SELECT lo_create(4712);
SELECT lo_from_bytea(4713, decode(repeat('ab', 3 * 1024 * 1024), 'hex'));
SELECT lo_put(4712, 100000, 'after a hole');
SELECT lo_create(4714);
GRANT SELECT ON LARGE OBJECT 4711 TO sink_reader;
COMMENT ON LARGE OBJECT 4711 IS 'large';
