-- Settings of every connection that reads a snapshot: nothing times out, nothing is filtered,
-- values read as text look alike on every server, and literals mean what they say. No parameters.
SET standard_conforming_strings = on;
SET search_path = '';
SET row_security = off;
SET statement_timeout = 0;
SET idle_in_transaction_session_timeout = 0;
SET idle_session_timeout = 0;
SET synchronize_seqscans = off;
SET timezone = 'UTC';
SET datestyle = 'ISO, YMD';
SET intervalstyle = 'postgres';
SET extra_float_digits = 3;
SET bytea_output = 'hex';
-- since 17
SELECT set_config('transaction_timeout', '0', false) FROM pg_settings WHERE name = 'transaction_timeout';
