-- Returns for each lease of a commit whether it is held, and ends those that the commit unlocks. The arrays are those of
-- commit.
CREATE OR REPLACE FUNCTION {hold}(
    keys text[], tokens bigint[], unlocks boolean[], expects bigint[], actions text[]
) RETURNS boolean[]
LANGUAGE plpgsql
AS $$
#variable_conflict use_column
DECLARE
    moment timestamptz;
    each record;
    held boolean[] := array_fill(false, ARRAY[cardinality(keys)]);
BEGIN
    PERFORM {recover}(keys, tokens, expects, 10);
    moment := clock_timestamp();
    FOR each IN
        UPDATE {leases} AS l
        SET holder = CASE WHEN c.unlock THEN NULL ELSE l.holder END,
            until = CASE WHEN c.unlock THEN moment ELSE l.until END
        FROM unnest(keys, tokens, unlocks, expects, actions) WITH ORDINALITY
            AS c (key, token, unlock, expect, action, place)
        WHERE l.key = c.key AND l.token = c.token AND l.holder IS NOT NULL AND l.until > clock_timestamp()
            AND (l.holder <> '(recovered)' OR c.expect IS DISTINCT FROM -1 OR c.action = 'keep')
        RETURNING c.place, c.unlock, l.queue, l.seen
    LOOP
        held[each.place] := true;
        -- Without waiters there is no NOTIFY, because it lets only one transaction commit at a time.
        IF each.unlock AND each.queue <> '{}' THEN
            PERFORM pg_notify('{channel}', {first_waiter}(each.queue, each.seen));
        END IF;
    END LOOP;
    RETURN held;
END
$$;
