-- Makes a batch of changes, each for itself: all of it in one transaction, or nothing.
--
-- batch names it for a client that has to ask again (NULL: nothing is changed, only unlocked). Where expects is
-- NULL nothing may be stored, where it is -1 anything may. Where tokens is NULL there is no lease.
--
-- Returns for each change what is stored now: a version, 0 for nothing; -1 for a conflict, -2 for a lost lease.
CREATE OR REPLACE FUNCTION {commit}(
    batch uuid, keys text[], whole_keys bytea[], actions text[], vals bytea[], expects bigint[], ttls float8[],
    tokens bigint[], unlocks boolean[]
) RETURNS bigint[]
LANGUAGE plpgsql
SET enable_seqscan = off SET enable_hashjoin = off SET enable_mergejoin = off SET jit = off
SET plan_cache_mode = force_generic_plan
AS $$
#variable_conflict use_column
DECLARE
    leased boolean := cardinality(array_remove(tokens, NULL)) > 0;
    era bigint;
    documents jsonb[];
    moment timestamptz;
    outcomes bigint[];
    present boolean[];
    new_keys bigint;
    affected bigint;
BEGIN
    IF batch IS NULL THEN
        PERFORM set_config('synchronous_commit', 'off', true);
    END IF;
    BEGIN
        documents := ARRAY(SELECT convert_from(v, 'UTF8')::jsonb FROM unnest(vals) AS v);
    EXCEPTION WHEN data_exception OR program_limit_exceeded THEN  -- one of them is not JSON: which?
        documents := ARRAY(SELECT {document}(v) FROM unnest(vals) AS v);
    END;

    -- Hold everything still, in the order in which everybody does it: leases before sessions, each by key.
    IF leased THEN
        era := {current_era}();
        PERFORM FROM {leases} AS l WHERE l.key = ANY (keys) ORDER BY l.key FOR UPDATE;
    END IF;
    IF batch IS NOT NULL THEN
        PERFORM FROM {sessions} AS s WHERE s.key = ANY (keys) ORDER BY s.key FOR UPDATE;
    END IF;

    -- Decide.
    moment := clock_timestamp();
    SELECT array_agg(CASE
            WHEN c.token IS NOT NULL AND NOT CASE
                -- The server crashed since, which lost the lease but not the session: if nobody holds the key, and
                -- the session is the one expected, nobody has come in between.
                WHEN c.token < era AND c.token >= 1::bigint << 44 AND coalesce(l.token <> c.token, true)
                    THEN coalesce(l.until <= moment, true) AND c.expect IS DISTINCT FROM -1
                ELSE coalesce(l.token = c.token AND l.holder IS NOT NULL AND l.until > moment, false)
            END THEN -2
            WHEN c.expect <> -1 AND v.version IS DISTINCT FROM c.expect OR c.expect IS NULL AND v.version IS NOT NULL
                THEN -1
            WHEN c.action = 'put' THEN nextval('{numbers}')
            WHEN c.action = 'delete' THEN 0
            ELSE coalesce(v.version, 0)
        END ORDER BY c.place),
        array_agg(s.key IS NOT NULL ORDER BY c.place)
    INTO outcomes, present
    FROM unnest(keys, actions, expects, tokens) WITH ORDINALITY AS c (key, action, expect, token, place)
    LEFT JOIN {leases} AS l ON leased AND l.key = c.key
    LEFT JOIN {sessions} AS s ON s.key = c.key
    CROSS JOIN LATERAL (SELECT CASE WHEN s.expires_at <= moment THEN NULL ELSE s.version END) AS v (version);

    -- Carry it out.
    IF 'put' = ANY (actions) THEN
        UPDATE {sessions} AS s
        SET data = c.document, raw = CASE WHEN c.document IS NULL THEN c.value END, version = c.outcome,
            expires_at = moment + c.ttl * interval '1 second'
        FROM unnest(keys, actions, vals, documents, ttls, outcomes, present)
            AS c (key, action, value, document, ttl, outcome, present)
        WHERE s.key = c.key AND c.action = 'put' AND c.outcome > 0 AND c.present;
    END IF;
    SELECT count(*) INTO new_keys FROM unnest(actions, outcomes, present) AS c (action, outcome, present)
    WHERE c.action = 'put' AND c.outcome > 0 AND NOT c.present;
    IF new_keys > 0 THEN
        INSERT INTO {sessions} (key, whole_key, data, raw, version, expires_at)
        SELECT c.key, c.whole_key, c.document, CASE WHEN c.document IS NULL THEN c.value END, c.outcome,
            moment + c.ttl * interval '1 second'
        FROM unnest(keys, whole_keys, actions, vals, documents, ttls, outcomes, present)
            AS c (key, whole_key, action, value, document, ttl, outcome, present)
        WHERE c.action = 'put' AND c.outcome > 0 AND NOT c.present
        ORDER BY c.key COLLATE "C"
        ON CONFLICT (key) DO NOTHING;
        GET DIAGNOSTICS affected = ROW_COUNT;
        IF affected < new_keys THEN  -- created by others just now: the client decides anew
            RAISE EXCEPTION SQLSTATE '40001' USING MESSAGE = 'a session was created concurrently';
        END IF;
    END IF;
    IF 'touch' = ANY (actions) THEN
        UPDATE {sessions} AS s SET expires_at = moment + c.ttl * interval '1 second'
        FROM unnest(keys, actions, ttls, outcomes) AS c (key, action, ttl, outcome)
        WHERE s.key = c.key AND c.action = 'touch' AND c.outcome > 0;
    END IF;
    IF 'delete' = ANY (actions) THEN
        DELETE FROM {sessions} AS s USING unnest(keys, actions, outcomes) AS c (key, action, outcome)
        WHERE s.key = c.key AND c.action = 'delete' AND c.outcome = 0;
    END IF;

    -- Unlock, and wake who is next. Without anybody waiting there is no NOTIFY, which would let only one
    -- transaction commit at a time.
    IF leased THEN
        WITH freed AS (
            UPDATE {leases} AS l SET holder = NULL, until = moment
            FROM unnest(keys, tokens, unlocks, outcomes) AS c (key, token, unlock, outcome)
            WHERE l.key = c.key AND c.unlock AND c.outcome <> -2 AND l.token = c.token
            RETURNING l.queue, l.seen
        )
        SELECT count(pg_notify('{channel}', {first_waiter}(f.queue, f.seen))) INTO affected
        FROM freed AS f WHERE f.queue <> '{}';
    END IF;

    IF batch IS NOT NULL THEN
        INSERT INTO {commits} (batch, outcomes) VALUES (batch, outcomes);
    END IF;
    RETURN outcomes;
END
$$;
