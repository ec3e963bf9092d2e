-- Lets leases last longer; returns in their order which are still held.
CREATE OR REPLACE FUNCTION {renew}(keys text[], tokens bigint[], seconds float8) RETURNS boolean[]
LANGUAGE plpgsql
SET enable_seqscan = off SET enable_hashjoin = off SET enable_mergejoin = off SET jit = off
SET plan_cache_mode = force_generic_plan SET lock_timeout = '1500ms'
AS $$
#variable_conflict use_column
DECLARE
    each record;
    held boolean[] := array_fill(false, ARRAY[cardinality(keys)]);
BEGIN
    PERFORM {recover}(keys, tokens, NULL, seconds);
    FOR each IN
        UPDATE {leases} AS l SET until = clock_timestamp() + seconds * interval '1 second'
        FROM unnest(keys, tokens) WITH ORDINALITY AS c (key, token, place)
        WHERE l.key = c.key AND l.token = c.token AND l.holder IS NOT NULL AND l.until > clock_timestamp()
        RETURNING c.place
    LOOP
        held[each.place] := true;
    END LOOP;
    RETURN held;
END
$$;
