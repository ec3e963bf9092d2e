-- Reads sessions without locking them.
CREATE OR REPLACE FUNCTION {read}(keys text[])
RETURNS TABLE (session_key text, value bytea, version bigint, expires_at float8)
LANGUAGE plpgsql
-- Plans are kept for a long time, and must also suit tables that have grown: look up each key in the index.
SET enable_seqscan = off SET enable_hashjoin = off SET enable_mergejoin = off SET jit = off
SET plan_cache_mode = force_generic_plan
AS $$
#variable_conflict use_column
BEGIN
    RETURN QUERY
        SELECT s.key, coalesce(s.raw, convert_to(s.data::text, 'UTF8')), s.version,
            extract(epoch FROM s.expires_at)::float8
        FROM {sessions} AS s
        WHERE s.key = ANY (keys) AND (s.expires_at IS NULL OR s.expires_at > clock_timestamp());
END
$$;
