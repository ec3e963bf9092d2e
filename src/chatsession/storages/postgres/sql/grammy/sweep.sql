-- As the function of the library's own layout (functions/sweep.sql), in grammY's table. Its rows are locked first, as
-- everywhere, and a session is deleted only if it has not been written since its expiry was set.
CREATE OR REPLACE FUNCTION {sweep}(most bigint) RETURNS bigint[] LANGUAGE plpgsql AS $$
DECLARE
    swept text[];
    leases bigint;
    commits bigint;
BEGIN
    WITH gone AS (
        DELETE FROM {grammy} WHERE ctid = ANY (ARRAY(
            SELECT g.ctid FROM {beside} AS b
            JOIN {grammy} AS g ON g.key::text COLLATE "C" = b.key AND g.xmin::text::bigint = b.version
            WHERE b.expires_at <= statement_timestamp()
            ORDER BY b.expires_at LIMIT most FOR UPDATE OF g SKIP LOCKED
        ))
        RETURNING key
    )
    SELECT coalesce(array_agg(g.key::text), '{}') INTO swept FROM gone AS g;
    DELETE FROM {beside} WHERE key = ANY (swept);
    -- Left behind by sessions that grammY has written or deleted since.
    DELETE FROM {beside} WHERE key IN (
        SELECT b.key FROM {beside} AS b
        WHERE b.expires_at <= statement_timestamp() AND b.whole_key IS NULL AND NOT EXISTS (
            SELECT FROM {grammy} AS g WHERE g.key::text COLLATE "C" = b.key AND g.xmin::text::bigint = b.version
        )
        ORDER BY b.expires_at LIMIT most FOR UPDATE SKIP LOCKED
    );
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
    RETURN ARRAY[cardinality(swept), leases, commits];
END
$$;
