-- Locks free keys and reads them; a request for a held key joins the queue of that key, or stays in it.
--
-- again: an earlier try of the very same call may have been carried out; its leases are given as they are.
--
-- Each statement of a function sees what was committed before that statement began (READ COMMITTED), so that the
-- sessions, read after their leases were taken, are what the previous holder left. If one statement did both, the
-- session might be older than the lease.
CREATE OR REPLACE FUNCTION {lock}(keys text[], waiters text[], seconds float8[], again boolean)
RETURNS TABLE (session_key text, token bigint, wait float8, value bytea, version bigint, expires_at float8)
LANGUAGE plpgsql
SET enable_seqscan = off SET enable_hashjoin = off SET enable_mergejoin = off SET jit = off
SET plan_cache_mode = force_generic_plan SET lock_timeout = '1500ms'
AS $$
#variable_conflict use_column
DECLARE
    era bigint;
    won text[];
    tokens bigint[];
    request record;
    lease {leases}%ROWTYPE;
BEGIN
    SELECT e.era << 44 INTO era FROM {era} AS e;
    IF FOUND THEN
        -- The log holds nothing of a lock but the numbers that were used up, and those may be lost in a crash.
        PERFORM set_config('synchronous_commit', 'off', true);
    ELSE
        era := {current_era}();
    END IF;

    -- In the order of the keys, as everywhere, so that two batches never wait for each other.
    WITH granted AS (
        INSERT INTO {leases} AS l (key, token, holder, until)
        SELECT w.key, era + nextval('{numbers}'), w.waiter, clock_timestamp() + w.seconds * interval '1 second'
        FROM unnest(keys, waiters, seconds) AS w (key, waiter, seconds)
        ORDER BY w.key COLLATE "C"
        ON CONFLICT (key) DO UPDATE SET
            -- Drawn anew now that the row is locked: larger than that of any holder before.
            token = CASE WHEN l.until > clock_timestamp() THEN l.token ELSE era + nextval('{numbers}') END,
            holder = EXCLUDED.holder,
            until = EXCLUDED.until
        WHERE CASE
            WHEN l.until > clock_timestamp() THEN again AND l.holder = EXCLUDED.holder
            ELSE l.queue = '{}'
        END
        RETURNING l.key, l.token
    )
    SELECT array_agg(g.key), array_agg(g.token) INTO won, tokens FROM granted AS g;

    -- The others: held keys, and queues. Their rows are locked by now as well.
    IF coalesce(cardinality(won), 0) < cardinality(keys) THEN
        won := coalesce(won, '{}');
        FOR request IN
            SELECT w.key, w.waiter, w.seconds
            FROM unnest(keys, waiters, seconds) AS w (key, waiter, seconds)
            WHERE w.key <> ALL (won)
        LOOP
            SELECT l.* INTO lease FROM {leases} AS l WHERE l.key = request.key FOR UPDATE;
            IF request.waiter <> ALL (lease.queue) THEN
                lease.queue := lease.queue || request.waiter;
                lease.seen := lease.seen || clock_timestamp();
            END IF;
            -- A waiter that has not asked for some seconds has died, and loses its place.
            SELECT array_agg(q.waiter ORDER BY q.place),
                array_agg(CASE WHEN q.waiter = request.waiter THEN clock_timestamp() ELSE q.seen END ORDER BY q.place)
            INTO lease.queue, lease.seen
            FROM unnest(lease.queue, lease.seen) WITH ORDINALITY AS q (waiter, seen, place)
            WHERE q.waiter = request.waiter OR q.seen > clock_timestamp() - interval '2.5 seconds';

            IF lease.until <= clock_timestamp() AND lease.queue[1] = request.waiter THEN
                lease.token := era + nextval('{numbers}');
                lease.holder := request.waiter;
                lease.until := clock_timestamp() + request.seconds * interval '1 second';
                lease.queue := lease.queue[2:];
                lease.seen := lease.seen[2:];
                won := won || request.key;
                tokens := tokens || lease.token;
            ELSE
                -- The first in the queue learns when the lease ends, should its holder die.
                session_key := request.key;
                wait := CASE WHEN lease.queue[1] = request.waiter THEN
                    greatest(extract(epoch FROM lease.until - clock_timestamp()), 0) END;
                RETURN NEXT;
            END IF;
            UPDATE {leases} AS l
            SET token = lease.token, holder = lease.holder, until = lease.until,
                queue = lease.queue, seen = lease.seen
            WHERE l.key = request.key;
        END LOOP;
    END IF;

    RETURN QUERY
        SELECT g.key, g.token, NULL::float8, coalesce(s.raw, convert_to(s.data::text, 'UTF8')), s.version,
            extract(epoch FROM s.expires_at)::float8
        FROM unnest(won, tokens) AS g (key, token)
        LEFT JOIN {sessions} AS s
            ON s.key = g.key AND (s.expires_at IS NULL OR s.expires_at > clock_timestamp());
END
$$;
