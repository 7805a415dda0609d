-- A small image host: users, images with thumbnails, tags, comments and a partitioned audit trail.
-- {scale} 1 is about 20 MB, most of it thumbnails that do not compress. Needs no extension.
CREATE TYPE visibility AS ENUM ('public', 'unlisted', 'private');
CREATE DOMAIN email AS text CHECK (value ~ '@');

CREATE TABLE users (
  id bigint GENERATED ALWAYS AS IDENTITY PRIMARY KEY,
  email email NOT NULL UNIQUE,
  name text NOT NULL,
  created_at timestamptz NOT NULL,
  search tsvector GENERATED ALWAYS AS (to_tsvector('simple', name)) STORED
);
CREATE TABLE images (
  id bigserial PRIMARY KEY,
  user_id bigint NOT NULL REFERENCES users,
  title text NOT NULL,
  vis visibility NOT NULL DEFAULT 'public',
  meta jsonb NOT NULL,
  created_at timestamptz NOT NULL
);
CREATE TABLE thumbnails (image_id bigint PRIMARY KEY REFERENCES images ON DELETE CASCADE, data bytea NOT NULL);
CREATE TABLE tags (id int PRIMARY KEY, name text UNIQUE NOT NULL);
CREATE TABLE image_tags (
  image_id bigint NOT NULL REFERENCES images ON DELETE CASCADE,
  tag_id int NOT NULL REFERENCES tags,
  PRIMARY KEY (image_id, tag_id)
);
CREATE TABLE comments (
  id bigserial PRIMARY KEY,
  image_id bigint NOT NULL REFERENCES images ON DELETE CASCADE,
  user_id bigint NOT NULL REFERENCES users,
  body text NOT NULL,
  at timestamptz NOT NULL
);
CREATE TABLE audit (image_id bigint, at timestamptz NOT NULL, action text) PARTITION BY RANGE (at);
CREATE TABLE audit_2026 PARTITION OF audit FOR VALUES FROM ('2026-01-01') TO ('2027-01-01');
CREATE TABLE audit_rest PARTITION OF audit DEFAULT;

INSERT INTO users (email, name, created_at)
  SELECT 'user' || i || '@example.com', 'User ' || i, timestamptz '2025-01-01' + i * interval '1 minute'
  FROM generate_series(1, 1000 * {scale}) i;
INSERT INTO images (user_id, title, vis, meta, created_at)
  SELECT 1 + i % (1000 * {scale}), 'Image ' || md5(i::text),
    (enum_range(NULL::visibility))[1 + i % 3],
    jsonb_build_object('camera', 'Cam-' || i % 50, 'iso', 100 * (i % 64), 'note', repeat('é', i % 5)),
    timestamptz '2025-06-01' + i * interval '1 minute'
  FROM generate_series(1, 10000 * {scale}) i;
INSERT INTO thumbnails
  SELECT i, (SELECT string_agg(sha512((i * 1000 + j)::text::bytea), '') FROM generate_series(1, 125) j)
  FROM generate_series(1, 2000 * {scale}) i;
INSERT INTO tags SELECT i, 'tag-' || i FROM generate_series(1, 500) i;
INSERT INTO image_tags SELECT i, 1 + i * 31 % 500 FROM generate_series(1, 10000 * {scale}) i;
INSERT INTO comments (image_id, user_id, body, at)
  SELECT 1 + i * 13 % (10000 * {scale}), 1 + i * 17 % (1000 * {scale}), 'Comment ' || md5(i::text),
    timestamptz '2026-01-01' + i * interval '1 minute'
  FROM generate_series(1, 10000 * {scale}) i;
INSERT INTO audit SELECT i, timestamptz '2025-12-31' + i * interval '1 minute', 'upload'
  FROM generate_series(1, 10000 * {scale}) i;

CREATE INDEX ON images (user_id, created_at DESC);
CREATE INDEX ON images USING gin (meta jsonb_path_ops);
CREATE INDEX ON comments (image_id);
CREATE MATERIALIZED VIEW top_users AS SELECT user_id, count(*) AS images FROM images GROUP BY 1;
CREATE VIEW recent AS SELECT * FROM images ORDER BY created_at DESC LIMIT 100;
CREATE FUNCTION note_change() RETURNS trigger LANGUAGE plpgsql AS
  $$ BEGIN INSERT INTO audit VALUES (new.id, now(), 'change'); RETURN new; END $$;
CREATE TRIGGER images_note AFTER UPDATE ON images FOR EACH ROW EXECUTE FUNCTION note_change();
COMMENT ON TABLE images IS 'An image; its picture is in thumbnails';
SELECT lo_from_bytea(0, sha512(i::text::bytea)) FROM generate_series(1, 5) i;
ANALYZE;
