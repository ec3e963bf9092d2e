-- The waiter to wake: the first in the queue that has asked within the last seconds, and so is alive.
CREATE OR REPLACE FUNCTION {first_waiter}(queue text[], seen timestamptz[]) RETURNS text LANGUAGE sql AS $$
    SELECT q.waiter
    FROM unnest(queue, seen) WITH ORDINALITY AS q (waiter, seen, place)
    WHERE q.seen > clock_timestamp() - interval '2.5 seconds'
    ORDER BY q.place
    LIMIT 1
$$;
