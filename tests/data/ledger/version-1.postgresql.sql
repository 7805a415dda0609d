-- The ledger as pgfleet's version 1 of the tables made it. Kept: it must stay possible to migrate it.
CREATE TABLE jobs (
  job TEXT NOT NULL,
  cron TEXT NOT NULL,
  since DOUBLE PRECISION NOT NULL,
  PRIMARY KEY (job)
);
CREATE TABLE ledger_version (
  version INTEGER NOT NULL
);
CREATE TABLE runs (
  id TEXT NOT NULL,
  kind TEXT NOT NULL,
  database TEXT NOT NULL,
  state TEXT NOT NULL,
  request JSON NOT NULL,
  requested_by TEXT NOT NULL,
  idempotency_key TEXT,
  job TEXT,
  scheduled_for DOUBLE PRECISION,
  here TEXT NOT NULL,
  generation INTEGER NOT NULL,
  backup_id TEXT,
  spool_id TEXT,
  data JSON NOT NULL,
  result JSON NOT NULL,
  error JSON,
  created_at DOUBLE PRECISION NOT NULL,
  started_at DOUBLE PRECISION,
  ended_at DOUBLE PRECISION,
  PRIMARY KEY (id),
  UNIQUE (job, scheduled_for),
  UNIQUE (idempotency_key)
);
CREATE INDEX runs_created ON runs (created_at);
CREATE INDEX runs_state ON runs (state);
CREATE TABLE workers (
  name TEXT NOT NULL,
  host TEXT NOT NULL,
  queues JSON NOT NULL,
  spool_id TEXT NOT NULL,
  version TEXT NOT NULL,
  seen_at DOUBLE PRECISION NOT NULL,
  PRIMARY KEY (name)
);
CREATE TABLE notices (
  id BIGSERIAL NOT NULL,
  run_id TEXT NOT NULL,
  event TEXT NOT NULL,
  data JSON NOT NULL,
  attempts INTEGER NOT NULL,
  next_attempt_at DOUBLE PRECISION NOT NULL,
  created_at DOUBLE PRECISION NOT NULL,
  sent_at DOUBLE PRECISION,
  PRIMARY KEY (id),
  FOREIGN KEY(run_id) REFERENCES runs (id) ON DELETE CASCADE
);
CREATE INDEX ix_notices_run_id ON notices (run_id);
CREATE INDEX notices_unsent ON notices (next_attempt_at) WHERE sent_at IS NULL;
CREATE TABLE steps (
  id BIGSERIAL NOT NULL,
  run_id TEXT NOT NULL,
  generation INTEGER NOT NULL,
  name TEXT NOT NULL,
  key TEXT NOT NULL,
  queue TEXT NOT NULL,
  group_path TEXT NOT NULL,
  needs TEXT NOT NULL,
  branch TEXT NOT NULL,
  always BOOLEAN NOT NULL,
  state TEXT NOT NULL,
  fence INTEGER NOT NULL,
  attempts INTEGER NOT NULL,
  max_attempts INTEGER NOT NULL,
  owner TEXT,
  lease_until DOUBLE PRECISION,
  next_attempt_at DOUBLE PRECISION,
  hint_at DOUBLE PRECISION NOT NULL,
  sends INTEGER NOT NULL,
  sent_at DOUBLE PRECISION,
  bytes_done BIGINT NOT NULL,
  bytes_total BIGINT NOT NULL,
  data JSON NOT NULL,
  notes JSON NOT NULL,
  result JSON NOT NULL,
  error JSON,
  created_at DOUBLE PRECISION NOT NULL,
  started_at DOUBLE PRECISION,
  ended_at DOUBLE PRECISION,
  PRIMARY KEY (id),
  UNIQUE (run_id, generation, name, key),
  FOREIGN KEY(run_id) REFERENCES runs (id) ON DELETE CASCADE
);
CREATE INDEX steps_by_name ON steps (run_id, generation, name, id);
CREATE INDEX steps_hint ON steps (hint_at, id) WHERE state IN ('due', 'running');
CREATE INDEX steps_hint_of_run ON steps (run_id, hint_at, id) WHERE state IN ('due', 'running');
CREATE INDEX steps_leased ON steps (run_id, lease_until) WHERE lease_until IS NOT NULL;
CREATE INDEX steps_of_run ON steps (run_id, generation, id);
CREATE INDEX steps_undone ON steps (run_id, generation, group_path) WHERE state IN ('due', 'running');
INSERT INTO ledger_version (version) VALUES (1);
