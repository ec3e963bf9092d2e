-- Stores one value under a lease, with statements that need no arrays; returns what commit would return for it.
CREATE OR REPLACE FUNCTION {commit_one}(
    batch uuid, changed text, whole_key bytea, val bytea, expect bigint, ttl float8, token bigint, unlock boolean,
    expect_until float8
) RETURNS bigint
LANGUAGE plpgsql
SET enable_seqscan = off SET jit = off SET lock_timeout = '1500ms'
AS $$
#variable_conflict use_variable
DECLARE
    moment timestamptz := clock_timestamp();
    lease record;
    document jsonb;
    outcome bigint;
BEGIN
    -- The lease comes first and the session after it, as everywhere.
    UPDATE {leases} AS l
    SET holder = CASE WHEN unlock THEN NULL ELSE l.holder END, until = CASE WHEN unlock THEN moment ELSE l.until END
    WHERE l.key = changed AND l.token = token AND l.holder IS NOT NULL AND l.until > clock_timestamp()
    RETURNING l.queue, l.seen INTO lease;
    IF NOT FOUND THEN  -- it is lost, or the server has crashed since: then commit knows what to do
        RETURN ({commit}(batch, ARRAY[changed], ARRAY[whole_key], ARRAY['put'], ARRAY[val], ARRAY[expect], ARRAY[ttl],
            ARRAY[token], ARRAY[unlock], ARRAY[expect_until]))[1];
    END IF;
    IF unlock AND lease.queue <> '{}' THEN
        PERFORM pg_notify('{channel}', {first_waiter}(lease.queue, lease.seen));
    END IF;

    BEGIN
        document := convert_from(val, 'UTF8')::jsonb;
    EXCEPTION WHEN data_exception OR program_limit_exceeded THEN  -- it is not JSON
        document := NULL;
    END;
    moment := clock_timestamp();
    IF expect IS NOT NULL THEN
        UPDATE {sessions} AS s
        SET data = document, raw = CASE WHEN document IS NULL THEN val END, version = nextval('{numbers}'),
            expires_at = moment + ttl * interval '1 second'
        WHERE s.key = changed AND s.version = expect AND (s.expires_at IS NULL OR s.expires_at > clock_timestamp())
        RETURNING s.version INTO outcome;
    END IF;
    IF expect IS NULL OR (outcome IS NULL AND to_timestamp(expect_until) <= clock_timestamp()) THEN
        INSERT INTO {sessions} AS s (key, whole_key, data, raw, version, expires_at)
        VALUES (changed, whole_key, document, CASE WHEN document IS NULL THEN val END, nextval('{numbers}'),
            moment + ttl * interval '1 second')
        ON CONFLICT (key) DO UPDATE
        SET data = EXCLUDED.data, raw = EXCLUDED.raw, version = EXCLUDED.version, expires_at = EXCLUDED.expires_at
        WHERE s.expires_at <= clock_timestamp()
        RETURNING s.version INTO outcome;
    END IF;
    outcome := coalesce(outcome, -1);
    INSERT INTO {commits} (batch, outcomes) VALUES (batch, ARRAY[outcome]);
    RETURN outcome;
END
$$;
