-- Lets leases last longer; returns in their order which are still held.
CREATE OR REPLACE FUNCTION {renew}(keys text[], tokens bigint[], seconds float8) RETURNS boolean[]
LANGUAGE plpgsql
SET enable_seqscan = off SET enable_hashjoin = off SET enable_mergejoin = off SET jit = off
SET plan_cache_mode = force_generic_plan
AS $$
#variable_conflict use_column
DECLARE
    era bigint := {current_era}();
    moment timestamptz;
    held boolean[];
BEGIN
    PERFORM FROM {leases} AS l WHERE l.key = ANY (keys) ORDER BY l.key FOR UPDATE;

    -- A crash of the server has emptied the table: whoever is first takes its lease back.
    IF era > ANY (tokens) THEN
        INSERT INTO {leases} AS l (key, token, holder, until)
        SELECT c.key, c.token, '(renewed after a crash)', clock_timestamp() + seconds * interval '1 second'
        FROM unnest(keys, tokens) AS c (key, token)
        WHERE c.token < era AND c.token >= 1::bigint << 44
        ORDER BY c.key COLLATE "C"
        ON CONFLICT (key) DO NOTHING;
    END IF;

    moment := clock_timestamp();
    SELECT array_agg(coalesce(l.token = c.token AND l.holder IS NOT NULL AND l.until > moment, false)
        ORDER BY c.place)
    INTO held
    FROM unnest(keys, tokens) WITH ORDINALITY AS c (key, token, place)
    LEFT JOIN {leases} AS l ON l.key = c.key;

    UPDATE {leases} AS l SET until = moment + seconds * interval '1 second'
    FROM unnest(keys, held) AS c (key, held)
    WHERE l.key = c.key AND c.held;
    RETURN held;
END
$$;
