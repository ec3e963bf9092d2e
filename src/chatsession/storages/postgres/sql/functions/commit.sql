-- Makes a batch of changes, independent of each other, in one transaction.
--
-- batch names it for a client that has to ask again (NULL: nothing is changed, only unlocked). The other arrays are
-- parallel to keys, which are sorted; one that is NULL consists of NULLs. Where expects is NULL nothing may be stored,
-- where it is -1 anything may; from expect_untils on (Unix time) nothing may be stored as well. Where tokens is NULL
-- there is no lease. A lease that was recovered after a crash (see recover) does not cover a change that expects
-- anything.
--
-- Raises lock_not_available if another transaction holds one of the rows for long; the client then makes the changes
-- one by one, so that only the change to that row fails.
--
-- Returns for each change what is stored now: a version, or 0 for nothing; -1 for a conflict, -2 for a lost lease.
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
    documents jsonb[];
    outcomes bigint[];
BEGIN
    IF batch IS NULL THEN
        PERFORM set_config('synchronous_commit', 'off', true);
    END IF;

    -- Leases first and sessions after them, each in the order of the keys: all calls lock these rows in that order,
    -- so that no two batches wait for each other.
    IF tokens IS NOT NULL THEN
        held := {hold}(keys, tokens, unlocks, expects, actions);
    END IF;
    IF batch IS NOT NULL THEN
        SELECT array_agg(s.key IS NOT NULL ORDER BY c.place) INTO present
        FROM unnest(keys) WITH ORDINALITY AS c (key, place)
        LEFT JOIN LATERAL (SELECT s.key FROM {sessions} AS s WHERE s.key = c.key FOR UPDATE) AS s ON true;
    END IF;

    -- Decide. What was not there to be locked counts as missing, though another may have stored it by now: waiting for
    -- its row here would be out of order. The batch that then inserts that key fails, and is tried again.
    moment := clock_timestamp();
    SELECT array_agg(d.outcome) INTO outcomes
    FROM (
        SELECT CASE
                WHEN c.token IS NOT NULL AND NOT c.held THEN -2
                WHEN c.expect <> -1 AND v.version IS DISTINCT FROM c.expect AND NOT coalesce(
                    v.version IS NULL AND to_timestamp(c.expect_until) <= moment, false) THEN -1
                WHEN c.expect IS NULL AND v.version IS NOT NULL THEN -1
                WHEN c.action = 'put' THEN nextval('{numbers}')
                WHEN c.action = 'delete' THEN 0
                ELSE coalesce(v.version, 0)
            END AS outcome
        FROM unnest(keys, actions, expects, expect_untils, tokens, held, present) WITH ORDINALITY
            AS c (key, action, expect, expect_until, token, held, present, place)
        LEFT JOIN {sessions} AS s ON s.key = c.key AND c.present
        CROSS JOIN LATERAL (SELECT CASE WHEN s.expires_at <= moment THEN NULL ELSE s.version END) AS v (version)
        ORDER BY c.place
    ) AS d;

    -- Apply.
    IF 'put' = ANY (actions) THEN
        BEGIN
            documents := ARRAY(SELECT convert_from(v, 'UTF8')::jsonb FROM unnest(vals) AS v);
        EXCEPTION WHEN data_exception OR program_limit_exceeded THEN  -- at least one is not JSON
            documents := ARRAY(SELECT {document}(v) FROM unnest(vals) AS v);
        END;
        -- Inserting comes first, because it alone may wait: for another batch that inserts the same key, and which
        -- must not wait for a row that was written here.
        IF false = ANY (present) THEN
            INSERT INTO {sessions} (key, whole_key, data, raw, version, expires_at)
            SELECT c.key, c.whole_key, c.document, CASE WHEN c.document IS NULL THEN c.value END, c.outcome,
                moment + c.ttl * interval '1 second'
            FROM unnest(keys, whole_keys, actions, vals, documents, ttls, outcomes, present)
                AS c (key, whole_key, action, value, document, ttl, outcome, present)
            WHERE c.action = 'put' AND c.outcome > 0 AND NOT c.present
            ORDER BY c.key COLLATE "C";
        END IF;
        UPDATE {sessions} AS s
        SET data = c.document, raw = CASE WHEN c.document IS NULL THEN c.value END, version = c.outcome,
            expires_at = moment + c.ttl * interval '1 second'
        FROM unnest(keys, actions, vals, documents, ttls, outcomes, present)
            AS c (key, action, value, document, ttl, outcome, present)
        WHERE s.key = c.key AND c.action = 'put' AND c.outcome > 0 AND c.present;
    END IF;
    IF 'touch' = ANY (actions) THEN
        UPDATE {sessions} AS s SET expires_at = moment + c.ttl * interval '1 second'
        FROM unnest(keys, actions, ttls, outcomes) AS c (key, action, ttl, outcome)
        WHERE s.key = c.key AND c.action = 'touch' AND c.outcome > 0;
    END IF;
    IF 'delete' = ANY (actions) THEN
        DELETE FROM {sessions} AS s USING unnest(keys, actions, outcomes, present) AS c (key, action, outcome, present)
        WHERE s.key = c.key AND c.action = 'delete' AND c.outcome = 0 AND c.present;
    END IF;

    IF batch IS NOT NULL THEN
        INSERT INTO {commits} (batch, outcomes) VALUES (batch, outcomes);
    END IF;
    RETURN outcomes;
END
$$;
