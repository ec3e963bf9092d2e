-- As the function of the library's own layout (functions/commit.sql), in grammY's table. Between its locks and ours
-- grammY may write at any time; locking a row here waits at most for a statement of grammY's.
CREATE OR REPLACE FUNCTION {commit}(
    batch uuid, keys text[], whole_keys bytea[], actions text[], vals bytea[], expects bigint[], ttls float8[],
    tokens bigint[], unlocks boolean[], expect_untils float8[]
) RETURNS bigint[]
LANGUAGE plpgsql
SET enable_seqscan = off SET enable_hashjoin = off SET enable_mergejoin = off SET jit = off
SET plan_cache_mode = force_generic_plan SET lock_timeout = '1500ms'
AS $$
#variable_conflict use_column
DECLARE
    moment timestamptz;
    held boolean[] := array_fill(false, ARRAY[cardinality(keys)]);
    present boolean[] := array_fill(true, ARRAY[cardinality(keys)]);
    outcomes bigint[];
BEGIN
    IF batch IS NULL THEN
        PERFORM set_config('synchronous_commit', 'off', true);
    END IF;

    IF tokens IS NOT NULL THEN
        held := {hold}(keys, tokens, unlocks, expects, actions);
    END IF;
    IF batch IS NOT NULL THEN
        SELECT array_agg(g.key IS NOT NULL ORDER BY c.place) INTO present
        FROM unnest(keys) WITH ORDINALITY AS c (key, place)
        LEFT JOIN LATERAL (SELECT g.key FROM {grammy} AS g WHERE g.key = c.key FOR UPDATE) AS g ON true;
    END IF;

    -- What was not there to be locked counts as missing: waiting for its row here would be out of order.
    moment := clock_timestamp();
    SELECT array_agg(d.outcome) INTO outcomes
    FROM (
        SELECT CASE
                WHEN c.token IS NOT NULL AND NOT c.held THEN -2
                WHEN c.expect <> -1 AND v.version IS DISTINCT FROM c.expect AND NOT coalesce(
                    v.version IS NULL AND to_timestamp(c.expect_until) <= moment, false) THEN -1
                WHEN c.expect IS NULL AND v.version IS NOT NULL THEN -1
                WHEN c.action = 'put' THEN {version_of}(convert_from(c.value, 'UTF8'))
                WHEN c.action = 'delete' THEN 0
                ELSE coalesce(v.version, 0)
            END AS outcome
        FROM unnest(keys, actions, vals, expects, expect_untils, tokens, held, present) WITH ORDINALITY
            AS c (key, action, value, expect, expect_until, token, held, present, place)
        LEFT JOIN {sessions} AS s ON s.key = c.key AND c.present
        CROSS JOIN LATERAL (SELECT CASE WHEN s.expires_at <= moment THEN NULL ELSE s.version END) AS v (version)
        ORDER BY c.place
    ) AS d;
    IF batch IS NULL THEN
        RETURN outcomes;
    END IF;

    IF 'put' = ANY (actions) THEN
        -- Should grammY have inserted the same key meanwhile, all of this fails, and is tried again.
        INSERT INTO {grammy} (key, value)
        SELECT c.key, convert_from(c.value, 'UTF8')
        FROM unnest(keys, actions, vals, outcomes, present) AS c (key, action, value, outcome, present)
        WHERE c.action = 'put' AND c.outcome > 0 AND NOT c.present
        ORDER BY c.key COLLATE "C";
        UPDATE {grammy} AS g SET value = convert_from(c.value, 'UTF8')
        FROM unnest(keys, actions, vals, outcomes, present) AS c (key, action, value, outcome, present)
        WHERE g.key = c.key AND c.action = 'put' AND c.outcome > 0 AND c.present;
    END IF;
    IF 'delete' = ANY (actions) THEN
        DELETE FROM {grammy} AS g USING unnest(keys, actions, outcomes, present) AS c (key, action, outcome, present)
        WHERE g.key = c.key AND c.action = 'delete' AND c.outcome = 0 AND c.present;
    END IF;

    -- The table beside grammY's: rows for what was written or touched now, and none left from before.
    DELETE FROM {beside} AS b USING unnest(keys, whole_keys, actions, ttls, outcomes)
        AS c (key, whole_key, action, ttl, outcome)
    WHERE b.key = c.key AND (
        (c.action = 'delete' AND c.outcome = 0)
        OR (c.action IN ('put', 'touch') AND c.outcome > 0 AND c.ttl IS NULL AND c.whole_key IS NULL)
    );
    IF ttls IS NOT NULL OR whole_keys IS NOT NULL THEN
        INSERT INTO {beside} AS b (key, whole_key, raw, version, expires_at)
        SELECT c.key, c.whole_key, '', g.xmin::text::bigint, moment + c.ttl * interval '1 second'
        FROM unnest(keys, whole_keys, actions, ttls, outcomes) AS c (key, whole_key, action, ttl, outcome)
        JOIN {grammy} AS g ON g.key = c.key
        WHERE c.action IN ('put', 'touch') AND c.outcome > 0 AND (c.ttl IS NOT NULL OR c.whole_key IS NOT NULL)
        ORDER BY c.key COLLATE "C"
        ON CONFLICT (key) DO UPDATE SET version = EXCLUDED.version, expires_at = EXCLUDED.expires_at;
    END IF;

    INSERT INTO {commits} (batch, outcomes) VALUES (batch, outcomes);
    RETURN outcomes;
END
$$;
