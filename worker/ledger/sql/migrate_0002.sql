-- Which programs can work on these tables, and what each worker can work on: before, nobody could tell.
-- A row of version 1 is of a program that knows version 1 alone, and of version 2 nothing.
ALTER TABLE ledger_version ADD COLUMN oldest INTEGER NOT NULL DEFAULT 1;
ALTER TABLE workers ADD COLUMN schema INTEGER NOT NULL DEFAULT 1;
ALTER TABLE workers ADD COLUMN stopped_at DOUBLE PRECISION;
