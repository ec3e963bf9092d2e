-- Locks one key if it is free, and reads it, with statements that need no arrays; other cases are left to lock.
CREATE OR REPLACE FUNCTION {lock_one}(wanted text, waiter text, seconds float8, again boolean)
RETURNS TABLE (session_key text, token bigint, wait float8, value bytea, version bigint, expires_at float8)
LANGUAGE plpgsql
SET enable_seqscan = off SET jit = off SET lock_timeout = '1500ms'
AS $$
#variable_conflict use_column
DECLARE
    era bigint;
    won bigint;
BEGIN
    SELECT e.era << 44 INTO era FROM {era} AS e WHERE set_config('synchronous_commit', 'off', true) = 'off';
    IF FOUND THEN
        INSERT INTO {leases} AS l (key, token, holder, until)
        VALUES (wanted, era + nextval('{numbers}'), waiter, clock_timestamp() + seconds * interval '1 second')
        ON CONFLICT (key) DO UPDATE SET
            token = era + nextval('{numbers}'), holder = EXCLUDED.holder, until = EXCLUDED.until
        WHERE l.until <= clock_timestamp() AND l.queue = '{}'
        RETURNING l.token INTO won;
    END IF;
    IF won IS NULL THEN
        RETURN QUERY SELECT * FROM {lock}(ARRAY[wanted], ARRAY[waiter], ARRAY[seconds], again);
        RETURN;
    END IF;
    session_key := wanted;
    token := won;
    -- Read by a statement that begins when the lease is taken; see lock.
    SELECT coalesce(s.raw, convert_to(s.data::text, 'UTF8')), s.version, extract(epoch FROM s.expires_at)
    INTO value, version, expires_at
    FROM {sessions} AS s
    WHERE s.key = wanted AND (s.expires_at IS NULL OR s.expires_at > clock_timestamp());
    RETURN NEXT;
END
$$;
