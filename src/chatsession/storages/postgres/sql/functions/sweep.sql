-- Deletes expired sessions, unused leases and old outcomes of commits, at most so many rows of each, and skips rows that
-- others have locked. Returns the numbers of deleted rows in this order. The time is the statement's, which an index
-- can be searched for; clock_timestamp() would be compared with each row.
CREATE OR REPLACE FUNCTION {sweep}(most bigint) RETURNS bigint[] LANGUAGE plpgsql AS $$
DECLARE
    sessions bigint;
    leases bigint;
    commits bigint;
BEGIN
    DELETE FROM {sessions} WHERE key IN (
        SELECT key FROM {sessions} WHERE expires_at <= statement_timestamp()
        ORDER BY expires_at LIMIT most FOR UPDATE SKIP LOCKED
    );
    GET DIAGNOSTICS sessions = ROW_COUNT;
    DELETE FROM {leases} WHERE key IN (
        SELECT key FROM {leases}
        WHERE until < clock_timestamp() - interval '1 minute' AND clock_timestamp() - interval '1 minute' > ALL (seen)
        LIMIT most FOR UPDATE SKIP LOCKED
    );
    GET DIAGNOSTICS leases = ROW_COUNT;
    DELETE FROM {commits} WHERE batch IN (
        SELECT batch FROM {commits} WHERE at < statement_timestamp() - interval '10 minutes'
        ORDER BY at LIMIT most FOR UPDATE SKIP LOCKED
    );
    GET DIAGNOSTICS commits = ROW_COUNT;
    RETURN ARRAY[sessions, leases, commits];
END
$$;
