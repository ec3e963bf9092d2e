-- Removes requests from their queues, and releases locks that were granted to them while the answer was lost.
CREATE OR REPLACE FUNCTION {abandon}(keys text[], waiters text[]) RETURNS void
LANGUAGE plpgsql
SET enable_seqscan = off SET enable_hashjoin = off SET enable_mergejoin = off SET jit = off
SET plan_cache_mode = force_generic_plan SET lock_timeout = '1500ms'
AS $$
#variable_conflict use_column
DECLARE
    request record;
    lease {leases}%ROWTYPE;
    place integer;
BEGIN
    FOR request IN
        SELECT w.key, w.waiter FROM unnest(keys, waiters) AS w (key, waiter) ORDER BY w.key COLLATE "C"
    LOOP
        SELECT l.* INTO lease FROM {leases} AS l WHERE l.key = request.key FOR UPDATE;
        CONTINUE WHEN NOT FOUND;
        place := array_position(lease.queue, request.waiter);
        CONTINUE WHEN place IS NULL AND lease.holder IS DISTINCT FROM request.waiter;
        IF place IS NOT NULL THEN
            lease.queue := lease.queue[:place - 1] || lease.queue[place + 1:];
            lease.seen := lease.seen[:place - 1] || lease.seen[place + 1:];
        END IF;
        IF lease.holder = request.waiter THEN
            lease.holder := NULL;
            lease.until := least(lease.until, clock_timestamp());
        END IF;
        UPDATE {leases} AS l
        SET holder = lease.holder, until = lease.until, queue = lease.queue, seen = lease.seen
        WHERE l.key = request.key;
        IF lease.until <= clock_timestamp() AND lease.queue <> '{}' THEN
            PERFORM pg_notify('{channel}', {first_waiter}(lease.queue, lease.seen));
        END IF;
    END LOOP;
END
$$;
